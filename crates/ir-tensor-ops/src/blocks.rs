//! Arithmetic on the pixels of one block of 16 channels.
//!
//! Sums run in f32 over at most 128 pixels, in four chains that take turns, and are then added
//! in f64: the order is fixed and a chain of f32 additions has at most 34 terms.

use crate::arch::{LANES, Lanes, Vector};

/// The pixels after which f32 sums go over into f64 ones.
pub(crate) const RUN: usize = 128;
/// The chains of a run.
const CHAINS: usize = 4;

/// (x − mean) · scale + shift: the batch norm of 16 channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub(crate) mean: Lanes,
    pub(crate) scale: Lanes,
    pub(crate) shift: Lanes,
}

impl Affine {
    /// What lanes without a channel have: 0 for any number.
    pub(crate) const ZERO: Self = Self {
        mean: Lanes::ZERO,
        scale: Lanes::ZERO,
        shift: Lanes::ZERO,
    };

    #[inline(always)]
    pub(crate) fn load<V: Vector>(&self, vector: V) -> LoadedAffine<V> {
        LoadedAffine {
            mean: vector.load(&self.mean),
            scale: vector.load(&self.scale),
            shift: vector.load(&self.shift),
        }
    }
}

/// An [`Affine`] in registers.
#[derive(Clone, Copy)]
pub(crate) struct LoadedAffine<V: Vector> {
    mean: V::Register,
    scale: V::Register,
    shift: V::Register,
}

impl<V: Vector> LoadedAffine<V> {
    #[inline(always)]
    pub(crate) fn at(&self, vector: V, x: V::Register) -> V::Register {
        let centered = vector.subtract(x, self.mean);
        vector.multiply_add(centered, self.scale, self.shift)
    }

    #[inline(always)]
    pub(crate) fn relu_at(&self, vector: V, x: V::Register) -> V::Register {
        let value = self.at(vector, x);
        vector.where_positive(value, value)
    }
}

/// y ← affine(x), with negative values set to 0 if `relu`.
#[inline(always)]
pub(crate) fn normalize<V: Vector>(
    vector: V,
    affine: &Affine,
    relu: bool,
    x: &[Lanes],
    y: &mut [Lanes],
) {
    let affine = affine.load(vector);
    for (y, x) in y.iter_mut().zip(x) {
        let x = vector.load(x);
        let value = if relu {
            affine.relu_at(vector, x)
        } else {
            affine.at(vector, x)
        };
        vector.store(value, y);
    }
}

/// y ← x.
#[inline(always)]
pub(crate) fn copy<V: Vector>(vector: V, x: &[Lanes], y: &mut [Lanes]) {
    for (y, x) in y.iter_mut().zip(x) {
        vector.store(vector.load(x), y);
    }
}

/// y ← y + x.
#[inline(always)]
pub(crate) fn add<V: Vector>(vector: V, x: &[Lanes], y: &mut [Lanes]) {
    for (y, x) in y.iter_mut().zip(x) {
        vector.store(vector.add(vector.load(y), vector.load(x)), y);
    }
}

/// Two sums per channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) first: [f64; LANES],
    pub(crate) second: [f64; LANES],
}

impl Sums {
    pub(crate) const ZERO: Self = Self {
        first: [0.; LANES],
        second: [0.; LANES],
    };

    #[inline(always)]
    fn add<V: Vector>(&mut self, vector: V, first: V::Register, second: V::Register) {
        add_to(vector, first, &mut self.first);
        add_to(vector, second, &mut self.second);
    }
}

/// sums ← sums + register.
#[inline(always)]
fn add_to<V: Vector>(vector: V, register: V::Register, sums: &mut [f64; LANES]) {
    let mut lanes = Lanes::ZERO;
    vector.store(register, &mut lanes);
    for (sum, lane) in sums.iter_mut().zip(lanes.0) {
        *sum += f64::from(lane);
    }
}

/// The sum of four chains.
#[inline(always)]
fn join<V: Vector>(vector: V, chains: [V::Register; CHAINS]) -> V::Register {
    let [a, b, c, d] = chains;
    vector.add(vector.add(a, b), vector.add(c, d))
}

