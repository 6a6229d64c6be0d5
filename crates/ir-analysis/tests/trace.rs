//! The traced pass: the same numbers as the plain forward pass, and gradients that finite
//! differences confirm.

mod support;

use candle_core::{DType, Device, Result, Tensor};
use ir_analysis::{Measure, Options, analyze_split, trace};
use ir_models::{Architecture, Block, ResNet, ResidualNetwork};
use support::{Samples, assert_close, matrix, numbers, zoo};

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
    values.expect("f32").into_iter().map(f32::to_bits).collect()
}

/// Every h_j and the logits of a trace are those of the network's own steps, bit for bit.
fn assert_same_forward(
    name: &str,
    network: &dyn ResidualNetwork,
    images: &Tensor,
    labels: &Tensor,
) {
    let trace = trace(network, images, labels).expect("a sound network");
    let mut h = network.stem(images).expect("a stem");
    for (j, traced) in trace.blocks.iter().enumerate() {
        assert_eq!(bits(&traced.h), bits(&h), "{name}: h_{j}");
        h = network.step(j, &h).expect("a step");
    }
    assert_eq!(bits(&trace.h_last), bits(&h), "{name}: h_L");
    let logits = network.logits(images).expect("logits");
    assert_eq!(bits(&trace.logits), bits(&logits), "{name}: logits");
}

#[test]
fn tracing_changes_no_bit_of_the_forward_pass() {
    let (images, labels) = Samples::new(9, 4, 3).whole();
    for (name, network) in zoo() {
        assert_same_forward(name, &network, &images, &labels);
    }
    for network in [Convolutional::new(false), Convolutional::new(true)] {
        let (images, labels) = photographs();
        assert_same_forward("convolutional", &network, &images, &labels);
    }
}

#[test]
fn tracing_changes_no_bit_of_the_papers_networks() {
    let architecture = Architecture::named("resnet-32", 10).expect("a known name");
    let network = ResNet::initialize(&architecture, 3).expect("a sound architecture");
    let images: Vec<f32> = numbers(6, 2 * 3 * 32 * 32)
        .iter()
        .map(|x| *x as f32)
        .collect();
    let images = Tensor::from_vec(images, (2, 3, 32, 32), &Device::Cpu).expect("a shape");
    let labels = Tensor::new(&[4u32, 9], &Device::Cpu).expect("labels");
    assert_same_forward("resnet-32", &network, &images, &labels);
}

/// A pre-activation net of 3×3 convolutions from plain Candle operations: two stages of two
/// blocks, between them either a stride-2 transition or pooling. Batch norm in evaluation mode
/// is a fixed scale and shift per channel, written as such.
struct Convolutional {
    pooled: bool,
    dtype: DType,
}

const CHANNELS: usize = 3;

impl Convolutional {
    fn new(pooled: bool) -> Self {
        Self {
            pooled,
            dtype: DType::F32,
        }
    }

    fn in_f64(&self) -> Self {
        Self {
            dtype: DType::F64,
            ..*self
        }
    }

    /// Weights that are the same f32 numbers in either dtype.
    fn weight(&self, seed: u64, shape: &[usize]) -> Result<Tensor> {
        let values = numbers(seed, shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)
    }

    /// ReLU(γ x + β), γ around 1.
    fn norm_relu(&self, seed: u64, x: &Tensor) -> Result<Tensor> {
        let scale = (self.weight(seed, &[1, CHANNELS, 1, 1])? + 1.0)?;
        let shift = self.weight(seed + 1, &[1, CHANNELS, 1, 1])?;
        x.broadcast_mul(&scale)?.broadcast_add(&shift)?.relu()
    }

    fn convolution(&self, seed: u64, x: &Tensor, size: usize, stride: usize) -> Result<Tensor> {
        let weight = self.weight(seed, &[CHANNELS, CHANNELS, size, size])?;
        x.conv2d(&weight, size / 2, stride, 1, 1)
    }

    fn stride(&self, block: usize) -> usize {
        if block == 2 && !self.pooled { 2 } else { 1 }
    }
}

