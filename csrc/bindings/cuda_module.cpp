// The CUDA engine for Python: device memory comes in as an address with a shape, so no torch is linked.
#include <pybind11/stl.h>

#include <type_traits>

#include "bindings/bindings.hpp"
#include "bindings/packed.hpp"
#include "headscan/cuda.hpp"

namespace headscan::bindings {
namespace {

// A contiguous array in device memory, which belongs to somebody else; never read here.
struct DeviceArray {
  std::uintptr_t address = 0;
  std::vector<std::size_t> shape;
  std::string dtype;
};

template <class T>
constexpr const char* dtype_of() {
  if constexpr (std::is_same_v<T, float>) return "float32";
  if constexpr (std::is_same_v<T, double>) return "float64";
  if constexpr (std::is_same_v<T, std::int64_t>) return "int64";
  if constexpr (std::is_same_v<T, std::uint8_t>) return "bool";
}

std::string shown(const std::vector<std::size_t>& shape) {
  std::string text;
  for (const std::size_t side : shape) text += (text.empty() ? "" : ", ") + std::to_string(side);
  return "(" + text + ")";
}

// The address as a pointer, once the array is what the engine is going to take it for.
template <class T>
T* data_of(const DeviceArray& array, const std::vector<std::size_t>& shape, const char* name) {
  using Value = std::remove_const_t<T>;
  if (array.dtype != dtype_of<Value>() || array.shape != shape) {
    throw std::invalid_argument(std::string(name) + " must be " + dtype_of<Value>() + " of shape " + shown(shape) +
                                ", got " + array.dtype + " of " + shown(array.shape));
  }
  return reinterpret_cast<T*>(array.address);  // NOLINT(performance-no-int-to-ptr): an address is what it is
}

void expect_sides(const DeviceArray& array, std::size_t sides, const char* name) {
  if (array.shape.size() != sides) {
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(sides) + " dimensions, got " +
                                std::to_string(array.shape.size()));
  }
}

// Calls `run` with a value of the array's type, float or double.
template <class Run>
void with_type(const DeviceArray& array, const char* name, const Run& run) {
  if (array.dtype == dtype_of<float>()) return run(float{});
  if (array.dtype == dtype_of<double>()) return run(double{});
  throw std::invalid_argument(std::string(name) + " must be float32 or float64, got " + array.dtype);
}

cuda::Stream stream_of(std::uintptr_t handle) {
  return reinterpret_cast<cuda::Stream>(handle);  // NOLINT(performance-no-int-to-ptr): as torch gives it
}

// A packed dictionary on a device, and what comp() has to know of it.
struct Uploaded {
  cuda::Dictionary dictionary;
  std::size_t fit_width;
};

Uploaded upload(const Packed& packed, int device, std::size_t first, std::size_t rows, std::size_t memory_bytes) {
  const PackedDictionary view = packed.view();
  const py::gil_scoped_release unlocked;
  return {cuda::Dictionary(view, device, {first, rows, memory_bytes}), packed.fit_width};
}

bool fits(const Packed& packed, int device) { return cuda::fits(packed.layout, device); }

void comp(const DeviceArray& x, const std::vector<const Uploaded*>& parts, CompOptions options,
          const DeviceArray& indices, const DeviceArray& coefficients, const DeviceArray& certified,
          const DeviceArray& rescored, std::uintptr_t stream) {
  expect_sides(x, 2, "x");
  const std::size_t n = x.shape[0], columns = x.shape[1], k = options.k;
  const cuda::DeviceCodes codes{{data_of<std::int64_t>(indices, {n, k}, "indices"), n, k, k},
                                {data_of<double>(coefficients, {n, k}, "coefficients"), n, k, k},
                                data_of<std::uint8_t>(certified, {n}, "certified"),
                                data_of<std::int64_t>(rescored, {n}, "rescored")};
  std::vector<const cuda::Dictionary*> dictionaries;
  for (const Uploaded* part : parts) {
    dictionaries.push_back(&part->dictionary);
    options.fit_width = part->fit_width;
  }
  with_type(x, "x", [&](auto of_type) {
    using T = decltype(of_type);
    const auto* queries = data_of<const T>(x, x.shape, "x");
    const py::gil_scoped_release unlocked;
    cuda::comp<T>({queries, n, columns, columns}, dictionaries, codes, options, stream_of(stream));
  });
}

void svd_factored(const DeviceArray& left, const DeviceArray& right, const DeviceArray& u, const DeviceArray& s,
                  const DeviceArray& vh, int device, std::uintptr_t stream) {
  expect_sides(left, 3, "left");
  expect_sides(right, 3, "right");
  const std::size_t n = left.shape[0], d = left.shape[1], r = left.shape[2], e = right.shape[2];
  with_type(left, "left", [&](auto of_type) {
    using T = decltype(of_type);
    const BatchView<const T> l{data_of<const T>(left, left.shape, "left"), n, d, r};
    const BatchView<const T> rt{data_of<const T>(right, right.shape, "right"), right.shape[0], right.shape[1], e};
    const BatchView<T> u_view{data_of<T>(u, {n, d, r}, "u"), n, d, r};
    const MatrixView<T> s_view{data_of<T>(s, {n, r}, "s"), n, r, r};
    const BatchView<T> vh_view{data_of<T>(vh, {n, r, e}, "vh"), n, r, e};
    const py::gil_scoped_release unlocked;
    cuda::svd_factored<T>(l, rt, u_view, s_view, vh_view, device, stream_of(stream));
  });
}

py::list devices() {
  py::list listed;
  for (const auto& device : cuda::devices()) {
    using namespace py::literals;
    listed.append(py::dict("index"_a = device.index, "name"_a = device.name,
                           "capability"_a = py::make_tuple(device.major, device.minor),
                           "memory_bytes"_a = device.memory_bytes));
  }
  return listed;
}

void register_dictionary(py::module_& module) {
  using namespace py::literals;
  const cuda::UploadOptions standard;
  py::class_<Uploaded>(module, "Dictionary", "A packed dictionary, or some of its rows, for one device.")
      .def(py::init(&upload), "dictionary"_a, py::kw_only(), "device"_a, "first"_a = standard.first,
           "rows"_a = standard.rows, "memory_bytes"_a = standard.memory_bytes,
           "Copies rows from first on, 0 for all, and waits. Of device memory it takes at most memory_bytes, 0 for "
           "what is free; what does not fit is streamed from pinned host memory.")
      .def_property_readonly("device", [](const Uploaded& part) { return part.dictionary.device(); })
      .def_property_readonly("chunks", [](const Uploaded& part) { return part.dictionary.chunks(); })
      .def_property_readonly("nbytes", [](const Uploaded& part) { return part.dictionary.bytes(); });
  module.def("fits", &fits, "dictionary"_a, py::kw_only(), "device"_a,
             "Whether all of it would now go into the device's memory.");
}

void register_work(py::module_& module) {
  using namespace py::literals;
  py::class_<DeviceArray>(module, "DeviceArray", "A contiguous array in device memory, owned by the caller.")
      .def(py::init<std::uintptr_t, std::vector<std::size_t>, std::string>(), py::kw_only(), "address"_a, "shape"_a,
           "dtype"_a, "dtype: float32, float64, int64 or bool.");
  module.def("comp", &comp, "x"_a, "parts"_a, py::kw_only(), "options"_a, "indices"_a, "coefficients"_a,
             "certified"_a, "rescored"_a, "stream"_a = 0,
             "Enqueues comp over the parts of a dictionary; writes the last four arrays.");
  module.def("svd_factored", &svd_factored, "left"_a, "right"_a, py::kw_only(), "u"_a, "s"_a, "vh"_a, "device"_a,
             "stream"_a = 0, "Enqueues the decomposition of left[i] @ right[i]; writes u, s and vh.");
}

}  // namespace
}  // namespace headscan::bindings

PYBIND11_MODULE(_cuda, module) {
  using namespace headscan::bindings;
  module.doc() = "headscan's CUDA engine; use the functions of the headscan package instead.";
  py::module_::import("headscan.core._core");  // which registers PackedDictionary and CompOptions
  register_exceptions();
  module.def("toolkit_version", &headscan::cuda::toolkit_version);
  module.def("targets", &headscan::cuda::targets);
  module.def("devices", &devices);
  register_dictionary(module);
  register_work(module);
}
