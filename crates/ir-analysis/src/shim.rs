//! Stand-in.
#![allow(missing_docs, unreachable_pub)]
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use std::sync::{Arc, Mutex};
pub struct Tap(Arc<Mutex<Option<Tensor>>>);
struct TapOp(Arc<Mutex<Option<Tensor>>>);
impl CustomOp1 for TapOp {
    fn name(&self) -> &'static str {
        "tap"
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let (a, b) = l
            .contiguous_offsets()
            .ok_or_else(|| candle_core::Error::Msg("contig".into()))?;
        let _ = s.dtype();
        let out = match s {
            CpuStorage::F32(v) => CpuStorage::F32(v[a..b].to_vec()),
            CpuStorage::F64(v) => CpuStorage::F64(v[a..b].to_vec()),
            _ => candle_core::bail!("dtype"),
        };
        Ok((out, l.shape().clone()))
    }
    fn bwd(&self, _a: &Tensor, _r: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        *self.0.lock().expect("lock") = Some(g.clone());
        Ok(Some(g.clone()))
    }
}
impl Tap {
    pub fn gradient(&self) -> Option<Tensor> {
        self.0.lock().expect("lock").clone()
    }
}
pub fn tap(x: &Tensor) -> Result<(Tensor, Tap)> {
    let slot = Arc::new(Mutex::new(None));
    Ok((x.contiguous()?.apply_op1(TapOp(slot.clone()))?, Tap(slot)))
}
pub mod per_sample {
    use super::*;
    fn rows(x: &Tensor) -> Result<Vec<Vec<f64>>> {
        x.flatten_from(1)?.to_dtype(DType::F64)?.to_vec2()
    }
    pub struct Inner {
        pub dot: f64,
        pub x_squared: f64,
        pub y_squared: f64,
    }
    impl Inner {
        pub fn cosine(&self) -> Option<f64> {
            let n = (self.x_squared * self.y_squared).sqrt();
            (n > 0.0).then(|| self.dot / n)
        }
    }
    pub fn inner(x: &Tensor, y: &Tensor) -> Result<Vec<Inner>> {
        Ok(rows(x)?
            .iter()
            .zip(&rows(y)?)
            .map(|(a, b)| Inner {
                dot: a.iter().zip(b).map(|(p, q)| p * q).sum(),
                x_squared: a.iter().map(|p| p * p).sum(),
                y_squared: b.iter().map(|p| p * p).sum(),
            })
            .collect())
    }
    pub fn squared_norm(x: &Tensor) -> Result<Vec<f64>> {
        Ok(rows(x)?
            .iter()
            .map(|a| a.iter().map(|p| p * p).sum())
            .collect())
    }
    fn soft(z: &[f64]) -> Vec<f64> {
        let m = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = z.iter().map(|v| (v - m).exp()).collect();
        let s: f64 = e.iter().sum();
        e.iter().map(|v| v / s).collect()
    }
    pub fn entropy(x: &Tensor) -> Result<Vec<f64>> {
        Ok(rows(x)?
            .iter()
            .map(|z| {
                soft(z)
                    .iter()
                    .map(|p| if *p == 0. { 0. } else { -p * p.ln() })
                    .sum()
            })
            .collect())
    }
    pub fn cross_entropy(x: &Tensor, l: &Tensor) -> Result<Vec<f64>> {
        let l = l.to_vec1::<u32>()?;
        Ok(rows(x)?
            .iter()
            .zip(l)
            .map(|(z, y)| {
                let m = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                z.iter().map(|v| (v - m).exp()).sum::<f64>().ln() + m - z[y as usize]
            })
            .collect())
    }
    pub fn probability_margin(x: &Tensor, l: &Tensor) -> Result<Vec<f64>> {
        let l = l.to_vec1::<u32>()?;
        Ok(rows(x)?
            .iter()
            .zip(l)
            .map(|(z, y)| {
                let p = soft(z);
                let o = p
                    .iter()
                    .enumerate()
                    .filter(|(k, _)| *k != y as usize)
                    .map(|(_, v)| *v)
                    .fold(f64::NEG_INFINITY, f64::max);
                p[y as usize] - o
            })
            .collect())
    }
    pub fn correct(x: &Tensor, l: &Tensor) -> Result<Vec<bool>> {
        let l = l.to_vec1::<u32>()?;
        Ok(rows(x)?
            .iter()
            .zip(l)
            .map(|(z, y)| {
                let mut b = 0;
                for k in 1..z.len() {
                    if z[k] > z[b] {
                        b = k
                    }
                }
                b == y as usize
            })
            .collect())
    }
}
