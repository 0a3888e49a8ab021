// A table of MPI whose ranks are threads of this process, for tests without MPI.
#pragma once

#include <functional>
#include <string>

#include "train/mpi/mpi_group.h"

namespace sinter::train::testing {

/// Bytes are taken from the sender's memory when the receiver waits for them, and a sender's wait returns when all were
/// taken: who changes an operand too early gives wrong results, and a race for the thread sanitizer.
const MpiTable& threads_table();

/// Runs `rank` in `ranks` threads, in each of which an MpiGroup over threads_table() may be made.
void run_threads(int ranks, const std::function<void()>& rank);

/// The calling thread is the only rank of a job from here on. In it, the table's function `fails` ("wait"; "": none)
/// answers "MPI_Test: the cable is cut".
void be_alone(const std::string& fails);

}  // namespace sinter::train::testing
