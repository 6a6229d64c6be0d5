//! The examples run, and their networks are what they say they are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::llama::{Cache, Llama};
use ir_analysis::results::BlockMeasures;
use ir_analysis::{Options, analyze_split};
use ir_models::ResidualNetwork;

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
    // The slope of a ReLU that changes sides within the step is one or the other, not their mean.
    check_measures(&network, &images.narrow(0, 0, 1)?, 3, 2e-2)
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
    // A loss is right to about 1e-6, hence its slope over 2e-3 to 5e-4, of a largest of 10 or more.
    check_measures(&network, &tokens.narrow(0, 0, 1)?, 7, 5e-4)
}

/// Equal within `bound` of the largest.
fn assert_close(found: &Tensor, expected: &Tensor, bound: f64) -> Result<()> {
    let largest = |x: &Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    let (error, scale) = (largest(&(found - expected)?)?, largest(expected)?);
    assert!(scale > 0.0 && f64::from(error) < bound * f64::from(scale), "{error} of {scale}");
    Ok(())
}

/// Measures one sample, whose label is 3, at every exit and along every branch.
fn check_measures(
    network: &dyn ResidualNetwork,
    sample: &Tensor,
    exits: usize,
    bound: f64,
) -> ir_analysis::Result<()> {
    let batch = (sample.clone(), Tensor::new(&[3u32], &CPU)?);
    let batches = [Ok::<_, ir_analysis::Error>(batch)];
    let split = analyze_split(network, batches, &Options::default(), &mut |_| {})?;
    assert_eq!(split.exits.len(), exits);
    let last = &split.exits[exits - 1].groups.all;
    assert_eq!((last.accuracy, last.loss), (Some(split.accuracy), Some(split.loss.into())));
    Ok(check_slopes(network, sample, &split.blocks, bound)?)
}

// ANCHOR: slopes
fn check_slopes(
    network: &dyn ResidualNetwork,
    sample: &Tensor,
    blocks: &[BlockMeasures],
    bound: f64,
) -> Result<()> {
    let mut h = network.stem(sample)?;
    for (j, measures) in blocks.iter().enumerate() {
        if !measures.transition {
            let branch = network.branch(j, &h)?;
            let largest = norm(&branch)? * f64::from(measures.grad_norm.expect("measured"));
            let slope = measures.cosine.expect("defined") * largest;
            let moved = |by: f64| loss(&network.logits_from(j, &(&h + (&branch * by)?)?)?);
            let expected = (moved(1e-3)? - moved(-1e-3)?) / 2e-3;
            let error = (slope - expected).abs() / largest;
            assert!(error < bound, "block {j}: slope {slope}, but the losses give {expected}");
        }
        h = network.step(j, &h)?;
    }
    Ok(())
}

fn norm(x: &Tensor) -> Result<f64> {
    Ok(f64::from(x.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

/// Cross-entropy of class 3, in f64.
fn loss(logits: &Tensor) -> Result<f64> {
    let logits = logits.to_dtype(DType::F64)?.squeeze(0)?.to_vec1::<f64>()?;
    Ok(logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[3])
}
// ANCHOR_END: slopes

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
            assert!(source.lines().any(|text| text == line), "{path} has no {line}");
        }
        found += 1;
    }
    assert_eq!(found, 4);
    Ok(())
}
