// The linear layer at the end, and the loss. Small: a thread for every number of a result, and a warp for every sample of
// the loss.
#pragma once

// y [rows][outputs] = x [rows][inputs] · weightᵀ [outputs][inputs] + bias.
KERNEL(linear, (const float *x, const float *weight, const float *bias, float *y, int rows, int inputs, int outputs)) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * outputs) return;
    const float *row = x + (int64_t)(i / outputs) * inputs, *of = weight + (int64_t)(i % outputs) * inputs;
    float sum = 0;
    for (int k = 0; k < inputs; k++) sum = fmaf(row[k], of[k], sum);
    y[i] = sum + bias[i % outputs];
}

// dx = dy · weight.
KERNEL(linear_gradient_of_x, (const float *dy, const float *weight, float *dx, int rows, int inputs, int outputs)) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * inputs) return;
    const float *row = dy + (int64_t)(i / inputs) * outputs, *of = weight + i % inputs;
    float sum = 0;
    for (int k = 0; k < outputs; k++) sum = fmaf(row[k], of[(int64_t)k * inputs], sum);
    dx[i] = sum;
}

// dweight = dyᵀ · x, dbias = Σ dy over the rows; the threads behind those of the weight take the bias.
KERNEL(linear_gradient_of_weight,
       (const float *dy, const float *x, float *dweight, float *dbias, int rows, int inputs, int outputs)) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int weights = inputs * outputs;
    if (i >= weights + outputs) return;
    float sum = 0;
    if (i < weights) {
        const float *of = dy + i / inputs, *column = x + i % inputs;
        for (int k = 0; k < rows; k++) sum = fmaf(of[(int64_t)k * outputs], column[(int64_t)k * inputs], sum);
        dweight[i] = sum;
    } else {
        for (int k = 0; k < rows; k++) sum += dy[(int64_t)k * outputs + i - weights];
        dbias[i - weights] = sum;
    }
}

// Per sample: the cross-entropy in nats, whether the label's logit is the largest (the first of equals counts), and
// the gradient of the mean loss. A label that is no class has no loss.
KERNEL(cross_entropy, (const float *logits, const uint32_t *labels, int rows, int classes, double *loss,
                       uint32_t *correct, float *gradient)) {
    int i = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (i >= rows) return;
    const float *row = logits + (int64_t)i * classes;
    float *of_row = gradient + (int64_t)i * classes;
    bool known = labels[i] < (uint32_t)classes;
    int label = known ? labels[i] : 0;
    float largest = -INFINITY;
    for (int k = lane; k < classes; k += 32) largest = max(largest, row[k]);
    for (int mask = 16; mask > 0; mask /= 2) largest = max(largest, __shfl_xor_sync(0xffffffff, largest, mask));
    double sum = 0;
    int best = known;
    for (int k = lane; k < classes; k += 32) {
        sum += exp((double)row[k] - largest);
        best &= k < label ? row[k] < row[label] : row[k] <= row[label];
    }
    for (int mask = 16; mask > 0; mask /= 2) {
        sum += __shfl_xor_sync(0xffffffff, sum, mask);
        best &= __shfl_xor_sync(0xffffffff, best, mask);
    }
    for (int k = lane; k < classes; k += 32) {
        double probability = exp((double)row[k] - largest) / sum;
        of_row[k] = known ? (probability - (k == label)) / rows : NAN;
    }
    if (lane > 0) return;
    loss[i] = known ? log(sum) - ((double)row[label] - largest) : NAN;
    correct[i] = best;
}
