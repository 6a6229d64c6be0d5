//! The instructions of whole warps on matrices, as the manual lays out who has what (*Matrix Fragments for mma.m16n8k16*,
//! *ldmatrix*).

use super::{LANES, Lanes};

/// Four 8×8 matrices of 16-bit numbers: what each thread receives, from the eight numbers of each of the 32 rows.
pub(super) fn distribute(rows: &[[u16; 8]; LANES], transposed: bool) -> [Lanes; 4] {
    std::array::from_fn(|matrix| {
        std::array::from_fn(|lane| {
            let (group, within) = (lane / 4, lane % 4);
            let number = |half: usize| {
                let (row, column) = if transposed {
                    (2 * within + half, group)
                } else {
                    (group, 2 * within + half)
                };
                u64::from(rows[8 * matrix + row][column])
            };
            number(0) | number(1) << 16
        })
    })
}

/// One half of a register, as the number that it stands for.
fn number(register: u64, half: usize) -> f32 {
    half::bf16::from_bits((register >> (16 * half)) as u16).to_f32()
}

/// a b + c of a 16×16, b 16×8 and c 16×8 numbers, summed in the order of the depth.
pub(super) fn multiply(a: [&Lanes; 4], b: [&Lanes; 2], c: [&Lanes; 4]) -> [Lanes; 4] {
    let mut left = [[0f32; 16]; 16];
    let mut right = [[0f32; 8]; 16];
    let mut sums = [[0f32; 8]; 16];
    for lane in 0..LANES {
        let (group, within) = (lane / 4, lane % 4);
        for half in 0..2 {
            let column = 2 * within + half;
            for (register, lanes) in a.iter().enumerate() {
                let (row, column) = (group + 8 * (register % 2), column + 8 * (register / 2));
                left[row][column] = number(lanes[lane], half);
            }
            for (register, lanes) in b.iter().enumerate() {
                right[column + 8 * register][group] = number(lanes[lane], half);
            }
        }
        for (register, lanes) in c.iter().enumerate() {
            let (row, column) = (group + 8 * (register / 2), 2 * within + register % 2);
            sums[row][column] = f32::from_bits(lanes[lane] as u32);
        }
    }
    for (sums, left) in sums.iter_mut().zip(&left) {
        for (&left, right) in left.iter().zip(&right) {
            for (sum, &right) in sums.iter_mut().zip(right) {
                // The product of two such numbers is exact in f32.
                *sum += left * right;
            }
        }
    }
    std::array::from_fn(|register| {
        std::array::from_fn(|lane| {
            let (group, within) = (lane / 4, lane % 4);
            let (row, column) = (group + 8 * (register / 2), 2 * within + register % 2);
            u64::from(sums[row][column].to_bits())
        })
    })
}
