//! Sixteen lanes as two registers of eight: AVX2 with fused multiply-add.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m256, _CMP_NLE_UQ, _mm256_add_ps, _mm256_and_ps, _mm256_cmp_ps, _mm256_fmadd_ps,
    _mm256_load_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps,
    _mm256_store_ps, _mm256_sub_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::{Kernel, LANES, Lanes, Vector};

/// Proof that the CPU has AVX2 and FMA: only [`Avx2::new`] makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// `None` if the CPU lacks the instructions.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }

    /// Runs the kernel, compiled for AVX2 and FMA.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<K: Kernel>(kernel: K, vector: Avx2) -> K::Output {
            kernel.run(vector)
        }
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { compiled(kernel, self) }
    }
}

impl Vector for Avx2 {
    type Register = [__m256; 2];

    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> [__m256; 2] {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> [__m256; 2] {
        let from = from.0.as_ptr();
        // SAFETY: `self` proves AVX2; `Lanes` is 16 f32 aligned to 64 bytes, so both halves
        // are in bounds and aligned to 32.
        unsafe { [_mm256_load_ps(from), _mm256_load_ps(from.add(8))] }
    }

    #[inline(always)]
    fn store(self, value: [__m256; 2], to: &mut Lanes) {
        let to = to.0.as_mut_ptr();
        // SAFETY: `self` proves AVX2; `Lanes` is 16 f32 aligned to 64 bytes, so both halves
        // are in bounds and aligned to 32.
        unsafe {
            _mm256_store_ps(to, value[0]);
            _mm256_store_ps(to.add(8), value[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn subtract(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn where_positive(self, condition: [__m256; 2], value: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe {
            let zero = _mm256_setzero_ps();
            [
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(condition[0], zero), value[0]),
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLE_UQ>(condition[1], zero), value[1]),
            ]
        }
    }

    #[inline(always)]
    fn multiply_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }

    #[inline(always)]
    fn transpose(self, matrix: &mut [Lanes; LANES]) {
        let mut rows = [self.splat(0.); LANES];
        for (register, row) in rows.iter_mut().zip(matrix.iter()) {
            *register = self.load(row);
        }
        for half in 0..2 {
            let (mut upper, mut lower) = ([rows[0][0]; 8], [rows[0][0]; 8]);
            for row in 0..8 {
                (upper[row], lower[row]) = (rows[row][half], rows[8 + row][half]);
            }
            let (upper, lower) = (self.transpose8(upper), self.transpose8(lower));
            for row in 0..8 {
                self.store([upper[row], lower[row]], &mut matrix[8 * half + row]);
            }
        }
    }
}

impl Avx2 {
    /// Transposes an 8 × 8 matrix.
    #[inline(always)]
    fn transpose8(self, mut r: [__m256; 8]) -> [__m256; 8] {
        let (mut p, mut q) = (r, r);
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe {
            // Pairs of rows, interleaved within each 128-bit half; then groups of four rows.
            for i in (0..8).step_by(2) {
                p[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
                p[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
            }
            for i in (0..8).step_by(4) {
                q[i] = _mm256_shuffle_ps::<0x44>(p[i], p[i + 2]);
                q[i + 1] = _mm256_shuffle_ps::<0xee>(p[i], p[i + 2]);
                q[i + 2] = _mm256_shuffle_ps::<0x44>(p[i + 1], p[i + 3]);
                q[i + 3] = _mm256_shuffle_ps::<0xee>(p[i + 1], p[i + 3]);
            }
            for i in 0..4 {
                r[i] = _mm256_permute2f128_ps::<0x20>(q[i], q[i + 4]);
                r[i + 4] = _mm256_permute2f128_ps::<0x31>(q[i], q[i + 4]);
            }
        }
        r
    }
}
