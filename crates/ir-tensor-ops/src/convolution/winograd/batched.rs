//! The product of a whole batch at a time, for weights that no cache holds.
//!
//! A chunk of tiles reads every transformed weight once. With hundreds of channels these are
//! tens of megabytes, and to read them for each chunk takes longer than the arithmetic. Here
//! all tiles of the batch are transformed first; then a task has one position, whose weights
//! meet all tiles; then the outputs are transformed. The tiles go through memory in between,
//! which costs more than it saves for few channels.

use super::product;
use super::tiling::Tiles;
use super::{Outputs, Product};
use crate::arch::{self, Kernel, Lanes, Vector};
use crate::blocks::Sums;
use crate::convolution::incoming::{Incoming, IncomingImages};
use crate::convolution::shape::Convolution;
use crate::images::ImagesMut;
use crate::parallel::{self, Panels, Pieces};
use crate::scratch::{self, Scratch, Use};

/// Whether the weight is large enough.
pub(crate) fn pays(shape: &Convolution) -> bool {
    shape.inputs * shape.outputs >= 256 * 256
}

impl Product<'_> {
    /// The same results as by chunks; the tiling has chunks of whole images.
    pub(super) fn run_batched(
        &self,
        batch: usize,
        from: Incoming<'_>,
        to: ImagesMut<'_>,
    ) -> Vec<Sums> {
        let (source, target, unit) = (self.source(), self.target(), self.tiling.images);
        let (sources, targets) = self.tiles();
        let units = batch.div_ceil(unit);
        let mut v = Scratch::take(Use::Inputs, units * sources.size());
        let room = from.room(source, unit);
        let split = (
            from.groups(source, batch, unit),
            Pieces::of(&mut v, sources.size()),
        );
        parallel::for_each(split, |_, (input, v)| {
            arch::run(TransformUnit {
                product: self,
                room,
                input,
                v,
            });
        });

        let mut m = Scratch::take(Use::Products, units * targets.size());
        let positions = Panels::of(&mut m, targets.size(), (units, targets.position));
        parallel::for_each(positions, |position, to| {
            arch::run(MultiplyPosition {
                product: self,
                batch,
                tiles: (sources, targets),
                v: &v,
                position,
                to,
            });
        });

        let mut sums = vec![Sums::ZERO; batch * target.blocks()];
        let split = (
            to.groups(target, unit),
            Pieces::of(&mut sums, unit * target.blocks()),
        );
        parallel::for_each(split, |index, (output, sums)| {
            arch::run(WriteUnit {
                product: self,
                first: index * unit,
                tiles: targets,
                m: &m[index * targets.size()..][..targets.size()],
                output,
                sums,
            });
        });
        sums
    }
}

/// Transforms the inputs of a few images.
struct TransformUnit<'a> {
    product: &'a Product<'a>,
    /// The scratch memory that reading the images takes.
    room: usize,
    input: IncomingImages<'a>,
    v: &'a mut [Lanes],
}

impl Kernel for TransformUnit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) {
        let Product { tiling, norm, .. } = self.product;
        let channels = self.product.sources;
        let sizes = [tiling.strip_size(), self.room];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [strip, inputs] = scratch::split(&mut scratch, sizes);
        let inputs = self.input.blocked(vector, inputs);
        let all = (0, tiling.rows);
        tiling.transform_inputs(vector, inputs, channels, *norm, all, strip, self.v);
    }
}

/// The product of all tiles at one position.
struct MultiplyPosition<'a> {
    product: &'a Product<'a>,
    batch: usize,
    tiles: (Tiles, Tiles),
    v: &'a [Lanes],
    position: usize,
    /// The products of each unit at this position.
    to: Vec<&'a mut [Lanes]>,
}

impl Kernel for MultiplyPosition<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let (sources, targets) = self.tiles;
        let tiling = &self.product.tiling;
        let mut block = 0;
        while block < targets.blocks {
            let mut done = 0;
            let units = self.v.chunks_exact(sources.size()).zip(&mut self.to);
            for (unit, (v, to)) in units.enumerate() {
                let images = tiling.images.min(self.batch - unit * tiling.images);
                let product = product::Product {
                    tiles: images * tiling.rows * tiling.columns,
                    from: &v[self.position * sources.position..][..sources.position],
                    sources,
                    targets,
                    weights: &self.product.weights,
                    position: self.position,
                    block,
                };
                done = product.step(vector, to);
            }
            block += done;
        }
    }
}

/// Transforms and writes the outputs of a few images.
struct WriteUnit<'a> {
    product: &'a Product<'a>,
    /// The first of the images.
    first: usize,
    tiles: Tiles,
    m: &'a [Lanes],
    output: ImagesMut<'a>,
    sums: &'a mut [Sums],
}

impl Kernel for WriteUnit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, vector: V) {
        let (product, target) = (self.product, self.product.target());
        let images = self.sums.len() / target.blocks();
        let range = self.first..self.first + images;
        let operand = product.finish.operand();
        let sizes = [
            operand.map_or(0, |operand| operand.room(target, images)),
            self.output.room(target),
        ];
        let mut scratch = Scratch::take(Use::Unit, sizes.iter().sum());
        let [room, turned] = scratch::split(&mut scratch, sizes);
        let operand = match operand {
            Some(images) => images.blocked(vector, target, range, room),
            None => &[],
        };
        let mut outputs = Outputs {
            product,
            tiles: self.tiles,
            operand,
            output: self.output.blocked(turned),
            sums: self.sums,
        };
        outputs.write(vector, (0, product.tiling.rows), self.m);
        self.output.finish(vector, target, turned);
    }
}
