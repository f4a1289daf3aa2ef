// A panel of queries taken through the bodies of COMP's CUDA kernels on the CPU.
#pragma once

#include <memory>

#include "common/bounds.hpp"
#include "cuda/comp/query_steps.hpp"
#include "cuda/search/placement.hpp"
#include "cuda/search/search_pass.hpp"
#include "cuda/search/search_select.hpp"
#include "emulate.hpp"
#include "packed_dictionary.hpp"

namespace emulate {

using namespace headscan::cuda;
using headscan::kBlockAtoms;
using headscan::SerialTeam;

// A run of atoms as a chunk would lie in device memory.
struct Uploaded {
  std::size_t first;
  CodeLayout layout;
  std::vector<std::int8_t> codes;
  std::vector<float> scale, error;
  const float* atoms;

  explicit Uploaded(const Dictionary& dictionary) : Uploaded(dictionary, 0, dictionary.rows) {}
  Uploaded(const Dictionary& dictionary, std::size_t first_atom, std::size_t rows)
      : Uploaded(part_of(dictionary.views, first_atom, rows), first_atom) {}

 private:
  Uploaded(const headscan::PackedDictionary& part, std::size_t first_atom)
      : first(first_atom),
        layout(part.packed, headscan::rotation_error(part.packed.width)),
        codes(layout.padded_rows() * layout.row_bytes, 0),
        scale(layout.padded_rows(), 0),
        error(layout.padded_rows(), 0),
        atoms(part.atoms.data) {
    const auto& packed = part.packed;
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

// What the search of another part of the dictionary finds.
struct Found {
  Found(std::size_t parts, std::size_t count, std::size_t width)
      : found(parts * count), rows(parts * count * width), rescored(parts * count) {}
  std::vector<headscan::Best> found;
  std::vector<float> rows;
  std::vector<std::int64_t> rescored;
};

// One panel of queries, and the kernels in the order that comp.cu and search_int8.cu launch them in. Chunks have at
// most as many atoms as the dictionary.
class Panel {
 public:
  Panel(const Dictionary& dictionary, std::size_t count, std::size_t k, double coherence)
      : dictionary_(dictionary),
        layout_(dictionary.views.packed, headscan::rotation_error(dictionary.width)),
        count_(count),
        padded_(rounded_to(count, 64)),
        doubles_(count * ((4 + k) * layout_.width + headscan::RefitState::small_doubles(k))),
        integers_(count * (k + 2)),
        rows_(count * k * layout_.width),
        found_(count),
        bad_(count),
        rotated_(count * layout_.width),
        codes_(padded_ * layout_.row_bytes),
        scales_(padded_),
        bounds_(padded_ * layout_.padded_blocks()) {
    const std::size_t width = layout_.width;
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
    state.active_counts = state.picked + count * k;
    state.rescored = state.active_counts + count;
    state.rows = rows_.data();
    state.found = found_.data();
    state.bad = bad_.data();
  }

  void start(const std::vector<double>& x) {
    for (std::size_t q = 0; q < count_; ++q) start_query(SerialTeam(), state, &x[q * layout_.width], q);
  }

  void quantise() {
    for (std::size_t q = 0; q < count_; q += kRotateTile) {
      for (std::size_t axis = 0; axis < layout_.width; axis += kRotateTile) {
        const auto shared = std::make_unique<RotateShared>();
        emulate::run(256, [&](const emulate::Block& block) {
          rotate_tile(block, *shared, state.queries, dictionary_.rotation.data(), count_, layout_.width, q, axis,
                      rotated_.data());
        });
      }
    }
    for (std::size_t q = 0; q < count_; ++q) {
      quantise_query(SerialTeam(), layout_, state.queries + q * layout_.width, &rotated_[q * layout_.width],
                     &codes_[q * layout_.row_bytes], &scales_[q]);
    }
  }

  void bound(const Uploaded& chunk) {
    const CodeLayout& layout = chunk.layout;
    const PassInput in{chunk.codes.data(), chunk.scale.data(),    chunk.error.data(),  codes_.data(),
                       scales_.data(),     layout.row_bytes,      layout.coarse_bytes, layout.shift(),
                       bounds_.data(),     layout.padded_blocks()};
    for (std::size_t atom = 0; atom < layout.padded_rows(); atom += 128) {
      for (std::size_t q = 0; q < padded_; q += 64) {
        const auto shared = std::make_unique<PassShared<2, 1>>();
        emulate::run(64, [&](const emulate::Block& block) { bound_tile(block, *shared, in, atom, q); });
      }
    }
  }

  void select(const Uploaded& chunk, const SearchState& to, std::size_t round) {
    const SelectInput in{chunk.layout,
                         static_cast<std::int64_t>(chunk.first),
                         chunk.codes.data(),
                         chunk.scale.data(),
                         chunk.error.data(),
                         chunk.atoms,
                         codes_.data(),
                         scales_.data(),
                         bounds_.data(),
                         to,
                         round};
    for (std::size_t q = 0; q < count_; ++q) {
      SelectShared shared;
      emulate::run(4, [&](const emulate::Block& block) { select_best(block, shared, in, q); });
    }
  }
  void search(const Uploaded& chunk, std::size_t round) {
    quantise();
    bound(chunk);
    select(chunk, state.search(round), round);
  }

  // The search of another part's chunk, as OtherPart has it; `place` is the part's among the others.
  void search_beside(const Uploaded& chunk, Found& others, std::size_t place, std::size_t round) {
    SearchState to = state.search(round);
    to.found = &others.found[place * count_];
    to.rows = &others.rows[place * count_ * state.width];
    to.row_stride = state.width;
    to.rescored = &others.rescored[place * count_];
    bound(chunk);
    select(chunk, to, round);
  }
  void merge(const Found& others, std::size_t round) {
    const OtherResults results{others.found.data(), others.rows.data(), others.rescored.data(),
                               others.found.size() / count_, count_};
    for (std::size_t q = 0; q < count_; ++q) merge_found(SerialTeam(), state, results, q, round);
  }

  void take(std::size_t round) {
    for (std::size_t q = 0; q < count_; ++q) take_atom(SerialTeam(), state, q, round);
  }

  // Indices and coefficients have the bits of `expected`, and all are certified.
  void equals(const Codes& expected) const {
    const std::size_t k = state.k;
    for (std::size_t q = 0; q < count_; ++q) {
      std::vector<std::int64_t> indices(k);
      std::vector<double> coefficients(k);
      std::uint8_t certified = 0;
      write_code(SerialTeam(), state, q, indices.data(), coefficients.data(), &certified);
      for (std::size_t i = 0; i < k; ++i) {
        CHECK(indices[i] == expected.indices[q * k + i]);
        CHECK(coefficients[i] == expected.coefficients[q * k + i]);
      }
      CHECK(certified == 1);
    }
  }

  float bound_of(std::size_t query, std::size_t block) const {
    return bounds_[query * layout_.padded_blocks() + block];
  }
  double expected_bound(const Uploaded& chunk, std::size_t query, std::size_t atom) const {
    std::int64_t sum = 0;
    for (std::size_t byte = 0; byte < layout_.row_bytes; ++byte) {
      sum += chunk.codes[atom * layout_.row_bytes + byte] * codes_[query * layout_.row_bytes + byte] *
             (byte < layout_.coarse_bytes ? 1 << layout_.shift() : 1);
    }
    const QueryScale q = scales_[query];
    return static_cast<double>(q.scale) * (static_cast<double>(sum) * static_cast<double>(chunk.scale[atom]) +
                                           static_cast<double>(chunk.error[atom]) * static_cast<double>(q.ratio)) +
           static_cast<double>(q.slack);
  }
  PanelState state;

 private:
  const Dictionary& dictionary_;
  CodeLayout layout_;
  std::size_t count_, padded_;
  std::vector<double> doubles_;
  std::vector<std::int64_t> integers_;
  std::vector<float> rows_;
  std::vector<headscan::Best> found_;
  std::vector<std::uint8_t> bad_;
  std::vector<float> rotated_;
  std::vector<std::int8_t> codes_;
  std::vector<QueryScale> scales_;
  std::vector<float> bounds_;
};

}  // namespace emulate
