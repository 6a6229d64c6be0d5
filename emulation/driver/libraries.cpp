// What stands on top of the driver, as far as this project uses it: a handle of cuRAND, which Candle makes for every
// device, cuBLAS's products of matrices in f32, and cuDNN's convolutions of channels-last maps, by their definition.

#include <math.h>
#include <stdio.h>

#include "driver.h"

// What cuBLAS and cuDNN are asked through.
struct Handle {
    void *stream;
};

static constexpr Status CUBLAS_INVALID_VALUE = 7, CUBLAS_EXECUTION_FAILED = 13;
static constexpr int REAL_32F = 0, COMPUTE_32F = 68;

// Matrices one behind the other, by columns, each of which begins `leading` numbers behind the one before.
struct Matrices {
    float *data;
    int rows, columns, leading;
    long long stride;

    bool lie_there(int count) const {
        size_t numbers = (size_t)stride * (count - 1) + (size_t)leading * (columns - 1) + rows;
        return leading >= rows && driver.memory.holds((Address)data, numbers * sizeof(float));
    }

    float &at(int matrix, int row, int column) const { return data[matrix * stride + (size_t)column * leading + row]; }
};

extern "C" {

Status cublasCreate_v2(Handle **made) {
    *made = new Handle{};
    return SUCCESS;
}

Status cublasDestroy_v2(Handle *handle) {
    delete handle;
    return SUCCESS;
}

Status cublasSetStream_v2(Handle *handle, void *stream) {
    handle->stream = stream;
    return SUCCESS;
}

// C = A B, with A and B transposed where that is asked for.
Status cublasGemmStridedBatchedEx(Handle *handle, int transpose_a, int transpose_b, int m, int n, int k,
                                  const float *alpha, float *a_data, int a_type, int lda, long long a_stride,
                                  float *b_data, int b_type, int ldb, long long b_stride, const float *beta,
                                  float *c_data, int c_type, int ldc, long long c_stride, int count, int compute_type,
                                  int) {
    Locked locked(driver.mutex);
    Matrices a{a_data, transpose_a ? k : m, transpose_a ? m : k, lda, a_stride},
        b{b_data, transpose_b ? n : k, transpose_b ? k : n, ldb, b_stride}, c{c_data, m, n, ldc, c_stride};
    bool types = a_type == REAL_32F && b_type == REAL_32F && c_type == REAL_32F && compute_type == COMPUTE_32F;
    if (!types || *alpha != 1 || *beta != 0) REFUSE(CUBLAS_INVALID_VALUE, "types or factors");
    if (!a.lie_there(count) || !b.lie_there(count) || !c.lie_there(count))
        REFUSE(CUBLAS_INVALID_VALUE, "the matrices are not where they are said to be");
    Status status = driver.enqueue(driver.stream(handle->stream), [=]() -> Status {
        Memory::Opened opened(driver.memory);
        for (int matrix = 0; matrix < count; matrix++)
            for (int row = 0; row < m; row++)
                for (int column = 0; column < n; column++) {
                    float sum = 0;
                    for (int i = 0; i < k; i++)
                        sum += (transpose_a ? a.at(matrix, i, row) : a.at(matrix, row, i)) *
                               (transpose_b ? b.at(matrix, column, i) : b.at(matrix, i, column));
                    c.at(matrix, row, column) = sum;
                }
        return SUCCESS;
    });
    return status ? CUBLAS_EXECUTION_FAILED : (Status)SUCCESS;
}

Status curandCreateGenerator(void **made, int) {
    *made = &driver;
    return SUCCESS;
}

Status curandDestroyGenerator(void *) { return SUCCESS; }
Status curandSetStream(void *, void *) { return SUCCESS; }
Status curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return SUCCESS; }

}  // extern "C"

// cuDNN. The names are those of cudnn.h.

enum : Status { BAD_PARAM = 2000, NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };
enum { NHWC = 1, FLOAT = 0, BFLOAT16 = 9, CROSS_CORRELATION = 1, TENSOR_OP_MATH = 1, FMA_MATH = 3 };

// A map [N, C, H, W], or weights [K, C, H, W].
struct Description {
    int format, type, n, c, h, w;

    size_t count() const { return (size_t)n * c * h * w; }
    size_t bytes() const { return count() * (type == FLOAT ? 4 : 2); }
    bool lies_at(const void *data) const { return driver.memory.holds((Address)data, bytes()); }

    size_t place(int in, int ic, int ih, int iw) const { return (((size_t)in * h + ih) * w + iw) * c + ic; }

    float read(const void *data, size_t place) const {
        if (type == FLOAT) return ((const float *)data)[place];
        uint32_t bits = (uint32_t)((const uint16_t *)data)[place] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }

    // To the nearest, of two as near to the even one.
    void write(void *data, size_t place, float value) const {
        if (type == FLOAT) {
            ((float *)data)[place] = value;
            return;
        }
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        ((uint16_t *)data)[place] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
};

struct Convolution {
    int padding_h, padding_w, stride_h, stride_w, dilation_h, dilation_w, mode, type, arithmetic;

