// Convolutions of maps, and their gradients with regard to the input, as products of matrices that are never written
// out. Going forward,
//
//     y[place][o] = bias[o] + Σ_tap Σ_i a[place of the tap][i] · w[o][tap][i],    a = relu(norm(x)), zero outside of x,
//
// and going back
//
//     dx[place][i] = Σ_tap Σ_o dy[place from which the tap comes][o] · w[o][tap][i],
//
// which is the same with the taps in the opposite order and w transposed. A block takes 4096 numbers of the target:
//
// 1. The part of the source under the tile begins its way to shared memory, once for all taps, and the weights of all
//    taps theirs, for 16 to 64 channels of the source. Norm and ReLU are applied to what has arrived.
// 2. Each warp multiplies rows of 16 places by the weights, tap by tap, straight from there. While the weights of the
//    first row of taps are used, the others may still be on their way.
// 3. What is added to the results, or masks them, begins its way.
// 4. The sums meet in shared memory, from where they are written in whole channels: with what is added to them, or
//    masked by the ReLU that they go back through; the sums that the norm needs are taken on the way.
//
// A network's maps are small, and all blocks of a kernel run at once: a kernel takes about as long as its slowest block,
// and that as long as it waits for memory one time after another. So a step asks for all that it needs before it waits,
// which is looked for in the machine code.
//
// Every number of the target is a sum over the source's channels in chunks, in them over the taps, and in those over
// 16 channels at a time; if two groups of warps share the channels of a tap, or, of 16 channels, the rows of taps, their
// two sums are added at the end.
#pragma once

template <typename T, bool FORWARD, int K, int BN>
struct Product {
    // Places and channels of the target that a block takes, and a warp of it.
    static constexpr int BM = 4096 / BN;
    static constexpr int WM = BN == 16 ? 64 : 32;
    static constexpr int WN = BN == 16 ? 16 : 32;
    // Groups of four warps that share the channels of the source.
    static constexpr int GROUPS = BN == 16 ? 1 : 2;
    static constexpr int THREADS = 128 * GROUPS, WARPS = THREADS / 32;
    // Blocks that are to fit on a multiprocessor: so many that their registers last.
    static constexpr int BLOCKS = GROUPS == 2 ? 2 : sizeof(T) == 2 ? 4 : 3;
    static constexpr int M = WM / 16, N = WN / 8;
    // Taps of a row that are multiplied side by side: one is enough to be done where there are no tensor cores.
    static constexpr int ABREAST = sizeof(T) == 2 ? K : 1;
    // Reads of the source that are under way at a time: as many as a thread has in a residual network, as far as registers last.
    static constexpr int AHEAD = sizeof(T) == 4 ? 2 : BN == 16 ? 6 : BN == 32 ? 3 : 4;
    static constexpr int PAD = Fragment<T>::PAD, ROWS = Fragment<T>::ROWS;
    // The sums in shared memory: rows begin at odd multiples of eight banks.
    static constexpr int PITCH = BN + 8;
    // In the epilogue a thread keeps to WIDE channels, and takes a place out of each STEP.
    static constexpr int VECTORS = BN / WIDE;
    static constexpr int STEP = THREADS / VECTORS;
    static constexpr int PLACES = BM / STEP;

    // Begins to copy the weights of all taps for `channels` channels of the source, in a group for each row of taps.
    static __device__ void begin_weights(const T *weight, const Sizes &sizes, int from, int channels, int target,
                                         T *to) {
        int rows = FORWARD ? min(BN, sizes.target_channels - target) : channels;
        int width = FORWARD ? channels : min(BN, sizes.target_channels - target);
        int pitch = (FORWARD ? sizes.chunk : BN) + PAD, height = FORWARD ? BN : sizes.chunk;
        int first_row = FORWARD ? target : from, first_column = FORWARD ? from : target;
        int row_length = FORWARD ? sizes.source_channels : sizes.target_channels;
        // Numbers in a copy, and copies in a whole row, of which each thread takes the same one of several rows.
        constexpr int PER_COPY = 16 / sizeof(T), MORE = WIDE / PER_COPY - 1;
        int shift = (FORWARD ? shift_of(sizes.chunk) : shift_of(BN)) + MORE;
        int copy = (threadIdx.x & ((1 << shift) - 1)) * PER_COPY;
        for (int ky = 0; ky < K; ky++) {
            for (int kx = 0; kx < K && copy < width; kx++) {
                int tap = ky * K + kx, source_tap = FORWARD ? tap : K * K - 1 - tap;
                for (int row = threadIdx.x >> shift; row < rows; row += THREADS >> shift)
                    begin_copy(to + (tap * height + row) * pitch + copy,
                               weight + ((first_row + row) * K * K + source_tap) * row_length + first_column + copy);
            }
            end_group();
        }
    }

