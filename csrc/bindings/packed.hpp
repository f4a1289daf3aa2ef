// A packed dictionary as it comes from Python: a dict for the layout, arrays for the rest.
#pragma once

#include "bindings/bindings.hpp"
#include "headscan/comp.hpp"

namespace headscan::bindings {

inline PackedLayout layout_of(const py::dict& fields) {
  PackedLayout layout;
  layout.rows = fields["rows"].cast<std::size_t>();
  layout.width = fields["width"].cast<std::size_t>();
  layout.shift = fields["shift"].cast<int>();
  layout.largest_norm = fields["largest_norm"].cast<double>();
  return layout;
}

inline void expect_size(const py::array& array, std::size_t size, const char* name) {
  if (static_cast<std::size_t>(array.size()) != size) {
    throw std::invalid_argument(std::string(name) + " of the packed dictionary must hold " + std::to_string(size) +
                                " values, got " + std::to_string(array.size()));
  }
}

template <class Byte, class Float, class Codes, class Values>
PackedViews<Byte, Float> packed_views(const PackedLayout& layout, Float* rotation, Codes&& codes, Values&& scale,
                                      Values&& error, Values&& beyond) {
  PackedViews<Byte, Float> views;
  static_cast<PackedLayout&>(views) = layout;
  views.rotation = rotation;
  views.codes = codes;
  views.scale = scale;
  views.error = error;
  views.beyond = beyond;
  return views;
}

inline PackedDictionary packed_dictionary(const Array<float>& atoms, const py::dict& layout_fields,
                                          const Array<float>& rotation, const Array<std::uint8_t>& codes,
                                          const Array<float>& scale, const Array<float>& error,
                                          const Array<float>& beyond) {
  expect_dimensions(atoms, 2, "atoms");
  const PackedLayout layout = layout_of(layout_fields);
  expect_size(rotation, layout.width * layout.width, "rotation");
  expect_size(codes, layout.blocks() * layout.block_bytes(), "codes");
  expect_size(scale, layout.blocks() * kBlockAtoms, "scale");
  expect_size(error, layout.blocks() * kBlockAtoms, "error");
  expect_size(beyond, layout.blocks() * (kSegments - 1) * kBlockAtoms, "beyond");
  return {packed_views<const std::uint8_t, const float>(layout, rotation.data(), codes.data(), scale.data(),
                                                        error.data(), beyond.data()),
          matrix(atoms),
          {}};
}

}  // namespace headscan::bindings
