#include <pybind11/stl.h>

#include "bindings/bindings.hpp"
#include "headscan/info.hpp"

namespace headscan::bindings {

void register_info(py::module_& module) {
  module.def("build_info", [] {
    py::dict info;
    info["compiler"] = __VERSION__;
    info["instruction_sets"] = available_isas();
    info["instruction_set"] = active_isa();
    info["threads"] = default_threads();
    return info;
  });
}

}  // namespace headscan::bindings
