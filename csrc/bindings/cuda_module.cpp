// The CUDA engine for Python: pointers and a stream come in as integers, so no torch is linked.
#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "bindings/packed.hpp"
#include "headscan/cuda.hpp"

namespace headscan::bindings {
namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);  // NOLINT: the address of device memory, never read here
}

py::list devices() {
  py::list found;
  for (const auto& device : cuda::devices()) {
    py::dict fields;
    fields["index"] = device.index;
    fields["name"] = device.name;
    fields["capability"] = py::make_tuple(device.major, device.minor);
    fields["memory_bytes"] = device.memory_bytes;
    found.append(std::move(fields));
  }
  return found;
}

cuda::Dictionary upload(const Array<float>& atoms, const py::dict& layout, const Array<float>& rotation,
                        const Array<std::uint8_t>& codes, const Array<float>& scale, const Array<float>& error,
                        const Array<float>& beyond, int device, std::size_t first, std::size_t rows,
                        std::size_t memory_bytes) {
  const auto dictionary = packed_dictionary(atoms, layout, rotation, codes, scale, error, beyond);
  const py::gil_scoped_release unlocked;
  return cuda::Dictionary(dictionary, device, {first, rows, memory_bytes});
}

bool fits(const py::dict& layout, int device) { return cuda::fits(layout_of(layout), device); }

// x (n, columns), contiguous; indices, coefficients (n, k), certified, rescored (n).
template <class T>
void comp(std::uintptr_t x, std::size_t n, std::size_t columns, const std::vector<const cuda::Dictionary*>& parts,
          std::size_t k, double coherence, std::size_t fit_width, std::uintptr_t indices, std::uintptr_t coefficients,
          std::uintptr_t certified, std::uintptr_t rescored, std::uintptr_t stream) {
  CompOptions options;
  options.k = k;
  options.coherence = coherence;
  options.fit_width = fit_width;
  const cuda::DeviceCodes codes{{pointer<std::int64_t>(indices), n, k, k},
                                {pointer<double>(coefficients), n, k, k},
                                pointer<std::uint8_t>(certified),
                                pointer<std::int64_t>(rescored)};
  const py::gil_scoped_release unlocked;
  cuda::comp<T>({pointer<const T>(x), n, columns, columns}, parts, codes, options, pointer<void>(stream));
}

// left (n, d, r), right (n, r, e) -> u (n, d, r), s (n, r), vh (n, r, e), all contiguous.
template <class T>
void svd_factored(std::uintptr_t left, std::uintptr_t right, std::size_t n, std::size_t d, std::size_t r,
                  std::size_t e, std::uintptr_t u, std::uintptr_t s, std::uintptr_t vh, int device,
                  std::uintptr_t stream) {
  const py::gil_scoped_release unlocked;
  cuda::svd_factored<T>({pointer<const T>(left), n, d, r}, {pointer<const T>(right), n, r, e},
                        {pointer<T>(u), n, d, r}, {pointer<T>(s), n, r, r}, {pointer<T>(vh), n, r, e}, device,
                        pointer<void>(stream));
}

template <class T>
void register_type(py::module_& module, const std::string& suffix) {
  module.def(("comp_" + suffix).c_str(), &comp<T>);
  module.def(("svd_factored_" + suffix).c_str(), &svd_factored<T>);
}

}  // namespace
}  // namespace headscan::bindings

PYBIND11_MODULE(_cuda, module) {
  using namespace headscan::bindings;
  module.doc() = "headscan's CUDA engine; use the functions of the headscan package instead.";
  register_exceptions();
  module.def("toolkit_version", &headscan::cuda::toolkit_version);
  module.def("targets", &headscan::cuda::targets);
  module.def("devices", &devices);
  module.def("fits", &fits);
  py::class_<headscan::cuda::Dictionary>(module, "Dictionary")
      .def(py::init(&upload))
      .def_property_readonly("device", &headscan::cuda::Dictionary::device)
      .def_property_readonly("chunks", &headscan::cuda::Dictionary::chunks)
      .def_property_readonly("nbytes", &headscan::cuda::Dictionary::bytes);
  register_type<float>(module, "float32");
  register_type<double>(module, "float64");
}
