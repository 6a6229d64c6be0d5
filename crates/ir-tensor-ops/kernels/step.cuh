// The end of a training step: stochastic gradient descent over all parameters at once, unless something is not finite.
//
// `state` are four numbers: how many batches of the epoch are done, and whether the loss, the statistics or the updated
// parameters of some step were not finite. After such a step nothing changes any more.
#pragma once

enum { BATCH, BAD_LOSS, BAD_STATISTICS, BAD_UPDATE };

__device__ inline bool failed(const int *state) {
    return state[BAD_LOSS] || state[BAD_STATISTICS] || state[BAD_UPDATE];
}

constexpr int TOTAL_THREADS = 256;

// Mean loss and number of correct samples of the batch: one block.
KERNEL(total_loss, (const double *loss, const uint32_t *correct, int rows, double *totals, int *state)) {
    __shared__ double room[TOTAL_THREADS];
    double sum = 0, count = 0;
    for (int i = threadIdx.x; i < rows; i += TOTAL_THREADS) {
        sum += loss[i];
        count += correct[i];
    }
    sum = block_sum(sum, room, TOTAL_THREADS);
    count = block_sum(count, room, TOTAL_THREADS);
    if (threadIdx.x == 0 && !failed(state)) {
        totals[0] = sum / rows;
        totals[1] = count;
        if (!isfinite(totals[0])) state[BAD_LOSS] = 1;
    }
}

// Notes whether a number of them is not finite, at `state[what]`.
KERNEL(check_finite, (const float *values, int size, int *state, int what)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)
        if (!isfinite(values[i])) atomicExch(&state[what], 1);
}

__device__ inline void descend(float weight, float velocity, float gradient, float momentum, float decay, float rate,
                               float *new_weight, float *new_velocity) {
    *new_velocity = momentum * velocity + (gradient + decay * weight);
    *new_weight = weight - rate * *new_velocity;
}

// Notes whether the update would leave a number that is not finite. The first `decayed` parameters decay.
KERNEL(check_update, (const float *weights, const float *velocities, const float *gradients, int size, int decayed,
                      float momentum, float decay, const float *rate, int *state)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        float weight, velocity;
        descend(weights[i], velocities[i], gradients[i], momentum, i < decayed ? decay : 0, rate[0], &weight,
                &velocity);
        if (!isfinite(weight) || !isfinite(velocity)) atomicExch(&state[BAD_UPDATE], 1);
    }
}

// v ← momentum · v + (gradient + decay · w), w ← w − rate · v, and w as bfloat16 where a copy is kept.
KERNEL(update, (float *weights, float *velocities, const float *gradients, bf16 *copy, int size, int decayed,
                float momentum, float decay, const float *rate, const int *state)) {
    if (failed(state)) return;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        float weight, velocity;
        descend(weights[i], velocities[i], gradients[i], momentum, i < decayed ? decay : 0, rate[0], &weight,
                &velocity);
        weights[i] = weight;
        velocities[i] = velocity;
        if (copy) store(copy + i, weight);
    }
}

// running ← (1 − momentum) · running + momentum · batch, for the statistics of many norms at once: number i of the
// running means and variances takes number `from[i]` of the batch's, the variances times `unbiased[i]`. One launch
// takes each running number at most once; −1 leaves it.
KERNEL(take_statistics, (float *mean, float *variance, const float *batch_mean, const float *batch_variance,
                         const int *from, const float *unbiased, int size, double momentum, const int *state)) {
    if (failed(state)) return;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) {
        if (from[i] < 0) continue;
        double of_variance = (double)batch_variance[from[i]] * unbiased[i];
        mean[i] = (1 - momentum) * mean[i] + momentum * batch_mean[from[i]];
        variance[i] = (1 - momentum) * variance[i] + momentum * of_variance;
    }
}

// Writes the totals of the batch into the report of the epoch and goes on to the next batch, up to the last: one thread.
KERNEL(advance, (const double *totals, double *report, int last, int *state)) {
    if (failed(state) || state[BATCH] > last) return;
    report[2 * state[BATCH]] = totals[0];
    report[2 * state[BATCH] + 1] = totals[1];
    state[BATCH] += 1;
}

// The copy of all parameters as bfloat16.
KERNEL(copy_as_bf16, (const float *from, bf16 *to, int size)) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x) store(to + i, from[i]);
}
