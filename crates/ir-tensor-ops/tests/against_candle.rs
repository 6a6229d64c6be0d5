//! The convolution against Candle's own, an independent implementation.

use candle_core::{Device, Result, Tensor, Var};

/// n·u/(1 − n·u) with u = 2⁻²⁴: the relative error bound of a sum of n products in f32.
fn gamma(n: usize) -> f32 {
    let nu = n as f32 * (f32::EPSILON / 2.);
    nu / (1. - nu)
}

#[test]
fn conv2d_and_its_gradients_agree_with_candle() -> Result<()> {
    for (size, kernel, stride, padding) in [(8, 3, 1, 1), (7, 3, 2, 1), (8, 1, 2, 0), (5, 3, 1, 0)]
    {
        let x = Var::rand(-1f32, 1., (3, 17, size, size), &Device::Cpu)?;
        let w = Var::rand(-1f32, 1., (5, 17, kernel, kernel), &Device::Cpu)?;
        let ours = ir_tensor_ops::conv2d(&x, &w, None, stride, padding)?;
        let theirs = x.conv2d(&w, padding, stride, 1, 1)?;
        let g = Tensor::rand(-1f32, 1., ours.shape(), &Device::Cpu)?;
        let ours_g = (&ours * &g)?.sum_all()?.backward()?;
        let theirs_g = (&theirs * &g)?.sum_all()?.backward()?;
        // All factors are at most 1, so Σ|a||b| is at most the number of terms; both sides err.
        let close = |a: &Tensor, b: &Tensor, terms: usize| -> Result<()> {
            let error = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
            let bound = 2. * gamma(terms) * terms as f32;
            assert!(error <= bound, "{error} > {bound}");
            Ok(())
        };
        let (_, _, height, width) = ours.dims4()?;
        close(&ours, &theirs, 17 * kernel * kernel)?;
        for (variable, terms) in [(&x, 5 * kernel * kernel), (&w, 3 * height * width)] {
            let (a, b) = (
                ours_g.get(variable).unwrap(),
                theirs_g.get(variable).unwrap(),
            );
            close(a, b, terms)?;
        }
    }
    Ok(())
}
