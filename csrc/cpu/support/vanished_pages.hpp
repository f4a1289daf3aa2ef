// Pages of a mapped file that can no longer be read, since somebody cut the file short or its disk fails. The system
// answers with SIGBUS, which ends a process; here the whole range becomes zeros, is marked, and a notice is given, so
// that whoever reads it ends in an error instead.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headscan {

// Watches a range of mapped pages until it is forgotten. The first call installs the handler of SIGBUS; faults of any
// other address go to the handler that was there before.
void watch_pages(std::uint8_t* data, std::size_t bytes);
void forget_pages(const std::uint8_t* data);

// Whether a page of the watched range that `data` lies in has vanished; false where none is watched there.
bool pages_vanished(const void* data);

// Sets what is called, on the thread that reads, when pages vanish; once a range.
void on_vanished_pages(void (*notice)());

}  // namespace headscan
