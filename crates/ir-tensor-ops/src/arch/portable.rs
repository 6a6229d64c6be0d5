//! Sixteen lanes as an array: any CPU.

use super::{LANES, Lanes, Vector};

/// No instructions beyond the target's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Vector for Portable {
    type Register = Lanes;

    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        Lanes([value; LANES])
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn store(self, value: Lanes, to: &mut Lanes) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|lane| a.0[lane] + b.0[lane]))
    }

    #[inline(always)]
    fn subtract(self, a: Lanes, b: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|lane| a.0[lane] - b.0[lane]))
    }

    #[inline(always)]
    fn where_positive(self, condition: Lanes, value: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|lane| {
            if condition.0[lane] <= 0. {
                0.
            } else {
                value.0[lane]
            }
        }))
    }

    // Two roundings: without the instruction, a fused multiply-add is a slow library call.
    #[inline(always)]
    fn multiply_add(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        Lanes(std::array::from_fn(|lane| {
            a.0[lane] * b.0[lane] + c.0[lane]
        }))
    }

    #[inline(always)]
    fn transpose(self, matrix: &mut [Lanes; LANES]) {
        for row in 0..LANES {
            for column in 0..row {
                let upper = matrix[column].0[row];
                matrix[column].0[row] = matrix[row].0[column];
                matrix[row].0[column] = upper;
            }
        }
    }
}