impl ResidualNetwork for Convolutional {
    fn blocks(&self) -> Vec<Block> {
        let block = |j| Block {
            stage: j / 2,
            transition: self.stride(j) == 2,
        };
        (0..4).map(block).collect()
    }

    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        self.convolution(1, &images.to_dtype(self.dtype)?, 3, 1)
    }

    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        match self.stride(block) {
            2 => self.convolution(2, h, 1, 2),
            _ => Ok(h.clone()),
        }
    }

    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let seed = 10 * (block as u64 + 1);
        let x = self.norm_relu(seed, h)?;
        let x = self.convolution(seed + 2, &x, 3, self.stride(block))?;
        self.convolution(seed + 5, &self.norm_relu(seed + 3, &x)?, 3, 1)
    }

    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        if block == 1 && self.pooled {
            sum.avg_pool2d(2)
        } else {
            Ok(sum.clone())
        }
    }

    fn head(&self, h: &Tensor) -> Result<Tensor> {
        let features = self.norm_relu(70, h)?.mean((2, 3))?;
        features.matmul(&self.weight(72, &[CHANNELS, 4])?)
    }
}

/// Two images `[2, 3, 6, 6]`.
fn photographs() -> (Tensor, Tensor) {
    let images: Vec<f32> = numbers(5, 2 * CHANNELS * 36)
        .iter()
        .map(|x| *x as f32)
        .collect();
    let images = Tensor::from_vec(images, (2, CHANNELS, 6, 6), &Device::Cpu).expect("a shape");
    (
        images,
        Tensor::new(&[1u32, 3], &Device::Cpu).expect("labels"),
    )
}

/// The sum of the two samples' losses from block j's s on, F_j held fixed where `frozen`, in f64.
fn loss_from(network: &Convolutional, j: usize, s: &Tensor, frozen: Option<&Tensor>) -> f64 {
    let rest = || -> Result<f64> {
        let mut h = match frozen {
            Some(branch) => network.after(j, &(s + branch)?)?,
            None => network.step(j, s)?,
        };
        for block in j + 1..4 {
            h = network.step(block, &h)?;
        }
        let mut total = 0.0;
        for (logits, label) in network.head(&h)?.to_vec2::<f64>()?.iter().zip([1, 3]) {
            total += logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[label];
        }
        Ok(total)
    };
    rest().expect("a sound network")
}

#[test]
fn gradients_of_a_convolutional_net_agree_with_finite_differences() {
    /// Differences in f64 are good to about 1e-8, unless a ReLU changes sign within the step,
    /// which at a step of 1e-6 one of the ~3,000 activations may do rarely.
    const STEP: f64 = 1e-6;
    /// A gradient is a sum over at most 4 blocks of 2 convolutions of 27 terms: 4 · 2 · 27 · 2⁻²⁴
    /// = 1.3e-5 of its largest terms, which are of order 1.
    const TOLERANCE: f64 = 2e-5;
    let (images, labels) = photographs();
    for network in [Convolutional::new(false), Convolutional::new(true)] {
        let traced = trace(&network, &images, &labels).expect("a sound network");
        let exact = network.in_f64();
        for (j, block) in traced.blocks.iter().enumerate() {
            let gradient = block
                .gradient
                .as_ref()
                .expect("taken")
                .flatten_all()
                .expect("values");
            let gradient = gradient.to_vec1::<f32>().expect("f32");
            let transition = network.stride(j) == 2;
            let s = block.s.to_dtype(DType::F64).expect("f64");
            let values = s
                .flatten_all()
                .expect("values")
                .to_vec1::<f64>()
                .expect("f64");
            let branch = block.branch.to_dtype(DType::F64).expect("f64");
            let moved = |place: usize, by: f64| {
                let mut values = values.clone();
                values[place] += by;
                let s = Tensor::from_vec(values, s.shape(), &Device::Cpu).expect("a shape");
                loss_from(&exact, j, &s, transition.then_some(&branch))
            };
            for (place, found) in gradient.iter().enumerate() {
                let expected = (moved(place, STEP) - moved(place, -STEP)) / (2.0 * STEP);
                let what = format!("pooled {}: block {j}, place {place}", network.pooled);
                assert_close(&what, f64::from(*found), expected, TOLERANCE);
            }
        }
    }
}

#[test]
fn a_network_in_f64_is_traced_too() {
    let (images, labels) = photographs();
    let network = Convolutional::new(false);
    let single = trace(&network, &images, &labels).expect("a sound network");
    let double = trace(&network.in_f64(), &images, &labels).expect("a sound network");
    for (single, double) in single.blocks.iter().zip(&double.blocks) {
        let (single, double) = (single.gradient.as_ref(), double.gradient.as_ref());
        let double = double.expect("taken");
        assert_eq!(double.dtype(), DType::F64);
        let single = single.expect("taken").to_dtype(DType::F64).expect("f64");
        let apart = (single - double).and_then(|difference| difference.abs()?.max_all());
        // The bound of the test above.
        assert!(
            apart
                .and_then(|apart| apart.to_scalar::<f64>())
                .expect("a number")
                < 2e-5
        );
    }
    let batches = vec![Ok::<_, candle_core::Error>((images, labels))];
    let split = analyze_split(&network.in_f64(), batches, &Options::default(), &mut |_| {});
    assert_eq!(split.expect("a sound network").blocks.len(), 4);
}

