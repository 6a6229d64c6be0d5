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
    int plane = side * side, places = count * plane;
    int64_t first = first_sample(batch, count, length);
    for (int place = blockIdx.x * blockDim.x + threadIdx.x; place < places; place += gridDim.x * blockDim.x) {
        int image = place / plane, row = place % plane / side, column = place % side;
        uint32_t change = changes[first + image];
        if (change >> 16 & 1) column = side - 1 - column;
        row += (int)(change & 255) - border;
        column += (int)(change >> 8 & 255) - border;
        bool inside = row >= 0 && row < side && column >= 0 && column < side;
        const uint8_t *from = images + (int64_t)order[first + image] * channels * plane + row * side + column;
        for (int channel = 0; channel < padded; channel += WIDE) {
            float values[WIDE];
            for (int k = 0; k < WIDE; k++) {
                int of = channel + k, byte = inside && of < channels ? from[of * plane] : 0;
                values[k] = of < channels ? lookup[of * 256 + byte] : 0;
            }
            store_wide(map + (int64_t)place * padded + channel, values);
        }
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
