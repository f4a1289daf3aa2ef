#include "cpu/support/mapped_files.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>

#include "cpu/support/vanished_pages.hpp"

namespace headscan {
namespace {

void check_sizes(const std::vector<int>& descriptors, const std::vector<std::size_t>& bytes) {
  if (descriptors.size() != bytes.size() || descriptors.empty()) {
    throw std::invalid_argument("mapped files need one size each, and at least one file");
  }
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == 0 || (i + 1 < bytes.size() && bytes[i] % page != 0)) {
      throw std::invalid_argument("mapped file " + std::to_string(i) + " must fill whole pages of " +
                                  std::to_string(page) + " bytes, got " + std::to_string(bytes[i]));
    }
    struct stat status = {};
    if (::fstat(descriptors[i], &status) != 0 || static_cast<std::size_t>(status.st_size) < bytes[i]) {
      throw std::invalid_argument("file " + std::to_string(i) + " of the dictionary is truncated");
    }
  }
}

[[noreturn]] void fail(const std::string& what) {
  if (errno == ENOMEM) throw std::bad_alloc();
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

}  // namespace

MappedFiles::MappedFiles(const std::vector<int>& descriptors, const std::vector<std::size_t>& bytes) {
  check_sizes(descriptors, bytes);
  bytes_ = std::accumulate(bytes.begin(), bytes.end(), std::size_t{0});
  void* reserved = ::mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) fail("cannot reserve addresses");
  data_ = static_cast<std::uint8_t*>(reserved);
  try {
    map(descriptors, bytes);
    watch_pages(data_, bytes_);
  } catch (...) {
    ::munmap(data_, bytes_);
    throw;
  }
}

void MappedFiles::map(const std::vector<int>& descriptors, const std::vector<std::size_t>& bytes) {
  std::size_t at = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (::mmap(data_ + at, bytes[i], PROT_READ, MAP_SHARED | MAP_FIXED, descriptors[i], 0) == MAP_FAILED) {
      fail("cannot map file " + std::to_string(i));
    }
    at += bytes[i];
  }
}

MappedFiles::~MappedFiles() {
  forget_pages(data_);
  ::munmap(data_, bytes_);
}

}  // namespace headscan
