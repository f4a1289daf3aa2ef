// The CUDA kernels' bodies, run on the CPU by emulate.hpp: a whole COMP has the CPU engine's codes bit for bit,
// bounds hold, and the SVD is one. No GPU takes part: what is checked is the arithmetic, the indexing and the
// barriers.
#include <cstdio>
#include <memory>

#include "cpu/quantise.hpp"
#include "cuda/query_steps.hpp"
#include "cuda/search_pass.hpp"
#include "cuda/search_select.hpp"
#include "emulate.hpp"
#include "packed_dictionary.hpp"

namespace {

using namespace headscan::cuda;
using headscan::CompOptions;
using headscan::kBlockAtoms;
using headscan::SerialTeam;

// A dictionary as it would lie in device memory.
struct Uploaded {
  CodeLayout layout;
  std::vector<std::int8_t> codes;
  std::vector<float> scale, error;

  explicit Uploaded(const Dictionary& dictionary)
      : layout(dictionary.views.packed, headscan::rotation_error(dictionary.width)),
        codes(layout.padded_rows() * layout.row_bytes, 0),
        scale(layout.padded_rows(), 0),
        error(layout.padded_rows(), 0) {
    const auto& packed = dictionary.views.packed;
    for (std::size_t atom = 0; atom < layout.rows; ++atom) {
      scale[atom] = packed.scale[atom];
      error[atom] = packed.error[atom];
      for (std::size_t byte = 0; byte < layout.row_bytes; ++byte) {
        const std::size_t axis = layout.axis_of(byte);
        if (axis >= layout.width) continue;
        const std::size_t at =
            ((atom / kBlockAtoms * packed.steps() + axis / 4) * kBlockAtoms + atom % kBlockAtoms) * 4 + axis % 4;
        codes[atom * layout.row_bytes + byte] = static_cast<std::int8_t>(packed.codes[at] - 128);
      }
    }
  }
};

// One panel of queries, and the kernels in the order that comp.cu and search_int8.cu launch them in.
class Panel {
 public:
  Panel(const Dictionary& dictionary, const Uploaded& device, std::size_t count, std::size_t k, double coherence)
      : dictionary_(dictionary),
        device_(device),
        count_(count),
        padded_(rounded_to(count, 64)),
        doubles_(count * ((4 + k) * device.layout.width + headscan::RefitState::small_doubles(k))),
        integers_(count * (k + 3)),
        bad_(count),
        rotated_(count * device.layout.width),
        codes_(padded_ * device.layout.row_bytes),
        scales_(padded_),
        bounds_(padded_ * device.layout.padded_blocks()) {
    const std::size_t width = device.layout.width;
    state.width = state.fit_width = width;
    state.k = k;
    state.coherence = coherence;
    state.queries = doubles_.data();
    state.sums = state.queries + count * width;
    state.targets = state.sums + count * width;
    state.residuals = state.targets + count * width;
    state.basis = state.residuals + count * width;
    state.small = state.basis + count * k * width;
    state.picked = integers_.data();
    state.found = state.picked + count * k;
    state.active_counts = state.found + count;
    state.rescored = state.active_counts + count;
    state.bad = bad_.data();
  }

  void bound() {
    const CodeLayout& layout = device_.layout;
    for (std::size_t q = 0; q < count_; q += kRotateTile) {
      for (std::size_t axis = 0; axis < layout.width; axis += kRotateTile) {
        const auto shared = std::make_unique<RotateShared>();
        emulate::run(256, [&](const emulate::Block& block) {
          rotate_tile(block, *shared, state.queries, dictionary_.rotation.data(), count_, layout.width, q, axis,
                      rotated_.data());
        });
      }
    }
    for (std::size_t q = 0; q < count_; ++q) {
      quantise_query(SerialTeam(), layout, state.queries + q * layout.width, &rotated_[q * layout.width],
                     &codes_[q * layout.row_bytes], &scales_[q]);
    }
    const PassInput in{device_.codes.data(), device_.scale.data(),  device_.error.data(), codes_.data(),
                       scales_.data(),       layout.row_bytes,      layout.coarse_bytes,  layout.shift(),
                       bounds_.data(),       layout.padded_blocks()};
    for (std::size_t atom = 0; atom < layout.padded_rows(); atom += 128) {
      for (std::size_t q = 0; q < padded_; q += 64) {
        const auto shared = std::make_unique<PassShared<2, 1>>();
        emulate::run(64, [&](const emulate::Block& block) { bound_tile(block, *shared, in, atom, q); });
      }
    }
  }

  void select(std::size_t round) {
    const SelectInput in{device_.layout,
                         device_.codes.data(),
                         device_.scale.data(),
                         device_.error.data(),
                         dictionary_.atoms.data(),
                         codes_.data(),
                         scales_.data(),
                         state.queries,
                         bounds_.data(),
                         state.picked,
                         state.k,
                         round};
    for (std::size_t q = 0; q < count_; ++q) {
      SelectShared shared;
      emulate::run(
          4, [&](const emulate::Block& block) { select_best(block, shared, in, q, state.found, state.rescored); });
    }
  }

  float bound_of(std::size_t query, std::size_t block) const {
    return bounds_[query * device_.layout.padded_blocks() + block];
  }
  PanelState state;

