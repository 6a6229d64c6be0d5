// Between tensors and maps. A tensor is f32 [N, C, H, W]; a map is [N, H, W, P] of either type, with C ≤ P
// channels, zeros behind them.
#pragma once

template <typename T>
__device__ inline void to_map(const float *tensor, T *map, int images, int channels, int padded, int plane) {
    int64_t size = (int64_t)images * plane * padded;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < size; i += (int64_t)gridDim.x * blockDim.x) {
        int channel = i % padded;
        int64_t place = i / padded;
        int64_t image = place / plane;
        float value = 0;
        if (channel < channels) value = tensor[(image * channels + channel) * plane + place % plane];
        store(map + i, value);
    }
}

template <typename T>
__device__ inline void from_map(const T *map, float *tensor, int images, int channels, int padded, int plane) {
    int64_t size = (int64_t)images * plane * channels;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < size; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t image = i / plane / channels;
        int channel = i / plane % channels;
        tensor[i] = load(map[(image * plane + i % plane) * padded + channel]);
    }
}

#define DEFINE(ending, T)                                                                                      \
    KERNEL(to_map_##ending,                                                                                    \
           (const float *tensor, T *map, int images, int channels, int padded, int plane)) {                   \
        to_map(tensor, map, images, channels, padded, plane);                                                  \
    }                                                                                                          \
    KERNEL(from_map_##ending,                                                                                  \
           (const T *map, float *tensor, int images, int channels, int padded, int plane)) {                   \
        from_map(map, tensor, images, channels, padded, plane);                                                \
    }
FOR_EACH_TYPE(DEFINE)
#undef DEFINE
