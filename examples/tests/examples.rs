//! The examples run, and their networks are what they say they are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::llama::{Cache, Llama};
use ir_analysis::{Error, Options, Part, analyze_split, check_gradients};
use ir_models::{Block, ResidualNetwork};

#[path = "../llama.rs"]
mod llama;
#[path = "../resnet.rs"]
mod resnet;

const CPU: Device = Device::Cpu;

#[test]
fn both_run() -> ir_analysis::Result<()> {
    resnet::main()?;
    llama::main()
}

/// The ResNet once more, from tensors alone: γ (x − μ) / √(σ² + ε) + β as a factor and a summand.
fn conv_norm(
    weights: &HashMap<String, Var>,
    name: &str,
    x: &Tensor,
    stride: usize,
) -> Result<Tensor> {
    let weight = |part: &str| weights[&format!("{name}.{part}")].as_tensor();
    let kernel = weight("conv.weight");
    let factor = (weight("norm.weight") / (weight("norm.running_var") + 1e-5)?.sqrt()?)?;
    let summand = (weight("norm.bias") - (weight("norm.running_mean") * &factor)?)?;
    x.conv2d(kernel, kernel.dim(2)? / 2, stride, 1, 1)?
        .broadcast_mul(&factor.reshape((1, (), 1, 1))?)?
        .broadcast_add(&summand.reshape((1, (), 1, 1))?)
}

fn resnet_logits(weights: &HashMap<String, Var>, images: &Tensor) -> Result<Tensor> {
    let mut h = conv_norm(weights, "stem", images, 2)?.relu()?;
    for (j, stride) in [1, 1, 2, 1].into_iter().enumerate() {
        let first = conv_norm(weights, &format!("block{j}.first"), &h, stride)?.relu()?;
        let branch = conv_norm(weights, &format!("block{j}.second"), &first, 1)?;
        if stride == 2 {
            h = conv_norm(weights, &format!("block{j}.projection"), &h, 2)?;
        }
        h = (h + branch)?.relu()?;
    }
    let classifier = weights["classifier.weight"].t()?;
    h.mean(3)?.mean(2)?.matmul(&classifier)?.broadcast_add(&weights["classifier.bias"])
}

/// A ResNet whose batch norms do something, and its weights.
fn random_resnet() -> Result<(resnet::ResNet, VarMap)> {
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &CPU);
    resnet::ResNet::new(&vb)?;
    for (name, weight) in weights.data().lock().expect("no thread has panicked").iter() {
        if name.contains(".norm.") {
            weight.set(&Tensor::rand(0.5f32, 1.5, weight.shape(), &CPU)?)?;
        }
    }
    Ok((resnet::ResNet::new(&vb)?, weights))
}

#[test]
fn the_resnet_is_a_resnet() -> ir_analysis::Result<()> {
    let (network, weights) = random_resnet()?;
    let images = Tensor::randn(0f32, 1., (4, 3, 16, 16), &CPU)?;
    let expected = resnet_logits(&weights.data().lock().expect("no thread has panicked"), &images)?;
    // Ten layers of sums over at most 144 products: 10 · 144 · 2⁻²⁴ < 1e-4.
    assert_close(&network.logits(&images)?, &expected, 1e-4)?;
    check_measures(&network, &images, 3)
}

#[test]
fn the_logit_lens_is_the_llama_of_candle_transformers() -> ir_analysis::Result<()> {
    let network = llama::random()?;
    let tokens = Tensor::rand(0f32, 50., (4, 12), &CPU)?.to_dtype(DType::U32)?;
    let theirs = Llama::load(network.weights.clone(), &network.config)?;
    let mut cache = Cache::new(false, DType::F32, &network.config, &CPU)?;
    let expected = theirs.forward(&tokens, 0, &mut cache)?;
    // Three layers of some five sums over at most 64 products: 15 · 64 · 2⁻²⁴ < 1e-4.
    assert_close(&network.logits(&tokens)?, &expected, 1e-4)?;
    check_measures(&network, &tokens, 7)
}

/// Equal within `bound` of the largest.
fn assert_close(found: &Tensor, expected: &Tensor, bound: f64) -> Result<()> {
    let largest = |x: &Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    let (error, scale) = (largest(&(found - expected)?)?, largest(expected)?);
    assert!(scale > 0.0 && f64::from(error) < bound * f64::from(scale), "{error} of {scale}");
    Ok(())
}

/// The gradients are whole, and one sample has so many exits.
fn check_measures(
    network: &dyn ResidualNetwork,
    samples: &Tensor,
    exits: usize,
) -> ir_analysis::Result<()> {
    // ANCHOR: check
    let checks = check_gradients(network, samples)?;
    // ANCHOR_END: check
    for check in checks {
        // Sharp enough to see half of a gradient missing, though ReLUs change sides within the step.
        assert!(check.bound < 0.5, "{check}");
    }
    let batch = (samples.narrow(0, 0, 1)?, Tensor::new(&[3u32], &CPU)?);
    let batches = [Ok::<_, ir_analysis::Error>(batch)];
    let split = analyze_split(network, batches, &Options::default(), &mut |_| {})?;
    assert_eq!(split.exits.len(), exits);
    let last = &split.exits[exits - 1].groups.all;
    assert_eq!((last.accuracy, last.loss), (Some(split.accuracy), Some(split.loss.into())));
    Ok(())
}

/// The Llama with the fused normalisation before its unembedding.
struct Fused(llama::Llama);

impl ResidualNetwork for Fused {
    fn blocks(&self) -> Vec<Block> {
        self.0.blocks()
    }
    fn stem(&self, tokens: &Tensor) -> Result<Tensor> {
        self.0.stem(tokens)
    }
    fn branch(&self, j: usize, h: &Tensor) -> Result<Tensor> {
        self.0.branch(j, h)
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        let weight = self.0.weights.get(h.dim(2)?, "model.norm.weight")?;
        self.0.head(&candle_nn::ops::rms_norm(&h.contiguous()?, &weight, 1e-5)?)
    }
}

#[test]
fn a_fused_operation_is_found() -> ir_analysis::Result<()> {
    let network = Fused(llama::random()?);
    let tokens = Tensor::rand(0f32, 50., (4, 12), &CPU)?.to_dtype(DType::U32)?;
    let error = check_gradients(&network, &tokens).expect_err("its head's gradient is cut");
    let Error::CutGradients { cut } = error else {
        return Err(error);
    };
    assert_eq!(cut.len(), 1, "{cut:?}");
    assert_eq!((cut[0].part, cut[0].missing), (Part::Head, 1.0));
    Ok(())
}

#[test]
fn what_the_guide_includes_is_there() -> std::io::Result<()> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide");
    let chapter = fs::read_to_string(guide.join("own-network.md"))?;
    let includes = chapter.split("{{#include ").skip(1).filter_map(|rest| rest.split_once("}}"));
    let mut found = 0;
    for (include, _) in includes {
        let (path, anchor) = include.split_once(':').expect("a file and an anchor in it");
        let source = fs::read_to_string(guide.join(path))?;
        for mark in ["ANCHOR", "ANCHOR_END"] {
            let line = format!("// {mark}: {anchor}");
            assert!(source.lines().any(|text| text.trim() == line), "{path} has no {line}");
        }
        found += 1;
    }
    assert_eq!(found, 4);
    Ok(())
}
