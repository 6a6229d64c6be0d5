//! The logit lens: a Llama's residual stream under every measure, with random weights. A sample is
//! token ids `[N, T]`, its label the next token; block 2i is layer i's attention, 2i + 1 its MLP.
//!
//! `candle_transformers::models::llama` keeps its blocks to itself, and their fused normalisation,
//! rotation and softmax record no gradient. So this reads the same checkpoint by the same names
//! and computes the same from operations that record one; a test compares the logits.
#![allow(clippy::print_stdout)] // A program that shows what it measured.

use candle_core::{D, DType, Device, Error, Result, Tensor};
use candle_nn::{VarBuilder, VarMap, ops, rotary_emb};
use candle_transformers::{models::llama, utils};
use ir_analysis::{Options, analyze_split};
use ir_models::{Block, ResidualNetwork};

/// A Llama by its configuration and the tensors of its checkpoint.
pub(crate) struct Llama {
    pub(crate) config: llama::Config,
    pub(crate) weights: VarBuilder<'static>,
}

impl Llama {
    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (size, eps) = (self.config.hidden_size, self.config.rms_norm_eps);
        candle_nn::rms_norm(size, eps, self.weights.pp(name))?.forward_diff(x)
    }
    fn linear(&self, name: &str, size: usize, x: &Tensor) -> Result<Tensor> {
        x.apply(&candle_nn::linear_no_bias(x.dim(D::Minus1)?, size, self.weights.pp(name))?)
    }
    /// Causal, with rotary positions.
    fn attention(&self, layer: &str, x: &Tensor) -> Result<Tensor> {
        let (n, t, d) = x.dims3()?;
        let (heads, groups) = (self.config.num_attention_heads, self.config.num_key_value_heads);
        let (size, half, theta) = (d / heads, d / heads / 2, self.config.rope_theta);
        let project = |map: &str, heads: usize| {
            let x = self.linear(&format!("{layer}.self_attn.{map}_proj"), heads * size, x)?;
            x.reshape((n, t, heads, size))?.transpose(1, 2)?.contiguous()
        };
        let angle = |i| (i / half) as f32 * theta.powf(-((i % half) as f32) / half as f32);
        let angles = Tensor::from_iter((0..t * half).map(angle), x.device())?.reshape((t, half))?;
        let rotate = |x| rotary_emb::rope_slow(&x, &angles.cos()?, &angles.sin()?);
        let q = rotate(project("q", heads)?)?;
        let k = utils::repeat_kv(rotate(project("k", groups)?)?, heads / groups)?;
        let v = utils::repeat_kv(project("v", groups)?, heads / groups)?;
        let mask = utils::build_additive_causal_mask(t, 0, None, x.device(), x.dtype())?;
        let scores = (q.matmul(&k.t()?)? / (size as f64).sqrt())?.broadcast_add(&mask)?;
        let mixed = ops::softmax(&scores, D::Minus1)?.matmul(&v)?.transpose(1, 2)?;
        self.linear(&format!("{layer}.self_attn.o_proj"), d, &mixed.flatten_from(2)?)
    }
}

// ANCHOR: trait
impl ResidualNetwork for Llama {
    fn blocks(&self) -> Vec<Block> {
        vec![Block { stage: 0, transition: false }; 2 * self.config.num_hidden_layers]
    }
    fn stem(&self, tokens: &Tensor) -> Result<Tensor> {
        let (config, vb) = (&self.config, self.weights.pp("model.embed_tokens"));
        tokens.apply(&candle_nn::embedding(config.vocab_size, config.hidden_size, vb)?)
    }
    fn branch(&self, j: usize, h: &Tensor) -> Result<Tensor> {
        let layer = format!("model.layers.{}", j / 2);
        if j % 2 == 0 {
            return self.attention(&layer, &self.norm(&format!("{layer}.input_layernorm"), h)?);
        }
        let x = self.norm(&format!("{layer}.post_attention_layernorm"), h)?;
        let wide = self.config.intermediate_size;
        let gate = self.linear(&format!("{layer}.mlp.gate_proj"), wide, &x)?.silu()?;
        let up = self.linear(&format!("{layer}.mlp.up_proj"), wide, &x)?;
        self.linear(&format!("{layer}.mlp.down_proj"), self.config.hidden_size, &(gate * up)?)
    }
    fn head(&self, h: &Tensor) -> Result<Tensor> {
        let last = h.narrow(1, h.dim(1)? - 1, 1)?.squeeze(1)?;
        self.linear("lm_head", self.config.vocab_size, &self.norm("model.norm", &last)?)
    }
}
// ANCHOR_END: trait

pub(crate) fn main() -> ir_analysis::Result<()> {
    let tokens = Tensor::rand(0f32, 50., (16, 12), &Device::Cpu)?.to_dtype(DType::U32)?;
    let batches = [Ok::<_, Error>((tokens, Tensor::arange(0u32, 16, &Device::Cpu)?))];
    let split = analyze_split(&random()?, batches, &Options::default(), &mut |_| {})?;
    let row = |f: fn(&_) -> Option<f64>| Vec::from_iter(split.blocks.iter().flat_map(f));
    println!("cosine  {:.3?}", row(|block| block.cosine));
    println!("ratio   {:.3?}", row(|block| block.l2_ratio.map(f64::from)));
    println!("dropped {:.3?}", row(|block| block.drop_accuracy));
    let exits = split.exits.iter().flat_map(|exit| exit.groups.all.accuracy);
    println!("exits   {:.3?}", Vec::from_iter(exits));
    Ok(())
}

/// Weights under the names that candle-transformers gives them.
pub(crate) fn random() -> Result<Llama> {
    let mut config = llama::Config::config_7b_v2(false);
    (config.vocab_size, config.hidden_size, config.intermediate_size) = (50, 32, 64);
    (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) = (3, 4, 2);
    let weights = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    llama::Llama::load(weights.clone(), &config)?;
    Ok(Llama { config, weights })
}
