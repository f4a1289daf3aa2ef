// The CUDA engine's host code, run over the stand-in of fake_cuda.hpp: uploads, the order of copies and kernels over
// streams and devices, lifetimes. Kernels are their own bodies, or plain loops where test_cuda_steps.cpp has run the
// body; codes are the CPU engine's bit for bit, whatever the order that the streams leave open.
#include <cstdio>

#include "cuda/comp/query_steps.hpp"
#include "cuda/search/search_pass.hpp"
#include "cuda/search/search_select.hpp"
#include "emulate.hpp"
#include "fake_cuda.hpp"
#include "headscan/cuda.hpp"
#include "packed_dictionary.hpp"

namespace {

using namespace headscan::cuda;
using fake_cuda::Order;
using headscan::CompOptions;
using headscan::kBlockAtoms;
using headscan::SerialTeam;

// Copies of a kernel's arguments, as a launch makes them.
template <class T>
T argument(void** arguments, std::size_t i) {
  return *static_cast<const T*>(arguments[i]);
}

// Every array of a launch is in the memory of the device it runs on.
template <class... Arrays>
void are_here(const void* first, Arrays... others) {
  int device = 0;
  CHECK(cudaGetDevice(&device) == cudaSuccess);
  for (const void* array : {first, static_cast<const void*>(others)...}) CHECK(fake_cuda::owner(array) == device);
}
void are_here(const PanelState& panel) {
  are_here(panel.queries, panel.small, panel.picked, panel.rows, panel.found, panel.rescored, panel.bad);
}

std::function<void()> unpack_codes(dim3, void** from) {
  const auto layout = argument<CodeLayout>(from, 0);
  const auto steps = argument<std::size_t>(from, 1), atoms = argument<std::size_t>(from, 2);
  const auto* packed = argument<const std::uint32_t*>(from, 3);
  auto* rows = argument<std::uint32_t*>(from, 4);
  are_here(packed, rows);
  return [=] {
    const std::size_t words = layout.row_bytes / 4;
    for (std::size_t i = 0; i < atoms * words; ++i) {
      const std::size_t atom = i / words, axis = layout.axis_of(i % words * 4);
      const std::size_t at = (atom / kBlockAtoms * steps + axis / 4) * kBlockAtoms + atom % kBlockAtoms;
      rows[i] = axis < layout.width ? packed[at] ^ 0x80808080U : 0U;
    }
  };
}

template <class T>
std::function<void()> start_queries(dim3, void** from) {
  const auto panel = argument<PanelState>(from, 0);
  const auto* x = argument<const T*>(from, 1);
  const auto stride = argument<std::size_t>(from, 2), count = argument<std::size_t>(from, 3);
  are_here(panel);
  are_here(x);
  return [=] {
    for (std::size_t q = 0; q < count; ++q) start_query(SerialTeam(), panel, x + q * stride, q);
  };
}

std::function<void()> rotate_queries(dim3, void** from) {
  const auto* queries = argument<const double*>(from, 0);
  const auto* rotation = argument<const float*>(from, 1);
  const auto count = argument<std::size_t>(from, 2), width = argument<std::size_t>(from, 3);
  auto* rotated = argument<float*>(from, 4);
  are_here(queries, rotation, rotated);
  return [=] {
    for (std::size_t i = 0; i < count * width; ++i) {
      double sum = 0;
      for (std::size_t p = 0; p < width; ++p) {
        sum += queries[i / width * width + p] * static_cast<double>(rotation[p * width + i % width]);
      }
      rotated[i] = static_cast<float>(sum);
    }
  };
}

std::function<void()> quantise_queries(dim3, void** from) {
  const auto layout = argument<CodeLayout>(from, 0);
  const auto* queries = argument<const double*>(from, 1);
  const auto* rotated = argument<const float*>(from, 2);
  const auto count = argument<std::size_t>(from, 3);
  auto* codes = argument<std::int8_t*>(from, 4);
  auto* scales = argument<QueryScale*>(from, 5);
  are_here(queries, rotated, codes, scales);
  return [=] {
    for (std::size_t q = 0; q < count; ++q) {
      quantise_query(SerialTeam(), layout, queries + q * layout.width, rotated + q * layout.width,
                     codes + q * layout.row_bytes, scales + q);
    }
  };
}

float bound_of_block(const PassInput& in, std::size_t query, std::size_t block) {
  const QueryScale q = in.scales[query];
  float largest = -INFINITY;
  for (std::size_t atom = block * kBlockAtoms; atom < (block + 1) * kBlockAtoms; ++atom) {
    std::int32_t coarse = 0, fine = 0;
    for (std::size_t byte = 0; byte < in.row_bytes; ++byte) {
      const int product = in.atoms[atom * in.row_bytes + byte] * in.queries[query * in.row_bytes + byte];
      (byte < in.coarse_bytes ? coarse : fine) += product;
    }
    const auto sum = static_cast<float>(coarse * (1 << in.shift) + fine);
    largest = fmaxf(largest, fmaf(sum, in.scale[atom], in.error[atom] * q.ratio));
  }
  return fmaf(largest, q.scale, q.slack);
}

std::function<void()> bound_blocks(dim3 grid, void** from) {
  const auto in = argument<PassInput>(from, 0);
  const std::size_t query_tiles = argument<unsigned>(from, 1), atom_tiles = grid.x / query_tiles;
  are_here(in.atoms, in.scale, in.error, in.queries, in.scales, in.bounds);
  return [=] {
    for (std::size_t q = 0; q < query_tiles * kTileQueries; ++q) {
      for (std::size_t block = 0; block < atom_tiles * kTileAtoms / kBlockAtoms; ++block) {
        in.bounds[q * in.padded_blocks + block] = bound_of_block(in, q, block);
      }
    }
  };
}

std::function<void()> select_queries(dim3 grid, void** from) {
  const auto in = argument<SelectInput>(from, 0);
  are_here(in.codes, in.scale, in.error, in.query_codes, in.scales, in.bounds, in.state.queries, in.state.picked,
           in.state.found, in.state.rows, in.state.rescored);
  if (fake_cuda::owner(in.atoms) != fake_cuda::kPinned) are_here(in.atoms);
  return [=] {
    emulate::Barrier barrier(1);
    emulate::Warp warp(1);
    for (std::size_t q = 0; q < grid.x; ++q) {
      SelectShared shared;
      select_best(emulate::Block(0, 1, barrier, warp), shared, in, q);
    }
  };
}

std::function<void()> merge_parts(dim3, void** from) {
  const auto panel = argument<PanelState>(from, 0);
  const auto others = argument<OtherResults>(from, 1);
  const auto round = argument<std::size_t>(from, 2), count = argument<std::size_t>(from, 3);
  are_here(panel);
  are_here(others.found, others.rows, others.rescored);
  return [=] {
    for (std::size_t q = 0; q < count; ++q) merge_found(SerialTeam(), panel, others, q, round);
  };
}

std::function<void()> take_atoms(dim3, void** from) {
  const auto panel = argument<PanelState>(from, 0);
  const auto round = argument<std::size_t>(from, 1), count = argument<std::size_t>(from, 2);
  are_here(panel);
  return [=] {
    for (std::size_t q = 0; q < count; ++q) take_atom(SerialTeam(), panel, q, round);
  };
}

std::function<void()> write_codes(dim3, void** from) {
  const auto panel = argument<PanelState>(from, 0);
  const auto count = argument<std::size_t>(from, 1), first = argument<std::size_t>(from, 2);
  const auto codes = argument<DeviceCodes>(from, 3);
  are_here(panel);
  are_here(codes.indices.data, codes.coefficients.data, codes.certified, codes.rescored);
  return [=] {
    for (std::size_t q = 0; q < count; ++q) {
      const std::size_t row = first + q;
      write_code(SerialTeam(), panel, q, codes.indices.row(row), codes.coefficients.row(row), codes.certified + row);
      codes.rescored[row] = panel.rescored[q];
    }
  };
}

void name_kernels() {
  fake_cuda::kernel("unpack_codes", unpack_codes);
  fake_cuda::kernel("start_queriesIf", start_queries<float>);
  fake_cuda::kernel("start_queriesId", start_queries<double>);
  fake_cuda::kernel("rotate_queries", rotate_queries);
  fake_cuda::kernel("quantise_queries", quantise_queries);
  fake_cuda::kernel("bound_blocks", bound_blocks);
  fake_cuda::kernel("select_queries", select_queries);
  fake_cuda::kernel("merge_parts", merge_parts);
  fake_cuda::kernel("take_atoms", take_atoms);
  fake_cuda::kernel("write_codes", write_codes);
}

template <class T>
T* on_device(std::size_t count) {
  void* start = nullptr;
  CHECK(cudaMalloc(&start, count * sizeof(T)) == cudaSuccess);
  return static_cast<T*>(start);
}
template <class T>
std::vector<T> fetched(const T* from, std::size_t count) {
  std::vector<T> values(count);
  CHECK(cudaMemcpy(values.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
  return values;
}

// How a dictionary is spread: the devices of its parts, and the memory of each (0: enough).
struct Spread {
  std::vector<int> devices;
  std::size_t memory_bytes;
  std::size_t chunks;  // of the first part
};

struct Case {
  Case(std::size_t rows, std::size_t width, std::size_t queries, std::size_t k)
      : dictionary(grouped_rows(rows, width), width, 1), x(random_unit_rows<double>(queries, width, 9)) {
    options.k = k;
    options.threads = 1;
    expected = encode(x, dictionary.views, width, options);
  }
  ::Dictionary dictionary;
  std::vector<double> x;
  CompOptions options;
  Codes expected;
};

void equals_the_cpu(const Case& one, const Spread& spread, Order order, unsigned seed) {
  fake_cuda::reset(3, order, seed);
  const ::Dictionary& dictionary = one.dictionary;
  const std::size_t width = dictionary.width, n = one.x.size() / width, k = one.options.k;
  const std::size_t blocks = dictionary.views.packed.blocks(), parts = spread.devices.size();
  const std::size_t rows = (blocks + parts - 1) / parts * kBlockAtoms;
  std::vector<headscan::cuda::Dictionary> uploaded;
  for (std::size_t i = 0; i < parts; ++i) {
    const std::size_t first = i * rows, left = dictionary.rows - first;
    uploaded.emplace_back(dictionary.views, spread.devices[i],
                          UploadOptions{first, std::min(rows, left), spread.memory_bytes});
  }
  CHECK(uploaded[0].chunks() == spread.chunks);
  std::vector<const headscan::cuda::Dictionary*> all;
  for (const auto& part : uploaded) all.push_back(&part);

  auto* queries = on_device<double>(one.x.size());
  CHECK(cudaMemcpy(queries, one.x.data(), one.x.size() * sizeof(double), cudaMemcpyHostToDevice) == cudaSuccess);
  auto* indices = on_device<std::int64_t>(n * k);
  auto* coefficients = on_device<double>(n * k);
  auto* certified = on_device<std::uint8_t>(n);
  auto* rescored = on_device<std::int64_t>(n);
  comp<double>({queries, n, width, width}, all, {{indices, n, k, k}, {coefficients, n, k, k}, certified, rescored},
               one.options, nullptr);
  CHECK(fetched(indices, n * k) == one.expected.indices);
  CHECK(fetched(coefficients, n * k) == one.expected.coefficients);
  CHECK(fetched(certified, n) == one.expected.certified);
  for (const std::int64_t count : fetched(rescored, n)) CHECK(count >= static_cast<std::int64_t>(k));
}

}  // namespace

int main() {
  try {
    name_kernels();
    // 1500 rows of 20 values: 2 kB for the rotation, 111 kB for codes, 120 kB in full precision; 9 kB a tile of
    // codes.
    const Case one(1500, 20, 40, 4), many(130, 4, 17000, 2);
    const std::vector<Spread> spreads = {
        {{0}, 0, 1},       {{0}, 120'000, 1}, {{0}, 60'000, 4},       {{0}, 20'100, 12},
        {{0, 0, 0}, 0, 1}, {{0, 1, 2}, 0, 1}, {{0, 1, 2}, 40'000, 1}, {{0, 1, 2}, 20'100, 4},
    };
    for (unsigned seed = 0; seed < 6; ++seed) {
      const Order order = seed == 0   ? Order::kDefaultStreamsFirst
                          : seed == 1 ? Order::kOwnStreamsFirst
                                      : Order::kRandom;
      for (const Spread& spread : spreads) equals_the_cpu(one, spread, order, seed);
    }
    equals_the_cpu(many, {{0, 1}, 0, 1}, Order::kRandom, 7);  // two panels of queries
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
