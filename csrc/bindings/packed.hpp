// A packed dictionary as Python holds it: checked once, when it is made, and handed as one thing to _core and _cuda.
#pragma once

#include <vector>

#include "bindings/bindings.hpp"
#include "headscan/comp.hpp"

namespace headscan::bindings {

struct Packed {
  Array<float> atoms, rotation;
  Array<std::uint8_t> codes;
  Array<float> scale, error, beyond;
  PackedLayout layout;
  std::size_t fit_width = 0;
  std::vector<int> descriptors;
  std::size_t file_rows = 0;

  // Valid as long as this is. Reads no Python object's state, so it may run without the GIL.
  PackedDictionary view() const {
    PackedDictionary whole;
    static_cast<PackedLayout&>(whole.packed) = layout;
    whole.packed.rotation = rotation.data();
    whole.packed.codes = codes.data();
    whole.packed.scale = scale.data();
    whole.packed.error = error.data();
    whole.packed.beyond = beyond.data();
    whole.atoms = matrix(atoms);
    whole.files = {descriptors.empty() ? nullptr : descriptors.data(), file_rows, 0};
    return whole;
  }
};

inline void expect_size(const py::array& array, std::size_t size, const char* name) {
  if (static_cast<std::size_t>(array.size()) != size) {
    throw std::invalid_argument(std::string(name) + " of the packed dictionary must hold " + std::to_string(size) +
                                " values, got " + std::to_string(array.size()));
  }
}

}  // namespace headscan::bindings
