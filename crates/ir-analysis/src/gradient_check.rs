//! Whether the gradients that the measures take are those of the network.

use candle_core::{DType, Device, Tensor};
use ir_models::{BlockBackward, ResidualNetwork};
use ir_tensor_ops::{per_sample, random};
use rand::Rng;

use crate::batch::Batch;
use crate::checked::Checked;
use crate::error::{Error, Part, Result};
use crate::probe::{norms, readable};
use crate::recorded::Recorded;
use crate::trace::{Gradients, Trace, run};

/// Random places and directions at which a function is compared with its gradient. Odd, so that there
/// is a median.
const DRAWS: u64 = 15;

/// How often the error of the differences a gradient may be off.
const MARGIN: f64 = 10.0;

/// What rounding may do to a gradient itself.
const ROUNDING: f64 = 1e-4;

/// How far beside h_j a function is compared, against the size of h_j's numbers: behind a ReLU many
/// of them are 0, where the derivative of another ReLU is a convention.
const BESIDE: f64 = 1.0 / 32.0;

const PURPOSE: u64 = u64::from_le_bytes(*b"gradient");

/// One function's gradient against differences of the function; made by [`check_gradients`].
///
/// ```
/// use ir_analysis::{GradientCheck, Part};
///
/// let check = GradientCheck { part: Part::Branch(3), missing: 0.4, bound: 0.002 };
/// assert!(check.is_cut());
/// assert_eq!(check.to_string(), "branch of block 3 (off by 40 %, seen to 0.2 %)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientCheck {
    /// The function.
    pub part: Part,
    /// ‖gradient − the function's own‖ / ‖the function's own‖: 0 where the gradient is right, 1
    /// where it is 0 though it should not be; an estimate to about a third of itself.
    pub missing: f64,
    /// What of it may be the error of the differences. At 1 or more they see nothing.
    pub bound: f64,
}

impl GradientCheck {
    /// Whether more is missing than can be an error of the comparison, or the gradient is no number where the function is.
    pub fn is_cut(&self) -> bool {
        let no_number = self.missing.is_nan() && !self.bound.is_nan();
        no_number || self.missing > self.bound
    }
}

impl std::fmt::Display for GradientCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| (share * 1e4).round() / 1e2;
        let (missing, bound) = (percent(self.missing), percent(self.bound));
        write!(f, "{} (off by {missing} %, seen to {bound} %)", self.part)
    }
}

