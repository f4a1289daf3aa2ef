// The certified int8 search gives the codes of the plain one, for any thread count, method and shape.
#include <cstdio>

#include "packed_dictionary.hpp"

namespace {

using headscan::CompOptions;

void equals_the_plain_search(std::size_t rows, std::size_t width, headscan::Method method) {
  const Dictionary dictionary(grouped_rows(rows, width), width, 3);
  const auto x = random_unit_rows<double>(75, width, 9);
  CompOptions options;
  options.k = std::min<std::size_t>(7, rows);
  options.method = method;
  options.penalty = 0.05;
  options.threads = 1;
  const Codes plain = encode(x, dictionary.views.atoms, width, options);
  for (const int threads : {1, 3, 8}) {
    options.threads = threads;
    const Codes packed = encode(x, dictionary.views, width, options);
    CHECK(packed.indices == plain.indices);
    CHECK(packed.coefficients == plain.coefficients);
    CHECK(packed.certified == plain.certified);
  }
}

void equal_atoms_fall_back() {
  const auto atom = random_unit_rows<float>(1, 12, 3);
  std::vector<float> atoms;
  for (int copy = 0; copy < 2500; ++copy) atoms.insert(atoms.end(), atom.begin(), atom.end());
  const Dictionary dictionary(std::move(atoms), 12, 1);
  const Codes codes = encode(std::vector<double>(atom.begin(), atom.end()), dictionary.views, 12, CompOptions{});
  CHECK((codes.indices == std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  CHECK(codes.counters.fallbacks > 0);
}

void bad_rotation_throws() {
  std::vector<float> atoms = random_unit_rows<float>(4, 4, 1);
  Dictionary dictionary(atoms, 4, 1);
  dictionary.rotation[0] = 0.5F;
  headscan::PackedOutput out;
  out.rows = out.width = 4;
  out.rotation = dictionary.rotation.data();
  CHECK(throws_invalid_argument([&] { headscan::pack({atoms.data(), 4, 4, 4}, out, 1); }));
}

// What every long call polls ends it, whatever it throws.
void interrupts_end_calls() {
  struct Stop {};
  const auto stops = [](const auto& call) {
    try {
      call();
    } catch (const Stop&) {
      return true;
    }
    return false;
  };
  const auto stop = [] { throw Stop(); };
  const std::vector<float> atoms = random_unit_rows<float>(200, 8, 1);
  const headscan::MatrixView<const float> view{atoms.data(), 200, 8, 8};
  Dictionary dictionary(atoms, 8, 1);
  headscan::PackedOutput out;
  out.rows = 200;
  out.width = 8;
  out.rotation = dictionary.rotation.data();
  CHECK(stops([&] { headscan::pack(view, out, 2, headscan::kBestShift, stop); }));
  std::vector<std::int64_t> indices(200 * 5);
  std::vector<double> coefficients(200 * 5);
  std::vector<std::uint8_t> certified(200);
  headscan::CompOptions options;
  options.interrupt = stop;
  CHECK(stops([&] {
    headscan::comp<float>(view, view,
                          {{indices.data(), 200, 5, 5}, {coefficients.data(), 200, 5, 5}, certified.data()}, options);
  }));
}

void layouts_whose_sums_overflow_are_refused() {
  headscan::PackedLayout layout;
  layout.largest_norm = 1;
  layout.width = 5700;  // 255 * 127 * 65,676 is just below 2^31
  layout.shift = 3;
  CHECK(layout.sums_fit());
  layout.width = 13000;
  CHECK(throws_invalid_argument([&] { headscan::check_layout(layout); }));
  layout.shift = 1;
  CHECK(layout.sums_fit());
}

}  // namespace

int main() {
  using headscan::Method;
  try {
    for (const std::size_t width : {1U, 3U, 16U, 47U, 130U}) equals_the_plain_search(700, width, Method::kComp);
    for (const std::size_t rows : {1U, 63U, 65U, 128U}) equals_the_plain_search(rows, 40, Method::kComp);
    for (const Method method : {Method::kTopK, Method::kMp, Method::kOmp, Method::kLasso}) {
      equals_the_plain_search(500, 40, method);
    }
    equal_atoms_fall_back();
    bad_rotation_throws();
    interrupts_end_calls();
    layouts_whose_sums_overflow_are_refused();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
