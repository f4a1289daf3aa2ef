// Files mapped into memory one after another, as if they were one: a dictionary in shards reads as one array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headscan {

class MappedFiles {
 public:
  // The first `bytes[i]` bytes of each open file, read-only; the descriptors may be closed afterwards. Every file but
  // the last must fill whole pages. Throws std::invalid_argument where it does not, or a file is shorter than that,
  // std::runtime_error where one cannot be mapped. Pages that vanish later read as zeros: see vanished_pages.hpp.
  MappedFiles(const std::vector<int>& descriptors, const std::vector<std::size_t>& bytes);
  ~MappedFiles();
  MappedFiles(const MappedFiles&) = delete;
  MappedFiles& operator=(const MappedFiles&) = delete;

  const std::uint8_t* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void map(const std::vector<int>& descriptors, const std::vector<std::size_t>& bytes);

  std::uint8_t* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace headscan
