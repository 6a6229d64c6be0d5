//! Sixteen lanes as one register: AVX-512.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps, _mm512_set1_ps, _mm512_shuffle_f32x4,
    _mm512_shuffle_ps, _mm512_store_ps, _mm512_unpackhi_ps, _mm512_unpacklo_ps,
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
    fn multiply_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn transpose(self, matrix: &mut [Lanes; LANES]) {
        let r = matrix.map(|row| self.load(&row));
        // SAFETY: `self` proves that the CPU has AVX-512 F.
        let columns: [__m512; LANES] = unsafe {
            // Pairs of rows, interleaved within each 128-bit quarter; then groups of four rows:
            // q[4g + c] holds, in quarter b, column 4b + c of rows 4g..4g + 4.
            let p: [__m512; LANES] = std::array::from_fn(|i| {
                let (a, b) = (r[i / 2 * 2], r[i / 2 * 2 + 1]);
                if i % 2 == 0 {
                    _mm512_unpacklo_ps(a, b)
                } else {
                    _mm512_unpackhi_ps(a, b)
                }
            });
            let q: [__m512; LANES] = std::array::from_fn(|i| {
                let (a, b) = (p[i / 4 * 4 + i % 4 / 2], p[i / 4 * 4 + i % 4 / 2 + 2]);
                if i % 2 == 0 {
                    _mm512_shuffle_ps::<0x44>(a, b)
                } else {
                    _mm512_shuffle_ps::<0xee>(a, b)
                }
            });
            // The quarters themselves are a 4 × 4 matrix to transpose, for each c.
            std::array::from_fn(|column| {
                let (b, c) = (column / 4, column % 4);
                let pick = |x, y| match b / 2 {
                    0 => _mm512_shuffle_f32x4::<0x44>(x, y),
                    _ => _mm512_shuffle_f32x4::<0xee>(x, y),
                };
                let (x, y) = (pick(q[c], q[4 + c]), pick(q[8 + c], q[12 + c]));
                match b % 2 {
                    0 => _mm512_shuffle_f32x4::<0x88>(x, y),
                    _ => _mm512_shuffle_f32x4::<0xdd>(x, y),
                }
            })
        };
        for (row, column) in matrix.iter_mut().zip(columns) {
            self.store(column, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, LANES, Lanes, Vector, forced, run};

    struct Transpose<'a>(&'a mut [Lanes; LANES]);

    impl Kernel for Transpose<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) {
            vector.transpose(self.0);
        }
    }

    #[test]
    fn every_level_transposes() {
        forced::each(|level| {
            let mut matrix: [Lanes; LANES] = std::array::from_fn(|row| {
                Lanes(std::array::from_fn(|column| (row * LANES + column) as f32))
            });
            run(Transpose(&mut matrix));
            for (row, lanes) in matrix.iter().enumerate() {
                let expected: [f32; LANES] =
                    std::array::from_fn(|column| (column * LANES + row) as f32);
                assert_eq!(lanes.0, expected, "{level:?}, row {row}");
            }
        });
    }
}
