# libsinter_mpi.so, where there is an MPI to compile it with. Only this library needs MPI, at build and at run time.
set(SINTER_MPI AUTO CACHE STRING "Data parallelism over MPI: AUTO (where there is an MPI), ON or OFF")
set_property(CACHE SINTER_MPI PROPERTY STRINGS AUTO ON OFF)
if(NOT SINTER_MPI MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SINTER_MPI is \"${SINTER_MPI}\"; it is AUTO, ON or OFF.")
endif()
if(SINTER_MPI STREQUAL "OFF")
  return()
endif()

set(MPI_CXX_SKIP_MPICXX TRUE)   # its C functions only
find_package(MPI QUIET COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  set(missing "CMake finds no MPI for C++ (Debian's is libopenmpi-dev; MPI_HOME says where another is)")
  if(SINTER_MPI STREQUAL "ON")
    message(FATAL_ERROR "SINTER_MPI is ON, but ${missing}.")
  endif()
  message(STATUS "MPI is left out: ${missing}.")
  return()
endif()

add_library(sinter_mpi MODULE ${CMAKE_CURRENT_LIST_DIR}/mpi_module.cpp)
target_link_libraries(sinter_mpi PRIVATE sinter_options MPI::MPI_CXX)
# --as-needed: some compiler wrappers add libraries of MPI's C++ and Fortran bindings.
target_link_options(sinter_mpi PRIVATE -Wl,--as-needed -Wl,--version-script,${CMAKE_CURRENT_LIST_DIR}/exports.map)
set_target_properties(sinter_mpi PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/exports.map
                                            CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                                            LIBRARY_OUTPUT_DIRECTORY ${SINTER_BACKEND_FOLDER})
