# The CUDA toolkit: where it is, and whether the CUDA backend is built with it.
#
# It is looked for in CUDA_HOME, by the nvcc on PATH, and in /usr/local/cuda. Sets
#   SINTER_CUDA_INCLUDE_DIR   its headers, which the emulated device needs too; empty where there is no toolkit
#   SINTER_CUDART             its static runtime library
#   SINTER_BUILD_CUDA         true when the CUDA backend is built; CMake's language CUDA is then enabled
set(SINTER_CUDA AUTO CACHE STRING "The CUDA backend: AUTO (where there is a toolkit), ON or OFF")
set_property(CACHE SINTER_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT SINTER_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SINTER_CUDA is \"${SINTER_CUDA}\"; it is AUTO, ON or OFF.")
endif()
# Code for A100 and H100/H200 (with their own instructions), and PTX that the driver compiles for what came later.
set(SINTER_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual CACHE STRING "What nvcc compiles for, in CMake's notation")

find_program(SINTER_NVCC nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
mark_as_advanced(SINTER_NVCC)
set(cuda_roots $ENV{CUDA_HOME})
if(SINTER_NVCC)  # what stands on PATH may be a link or a script; nvcc itself says where its toolkit is
  execute_process(COMMAND ${SINTER_NVCC} -v --dryrun none.cu OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(said MATCHES "TOP=([^\r\n]+)")
    list(APPEND cuda_roots ${CMAKE_MATCH_1})
  endif()
endif()
find_path(SINTER_CUDA_INCLUDE_DIR cuda_fp16.h HINTS ${cuda_roots} PATHS /usr/local/cuda
          PATH_SUFFIXES include targets/x86_64-linux/include NO_DEFAULT_PATH)
find_library(SINTER_CUDART cudart_static HINTS ${cuda_roots} PATHS /usr/local/cuda
             PATH_SUFFIXES lib64 targets/x86_64-linux/lib NO_DEFAULT_PATH)
mark_as_advanced(SINTER_CUDA_INCLUDE_DIR SINTER_CUDART)

set(SINTER_BUILD_CUDA FALSE)
set(missing "")
if(NOT SINTER_CUDA_INCLUDE_DIR OR NOT SINTER_NVCC OR NOT SINTER_CUDART)
  set(missing "there is no CUDA toolkit in CUDA_HOME, on PATH or in /usr/local/cuda")
else()
  execute_process(COMMAND ${SINTER_NVCC} --version OUTPUT_VARIABLE said)
  if(NOT said MATCHES "release ([0-9]+\\.[0-9]+)" OR CMAKE_MATCH_1 VERSION_LESS 12.0)
    set(missing "${SINTER_NVCC} has release ${CMAKE_MATCH_1}, and C++20 needs 12.0")
  endif()
endif()
if(SINTER_SANITIZE)
  set(missing "nvcc knows nothing of the sanitizers")
endif()
if(missing AND SINTER_CUDA STREQUAL "ON")
  message(FATAL_ERROR "SINTER_CUDA is ON, but ${missing}.")
elseif(missing AND SINTER_CUDA STREQUAL "AUTO")
  message(STATUS "The CUDA backend is left out: ${missing}.")
elseif(NOT SINTER_CUDA STREQUAL "OFF")
  set(SINTER_BUILD_CUDA TRUE)
  set(CMAKE_CUDA_COMPILER ${SINTER_NVCC})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  set(CMAKE_CUDA_ARCHITECTURES ${SINTER_CUDA_ARCHITECTURES})
  if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  if(CMAKE_VERSION VERSION_LESS 3.25.2)  # these do not know C++20 for CUDA
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
endif()