    bool joins(const Description &x, const Description &weight, const Description &y) const {
        auto size = [](int input, int padding, int kernel, int stride) {
            return (input + 2 * padding - kernel) / stride + 1;
        };
        bool types = x.type == weight.type && x.type == y.type && type == FLOAT &&
                     arithmetic == (x.type == FLOAT ? FMA_MATH : TENSOR_OP_MATH);
        bool formats = x.format == NHWC && weight.format == NHWC && y.format == NHWC;
        return types && formats && mode == CROSS_CORRELATION && dilation_h == 1 && dilation_w == 1 && x.n == y.n &&
               x.c == weight.c && y.c == weight.n && y.h == size(x.h, padding_h, weight.h, stride_h) &&
               y.w == size(x.w, padding_w, weight.w, stride_w);
    }

    // Calls `product` with the places in x, the weight and y of every product.
    template <typename Product>
    void each(const Description &x, const Description &weight, const Description &y, Product product) const {
        for (int n = 0; n < y.n; n++)
            for (int out_h = 0; out_h < y.h; out_h++)
                for (int out_w = 0; out_w < y.w; out_w++)
                    for (int kernel_h = 0; kernel_h < weight.h; kernel_h++)
                        for (int kernel_w = 0; kernel_w < weight.w; kernel_w++) {
                            int h = out_h * stride_h + kernel_h - padding_h,
                                w = out_w * stride_w + kernel_w - padding_w;
                            if (h < 0 || h >= x.h || w < 0 || w >= x.w) continue;
                            for (int k = 0; k < y.c; k++)
                                for (int c = 0; c < x.c; c++)
                                    product(x.place(n, c, h, w), weight.place(k, c, kernel_h, kernel_w),
                                            y.place(n, k, out_h, out_w));
                        }
    }
};

struct Performance {
    int algorithm;
    Status status;
    float seconds;
    size_t bytes;
    int deterministic, arithmetic, reserved[3];
};

// Of three algorithms, one does not work and one does not give the same bits every time. All are for tensor cores.
static constexpr int ALGORITHM = 2;
static constexpr size_t WORKSPACE = 4096;

static Status algorithms(bool joined, int wanted, int *count, Performance *found) {
    if (!joined || wanted < 3) REFUSE(BAD_PARAM, "the descriptions do not belong together");
    *count = 3;
    for (int algorithm = 0; algorithm < *count; algorithm++)
        found[algorithm] = {
            algorithm, algorithm == 0 ? (Status)NOT_SUPPORTED : (Status)SUCCESS, 1, WORKSPACE, algorithm != 1,
            TENSOR_OP_MATH, {}};
    return SUCCESS;
}

static Status workspace(bool joined, int algorithm, size_t *bytes) {
    if (!joined || algorithm != ALGORITHM) REFUSE(BAD_PARAM, "the descriptions or the algorithm");
    *bytes = WORKSPACE;
    return SUCCESS;
}

// Starts `work`, which adds up the sums of a result, and writes them: in place of what is there, or added to it.
template <typename Sums>
static Status start(const char *function, Handle *handle, const Description &result, void *data, bool valid,
                    int algorithm, void *space, size_t bytes, const float *alpha, const float *beta, Sums work) {
    Locked locked(driver.mutex);
    bool room = algorithm == ALGORITHM && bytes >= WORKSPACE && driver.memory.holds((Address)space, WORKSPACE);
    bool factors = *alpha == 1 && (*beta == 0 || *beta == 1);
    if (!valid || !room || !factors) return refuse(BAD_PARAM, function, "descriptions, memory or factors");
    bool add = *beta == 1;
    Status status = driver.enqueue(driver.stream(handle->stream), [=]() -> Status {
        Memory::Opened opened(driver.memory);
        std::vector<float> sums(result.count());
        for (size_t i = 0; add && i < sums.size(); i++) sums[i] = result.read(data, i);
        work(sums);
        for (size_t i = 0; i < sums.size(); i++) result.write(data, i, sums[i]);
        return SUCCESS;
    });
    return status ? (Status)EXECUTION_FAILED : (Status)SUCCESS;
}

extern "C" {

Status cudnnCreate(Handle **made) { return cublasCreate_v2(made); }
Status cudnnDestroy(Handle *handle) { return cublasDestroy_v2(handle); }
Status cudnnSetStream(Handle *handle, void *stream) { return cublasSetStream_v2(handle, stream); }

const char *cudnnGetErrorString(Status) { return "an error of the emulated cuDNN"; }

Status cudnnCreateTensorDescriptor(Description **made) {
    *made = new Description{};
    return SUCCESS;
}

Status cudnnCreateFilterDescriptor(Description **made) { return cudnnCreateTensorDescriptor(made); }

Status cudnnDestroyTensorDescriptor(Description *description) {
    delete description;
    return SUCCESS;
}

Status cudnnDestroyFilterDescriptor(Description *description) { return cudnnDestroyTensorDescriptor(description); }

Status cudnnCreateConvolutionDescriptor(Convolution **made) {
    *made = new Convolution{};
    return SUCCESS;
}

Status cudnnDestroyConvolutionDescriptor(Convolution *convolution) {
    delete convolution;
    return SUCCESS;
}

Status cudnnSetTensor4dDescriptor(Description *made, int format, int type, int n, int c, int h, int w) {
    *made = {format, type, n, c, h, w};
    return SUCCESS;
}

Status cudnnSetFilter4dDescriptor(Description *made, int type, int format, int k, int c, int h, int w) {
    *made = {format, type, k, c, h, w};
    return SUCCESS;
}

Status cudnnSetConvolution2dDescriptor(Convolution *made, int padding_h, int padding_w, int stride_h, int stride_w,
                                       int dilation_h, int dilation_w, int mode, int type) {
    *made = {padding_h, padding_w, stride_h, stride_w, dilation_h, dilation_w, mode, type, -1};
    return SUCCESS;
}

Status cudnnSetConvolutionMathType(Convolution *made, int arithmetic) {
    made->arithmetic = arithmetic;
    return SUCCESS;
}

Status cudnnGetConvolutionForwardAlgorithm_v7(Handle *, Description *x, Description *weight, Convolution *of,
                                              Description *y, int wanted, int *count, Performance *found) {
    return algorithms(of->joins(*x, *weight, *y), wanted, count, found);
}

Status cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle *, Description *weight, Description *y, Convolution *of,
                                                   Description *x, int wanted, int *count, Performance *found) {
    return algorithms(of->joins(*x, *weight, *y), wanted, count, found);
}

Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle *, Description *x, Description *y, Convolution *of,
                                                     Description *weight, int wanted, int *count, Performance *found) {
    return algorithms(of->joins(*x, *weight, *y), wanted, count, found);
}

