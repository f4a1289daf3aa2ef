// A panel of queries taken through the bodies of COMP's CUDA kernels on the CPU.
#pragma once

#include <memory>

#include "cpu/quantise.hpp"
#include "cuda/query_steps.hpp"
#include "cuda/search_pass.hpp"
#include "cuda/search_select.hpp"
#include "emulate.hpp"
#include "packed_dictionary.hpp"

namespace emulate {

using namespace headscan::cuda;
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
  double expected_bound(std::size_t query, std::size_t atom) const {
    const CodeLayout& layout = device_.layout;
    std::int64_t sum = 0;
    for (std::size_t byte = 0; byte < layout.row_bytes; ++byte) {
      sum += device_.codes[atom * layout.row_bytes + byte] * codes_[query * layout.row_bytes + byte] *
             (byte < layout.coarse_bytes ? 1 << layout.shift() : 1);
    }
    const QueryScale q = scales_[query];
    return static_cast<double>(q.scale) * (static_cast<double>(sum) * static_cast<double>(device_.scale[atom]) +
                                           static_cast<double>(device_.error[atom]) * static_cast<double>(q.ratio)) +
           static_cast<double>(q.slack);
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

}  // namespace emulate