#[test]
fn the_gradient_of_a_confident_sample_keeps_its_direction() {
    // The logits are 50 apart: p_1 = 2e-22, and p_0 = 1 − p_1 is 1 even in f64. Taken as p − 1, the
    // gradient would be (0, p_1), at 45° to the true one, p_1 · (−1, 1).
    struct Confident;
    impl ResidualNetwork for Confident {
        fn blocks(&self) -> Vec<Block> {
            vec![Block {
                stage: 0,
                transition: false,
            }]
        }
        fn stem(&self, images: &Tensor) -> Result<Tensor> {
            Ok(images.clone())
        }
        fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> {
            h.matmul(&Tensor::new(&[[1f32, -1.], [0., 0.]], &Device::Cpu)?)
        }
        fn head(&self, h: &Tensor) -> Result<Tensor> {
            h * 25.0
        }
    }
    let images = Tensor::new(&[[1f32, -1.]], &Device::Cpu).expect("an image");
    let labels = Tensor::new(&[0u32], &Device::Cpu).expect("a label");
    let batches = vec![Ok::<_, candle_core::Error>((images, labels))];
    let options = Options {
        measures: [Measure::ExitCosine].into(),
        ..Options::default()
    };
    let split = analyze_split(&Confident, batches, &options, &mut |_| {}).expect("sound");
    // F = (1, −1) against (−1, 1).
    assert_close(
        "cosine",
        split.blocks[0].exit_cosine.expect("defined"),
        -1.0,
        1e-6,
    );
}

#[test]
fn the_remainder_of_the_taylor_expansion_is_of_second_order() {
    let samples = Samples::new(30, 4, 3);
    let options = Options {
        measures: [Measure::Taylor].into(),
        ..Options::default()
    };
    let remainder = |scale: f64| {
        let (_, mut network) = zoo().remove(0);
        // One block, on representations of order 1.
        network.blocks.truncate(1);
        network.blocks[0].outer = matrix(50, 5, 4);
        network.blocks[0].scale = scale;
        let split = analyze_split(&network, samples.batches(10), &options, &mut |_| {});
        split.expect("a sound network").taylor[0].remainder.0
    };
    // F = t · G makes the remainder c t² + d t³ + …: halving t divides it by 4, up to a term of
    // order t; two halvings make the two quotients come closer to 4 by a factor of 2.
    let (whole, half, quarter) = (remainder(0.4), remainder(0.2), remainder(0.1));
    let (first, second) = (whole / half, half / quarter);
    assert!(
        quarter.abs() > 1e-4,
        "{quarter} is far above f32's rounding of 1e-6"
    );
    assert!((first - 4.0).abs() < 0.8, "{first}");
    assert!(
        (second - 4.0).abs() < 0.6 * (first - 4.0).abs() + 0.02,
        "{first}, {second}"
    );
}

#[test]
fn weights_that_candle_tracks_change_nothing() {
    /// One block h + tanh(h W) with W as given: a variable or a constant.
    struct OneBlock(Tensor);
    impl ResidualNetwork for OneBlock {
        fn blocks(&self) -> Vec<Block> {
            vec![Block {
                stage: 0,
                transition: false,
            }]
        }
        fn stem(&self, images: &Tensor) -> Result<Tensor> {
            images.matmul(&self.0)
        }
        fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> {
            h.matmul(&self.0)?.tanh()
        }
        fn head(&self, h: &Tensor) -> Result<Tensor> {
            h.matmul(&self.0)
        }
    }
    let weight = Tensor::new(&[[1f32, -2.], [3., 0.5]], &Device::Cpu).expect("a weight");
    let variable = candle_core::Var::from_tensor(&weight).expect("a variable");
    let analyse = |weight: Tensor| {
        let images = Tensor::new(&[[0.1f32, -0.2], [0.3, 0.1]], &Device::Cpu).expect("images");
        let labels = Tensor::new(&[0u32, 1], &Device::Cpu).expect("labels");
        let batches = vec![Ok::<_, candle_core::Error>((images, labels))];
        let split = analyze_split(&OneBlock(weight), batches, &Options::default(), &mut |_| {});
        split.expect("a sound network")
    };
    assert_eq!(analyse(variable.as_tensor().clone()), analyse(weight));
}
