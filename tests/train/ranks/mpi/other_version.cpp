// A module that was built for another version of sinter. Whatever lies behind its first field is not looked at.
#include "train/ranks/mpi/mpi_table.h"

extern "C" __attribute__((visibility("default"))) const sinter::train::MpiTable* sinter_mpi_table();
extern "C" const sinter::train::MpiTable* sinter_mpi_table() {
  static constexpr sinter::train::MpiTable table = {.abi = 999};
  return &table;
}
