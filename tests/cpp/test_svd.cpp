// svd_factored: the triplets rebuild the product, bases are orthonormal also for rank-deficient factors.
// randomized_svd: a matrix of low rank is rebuilt, dense and factored alike.
#include <algorithm>
#include <cstdio>

#include "check.hpp"
#include "headscan/svd.hpp"

namespace {

void check_decomposition(std::size_t count, std::size_t d, std::size_t r, bool deficient) {
  auto left = random_values<double>(count * d * r, 1);
  const auto right = random_values<double>(count * r * d, 2);
  if (deficient) {
    for (std::size_t i = 0; i < count * d; ++i) left[i * r + r - 1] = left[i * r];
  }
  std::vector<double> u(count * d * r), s(count * r), vh(count * r * d);
  headscan::SvdOptions options;
  options.threads = 3;
  headscan::svd_factored<double>({left.data(), count, d, r}, {right.data(), count, r, d}, {u.data(), count, d, r},
                                 {s.data(), count, r, r}, {vh.data(), count, r, d}, options);
  for (std::size_t m = 0; m < count; ++m) {
    const double *um = &u[m * d * r], *vm = &vh[m * r * d], *sm = &s[m * r];
    CHECK(std::is_sorted(sm, sm + r, std::greater<>()));
    for (std::size_t i = 0; i < d; ++i) {
      for (std::size_t j = 0; j < d; ++j) {
        double product = 0, rebuilt = 0;
        for (std::size_t p = 0; p < r; ++p) {
          product += left[(m * d + i) * r + p] * right[(m * r + p) * d + j];
          rebuilt += um[i * r + p] * sm[p] * vm[p * d + j];
        }
        CHECK(std::abs(product - rebuilt) < 1e-12 * (sm[0] + 1));
      }
    }
    for (std::size_t p = 0; p < r; ++p) {
      for (std::size_t q = 0; q < r; ++q) {
        double uu = 0, vv = 0;
        for (std::size_t i = 0; i < d; ++i) {
          uu += um[i * r + p] * um[i * r + q];
          vv += vm[p * d + i] * vm[q * d + i];
        }
        CHECK(std::abs(uu - (p == q)) < 1e-12 && std::abs(vv - (p == q)) < 1e-12);
      }
    }
  }
}

void bad_input_throws() {
  std::vector<float> buffer(64, 1.0F);
  const auto run = [&](std::size_t d, std::size_t r) {
    headscan::svd_factored<float>({buffer.data(), 1, d, r}, {buffer.data(), 1, r, d}, {buffer.data(), 1, d, r},
                                  {buffer.data(), 1, r, r}, {buffer.data(), 1, r, d});
  };
  CHECK(throws_invalid_argument([&] { run(3, 4); }));
  buffer[1] = std::nanf("");
  CHECK(throws_invalid_argument([&] { run(4, 3); }));
}

// A product of rank r, dense and factored: all of it is found, with the same triplets.
void check_randomized(std::size_t m, std::size_t n, std::size_t r, headscan::RangeMethod method) {
  const std::size_t count = 3, rank = r + 1;
  const auto left = random_values<double>(count * m * r, 3), right = random_values<double>(count * r * n, 4);
  std::vector<double> a(count * m * n, 0.0);
  for (std::size_t i = 0; i < count * m; ++i) {
    for (std::size_t p = 0; p < r; ++p) {
      for (std::size_t j = 0; j < n; ++j) a[i * n + j] += left[i * r + p] * right[(i / m * r + p) * n + j];
    }
  }
  headscan::RandomizedSvdOptions options;
  options.method = method;
  options.threads = 2;
  std::vector<double> u(count * m * rank), s(count * rank), vh(count * rank * n), error(count), s_factored(s.size());
  const headscan::BatchView<double> u_view{u.data(), count, m, rank}, vh_view{vh.data(), count, rank, n};
  headscan::randomized_svd<double>({left.data(), count, m, r}, {right.data(), count, r, n}, u_view,
                                   {s_factored.data(), count, rank, rank}, vh_view, error.data(), options);
  headscan::randomized_svd<double>({a.data(), count, m, n}, u_view, {s.data(), count, rank, rank}, vh_view,
                                   error.data(), options);
  for (std::size_t i = 0; i < count * rank; ++i) CHECK(std::abs(s[i] - s_factored[i]) < 1e-12 * s[0]);
  for (std::size_t i = 0; i < count * m; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      double rest = a[i * n + j];
      for (std::size_t p = 0; p < rank; ++p) {
        rest -= u[i * rank + p] * s[i / m * rank + p] * vh[(i / m * rank + p) * n + j];
      }
      CHECK(std::abs(rest) < 1e-12 * s[0]);
    }
  }
  for (const double value : error) CHECK(value < 1e-11 * s[0]);
  options.iterations = -1;
  CHECK(throws_invalid_argument([&] {
    headscan::randomized_svd<double>({a.data(), count, m, n}, u_view, {s.data(), count, rank, rank}, vh_view,
                                     error.data(), options);
  }));
}

}  // namespace

int main() {
  try {
    for (const std::size_t r : {1U, 3U, 8U, 17U}) {
      check_decomposition(5, 24, r, false);
      check_decomposition(5, 24, r, r > 1);
    }
    check_decomposition(1, 16, 16, true);
    for (const auto method : {headscan::RangeMethod::power, headscan::RangeMethod::krylov}) {
      check_randomized(30, 85, 4, method);
      check_randomized(165, 20, 7, method);
    }
    bad_input_throws();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
