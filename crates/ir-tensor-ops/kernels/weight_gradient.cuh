// The gradients of a convolution with regard to weights and bias:
//
//     dw[o][tap][i] = Σ_places dy[place][o] · a[place of the tap][i],    a = relu(norm(x)), zero outside of x,
//     db[o] = Σ_places dy[place][o].
//
// A warp has the sums of all taps for 16 channels o and 16 channels i, and goes along the places, 16 at a time, in
// shared memory, where `load_tile` has brought them once for all taps. The warps of a block share the channels of the
// block if it has 32 by 32, and the places otherwise; blocks share the channels of the maps and the tiles of the
// places. So a number of the result is a sum over the tiles of a block in order, over the warps that share them in
// order, and over the blocks in the order of `sum_parts`.
#pragma once

__device__ inline float4 added(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

template <typename T, int K, int CHANNELS>
struct WeightGradient {
    static constexpr int THREADS = 256, TAPS = K * K;
    // Pieces of 16 by 16 channels, and the warps that share the places of one.
    static constexpr int SIDE = CHANNELS / 16, PIECES = SIDE * SIDE, SHARERS = THREADS / 32 / PIECES;
    static constexpr int PITCH = CHANNELS + Fragment<T>::PAD;
    static constexpr int VECTORS = CHANNELS / WIDE;
    // Reads of x that are under way at a time, as far as registers last.
    static constexpr int AHEAD = sizeof(T) == 4 ? 2 : CHANNELS == 16 ? 3 : 4;

    // 16 places more, from `place` on: sums[tap][two of 8 channels i].
    static __device__ void multiply_places(float (&sums)[TAPS][2][4], const bf16 *gradient, const bf16 *a,
                                           const int *starts, int columns, int place, int lane) {
        uint32_t of_gradient[4];
        load_matrices<true>(of_gradient,
                            gradient + (place + lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8);
        const bf16 *row = a + starts[place + lane % 16] * PITCH + lane / 16 * 8;
        UNROLL
        for (int tap = 0; tap < TAPS; tap++) {
            uint32_t of_a[4];
            load_matrices<true>(of_a, row + (tap / K * columns + tap % K) * PITCH);
            multiply(sums[tap][0], of_gradient, of_a[0], of_a[1]);
            multiply(sums[tap][1], of_gradient, of_a[2], of_a[3]);
        }
    }

    static __device__ void multiply_places(float (&sums)[TAPS][2][4], const float *gradient, const float *a,
                                           const int *starts, int columns, int place, int lane) {
        UNROLL_BY(1)
        for (int i = 0; i < 16; i++) {
            const float *of_gradient = gradient + (place + i) * PITCH + lane / 4;
            const float g[2] = {of_gradient[0], of_gradient[8]};
            const float *row = a + starts[place + i] * PITCH + lane % 4 * 2;
            UNROLL
            for (int tap = 0; tap < TAPS; tap++)
                UNROLL
                for (int n = 0; n < 2; n++) {
                    float2 of_a = *(const float2 *)(row + (tap / K * columns + tap % K) * PITCH + n * 8);
                    UNROLL
                    for (int half = 0; half < 2; half++) {
                        sums[tap][n][half * 2] = fmaf(g[half], of_a.x, sums[tap][n][half * 2]);
                        sums[tap][n][half * 2 + 1] = fmaf(g[half], of_a.y, sums[tap][n][half * 2 + 1]);
                    }
                }
        }
    }

    // The gradient at the places of a tile, `places` of them with those behind its end, begins its way to shared memory, as
    // [place][PITCH]; zeros where the tile is outside of the map.
    static __device__ void begin_gradient(const T *gradient, const Sizes &sizes, const Tile &tile, int channel,
                                          int places, T *to) {
        constexpr int PER_COPY = 16 / sizeof(T);
        int of_place = threadIdx.x % VECTORS * WIDE;
        if (channel + of_place < sizes.target_channels) {
            UNROLL_BY(1)
            for (int index = threadIdx.x / VECTORS; index < places; index += THREADS / VECTORS) {
                int place = target_place(sizes, tile, index);
                const T *from = gradient + place * sizes.target_channels + channel + of_place;
                T *at = to + index * PITCH + of_place;
                if (place < 0)
                    *(Wide<T> *)at = Wide<T>{};
                else
                    for (int i = 0; i < WIDE; i += PER_COPY) begin_copy(at + i, from + i);
            }
        }
        end_group();
    }

    // Waits for what this thread has brought of the gradient, and adds it to the thread's sums for the bias.
    static __device__ void add_to_bias(const T *gradient, const Sizes &sizes, int channel, int places, float *bias) {
        int of_place = threadIdx.x % VECTORS * WIDE;
        wait_for_groups<0>();
        if (channel + of_place >= sizes.target_channels) return;
        float4 *of_bias = (float4 *)bias + threadIdx.x, low = of_bias[0], high = of_bias[THREADS];
        UNROLL_BY(2)
        for (int index = threadIdx.x / VECTORS; index < places; index += THREADS / VECTORS) {
            float values[WIDE];
            load_wide(gradient + index * PITCH + of_place, values);
            low = added(low, make_float4(values[0], values[1], values[2], values[3]));
            high = added(high, make_float4(values[4], values[5], values[6], values[7]));
        }
        of_bias[0] = low, of_bias[THREADS] = high;
    }

    // One part of dw [target channel][tap][source channel], with db behind it.
    static __device__ void run(const T *x, const Norm &norm, const T *gradient, float *parts, const Sizes &sizes,
                               unsigned char *shared) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32, piece = warp % PIECES, sharer = warp / PIECES;
        int to_channel = blockIdx.y * CHANNELS, from_channel = blockIdx.z * CHANNELS;
        int channels = min(CHANNELS, sizes.source_channels - from_channel);
        int places = (places_of(sizes) + 15) / 16 * 16;
        Tile tile = tile_of<true, K>(sizes, 0);
        int columns = tile.columns.count;
        // In shared memory: sums for the bias, the first four of each thread and then its last four; where the source of a
        // place begins; the source, and the gradient.
        float *bias = (float *)shared, *room = bias + THREADS * WIDE;
        int *starts = (int *)room;
        T *a = (T *)(starts + places), *of_gradient = a + sizes.tile_images * tile.rows.count * columns * PITCH;
        for (int i = threadIdx.x; i < places; i += THREADS) {
            Place place = place_of(sizes, min(i, places_of(sizes) - 1));
            starts[i] = (place.image * tile.rows.count + place.row * sizes.stride) * columns +
                        place.column * sizes.stride;
        }
        for (int i = threadIdx.x; i < THREADS * WIDE; i += THREADS) bias[i] = 0;
        float sums[TAPS][2][4] = {};
        for (int index = blockIdx.x; index < tiles_of(sizes); index += gridDim.x) {
            tile = tile_of<true, K>(sizes, index);
            __syncthreads();
            load_tile<THREADS, AHEAD>(x, norm, sizes, tile, from_channel, channels, PITCH, a, [&] {
                begin_gradient(gradient, sizes, tile, to_channel, places, of_gradient);
            });
            add_to_bias(of_gradient, sizes, to_channel, places, bias);
            __syncthreads();
            UNROLL_BY(1)
            for (int place = sharer * 16; place < places; place += SHARERS * 16)
                multiply_places(sums, of_gradient + piece / SIDE * 16, a + piece % SIDE * 16, starts, columns, place,
                                lane);
        }
        __syncthreads();
        int64_t length = (int64_t)sizes.target_channels * TAPS * sizes.source_channels;
        float *part = parts + blockIdx.x * (length + sizes.target_channels);
        write_sums(sums, part, sizes, to_channel, from_channel, room);
        if (blockIdx.z == 0) write_bias(bias, part + length, sizes, to_channel);
    }

    // Whether the halves of a row of 16 sums are the other way round in shared memory, so that the four rows that 16 lanes write
    // touch all banks.
    static __device__ int swapped(int row) { return row / 2 % 2; }

    // The sums of the warps that share places, added in their order.
    static __device__ void write_sums(const float (&sums)[TAPS][2][4], float *part, const Sizes &sizes, int to_channel,
                                      int from_channel, float *room) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        UNROLL
        for (int tap = 0; tap < TAPS; tap++)
            UNROLL
            for (int i = 0; i < 4; i++) {
                int n = i % 2, half = i / 2;
                int at = ((warp * TAPS + tap) * 16 + half * 8 + lane / 4) * 16 + (n ^ swapped(lane / 4)) * 8 + lane % 4 * 2;
                *(float2 *)(room + at) = float2{sums[tap][n][half * 2], sums[tap][n][half * 2 + 1]};
            }
        __syncthreads();
        // Four numbers a thread, side by side as they lie there: 64 threads take a tap of a piece.
        int of_tap = threadIdx.x % 64, row = of_tap / 4, column = (of_tap % 4 ^ swapped(row) * 2) * 4;
        for (int i = threadIdx.x / 64; i < PIECES * TAPS; i += THREADS / 64) {
            int piece = i / TAPS, tap = i % TAPS;
            int o = to_channel + piece / SIDE * 16 + row, from = from_channel + piece % SIDE * 16 + column;
            if (o >= sizes.target_channels || from >= sizes.source_channels) continue;
            const float4 *sums_of_tap = (const float4 *)room + i * 64 + of_tap;
            float4 sum = sums_of_tap[0];
            for (int sharer = 1; sharer < SHARERS; sharer++)
                sum = added(sum, sums_of_tap[sharer * PIECES * TAPS * 64]);
            *(float4 *)(part + (o * TAPS + tap) * sizes.source_channels + from) = sum;
        }
    }

    static __device__ void write_bias(const float *bias, float *part, const Sizes &sizes, int to_channel) {
        int channel = threadIdx.x;
        if (channel >= CHANNELS || to_channel + channel >= sizes.target_channels) return;
        float sum = 0;
        const float *of_vector = bias + channel % WIDE / 4 * THREADS * 4 + channel / WIDE * 4 + channel % 4;
        for (int i = 0; i < THREADS / VECTORS; i++) sum += of_vector[i * VECTORS * 4];
        part[to_channel + channel] = sum;
    }
};

