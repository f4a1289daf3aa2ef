// The CUDA engine on a GPU against the CPU engine: codes bit for bit, decompositions to their tolerance. Exits with
// 77, which ctest reports as skipped, where there is no device.
#include <cuda_runtime_api.h>

#include <cstdio>

#include "headscan/cuda.hpp"
#include "headscan/svd.hpp"
#include "packed_dictionary.hpp"

namespace {

using headscan::CompOptions;

// Plain device memory, so that compute-sanitizer sees the bounds of every array.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(std::size_t count) : count_(count) {
    CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(count, 1) * sizeof(T)) == cudaSuccess);
  }
  explicit OnDevice(const std::vector<T>& values) : OnDevice(values.size()) {
    CHECK(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~OnDevice() { (void)cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* data() const { return data_; }
  std::vector<T> get() const {
    std::vector<T> values(count_);
    CHECK(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

// The dictionary in `parts` parts, all on the one device, each in so much memory (0: all of it).
Codes encode_on_device(const std::vector<double>& x, const Dictionary& dictionary, const CompOptions& options,
                       std::size_t parts = 1, std::size_t memory_bytes = 0, bool streamed = false) {
  const std::size_t n = x.size() / dictionary.width, k = options.k;
  const std::size_t rows = (dictionary.views.packed.blocks() + parts - 1) / parts * headscan::kBlockAtoms;
  std::vector<headscan::cuda::Dictionary> uploaded;
  for (std::size_t first = 0; first < dictionary.rows; first += rows) {
    uploaded.emplace_back(
        dictionary.views, 0,
        headscan::cuda::UploadOptions{first, std::min(rows, dictionary.rows - first), memory_bytes});
    CHECK((uploaded.back().chunks() > 1) == streamed);
  }
  std::vector<const headscan::cuda::Dictionary*> all;
  for (const auto& part : uploaded) all.push_back(&part);
  const OnDevice<double> queries(x), coefficients(n * k);
  const OnDevice<std::int64_t> indices(n * k), rescored(n);
  const OnDevice<std::uint8_t> certified(n);
  headscan::cuda::comp<double>(
      {queries.data(), n, dictionary.width, dictionary.width}, all,
      {{indices.data(), n, k, k}, {coefficients.data(), n, k, k}, certified.data(), rescored.data()}, options,
      nullptr);
  return {indices.get(), coefficients.get(), certified.get(), {}};
}

void equals_the_cpu(std::vector<float> atoms, std::size_t width, std::size_t count, std::size_t k,
                    std::size_t parts = 1, std::size_t memory_bytes = 0, bool streamed = false) {
  const Dictionary dictionary(std::move(atoms), width, 2);
  const auto x = random_unit_rows<double>(count, width, 9);
  CompOptions options;
  options.k = k;
  const Codes expected = encode(x, dictionary.views, width, options);
  const Codes found = encode_on_device(x, dictionary, options, parts, memory_bytes, streamed);
  CHECK(found.indices == expected.indices);
  CHECK(found.coefficients == expected.coefficients);
  CHECK(found.certified == expected.certified);
}

void equal_atoms_go_by_index() {
  const auto atom = random_unit_rows<float>(1, 12, 3);
  std::vector<float> atoms;
  for (int copy = 0; copy < 700; ++copy) atoms.insert(atoms.end(), atom.begin(), atom.end());
  const Codes codes =
      encode_on_device(std::vector<double>(atom.begin(), atom.end()), Dictionary(atoms, 12, 1), CompOptions{});
  CHECK((codes.indices == std::vector<std::int64_t>{0, 1, 2, 3, 4}));
}

void bad_input_is_told() {
  const Dictionary dictionary(random_unit_rows<float>(20, 8, 4), 8, 1);
  CompOptions options;
  options.k = 2;
  const Codes codes = encode_on_device({0, NAN, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, dictionary, options);
  CHECK(codes.indices[0] == -1 && codes.certified[0] == 0 && codes.certified[1] == 1);
  options.k = 21;
  CHECK(throws_invalid_argument([&] { encode_on_device(std::vector<double>(8, 0.1), dictionary, options); }));
  options.k = 1;
  options.method = headscan::Method::kOmp;
  CHECK(throws_invalid_argument([&] { encode_on_device(std::vector<double>(8, 0.1), dictionary, options); }));
}

// Singular values, and the products u s vh, of both engines.
template <class T>
void same_svd(std::size_t count, std::size_t d, std::size_t r, std::size_t e, bool deficient, double tolerance) {
  auto left = random_values<T>(count * d * r, 1);
  const auto right = random_values<T>(count * r * e, 2);
  if (deficient) {
    for (std::size_t i = 0; i < count * d; ++i) left[i * r + r - 1] = left[i * r];
  }
  std::vector<T> u(count * d * r), s(count * r), vh(count * r * e);
  headscan::svd_factored<T>({left.data(), count, d, r}, {right.data(), count, r, e}, {u.data(), count, d, r},
                            {s.data(), count, r, r}, {vh.data(), count, r, e});
  const OnDevice<T> left_there(left), right_there(right), u_there(u.size()), s_there(s.size()), vh_there(vh.size());
  headscan::cuda::svd_factored<T>({left_there.data(), count, d, r}, {right_there.data(), count, r, e},
                                  {u_there.data(), count, d, r}, {s_there.data(), count, r, r},
                                  {vh_there.data(), count, r, e}, 0, nullptr);
  const auto u2 = u_there.get(), s2 = s_there.get(), vh2 = vh_there.get();
  const auto rebuilt = [&](const std::vector<T>& us, const std::vector<T>& ss, const std::vector<T>& vs,
                           std::size_t m, std::size_t i, std::size_t j) {
    double sum = 0;
    for (std::size_t p = 0; p < r; ++p) {
      sum += static_cast<double>(us[(m * d + i) * r + p]) * static_cast<double>(ss[m * r + p]) *
             static_cast<double>(vs[(m * r + p) * e + j]);
    }
    return sum;
  };
  for (std::size_t m = 0; m < count; ++m) {
    const double largest = static_cast<double>(s[m * r]);
    for (std::size_t p = 0; p < r; ++p) {
      CHECK(std::abs(static_cast<double>(s[m * r + p]) - static_cast<double>(s2[m * r + p])) <= tolerance * largest);
    }
    for (std::size_t i = 0; i < d; ++i) {
      for (std::size_t j = 0; j < e; ++j) {
        CHECK(std::abs(rebuilt(u, s, vh, m, i, j) - rebuilt(u2, s2, vh2, m, i, j)) <= tolerance * largest);
      }
    }
    for (std::size_t p = 0; p < r; ++p) {
      for (std::size_t q = 0; q < r; ++q) {
        double product = 0;
        for (std::size_t i = 0; i < d; ++i) {
          product += static_cast<double>(u2[(m * d + i) * r + p]) * static_cast<double>(u2[(m * d + i) * r + q]);
        }
        CHECK(std::abs(product - (p == q)) <= tolerance);
      }
    }
  }
}

}  // namespace

int main() {
  try {
    if (headscan::cuda::devices().empty()) throw std::runtime_error("no device of compute capability 8.0 or higher");
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "skipped: %s\n", error.what());
    return 77;
  }
  try {
    for (const std::size_t width : {1U, 3U, 16U, 47U, 130U, 768U})
      equals_the_cpu(grouped_rows(700, width), width, 75, 5);
    for (const std::size_t rows : {64U, 65U, 127U, 129U}) equals_the_cpu(grouped_rows(rows, 40), 40, 300, 7);
    equals_the_cpu(grouped_rows(1500, 96), 96, 6, 64);
    equals_the_cpu(random_unit_rows<float>(20000, 128, 5), 128, 600, 5);
    // 700 rows of 64 values take 16 kB for the rotation, 104 kB for codes and 179 kB in full precision.
    equals_the_cpu(grouped_rows(700, 64), 64, 300, 5, 1, 150'000);         // rows stay in host memory
    equals_the_cpu(grouped_rows(700, 64), 64, 300, 5, 1, 60'000, true);    // codes are streamed, 128 atoms at a time
    equals_the_cpu(grouped_rows(700, 64), 64, 300, 5, 3);                  // three parts
    equals_the_cpu(grouped_rows(2100, 64), 64, 300, 5, 3, 60'000, true);   // three streamed parts
    equals_the_cpu(grouped_rows(700, 16), 16, 17000, 2, 2, 25'000, true);  // in two panels of queries
    equal_atoms_go_by_index();
    bad_input_is_told();
    for (const bool deficient : {false, true}) {
      same_svd<double>(3, 40, 9, 33, deficient, 1e-12);
      same_svd<float>(3, 128, 64, 128, deficient, 1e-5);
      same_svd<float>(2, 160, 130, 150, deficient, 1e-5);  // its core does not fit shared memory
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
