//! How near to the machine's limit is each operation, on the shapes that the networks are made of?
//!
//! The elements of a convolution are the floating-point operations of the direct algorithm,
//! 2 · K² · I · O · H' · W' · N (a multiplication and an addition each), so that Gelem/s reads as
//! GFLOP/s; a backward pass with both gradients has twice as many. Batch norm does little
//! arithmetic and is bound by memory: its elements are the values of x.
//!
//! At the end stands a table with the share of the machine's f32 peak, which is measured first.
//! A Winograd convolution needs fewer operations than the direct one by which it is counted, and may
//! reach more than 100 %.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use ir_benches::{peak, uniform};
use ir_tensor_ops::explicit::{self, Wanted};
use ir_tensor_ops::{Activation, ChannelStatistics, Conv2d, Gradient, Norm, Workspace, together};

const EPSILON: f64 = 1e-5;

/// A convolution of the networks: images, channels in and out, height and width, kernel, stride.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    inputs: usize,
    outputs: usize,
    side: usize,
    kernel: usize,
    stride: usize,
}

impl Shape {
    const fn new(batch: usize, inputs: usize, outputs: usize, side: usize) -> Self {
        Self {
            batch,
            inputs,
            outputs,
            side,
            kernel: 3,
            stride: 1,
        }
    }

    /// The 3×3 convolution and the 1×1 shortcut of a transition.
    const fn transition(self, stride: usize) -> [Self; 2] {
        let convolution = Self { stride, ..self };
        let shortcut = Self {
            kernel: 1,
            ..convolution
        };
        [convolution, shortcut]
    }

    /// Convolutions inside a stage; all of them follow a batch norm.
    const fn stage(batch: usize, channels: usize, side: usize) -> Self {
        Self::new(batch, channels, channels, side)
    }

    fn is_in_stage(&self) -> bool {
        self.inputs == self.outputs
    }

    fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// Operations of a forward pass.
    fn operations(&self) -> u64 {
        let products = self.kernel.pow(2) * self.inputs * self.outputs;
        let positions = self.side.div_ceil(self.stride).pow(2) * self.batch;
        (2 * products * positions) as u64
    }

    fn name(&self) -> String {
        let Self {
            batch,
            inputs,
            outputs,
            side,
            kernel,
            stride,
        } = self;
        if self.is_in_stage() {
            return format!("{batch}x{inputs}x{side}x{side}");
        }
        format!("{batch}x{inputs}x{side}x{side}-to-{outputs}-{kernel}x{kernel}-stride-{stride}")
    }
}

/// Every shape of the paper's networks.
fn shapes() -> Vec<Shape> {
    let stages = [
        // resnet-32 to resnet-110
        Shape::stage(128, 16, 32),
        Shape::stage(128, 32, 16),
        Shape::stage(128, 64, 8),
        // single-representation
        Shape::stage(32, 100, 32),
        // avg-pooling
        Shape::stage(32, 150, 32),
        Shape::stage(32, 150, 16),
        Shape::stage(32, 150, 8),
        // wide
        Shape::stage(32, 160, 32),
        Shape::stage(32, 320, 16),
        Shape::stage(32, 640, 8),
    ];
    let stems = [
        Shape::new(128, 3, 16, 32),
        Shape::new(32, 3, 100, 32),
        Shape::new(32, 3, 150, 32),
    ];
    let transitions = [
        Shape::new(128, 16, 32, 32).transition(2),
        Shape::new(128, 32, 64, 16).transition(2),
        Shape::new(32, 16, 160, 32).transition(1),
        Shape::new(32, 160, 320, 32).transition(2),
        Shape::new(32, 320, 640, 16).transition(2),
    ];
    stages
        .into_iter()
        .chain(stems)
        .chain(transitions.into_iter().flatten())
        .collect()
}

/// What the operations on one shape read.
struct Inputs {
    shape: Shape,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    gamma: Tensor,
    norm: Norm,
    grad_output: Tensor,
}