 private:
  const Dictionary& dictionary_;
  const Uploaded& device_;
  std::size_t count_, padded_;
  std::vector<double> doubles_;
  std::vector<std::int64_t> integers_;
  std::vector<std::uint8_t> bad_;
  std::vector<float> rotated_;
  std::vector<std::int8_t> codes_;
  std::vector<QueryScale> scales_;
  std::vector<float> bounds_;
};

// Every bound holds, and is not loose: no further above the block's best score than twice what it may miss it by.
void bounds_hold(const Panel& panel, const Dictionary& dictionary, std::size_t count) {
  const std::size_t width = dictionary.width;
  for (std::size_t q = 0; q < count; ++q) {
    const double* query = panel.state.queries + q * width;
    const double length = std::sqrt(headscan::dot(query, query, width));
    for (std::size_t block = 0; block * kBlockAtoms < dictionary.rows; ++block) {
      const std::size_t end = std::min(dictionary.rows, (block + 1) * kBlockAtoms);
      double best = -1e300;
      for (std::size_t atom = block * kBlockAtoms; atom < end; ++atom) {
        best = std::max(best, headscan::dot(&dictionary.atoms[atom * width], query, width));
      }
      const double bound = static_cast<double>(panel.bound_of(q, block));
      CHECK(bound >= best);
      if (end % kBlockAtoms == 0) CHECK(bound <= best + 0.05 * length);  // int8: about a hundredth
    }
  }
}

void equals_the_cpu(std::size_t rows, std::size_t width, std::size_t count, std::size_t k, double coherence) {
  const Dictionary dictionary(grouped_rows(rows, width), width, 1);
  const Uploaded device(dictionary);
  const auto x = random_unit_rows<double>(count, width, 9);
  CompOptions options;
  options.k = k;
  options.coherence = coherence;
  options.threads = 1;
  const Codes expected = encode(x, dictionary.views, width, options);

  Panel panel(dictionary, device, count, k, coherence);
  const SerialTeam team;
  for (std::size_t q = 0; q < count; ++q) start_query(team, panel.state, &x[q * width], q);
  for (std::size_t round = 0; round < k; ++round) {
    panel.bound();
    bounds_hold(panel, dictionary, count);
    panel.select(round);
    for (std::size_t q = 0; q < count; ++q) take_atom(team, panel.state, dictionary.atoms.data(), q, round);
  }
  for (std::size_t q = 0; q < count; ++q) {
    std::vector<std::int64_t> indices(k);
    std::vector<double> coefficients(k);
    std::uint8_t certified = 0;
    write_code(team, panel.state, q, indices.data(), coefficients.data(), &certified);
    for (std::size_t i = 0; i < k; ++i) {
      CHECK(indices[i] == expected.indices[q * k + i]);
      CHECK(coefficients[i] == expected.coefficients[q * k + i]);  // bit for bit
    }
    CHECK(certified == 1);
  }
}

void ties_go_to_the_lowest_index() {
  const std::size_t width = 12;
  const auto atom = random_unit_rows<float>(1, width, 3);
  std::vector<float> atoms;
  for (int copy = 0; copy < 200; ++copy) atoms.insert(atoms.end(), atom.begin(), atom.end());
  const Dictionary dictionary(std::move(atoms), width, 1);
  const Uploaded device(dictionary);
  Panel panel(dictionary, device, 2, 3, 0.3);
  const SerialTeam team;
  std::vector<double> x(2 * width, 0.0);  // the atom itself, and zero
  std::copy(atom.begin(), atom.end(), x.begin());
  for (std::size_t q = 0; q < 2; ++q) start_query(team, panel.state, &x[q * width], q);
  for (std::size_t round = 0; round < 3; ++round) {
    panel.bound();
    panel.select(round);
    for (std::size_t q = 0; q < 2; ++q) {
      CHECK(panel.state.found[q] == static_cast<std::int64_t>(round));
      take_atom(team, panel.state, dictionary.atoms.data(), q, round);
    }
  }
}

void bad_rows_are_not_certified() {
  const std::size_t width = 8;
  const Dictionary dictionary(random_unit_rows<float>(20, width, 4), width, 1);
  const Uploaded device(dictionary);
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY), 1e38}) {
    Panel panel(dictionary, device, 1, 1, 0.3);
    std::vector<double> x(width, 0.1);
    x[3] = bad;
    start_query(SerialTeam(), panel.state, x.data(), 0);
    panel.bound();
    panel.select(0);
    take_atom(SerialTeam(), panel.state, dictionary.atoms.data(), 0, 0);
    std::int64_t index = 0;
    double coefficient = 1;
    std::uint8_t certified = 1;
    write_code(SerialTeam(), panel.state, 0, &index, &coefficient, &certified);
    CHECK(index == -1 && coefficient == 0 && certified == 0);
  }
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
    bad_rows_are_not_certified();
    ties_go_to_the_lowest_index();
    equals_the_cpu(300, 70, 3, 4, 0.3);  // two tiles of atoms, the last one part filled; five slabs in turn
    equals_the_cpu(65, 33, 2, 3, 0.0);
    equals_the_cpu(9, 3, 3, 5, 2.0);  // more picks than axes: columns in the span of others
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