/// Adds Σ (x − shift) and Σ (x − shift)².
#[inline(always)]
pub(crate) fn add_powers<V: Vector>(vector: V, shift: &Lanes, x: &[Lanes], sums: &mut Sums) {
    let shift = vector.load(shift);
    for x in x.chunks(RUN) {
        let mut first = [vector.splat(0.); CHAINS];
        let mut second = first;
        for x in x.chunks(CHAINS) {
            for (chain, x) in x.iter().enumerate() {
                let x = vector.subtract(vector.load(x), shift);
                first[chain] = vector.add(first[chain], x);
                second[chain] = vector.multiply_add(x, x, second[chain]);
            }
        }
        sums.add(vector, join(vector, first), join(vector, second));
    }
}

/// Mean and Σ (x − mean)² of `count` numbers per channel, from their [`add_powers`].
///
/// With a shift that is one of the numbers, (shift − mean)² ≤ Σ (x − mean)², so that at most
/// log₂ count bits of the squares cancel, and as a rule only one or two.
#[inline(always)]
pub(crate) fn moments(powers: &Sums, shift: &Lanes, count: usize) -> Sums {
    let count = count as f64;
    let mut moments = Sums::ZERO;
    for lane in 0..LANES {
        let (first, second) = (powers.first[lane], powers.second[lane]);
        moments.first[lane] = f64::from(shift.0[lane]) + first / count;
        moments.second[lane] = (second - first * first / count).max(0.);
    }
    moments
}

/// Sets gradients to 0 where relu(affine(x)) is 0 (if `relu`), and adds Σ g and
/// Σ g·(x − mean) of what is left.
#[inline(always)]
pub(crate) fn mask_and_sum<V: Vector>(
    vector: V,
    affine: &Affine,
    relu: bool,
    x: &[Lanes],
    gradient: &mut [Lanes],
    sums: &mut Sums,
) {
    let affine = affine.load(vector);
    for (x, gradient) in x.chunks(RUN).zip(gradient.chunks_mut(RUN)) {
        let mut first = [vector.splat(0.); CHAINS];
        let mut second = first;
        for (x, gradient) in x.chunks(CHAINS).zip(gradient.chunks_mut(CHAINS)) {
            for (chain, (x, gradient)) in x.iter().zip(gradient).enumerate() {
                let x = vector.load(x);
                let mut g = vector.load(gradient);
                if relu {
                    g = vector.where_positive(affine.at(vector, x), g);
                    vector.store(g, gradient);
                }
                first[chain] = vector.add(first[chain], g);
                let centered = vector.subtract(x, affine.mean);
                second[chain] = vector.multiply_add(g, centered, second[chain]);
            }
        }
        sums.add(vector, join(vector, first), join(vector, second));
    }
}

/// How the gradient of batch norm's output becomes that of its input, for 16 channels:
/// scale·g + slope·(x − mean) + offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputGradient {
    pub(crate) mean: Lanes,
    pub(crate) scale: Lanes,
    pub(crate) slope: Lanes,
    pub(crate) offset: Lanes,
}

impl InputGradient {
    /// What lanes without a channel have: 0 for any number.
    pub(crate) const ZERO: Self = Self {
        mean: Lanes::ZERO,
        scale: Lanes::ZERO,
        slope: Lanes::ZERO,
        offset: Lanes::ZERO,
    };
}

/// Turns the gradient of batch norm's output into that of its input, in place, and adds to it
/// what reaches x on another way.
#[inline(always)]
pub(crate) fn input_gradient<V: Vector>(
    vector: V,
    rule: &InputGradient,
    x: &[Lanes],
    added: Option<&[Lanes]>,
    gradient: &mut [Lanes],
) {
    let (mean, scale) = (vector.load(&rule.mean), vector.load(&rule.scale));
    let (slope, offset) = (vector.load(&rule.slope), vector.load(&rule.offset));
    for (index, (g, x)) in gradient.iter_mut().zip(x).enumerate() {
        let centered = vector.subtract(vector.load(x), mean);
        let through_statistics = vector.multiply_add(slope, centered, offset);
        let mut value = vector.multiply_add(scale, vector.load(g), through_statistics);
        if let Some(added) = added {
            value = vector.add(value, vector.load(&added[index]));
        }
        vector.store(value, g);
    }
}

/// Adds Σ x.
#[inline(always)]
pub(crate) fn add_total<V: Vector>(vector: V, x: &[Lanes], total: &mut [f64; LANES]) {
    for x in x.chunks(RUN) {
        let mut sums = [vector.splat(0.); CHAINS];
        for x in x.chunks(CHAINS) {
            for (chain, x) in x.iter().enumerate() {
                sums[chain] = vector.add(sums[chain], vector.load(x));
            }
        }
        add_to(vector, join(vector, sums), total);
    }
}
