#include "cpu/row_source.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace headscan {

const float* RowSource::fetch(std::int64_t index, float* buffer) const {
  const auto row = static_cast<std::size_t>(index);
  if (files_.descriptors == nullptr) return atoms_.row(row);
  const int descriptor = files_.descriptors[row / files_.rows];
  const std::size_t bytes = atoms_.columns * sizeof(float);
  std::size_t done = 0;
  while (done < bytes) {
    const auto at =
        static_cast<off_t>(files_.offset_bytes + row % files_.rows * atoms_.stride * sizeof(float) + done);
    const ssize_t got = ::pread(descriptor, reinterpret_cast<char*>(buffer) + done, bytes - done, at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw std::runtime_error("cannot read row " + std::to_string(index) +
                               " of the dictionary: " + (got == 0 ? "the file is truncated" : std::strerror(errno)));
    }
    done += static_cast<std::size_t>(got);
  }
  return buffer;
}

void RowSource::prefetch(std::int64_t index) const {
  if (files_.descriptors != nullptr) return;
  const float* row = atoms_.row(static_cast<std::size_t>(index));
  for (std::size_t i = 0; i < atoms_.columns; i += 16) __builtin_prefetch(row + i);
}

}  // namespace headscan