impl Inputs {
    fn new(shape: Shape) -> Result<Self> {
        let Shape {
            batch,
            inputs,
            outputs,
            side,
            kernel,
            stride,
        } = shape;
        let x = uniform(1, (batch, inputs, side, side))?;
        let gamma = uniform(2, inputs)?;
        let norm = Norm::batch(&ChannelStatistics::of(&x)?, &gamma, &gamma, EPSILON)?;
        let out = side.div_ceil(stride);
        Ok(Self {
            shape,
            x,
            weight: uniform(3, (outputs, inputs, kernel, kernel))?,
            bias: uniform(4, outputs)?,
            gamma,
            norm,
            grad_output: uniform(5, (batch, outputs, out, out))?,
        })
    }
}

/// What the table at the end says of one operation.
struct Line {
    name: String,
    operations: u64,
    milliseconds: f64,
}

/// The operations on one shape, measured by criterion and once more for the table.
struct Bench<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    shape: String,
    lines: &'a RefCell<Vec<Line>>,
}

impl Bench<'_> {
    /// An operation of so many floating-point operations.
    fn arithmetic(
        &mut self,
        name: &str,
        operations: u64,
        mut operation: impl FnMut() -> ir_tensor_ops::Result<()>,
    ) {
        self.prepared(name, operations, || Ok(()), |()| operation());
    }

    /// The same of an operation that uses up what `prepare` makes, which takes no part in its time.
    fn prepared<T>(
        &mut self,
        name: &str,
        operations: u64,
        prepare: impl FnMut() -> ir_tensor_ops::Result<T>,
        operation: impl FnMut(T) -> ir_tensor_ops::Result<()>,
    ) {
        if let Some(milliseconds) = self.elements(name, operations, prepare, operation) {
            self.lines.borrow_mut().push(Line {
                name: format!("{}/{name}", self.shape),
                operations,
                milliseconds,
            });
        }
    }

    /// An operation on so many elements; returns the median of its times, if it ran.
    fn elements<T>(
        &mut self,
        name: &str,
        elements: u64,
        mut prepare: impl FnMut() -> ir_tensor_ops::Result<T>,
        mut operation: impl FnMut(T) -> ir_tensor_ops::Result<()>,
    ) -> Option<f64> {
        let mut times = Vec::new();
        self.group.throughput(Throughput::Elements(elements));
        self.group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let input = prepare().expect("the shapes fit");
                    let start = Instant::now();
                    operation(input).expect("the shapes fit");
                    total += start.elapsed();
                }
                times.push(1e3 * total.as_secs_f64() / iterations as f64);
                total
            });
        });
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

fn operations(criterion: &mut Criterion, lines: &RefCell<Vec<Line>>) {
    for shape in shapes() {
        let inputs = Inputs::new(shape).expect("the shapes fit");
        let mut group = criterion.benchmark_group(shape.name());
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        let mut bench = Bench {
            group,
            shape: shape.name(),
            lines,
        };
        convolution(&mut bench, &inputs);
        as_in_training(&mut bench, &inputs).expect("the shapes fit");
        if shape.is_in_stage() {
            batch_norm(&mut bench, &inputs);
        }
    }
}

fn convolution(bench: &mut Bench<'_>, inputs: &Inputs) {
    let Inputs {
        shape,
        x,
        weight,
        bias,
        grad_output,
        ..
    } = inputs;
    let (stride, padding, operations) = (shape.stride, shape.padding(), shape.operations());
    bench.arithmetic("conv2d/forward", operations, || {
        black_box(explicit::conv2d(x, weight, Some(bias), stride, padding)?);
        Ok(())
    });
    let backward = |x_wanted, weight_wanted| {
        let wanted = Wanted {
            x: x_wanted,
            weight: weight_wanted,
        };
        let gradients = explicit::conv2d_backward(x, weight, stride, padding, grad_output, wanted)?;
        black_box(gradients);
        Ok(())
    };
    bench.arithmetic("conv2d/backward-input", operations, || {
        backward(true, false)
    });
    bench.arithmetic("conv2d/backward-weight", operations, || {
        backward(false, true)
    });
    bench.arithmetic("conv2d/backward", 2 * operations, || backward(true, true));
}

