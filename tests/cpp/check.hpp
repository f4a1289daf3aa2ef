// The least a C++ test needs: CHECK that throws with its place, and seeded random rows.
#pragma once

#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define CHECK(condition)                                                                                   \
  do {                                                                                                     \
    if (!(condition)) throw std::runtime_error(__FILE__ ":" + std::to_string(__LINE__) + ": " #condition); \
  } while (false)

template <class Call>
bool throws_invalid_argument(const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

template <class T>
std::vector<T> random_values(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<T> values(count);
  for (T& value : values) value = static_cast<T>(normal(engine));
  return values;
}

template <class T>
std::vector<T> random_unit_rows(std::size_t rows, std::size_t width, unsigned seed) {
  auto values = random_values<T>(rows * width, seed);
  for (std::size_t i = 0; i < rows; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < width; ++j) sum += std::pow(static_cast<double>(values[i * width + j]), 2);
    for (std::size_t j = 0; j < width; ++j) {
      values[i * width + j] = static_cast<T>(static_cast<double>(values[i * width + j]) / std::sqrt(sum));
    }
  }
  return values;
}