#define DEFINE_SIZE(ending, T, K, CHANNELS)                                                                        \
    BOUNDED_KERNEL(weight_gradient_##K##_##CHANNELS##_##ending, 256, 2,                                            \
                   (const T *x, const float *mean, const float *scale, const float *shift, const T *gradient,      \
                    float *parts, SIZES)) {                                                                        \
        DYNAMIC_SHARED(shared);                                                                                    \
        WeightGradient<T, K, CHANNELS>::run(x, Norm{mean, scale, shift}, gradient, parts, SIZES_GIVEN, shared);    \
    }
#define DEFINE(ending, T)         \
    DEFINE_SIZE(ending, T, 1, 16) \
    DEFINE_SIZE(ending, T, 1, 32) \
    DEFINE_SIZE(ending, T, 3, 16) \
    DEFINE_SIZE(ending, T, 3, 32)
FOR_EACH_TYPE(DEFINE)
#undef DEFINE
#undef DEFINE_SIZE

// How many threads lie side by side, with four numbers each, and how many at most share the parts of a number.
constexpr int SUM_COLUMNS = 16;
constexpr int SUM_LANES = 32;

// The sum of `count` parts of `length` + `rest` numbers: the first go to `weight`, the others to `bias`. Blocks have a
// power of two of lanes.
KERNEL(sum_parts, (const float *parts, int count, int length, int rest, float *weight, float *bias, int add)) {
    __shared__ float4 room[SUM_LANES][SUM_COLUMNS];
    int lane = threadIdx.y, lanes = blockDim.y, at = (blockIdx.x * SUM_COLUMNS + threadIdx.x) * 4, whole = length + rest;
    float4 sum = make_float4(0, 0, 0, 0);
    int parts_of_it = at < whole ? count : 0;
    UNROLL_BY(4)
    for (int i = lane; i < parts_of_it; i += lanes) {
        float4 more = *(const float4 *)(parts + (int64_t)i * whole + at);
        sum = added(sum, more);
    }
    room[lane][threadIdx.x] = sum;
    __syncthreads();
    for (int half = lanes / 2; half > 0; half /= 2) {
        if (lane < half) {
            float4 more = room[lane + half][threadIdx.x];
            sum = added(sum, more);
            room[lane][threadIdx.x] = sum;
        }
        __syncthreads();
    }
    if (lane > 0 || at >= whole) return;
    float4 *to = (float4 *)(at < length ? weight + at : bias + (at - length));
    if (add) sum = added(*to, sum);
    *to = sum;
}
