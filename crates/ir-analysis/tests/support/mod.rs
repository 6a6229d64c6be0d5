//! A small network written twice: in Candle for the measures, and in plain f64 loops for the
//! oracle, which shares no code with them and takes its gradients by finite differences.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod oracle;

use candle_core::{DType, Device, Result, Tensor};
use ir_models::{Block, ResidualNetwork};

/// Rows of a matrix; every entry is an f32, so that both versions have the same weights.
pub(crate) type Matrix = Vec<Vec<f64>>;

/// What follows a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum After {
    Identity,
    Relu,
    /// The mean of each pair of neighbouring features, which halves their number.
    PairMean,
}

/// One block on row vectors: F(h) = scale · tanh(h · inner) · outer.
#[derive(Debug, Clone)]
pub(crate) struct DenseBlock {
    pub(crate) stage: usize,
    pub(crate) inner: Matrix,
    pub(crate) outer: Matrix,
    pub(crate) scale: f64,
    /// `None` for the identity.
    pub(crate) shortcut: Option<Matrix>,
    pub(crate) after: After,
}

/// A residual network on vectors; its logits are h_L · head.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    pub(crate) blocks: Vec<DenseBlock>,
    pub(crate) head: Matrix,
    pub(crate) dtype: DType,
}

/// Numbers in (−½, ½) that look random and depend on `seed` and their place alone.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f64> {
    let number = |place: usize| {
        let mut bits = (seed << 32 | place as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        f64::from((bits >> 40) as f32 / 16_777_216.0 - 0.5)
    };
    (0..count).map(number).collect()
}

pub(crate) fn matrix(seed: u64, rows: usize, columns: usize) -> Matrix {
    let numbers = numbers(seed, rows * columns);
    numbers.chunks(columns).map(<[f64]>::to_vec).collect()
}

impl Dense {
    /// An ordinary block of `width` features.
    pub(crate) fn block(seed: u64, stage: usize, width: usize) -> DenseBlock {
        DenseBlock {
            stage,
            inner: matrix(seed, width, width + 1),
            outer: matrix(seed + 1000, width + 1, width),
            scale: 1.0,
            shortcut: None,
            after: After::Identity,
        }
    }

    /// A transition from `from` to `to` features.
    pub(crate) fn transition(seed: u64, stage: usize, from: usize, to: usize) -> DenseBlock {
        DenseBlock {
            inner: matrix(seed, from, to + 1),
            outer: matrix(seed + 1000, to + 1, to),
            shortcut: Some(matrix(seed + 2000, from, to)),
            ..Self::block(seed, stage, to)
        }
    }

    pub(crate) fn new(blocks: Vec<DenseBlock>, width: usize, classes: usize) -> Self {
        // Logits of a few units, so that probabilities are neither all alike nor all 0 and 1.
        let mut head = matrix(99, width, classes);
        head.iter_mut().flatten().for_each(|weight| *weight *= 4.0);
        Self {
            blocks,
            head,
            dtype: DType::F32,
        }
    }

    fn times(&self, h: &Tensor, matrix: &Matrix) -> Result<Tensor> {
        let shape = (matrix.len(), matrix[0].len());
        h.matmul(&Tensor::from_vec(matrix.concat(), shape, &Device::Cpu)?.to_dtype(self.dtype)?)
    }
}

impl ResidualNetwork for Dense {
    fn blocks(&self) -> Vec<Block> {
        let block = |block: &DenseBlock| Block {
            stage: block.stage,
            transition: block.shortcut.is_some(),
        };
        self.blocks.iter().map(block).collect()
    }

    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        images.flatten_from(1)?.to_dtype(self.dtype)
    }

    fn shortcut(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        match &self.blocks[block].shortcut {
            Some(matrix) => self.times(h, matrix),
            None => Ok(h.clone()),
        }
    }

    fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
        let block = &self.blocks[block];
        self.times(&self.times(h, &block.inner)?.tanh()?, &block.outer)? * block.scale
    }

    fn after(&self, block: usize, sum: &Tensor) -> Result<Tensor> {
        match self.blocks[block].after {
            After::Identity => Ok(sum.clone()),
            After::Relu => sum.relu(),
            After::PairMean => {
                let (samples, width) = sum.dims2()?;
                sum.reshape((samples, width / 2, 2))?.mean(2)
            }
        }
    }

    fn head(&self, h: &Tensor) -> Result<Tensor> {
        self.times(h, &self.head)
    }
}

