#include <pybind11/stl.h>

#include <utility>

#include "bindings/bindings.hpp"
#include "bindings/packed.hpp"
#include "headscan/comp.hpp"

namespace headscan::bindings {
namespace {

CompOptions comp_options(std::size_t k, double coherence, Method method, double penalty, int threads) {
  CompOptions options;
  options.k = k;
  options.coherence = coherence;
  options.method = method;
  options.penalty = penalty;
  options.threads = threads;
  options.interrupt = raise_pending_signals;
  check_options(options);
  return options;
}

// Allocates the codes, runs `search` without the GIL, and returns them with the counters.
template <class Search>
py::tuple encode(py::ssize_t n, const CompOptions& options, const Search& search) {
  const auto picks = static_cast<py::ssize_t>(options.k);
  Array<std::int64_t> indices({n, picks});
  Array<double> coefficients({n, picks});
  Array<std::uint8_t> certified(n);
  const CodeViews codes{matrix_out(indices), matrix_out(coefficients), certified.mutable_data()};
  SearchCounters counters;
  {
    const py::gil_scoped_release unlocked;
    counters = search(codes);
  }
  using namespace py::literals;
  const py::dict counted("multiply_adds"_a = counters.multiply_adds, "rescored"_a = counters.rescored,
                         "fallbacks"_a = counters.fallbacks);
  return py::make_tuple(std::move(indices), std::move(coefficients), certified.attr("view")("bool"), counted);
}

template <class T>
py::tuple encode_plain(const Array<T>& x, const Array<float>& atoms, const CompOptions& options) {
  expect_dimensions(x, 2, "x");
  expect_dimensions(atoms, 2, "atoms");
  const auto queries = matrix(x);
  const auto rows = matrix(atoms);
  return encode(x.shape(0), options, [&](const CodeViews& codes) { return comp<T>(queries, rows, codes, options); });
}

template <class T>
py::tuple encode_packed(const Array<T>& x, const Packed& dictionary, CompOptions options) {
  expect_dimensions(x, 2, "x");
  options.fit_width = dictionary.fit_width;
  const auto queries = matrix(x);
  const PackedDictionary view = dictionary.view();
  return encode(x.shape(0), options, [&](const CodeViews& codes) { return comp<T>(queries, view, codes, options); });
}

// The value as an array of just that dtype, never converted: a copy of a mapped dictionary would fill the memory.
template <class T>
Array<T> exactly(const py::object& value, const char* name) {
  if (!py::isinstance<Array<T>>(value)) {
    const auto got = py::isinstance<py::array>(value) ? py::str(value.attr("dtype")) : py::str(py::type::of(value));
    throw py::type_error(std::string(name) + " of the packed dictionary must be a contiguous array of " +
                         std::string(py::str(py::dtype::of<T>())) + ", got " + std::string(got));
  }
  return py::reinterpret_borrow<Array<T>>(value);
}

// Arrays come as objects, so that what is refused is refused by name.
Packed packed(const py::object& atoms_given, const py::object& rotation_given, const py::object& codes_given,
              const py::object& scale_given, const py::object& error_given, const py::object& beyond_given, int shift,
              double largest_norm, std::size_t fit_width, std::vector<int> descriptors, std::size_t file_rows) {
  auto atoms = exactly<float>(atoms_given, "atoms"), rotation = exactly<float>(rotation_given, "rotation");
  auto codes = exactly<std::uint8_t>(codes_given, "codes");
  auto scale = exactly<float>(scale_given, "scale"), error = exactly<float>(error_given, "error");
  auto beyond = exactly<float>(beyond_given, "beyond");
  expect_dimensions(atoms, 2, "atoms");
  const PackedLayout layout{static_cast<std::size_t>(atoms.shape(0)), static_cast<std::size_t>(atoms.shape(1)), shift,
                            largest_norm};
  check_layout(layout);
  expect_size(rotation, layout.width * layout.width, "rotation");
  expect_size(codes, layout.blocks() * layout.block_bytes(), "codes");
  expect_size(scale, layout.blocks() * kBlockAtoms, "scale");
  expect_size(error, layout.blocks() * kBlockAtoms, "error");
  expect_size(beyond, layout.blocks() * (kSegments - 1) * kBlockAtoms, "beyond");
  if (fit_width > layout.width) {
    throw std::invalid_argument("fit_width must be at most the width of the atoms, " + std::to_string(layout.width) +
                                ", got " + std::to_string(fit_width));
  }
  if (!descriptors.empty() && (file_rows == 0 || (layout.rows - 1) / file_rows >= descriptors.size())) {
    throw std::invalid_argument("the files of the packed dictionary do not hold all its rows");
  }
  return {std::move(atoms), std::move(rotation), std::move(codes),
          std::move(scale), std::move(error),    std::move(beyond),
          layout,           fit_width,           std::move(descriptors),
          file_rows};
}

py::dict pack_atoms(const Array<float>& atoms, const Array<float>& rotation, int shift, int threads) {
  expect_dimensions(atoms, 2, "atoms");
  PackedOutput out;
  out.rows = static_cast<std::size_t>(atoms.shape(0));
  out.width = static_cast<std::size_t>(atoms.shape(1));
  expect_size(rotation, out.width * out.width, "rotation");
  const auto blocks = static_cast<py::ssize_t>(out.blocks()), padded = blocks * py::ssize_t{kBlockAtoms};
  Array<std::uint8_t> codes(
      {blocks, static_cast<py::ssize_t>(out.steps()), py::ssize_t{kBlockAtoms}, py::ssize_t{4}});
  Array<float> scale(padded), error(padded), beyond(padded * py::ssize_t{kSegments - 1});
  out.rotation = rotation.data();
  out.codes = codes.mutable_data();
  out.scale = scale.mutable_data();
  out.error = error.mutable_data();
  out.beyond = beyond.mutable_data();
  const auto rows = matrix(atoms);
  PackedLayout layout;
  {
    const py::gil_scoped_release unlocked;
    layout = pack(rows, out, threads, shift, raise_pending_signals);
  }
  using namespace py::literals;
  return py::dict("codes"_a = std::move(codes), "scale"_a = std::move(scale), "error"_a = std::move(error),
                  "beyond"_a = std::move(beyond), "shift"_a = layout.shift, "largest_norm"_a = layout.largest_norm);
}

void register_options(py::module_& module) {
  using namespace py::literals;
  py::enum_<Method>(module, "Method", "How atoms are picked and their coefficients fitted.")
      .value("comp", Method::kComp)
      .value("top_k", Method::kTopK)
      .value("nearest", Method::kNearest)
      .value("mp", Method::kMp)
      .value("omp", Method::kOmp)
      .value("lasso", Method::kLasso);
  const CompOptions standard;
  py::class_<CompOptions>(module, "CompOptions", "Options of comp(), for the CPU and CUDA alike.")
      .def(py::init(&comp_options), py::kw_only(), "k"_a = standard.k, "coherence"_a = standard.coherence,
           "method"_a = standard.method, "penalty"_a = standard.penalty, "threads"_a = standard.threads,
           "k atoms a code; coherence: the weight lambda; penalty: of the lasso; threads: 0 for all.")
      .def_readonly("k", &CompOptions::k)
      .def_readonly("coherence", &CompOptions::coherence)
      .def_readonly("method", &CompOptions::method)
      .def_readonly("penalty", &CompOptions::penalty)
      .def_readonly("threads", &CompOptions::threads);
}

void register_packed(py::module_& module) {
  using namespace py::literals;
  py::class_<Packed>(module, "PackedDictionary",
                     "A packed dictionary, checked: what comp() and the CUDA engine take.")
      .def(py::init(&packed), py::kw_only(), "atoms"_a, "rotation"_a, "codes"_a, "scale"_a, "error"_a, "beyond"_a,
           "shift"_a, "largest_norm"_a, "fit_width"_a = 0, "descriptors"_a = std::vector<int>{}, "file_rows"_a = 0,
           "Arrays as headscan.PackedAtoms describes them, kept by reference. fit_width 0 is the whole width. Where "
           "descriptors are given, rows are read from these open files, file_rows in each; they stay the caller's.");
  module.def("pack", &pack_atoms, "atoms"_a.noconvert(), "rotation"_a.noconvert(), py::kw_only(),
             "shift"_a = kBestShift, "threads"_a = 0,
             "The rest of what PackedDictionary takes, for atoms (M, d) and orthonormal rotation (d, d).");
}

template <class T>
void register_type(py::module_& module) {
  using namespace py::literals;
  constexpr const char* kDoc = "Codes of the rows of x: indices, coefficients, certified, and the search's counters.";
  module.def("comp", &encode_plain<T>, "x"_a.noconvert(), "atoms"_a.noconvert(), py::kw_only(), "options"_a, kDoc);
  module.def("comp", &encode_packed<T>, "x"_a.noconvert(), "dictionary"_a, py::kw_only(), "options"_a, kDoc);
}

}  // namespace

void register_comp(py::module_& module) {
  register_options(module);
  register_packed(module);
  register_type<float>(module);
  register_type<double>(module);
}

}  // namespace headscan::bindings