    // Waits until the weights of a row of taps are there for all threads.
    static __device__ void wait_for_weights(int ky) {
        if (K - 1 - ky == 2) wait_for_groups<2>();
        if (K - 1 - ky == 1) wait_for_groups<1>();
        if (K - 1 - ky == 0) wait_for_groups<0>();
        __syncthreads();
    }

    // Whether it goes back over a stride: the source of a place does then not move with the tap.
    static __device__ bool strided(const Sizes &sizes) { return !FORWARD && sizes.stride > 1; }

    // Where what a lane reads for a place begins in shared memory, for the first tap. Going back over a stride, it is the place
    // itself in steps of the target, packed: only together with a tap does it lead anywhere.
    static __device__ int start_of(const Sizes &sizes, const Tile &tile, int index, int pitch, int lane) {
        // Behind the last place, any other will do.
        Place place = place_of(sizes, min(index, places_of(sizes) - 1));
        if (strided(sizes)) return place.image << 20 | place.row << 10 | place.column;
        int step = FORWARD ? sizes.stride : 1;
        int source = (place.image * tile.rows.count + place.row * step) * tile.columns.count + place.column * step;
        return source * pitch + Fragment<T>::column(lane);
    }

    // The place of the source that a tap of a packed start leads to; `zeros` is one that holds zeros.
    static __device__ int follow(const Tile &tile, int start, int ky, int kx, int zeros) {
        int row = (start >> 10 & 1023) + ky - tile.rows.phase;
        int column = (start & 1023) + kx - tile.columns.phase;
        if ((row | column) & 1) return zeros;
        return ((start >> 20) * tile.rows.count + row / 2) * tile.columns.count + column / 2;
    }

    // Whether, of the WIDE sums of a place from a channel on, the last four are in front of the first four in shared memory: of
    // every other piece that eight threads take together in the epilogue, so that they touch all banks.
    static __device__ int swapped(int place, int channel) {
        return (BN == 16 ? channel / 8 : BN == 32 ? place : channel / 32) & 1;
    }

    // The sums that a thread takes of its place number `i`.
    static __device__ void load_sums(const float *sums, int i, float (&values)[WIDE]) {
        int place = threadIdx.x / VECTORS, channel = threadIdx.x % VECTORS * WIDE, first = 4 * swapped(place, channel);
        const float *from = sums + place * PITCH + channel + i * STEP * PITCH;
        const float4 words[2] = {*(const float4 *)(from + first), *(const float4 *)(from + 4 - first)};
        for (int half = 0; half < 2; half++) {
            float4 word = words[half];
            float *to = values + half * 4;
            to[0] = word.x, to[1] = word.y, to[2] = word.z, to[3] = word.w;
        }
    }

    // The group of a warp, and the first row and column of the sums that it has.
    struct Part {
        int group, row, column;
    };

    static __device__ Part part_of_warp() {
        int warp = threadIdx.x / 32;
        return {warp / 4, warp % 4 / (BN / WN) * WM, warp % (BN / WN) * WN};
    }

    // Steps 1 and 2: the sums that a lane has, with `bias`, if there is one.
    static __device__ void multiply_tile(const T *source, const Norm &norm, const T *weight, const float *bias,
                                         const Sizes &sizes, const Tile &tile, int target, unsigned char *shared,
                                         float (&sums)[M][N][4]) {
        const Part part = part_of_warp();
        int lane = threadIdx.x % 32;
        int pitch = sizes.chunk + PAD, zeros = source_places_of(sizes, tile);
        T *a = (T *)shared, *b = a + (zeros + 1) * pitch;

        int starts[M][ROWS];
        auto prepare = [&] {
            UNROLL
            for (int m = 0; m < M; m++)
                UNROLL
                for (int row = 0; row < ROWS; row++)
                    starts[m][row] = start_of(sizes, tile, part.row + m * 16 + Fragment<T>::row(lane, row), pitch, lane);
            if (bias && part.group == 0) {
                UNROLL
                for (int n = 0; n < N; n++) {
                    int channel = target + part.column + n * 8 + lane % 4 * 2;
                    if (channel >= sizes.target_channels) continue;
                    float2 of_channels = *(const float2 *)(bias + channel);
                    UNROLL
                    for (int m = 0; m < M; m++) {
                        sums[m][n][0] = sums[m][n][2] = of_channels.x;
                        sums[m][n][1] = sums[m][n][3] = of_channels.y;
                    }
                }
            }
            int thread = threadIdx.x;
            if (thread < pitch) store(a + zeros * pitch + thread, 0);
        };

        for (int from = 0; from < sizes.source_channels; from += sizes.chunk) {
            int channels = min(sizes.chunk, sizes.source_channels - from);
            if (from > 0) __syncthreads();
            auto meanwhile = [&] {
                begin_weights(weight, sizes, from, channels, target, b);
                if (from == 0) prepare();
            };
            if (FORWARD) {
                load_tile<THREADS, AHEAD>(source, norm, sizes, tile, from, channels, pitch, a, meanwhile);
            } else {
                begin_tile<THREADS>(source, sizes, tile, from, channels, pitch, a);
                meanwhile();
            }
            if (strided(sizes))
                multiply_taps<true>(a, b, sizes, tile, starts, channels, lane, sums);
            else
                multiply_taps<false>(a, b, sizes, tile, starts, channels, lane, sums);
        }
    }

