// Batch norm with the ReLU behind it: what the passes over the maps leave to be finished, and what they begin with.
//
// A norm is, per channel, a = scale · (x − mean) + shift.
#pragma once

// Channels that a block finishes, as many as one read of memory brings, and threads that share the pieces of one.
constexpr int FINISH_CHANNELS = 8;
constexpr int FINISH_LANES = 64;

// The sum over the lanes of a channel, in f64 and in a fixed order, given to all of them.
__device__ inline double lane_sum(double value, double (*room)[FINISH_CHANNELS]) {
    int channel = threadIdx.x, lane = threadIdx.y;
    room[lane][channel] = value;
    __syncthreads();
    for (int half = FINISH_LANES / 2; half > 0; half /= 2) {
        if (lane < half) room[lane][channel] += room[lane + half][channel];
        __syncthreads();
    }
    double sum = room[0][channel];
    __syncthreads();
    return sum;
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

// The norm of a batch, from the moments of its pieces [pieces][3][channels] = (count, mean, Σ(x − mean)²).
KERNEL(finish_norm, (const float *moments, int pieces, int channels, const float *gamma, const float *beta,
                     float epsilon, float *mean, float *variance, float *scale, float *shift,
                     float *inverse_deviation)) {
    __shared__ double room[FINISH_LANES][FINISH_CHANNELS];
    int channel = blockIdx.x * FINISH_CHANNELS + threadIdx.x;
    double count = 0, sum = 0;
    for (int piece = threadIdx.y; piece < pieces; piece += FINISH_LANES) {
        const float *of = moments + (int64_t)piece * 3 * channels + channel;
        count += of[0];
        sum += (double)of[0] * of[channels];
    }
    count = lane_sum(count, room);
    double middle = lane_sum(sum, room) / count;
    double squares = 0;
    for (int piece = threadIdx.y; piece < pieces; piece += FINISH_LANES) {
        const float *of = moments + (int64_t)piece * 3 * channels + channel;
        double apart = of[channels] - middle;
        squares += of[2 * channels] + of[0] * apart * apart;
    }
    squares = lane_sum(squares, room);
    if (threadIdx.y == 0) {
        float rounded = squares / count;
        double inverse = 1 / sqrt((double)rounded + epsilon);
        mean[channel] = middle;
        variance[channel] = rounded;
        inverse_deviation[channel] = inverse;
        scale[channel] = gamma[channel] * inverse;
        shift[channel] = beta[channel];
    }
}

// What the gradients behind a norm leave to be done, from the sums of the pieces [pieces][2][channels] = (Σ g, Σ g (x − mean)):
// the gradients of γ and β, and dx = scale · g + slope · (x − mean) + offset. `count` is that of the statistics, or 0 where
// they are constants.
KERNEL(finish_norm_gradient, (const float *sums, int pieces, int channels, const float *scale,
                              const float *inverse_deviation, int count, int add, float *gamma, float *beta,
                              float *slope, float *offset)) {
    __shared__ double room[FINISH_LANES][FINISH_CHANNELS];
    int channel = blockIdx.x * FINISH_CHANNELS + threadIdx.x;
    double plain = 0, centred = 0;
    for (int piece = threadIdx.y; piece < pieces; piece += FINISH_LANES) {
        const float *of = sums + (int64_t)piece * 2 * channels + channel;
        plain += of[0];
        centred += of[channels];
    }
    plain = lane_sum(plain, room);
    centred = lane_sum(centred, room);
    if (threadIdx.y == 0) {
        double inverse = inverse_deviation[channel];
        double per_value = count > 0 ? -(double)scale[channel] / count : 0;
        float of_gamma = centred * inverse, of_beta = plain;
        gamma[channel] = add ? gamma[channel] + of_gamma : of_gamma;
        beta[channel] = add ? beta[channel] + of_beta : of_beta;
        slope[channel] = per_value * inverse * inverse * centred;
        offset[channel] = per_value * plain;
    }
}

// dx = scale · g + slope · (x − mean) + offset (+ added); dx may be g.
template <typename T>
__device__ inline void through_norm(const T *gradient, const T *x, const T *added, const float *scale,
                                    const float *mean, const float *slope, const float *offset, T *dx,
                                    int places, int channels) {
    int64_t size = (int64_t)places * channels / WIDE;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < size; i += (int64_t)gridDim.x * blockDim.x) {
        int channel = i * WIDE % channels;
        float g[WIDE], at[WIDE], more[WIDE];
        load_wide(gradient + i * WIDE, g);
        load_wide(x + i * WIDE, at);
        if (added) load_wide(added + i * WIDE, more);
        for (int k = 0; k < WIDE; k++) {
            int c = channel + k;
            g[k] = fmaf(scale[c], g[k], fmaf(slope[c], at[k] - mean[c], offset[c]));
            if (added) g[k] += more[k];
        }
        store_wide(dx + i * WIDE, g);
    }
}

#define DEFINE(ending, T)                                                                                          \
    KERNEL(through_norm_##ending, (const T *gradient, const T *x, const T *added, const float *scale,              \
                                   const float *mean, const float *slope, const float *offset, T *dx, int places,  \
                                   int channels)) {                                                                \
        through_norm(gradient, x, added, scale, mean, slope, offset, dx, places, channels);                        \
    }
FOR_EACH_TYPE(DEFINE)
#undef DEFINE
