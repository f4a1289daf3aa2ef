#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "cpu/support/mapped_files.hpp"

namespace headscan::bindings {
namespace {

// A read-only array of bytes that unmaps the files when nothing refers to it any more.
py::array map_files(const std::vector<int>& descriptors, const std::vector<std::size_t>& bytes) {
  auto files = std::make_unique<MappedFiles>(descriptors, bytes);
  const auto* data = files->data();
  const auto size = static_cast<py::ssize_t>(files->bytes());
  const py::capsule owner(files.get(), [](void* held) { delete static_cast<MappedFiles*>(held); });
  (void)files.release();
  py::array_t<std::uint8_t> array(size, data, owner);
  array.attr("flags").attr("writeable") = false;
  return array;
}

}  // namespace

void register_files(py::module_& module) {
  using namespace py::literals;
  module.def("map_files", &map_files, "descriptors"_a, "bytes"_a);
}

}  // namespace headscan::bindings
