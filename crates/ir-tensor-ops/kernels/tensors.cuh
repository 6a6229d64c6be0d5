// Operations on tensors [N, C, H, W] of f32, as they lie: the places of a channel side by side.
#pragma once

// What becomes of two numbers.
enum { ADD, RELU, RELU_GRADIENT, COPY };

// One of these for every number: x + y; max(x, 0); y where x > 0, as the gradient of x is; and x. A NaN of x stays
// one, or lets the gradient pass.
KERNEL(elementwise, (const float *x, const float *y, float *z, int size, int what)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        float at = x[i];
        if (what == ADD) z[i] = at + y[i];
        if (what == RELU) z[i] = at < 0 ? 0 : at;
        if (what == RELU_GRADIENT) z[i] = at <= 0 ? 0 : y[i];
        if (what == COPY) z[i] = at;
    }
}

// The norm of every number of channel `i / plane % channels`, a = scale · (x − mean) + shift,
// with or without the ReLU behind it.
KERNEL(normalize, (const float *x, const float *mean, const float *scale, const float *shift, float *y, int size,
                   int channels, int plane, int relu)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int channel = i / plane % channels;
        float a = fmaf(scale[channel], x[i] - mean[channel], shift[channel]);
        y[i] = relu && a <= 0 ? 0 : a;
    }
}

constexpr int PLANE_THREADS = 128;

// What passes the ReLU of `gradient`, or all of it, with Σ g and Σ g (x − mean) of every plane, [images][2][padded]:
// a block for each plane.
KERNEL(normalize_gradient,
       (const float *gradient, const float *x, const float *mean, const float *scale, const float *shift, float *dx,
        float *sums, int channels, int padded, int plane, int relu)) {
    __shared__ double room[PLANE_THREADS];
    int channel = blockIdx.x % channels, image = blockIdx.x / channels;
    int64_t first = (int64_t)blockIdx.x * plane;
    double plain = 0, centred = 0;
    for (int i = threadIdx.x; i < plane; i += PLANE_THREADS) {
        float apart = x[first + i] - mean[channel];
        bool closed = relu && fmaf(scale[channel], apart, shift[channel]) <= 0;
        float g = closed ? 0 : gradient[first + i];
        dx[first + i] = g;
        plain += g;
        centred += (double)g * apart;
    }
    plain = block_sum(plain, room, PLANE_THREADS);
    centred = block_sum(centred, room, PLANE_THREADS);
    if (threadIdx.x == 0) {
        sums[(int64_t)image * 2 * padded + channel] = plain;
        sums[(int64_t)image * 2 * padded + padded + channel] = centred;
    }
}

// dx ← scale · dx + slope · (x − mean) + offset.
KERNEL(planes_through_norm, (float *dx, const float *x, const float *mean, const float *scale, const float *slope,
                             const float *offset, int size, int channels, int plane)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int channel = i / plane % channels;
        dx[i] = fmaf(scale[channel], dx[i], fmaf(slope[channel], x[i] - mean[channel], offset[channel]));
    }
}

// Count, mean and Σ(x − mean)² of every plane, [images][3][padded]: a block for each plane.
KERNEL(plane_moments, (const float *x, float *found, int channels, int padded, int plane)) {
    __shared__ double room[PLANE_THREADS];
    int channel = blockIdx.x % channels, image = blockIdx.x / channels;
    const float *of = x + (int64_t)blockIdx.x * plane;
    double sum = 0, squares = 0;
    for (int i = threadIdx.x; i < plane; i += PLANE_THREADS) sum += of[i];
    double mean = block_sum(sum, room, PLANE_THREADS) / plane;
    for (int i = threadIdx.x; i < plane; i += PLANE_THREADS) squares += (of[i] - mean) * (of[i] - mean);
    squares = block_sum(squares, room, PLANE_THREADS);
    if (threadIdx.x == 0) {
        float *to = found + (int64_t)image * 3 * padded + channel;
        to[0] = plane;
        to[padded] = mean;
        to[2 * padded] = squares;
    }
}
