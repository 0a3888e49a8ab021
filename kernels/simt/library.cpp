// What libsinter_simt.so exports: the only symbol that a program sees of it.
#include "kernels/simt/module.h"

extern "C" __attribute__((visibility("default"))) const sinter::kernels::BackendModule* sinter_backend_module();
extern "C" const sinter::kernels::BackendModule* sinter_backend_module() { return &sinter::kernels::simt_module(); }
