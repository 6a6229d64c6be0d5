//! The max pooling of the ImageNet stem.

use candle_core::{Result, Tensor};

/// 3×3 max pooling with stride 2 and padding 1 of what is nowhere negative, `[N, C, H, W]` to
/// `[N, C, ⌈H/2⌉, ⌈W/2⌉]`. Behind a ReLU the zeros that it pads with are no larger than anything
/// there, as PyTorch's −∞ is not.
///
/// Candle's own pads nothing and has no gradient unless kernel and stride are equal.
pub(super) fn max_pool(x: &Tensor) -> Result<Tensor> {
    halve(&halve(x, 2)?, 3)
}

/// The largest of each three neighbours along a dimension, at every second place.
fn halve(x: &Tensor, dim: usize) -> Result<Tensor> {
    let size = x.dim(dim)?;
    let half = size.div_ceil(2);
    // Pairs (x_{2i−1}, x_{2i}); the window of place i is pair i and the first of pair i + 1.
    let padded = x.pad_with_zeros(dim, 1, 2 * half + 1 - size)?;
    let mut dims = padded.dims().to_vec();
    dims[dim] = half + 1;
    dims.insert(dim + 1, 2);
    let pairs = padded.reshape(dims)?;
    let odd = pairs.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)?;
    let even = pairs.narrow(dim + 1, 1, 1)?.squeeze(dim + 1)?;
    let here = odd.narrow(dim, 0, half)?;
    let next = odd.narrow(dim, 1, half)?;
    here.maximum(&even.narrow(dim, 0, half)?)?.maximum(&next)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, IndexOp};

    use super::*;

    /// By the definition, with −∞ outside.
    #[test]
    fn it_is_the_largest_of_nine() {
        for (height, width) in [(6, 6), (7, 5), (1, 4), (2, 3)] {
            let values: Vec<f32> = (0..2 * height * width)
                .map(|i| ((i * 7919) % 101) as f32)
                .collect();
            let x = Tensor::from_vec(values, (1, 2, height, width), &Device::Cpu).unwrap();
            let y = max_pool(&x).unwrap();
            assert_eq!(y.dims(), [1, 2, height.div_ceil(2), width.div_ceil(2)]);
            for channel in 0..2 {
                let plane: Vec<Vec<f32>> = x.i((0, channel)).unwrap().to_vec2().unwrap();
                let pooled: Vec<Vec<f32>> = y.i((0, channel)).unwrap().to_vec2().unwrap();
                for (i, row) in pooled.iter().enumerate() {
                    for (j, &found) in row.iter().enumerate() {
                        let rows = (2 * i).saturating_sub(1)..(2 * i + 2).min(height);
                        let window = rows.flat_map(|r| {
                            let columns = (2 * j).saturating_sub(1)..(2 * j + 2).min(width);
                            plane[r][columns].iter().copied()
                        });
                        let largest = window.fold(f32::NEG_INFINITY, f32::max);
                        assert_eq!(found, largest, "{height}×{width} at {i}, {j}");
                    }
                }
            }
        }
    }
}
