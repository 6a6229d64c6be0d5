//! An imported network as five functions.

use candle_core::{DType, Device, Tensor};
use ir_tensor_ops::explicit::add;
use ir_tensor_ops::{linear, relu};

use super::architecture::ImportedArchitecture;
use super::config::{ModelConfig, ModelFiles};
use super::fold::FoldedConvolution;
use super::max_pool::max_pool;
use super::problem::ImportProblem;
use super::report::TensorReport;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::network::{Block, BlockBackward, ResidualNetwork};

/// What happens to tensors that the network does not ask for. One that it does ask for must be
/// there in any case: nothing is ever left at random values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strictness {
    /// They are an error.
    #[default]
    Strict,
    /// They are left alone, and the report names them.
    AllowUnexpected,
}

/// A post-activation residual network of someone else's, in f32, for evaluation; what its
/// five functions are stands in the [module's documentation](super).
///
/// Each batch norm is folded into the convolution before it. Candle's autograd reaches the
/// representations but not the weights, which are constants. It is read to the CPU, and reads images of
/// the device that [`ImportedResNet::to_device`] takes it to.
#[derive(Debug, Clone)]
pub struct ImportedResNet {
    architecture: ImportedArchitecture,
    stem: FoldedConvolution,
    blocks: Vec<ImportedBlock>,
    classifier_weight: Tensor,
    classifier_bias: Tensor,
}

/// One block's convolutions.
#[derive(Debug, Clone)]
pub(super) struct ImportedBlock {
    stage: usize,
    pub(super) branch: Vec<FoldedConvolution>,
    pub(super) shortcut: Option<FoldedConvolution>,
}

impl ImportedBlock {
    /// s from h.
    pub(super) fn shortcut(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        match &self.shortcut {
            Some(convolution) => convolution.apply(h),
            None => Ok(h.clone()),
        }
    }

    fn to_device(&self, device: &Device) -> candle_core::Result<Self> {
        let branch = self.branch.iter().map(|layer| layer.to_device(device));
        let shortcut = self.shortcut.as_ref().map(|layer| layer.to_device(device));
        Ok(Self {
            stage: self.stage,
            branch: branch.collect::<candle_core::Result<_>>()?,
            shortcut: shortcut.transpose()?,
        })
    }
}

/// A network with what was found beside it.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The network.
    pub network: ImportedResNet,
    /// Which tensors were found.
    pub report: TensorReport,
    /// What the files beside the weights say.
    pub config: ModelConfig,
}

impl ImportedResNet {
    /// Reads a network from a file of weights, with the `config.json` beside it if there is one, or
    /// from a folder that holds both; see [`ModelFiles::find`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotACheckpoint`] for a file that cannot be read;
    /// [`Error::Import`] for one that is no network that is known, with the tensor that says so.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use ir_models::import::{ImportedResNet, ModelFiles, Strictness};
    ///
    /// let files = ModelFiles::find(Path::new("resnet18/model.safetensors"))?;
    /// let imported = ImportedResNet::open(&files, Strictness::Strict)?;
    /// println!("{}", imported.report);
    /// # Ok::<(), ir_models::Error>(())
    /// ```
    pub fn open(files: &ModelFiles, strictness: Strictness) -> Result<Imported> {
        let config = ModelConfig::read(files)?;
        let weights = Weights::open(&files.weights)?;
        let (network, report) = Self::build(&weights, &config, strictness)
            .map_err(|problem| Error::import(&files.weights, problem))?;
        Ok(Imported {
            network,
            report,
            config,
        })
    }

    /// A network of tensors from anywhere, and which of them it took.
    ///
    /// # Errors
    /// Why these tensors are no network.
    pub fn build(
        weights: &Weights,
        config: &ModelConfig,
        strictness: Strictness,
    ) -> Result<(Self, TensorReport), ImportProblem> {
        let shapes = weights.shapes();
        let architecture = ImportedArchitecture::identify(&shapes, config.strides)?;
        let report = architecture.compare(&shapes);
        let acceptable = match strictness {
            Strictness::Strict => report.is_exact(),
            Strictness::AllowUnexpected => report.is_complete(),
        };
        if !acceptable {
            return Err(report.into());
        }
        let read = |layer| FoldedConvolution::read(weights, layer);
        let blocks = architecture.block_layers();
        let blocks = blocks.iter().map(|block| {
            Ok(ImportedBlock {
                stage: block.stage,
                branch: block.branch.iter().map(read).collect::<Result<_, _>>()?,
                shortcut: block.shortcut.as_ref().map(read).transpose()?,
            })
        });
        let classifier = |tensor: &str| -> Result<Tensor, ImportProblem> {
            let name = format!("{}.{tensor}", architecture.family.classifier());
            Ok(weights.get(&name)?.to_dtype(DType::F32)?)
        };
        let network = Self {
            stem: read(&architecture.stem_layer())?,
            blocks: blocks.collect::<Result<_, ImportProblem>>()?,
            classifier_weight: classifier("weight")?,
            classifier_bias: classifier("bias")?,
            architecture,
        };
        Ok((network, report))
    }

