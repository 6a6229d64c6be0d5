// Batches from a data set that lies on the device: translated, mirrored, normalised.
#pragma once

// Where batch `batch[0]` begins among the `length` samples of an epoch; what is taken behind the last one is not used.
__device__ inline int64_t first_sample(const int *batch, int count, int length) {
    int64_t first = (int64_t)batch[0] * count;
    return first + count <= length ? first : 0;
}

// The images of batch `batch[0]` of an epoch as a map [N, side, side, padded]. `order` are the samples of the epoch;
// `changes` says for each what happens to it: the first row and column of the crop from the image with `border`
// black pixels around it, in the lowest two bytes, and whether it is mirrored, in the third. `lookup` [channels][256]
// are the normalised values of a byte.
template <typename T>
__device__ inline void take_images(const uint8_t *images, const float *lookup, const uint32_t *order,
                                   const uint32_t *changes, const int *batch, int count, int length, int channels,
                                   int padded, int side, int border, T *map) {
    int plane = side * side;
    int64_t size = (int64_t)count * plane * padded;
    int64_t first = first_sample(batch, count, length);
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < size; i += (int64_t)gridDim.x * blockDim.x) {
        int channel = i % padded;
        int64_t place = i / padded;
        int64_t image = place / plane;
        float value = 0;
        if (channel < channels) {
            uint32_t change = changes[first + image];
            int row = place % plane / side, column = place % side;
            if (change >> 16 & 1) column = side - 1 - column;
            row += (int)(change & 255) - border;
            column += (int)(change >> 8 & 255) - border;
            int byte = 0;
            if (row >= 0 && row < side && column >= 0 && column < side)
                byte = images[((int64_t)order[first + image] * channels + channel) * plane + row * side + column];
            value = lookup[channel * 256 + byte];
        }
        store(map + i, value);
    }
}

#define DEFINE(ending, T)                                                                                          \
    KERNEL(take_images_##ending, (const uint8_t *images, const float *lookup, const uint32_t *order,               \
                                  const uint32_t *changes, const int *batch, int count, int length, int channels,  \
                                  int padded, int side, int border, T *map)) {                                     \
        take_images(images, lookup, order, changes, batch, count, length, channels, padded, side, border, map);    \
    }
FOR_EACH_TYPE(DEFINE)
#undef DEFINE

// The labels of the same batch.
KERNEL(take_labels, (const uint32_t *labels, const uint32_t *order, const int *batch, int count, int length,
                     uint32_t *taken)) {
    int64_t first = first_sample(batch, count, length);
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        taken[i] = labels[order[first + i]];
}