/// Compares the gradient through each function of a network with differences of the function, and
/// returns what it found, in the order of the network.
///
/// Candle does not say so where an operation records no gradient, as the fused ones of candle-nn
/// (`softmax_last_dim`, `rms_norm`, `layer_norm`, `rope`): what is behind it is missing from every
/// cosine. This finds out, at a few samples `[N, …]` of whatever the stem reads; once for a network
/// is enough.
///
/// # How
///
/// For shortcut, branch and after of each block and for the head, call it f, 15 times: at a random
/// point x near the h_j that the images lead to, with a random g and a random direction d, about 10⁻³
/// of x in size (for f32),
///
/// ```text
/// ⟨gradient of ⟨g, f(x)⟩, d⟩   against   D(d) = ⟨g, f(x + d) − f(x − d)⟩ / 2
/// ```
///
/// `missing` is the median difference against the median slope: ⟨v, d⟩ of a random d is about ‖v‖
/// long, so this is the share of the gradient's norm that is missing. `bound` is ten times the median
/// of |D(2d)/2 − D(d)|, by the same slope, plus 10⁻⁴ for the gradient's own rounding: D(2d)/2 and D(d)
/// differ by three times the error of D(d) that curvature makes, and by about as much as rounding and
/// ReLUs that change sides on the way make. What is missing below the bound is not seen.
///
/// Of a network with gradients of its own
/// ([`block_backward`](ir_models::ResidualNetwork::block_backward)) these are compared, block by block.
/// Costs 75 evaluations of each function and 15 backward passes.
///
/// # Errors
/// [`Error::CutGradients`] with the functions whose gradient is cut; whatever the network breaks of its
/// contract or reports.
///
/// # Example
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use ir_analysis::{Error, Part, check_gradients};
/// use ir_models::{Block, ResidualNetwork};
///
/// /// Two blocks h + h², the second of which hides one of its two factors from the record.
/// struct Squares;
/// impl ResidualNetwork for Squares {
///     fn blocks(&self) -> Vec<Block> {
///         vec![Block { stage: 0, transition: false }; 2]
///     }
///     fn stem(&self, images: &Tensor) -> Result<Tensor> {
///         Ok(images.clone())
///     }
///     fn branch(&self, block: usize, h: &Tensor) -> Result<Tensor> {
///         if block == 0 { h * h } else { h * h.detach() }
///     }
///     fn head(&self, h: &Tensor) -> Result<Tensor> {
///         Ok(h.clone())
///     }
/// }
///
/// let images = Tensor::new(&[[0.5f32, -1., 2.], [1., 3., -0.5]], &Device::Cpu)?;
/// let Err(Error::CutGradients { cut }) = check_gradients(&Squares, &images) else {
///     panic!("half a gradient is missing");
/// };
/// assert_eq!(cut.len(), 1);
/// assert_eq!(cut[0].part, Part::Branch(1));
/// assert!((cut[0].missing - 0.5).abs() < 0.01);
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn check_gradients(
    network: &dyn ResidualNetwork,
    images: &Tensor,
) -> Result<Vec<GradientCheck>> {
    let network = Checked::new(network)?;
    // No label has a part in it; these make a batch.
    let samples = images.dims().first().copied().unwrap_or(0);
    let labels = Tensor::zeros(samples, DType::U32, &Device::Cpu)?;
    let batch = Batch::new(0, images.clone(), labels)?;
    let (trace, _) = run(&network, &batch, Gradients::Left)?;
    let checks = match network.block_backward() {
        Some(backward) => of_its_own(&network, backward, &trace)?,
        None => of_the_record(&network, &trace)?,
    };
    let cut = checks.iter().copied().filter(GradientCheck::is_cut);
    let cut: Vec<_> = cut.collect();
    if cut.is_empty() {
        Ok(checks)
    } else {
        Err(Error::CutGradients { cut })
    }
}

fn of_its_own(
    network: &Checked<'_>,
    backward: &dyn BlockBackward,
    trace: &Trace,
) -> Result<Vec<GradientCheck>> {
    let mut checks = Vec::new();
    for (j, block) in trace.blocks.iter().enumerate() {
        let back = |h: &Tensor, g: &Tensor| Ok(network.gradients(backward, j, h, g)?.h);
        let step = |h: &Tensor| network.step(j, h);
        checks.push(check(Part::Block(j), &block.h, &step, back)?);
    }
    let back = |h: &Tensor, g: &Tensor| network.head_gradient(backward, h, g);
    let head = |h: &Tensor| network.head(h);
    checks.push(check(Part::Head, &trace.h_last, &head, back)?);
    Ok(checks)
}

fn of_the_record(network: &Checked<'_>, trace: &Trace) -> Result<Vec<GradientCheck>> {
    let mut checks = Vec::new();
    for (j, block) in trace.blocks.iter().enumerate() {
        let sum = network.sum(j, &block.s, &block.branch)?;
        let shortcut = |h: &Tensor| network.shortcut(j, h);
        let branch = |h: &Tensor| network.branch(j, h);
        let after = |sum: &Tensor| network.after(j, sum);
        checks.extend(recorded(Part::Shortcut(j), &block.h, &shortcut)?);
        checks.extend(recorded(Part::Branch(j), &block.h, &branch)?);
        checks.extend(recorded(Part::After(j), &sum, &after)?);
    }
    let head = |h: &Tensor| network.head(h);
    checks.extend(recorded(Part::Head, &trace.h_last, &head)?);
    Ok(checks)
}

type Function<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