    // Adds the products with all taps of `channels` channels that are in shared memory, or come there.
    template <bool STRIDED>
    static __device__ void multiply_taps(const T *a, const T *b, const Sizes &sizes, const Tile &tile,
                                         const int (&starts)[M][ROWS], int channels, int lane, float (&sums)[M][N][4]) {
        const Part part = part_of_warp();
        int pitch = sizes.chunk + PAD, weight_pitch = (FORWARD ? sizes.chunk : BN) + PAD;
        int weight_rows = FORWARD ? BN : sizes.chunk, zeros = source_places_of(sizes, tile);
        bool by_rows = channels == 16;
        UNROLL_BY(1)
        for (int ky = 0; ky < K; ky++) {
            wait_for_weights(ky);
            if (by_rows && ky % GROUPS != part.group) continue;
            UNROLL_BY(1)
            for (int channel = by_rows ? 0 : part.group * 16; channel < channels; channel += GROUPS * 16) {
                UNROLL_BY(ABREAST)
                for (int kx = 0; kx < K; kx++) {
                    const T *of_places = a + channel + (STRIDED ? 0 : (ky * tile.columns.count + kx) * pitch);
                    int rows[M][ROWS];
                    UNROLL
                    for (int m = 0; m < M; m++)
                        UNROLL
                        for (int row = 0; row < ROWS; row++)
                            rows[m][row] = STRIDED ? follow(tile, starts[m][row], ky, kx, zeros) * pitch +
                                                         Fragment<T>::column(lane)
                                                   : starts[m][row];
                    const T *of_tap = b + (ky * K + kx) * weight_rows * weight_pitch +
                                      (FORWARD ? part.column * weight_pitch + channel
                                               : channel * weight_pitch + part.column);
                    multiply_rows<FORWARD>(sums, of_places, rows, of_tap, weight_pitch, lane);
                }
            }
        }
    }

    // The sums of all lanes, as [place][PITCH] in shared memory.
    static __device__ float *exchange(const float (&sums)[M][N][4], unsigned char *shared) {
        const Part part = part_of_warp();
        int lane = threadIdx.x % 32;
        __syncthreads();
        float *room = (float *)shared, *of_lane = room + (part.row + lane / 4) * PITCH + part.column;
        for (int turn = 0; turn < GROUPS; turn++) {
            for (int m = 0; m < M && turn == part.group; m++)
                for (int n = 0; n < N; n++)
                    for (int half = 0; half < 2; half++) {
                        int within = (lane % 4 * 2) ^ (4 * swapped(lane / 4, part.column + n * 8));
                        float2 *to = (float2 *)(of_lane + (m * 16 + half * 8) * PITCH + n * 8 + within);
                        float2 sum = {sums[m][n][half * 2], sums[m][n][half * 2 + 1]};
                        if (turn > 0) sum.x += to->x, sum.y += to->y;
                        *to = sum;
                    }
            __syncthreads();
        }
        return room;
    }

    // Where the WIDE numbers of each place that a thread takes are in the target; -1 where there is none.
    static __device__ void find_places(const Sizes &sizes, const Tile &tile, int channel, int (&at)[PLACES]) {
        UNROLL
        for (int i = 0; i < PLACES; i++) {
            int place = target_place(sizes, tile, threadIdx.x / VECTORS + i * STEP);
            at[i] = place >= 0 && channel < sizes.target_channels ? place * sizes.target_channels + channel : -1;
        }
    }