Status cudnnGetConvolutionForwardWorkspaceSize(Handle *, Description *x, Description *weight, Convolution *of,
                                               Description *y, int algorithm, size_t *bytes) {
    return workspace(of->joins(*x, *weight, *y), algorithm, bytes);
}

Status cudnnGetConvolutionBackwardDataWorkspaceSize(Handle *, Description *weight, Description *y, Convolution *of,
                                                    Description *x, int algorithm, size_t *bytes) {
    return workspace(of->joins(*x, *weight, *y), algorithm, bytes);
}

Status cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle *, Description *x, Description *y, Convolution *of,
                                                      Description *weight, int algorithm, size_t *bytes) {
    return workspace(of->joins(*x, *weight, *y), algorithm, bytes);
}

Status cudnnConvolutionForward(Handle *handle, const float *alpha, Description *x, void *x_data, Description *weight,
                               void *weight_data, Convolution *of, int algorithm, void *space, size_t bytes,
                               const float *beta, Description *y, void *y_data) {
    bool valid = of->joins(*x, *weight, *y) && x->lies_at(x_data) && weight->lies_at(weight_data) && y->lies_at(y_data);
    auto work = [=, x = *x, weight = *weight, y = *y, of = *of](std::vector<float> &sums) {
        of.each(x, weight, y, [&](size_t in_x, size_t in_weight, size_t in_y) {
            sums[in_y] += x.read(x_data, in_x) * weight.read(weight_data, in_weight);
        });
    };
    return start(__func__, handle, *y, y_data, valid, algorithm, space, bytes, alpha, beta, work);
}

Status cudnnConvolutionBackwardData(Handle *handle, const float *alpha, Description *weight, void *weight_data,
                                    Description *y, void *y_data, Convolution *of, int algorithm, void *space,
                                    size_t bytes, const float *beta, Description *x, void *x_data) {
    bool valid = of->joins(*x, *weight, *y) && x->lies_at(x_data) && weight->lies_at(weight_data) && y->lies_at(y_data);
    auto work = [=, x = *x, weight = *weight, y = *y, of = *of](std::vector<float> &sums) {
        of.each(x, weight, y, [&](size_t in_x, size_t in_weight, size_t in_y) {
            sums[in_x] += y.read(y_data, in_y) * weight.read(weight_data, in_weight);
        });
    };
    return start(__func__, handle, *x, x_data, valid, algorithm, space, bytes, alpha, beta, work);
}

Status cudnnConvolutionBackwardFilter(Handle *handle, const float *alpha, Description *x, void *x_data, Description *y,
                                      void *y_data, Convolution *of, int algorithm, void *space, size_t bytes,
                                      const float *beta, Description *weight, void *weight_data) {
    bool valid = of->joins(*x, *weight, *y) && x->lies_at(x_data) && weight->lies_at(weight_data) && y->lies_at(y_data);
    auto work = [=, x = *x, weight = *weight, y = *y, of = *of](std::vector<float> &sums) {
        of.each(x, weight, y, [&](size_t in_x, size_t in_weight, size_t in_y) {
            sums[in_weight] += x.read(x_data, in_x) * y.read(y_data, in_y);
        });
    };
    return start(__func__, handle, *weight, weight_data, valid, algorithm, space, bytes, alpha, beta, work);
}

}  // extern "C"
