// Batch norm with the ReLU behind it: what the passes over the maps leave to be finished, and what they begin with.
//
// A norm is, per channel, a = scale · (x − mean) + shift.
#pragma once

// Channels that a block finishes, as many as one read of memory brings, and threads that share the pieces of one.
constexpr int FINISH_CHANNELS = 8;
constexpr int FINISH_LANES = 64;
// Pieces that a thread reads at a time, all of them before it waits for the first: as many as it has in a residual network at a
// batch of 128, or more.
constexpr int FINISH_AHEAD = 8;

// NUMBERS numbers of a channel, of the pieces [piece][NUMBERS][channels] from `first` on that a thread reads at a time; 0 behind the last.
// All are read, the last piece again where there is none: a read that depends on a condition waits for those before it to be used.
template <int NUMBERS>
__device__ inline void load_pieces(const float *from, int first, int pieces, int channels,
                                   float (&found)[FINISH_AHEAD][NUMBERS]) {
    UNROLL
    for (int i = 0; i < FINISH_AHEAD; i++) {
        int piece = min(first + i * FINISH_LANES, pieces - 1);
        UNROLL
        for (int k = 0; k < NUMBERS; k++) found[i][k] = from[((int64_t)piece * NUMBERS + k) * channels];
    }
    UNROLL
    for (int i = 0; i < FINISH_AHEAD; i++)
        UNROLL
        for (int k = 0; k < NUMBERS; k++) found[i][k] = first + i * FINISH_LANES < pieces ? found[i][k] : 0;
}

// Sums of several numbers over the lanes of a channel, in f64 and in a fixed order: within a warp, and then over the warps.
// The first lane gets them; called once by a kernel, since what it shares is not protected behind its end.
template <int COUNT>
__device__ inline void lane_sums(double (&values)[COUNT]) {
    constexpr int OF_WARP = 32 / FINISH_CHANNELS, WARPS = FINISH_LANES / OF_WARP;
    __shared__ double room[WARPS][COUNT][FINISH_CHANNELS];
    int channel = threadIdx.x, lane = threadIdx.y;
    UNROLL
    for (int k = 0; k < COUNT; k++) {
        UNROLL
        for (int mask = FINISH_CHANNELS; mask < 32; mask *= 2)
            values[k] += __shfl_xor_sync(0xffffffff, values[k], mask);
        if (lane % OF_WARP == 0) room[lane / OF_WARP][k][channel] = values[k];
    }
    __syncthreads();
    if (lane > 0) return;
    UNROLL
    for (int k = 0; k < COUNT; k++)
        for (int warp = 1; warp < WARPS; warp++) values[k] += room[warp][k][channel];
}

// The norm of a mean and a variance.
KERNEL(resolve_norm, (const float *variance, const float *gamma, const float *beta, float epsilon, int channels,
                      float *scale, float *shift, float *inverse_deviation)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < channels; i += gridDim.x * blockDim.x) {
        double inverse = 1 / sqrt((double)variance[i] + epsilon);
        inverse_deviation[i] = inverse;
        scale[i] = gamma[i] * inverse;
        shift[i] = beta[i];
    }
}

// The norm of a batch, from the moments of its pieces [pieces][3][channels] = (count, mean, Σ(x − mean)²). Means are taken as
// distances from that of the first piece: what cancels is then at most as many times the variance as there are pieces, and f64
// has the digits for that.
BOUNDED_KERNEL(finish_norm, FINISH_CHANNELS * FINISH_LANES, 1, (const float *moments, int pieces, int channels, const float *gamma, const float *beta,
                     float epsilon, float *mean, float *variance, float *scale, float *shift,
                     float *inverse_deviation)) {
    int channel = blockIdx.x * FINISH_CHANNELS + threadIdx.x;
    double first = moments[channels + channel];
    // Σ count, Σ count · distance, and the sum of the squares of the distances from the first mean.
    double sums[3] = {};
    for (int piece = threadIdx.y; piece < pieces; piece += FINISH_AHEAD * FINISH_LANES) {
        float found[FINISH_AHEAD][3];
        load_pieces(moments + channel, piece, pieces, channels, found);
        UNROLL
        for (int i = 0; i < FINISH_AHEAD; i++) {
            double count = found[i][0], apart = found[i][1] - first;
            sums[0] += count;
            sums[1] += count * apart;
            sums[2] += found[i][2] + count * apart * apart;
        }
    }
    lane_sums(sums);
    if (threadIdx.y == 0) {
        double apart = sums[1] / sums[0], spread = sums[2] / sums[0] - apart * apart;
        // Of numbers that are all the same, rounding may leave less than nothing. NaN stays NaN.
        float rounded = spread < 0 ? 0 : spread;
        double inverse = 1 / sqrt((double)rounded + epsilon);
        mean[channel] = first + apart;
        variance[channel] = rounded;
        inverse_deviation[channel] = inverse;
        scale[channel] = gamma[channel] * inverse;
        shift[channel] = beta[channel];
    }
}

