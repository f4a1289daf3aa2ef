// A packed dictionary for the tests, with rows in tight groups, so that many scores are close.
#pragma once

#include <algorithm>

#include "check.hpp"
#include "headscan/comp.hpp"
#include "headscan/pack.hpp"

struct Dictionary {
  std::size_t rows, width;
  std::vector<float> atoms, rotation, scale, error, beyond;
  std::vector<std::uint8_t> codes;
  headscan::PackedDictionary views;

  Dictionary(std::vector<float> values, std::size_t width_, int threads)
      : rows(values.size() / width_), width(width_), atoms(std::move(values)), rotation(width * width) {
    for (std::size_t i = 0; i < width; ++i) rotation[i * width + (i + 1) % width] = 1;  // a permutation of the axes
    headscan::PackedOutput out;
    out.rows = rows;
    out.width = width;
    scale.resize(out.blocks() * headscan::kBlockAtoms);
    error.resize(scale.size());
    beyond.resize(scale.size() * (headscan::kSegments - 1));
    codes.resize(out.blocks() * out.block_bytes());
    out.rotation = rotation.data();
    out.codes = codes.data();
    out.scale = scale.data();
    out.error = error.data();
    out.beyond = beyond.data();
    const auto layout = headscan::pack({atoms.data(), rows, width, width}, out, threads);
    static_cast<headscan::PackedLayout&>(views.packed) = layout;
    views.packed.rotation = rotation.data();
    views.packed.codes = codes.data();
    views.packed.scale = scale.data();
    views.packed.error = error.data();
    views.packed.beyond = beyond.data();
    views.atoms = {atoms.data(), rows, width, width};
  }
};

struct Codes {
  std::vector<std::int64_t> indices;
  std::vector<double> coefficients;
  std::vector<std::uint8_t> certified;
  headscan::SearchCounters counters;
};

template <class Atoms>
Codes encode(const std::vector<double>& x, const Atoms& atoms, std::size_t width,
             const headscan::CompOptions& options) {
  const std::size_t n = x.size() / width, k = options.k;
  Codes codes{std::vector<std::int64_t>(n * k), std::vector<double>(n * k), std::vector<std::uint8_t>(n), {}};
  const headscan::CodeViews views{
      {codes.indices.data(), n, k, k}, {codes.coefficients.data(), n, k, k}, codes.certified.data()};
  codes.counters = headscan::comp<double>({x.data(), n, width, width}, atoms, views, options);
  return codes;
}

inline std::vector<float> grouped_rows(std::size_t rows, std::size_t width) {
  auto values = random_unit_rows<float>(rows, width, 7);
  const auto centres = random_unit_rows<float>(rows / 30 + 1, width, 8);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < width; ++j) {
      values[i * width + j] = 0.4F * values[i * width + j] + 0.8F * centres[i / 30 * width + j];
    }
  }
  return values;
}
