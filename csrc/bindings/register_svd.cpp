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
    svd_factored<T>(l, rt, u_view, s_view, vh_view, SvdOptions{threads});
  }
  return py::make_tuple(std::move(u), std::move(s), std::move(vh));
}

}  // namespace

void register_svd(py::module_& module) {
  using namespace py::literals;
  module.def("svd_factored", &factored<float>, "left"_a.noconvert(), "right"_a.noconvert(), "threads"_a);
  module.def("svd_factored", &factored<double>, "left"_a.noconvert(), "right"_a.noconvert(), "threads"_a);
}

}  // namespace headscan::bindings
