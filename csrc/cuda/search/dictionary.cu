// Upload of a packed dictionary: its blocks of 64 interleaved atoms become rows of codes, made on the GPU also where
// they then stay in pinned host memory.
#include <algorithm>
#include <utility>

#include "common/bounds.hpp"
#include "cuda/search/dictionary.hpp"

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
  check_layout(packed);
  constexpr std::size_t kWidest = 8192;  // up to there int32 holds every sum of products
  if (packed.width > kWidest || packed.rows > std::size_t{1} << 31U) {
    throw std::invalid_argument("on CUDA a dictionary has at most 2^31 atoms of at most " + std::to_string(kWidest) +
                                " values, got " + std::to_string(packed.rows) + " of " +
                                std::to_string(packed.width));
  }
  return CodeLayout(packed, rotation_error(packed.width));
}

// Device memory that a dictionary may take: what is free, less a call's working memory (comp.cu's panel and a
// margin).
std::size_t available_bytes() {
  constexpr std::size_t kWorking = std::size_t{5} << 29U;
  std::size_t free = 0, total = 0;
  HEADSCAN_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return free > 2 * kWorking ? free - kWorking : free / 2;
}

Placement place_on(const CodeLayout& layout, std::size_t memory_bytes) {
  return place(layout, memory_bytes > 0 ? memory_bytes : available_bytes());
}

PackedDictionary asked_part(const PackedDictionary& whole, const UploadOptions& options) {
  const std::size_t first = std::min(options.first, whole.packed.rows);
  return part_of(whole, options.first, options.rows > 0 ? options.rows : whole.packed.rows - first);
}

template <class T>
void upload(const T* from, std::size_t count, T* to) {
  HEADSCAN_CUDA_CHECK(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice));
}

// Writes the image of a part's codes to device memory at `image`, and waits until it is there.
void write_image(const PackedAtoms& part, const CodeLayout& layout, std::uint8_t* image) {
  const std::size_t rows = layout.padded_rows(), known = part.blocks() * kBlockAtoms;
  auto* scale = reinterpret_cast<float*>(image + rows * layout.row_bytes);
  HEADSCAN_CUDA_CHECK(cudaMemset(image, 0, image_bytes(layout)));
  upload(part.scale, known, scale);
  upload(part.error, known, scale + rows);
  const std::size_t most = std::max<std::size_t>((std::size_t{64} << 20U) / part.block_bytes(), 1);
  const Buffer<std::uint32_t> staging(std::min(most, part.blocks()) * part.block_bytes() / 4, nullptr);
  for (std::size_t first = 0; first < part.blocks(); first += most) {
    const std::size_t count = std::min(most, part.blocks() - first), atoms = count * kBlockAtoms;
    HEADSCAN_CUDA_CHECK(cudaMemcpy(staging.data(), part.codes + first * part.block_bytes(),
                                   count * part.block_bytes(), cudaMemcpyHostToDevice));
    auto* to = reinterpret_cast<std::uint32_t*>(image + first * kBlockAtoms * layout.row_bytes);
    unpack_codes<<<blocks_for(atoms * layout.row_bytes / 4, kThreads), kThreads>>>(layout, part.steps(), atoms,
                                                                                   staging.data(), to);
    HEADSCAN_CUDA_LAUNCHED("unpack_codes");
  }
  HEADSCAN_CUDA_CHECK(cudaDeviceSynchronize());
}

void copy_rows(const MatrixView<const float>& rows, float* to, cudaMemcpyKind kind) {
  HEADSCAN_CUDA_CHECK(cudaMemcpy2D(to, rows.columns * sizeof(float), rows.data, rows.stride * sizeof(float),
                                   rows.columns * sizeof(float), rows.rows, kind));
}

}  // namespace

Dictionary::Arrays::Arrays(const PackedDictionary& whole, int device_index, const UploadOptions& options)
    : device(device_index),
      first(options.first),
      layout(with_rows(checked_layout(whole), asked_part(whole, options).packed.rows)),
      placement(place_on(layout, options.memory_bytes)),
      rotation(layout.width * layout.width, nullptr),
      codes_there(placement.codes_there ? chunk_image_bytes() : 0, nullptr),
      codes_here(placement.codes_there ? 0 : image_offset(chunks() - 1) + image_bytes(chunk_layout(chunks() - 1))),
      rows_there(placement.rows_there ? layout.rows * layout.width : 0, nullptr),
      rows_here(placement.rows_there ? 0 : layout.rows * layout.width) {
  const PackedDictionary dictionary = asked_part(whole, options);
  upload(dictionary.packed.rotation, layout.width * layout.width, rotation.data());
  if (placement.rows_there) {
    copy_rows(dictionary.atoms, rows_there.data(), cudaMemcpyHostToDevice);
  } else {
    copy_rows(dictionary.atoms, rows_here.data(), cudaMemcpyHostToHost);
  }
  const Buffer<std::uint8_t> passing(placement.codes_there ? 0 : chunk_image_bytes(), nullptr);
  for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {
    const CodeLayout of_chunk = chunk_layout(chunk);
    const PackedAtoms part = part_of(dictionary, chunk * placement.chunk_rows, of_chunk.rows).packed;
    write_image(part, of_chunk, placement.codes_there ? codes_there.data() : passing.data());
    if (placement.codes_there) continue;
    HEADSCAN_CUDA_CHECK(cudaMemcpy(codes_here.data() + image_offset(chunk), passing.data(), image_bytes(of_chunk),
                                   cudaMemcpyDeviceToHost));
  }
}

Chunk Dictionary::Arrays::chunk(std::size_t index, const std::uint8_t* image) const {
  Chunk out;
  out.layout = chunk_layout(index);
  out.first = index * placement.chunk_rows;
  out.codes = reinterpret_cast<const std::int8_t*>(image);
  out.scale = reinterpret_cast<const float*>(image + out.layout.padded_rows() * layout.row_bytes);
  out.error = out.scale + out.layout.padded_rows();
  out.atoms = (placement.rows_there ? rows_there.data() : rows_here.data()) + out.first * layout.width;
  return out;
}

Dictionary::Dictionary(const PackedDictionary& dictionary, int device, const UploadOptions& options) {
  const OnDevice on(device);
  arrays_ = std::make_unique<Arrays>(dictionary, device, options);
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
std::size_t Dictionary::chunks() const { return arrays_->chunks(); }
std::size_t Dictionary::bytes() const { return device_bytes(arrays_->layout, arrays_->placement); }

bool fits(const PackedLayout& layout, int device) {
  const OnDevice on(device);
  return place(CodeLayout(layout, 0), available_bytes()).rows_there;
}

}  // namespace headscan::cuda
