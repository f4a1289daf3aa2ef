// The CUDA kernels' bodies, run on the CPU by emulate.hpp: a whole COMP has the CPU engine's codes bit for bit,
// bounds hold, and the SVD is one. No GPU takes part: what is checked is the arithmetic, the indexing and the
// barriers.
#include <cstdio>

#include "cpu/search/quantise.hpp"
#include "cuda_panel.hpp"

namespace {

using namespace headscan::cuda;
using emulate::Panel;
using emulate::Uploaded;
using headscan::CompOptions;
using headscan::kBlockAtoms;
using headscan::SerialTeam;

// Every bound is what its codes give, up to float32 rounding, and holds.
void bounds_hold(const Panel& panel, const Uploaded& device, const Dictionary& dictionary, std::size_t count) {
  const std::size_t width = dictionary.width;
  for (std::size_t q = 0; q < count; ++q) {
    const double* query = panel.state.queries + q * width;
    for (std::size_t block = 0; block * kBlockAtoms < dictionary.rows; ++block) {
      double best = -1e300, expected = -1e300;
      for (std::size_t i = 0; i < kBlockAtoms; ++i) {
        const std::size_t atom = block * kBlockAtoms + i;
        expected = std::max(expected, panel.expected_bound(device, q, atom));
        if (atom < dictionary.rows)
          best = std::max(best, headscan::dot(&dictionary.atoms[atom * width], query, width));
      }
      const double bound = static_cast<double>(panel.bound_of(q, block));
      CHECK(bound >= best);
      CHECK(std::abs(bound - expected) <= 1e-6);
    }
  }
}

void equals_the_cpu(std::vector<float> atoms, std::size_t width, std::size_t count, std::size_t k, double coherence) {
  const Dictionary dictionary(std::move(atoms), width, 1);
  const Uploaded device(dictionary);
  const auto x = random_unit_rows<double>(count, width, 9);
  CompOptions options;
  options.k = k;
  options.coherence = coherence;
  options.threads = 1;
  const Codes expected = encode(x, dictionary.views, width, options);

  Panel panel(dictionary, count, k, coherence);
  panel.start(x);
  for (std::size_t round = 0; round < k; ++round) {
    panel.quantise();
    panel.bound(device);
    bounds_hold(panel, device, dictionary, count);
    panel.select(device, panel.state.search(round), round);
    panel.take(round);
  }
  panel.equals(expected);
}

// Most of the energy in the leading axes, so that their steps are coarser.
std::vector<float> steep_rows(std::size_t rows, std::size_t width) {
  auto values = grouped_rows(rows, width);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t axis = (i % width + 1) % width;  // as Dictionary rotates it
    values[i] *= axis < width / 6 ? 1.0F : 0.1F;
  }
  CHECK(Dictionary(values, width, 1).views.packed.shift > 0);
  return values;
}

// Scores that int8 cannot tell apart: every atom must be decided in float64.
std::vector<float> nearly_equal_rows(std::size_t rows, std::size_t width) {
  const auto atom = random_unit_rows<float>(1, width, 3);
  std::vector<float> values;
  for (std::size_t i = 0; i < rows; ++i) {
    values.insert(values.end(), atom.begin(), atom.end());
    values[i * width + i * 7 % width] += 1e-6F * static_cast<float>(i % 5);
  }
  return values;
}

void ties_go_to_the_lowest_index() {
  const std::size_t width = 12;
  const auto atom = random_unit_rows<float>(1, width, 3);
  std::vector<float> atoms;
  for (int copy = 0; copy < 200; ++copy) atoms.insert(atoms.end(), atom.begin(), atom.end());
  const Dictionary dictionary(std::move(atoms), width, 1);
  const Uploaded device(dictionary);
  Panel panel(dictionary, 2, 3, 0.3);
  std::vector<double> x(2 * width, 0.0);  // the atom itself, and zero
  std::copy(atom.begin(), atom.end(), x.begin());
  panel.start(x);
  for (std::size_t round = 0; round < 3; ++round) {
    panel.search(device, round);
    for (std::size_t q = 0; q < 2; ++q) CHECK(panel.state.found[q].index == static_cast<std::int64_t>(round));
    panel.take(round);
  }
}

void bad_rows_are_not_certified() {
  const std::size_t width = 8;
  const Dictionary dictionary(random_unit_rows<float>(20, width, 4), width, 1);
  const Uploaded device(dictionary);
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY), 1e38}) {
    Panel panel(dictionary, 1, 1, 0.3);
    std::vector<double> x(width, 0.1);
    x[3] = bad;
    panel.start(x);
    panel.search(device, 0);
    panel.take(0);
    std::int64_t index = 0;
    double coefficient = 1;
    std::uint8_t certified = 1;
    write_code(SerialTeam(), panel.state, 0, &index, &coefficient, &certified);
    CHECK(index == -1 && coefficient == 0 && certified == 0);
  }
}

// Scale, norm and slack are at least what cpu/search/quantise.cpp gives for the same rotated values, and next to it.
void quantises_as_the_cpu_does() {
  const std::size_t width = 70;
  const Dictionary dictionary(steep_rows(100, width), width, 1);
  const CodeLayout layout(dictionary.views.packed, 1e-5);
  const std::vector<double> query = random_unit_rows<double>(1, width, 6);
  const std::vector<float> rotated(query.begin(), query.end());
  std::vector<std::int8_t> codes(layout.row_bytes), expected_codes(dictionary.views.packed.steps() * 4);
  QueryScale scale;
  quantise_query(SerialTeam(), layout, query.data(), rotated.data(), codes.data(), &scale);
  const auto expected =
      headscan::quantise(rotated.data(), dictionary.views.packed, layout.atom_shift, expected_codes.data());
  for (std::size_t axis = 0; axis < width; ++axis) CHECK(codes[layout.byte_of(axis)] == expected_codes[axis]);
  CHECK(scale.scale == expected.scale);
  const double norm = static_cast<double>(scale.ratio) * static_cast<double>(scale.scale);
  const double norm_expected = expected.norm[headscan::kSegments - 1];
  CHECK(norm >= norm_expected && norm <= norm_expected * (1 + 1e-5));
  const double slack = layout.largest_norm * (expected.error + 1e-5 + headscan::kFloatSlack);
  CHECK(static_cast<double>(scale.slack) >= slack && static_cast<double>(scale.slack) <= slack * (1 + 1e-5));
}

void keys_order_bounds() {
  const float bounds[] = {-3e38F, -1.5F, -0.0F, 1e-40F, 0.25F, 0.5F, 3e38F};
  for (std::size_t i = 0; i + 1 < std::size(bounds); ++i) {
    CHECK(bound_key(bounds[i], 7) < bound_key(bounds[i + 1], 1000000));
    CHECK(bound_key(bounds[i], 8) < bound_key(bounds[i], 7));
    CHECK(headscan::cuda::bound_of(bound_key(bounds[i], 9)) == bounds[i] && block_of(bound_key(bounds[i], 9)) == 9);
  }
}

}  // namespace

int main() {
  try {
    keys_order_bounds();
    quantises_as_the_cpu_does();
    bad_rows_are_not_certified();
    ties_go_to_the_lowest_index();
    equals_the_cpu(steep_rows(300, 70), 70, 3, 4, 0.3);  // tiles of atoms part filled, slabs of axes
    equals_the_cpu(nearly_equal_rows(150, 33), 33, 2, 3, 0.0);
    equals_the_cpu(grouped_rows(9, 3), 3, 3, 5, 2.0);  // more picks than axes: columns in the span of others
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
