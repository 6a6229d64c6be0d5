// One number per sample of a batch, in f64. The order of a sum depends on the size of a sample alone.
#pragma once

constexpr int SAMPLE_THREADS = 512;

// ⟨x, y⟩, ‖x‖² and ‖y‖² of every sample, [samples][3]: a block for each. The products are exact.
KERNEL(inner_products, (const float *x, const float *y, double *found, int size)) {
    __shared__ double room[SAMPLE_THREADS];
    const float *of_x = x + (int64_t)blockIdx.x * size, *of_y = y + (int64_t)blockIdx.x * size;
    double sums[3] = {0, 0, 0};
    for (int i = threadIdx.x; i < size; i += SAMPLE_THREADS) {
        double a = of_x[i], b = of_y[i];
        sums[0] += a * b;
        sums[1] += a * a;
        sums[2] += b * b;
    }
    for (int k = 0; k < 3; k++) {
        double sum = block_sum(sums[k], room, SAMPLE_THREADS);
        if (threadIdx.x == 0) found[(int64_t)blockIdx.x * 3 + k] = sum;
    }
}

// m = the largest of a row, and Σ exp(x − m), which neither overflows nor vanishes.
__device__ inline double exponential_sum(const float *row, int classes, double *largest) {
    float most = -INFINITY;
    for (int k = 0; k < classes; k++) most = fmaxf(most, row[k]);
    *largest = most;
    double sum = 0;
    for (int k = 0; k < classes; k++) sum += exp((double)row[k] - most);
    return sum;
}

// −Σ p ln p of softmax(row).
__device__ inline double entropy_of(const float *row, int classes) {
    double largest, sum = exponential_sum(row, classes, &largest), total = 0;
    for (int k = 0; k < classes; k++) {
        double p = exp(row[k] - largest) / sum;
        if (p != 0) total += p * log(p);
    }
    return 0 - total;
}

// −ln p of the label.
__device__ inline double cross_entropy_of(const float *row, int classes, int label) {
    double largest, sum = exponential_sum(row, classes, &largest);
    return log(sum) - (row[label] - largest);
}

// p of the label less the largest p of the others.
__device__ inline double margin_of(const float *row, int classes, int label) {
    double largest, sum = exponential_sum(row, classes, &largest), best = 0;
    for (int k = 0; k < classes; k++)
        if (k != label) best = fmax(best, exp(row[k] - largest) / sum);
    return exp(row[label] - largest) / sum - best;
}

// 1 if the label's is the largest, the first of equals; a row with a NaN never is.
__device__ inline double correct_of(const float *row, int classes, int label) {
    bool best = true;
    for (int k = 0; k < classes; k++) best = best && (k < label ? row[k] < row[label] : row[k] <= row[label]);
    return best;
}

enum { ENTROPY, CROSS_ENTROPY, PROBABILITY_MARGIN, CORRECT };

// One of these of every row of logits: a thread for each. Only the entropy does without labels.
KERNEL(of_rows, (const float *logits, const uint32_t *labels, double *found, int rows, int classes, int what)) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows) return;
    const float *row = logits + (int64_t)i * classes;
    if (what == ENTROPY) found[i] = entropy_of(row, classes);
    if (what == CROSS_ENTROPY) found[i] = cross_entropy_of(row, classes, labels[i]);
    if (what == PROBABILITY_MARGIN) found[i] = margin_of(row, classes, labels[i]);
    if (what == CORRECT) found[i] = correct_of(row, classes, labels[i]);
}

// The mean of the losses as f32: one block.
KERNEL(mean_of, (const double *losses, float *mean, int rows)) {
    __shared__ double room[SAMPLE_THREADS];
    double sum = 0;
    for (int i = threadIdx.x; i < rows; i += SAMPLE_THREADS) sum += losses[i];
    sum = block_sum(sum, room, SAMPLE_THREADS);
    if (threadIdx.x == 0) mean[0] = sum / rows;
}
