//! The convolutions of the GPU's way against sums in f64, number by number.
//!
//! A sum of k terms in f32 is off by at most γ_k Σ |terms|, γ_k = k u / (1 − k u), u = 2⁻²⁴; what is stored in
//! bfloat16 by another 2⁻⁸ of itself. Everything is compared with the sums of what the kernels read, rounded as they
//! round it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{DType, Device, Tensor};
use ir_emulation::gpus;
use ir_tensor_ops::gpu::{Buffer, Convolution, Gpu, Map, NormState, Precision, Weights};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// N, C, H, W; outputs, kernel, stride, padding.
type Case = ([usize; 4], [usize; 4]);

/// All block sizes, chunks of channels that are full, short and several, and tiles that leave the map on each side.
const CASES: [Case; 16] = [
    ([1, 3, 1, 1], [16, 3, 1, 1]),
    ([3, 3, 5, 7], [16, 3, 1, 1]),
    ([3, 16, 1, 1], [17, 3, 1, 1]),
    ([3, 17, 5, 7], [40, 3, 1, 1]),
    ([1, 16, 21, 35], [16, 3, 1, 1]),
    ([2, 32, 10, 11], [32, 3, 1, 1]),
    ([2, 64, 6, 8], [64, 3, 1, 1]),
    ([1, 112, 5, 3], [40, 3, 1, 1]),
    ([3, 16, 9, 8], [32, 3, 2, 1]),
    ([1, 40, 4, 5], [80, 3, 2, 1]),
    ([2, 112, 5, 4], [16, 3, 2, 2]),
    ([1, 40, 5, 7], [112, 1, 1, 0]),
    ([3, 16, 7, 5], [32, 1, 2, 0]),
    ([2, 17, 20, 20], [3, 1, 1, 0]),
    ([1, 16, 5, 6], [16, 3, 1, 0]),
    ([3, 20, 4, 3], [20, 3, 1, 2]),
];

/// So many channels and so large a part of x under each y that a block of the weights' gradient takes several tiles.
const MANY_TILES: Case = ([9, 225, 15, 15], [225, 1, 2, 0]);

/// Sums of products with the sums of their magnitudes.
#[derive(Clone)]
struct Sums {
    values: Vec<f64>,
    magnitudes: Vec<f64>,
    terms: usize,
}

impl Sums {
    fn new(length: usize, terms: usize) -> Self {
        let (values, magnitudes) = (vec![0.; length], vec![0.; length]);
        Self {
            values,
            magnitudes,
            terms,
        }
    }

    fn add(&mut self, at: usize, term: f64) {
        self.values[at] += term;
        self.magnitudes[at] += term.abs();
    }

    /// Fails unless the numbers are within the bound of sums in f32 that were stored with a relative error of
    /// `storage`. Sums of bfloat16 on tensor cores may be cut instead of rounded: twice u.
    fn check(&self, found: &[f32], storage: f64) {
        assert_eq!(found.len(), self.values.len());
        let unit = self.terms as f64 * 2f64.powi(-23);
        for (i, &found) in found.iter().enumerate() {
            let bound = unit / (1. - unit) * self.magnitudes[i] + storage * self.values[i].abs();
            let apart = (f64::from(found) - self.values[i]).abs();
            assert!(
                apart <= bound * 1.001,
                "number {i} is {found}, expected {} within {bound}",
                self.values[i]
            );
        }
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn random(dims: [usize; 4]) -> Tensor {
    Tensor::randn(0f32, 1., dims.to_vec(), &Device::Cpu).unwrap()
}

fn storage(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 2f64.powi(-24),
        Precision::Bf16 => 2f64.powi(-8),
    }
}

/// What a convolution reads, as tensors rounded to its precision.
struct Data {
    dims: [usize; 4],
    convolution: Convolution,
    precision: Precision,
    x: Tensor,
    weight: Tensor,
    /// Of the dimensions of y.
    gradient: Tensor,
    residual: Tensor,
    bias: Vec<f32>,
    /// Mean, scale and shift.
    norm: [Vec<f32>; 3],
}

impl Data {
    fn new(
        gpu: &Gpu,
        (dims, [outputs, kernel, stride, padding]): Case,
        precision: Precision,
    ) -> Self {
        let convolution =
            Convolution::new(dims, outputs, kernel, stride, padding, precision).unwrap();
        let round = |tensor: &Tensor| {
            let map = Map::from_tensor(gpu, tensor, precision).unwrap();
            map.to_tensor().unwrap()
        };
        let per_channel = |channels: usize| values(&random([1, channels, 1, 1]));
        Self {
            dims,
            precision,
            x: round(&random(dims)),
            weight: round(&random(convolution.weight_dims())),
            gradient: round(&random(convolution.output_dims())),
            residual: round(&random(convolution.output_dims())),
            bias: per_channel(outputs),
            norm: [0; 3].map(|_| per_channel(dims[1])),
            convolution,
        }
    }

