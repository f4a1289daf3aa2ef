// What this build holds and what this machine runs.
#pragma once

#include <string>
#include <vector>

namespace headscan {

// Instruction sets compiled in and supported here, best first, by the names that HEADSCAN_ISA takes.
std::vector<std::string> available_isas();

// The instruction set in use: HEADSCAN_ISA where set, else the best. Throws std::invalid_argument on a name
// that is unknown or cannot run here.
std::string active_isa();

// HEADSCAN_NUM_THREADS where set, else the number of hardware threads this process may use.
int default_threads();

}  // namespace headscan
