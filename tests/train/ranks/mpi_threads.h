// A table of MPI whose ranks are threads of this process, for tests without MPI.
#pragma once

#include <functional>
#include <string>

#include "train/ranks/mpi/mpi_group.h"

namespace sinter::train::testing {

/// Bytes go over when the receiver waits for them, and in every other exchange also as early as they can; a sender's
/// wait returns when all were taken. Who changes what is sent too early, or uses the place of what arrives too long,
/// gets wrong results, and a race that the thread sanitizer finds. Who does not wait gets an error at the end.
const MpiTable& threads_table();

/// Runs `rank` in `ranks` threads, in each of which an MpiGroup over threads_table() may be made. What it throws is a
/// failure of the test.
void run_threads(int ranks, const std::function<void()>& rank);

/// The calling thread is the only rank of a job from here on. In it, the table's function `fails` ("wait"; "": none)
/// answers "MPI_Test: the cable is cut".
void be_alone(const std::string& fails);

}  // namespace sinter::train::testing
