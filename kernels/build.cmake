# How all of sinter is compiled. Stands here because kernels/ is also a project of its own.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  message(FATAL_ERROR "sinter's CPU kernels are written for x86-64; this is ${CMAKE_SYSTEM_PROCESSOR}.")
endif()

set(SINTER_SANITIZE "" CACHE STRING "Value of -fsanitize=, e.g. address,undefined or thread")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release or Debug" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
# Backends are loaded from beside the program: ours, or that of a project that takes this one in as a folder.
set(SINTER_BACKEND_FOLDER ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
if(NOT PROJECT_IS_TOP_LEVEL)
  set(SINTER_BACKEND_FOLDER ${CMAKE_BINARY_DIR})
endif()
find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

include(${CMAKE_CURRENT_LIST_DIR}/cuda/toolkit.cmake)
find_package(Threads REQUIRED)

# What every target of ours needs, and every program that uses one.
add_library(sinter_options INTERFACE)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH include_root)  # of #include "kernels/..."
target_include_directories(sinter_options INTERFACE ${include_root})
target_compile_features(sinter_options INTERFACE cxx_std_20)
target_link_libraries(sinter_options INTERFACE Threads::Threads)

# Of these folders only: a program that uses sinter has warnings of its own. nvcc's are in kernels/cuda.
set(warnings
  -Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wold-style-cast -Wnon-virtual-dtor -Woverloaded-virtual
  -Wsuggest-override -Wformat=2 -Wimplicit-fallthrough -Werror
  -Wno-missing-field-initializers)  # designated initialisers leave members to their defaults on purpose
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND warnings -Wduplicated-cond -Wlogical-op)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
if(SINTER_SANITIZE)
  add_compile_options(-fsanitize=${SINTER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  if(SINTER_SANITIZE MATCHES "thread")  # g++ 12 warns wrongly in std::variant code that it instruments
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
  add_link_options(-fsanitize=${SINTER_SANITIZE})
endif()
