// Average pooling over windows of kernel × kernel, side by side. What fills no window has no part in it.
#pragma once

// Maps have their channels in whole vectors of WIDE numbers, and fewer than 2³¹ numbers.
template <typename T>
__device__ inline void avg_pool(const T *x, T *y, int images, int height, int width, int channels, int kernel) {
    int out_height = height / kernel, out_width = width / kernel, vectors = channels / WIDE;
    int size = images * out_height * out_width * vectors;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int window = i / vectors, column = window % out_width, line = window / out_width;
        int row = line % out_height, image = line / out_height;
        const T *of = x + ((image * height + row * kernel) * width + column * kernel) * channels + i % vectors * WIDE;
        float sum[WIDE] = {};
        for (int r = 0; r < kernel; r++)
            for (int c = 0; c < kernel; c++) {
                float values[WIDE];
                load_wide(of + (r * width + c) * channels, values);
                for (int k = 0; k < WIDE; k++) sum[k] += values[k];
            }
        for (int k = 0; k < WIDE; k++) sum[k] /= kernel * kernel;
        store_wide(y + i * WIDE, sum);
    }
}

template <typename T>
__device__ inline void avg_pool_gradient(const T *dy, T *dx, int images, int height, int width, int channels,
                                         int kernel) {
    int out_height = height / kernel, out_width = width / kernel, vectors = channels / WIDE;
    int size = images * height * width * vectors;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int place = i / vectors, column = place % width / kernel, line = place / width;
        int row = line % height / kernel, image = line / height;
        float share[WIDE] = {};
        if (row < out_height && column < out_width) {
            load_wide(dy + ((image * out_height + row) * out_width + column) * channels + i % vectors * WIDE, share);
            for (int k = 0; k < WIDE; k++) share[k] /= kernel * kernel;
        }
        store_wide(dx + i * WIDE, share);
    }
}

// The sums over the lanes of a warp, given to all of them.
__device__ inline void sum_over_warp(double (&values)[WIDE]) {
    for (int k = 0; k < WIDE; k++)
        for (int mask = 16; mask > 0; mask /= 2) values[k] += __shfl_xor_sync(0xffffffff, values[k], mask);
}

// Count, mean and Σ(x − mean)² of every channel of an image: [images][3][channels]. A warp takes WIDE channels of an image.
template <typename T>
__device__ inline void moments(const T *x, float *found, int images, int plane, int channels) {
    int vectors = channels / WIDE, lane = threadIdx.x % 32, warps = gridDim.x * blockDim.x / 32;
    for (int i = (blockIdx.x * blockDim.x + threadIdx.x) / 32; i < images * vectors; i += warps) {
        int image = i / vectors, channel = i % vectors * WIDE;
        const T *of = x + image * plane * channels + channel;
        double mean[WIDE] = {}, squares[WIDE] = {};
        for (int place = lane; place < plane; place += 32) {
            float values[WIDE];
            load_wide(of + place * channels, values);
            for (int k = 0; k < WIDE; k++) mean[k] += values[k];
        }
        sum_over_warp(mean);
        for (int k = 0; k < WIDE; k++) mean[k] /= plane;
        for (int place = lane; place < plane; place += 32) {
            float values[WIDE];
            load_wide(of + place * channels, values);
            for (int k = 0; k < WIDE; k++) squares[k] += (values[k] - mean[k]) * (values[k] - mean[k]);
        }
        sum_over_warp(squares);
        float *to = found + image * 3 * channels + channel;
        for (int k = 0; k < WIDE && lane == 0; k++) {
            to[k] = plane;
            to[channels + k] = mean[k];
            to[2 * channels + k] = squares[k];
        }
    }
}

