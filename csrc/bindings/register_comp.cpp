#include "bindings/bindings.hpp"
#include "headscan/comp.hpp"

namespace headscan::bindings {
namespace {

void raise_pending_signals() {
  const py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

template <class T>
py::tuple encode(const Array<T>& x, const Array<float>& atoms, std::size_t k, double coherence, int threads) {
  expect_dimensions(x, 2, "x");
  expect_dimensions(atoms, 2, "atoms");
  const py::ssize_t n = x.shape(0), picks = static_cast<py::ssize_t>(k);
  Array<std::int64_t> indices({n, picks});
  Array<double> coefficients({n, picks});
  Array<std::uint8_t> certified(n);
  const CodeViews codes{matrix_out(indices), matrix_out(coefficients), certified.mutable_data()};
  const CompOptions options{k, coherence, threads, raise_pending_signals};
  const auto x_view = matrix(x);
  const auto atoms_view = matrix(atoms);
  {
    const py::gil_scoped_release unlocked;
    comp<T>(x_view, atoms_view, codes, options);
  }
  return py::make_tuple(std::move(indices), std::move(coefficients), std::move(certified));
}

}  // namespace

void register_comp(py::module_& module) {
  using namespace py::literals;
  const auto def = [&](auto function) {
    module.def("comp", function, "x"_a.noconvert(), "atoms"_a.noconvert(), "k"_a, "coherence"_a, "threads"_a);
  };
  def(&encode<float>);
  def(&encode<double>);
}

}  // namespace headscan::bindings
