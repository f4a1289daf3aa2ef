#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "bindings/packed.hpp"
#include "headscan/comp.hpp"

namespace headscan::bindings {
namespace {

CompOptions options_of(const py::dict& choices) {
  CompOptions options;
  options.k = choices["k"].cast<std::size_t>();
  options.coherence = choices["coherence"].cast<double>();
  options.method = choices["method"].cast<Method>();
  options.penalty = choices["penalty"].cast<double>();
  options.fit_width = choices["fit_width"].cast<std::size_t>();
  options.threads = choices["threads"].cast<int>();
  options.interrupt = raise_pending_signals;
  return options;
}

// Allocates the codes, runs `call` without the GIL, and returns them with the counters.
template <class Call>
py::tuple encode(py::ssize_t n, const py::dict& choices, const Call& call) {
  const CompOptions options = options_of(choices);
  const auto picks = static_cast<py::ssize_t>(options.k);
  Array<std::int64_t> indices({n, picks});
  Array<double> coefficients({n, picks});
  Array<std::uint8_t> certified(n);
  const CodeViews codes{matrix_out(indices), matrix_out(coefficients), certified.mutable_data()};
  SearchCounters counters;
  {
    const py::gil_scoped_release unlocked;
    counters = call(codes, options);
  }
  return py::make_tuple(std::move(indices), std::move(coefficients), std::move(certified), counters.multiply_adds,
                        counters.rescored, counters.fallbacks);
}

template <class T>
py::tuple encode_plain(const Array<T>& x, const Array<float>& atoms, const py::dict& choices) {
  expect_dimensions(x, 2, "x");
  expect_dimensions(atoms, 2, "atoms");
  const auto x_view = matrix(x);
  const auto atoms_view = matrix(atoms);
  return encode(x.shape(0), choices, [&](const CodeViews& codes, const CompOptions& options) {
    return comp<T>(x_view, atoms_view, codes, options);
  });
}

template <class T>
py::tuple encode_packed(const Array<T>& x, const Array<float>& atoms, const py::dict& layout_fields,
                        const Array<float>& rotation, const Array<std::uint8_t>& codes, const Array<float>& scale,
                        const Array<float>& error, const Array<float>& beyond, const std::vector<int>& descriptors,
                        std::size_t file_rows, std::size_t offset_bytes, const py::dict& choices) {
  expect_dimensions(x, 2, "x");
  PackedDictionary dictionary = packed_dictionary(atoms, layout_fields, rotation, codes, scale, error, beyond);
  if (!descriptors.empty() && (file_rows == 0 || (dictionary.packed.rows - 1) / file_rows >= descriptors.size())) {
    throw std::invalid_argument("the files of the packed dictionary do not hold all its rows");
  }
  dictionary.files = {descriptors.empty() ? nullptr : descriptors.data(), file_rows, offset_bytes};
  const auto x_view = matrix(x);
  return encode(x.shape(0), choices, [&](const CodeViews& views, const CompOptions& options) {
    return comp<T>(x_view, dictionary, views, options);
  });
}

py::tuple pack_atoms(const Array<float>& atoms, const Array<float>& rotation, int threads, int shift) {
  expect_dimensions(atoms, 2, "atoms");
  PackedLayout layout;
  layout.rows = static_cast<std::size_t>(atoms.shape(0));
  layout.width = static_cast<std::size_t>(atoms.shape(1));
  expect_size(rotation, layout.width * layout.width, "rotation");
  const auto blocks = static_cast<py::ssize_t>(layout.blocks()), padded = blocks * py::ssize_t{kBlockAtoms};
  Array<std::uint8_t> codes(
      {blocks, static_cast<py::ssize_t>(layout.steps()), py::ssize_t{kBlockAtoms}, py::ssize_t{4}});
  Array<float> scale(padded), error(padded), beyond(padded * py::ssize_t{kSegments - 1}), kept_rotation(rotation);
  const auto views =
      packed_views<std::uint8_t, float>(layout, kept_rotation.mutable_data(), codes.mutable_data(),
                                        scale.mutable_data(), error.mutable_data(), beyond.mutable_data());
  const auto atoms_view = matrix(atoms);
  {
    const py::gil_scoped_release unlocked;
    layout = pack(atoms_view, views, threads, shift, raise_pending_signals);
  }
  py::dict fields;
  fields["rows"] = layout.rows;
  fields["width"] = layout.width;
  fields["shift"] = layout.shift;
  fields["largest_norm"] = layout.largest_norm;
  return py::make_tuple(std::move(fields), std::move(codes), std::move(scale), std::move(error), std::move(beyond));
}

}  // namespace

void register_comp(py::module_& module) {
  using namespace py::literals;
  py::enum_<Method>(module, "Method")
      .value("comp", Method::kComp)
      .value("top_k", Method::kTopK)
      .value("nearest", Method::kNearest)
      .value("mp", Method::kMp)
      .value("omp", Method::kOmp)
      .value("lasso", Method::kLasso);
  const auto plain = [&](auto function) {
    module.def("comp", function, "x"_a.noconvert(), "atoms"_a.noconvert(), "options"_a);
  };
  plain(&encode_plain<float>);
  plain(&encode_plain<double>);
  const auto packed = [&](auto function) {
    module.def("comp_packed", function, "x"_a.noconvert(), "atoms"_a.noconvert(), "layout"_a,
               "rotation"_a.noconvert(), "codes"_a.noconvert(), "scale"_a.noconvert(), "error"_a.noconvert(),
               "beyond"_a.noconvert(), "descriptors"_a, "file_rows"_a, "offset_bytes"_a, "options"_a);
  };
  packed(&encode_packed<float>);
  packed(&encode_packed<double>);
  module.def("pack", &pack_atoms, "atoms"_a.noconvert(), "rotation"_a.noconvert(), "threads"_a,
             "shift"_a = kBestShift);
}

}  // namespace headscan::bindings