/// The convolution as a training step has it: on activations in memory that is used again, with
/// batch norm and ReLU before it where the networks have them, the residual after it, and the
/// statistics of its result. The backward pass takes both gradients (the stem's only that of the
/// weight); what remains of the way through the batch norm is left to whoever reads the gradient.
fn as_in_training(bench: &mut Bench<'_>, inputs: &Inputs) -> ir_tensor_ops::Result<()> {
    let Inputs {
        shape,
        x,
        weight,
        bias,
        norm,
        grad_output,
        ..
    } = inputs;
    let layer = Conv2d {
        weight,
        bias,
        stride: shape.stride,
        padding: shape.padding(),
    };
    let workspace = Workspace::default();
    let activation = |tensor: &Tensor| Activation::from_tensor(&workspace, tensor);
    let h = activation(x)?;
    let residual = shape
        .is_in_stage()
        .then(|| activation(grad_output))
        .transpose()?;
    let is_stem = shape.inputs == 3;
    let operations = shape.operations();

    let forward = || match is_stem || shape.kernel == 1 {
        true => h.conv2d(layer),
        false => h.norm_relu_conv2d(norm, layer, residual.as_ref()),
    };
    bench.arithmetic("training/forward", operations, || {
        black_box(together(forward)?);
        Ok(())
    });
    let prepare = || {
        let added = shape
            .is_in_stage()
            .then(|| activation(grad_output))
            .transpose()?;
        Ok((
            activation(x)?,
            Gradient::from(activation(grad_output)?),
            added,
        ))
    };
    let backward = |(x, mut gradient, added): (Activation, Gradient, Option<Activation>)| {
        let wanted = Wanted {
            x: !is_stem,
            weight: true,
        };
        let found = together(|| match is_stem || shape.kernel == 1 {
            true => x.conv2d_backward(layer, &mut gradient, wanted),
            false => x.norm_relu_conv2d_backward(norm, layer, &mut gradient, added),
        })?;
        black_box(found);
        Ok(())
    };
    let passes = if is_stem { 1 } else { 2 };
    bench.prepared("training/backward", passes * operations, prepare, backward);
    Ok(())
}

/// Batch norm and ReLU with the statistics of the batch.
fn batch_norm(bench: &mut Bench<'_>, inputs: &Inputs) {
    let Inputs {
        x,
        gamma,
        norm,
        grad_output,
        ..
    } = inputs;
    let values = x.elem_count() as u64;
    let nothing = || Ok(());
    bench.elements("norm-relu/forward", values, nothing, |()| {
        let norm = Norm::batch(&ChannelStatistics::of(x)?, gamma, gamma, EPSILON)?;
        black_box(explicit::norm_relu(x, &norm)?);
        Ok(())
    });
    bench.elements("norm-relu/backward", values, nothing, |()| {
        black_box(explicit::norm_relu_backward(x, norm, grad_output)?);
        Ok(())
    });
}

#[expect(clippy::print_stdout, reason = "the output of the program")]
fn print_table(lines: &[Line], peak: f64) {
    if lines.is_empty() {
        return;
    }
    println!(
        "\nf32 peak {:.0} GFLOP/s on {} threads; operations counted as those of the direct algorithm",
        peak / 1e9,
        rayon::current_num_threads()
    );
    println!(
        "{:72} {:>9} {:>9} {:>7}",
        "operation", "ms", "GFLOP/s", "of peak"
    );
    for line in lines {
        let rate = line.operations as f64 / line.milliseconds * 1e3;
        println!(
            "{:72} {:9.3} {:9.1} {:6.0} %",
            line.name,
            line.milliseconds,
            rate / 1e9,
            100.0 * rate / peak
        );
    }
}

fn main() {
    let peak = peak::operations_per_second();
    let mut criterion = Criterion::default().configure_from_args();
    let lines = RefCell::default();
    operations(&mut criterion, &lines);
    criterion.final_summary();
    // Whatever disturbs a measurement of the peak makes it smaller.
    let peak = peak.max(peak::operations_per_second());
    print_table(&lines.borrow(), peak);
}
