// Upload of a packed dictionary: its blocks of 64 interleaved atoms become rows of codes.
#include <algorithm>
#include <utility>

#include "cpu/quantise.hpp"
#include "cuda/dictionary.hpp"

namespace headscan::cuda {
namespace {

constexpr unsigned kThreads = 256;

// rows of codes (atoms, row_bytes) from packed blocks (blocks, steps, 64, 4), stored as value + 128; four at a time.
__global__ void unpack_codes(CodeLayout layout, std::size_t steps, std::size_t atoms, const std::uint32_t* packed,
                             std::uint32_t* rows) {
  const std::size_t words = layout.row_bytes / 4;
  const std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= atoms * words) return;
  const std::size_t atom = i / words, axis = layout.axis_of(i % words * 4);
  const std::size_t block = atom / kBlockAtoms, lane = atom % kBlockAtoms;
  rows[i] = axis < layout.width ? packed[(block * steps + axis / 4) * kBlockAtoms + lane] ^ 0x80808080U : 0U;
}

CodeLayout checked_layout(const PackedDictionary& dictionary) {
  const PackedAtoms& packed = dictionary.packed;
  if (packed.rows != dictionary.atoms.rows || packed.width != dictionary.atoms.columns || packed.rows == 0) {
    throw std::invalid_argument("the packed form belongs to another dictionary: it has " +
                                std::to_string(packed.rows) + " atoms of " + std::to_string(packed.width) +
                                " values");
  }
  constexpr std::size_t kWidest = 8192;  // up to there int32 holds every sum of products
  if (packed.width > kWidest || packed.rows > std::size_t{1} << 31U) {
    throw std::invalid_argument("on CUDA a dictionary has at most 2^31 atoms of at most " + std::to_string(kWidest) +
                                " values, got " + std::to_string(packed.rows) + " of " +
                                std::to_string(packed.width));
  }
  return CodeLayout(packed, rotation_error(packed.width));
}

std::size_t bytes_of(const CodeLayout& layout) {
  return layout.padded_rows() * (layout.row_bytes + 2 * sizeof(float)) + layout.rows * layout.width * sizeof(float) +
         layout.width * layout.width * sizeof(float);
}

// Says what is missing before an allocation fails.
std::size_t checked_bytes(const CodeLayout& layout) {
  const std::size_t bytes = bytes_of(layout);
  std::size_t free = 0, total = 0;
  HEADSCAN_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  if (bytes > total) {
    throw std::invalid_argument("the dictionary takes " + std::to_string(bytes >> 20U) + " MiB and the GPU has " +
                                std::to_string(total >> 20U) + " MiB: use the CPU");
  }
  return bytes;
}

template <class T>
void upload(const T* from, std::size_t count, T* to) {
  HEADSCAN_CUDA_CHECK(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice));
}

}  // namespace

Dictionary::Arrays::Arrays(const PackedDictionary& dictionary, int device_index)
    : device(device_index),
      layout(checked_layout(dictionary)),
      bytes(checked_bytes(layout)),
      rotation(layout.width * layout.width, nullptr),
      scale(layout.padded_rows(), nullptr),
      error(layout.padded_rows(), nullptr),
      codes(layout.padded_rows() * layout.row_bytes, nullptr),
      atoms(layout.rows * layout.width, nullptr) {
  const PackedAtoms& packed = dictionary.packed;
  const std::size_t padded = packed.blocks() * kBlockAtoms;
  HEADSCAN_CUDA_CHECK(cudaMemset(scale.data(), 0, layout.padded_rows() * sizeof(float)));
  HEADSCAN_CUDA_CHECK(cudaMemset(error.data(), 0, layout.padded_rows() * sizeof(float)));
  HEADSCAN_CUDA_CHECK(cudaMemset(codes.data(), 0, layout.padded_rows() * layout.row_bytes));
  upload(packed.rotation, layout.width * layout.width, rotation.data());
  upload(packed.scale, padded, scale.data());
  upload(packed.error, padded, error.data());
  HEADSCAN_CUDA_CHECK(cudaMemcpy2D(atoms.data(), layout.width * sizeof(float), dictionary.atoms.data,
                                   dictionary.atoms.stride * sizeof(float), layout.width * sizeof(float), layout.rows,
                                   cudaMemcpyHostToDevice));
  const std::size_t part = std::max<std::size_t>((std::size_t{64} << 20U) / packed.block_bytes(), 1);
  const Buffer<std::uint32_t> staging(std::min(part, packed.blocks()) * packed.block_bytes() / 4, nullptr);
  for (std::size_t first = 0; first < packed.blocks(); first += part) {
    const std::size_t count = std::min(part, packed.blocks() - first), rows = count * kBlockAtoms;
    HEADSCAN_CUDA_CHECK(cudaMemcpy(staging.data(), packed.codes + first * packed.block_bytes(),
                                   count * packed.block_bytes(), cudaMemcpyHostToDevice));
    auto* to = reinterpret_cast<std::uint32_t*>(codes.data() + first * kBlockAtoms * layout.row_bytes);
    unpack_codes<<<blocks_for(rows * layout.row_bytes / 4, kThreads), kThreads>>>(layout, packed.steps(), rows,
                                                                                  staging.data(), to);
    HEADSCAN_CUDA_LAUNCHED("unpack_codes");
  }
  HEADSCAN_CUDA_CHECK(cudaDeviceSynchronize());
}

Dictionary::Dictionary(const PackedDictionary& dictionary, int device) {
  const OnDevice on(device);
  arrays_ = std::make_unique<Arrays>(dictionary, device);
}
Dictionary::~Dictionary() {
  if (!arrays_) return;
  try {
    const OnDevice on(arrays_->device);
    HEADSCAN_CUDA_CHECK(cudaDeviceSynchronize());  // work on any stream may still read it
    arrays_.reset();
  } catch (const std::runtime_error&) {  // the device is gone, and its memory with it
  }
}
Dictionary::Dictionary(Dictionary&&) noexcept = default;

int Dictionary::device() const { return arrays_->device; }
std::size_t Dictionary::bytes() const { return arrays_->bytes; }

}  // namespace headscan::cuda
