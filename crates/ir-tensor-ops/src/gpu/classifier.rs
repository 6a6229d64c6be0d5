//! The linear layer at the end of a network, and the loss.

use super::norm::at_least;
use super::{Buffer, Gpu};
use crate::error::Result;

/// A linear layer: y = x · weightᵀ + bias.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[outputs][inputs]`.
    pub weight: Buffer<f32>,
    /// `[outputs]`.
    pub bias: Buffer<f32>,
    /// Numbers of a row of x.
    pub inputs: usize,
    /// Numbers of a row of y.
    pub outputs: usize,
}

impl Linear {
    /// y `[rows][outputs]` from x `[rows][inputs]`.
    ///
    /// # Errors
    /// `Shape` for buffers that are too short.
    pub fn forward(&self, rows: usize, x: &Buffer<f32>, y: &Buffer<f32>) -> Result<()> {
        const OP: &str = "Linear::forward";
        self.check(OP, rows, x, y)?;
        let ends = [x, &self.weight, &self.bias, y];
        // SAFETY: all have as many numbers as this many rows take.
        unsafe { self.launch("linear", rows * self.outputs, &ends, rows) }
    }

    /// The gradient of x from that of y.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn gradient_of_x(&self, rows: usize, dy: &Buffer<f32>, dx: &Buffer<f32>) -> Result<()> {
        const OP: &str = "Linear::gradient_of_x";
        self.check(OP, rows, dx, dy)?;
        // SAFETY: as above.
        unsafe {
            let ends = [dy, &self.weight, dx];
            self.launch("linear_gradient_of_x", rows * self.inputs, &ends, rows)
        }
    }

    /// The gradients of weight and bias from x and that of y.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn gradient_of_weight(
        &self,
        rows: usize,
        x: &Buffer<f32>,
        dy: &Buffer<f32>,
        [weight, bias]: [&Buffer<f32>; 2],
    ) -> Result<()> {
        const OP: &str = "Linear::gradient_of_weight";
        self.check(OP, rows, x, dy)?;
        at_least(OP, "gradient of the weight", weight, self.weight.len())?;
        at_least(OP, "gradient of the bias", bias, self.outputs)?;
        let threads = (self.inputs + 1) * self.outputs;
        let ends = [dy, x, weight, bias];
        // SAFETY: as above, and the gradients have as many numbers as weight and bias.
        unsafe { self.launch("linear_gradient_of_weight", threads, &ends, rows) }
    }

    fn check(&self, op: &'static str, rows: usize, x: &Buffer<f32>, y: &Buffer<f32>) -> Result<()> {
        at_least(op, "weight", &self.weight, self.inputs * self.outputs)?;
        at_least(op, "bias", &self.bias, self.outputs)?;
        at_least(op, "x", x, rows * self.inputs)?;
        at_least(op, "y", y, rows * self.outputs)
    }

    /// One thread for each number of the result.
    ///
    /// # Safety
    /// As [`Gpu::launch`](super::Gpu).
    unsafe fn launch(
        &self,
        kernel: &str,
        threads: usize,
        ends: &[&Buffer<f32>],
        rows: usize,
    ) -> Result<()> {
        let sizes = [rows, self.inputs, self.outputs].map(|size| (size as i32).into());
        let ends = ends.iter().map(|&end| end.into());
        let arguments: Vec<_> = ends.chain(sizes).collect();
        let gpu = self.weight.gpu();
        // SAFETY: the caller answers for the arguments.
        unsafe { gpu.launch_each(threads, kernel.into(), arguments) }
    }
}

/// What a batch of logits comes to, per sample.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Cross-entropy in nats.
    pub loss: Buffer<f64>,
    /// 1 where the label's logit is the largest, the first of equals; otherwise 0.
    pub correct: Buffer<u32>,
    /// The gradient of the mean loss, `[rows][classes]`.
    pub gradient: Buffer<f32>,
}

impl Losses {
    /// Room for as many rows, which may hold anything.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) if there is not as much memory.
    pub fn new(gpu: &Gpu, rows: usize, classes: usize) -> Result<Self> {
        Ok(Self {
            loss: Buffer::new(gpu, rows)?,
            correct: Buffer::new(gpu, rows)?,
            gradient: Buffer::new(gpu, rows * classes)?,
        })
    }

    /// Computes all of it from logits `[rows][classes]` and a label for each row; loss and gradient are NaN where a
    /// label is not below `classes`.
    ///
    /// # Errors
    /// `Shape` for buffers that are too short.
    pub fn compute(
        &self,
        rows: usize,
        classes: usize,
        logits: &Buffer<f32>,
        labels: &Buffer<u32>,
    ) -> Result<()> {
        const OP: &str = "Losses::compute";
        at_least(OP, "logits", logits, rows * classes)?;
        at_least(OP, "labels", labels, rows)?;
        at_least(OP, "loss", &self.loss, rows)?;
        at_least(OP, "correct", &self.correct, rows)?;
        at_least(OP, "gradient", &self.gradient, rows * classes)?;
        let arguments = [
            logits.into(),
            labels.into(),
            (rows as i32).into(),
            (classes as i32).into(),
            (&self.loss).into(),
            (&self.correct).into(),
            (&self.gradient).into(),
        ];
        // SAFETY: all have as many numbers as this many rows take, and the kernel looks at a label before it uses it.
        unsafe {
            logits
                .gpu()
                .launch_each(32 * rows, "cross_entropy".into(), arguments)
        }
    }
}
