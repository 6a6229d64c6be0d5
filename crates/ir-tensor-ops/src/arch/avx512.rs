//! Sixteen lanes as one register: AVX-512.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m512, _CMP_NLE_UQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_load_ps,
    _mm512_maskz_mov_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    _mm512_shuffle_ps, _mm512_store_ps, _mm512_sub_ps, _mm512_unpackhi_ps, _mm512_unpacklo_ps,
};

use super::{Kernel, LANES, Lanes, Vector};

/// Proof that the CPU has AVX-512 F, VL, BW and DQ: only [`Avx512::new`] makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// `None` if the CPU lacks the instructions.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }

    /// Runs the kernel, compiled for AVX-512.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn compiled<K: Kernel>(kernel: K, vector: Avx512) -> K::Output {
            kernel.run(vector)
        }
        // SAFETY: `self` proves that the CPU has these instructions.
        unsafe { compiled(kernel, self) }
    }
}

impl Vector for Avx512 {
    type Register = __m512;

    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m512 {
        // SAFETY: `self` proves AVX-512 F; `Lanes` is 16 f32 aligned to 64 bytes.
        unsafe { _mm512_load_ps(from.0.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, value: __m512, to: &mut Lanes) {
        // SAFETY: `self` proves AVX-512 F; `Lanes` is 16 f32 aligned to 64 bytes.
        unsafe { _mm512_store_ps(to.0.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn subtract(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn where_positive(self, condition: __m512, value: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe {
            let kept = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(condition, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(kept, value)
        }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn transpose(self, matrix: &mut [Lanes; LANES]) {
        let mut r = [self.splat(0.); LANES];
        for (register, row) in r.iter_mut().zip(matrix.iter()) {
            *register = self.load(row);
        }
        let (mut p, mut q) = (r, r);
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe {
            // Pairs of rows, interleaved within each 128-bit quarter; then groups of four rows:
            // q[4g + c] holds, in quarter b, column 4b + c of rows 4g..4g + 4.
            for i in (0..LANES).step_by(2) {
                p[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
                p[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
            }
            for i in (0..LANES).step_by(4) {
                q[i] = _mm512_shuffle_ps::<0x44>(p[i], p[i + 2]);
                q[i + 1] = _mm512_shuffle_ps::<0xee>(p[i], p[i + 2]);
                q[i + 2] = _mm512_shuffle_ps::<0x44>(p[i + 1], p[i + 3]);
                q[i + 3] = _mm512_shuffle_ps::<0xee>(p[i + 1], p[i + 3]);
            }
            // The quarters themselves are a 4 × 4 matrix to transpose, for each c.
            for c in 0..4 {
                let low = _mm512_shuffle_f32x4::<0x44>(q[c], q[4 + c]);
                let low2 = _mm512_shuffle_f32x4::<0x44>(q[8 + c], q[12 + c]);
                let high = _mm512_shuffle_f32x4::<0xee>(q[c], q[4 + c]);
                let high2 = _mm512_shuffle_f32x4::<0xee>(q[8 + c], q[12 + c]);
                r[c] = _mm512_shuffle_f32x4::<0x88>(low, low2);
                r[4 + c] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
                r[8 + c] = _mm512_shuffle_f32x4::<0x88>(high, high2);
                r[12 + c] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
            }
        }
        for (row, &column) in matrix.iter_mut().zip(&r) {
            self.store(column, row);
        }
    }
}
