// All kernels, as one unit of compilation.
#include "common.cuh"
#include "fill.cuh"
#include "layout.cuh"
#include "norm.cuh"
#include "images.cuh"
#include "pool.cuh"
#include "classifier.cuh"
#include "step.cuh"
