// One value everywhere.
#pragma once

KERNEL(fill, (float *to, float value, int size)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) to[i] = value;
}