    // What is there in a map, all on its way before any of it is used. For a place that there is not it is what is in front.
    static __device__ void load_places(const T *map, const int (&at)[PLACES], Wide<T> (&found)[PLACES]) {
        UNROLL
        for (int i = 0; i < PLACES; i++) found[i] = *(const Wide<T> *)(map + max(at[i], 0));
    }

    // Writes WIDE numbers, which become what is then there.
    static __device__ void write(T *to, float (&values)[WIDE]) {
        Wide<T> stored;
        store_wide((T *)&stored, values);
        *(Wide<T> *)to = stored;
        load_wide((const T *)&stored, values);
    }

    // The sums over the threads of a warp that take the same channels, as room [warp][BN]. Of two lanes that add their numbers,
    // each takes one half of the channels, until it has one left.
    static __device__ void sum_in_warps(float (&values)[WIDE], float *room) {
        // The channels that a lane has in the end.
        constexpr int LEFT = VECTORS == 8 ? 2 : 1;
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = 0, count = WIDE;
        UNROLL
        for (int mask = 16; mask >= VECTORS; mask /= 2) {
            bool upper = lane & mask;
            if (count == 1) {
                values[0] += __shfl_xor_sync(0xffffffff, values[0], mask);
                continue;
            }
            count /= 2;
            first += upper ? count : 0;
            UNROLL
            for (int k = 0; k < count; k++) {
                float given = upper ? values[k] : values[k + count], kept = upper ? values[k + count] : values[k];
                values[k] = kept + __shfl_xor_sync(0xffffffff, given, mask);
            }
        }
        // With two times eight channels, two lanes have the same ones.
        if (VECTORS > 2 || !(lane & 2))
            for (int k = 0; k < LEFT; k++) room[warp * BN + lane % VECTORS * WIDE + first + k] = values[k];
    }

    static __device__ float sum_over_warps(const float *room, int channel) {
        float sum = room[channel];
        for (int warp = 1; warp < WARPS; warp++) sum += room[warp * BN + channel];
        return sum;
    }

    static __device__ void forward(const T *x, const Norm &norm, const T *weight, const float *bias, const T *residual,
                                   T *y, float *statistics, const Sizes &sizes, unsigned char *shared) {
        Tile tile = tile_of<FORWARD, K>(sizes, blockIdx.x);
        int target = blockIdx.y * BN;
        float products[M][N][4] = {};
        multiply_tile(x, norm, weight, bias, sizes, tile, target, shared, products);
        int vector = threadIdx.x % VECTORS, at[PLACES];
        find_places(sizes, tile, target + vector * WIDE, at);
        Wide<T> added[PLACES];
        if (residual) load_places(residual, at, added);
        float *sums = exchange(products, shared);
        float total[WIDE] = {}, values[PLACES][WIDE];
        UNROLL
        for (int i = 0; i < PLACES; i++) {
            if (at[i] < 0) continue;
            load_sums(sums, i, values[i]);
            if (residual) {
                float more[WIDE];
                load_wide((const T *)&added[i], more);
                for (int k = 0; k < WIDE; k++) values[i][k] += more[k];
            }
            write(y + at[i], values[i]);
            for (int k = 0; k < WIDE; k++) total[k] += values[i][k];
        }
        if (!statistics) return;
        // The mean of the tile first, and then the squares of the distances from it.
        float count = min(sizes.tile_images, sizes.images - tile.image) *
                      min(sizes.tile_rows, sizes.target_height - tile.row) *
                      min(sizes.tile_columns, sizes.target_width - tile.column);
        float *room = sums + BM * PITCH, *room_of_squares = room + WARPS * BN, mean[WIDE], squares[WIDE] = {};
        // A thread for each channel.
        int own = threadIdx.x;
        float own_mean = 0;
        sum_in_warps(total, room);
        __syncthreads();
        if (own < BN) room[own] = own_mean = sum_over_warps(room, own) / count;
        __syncthreads();
        load_wide(room + vector * WIDE, mean);
        UNROLL
        for (int i = 0; i < PLACES; i++) {
            if (at[i] < 0) continue;
            for (int k = 0; k < WIDE; k++) {
                float apart = values[i][k] - mean[k];
                squares[k] = fmaf(apart, apart, squares[k]);
            }
        }
        sum_in_warps(squares, room_of_squares);
        __syncthreads();
        if (own >= BN || target + own >= sizes.target_channels) return;
        float *to = statistics + (int64_t)blockIdx.x * 3 * sizes.target_channels + target + own;
        to[0] = count;
        to[sizes.target_channels] = own_mean;
        to[2 * sizes.target_channels] = sum_over_warps(room_of_squares, own);
    }

