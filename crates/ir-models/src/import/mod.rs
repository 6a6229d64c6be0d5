//! Other people's residual networks, found by the names of their tensors.
//!
//! | source | block | tensors are called |
//! |---|---|---|
//! | torchvision, timm | basic, bottleneck | `conv1.weight`, `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`, `fc.weight` |
//! | chenyaofo's CIFAR ResNets | basic | the same, in three stages |
//! | Hugging Face `ResNetForImageClassification` | basic, bottleneck | `resnet.encoder.stages.0.layers.0.layer.0.convolution.weight` |
//!
//! Everything about a network is in the names and shapes of its tensors: stages, blocks a stage,
//! kind of block, widths, groups, classes, and by its kernel the stem: 7×7 with stride 2 and max
//! pooling, as for ImageNet, or 3×3 alone, as for CIFAR. What is not there, the place of the
//! stride, is read from an accompanying `config.json`, see [`ModelConfig`].
//!
//! # The five functions of a post-activation network
//!
//! ```text
//! h_0     = stem(x) = maxpool( relu( norm( conv(x) ) ) )     without maxpool in the CIFAR stem
//! F_j(h)  = norm(conv( … relu(norm(conv(h))) … ))            up to the sum, before its ReLU
//! s_j     = h_j, or norm(conv1×1(h_j)) in a transition
//! h_{j+1} = relu( s_j + F_j(h_j) )                           `after` is the ReLU
//! logits  = linear( mean of h_L over its pixels )
//! ```
//!
//! F_j is therefore not h_{j+1} − h_j: where the sum is negative the ReLU takes the rest. A dropped
//! block still has its ReLU, which changes nothing on an h that already went through one, and an
//! unrolled step is relu(h + F(h)).
//!
//! # Reading
//!
//! [`ImportedResNet::open`] takes the files of a model, [`Weights`] are tensors by name from
//! safetensors, from PyTorch's zip format (whose pickle is read and never run), or from anywhere. Every tensor must be of the network and every tensor of the network must
//! be there, or [`TensorReport`] says which.

mod architecture;
mod backward;
mod config;
mod fold;
mod identify;
mod max_pool;
mod network;
mod problem;
mod report;
mod torch_file;
mod weights;

pub use architecture::{BlockKind, Family, ImportedArchitecture, ImportedStage};
pub use config::{Fit, Interpolation, ModelConfig, ModelFiles, Preprocessing};
pub use identify::StridePlacement;
pub use network::{Imported, ImportedResNet, Strictness};
pub use problem::ImportProblem;
pub use report::{Misshapen, TensorReport};
pub use weights::Weights;