// What the gradients behind a norm leave to be done, from the sums of the pieces [pieces][2][channels] = (Σ g, Σ g (x − mean)):
// the gradients of γ and β, and dx = scale · g + slope · (x − mean) + offset. `count` is that of the statistics, or 0 where
// they are constants.
BOUNDED_KERNEL(finish_norm_gradient, FINISH_CHANNELS * FINISH_LANES, 1, (const float *sums, int pieces, int channels, const float *scale,
                              const float *inverse_deviation, int count, int add, float *gamma, float *beta,
                              float *slope, float *offset)) {
    int channel = blockIdx.x * FINISH_CHANNELS + threadIdx.x;
    // Σ g and Σ g (x − mean).
    double totals[2] = {};
    for (int piece = threadIdx.y; piece < pieces; piece += FINISH_AHEAD * FINISH_LANES) {
        float found[FINISH_AHEAD][2];
        load_pieces(sums + channel, piece, pieces, channels, found);
        UNROLL
        for (int i = 0; i < FINISH_AHEAD; i++)
            for (int k = 0; k < 2; k++) totals[k] += found[i][k];
    }
    lane_sums(totals);
    if (threadIdx.y == 0) {
        double plain = totals[0], centred = totals[1];
        double inverse = inverse_deviation[channel];
        double per_value = count > 0 ? -(double)scale[channel] / count : 0;
        float of_gamma = centred * inverse, of_beta = plain;
        gamma[channel] = add ? gamma[channel] + of_gamma : of_gamma;
        beta[channel] = add ? beta[channel] + of_beta : of_beta;
        slope[channel] = per_value * inverse * inverse * centred;
        offset[channel] = per_value * plain;
    }
}

constexpr int THROUGH_THREADS = 256;

// dx = scale · g + slope · (x − mean) + offset (+ added); dx may be g. A thread keeps to WIDE channels: the threads of all
// blocks are a multiple of those that a place takes. It reads AHEAD times before it waits for the first.
template <int AHEAD, typename T>
__device__ inline void through_norm(const T *gradient, const T *x, const T *added, const float *scale,
                                    const float *mean, const float *slope, const float *offset, T *dx,
                                    int places, int channels) {
    // No map has 2³¹ numbers.
    int vectors = channels / WIDE, size = places * vectors, threads = gridDim.x * THROUGH_THREADS;
    int first = blockIdx.x * THROUGH_THREADS + threadIdx.x, channel = first % vectors * WIDE;
    float factor[WIDE], middle[WIDE], of_x[WIDE], constant[WIDE];
    load_wide(scale + channel, factor);
    load_wide(mean + channel, middle);
    load_wide(slope + channel, of_x);
    load_wide(offset + channel, constant);
    for (; first < size; first += AHEAD * threads) {
        Wide<T> found[AHEAD], found_x[AHEAD], more[AHEAD];
        UNROLL
        for (int i = 0; i < AHEAD; i++) {
            // Behind the end, the first once more.
            int at = (first + i * threads < size ? first + i * threads : first) * WIDE;
            found[i] = *(const Wide<T> *)(gradient + at);
            found_x[i] = *(const Wide<T> *)(x + at);
            if (added) more[i] = *(const Wide<T> *)(added + at);
        }
        UNROLL
        for (int i = 0; i < AHEAD; i++) {
            if (first + i * threads >= size) break;
            float g[WIDE], at[WIDE], plus[WIDE];
            load_wide((const T *)&found[i], g);
            load_wide((const T *)&found_x[i], at);
            if (added) load_wide((const T *)&more[i], plus);
            for (int k = 0; k < WIDE; k++) {
                g[k] = fmaf(factor[k], g[k], fmaf(of_x[k], at[k] - middle[k], constant[k]));
                if (added) g[k] += plus[k];
            }
            store_wide(dx + (first + i * threads) * WIDE, g);
        }
    }
}

#define DEFINE(ending, T)                                                                                          \
    BOUNDED_KERNEL(through_norm_##ending, THROUGH_THREADS, 2,                                                      \
                   (const T *gradient, const T *x, const T *added, const float *scale, const float *mean,          \
                    const float *slope, const float *offset, T *dx, int places, int channels)) {                   \
        through_norm<8 / sizeof(T)>(gradient, x, added, scale, mean, slope, offset, dx, places, channels);         \
    }
FOR_EACH_TYPE(DEFINE)
#undef DEFINE