    // With `x`, the gradient is masked where relu(norm(x)) is 0.
    static __device__ void input_gradient(const T *gradient, const T *weight, T *dx, const T *x, const Norm &norm,
                                          float *sums_of_norm, const Sizes &sizes, unsigned char *shared) {
        Tile tile = tile_of<FORWARD, K>(sizes, blockIdx.x);
        int target = blockIdx.y * BN;
        float products[M][N][4] = {};
        multiply_tile(gradient, Norm{}, weight, nullptr, sizes, tile, target, shared, products);
        int channel = target + threadIdx.x % VECTORS * WIDE, at[PLACES];
        find_places(sizes, tile, channel, at);
        if (!x) {
            const float *sums = exchange(products, shared);
            UNROLL
            for (int i = 0; i < PLACES; i++) {
                if (at[i] < 0) continue;
                float values[WIDE];
                load_sums(sums, i, values);
                store_wide(dx + at[i], values);
            }
            return;
        }
        Wide<T> behind[PLACES];
        load_places(x, at, behind);
        const WideNorm of(norm, min(channel, sizes.target_channels - WIDE));
        float *sums = exchange(products, shared), plain[WIDE] = {}, centred[WIDE] = {};
        UNROLL
        for (int i = 0; i < PLACES; i++) {
            if (at[i] < 0) continue;
            float values[WIDE], of_x[WIDE];
            load_sums(sums, i, values);
            load_wide((const T *)&behind[i], of_x);
            for (int k = 0; k < WIDE; k++) values[k] = of(of_x[k], k) > 0 ? values[k] : 0;
            write(dx + at[i], values);
            for (int k = 0; k < WIDE; k++) {
                plain[k] += values[k];
                centred[k] = fmaf(values[k], of_x[k] - of.mean[k], centred[k]);
            }
        }
        float *room = sums + BM * PITCH, *room_of_centred = room + WARPS * BN;
        sum_in_warps(plain, room);
        sum_in_warps(centred, room_of_centred);
        __syncthreads();
        // A thread for each channel.
        int own = threadIdx.x;
        if (own >= BN || target + own >= sizes.target_channels) return;
        float *to = sums_of_norm + (int64_t)blockIdx.x * 2 * sizes.target_channels + target + own;
        to[0] = sum_over_warps(room, own);
        to[sizes.target_channels] = sum_over_warps(room_of_centred, own);
    }
};

#define DEFINE_SIZE(ending, T, K, BN)                                                                                \
    BOUNDED_KERNEL(convolution_##K##_##BN##_##ending, (Product<T, true, K, BN>::THREADS),                            \
                   (Product<T, true, K, BN>::BLOCKS),                                                                \
                   (const T *x, const float *mean, const float *scale, const float *shift, const T *weight,          \
                    const float *bias, const T *residual, T *y, float *statistics, SIZES)) {                         \
        DYNAMIC_SHARED(shared);                                                                                      \
        Product<T, true, K, BN>::forward(x, Norm{mean, scale, shift}, weight, bias, residual, y, statistics,         \
                                         SIZES_GIVEN, shared);                                                       \
    }                                                                                                                \
    BOUNDED_KERNEL(input_gradient_##K##_##BN##_##ending, (Product<T, false, K, BN>::THREADS),                        \
                   (Product<T, false, K, BN>::BLOCKS),                                                               \
                   (const T *gradient, const T *weight, T *dx, const T *x, const float *mean, const float *scale,    \
                    const float *shift, float *sums, SIZES)) {                                                       \
        DYNAMIC_SHARED(shared);                                                                                      \
        Product<T, false, K, BN>::input_gradient(gradient, weight, dx, x, Norm{mean, scale, shift}, sums,            \
                                                 SIZES_GIVEN, shared);                                               \
    }
#define DEFINE(ending, T)          \
    DEFINE_SIZE(ending, T, 1, 16)  \
    DEFINE_SIZE(ending, T, 1, 32)  \
    DEFINE_SIZE(ending, T, 1, 64)  \
    DEFINE_SIZE(ending, T, 3, 16)  \
    DEFINE_SIZE(ending, T, 3, 32)  \
    DEFINE_SIZE(ending, T, 3, 64)
FOR_EACH_TYPE(DEFINE)
#undef DEFINE
#undef DEFINE_SIZE
