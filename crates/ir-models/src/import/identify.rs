//! From the names and shapes of tensors to the network that they are of.

use std::collections::BTreeMap;

use super::architecture::{BlockKind, Family, ImportedArchitecture, ImportedStage};
use super::problem::ImportProblem;
use super::report::TensorReport;

type Shapes = BTreeMap<String, Vec<usize>>;

/// Where strides stand: the one thing about a network that its tensors do not say. By default as in
/// torchvision, timm and most of Hugging Face's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StridePlacement {
    /// Whether a bottleneck's stride is that of its first 1×1 convolution (Hugging Face's
    /// `downsample_in_bottleneck`, He et al. 2015) and not of the 3×3 ("version 1.5").
    pub in_first_convolution: bool,
    /// Whether the first stage too begins with stride 2 (`downsample_in_first_stage`).
    pub in_first_stage: bool,
}

impl ImportedArchitecture {
    /// Finds out what network the tensors of these names and shapes are of.
    ///
    /// # Errors
    /// [`ImportProblem::NoNetwork`] if no family has such names; [`ImportProblem::Unsupported`]
    /// naming a tensor of something that is not built here; [`ImportProblem::Mismatch`] if a
    /// tensor that has to tell a size is not there or is no such tensor.
    pub fn identify(shapes: &Shapes, strides: StridePlacement) -> Result<Self, ImportProblem> {
        let family = family(shapes)?;
        refuse_unsupported(shapes)?;
        let dims = |name: &str| dims4(shapes, name);
        let [stem_channels, image_channels, stem_kernel, _] = dims(&weight(&family.stem()))?;
        if !matches!(stem_kernel, 3 | 7) {
            return Err(ImportProblem::Unsupported {
                tensor: weight(&family.stem()),
                what: format!("a stem with a {stem_kernel}×{stem_kernel} kernel"),
            });
        }
        let has = |names: [String; 2]| shapes.contains_key(&weight(&names));
        let block = match has(family.branch(0, 0, 2)) {
            true => BlockKind::Bottleneck,
            false => BlockKind::Basic,
        };
        let mut stages = Vec::new();
        let mut input = stem_channels;
        while has(family.branch(stages.len(), 0, 0)) {
            let index = stages.len();
            let [width, ..] = dims(&weight(&family.branch(index, 0, 0)))?;
            let [_, narrow, ..] = dims(&weight(&family.branch(index, 0, 1)))?;
            let last = family.branch(index, 0, block.convolutions() - 1);
            let [channels, ..] = dims(&weight(&last))?;
            let stride = if index > 0 || strides.in_first_stage {
                2
            } else {
                1
            };
            let changes = stride != 1 || channels != input;
            stages.push(ImportedStage {
                blocks: (0..)
                    .take_while(|&block| has(family.branch(index, block, 0)))
                    .count(),
                width,
                channels,
                groups: groups(block, width, narrow),
                stride,
                transition: changes || has(family.shortcut(index, 0)),
            });
            input = channels;
        }
        let classifier = format!("{}.weight", family.classifier());
        let classes = match shapes.get(&classifier).map(Vec::as_slice) {
            Some(&[classes, _]) => classes,
            found => return Err(TensorReport::only(classifier, found, &[0, input]).into()),
        };
        Ok(Self {
            family,
            block,
            image_channels,
            stem_channels,
            stem_kernel,
            stages,
            stride_in_first: strides.in_first_convolution,
            classes,
        })
    }

    /// Compares the tensors that are there with those of this network.
    pub fn compare(&self, shapes: &Shapes) -> TensorReport {
        TensorReport::new(self.tensors(), self.counters(), shapes)
    }
}

/// The first of the tensors of a convolution and its norm.
fn weight([convolution, _]: &[String; 2]) -> String {
    format!("{convolution}.weight")
}

fn family(shapes: &Shapes) -> Result<Family, ImportProblem> {
    let families = [Family::Torchvision, Family::HuggingFace];
    // The stem is not asked for: a deep one has other names, and is refused by them.
    let first = |family: &Family| shapes.contains_key(&weight(&family.branch(0, 0, 0)));
    families.into_iter().find(first).ok_or_else(|| {
        let names = shapes.keys().take(3).cloned().collect();
        ImportProblem::NoNetwork { names }
    })
}

/// Groups of a bottleneck's 3×3 convolution, whose weight has a group's channels in its second
/// dimension. Shapes that do not divide are left to the comparison.
fn groups(block: BlockKind, width: usize, narrow: usize) -> usize {
    match block {
        BlockKind::Bottleneck if narrow > 0 && width.is_multiple_of(narrow) => width / narrow,
        _ => 1,
    }
}

fn dims4(shapes: &Shapes, name: &str) -> Result<[usize; 4], ImportProblem> {
    let found = shapes.get(name).map(Vec::as_slice);
    match found {
        Some(&[outputs, inputs, height, width]) if outputs > 0 => {
            Ok([outputs, inputs, height, width])
        }
        _ => Err(TensorReport::only(name.into(), found, &[0, 0, 0, 0]).into()),
    }
}

/// What variants add to a network that is not built here, each with a piece of the names of its
/// tensors.
const UNSUPPORTED: [(&str, &str); 8] = [
    ("conv1.0.", "a stem of several convolutions"),
    (".se.", "squeeze-and-excitation"),
    (".eca.", "channel attention"),
    (".attn.", "attention in the blocks"),
    (".aa.", "anti-aliasing in the blocks"),
    (".conv2.conv.", "a split or selective convolution"),
    (".conv2.fc", "a split-attention convolution"),
    (".downsample.1.0.", "a shortcut of several layers"),
];

fn refuse_unsupported(shapes: &Shapes) -> Result<(), ImportProblem> {
    for (name, shape) in shapes {
        // An average pooling before the shortcut's convolution moves the latter to place 1.
        let pooled = name.ends_with(".downsample.1.weight") && shape.len() == 4;
        let pooled = pooled.then_some("average pooling in the shortcut");
        let padded = format!(".{name}");
        let known = UNSUPPORTED.iter().find(|(piece, _)| {
            padded.contains(piece) && (piece.starts_with('.') || name.starts_with(piece))
        });
        if let Some(what) = pooled.or(known.map(|(_, what)| *what)) {
            return Err(ImportProblem::Unsupported {
                tensor: name.clone(),
                what: what.into(),
            });
        }
    }
    Ok(())
}