    fn map(&self, gpu: &Gpu, tensor: &Tensor) -> Map {
        Map::from_tensor(gpu, tensor, self.precision).unwrap()
    }

    fn weights(&self, gpu: &Gpu) -> Weights {
        Weights::from_tensor(gpu, &self.weight, self.precision).unwrap()
    }

    fn norm_state(&self, gpu: &Gpu) -> NormState {
        let state = NormState::new(gpu, self.dims[1]).unwrap();
        let [mean, scale, shift] = &self.norm;
        state.mean.write(&padded(mean)).unwrap();
        state.scale.write(&padded(scale)).unwrap();
        state.shift.write(&padded(shift)).unwrap();
        state
    }

    /// The norm of every number of x, in f32 as the kernels take it.
    fn norm_of_x(&self) -> Vec<f32> {
        let [_, channels, height, width] = self.dims;
        let [mean, scale, shift] = &self.norm;
        let of = |(i, &x): (usize, &f32)| {
            let channel = i / (height * width) % channels;
            scale[channel].mul_add(x - mean[channel], shift[channel])
        };
        values(&self.x).iter().enumerate().map(of).collect()
    }

    /// What is multiplied by the weights: x, or relu(norm(x)) rounded.
    fn activation(&self, gpu: &Gpu, norm: bool) -> Vec<f32> {
        if !norm {
            return values(&self.x);
        }
        let activation: Vec<_> = self.norm_of_x().iter().map(|a| a.max(0.)).collect();
        let tensor = Tensor::from_vec(activation, self.dims.to_vec(), &Device::Cpu).unwrap();
        values(&self.map(gpu, &tensor).to_tensor().unwrap())
    }

