// The linear layer at the end, and the loss. Small: a thread for every number of a result.
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
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows) return;
    const float *row = logits + (int64_t)i * classes;
    if (labels[i] >= (uint32_t)classes) {
        loss[i] = NAN;
        correct[i] = 0;
        for (int k = 0; k < classes; k++) gradient[(int64_t)i * classes + k] = NAN;
        return;
    }
    int label = labels[i];
    float largest = row[0];
    for (int k = 1; k < classes; k++) largest = max(largest, row[k]);
    double sum = 0;
    bool best = true;
    for (int k = 0; k < classes; k++) {
        sum += exp((double)row[k] - largest);
        best = best && (k < label ? row[k] < row[label] : row[k] <= row[label]);
    }
    loss[i] = log(sum) - ((double)row[label] - largest);
    correct[i] = best;
    for (int k = 0; k < classes; k++) {
        double probability = exp((double)row[k] - largest) / sum;
        gradient[(int64_t)i * classes + k] = (probability - (k == label)) / rows;
    }
}
