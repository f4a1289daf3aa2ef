#include "cpu/search/row_source.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace headscan {

const float* RowSource::fetch(std::int64_t index, float* buffer) const {
  if (files_.descriptors == nullptr) return atoms_.row(static_cast<std::size_t>(index));
  const Place location = find(index);
  const std::size_t bytes = atoms_.columns * sizeof(float);
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(location.descriptor, reinterpret_cast<char*>(buffer) + done, bytes - done,
                                location.offset + static_cast<off_t>(done));
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

void RowSource::announce(const std::vector<std::int64_t>& indices) const {
  if (files_.descriptors == nullptr) return;
  for (const std::int64_t index : indices) {
    const Place location = find(index);
    (void)::posix_fadvise(location.descriptor, location.offset, static_cast<off_t>(atoms_.columns * sizeof(float)),
                          POSIX_FADV_WILLNEED);
  }
}

RowSource::Place RowSource::find(std::int64_t index) const {
  const auto row = static_cast<std::size_t>(index);
  return {files_.descriptors[row / files_.rows],
          static_cast<off_t>(files_.offset_bytes + row % files_.rows * atoms_.stride * sizeof(float))};
}

}  // namespace headscan