    /// Calls `visit` with the indices in x, y and weights of every product that the convolution is a sum of.
    fn each_product(
        &self,
        stride: usize,
        padding: usize,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let [images, inputs, height, width] = self.dims;
        let [_, outputs, out_height, out_width] = self.convolution.output_dims();
        let kernel = self.convolution.weight_dims()[2];
        for image in 0..images {
            for output in 0..outputs {
                for row in 0..out_height {
                    for column in 0..out_width {
                        let y =
                            ((image * outputs + output) * out_height + row) * out_width + column;
                        for tap in 0..kernel * kernel {
                            let down = (row * stride + tap / kernel).wrapping_sub(padding);
                            let across = (column * stride + tap % kernel).wrapping_sub(padding);
                            if down >= height || across >= width {
                                continue;
                            }
                            for input in 0..inputs {
                                let x = ((image * inputs + input) * height + down) * width + across;
                                visit(x, y, (output * inputs + input) * kernel * kernel + tap);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn padded(values: &[f32]) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(16), 0.);
    padded
}

/// The sum over H and W, and over N, of what `of` gives for a number and its channel.
fn per_channel(tensor: &Tensor, of: impl Fn(f64, usize) -> f64) -> Vec<f64> {
    let [_, channels, height, width] = <[usize; 4]>::try_from(tensor.dims()).unwrap();
    let mut sums = vec![0.; channels.next_multiple_of(16)];
    for (i, &value) in values(tensor).iter().enumerate() {
        let channel = i / (height * width) % channels;
        sums[channel] += of(value.into(), channel);
    }
    sums
}

/// The last 16 channels of a map, read by a convolution of 1 by 1: behind the real ones, zeros.
fn check_padding(map: &Map) {
    let [images, channels, height, width] = map.dims();
    let groups = channels.div_ceil(16);
    let picked: Vec<f32> = (0..16 * 16 * groups)
        .map(|i| f32::from(i % (16 * groups) == 16 * (groups - 1) + i / (16 * groups)))
        .collect();
    let weight = Tensor::from_vec(picked, vec![16, 16 * groups, 1, 1], &Device::Cpu).unwrap();
    let weight = Weights::from_tensor(map.gpu(), &weight, map.precision()).unwrap();
    let dims = [images, 16, height, width];
    let probe = Convolution::new(map.dims(), 16, 1, 1, 0, map.precision()).unwrap();
    let y = Map::new(map.gpu(), dims, map.precision()).unwrap();
    let bias = Buffer::zeros(map.gpu(), 16).unwrap();
    probe
        .forward(map, None, &weight, &bias, None, &y, None)
        .unwrap();
    let y = values(&y.to_tensor().unwrap());
    for (i, y) in y.iter().enumerate() {
        let channel = 16 * (groups - 1) + i / (height * width) % 16;
        assert!(channel < channels || *y == 0., "{y} in the padding");
    }
}

/// Runs `body` on every emulated device for every case and precision with the same data; what it gives must be the
/// same bits on all of them.
fn each_case(cases: &[Case], body: impl Fn(&Gpu, &Data, [usize; 2]) -> Vec<Vec<f32>>) {
    let gpus = gpus();
    for &case in cases {
        for precision in PRECISIONS {
            let mut first: Option<Vec<Vec<u32>>> = None;
            let mut data = None;
            for gpu in &gpus {
                let data = data.get_or_insert_with(|| Data::new(gpu, case, precision));
                let [_, _, stride, padding] = case.1;
                let found = body(gpu, data, [stride, padding]);
                let bits = found
                    .iter()
                    .map(|f| f.iter().map(|x| x.to_bits()).collect());
                let bits: Vec<Vec<u32>> = bits.collect();
                assert_eq!(first.get_or_insert(bits.clone()), &bits, "{case:?}");
            }
        }
    }
}

#[test]
fn forward() {
    each_case(&CASES, |gpu, data, [stride, padding]| {
        let convolution = &data.convolution;
        let dims = convolution.output_dims();
        let [_, outputs, height, width] = dims;
        let channels = outputs.next_multiple_of(16);
        let pieces = convolution.statistics_pieces();
        let mut results = Vec::new();
        for fused in [false, true] {
            let norm = fused.then(|| data.norm_state(gpu));
            let residual = fused.then(|| data.map(gpu, &data.residual));
            let bias = Buffer::from_slice(gpu, &padded(&data.bias)).unwrap();
            let y = Map::new(gpu, dims, data.precision).unwrap();
            let statistics = Buffer::new(gpu, pieces * 3 * channels).unwrap();
            convolution
                .forward(
                    &data.map(gpu, &data.x),
                    norm.as_ref(),
                    &data.weights(gpu),
                    &bias,
                    residual.as_ref(),
                    &y,
                    fused.then_some(&statistics),
                )
                .unwrap();

            let (a, w) = (data.activation(gpu, fused), values(&data.weight));
            let terms = data.dims[1] * convolution.weight_dims()[2].pow(2) + 2;
            let mut sums = Sums::new(dims.iter().product(), terms);
            data.each_product(stride, padding, |x, y, weight| {
                sums.add(y, f64::from(a[x]) * f64::from(w[weight]));
            });
            let residual = values(&data.residual);
            for (i, &more) in residual.iter().enumerate() {
                sums.add(i, data.bias[i / (height * width) % outputs].into());
                sums.add(i, if fused { more.into() } else { 0. });
            }
            let tensor = y.to_tensor().unwrap();
            sums.check(&values(&tensor), storage(data.precision));
            check_padding(&y);
            results.push(values(&tensor));
            if fused {
                let statistics = statistics.to_vec().unwrap();
                check_moments(&statistics, channels, &tensor);
                results.push(statistics);
            }
        }
        results
    });
}

/// Merges the moments of the pieces and compares them with those of the map. A piece has at most 256 numbers, whose
/// sums are within γ_256; the squares are of distances from a mean that is off by no more than that.
fn check_moments(statistics: &[f32], channels: usize, y: &Tensor) {
    const GAMMA: f64 = 256. / 16777216.;
    let [images, real, height, width] = <[usize; 4]>::try_from(y.dims()).unwrap();
    let count = (images * height * width) as f64;
    let sizes = per_channel(y, |value, _| value.abs());
    let sums = per_channel(y, |value, _| value);
    let squares = per_channel(y, |value, c| (value - sums[c] / count).powi(2));
    for channel in 0..channels {
        let pieces = || {
            statistics
                .chunks_exact(3 * channels)
                .map(|piece| [0, 1, 2].map(|which| f64::from(piece[which * channels + channel])))
        };
        assert_eq!(pieces().map(|[n, ..]| n).sum::<f64>(), count);
        let sum: f64 = pieces().map(|[n, mean, _]| n * mean).sum();
        assert!((sum - sums[channel]).abs() <= 2. * GAMMA * sizes[channel]);
        let mean = sum / count;
        let total: f64 = pieces().map(|[n, m, m2]| m2 + n * (m - mean).powi(2)).sum();
        // Of a mean that is off by e, Σ (y − mean)² is larger by n e², e ≤ 2 γ Σ|y| / n.
        let bound = 4. * GAMMA * (squares[channel] + GAMMA * sizes[channel].powi(2) / count)
            + 4. * GAMMA * sizes[channel] / count * (squares[channel] * count).sqrt();
        assert!(
            (total - squares[channel]).abs() <= bound,
            "channel {channel} of {real}"
        );
    }
}

#[test]
fn input_gradient() {
    each_case(&CASES, |gpu, data, [stride, padding]| {
        let convolution = &data.convolution;
        let channels = data.dims[1].next_multiple_of(16);
        let (g, w) = (values(&data.gradient), values(&data.weight));
        let terms = convolution.weight_dims()[0] * convolution.weight_dims()[2].pow(2);
        let mut sums = Sums::new(data.dims.iter().product(), terms);
        data.each_product(stride, padding, |x, y, weight| {
            sums.add(x, f64::from(g[y]) * f64::from(w[weight]));
        });
        let (gradient, weights) = (data.map(gpu, &data.gradient), data.weights(gpu));
        let dx = Map::new(gpu, data.dims, data.precision).unwrap();
        convolution
            .input_gradient(&gradient, &weights, &dx, None)
            .unwrap();
        let plain = values(&dx.to_tensor().unwrap());
        sums.check(&plain, storage(data.precision));
        check_padding(&dx);

        let (x, norm) = (data.map(gpu, &data.x), data.norm_state(gpu));
        let pieces = convolution.gradient_pieces();
        let of_norm = Buffer::new(gpu, pieces * 2 * channels).unwrap();
        let dx = Map::new(gpu, data.dims, data.precision).unwrap();
        let behind = Some((&x, &norm, &of_norm));
        convolution
            .input_gradient(&gradient, &weights, &dx, behind)
            .unwrap();
        let tensor = dx.to_tensor().unwrap();
        let masked = values(&tensor);
        for ((&masked, &plain), &a) in masked.iter().zip(&plain).zip(&data.norm_of_x()) {
            assert_eq!(masked, if a > 0. { plain } else { 0. });
        }
        check_padding(&dx);

        let of_norm = of_norm.to_vec().unwrap();
        let x = values(&data.x);
        let plane = data.dims[2] * data.dims[3];
        let mut expected = Sums::new(2 * channels, 258);
        for (i, (&g, &x)) in masked.iter().zip(&x).enumerate() {
            let channel = i / plane % data.dims[1];
            let (g, apart) = (f64::from(g), f64::from(x - data.norm[0][channel]));
            expected.add(channel, g);
            expected.add(channels + channel, g * apart);
        }
        let merged: Vec<f32> = (0..2 * channels)
            .map(|i| {
                of_norm
                    .iter()
                    .skip(i)
                    .step_by(2 * channels)
                    .map(|&s| f64::from(s))
                    .sum::<f64>() as f32
            })
            .collect();
        expected.check(&merged, 2f64.powi(-24));
        vec![plain, masked, of_norm]
    });
}

#[test]
fn weight_gradient() {
    let cases = [&CASES[..], &[MANY_TILES]].concat();
    each_case(&cases, |gpu, data, [stride, padding]| {
        let convolution = &data.convolution;
        let dims = convolution.weight_dims();
        let channels = dims[0].next_multiple_of(16);
        let [images, _, height, width] = convolution.output_dims();
        let places = images * height * width;
        let mut results = Vec::new();
        for add in [false, true] {
            // The norm of the one is not that of the other, nor is what they add to.
            let norm = add.then(|| data.norm_state(gpu));
            let before = |length| match add {
                true => Buffer::from_slice(gpu, &vec![0.5f32; length]).unwrap(),
                false => Buffer::new(gpu, length).unwrap(),
            };
            let (dw, db) = (before(convolution.weight_len()), before(channels));
            let partials = Buffer::new(gpu, convolution.partial_weight_len()).unwrap();
            let (x, gradient) = (data.map(gpu, &data.x), data.map(gpu, &data.gradient));
            convolution
                .weight_gradient(&x, norm.as_ref(), &gradient, &partials, &dw, &db, add)
                .unwrap();

            let (a, g) = (data.activation(gpu, add), values(&data.gradient));
            let start = if add { 0.5 } else { 0. };
            let mut sums = Sums::new(dims.iter().product(), places + 1);
            (0..sums.values.len()).for_each(|i| sums.add(i, start));
            data.each_product(stride, padding, |x, y, weight| {
                sums.add(weight, f64::from(a[x]) * f64::from(g[y]));
            });
            let tensor = Weights::F32(dw.clone()).to_tensor(dims).unwrap();
            sums.check(&values(&tensor), 2f64.powi(-24));
            let mut sums = Sums::new(dims[0], places + 1);
            (0..dims[0]).for_each(|i| sums.add(i, start));
            for (i, &g) in g.iter().enumerate() {
                sums.add(i / (height * width) % dims[0], g.into());
            }
            let (dw, db) = (dw.to_vec().unwrap(), db.to_vec().unwrap());
            sums.check(&db[..dims[0]], 2f64.powi(-24));

            // In the padding nothing was added.
            let zero = |found: &f32| f64::from(*found) == start;
            assert!(db[dims[0]..].iter().all(zero));
            let inputs = dims[1].next_multiple_of(16);
            let per_output = dw.len() / channels;
            for (i, found) in dw.iter().enumerate() {
                let real = i % inputs < dims[1] && i / per_output < dims[0];
                assert!(real || zero(found), "{found} in the padding");
            }
            results.extend([dw, db]);
        }
        results
    });
}

#[test]
fn other_sizes_are_refused() {
    let Some(gpu) = gpus().into_iter().next() else {
        return;
    };
    for [kernel, stride, padding] in [[2, 1, 0], [3, 3, 1], [3, 1, 3], [1, 0, 0]] {
        let dims = [1, 3, 4, 4];
        assert!(Convolution::new(dims, 16, kernel, stride, padding, Precision::F32).is_err());
    }
    assert!(Convolution::new([1, 3, 0, 4], 16, 3, 1, 1, Precision::F32).is_err());
    assert!(Convolution::new([1, 3, 1, 1], 16, 3, 1, 0, Precision::F32).is_err());
    assert!(Convolution::new([1 << 20, 16, 16, 16], 16, 3, 1, 1, Precision::F32).is_err());
    // Fewer than 2³¹ numbers, in too long a row.
    assert!(Convolution::new([1, 16, 1, 1 << 26], 16, 1, 1, 0, Precision::F32).is_err());

    let convolution = Convolution::new([1, 3, 4, 4], 5, 3, 1, 1, Precision::Bf16).unwrap();
    let map = |dims, precision| Map::new(&gpu, dims, precision).unwrap();
    let weight = Tensor::zeros((5, 3, 3, 3), DType::F32, &Device::Cpu).unwrap();
    let weight = |precision| Weights::from_tensor(&gpu, &weight, precision).unwrap();
    let bias = Buffer::zeros(&gpu, 16).unwrap();
    let bf16 = Precision::Bf16;
    let (x, y, w) = (
        map([1, 3, 4, 4], bf16),
        map([1, 5, 4, 4], bf16),
        weight(bf16),
    );
    let forward = |x: &Map, w: &Weights, bias: &Buffer<f32>, y: &Map| {
        convolution.forward(x, None, w, bias, None, y, None)
    };
    assert!(forward(&x, &w, &bias, &y).is_ok());
    assert!(forward(&map([1, 3, 4, 4], Precision::F32), &w, &bias, &y).is_err());
    assert!(forward(&map([1, 3, 5, 4], bf16), &w, &bias, &y).is_err());
    assert!(forward(&x, &weight(Precision::F32), &bias, &y).is_err());
    assert!(forward(&x, &w, &Buffer::zeros(&gpu, 5).unwrap(), &y).is_err());
    assert!(forward(&x, &w, &bias, &map([1, 6, 4, 4], bf16)).is_err());
    let norm = NormState::new(&gpu, 17).unwrap();
    let normed = convolution.forward(&x, Some(&norm), &w, &bias, None, &y, None);
    assert!(normed.is_err());
    let short = Buffer::zeros(&gpu, 2).unwrap();
    let counted = convolution.forward(&x, None, &w, &bias, None, &y, Some(&short));
    assert!(counted.is_err());
    let norm = NormState::new(&gpu, 3).unwrap();
    let behind = Some((&x, &norm, &short));
    assert!(convolution.input_gradient(&y, &w, &x, behind).is_err());
    let dw = Buffer::zeros(&gpu, convolution.weight_len()).unwrap();
    assert!(
        convolution
            .weight_gradient(&x, None, &y, &short, &dw, &bias, false)
            .is_err()
    );
}
