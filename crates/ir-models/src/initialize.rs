//! Initial values, each a function of the seed and the tensor's place in the network.

use candle_core::{Device, Tensor};
use ir_tensor_ops::random;
use rand::Rng;
use rand_distr::StandardNormal;

use crate::error::Result;
use crate::layout::{Kind, TensorSpec};

/// Distinguishes these random numbers from those for other purposes.
const PURPOSE: u64 = u64::from_le_bytes(*b"initial ");

/// The initial value of one tensor (paper, section 4: He-normal weights, zero biases).
///
/// He et al. 2015, Eq. 10: weights are N(0, 2 / fan_in), with fan_in the number of inputs of one
/// output.
pub(crate) fn tensor(spec: &TensorSpec, seed: u64) -> Result<Tensor> {
    let shape = spec.shape.as_slice();
    let constant = |value: f32| Ok(Tensor::full(value, shape, &Device::Cpu)?);
    match spec.kind {
        Kind::ConvolutionBias | Kind::LinearBias | Kind::Beta | Kind::RunningMean => constant(0.0),
        Kind::RunningVariance => constant(1.0),
        Kind::Gamma => constant(spec.initial_gamma),
        Kind::ConvolutionWeight | Kind::LinearWeight => {
            let fan_in: usize = shape[1..].iter().product();
            let deviation = (2.0 / fan_in as f64).sqrt();
            let mut stream = random::stream(seed, 0, place(&spec.name), PURPOSE);
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| (deviation * stream.sample::<f64, _>(StandardNormal)) as f32)
                .collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        }
    }
}

/// A number that is the name's own: FNV-1a, 64 bits. A tensor then starts from the same values
/// in every network that has one of this name and shape.
fn place(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
