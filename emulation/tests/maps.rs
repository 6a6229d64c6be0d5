//! Maps hold what tensors hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::DType;
use ir_emulation::{distance, gpus, uniform};
use ir_tensor_ops::gpu::{Map, Precision};

#[test]
fn a_tensor_comes_back() {
    for gpu in gpus() {
        for dims in [[2, 3, 5, 4], [1, 16, 3, 3], [3, 17, 1, 1], [2, 40, 2, 7]] {
            let x = uniform(&dims, 0).unwrap();
            let map = Map::from_tensor(&gpu, &x, Precision::F32).unwrap();
            let y = map.to_tensor().unwrap();
            assert_eq!(distance(&y, &x), 0.0);
            // The nearest number that bfloat16 has, as Candle rounds it.
            let map = Map::from_tensor(&gpu, &x, Precision::Bf16).unwrap();
            let rounded = x.to_dtype(DType::BF16).unwrap();
            let rounded = rounded.to_dtype(DType::F32).unwrap();
            assert_eq!(distance(&map.to_tensor().unwrap(), &rounded), 0.0);
        }
    }
}
