// Operations on tensors [N, C, H, W] of f32, as they lie: the places of a channel side by side.
#pragma once

// What becomes of two numbers.
enum { ADD, RELU, RELU_GRADIENT };

// One of these for every number: x + y; max(x, 0), where y plays no part; and y where x > 0, as the gradient of x is.
// A NaN of x stays one, or lets the gradient pass.
KERNEL(elementwise, (const float *x, const float *y, float *z, int size, int what)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        float at = x[i];
        if (what == ADD) z[i] = at + y[i];
        if (what == RELU) z[i] = at < 0 ? 0 : at;
        if (what == RELU_GRADIENT) z[i] = at <= 0 ? 0 : y[i];
    }
}
