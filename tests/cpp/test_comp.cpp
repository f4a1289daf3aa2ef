// comp: picks do not depend on threads, equal a plain arg-max in the first round, and bad input throws.
#include <cstdio>

#include "check.hpp"
#include "headscan/comp.hpp"

namespace {

using headscan::CodeViews;
using headscan::CompOptions;
using headscan::MatrixView;

struct Codes {
  std::vector<std::int64_t> indices;
  std::vector<double> coefficients;
  std::vector<std::uint8_t> certified;
};

Codes encode(const std::vector<double>& x, const std::vector<float>& atoms, std::size_t width, const CompOptions& o) {
  const std::size_t n = x.size() / width, k = o.k;
  Codes codes{std::vector<std::int64_t>(n * k), std::vector<double>(n * k), std::vector<std::uint8_t>(n)};
  const CodeViews views{
      {codes.indices.data(), n, k, k}, {codes.coefficients.data(), n, k, k}, codes.certified.data()};
  headscan::comp<double>({x.data(), n, width, width}, {atoms.data(), atoms.size() / width, width, width}, views, o);
  return codes;
}

std::int64_t plain_argmax(const double* x, const std::vector<float>& atoms, std::size_t width) {
  std::size_t best = 0;
  double highest = -2;
  for (std::size_t i = 0; i < atoms.size() / width; ++i) {
    double score = 0;
    for (std::size_t j = 0; j < width; ++j) score += x[j] * static_cast<double>(atoms[i * width + j]);
    if (score > highest) {
      highest = score;
      best = i;
    }
  }
  return static_cast<std::int64_t>(best);
}

void same_for_any_thread_count() {
  for (const std::size_t width : {1U, 15U, 16U, 17U, 64U}) {
    const auto x = random_unit_rows<double>(37, width, 1);
    const auto atoms = random_unit_rows<float>(211, width, 2);
    CompOptions options;
    options.threads = 1;
    const Codes one = encode(x, atoms, width, options);
    for (std::size_t i = 0; i < 37; ++i) {
      if (width > 1) CHECK(one.indices[i * options.k] == plain_argmax(&x[i * width], atoms, width));
      CHECK(one.certified[i] == 1);
    }
    for (const int threads : {2, 3, 8}) {
      options.threads = threads;
      const Codes many = encode(x, atoms, width, options);
      CHECK(many.indices == one.indices);
      CHECK(many.coefficients == one.coefficients);
    }
  }
}

void equal_atoms_go_by_index() {
  const std::size_t width = 8;
  const auto atom = random_unit_rows<float>(1, width, 3);
  std::vector<float> atoms;
  for (int copy = 0; copy < 150; ++copy) atoms.insert(atoms.end(), atom.begin(), atom.end());
  const std::vector<double> x(atom.begin(), atom.end());
  const Codes codes = encode(x, atoms, width, CompOptions{});
  CHECK((codes.indices == std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  CHECK(std::abs(codes.coefficients[0] - 1) < 1e-6);
}

void bad_input_throws() {
  auto x = random_unit_rows<double>(2, 4, 4);
  auto atoms = random_unit_rows<float>(3, 4, 5);
  CHECK(throws_invalid_argument([&] { encode(x, atoms, 4, CompOptions{}); }));  // k = 5 of 3 atoms
  CompOptions options;
  options.k = 2;
  atoms[5] = std::nanf("");
  CHECK(throws_invalid_argument([&] { encode(x, atoms, 4, options); }));
  atoms[5] = 0;
  x[1] = INFINITY;
  CHECK(throws_invalid_argument([&] { encode(x, atoms, 4, options); }));
}

}  // namespace

int main() {
  try {
    same_for_any_thread_count();
    equal_atoms_go_by_index();
    bad_input_throws();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
