// The kernels for the emulation. They are compiled so that every access to memory is told (`accesses.cpp`).

#define EMULATION
#include "kernels.cu"
#include "racing.cuh"

namespace emulation {

std::map<std::string, Kernel> &kernels() {
    static std::map<std::string, Kernel> found;
    return found;
}

}  // namespace emulation
