#include <exception>

#include "bindings/bindings.hpp"

PYBIND11_MODULE(_core, module) {
  (void)std::uncaught_exceptions();  // allocated for this thread while there is memory: see cpu/support/parallel.cpp
  module.doc() = "headscan's compiled core; use the functions of the headscan package instead.";
  headscan::bindings::register_exceptions();
  headscan::bindings::register_svd(module);
  headscan::bindings::register_comp(module);
  headscan::bindings::register_files(module);
  headscan::bindings::register_info(module);
}