// The mean of relu(norm(x)) over the windows, as features [N][C · H/kernel · W/kernel] in the order of a flattened
// tensor [N, C, H/kernel, W/kernel].
template <typename T>
__device__ inline void features(const T *x, const float *mean, const float *scale, const float *shift, float *found,
                                int images, int height, int width, int channels, int padded, int kernel) {
    int out_height = height / kernel, out_width = width / kernel;
    int size = images * out_height * out_width * channels;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int channel = i % channels;
        int column = i / channels % out_width;
        int row = i / channels / out_width % out_height;
        int64_t image = i / channels / out_width / out_height;
        float sum = 0;
        for (int r = 0; r < kernel; r++)
            for (int c = 0; c < kernel; c++) {
                int64_t place = (image * height + row * kernel + r) * width + column * kernel + c;
                sum += relu(fmaf(scale[channel], load(x[place * padded + channel]) - mean[channel], shift[channel]));
            }
        found[((image * channels + channel) * out_height + row) * out_width + column] = sum / (kernel * kernel);
    }
}

// The gradient of `features`, masked where the ReLU is 0, with Σ g and Σ g (x − mean) of every image: [images][2][padded].
template <typename T>
__device__ inline void features_gradient(const float *gradient, const T *x, const float *mean, const float *scale,
                                         const float *shift, T *dx, float *sums, int images, int height, int width,
                                         int channels, int padded, int kernel) {
    // Places that are looked at together.
    constexpr int AHEAD = 8;
    int out_height = height / kernel, out_width = width / kernel;
    int size = images * padded;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int channel = i % padded, image = i / padded;
        double plain = 0, centred = 0;
        for (int row = 0; row < height; row++)
            // Everything is read before anything is written: a read behind a write would have to wait for it.
            for (int first = 0; first < width; first += AHEAD) {
                int64_t at = (((int64_t)image * height + row) * width + first) * padded + channel;
                int r = row / kernel;
                float apart[AHEAD], g[AHEAD];
                UNROLL
                for (int i = 0; i < AHEAD; i++) {
                    int column = first + i, c = column / kernel;
                    bool inside = column < width && channel < channels && r < out_height && c < out_width;
                    apart[i] = column < width ? load(x[at + i * padded]) - mean[channel] : 0;
                    g[i] = inside ? gradient[((image * channels + channel) * out_height + r) * out_width + c] : 0;
                }
                UNROLL
                for (int i = 0; i < AHEAD; i++) {
                    if (first + i >= width) break;
                    bool open = fmaf(scale[channel], apart[i], shift[channel]) > 0;
                    T rounded;
                    store(&rounded, open ? g[i] / (kernel * kernel) : 0);
                    dx[at + i * padded] = rounded;
                    float stored = load(rounded);
                    plain += stored;
                    centred += (double)stored * apart[i];
                }
            }
        sums[(int64_t)image * 2 * padded + channel] = plain;
        sums[(int64_t)image * 2 * padded + padded + channel] = centred;
    }
}

#define DEFINE(ending, T)                                                                                          \
    KERNEL(avg_pool_##ending,                                                                                      \
           (const T *x, T *y, int images, int height, int width, int channels, int kernel)) {                      \
        avg_pool(x, y, images, height, width, channels, kernel);                                                   \
    }                                                                                                              \
    KERNEL(avg_pool_gradient_##ending,                                                                             \
           (const T *dy, T *dx, int images, int height, int width, int channels, int kernel)) {                    \
        avg_pool_gradient(dy, dx, images, height, width, channels, kernel);                                        \
    }                                                                                                              \
    KERNEL(moments_##ending, (const T *x, float *found, int images, int plane, int channels)) {                    \
        moments(x, found, images, plane, channels);                                                                \
    }                                                                                                              \
    KERNEL(features_##ending,                                                                                      \
           (const T *x, const float *mean, const float *scale, const float *shift, float *found, int images,       \
            int height, int width, int channels, int padded, int kernel)) {                                        \
        features(x, mean, scale, shift, found, images, height, width, channels, padded, kernel);                   \
    }                                                                                                              \
    KERNEL(features_gradient_##ending,                                                                             \
           (const float *gradient, const T *x, const float *mean, const float *scale, const float *shift, T *dx,   \
            float *sums, int images, int height, int width, int channels, int padded, int kernel)) {               \
        features_gradient(gradient, x, mean, scale, shift, dx, sums, images, height, width, channels, padded,      \
                          kernel);                                                                                 \
    }
FOR_EACH_TYPE(DEFINE)
#undef DEFINE