    /// The same network on another device.
    ///
    /// # Errors
    /// What the device reports.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use candle_core::{DType, Device, Tensor};
    /// # use ir_models::import::{ImportedResNet, ModelConfig, Strictness, Weights};
    /// # use ir_models::ResidualNetwork;
    /// # let one = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
    /// # let mut tensors = BTreeMap::from([
    /// #     ("conv1.weight".to_owned(), one(&[4, 3, 3, 3])?),
    /// #     ("fc.weight".to_owned(), one(&[2, 4])?),
    /// #     ("fc.bias".to_owned(), one(&[2])?),
    /// # ]);
    /// # for layer in ["layer1.0.conv1", "layer1.0.conv2"] {
    /// #     tensors.insert(format!("{layer}.weight"), one(&[4, 4, 3, 3])?);
    /// # }
    /// # for norm in ["bn1", "layer1.0.bn1", "layer1.0.bn2"] {
    /// #     for tensor in ["weight", "bias", "running_mean", "running_var"] {
    /// #         tensors.insert(format!("{norm}.{tensor}"), one(&[4])?);
    /// #     }
    /// # }
    /// # let weights = Weights::new(tensors);
    /// # let (network, _) = ImportedResNet::build(&weights, &ModelConfig::default(), Strictness::Strict)?;
    /// # let images = one(&[1, 3, 8, 8])?;
    /// // The GPU, where the program is built for one and finds one.
    /// let device = Device::cuda_if_available(0).unwrap_or(Device::Cpu);
    /// let network = network.to_device(&device)?;
    /// let logits = network.logits(&images.to_device(&device)?)?;
    /// assert_eq!(logits.dims(), [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let blocks = self.blocks.iter().map(|block| block.to_device(device));
        Ok(Self {
            architecture: self.architecture.clone(),
            stem: self.stem.to_device(device)?,
            blocks: blocks.collect::<candle_core::Result<_>>()?,
            classifier_weight: self.classifier_weight.to_device(device)?,
            classifier_bias: self.classifier_bias.to_device(device)?,
        })
    }

    /// What it consists of.
    pub fn architecture(&self) -> &ImportedArchitecture {
        &self.architecture
    }

    /// `[classes, channels]`.
    pub(super) fn classifier_weight(&self) -> &Tensor {
        &self.classifier_weight
    }

    pub(super) fn block(&self, index: usize) -> candle_core::Result<&ImportedBlock> {
        self.blocks.get(index).ok_or_else(|| {
            let last = self.blocks.len() - 1;
            candle_core::Error::Msg(format!("block {index}: the network has blocks 0 to {last}"))
        })
    }
}

impl ResidualNetwork for ImportedResNet {
    fn blocks(&self) -> Vec<Block> {
        let blocks = self.blocks.iter();
        blocks
            .map(|block| Block {
                stage: block.stage,
                transition: block.shortcut.is_some(),
            })
            .collect()
    }

    fn stem(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let h = relu(&self.stem.apply(images)?)?;
        if self.architecture.has_max_pool() {
            max_pool(&h)
        } else {
            Ok(h)
        }
    }

    fn shortcut(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        self.block(block)?.shortcut(h)
    }

    fn branch(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = h.clone();
        for (index, convolution) in self.block(block)?.branch.iter().enumerate() {
            let input = if index > 0 { relu(&x)? } else { x };
            x = convolution.apply(&input)?;
        }
        Ok(x)
    }

    fn after(&self, _block: usize, sum: &Tensor) -> candle_core::Result<Tensor> {
        Ok(relu(sum)?)
    }

    fn step(&self, block: usize, h: &Tensor) -> candle_core::Result<Tensor> {
        let (shortcut, branch) = (self.shortcut(block, h)?, self.branch(block, h)?);
        let sum = if h.track_op() {
            (shortcut + branch)?
        } else {
            add(&shortcut, &branch)?
        };
        self.after(block, &sum)
    }

    fn block_backward(&self) -> Option<&dyn BlockBackward> {
        Some(self)
    }

    fn head(&self, h: &Tensor) -> candle_core::Result<Tensor> {
        let features = h.flatten_from(2)?.mean(2)?;
        Ok(linear(
            &features,
            &self.classifier_weight,
            &self.classifier_bias,
        )?)
    }
}
