#include <algorithm>
#include <cstdint>
#include <utility>

#include "bindings/bindings.hpp"
#include "headscan/svd.hpp"

namespace headscan::bindings {
namespace {

template <class T>
py::tuple factored(const Array<T>& left, const Array<T>& right, int threads) {
  expect_dimensions(left, 3, "left");
  expect_dimensions(right, 3, "right");
  const py::ssize_t count = left.shape(0), r = left.shape(2);
  Array<T> u({count, left.shape(1), r}), s({count, r}), vh({count, r, right.shape(2)});
  const auto l = batch(left), rt = batch(right);
  const auto u_view = batch_out(u);
  const auto s_view = matrix_out(s);
  const auto vh_view = batch_out(vh);
  {
    const py::gil_scoped_release unlocked;
    svd_factored<T>(l, rt, u_view, s_view, vh_view, SvdOptions{threads, raise_pending_signals});
  }
  return py::make_tuple(std::move(u), std::move(s), std::move(vh));
}

// Allocates the results for `count` matrices of m x n, and has `solve` fill them without the GIL.
template <class T, class Solve>
py::tuple truncated(py::ssize_t count, py::ssize_t m, py::ssize_t n, py::ssize_t rank, const Solve& solve) {
  const py::ssize_t held = std::min({rank, m, n});  // a rank past this is refused by the core
  Array<T> u({count, m, held}), s({count, held}), vh({count, held, n}), error(count);
  const auto u_view = batch_out(u);
  auto s_view = matrix_out(s);
  s_view.columns = static_cast<std::size_t>(rank);
  const auto vh_view = batch_out(vh);
  T* error_data = error.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    solve(u_view, s_view, vh_view, error_data);
  }
  return py::make_tuple(std::move(u), std::move(s), std::move(vh), std::move(error));
}

RandomizedSvdOptions randomized_options(std::size_t oversample, int iterations, RangeMethod method, std::size_t block,
                                        std::uint64_t seed, int threads) {
  return {oversample, iterations, method, block, seed, threads, raise_pending_signals};
}

template <class T>
py::tuple randomized(const Array<T>& a, py::ssize_t rank, const RandomizedSvdOptions& options) {
  expect_dimensions(a, 3, "a");
  const auto view = batch(a);
  return truncated<T>(a.shape(0), a.shape(1), a.shape(2), rank,
                      [&](auto u, auto s, auto vh, T* error) { randomized_svd<T>(view, u, s, vh, error, options); });
}

template <class T>
py::tuple randomized_factored(const Array<T>& left, const Array<T>& right, py::ssize_t rank,
                              const RandomizedSvdOptions& options) {
  expect_dimensions(left, 3, "left");
  expect_dimensions(right, 3, "right");
  const auto l = batch(left), r = batch(right);
  return truncated<T>(left.shape(0), left.shape(1), right.shape(2), rank,
                      [&](auto u, auto s, auto vh, T* error) { randomized_svd<T>(l, r, u, s, vh, error, options); });
}

void register_options(py::module_& module) {
  using namespace py::literals;
  py::enum_<RangeMethod>(module, "RangeMethod", "Where the range of a large matrix is looked for.")
      .value("power", RangeMethod::power)
      .value("krylov", RangeMethod::krylov);
  const RandomizedSvdOptions standard;
  py::class_<RandomizedSvdOptions>(module, "RandomizedSvdOptions", "Options of randomized_svd().")
      .def(py::init(&randomized_options), py::kw_only(), "oversample"_a = standard.oversample,
           "iterations"_a = standard.iterations, "method"_a = standard.method, "block"_a = standard.block,
           "seed"_a = standard.seed, "threads"_a = standard.threads,
           "oversample: columns of Omega beyond the rank; block: those for krylov, 0 for rank + oversample.")
      .def_readonly("oversample", &RandomizedSvdOptions::oversample)
      .def_readonly("iterations", &RandomizedSvdOptions::iterations)
      .def_readonly("method", &RandomizedSvdOptions::method)
      .def_readonly("block", &RandomizedSvdOptions::block)
      .def_readonly("seed", &RandomizedSvdOptions::seed)
      .def_readonly("threads", &RandomizedSvdOptions::threads);
}

template <class T>
void register_type(py::module_& module) {
  using namespace py::literals;
  constexpr const char* kDoc = "u, s, vh and the estimated error of the leading rank triplets of each matrix.";
  module.def("svd_factored", &factored<T>, "left"_a.noconvert(), "right"_a.noconvert(), py::kw_only(),
             "threads"_a = SvdOptions().threads, "u, s and vh of left[i] @ right[i].");
  module.def("randomized_svd", &randomized<T>, "a"_a.noconvert(), py::kw_only(), "rank"_a, "options"_a, kDoc);
  module.def("randomized_svd", &randomized_factored<T>, "left"_a.noconvert(), "right"_a.noconvert(), py::kw_only(),
             "rank"_a, "options"_a, kDoc);
}

}  // namespace

void register_svd(py::module_& module) {
  register_options(module);
  register_type<float>(module);
  register_type<double>(module);
}

}  // namespace headscan::bindings