/// The check of a function as Candle records it; `None` for one that gives its input back.
fn recorded(part: Part, x: &Tensor, f: Function<'_>) -> Result<Option<GradientCheck>> {
    if f(x)?.id() == x.id() {
        return Ok(None);
    }
    let back = |x: &Tensor, g: &Tensor| Ok(Recorded::new(x, f)?.back(g)?);
    check(part, x, f, back).map(Some)
}

/// `back` gives the gradient at x of ⟨g, f(x)⟩.
fn check(
    part: Part,
    h: &Tensor,
    f: Function<'_>,
    back: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<GradientCheck> {
    let sizes = sizes(h)?;
    let (mut slopes, mut missing, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for draw in 0..DRAWS {
        let random = |like: &Tensor, sizes: &[f64], scale, kind| {
            random_like(like, sizes, scale, part, [draw, kind])
        };
        let x = (h + random(h, &sizes, BESIDE, 0)?)?.detach();
        let d = random(h, &sizes, step(h.dtype()), 1)?;
        let g = random(&f(&x)?.detach(), &vec![1.0; sizes.len()], 1.0, 2)?;
        let slope = |by: f64| {
            let d = (&d * by)?;
            let difference = (f(&(&x + &d)?)?.detach() - f(&(&x - &d)?)?.detach())?;
            Ok::<_, Error>(product(&difference, &g)? / (2.0 * by))
        };
        let (near, far) = (slope(1.0)?, slope(2.0)?);
        slopes.push(near.abs());
        missing.push((product(&back(&x, &g)?, &d)? - near).abs());
        errors.push((far - near).abs());
    }
    let (slope, missing) = (median(slopes), median(missing));
    // Nothing is missing from a gradient of 0 that should be 0.
    let share = |part: f64| if part == 0.0 { 0.0 } else { part / slope };
    Ok(GradientCheck {
        part,
        missing: share(missing),
        bound: MARGIN * share(median(errors)) + ROUNDING,
    })
}

/// How long a direction is against x: longer and curvature shows, shorter and rounding does.
fn step(dtype: DType) -> f64 {
    let rounding: i32 = match dtype {
        DType::F64 => -53,
        DType::F16 => -11,
        DType::BF16 => -8,
        _ => -24,
    };
    2f64.powf(0.4 * f64::from(rounding))
}

/// The root mean square of each sample's numbers; 1 where all are 0.
fn sizes(x: &Tensor) -> Result<Vec<f64>> {
    let units = x.dims()[1..].iter().product::<usize>() as f64;
    let size = |norm: f64| if norm > 0.0 { norm / units.sqrt() } else { 1.0 };
    Ok(norms(x)?.into_iter().map(size).collect())
}

/// Numbers of x's shape, uniform between ±`scale` times the sample's size, for one use.
fn random_like(
    x: &Tensor,
    sizes: &[f64],
    scale: f64,
    part: Part,
    [draw, kind]: [u64; 2],
) -> Result<Tensor> {
    let (function, block) = match part {
        Part::Stem => (0, 0),
        Part::Shortcut(block) => (1, block),
        Part::Branch(block) => (2, block),
        Part::After(block) => (3, block),
        Part::Block(block) => (4, block),
        Part::Head => (5, 0),
        Part::LogitsFrom(block) => (6, block),
    };
    let units: usize = x.dims()[1..].iter().product();
    let mut stream = random::stream(function, block as u64, 3 * draw + kind, PURPOSE);
    let mut numbers = Vec::with_capacity(sizes.len() * units);
    for size in sizes {
        numbers.extend((0..units).map(|_| stream.random_range(-1.0..1.0) * size * scale));
    }
    let numbers = Tensor::from_vec(numbers, x.shape(), x.device())?;
    Ok(numbers.to_dtype(x.dtype())?)
}

/// ⟨x, y⟩ over all samples.
fn product(x: &Tensor, y: &Tensor) -> Result<f64> {
    let products = per_sample::dot(&readable(x)?, &readable(y)?)?;
    Ok(products.into_iter().sum())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
