//! A ResNet written with plain candle-nn under every measure. The weights are random here.
#![allow(clippy::print_stdout)] // A program that shows what it measured.

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::{Activation, Conv2dConfig, Linear, ModuleT, Sequential, VarBuilder, VarMap, seq};
use ir_analysis::{Options, analyze_split};
use ir_models::{Block, ResidualNetwork};

/// A convolution, of stride 2 where it widens, and a batch norm that reads its running statistics.
fn conv_norm(vb: VarBuilder<'_>, from: usize, to: usize, kernel: usize) -> Result<Sequential> {
    let (padding, stride) = (kernel / 2, if from < to { 2 } else { 1 });
    let config = Conv2dConfig { padding, stride, ..Conv2dConfig::default() };
    let conv = candle_nn::conv2d_no_bias(from, to, kernel, config, vb.pp("conv"))?;
    let norm = candle_nn::batch_norm(to, 1e-5, vb.pp("norm"))?;
    Ok(seq().add(conv).add_fn(move |x| norm.forward_t(x, false)))
}

/// ReLU(shortcut(x) + second(ReLU(first(x)))), the basic block of a ResNet.
struct BasicBlock {
    about: Block,
    shortcut: Sequential,
    branch: Sequential,
}

impl BasicBlock {
    fn new(vb: VarBuilder<'_>, stage: usize, from: usize, to: usize) -> Result<Self> {
        let mut shortcut = seq();
        if from != to {
            shortcut = shortcut.add(conv_norm(vb.pp("projection"), from, to, 1)?);
        }
        let branch = seq().add(conv_norm(vb.pp("first"), from, to, 3)?).add(Activation::Relu);
        let branch = branch.add(conv_norm(vb.pp("second"), to, to, 3)?);
        Ok(Self { about: Block { stage, transition: from != to }, shortcut, branch })
    }
}

/// Two stages of two blocks.
pub(crate) struct ResNet {
    stem: Sequential,
    blocks: Vec<BasicBlock>,
    classifier: Linear,
}

impl ResNet {
    pub(crate) fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let block = |name, stage, from, to| BasicBlock::new(vb.pp(name), stage, from, to);
        let first = [block("block0", 0, 8, 8)?, block("block1", 0, 8, 8)?];
        let second = [block("block2", 1, 8, 16)?, block("block3", 1, 16, 16)?];
        Ok(Self {
            stem: conv_norm(vb.pp("stem"), 3, 8, 3)?.add(Activation::Relu),
            blocks: first.into_iter().chain(second).collect(),
            classifier: candle_nn::linear(16, 10, vb.pp("classifier"))?,
        })
    }
}

// ANCHOR: trait
impl ResidualNetwork for ResNet {
    fn blocks(&self) -> Vec<Block> {
        self.blocks.iter().map(|block| block.about).collect()
    }
    fn stem(&self, images: &Tensor) -> Result<Tensor> {
        images.apply(&self.stem)
    }
    fn shortcut(&self, j: usize, h: &Tensor) -> Result<Tensor> {
        h.apply(&self.blocks[j].shortcut)
    }
    fn branch(&self, j: usize, h: &Tensor) -> Result<Tensor> {
        h.apply(&self.blocks[j].branch)
    }
    fn after(&self, _: usize, sum: &Tensor) -> Result<Tensor> {
        sum.relu()
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        h.mean((2, 3))?.apply(&self.classifier)
    }
}
// ANCHOR_END: trait

// ANCHOR: measures
pub(crate) fn main() -> ir_analysis::Result<()> {
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    let network = ResNet::new(&vb)?;
    let images = Tensor::randn(0f32, 1., (32, 3, 16, 16), &Device::Cpu)?;
    let labels = Tensor::from_iter((0..32u32).map(|n| n % 10), &Device::Cpu)?;
    let batches = [Ok::<_, Error>((images, labels))];
    let split = analyze_split(&network, batches, &Options::default(), &mut |_| {})?;
    let row = |f: fn(&_) -> Option<f64>| Vec::from_iter(split.blocks.iter().flat_map(f));
    println!("cosine  {:.3?}", row(|block| block.cosine));
    println!("ratio   {:.3?}", row(|block| block.l2_ratio.map(f64::from)));
    println!("dropped {:.3?}", row(|block| block.drop_accuracy));
    let exits = split.exits.iter().flat_map(|exit| exit.groups.all.accuracy);
    println!("exits   {:.3?}", Vec::from_iter(exits));
    Ok(())
}
// ANCHOR_END: measures
