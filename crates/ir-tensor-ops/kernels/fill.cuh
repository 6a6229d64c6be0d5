// One value everywhere.
#pragma once

KERNEL(fill, (float *to, float value, int size)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) to[i] = value;
}

// bfloat16 as f32, in place of what was there or added to it.
KERNEL(widen, (const bf16 *from, float *to, int size, int add)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)
        to[i] = add ? to[i] + load(from[i]) : load(from[i]);
}
