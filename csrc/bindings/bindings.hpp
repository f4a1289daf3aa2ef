// The binding layer validates shapes and dtypes, releases the GIL and calls the core; nothing else.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "headscan/views.hpp"

namespace headscan::bindings {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class T>
MatrixView<const T> matrix(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1)),
          static_cast<std::size_t>(array.shape(1))};
}

template <class T>
MatrixView<T> matrix_out(Array<T>& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1)),
          static_cast<std::size_t>(array.shape(1))};
}

template <class T>
BatchView<const T> batch(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1)),
          static_cast<std::size_t>(array.shape(2))};
}

template <class T>
BatchView<T> batch_out(Array<T>& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1)),
          static_cast<std::size_t>(array.shape(2))};
}

inline void expect_dimensions(const py::array& array, py::ssize_t dimensions, const char* name) {
  if (array.ndim() != dimensions) {
    throw std::invalid_argument(std::string(name) + " must have " + std::to_string(dimensions) + " dimensions, got " +
                                std::to_string(array.ndim()));
  }
}

// What the core calls every now and then, so that Ctrl-C is answered.
inline void raise_pending_signals() {
  const py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// What the core refuses, and what the system refuses it (threads, files, addresses), is headscan's own exception.
inline void register_exceptions() {
  // NOLINTNEXTLINE(performance-unnecessary-value-param): as pybind11 declares it
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    const auto raise = [](const std::exception& error) {
      const py::object type = py::module_::import("headscan.errors").attr("HeadscanError");
      py::set_error(type, error.what());
    };
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const py::builtin_exception&) {  // a runtime_error by descent, and Python's own by meaning
      throw;
    } catch (const std::invalid_argument& error) {
      raise(error);
    } catch (const std::runtime_error& error) {
      raise(error);
    }
  });
}

void register_svd(py::module_& module);
void register_comp(py::module_& module);
void register_files(py::module_& module);
void register_info(py::module_& module);

}  // namespace headscan::bindings
