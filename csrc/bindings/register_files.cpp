#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "cpu/support/mapped_files.hpp"
#include "cpu/support/vanished_pages.hpp"

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

bool is_intact(const py::array& mapped) { return !pages_vanished(mapped.data()); }

// Runs in the main thread as soon as it runs Python again.
int raise_vanished(void*) {
  try {
    py::set_error(py::module_::import("headscan.errors").attr("HeadscanError"),
                  "a file of a dictionary was cut short while it was in use, or can no longer be read: what was "
                  "computed meanwhile is wrong, build the dictionary again");
  } catch (py::error_already_set& error) {
    error.restore();
  }
  return -1;
}

}  // namespace

void register_files(py::module_& module) {
  using namespace py::literals;
  module.def("map_files", &map_files, "descriptors"_a, "bytes"_a);
  module.def("is_intact", &is_intact, "mapped"_a);
  on_vanished_pages([] { Py_AddPendingCall(&raise_vanished, nullptr); });
}

}  // namespace headscan::bindings
