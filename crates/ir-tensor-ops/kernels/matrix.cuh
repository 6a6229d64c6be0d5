// Products of small matrices by a warp, with sums in f32. A product is of 16×16 numbers A with 16×8 numbers B; the
// four sums that a lane holds are those of rows lane/4 and lane/4 + 8, columns 2 (lane % 4) and the next: the order of
// `mma.sync`, which f32 follows without tensor cores, so that what comes before and after is written once.
#pragma once

// Four 8×8 matrices of 16-bit numbers from shared memory. Lane i gives the address of row i % 8 of matrix i / 8, and
// receives of each matrix numbers 2 (lane % 4) and the next of row lane / 4, or, `TRANSPOSED`, of column lane / 4.
template <bool TRANSPOSED>
__device__ inline void load_matrices(uint32_t (&to)[4], const bf16 *row) {
#ifdef EMULATION
    emulation::load_matrices(to, row, TRANSPOSED);
#else
    uint32_t address = __cvta_generic_to_shared(row);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
#endif
}

// sums += A B.
__device__ inline void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef EMULATION
    emulation::multiply(sums, a, b0, b1);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// Copies 16 bytes to shared memory, without waiting for them.
__device__ inline void begin_copy(void *to, const void *from) {
#ifdef EMULATION
    emulation::begin_copy(to, from);
#else
    uint32_t address = __cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#endif
}

// The copies of this thread since the last call are one group.
__device__ inline void end_group() {
#ifdef EMULATION
    emulation::end_group();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for this thread's groups but the last `LATER`.
template <int LATER>
__device__ inline void wait_for_groups() {
#ifdef EMULATION
    emulation::wait_for_groups(LATER);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(LATER) : "memory");
#endif
}

// How the numbers of a type lie in shared memory, and which of them a lane reads.
template <typename T>
struct Fragment;

template <>
struct Fragment<bf16> {
    // Numbers added to a row: rows then begin at odd multiples of 16 bytes, and eight of them touch all banks once.
    static constexpr int PAD = 8;
    // Of 16 rows of A, those whose place a lane has to know.
    static constexpr int ROWS = 1;
    __device__ static int row(int lane, int) { return lane % 16; }
    // What the lane adds to the beginning of a row.
    __device__ static int column(int lane) { return lane / 16 * 8; }
};

template <>
struct Fragment<float> {
    static constexpr int PAD = 4;
    static constexpr int ROWS = 2;
    __device__ static int row(int lane, int which) { return lane / 4 + 8 * which; }
    __device__ static int column(int) { return 0; }
};

// 16 steps of sums[m][n] += A[m] B[n]. `rows` are a lane's rows of A (see `Fragment`), as distances from `a`; B lies
// with its columns side by side as [column][step] if `STEPS_INSIDE`, else as [step][column].
template <bool STEPS_INSIDE, int M, int N>
__device__ inline void multiply_rows(float (&sums)[M][N][4], const bf16 *a, const int (&rows)[M][1], const bf16 *b,
                                     int pitch, int lane) {
    uint32_t of_a[M][4];
    UNROLL
    for (int m = 0; m < M; m++) load_matrices<false>(of_a[m], a + rows[m][0]);
    UNROLL
    for (int n = 0; n < N; n += 2) {
        uint32_t of_b[4];
        if (STEPS_INSIDE)
            load_matrices<false>(of_b, b + (n * 8 + lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8);
        else
            load_matrices<true>(of_b, b + lane % 16 * pitch + n * 8 + lane / 16 * 8);
        UNROLL
        for (int m = 0; m < M; m++) {
            multiply(sums[m][n], of_a[m], of_b[0], of_b[1]);
            multiply(sums[m][n + 1], of_a[m], of_b[2], of_b[3]);
        }
    }
}

template <bool STEPS_INSIDE, int M, int N>
__device__ inline void multiply_rows(float (&sums)[M][N][4], const float *a, const int (&rows)[M][2], const float *b,
                                     int pitch, int lane) {
    UNROLL
    for (int step = 0; step < 16; step += 4) {
        float4 of_a[M][2];
        UNROLL
        for (int m = 0; m < M; m++)
            UNROLL
            for (int row = 0; row < 2; row++) of_a[m][row] = *(const float4 *)(a + rows[m][row] + step);
        UNROLL
        for (int n = 0; n < N; n++) {
            int column = n * 8 + lane % 4 * 2;
            float4 of_b[2];
            if (STEPS_INSIDE) {
                of_b[0] = *(const float4 *)(b + column * pitch + step);
                of_b[1] = *(const float4 *)(b + (column + 1) * pitch + step);
            } else {
                const float *from = b + step * pitch + column;
                float2 pairs[4];
                UNROLL
                for (int k = 0; k < 4; k++) pairs[k] = *(const float2 *)(from + k * pitch);
                of_b[0] = make_float4(pairs[0].x, pairs[1].x, pairs[2].x, pairs[3].x);
                of_b[1] = make_float4(pairs[0].y, pairs[1].y, pairs[2].y, pairs[3].y);
            }
            UNROLL
            for (int m = 0; m < M; m++)
                UNROLL
                for (int i = 0; i < 4; i++) {
                    float4 x = of_a[m][i / 2], y = of_b[i % 2];
                    float &sum = sums[m][n][i];
                    sum = fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
                }
        }
    }
}
