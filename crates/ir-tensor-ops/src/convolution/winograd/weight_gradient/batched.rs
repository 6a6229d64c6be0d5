//! The weight gradient of a whole batch at a time, for weights that no cache holds: see
//! [`batched`](crate::convolution::winograd::batched).

use std::ops::Range;

use super::product::Chunk;
use super::{Layout, finish};
use crate::arch::{self, Kernel, LANES, Lanes, Vector};
use crate::blocks;
use crate::convolution::shape::Convolution;
use crate::convolution::winograd::tiling::Tiling;
use crate::convolution::{Source, slots};
use crate::images::Images;
use crate::parallel::{self, Pieces};
use crate::scratch::{self, Scratch, Use};

/// The tiles after which sums go from registers to memory: a longer chain rounds more.
const RUN: usize = 128;

/// The gradients of weight and bias.
pub(super) fn weight_gradient(
    shape: &Convolution,
    x: Source<'_>,
    gradient: Images<'_>,
) -> (Vec<f32>, Vec<f32>) {
    let layout = Layout {
        tiling: Tiling::whole(shape.height, shape.width),
        inputs: shape.inputs,
        outputs: shape.outputs,
    };
    let tiling = &layout.tiling;
    let units = shape.batch.div_ceil(tiling.images);
    let (inputs, outputs) = (
        tiling.tiles_of(shape.inputs),
        tiling.tiles_of(shape.outputs),
    );
    let mut v = Scratch::take(Use::Inputs, units * inputs.size());
    let mut d = Scratch::take(Use::Products, units * outputs.size());
    let mut bias = vec![[0.; LANES]; units * outputs.blocks];
    let split = (
        (
            Pieces::of(&mut v, inputs.size()),
            Pieces::of(&mut d, outputs.size()),
        ),
        Pieces::of(&mut bias, outputs.blocks),
    );
    parallel::for_each(split, |unit, ((v, d), bias)| {
        let first = unit * tiling.images;
        arch::run(TransformUnit {
            shape,
            tiling,
            images: first..shape.batch.min(first + tiling.images),
            x,
            gradient,
            v,
            d,
            bias,
        });
    });

    let mut sums = Scratch::take(Use::Slots, layout.size());
    let unit_tiles = tiling.images * tiling.rows * tiling.columns;
    let run = (RUN / unit_tiles).max(1);
    parallel::for_each(
        Pieces::of(&mut sums, layout.position()),
        |position, sums| {
            for first in (0..units).step_by(run) {
                let images = (first + run).min(units) * tiling.images;
                let images = images.min(shape.batch) - first * tiling.images;
                let chunk = Chunk {
                    tiles: images * tiling.rows * tiling.columns,
                    unit_tiles,
                    inputs,
                    v: &v[first * inputs.size()..],
                    outputs,
                    d: &d[first * outputs.size()..],
                };
                arch::run(AddChunk {
                    chunk,
                    position,
                    fresh: first == 0,
                    sums,
                });
            }
        },
    );
    let weight = finish(shape, &layout, &sums);
    (weight, slots::bias_gradient(&bias, shape.outputs))
}

/// Transforms a few images.
struct TransformUnit<'a> {
    shape: &'a Convolution,
    tiling: &'a Tiling,
    images: Range<usize>,
    x: Source<'a>,
    gradient: Images<'a>,
    v: &'a mut [Lanes],
    d: &'a mut [Lanes],
    bias: &'a mut [[f64; LANES]],
}

impl Kernel for TransformUnit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let (shape, tiling, images) = (self.shape, self.tiling, self.images);
        let (source, target) = (shape.source(), shape.target());
        let sizes = [
            tiling.strip_size(),
            self.x.images.room(source, images.len()),
            self.gradient.room(target, images.len()),
        ];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [strip, x, gradient] = scratch::split(&mut scratch, sizes);
        let x = self.x.images.blocked(vector, source, images.clone(), x);
        let gradient = self.gradient.blocked(vector, target, images, gradient);
        for (index, pixels) in gradient.chunks_exact(target.plane).enumerate() {
            let total = &mut self.bias[index % target.blocks()];
            blocks::add_total(vector, pixels, total);
        }
        let all = (0, tiling.rows);
        tiling.transform_inputs(vector, x, shape.inputs, self.x.norm, all, strip, self.v);
        tiling.transform_gradients(vector, gradient, shape.outputs, all, strip, self.d);
    }
}

/// Adds the products of some units at one position.
struct AddChunk<'a> {
    chunk: Chunk<'a>,
    position: usize,
    fresh: bool,
    sums: &'a mut [Lanes],
}

impl Kernel for AddChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        self.chunk.add(vector, self.position, self.fresh, self.sums);
    }
}
