// The body of the SVD's CUDA kernel, run on the CPU by emulate.hpp, as test_cuda_steps.cpp does for COMP.
#include <cstdio>

#include "check.hpp"
#include "cuda/svd/svd_matrix.hpp"
#include "emulate.hpp"

namespace {

using namespace headscan::cuda;

// u s vh = left right, orthonormal, ordered, signed; `tolerance` relative to the largest singular value.
template <class T>
void check_svd(const std::vector<T>& left, const std::vector<T>& right, std::size_t d, std::size_t r, std::size_t e,
               unsigned threads, double tolerance) {
  const SvdMemory memory{d, e, r};
  std::vector<T> u(d * r), s(r), vh(r * e);
  std::vector<double> global(memory.global_doubles()), pair(memory.pair_doubles());
  std::vector<double> rest(memory.shared_doubles(threads));
  emulate::run(threads, [&](const emulate::Block& block) {
    const SvdShared shared = lay_out(block, memory, pair.data(), rest.data());
    svd_matrix(block, shared, memory, global.data(), left.data(), right.data(), {u.data(), s.data(), vh.data()});
  });
  const auto at = [](const std::vector<T>& values, std::size_t i) { return static_cast<double>(values[i]); };
  const double largest = std::max(at(s, 0), 1e-300);
  for (std::size_t i = 0; i < d; ++i) {
    for (std::size_t j = 0; j < e; ++j) {
      double product = 0, rebuilt = 0;
      for (std::size_t p = 0; p < r; ++p) {
        product += at(left, i * r + p) * at(right, p * e + j);
        rebuilt += at(u, i * r + p) * at(s, p) * at(vh, p * e + j);
      }
      CHECK(std::abs(product - rebuilt) <= tolerance * largest);
    }
  }
  for (std::size_t p = 0; p < r; ++p) {
    if (p > 0) CHECK(s[p] <= s[p - 1]);
    double extreme = 0;
    for (std::size_t i = 0; i < d; ++i) {
      if (std::abs(at(u, i * r + p)) > std::abs(extreme)) extreme = at(u, i * r + p);
    }
    CHECK(extreme > 0);
    for (std::size_t q = 0; q < r; ++q) {
      double uu = 0, vv = 0;
      for (std::size_t i = 0; i < d; ++i) uu += at(u, i * r + p) * at(u, i * r + q);
      for (std::size_t i = 0; i < e; ++i) vv += at(vh, p * e + i) * at(vh, q * e + i);
      CHECK(std::abs(uu - (p == q)) < tolerance && std::abs(vv - (p == q)) < tolerance);
    }
  }
}

void svd_decomposes() {
  for (const std::size_t r : {1U, 2U, 5U, 6U}) {
    const std::size_t d = 20, e = 17;
    const auto left = random_values<double>(d * r, 1), right = random_values<double>(r * e, 2);
    check_svd(left, right, d, r, e, 8, 1e-13 * 20);
    const std::vector<float> left_single(left.begin(), left.end()), right_single(right.begin(), right.end());
    check_svd(left_single, right_single, d, r, e, 8, 2e-6);  // float64 inside, rounded once
    auto deficient = left;  // columns repeated: Householder, and vectors where singular values vanish
    for (std::size_t i = 0; i < d; ++i) deficient[i * r + r - 1] = deficient[i * r];
    check_svd(deficient, right, d, r, e, 8, 1e-12);
    const std::vector<float> deficient_single(deficient.begin(), deficient.end());
    check_svd(deficient_single, right_single, d, r, e, 8, 2e-6);
    check_svd(std::vector<double>(d * r, 0.0), right, d, r, e, 8, 1e-12);
  }
  const SvdMemory memory{3, 3, 2};
  const std::vector<float> bad{1, 2, NAN, 4, 5, 6}, good(6, 1);
  std::vector<float> u(6), s(2), vh(6);
  std::vector<double> global(memory.global_doubles()), pair(memory.pair_doubles()), rest(memory.shared_doubles(4));
  emulate::run(4, [&](const emulate::Block& block) {
    svd_matrix(block, lay_out(block, memory, pair.data(), rest.data()), memory, global.data(), good.data(),
               bad.data(), SvdOutput<float>{u.data(), s.data(), vh.data()});
  });
  CHECK(std::isnan(u[0]) && std::isnan(s[1]) && std::isnan(vh[5]));
}

}  // namespace

int main() {
  try {
    svd_decomposes();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
