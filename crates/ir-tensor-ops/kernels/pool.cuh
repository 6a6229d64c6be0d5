// Average pooling over windows of kernel × kernel, side by side. What fills no window has no part in it.
#pragma once

template <typename T>
__device__ inline void avg_pool(const T *x, T *y, int images, int height, int width, int channels, int kernel) {
    int out_height = height / kernel, out_width = width / kernel;
    int64_t size = (int64_t)images * out_height * out_width * channels;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < size; i += (int64_t)gridDim.x * blockDim.x) {
        int channel = i % channels;
        int column = i / channels % out_width;
        int row = i / channels / out_width % out_height;
        int64_t image = i / channels / out_width / out_height;
        float sum = 0;
        for (int r = 0; r < kernel; r++)
            for (int c = 0; c < kernel; c++)
                sum += load(x[((image * height + row * kernel + r) * width + column * kernel + c) * channels + channel]);
        store(y + i, sum / (kernel * kernel));
    }
}

template <typename T>
__device__ inline void avg_pool_gradient(const T *dy, T *dx, int images, int height, int width, int channels,
                                         int kernel) {
    int out_height = height / kernel, out_width = width / kernel;
    int64_t size = (int64_t)images * height * width * channels;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < size; i += (int64_t)gridDim.x * blockDim.x) {
        int channel = i % channels;
        int column = i / channels % width / kernel;
        int row = i / channels / width % height / kernel;
        int64_t image = i / channels / width / height;
        float share = 0;
        if (row < out_height && column < out_width)
            share = load(dy[((image * out_height + row) * out_width + column) * channels + channel]) / (kernel * kernel);
        store(dx + i, share);
    }
}

// Count, mean and Σ(x − mean)² of every channel of an image: [images][3][channels].
template <typename T>
__device__ inline void moments(const T *x, float *found, int images, int plane, int channels) {
    int size = images * channels;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int channel = i % channels, image = i / channels;
        const T *of = x + (int64_t)image * plane * channels + channel;
        double sum = 0, squares = 0;
        for (int place = 0; place < plane; place++) sum += load(of[(int64_t)place * channels]);
        double mean = sum / plane;
        for (int place = 0; place < plane; place++) {
            double apart = load(of[(int64_t)place * channels]) - mean;
            squares += apart * apart;
        }
        float *to = found + (int64_t)image * 3 * channels + channel;
        to[0] = plane;
        to[channels] = mean;
        to[2 * channels] = squares;
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
    int out_height = height / kernel, out_width = width / kernel;
    int size = images * padded;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        int channel = i % padded, image = i / padded;
        double plain = 0, centred = 0;
        for (int row = 0; row < height; row++)
            for (int column = 0; column < width; column++) {
                int64_t at = (((int64_t)image * height + row) * width + column) * padded + channel;
                int r = row / kernel, c = column / kernel;
                float g = 0, apart = load(x[at]) - mean[channel];
                bool open = fmaf(scale[channel], apart, shift[channel]) > 0;
                if (channel < channels && r < out_height && c < out_width && open)
                    g = gradient[(((int64_t)image * channels + channel) * out_height + r) * out_width + c] /
                        (kernel * kernel);
                store(dx + at, g);
                g = load(dx[at]);
                plain += g;
                centred += (double)g * apart;
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