/// Images `[count, 1, 1, width]` and labels below `classes`, as the oracle reads them.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    pub(crate) images: Matrix,
    pub(crate) labels: Vec<u32>,
}

impl Samples {
    pub(crate) fn new(count: usize, width: usize, classes: u32) -> Self {
        let mut images = matrix(7, count, width);
        images.iter_mut().flatten().for_each(|value| *value *= 4.0);
        let labels = numbers(8, count)
            .into_iter()
            .map(|x| ((x + 0.5) * f64::from(classes)) as u32);
        Self {
            labels: labels.collect(),
            images,
        }
    }

    /// In batches of at most `size`, in order.
    pub(crate) fn batches(&self, size: usize) -> Vec<Result<(Tensor, Tensor)>> {
        let images = self.images.chunks(size);
        let batch = |(images, labels): (&[Vec<f64>], &[u32])| {
            let shape = (images.len(), 1, 1, images[0].len());
            let images: Vec<f32> = images.concat().iter().map(|&value| value as f32).collect();
            let images = Tensor::from_vec(images, shape, &Device::Cpu)?;
            Ok((images, Tensor::new(labels, &Device::Cpu)?))
        };
        images.zip(self.labels.chunks(size)).map(batch).collect()
    }

    /// All in one batch.
    pub(crate) fn whole(&self) -> (Tensor, Tensor) {
        self.batches(self.labels.len())
            .remove(0)
            .expect("a valid batch")
    }
}

/// Networks that have each feature of the trait somewhere.
pub(crate) fn zoo() -> Vec<(&'static str, Dense)> {
    let plain = Dense::new((0..3).map(|j| Dense::block(j, 0, 4)).collect(), 4, 3);

    let transition = Dense::new(
        vec![
            Dense::block(10, 0, 4),
            Dense::transition(11, 1, 4, 6),
            Dense::block(12, 1, 6),
            Dense::block(13, 1, 6),
        ],
        6,
        3,
    );

    let mut pooled = Dense::new(
        vec![
            Dense::block(20, 0, 4),
            Dense::block(21, 0, 4),
            Dense::block(22, 1, 2),
        ],
        2,
        3,
    );
    pooled.blocks[1].after = After::PairMean;

    // Wide enough that no sample is left with h = 0, where the gradient is not defined.
    let mut post_activation = Dense::new(
        vec![
            Dense::transition(30, 0, 4, 8),
            Dense::block(31, 0, 8),
            Dense::block(32, 0, 8),
            Dense::block(33, 0, 8),
        ],
        8,
        3,
    );
    for block in &mut post_activation.blocks {
        block.after = After::Relu;
    }

    // A transition in the middle of the last stage: s_j is read beside h_j.
    let middle = Dense::new(
        vec![
            Dense::block(40, 0, 4),
            Dense::transition(41, 0, 4, 4),
            Dense::block(42, 0, 4),
        ],
        4,
        3,
    );

    vec![
        ("plain", plain),
        ("transition", transition),
        ("pooled", pooled),
        ("post-activation", post_activation),
        ("transition in the middle", middle),
    ]
}

/// Fails unless `found` is within `tolerance` · max(1, |expected|) of `expected`.
pub(crate) fn assert_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    let limit = tolerance * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() <= limit,
        "{what}: found {found}, expected {expected}, apart by {:e}, allowed {limit:e}",
        (found - expected).abs()
    );
}
