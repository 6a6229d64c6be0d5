//! The networks of the paper by name.

use crate::architecture::{
    Architecture, Entrance, Scope, Sharing, Stage, cifar_image, head_pooling,
};
use crate::error::{Error, Result};

/// The networks of the paper, in its order: Table 1, the other three, the ablation of Fig. 9.
///
/// [`Architecture::named`] knows more: `resnet-20`, `resnet-146-naive`, and so on.
pub const NAMES: [&str; 15] = [
    "resnet-32",
    "resnet-38",
    "resnet-56",
    "resnet-110",
    "resnet-110-ubn",
    "resnet-146-ubn",
    "resnet-182-ubn",
    "single-representation",
    "avg-pooling",
    "wide",
    "resnet-110-naive",
    "resnet-110-naive-gamma",
    "resnet-110-statistics",
    "resnet-110-statistics-gamma",
    "resnet-110-batch-norm",
];

/// A way to share, as a suffix of a name (paper, section 4.5): what each step of the shared block
/// has for itself, and γ at initialisation. The convolutions are always shared.
struct Way {
    suffix: &'static str,
    statistics: Scope,
    affine: Scope,
    initial_gamma: f32,
}

/// From everything shared to "unshared batch normalisation".
const WAYS: [Way; 6] = [
    Way {
        suffix: "naive",
        statistics: Scope::Shared,
        affine: Scope::Shared,
        initial_gamma: 1.0,
    },
    Way {
        suffix: "naive-gamma",
        statistics: Scope::Shared,
        affine: Scope::Shared,
        initial_gamma: SMALL_GAMMA,
    },
    Way {
        suffix: "statistics",
        statistics: Scope::Step,
        affine: Scope::Shared,
        initial_gamma: 1.0,
    },
    Way {
        suffix: "statistics-gamma",
        statistics: Scope::Step,
        affine: Scope::Shared,
        initial_gamma: SMALL_GAMMA,
    },
    Way {
        suffix: "batch-norm",
        statistics: Scope::Step,
        affine: Scope::Step,
        initial_gamma: 1.0,
    },
    Way {
        suffix: "ubn",
        statistics: Scope::Step,
        affine: Scope::Step,
        initial_gamma: SMALL_GAMMA,
    },
];

/// The paper's remedy against exploding activations.
const SMALL_GAMMA: f32 = 0.1;

/// The block of a stage from which on the paper shares.
const FIRST_SHARED: usize = 5;

impl Architecture {
    /// A network of the paper (section 4, appendix A) by name: one of [`NAMES`], or one of its
    /// family at another depth or with another sharing.
    ///
    /// - `resnet-D` has three stages of n blocks, D = 6 n + 2.
    /// - `resnet-D-naive`: from the sixth block of a stage on, all blocks are steps of one, batch
    ///   norms included.
    /// - `resnet-D-statistics`: each step has running statistics of its own.
    /// - `resnet-D-batch-norm`: γ and β of its own as well.
    /// - `resnet-D-ubn`: that, with γ = 0.1 at initialisation ("unshared batch normalisation");
    ///   `-naive-gamma` and `-statistics-gamma` are the two before with that γ.
    ///
    /// # Errors
    /// [`Error::UnknownArchitecture`] with the known names.
    ///
    /// # Example
    /// ```
    /// use ir_models::Architecture;
    ///
    /// assert_eq!(Architecture::named("resnet-20", 10)?.blocks().len(), 9);
    /// // Its own statistics are not trained, so they cost no trainable parameter.
    /// let naive = Architecture::named("resnet-110-naive", 10)?.parameters();
    /// let statistics = Architecture::named("resnet-110-statistics", 10)?.parameters();
    /// assert_eq!(statistics.trainable, naive.trainable);
    /// assert!(statistics.all > naive.all);
    /// # Ok::<(), ir_models::Error>(())
    /// ```
    pub fn named(name: &str, classes: usize) -> Result<Self> {
        let unknown = || Error::UnknownArchitecture { name: name.into() };
        let (stem_channels, stages) = match name {
            "single-representation" => (100, vec![stage(10, 100, Entrance::Same)]),
            "avg-pooling" => (
                150,
                vec![
                    stage(10, 150, Entrance::Same),
                    stage(10, 150, Entrance::AveragePooling),
                    stage(10, 150, Entrance::AveragePooling),
                ],
            ),
            "wide" => (
                16,
                vec![
                    stage(4, 160, Entrance::Transition { stride: 1 }),
                    stage(5, 320, Entrance::Transition { stride: 2 }),
                    stage(5, 640, Entrance::Transition { stride: 2 }),
                ],
            ),
            _ => (16, resnet_stages(name).ok_or_else(unknown)?),
        };
        let architecture = Self {
            name: name.into(),
            classes,
            image: cifar_image(),
            stem_channels,
            stages,
            head_pooling: head_pooling(),
        };
        architecture.check()?;
        Ok(architecture)
    }
}

/// The stages of `resnet-D` and `resnet-D-WAY`; `None` where it is neither.
fn resnet_stages(name: &str) -> Option<Vec<Stage>> {
    let rest = name.strip_prefix("resnet-")?;
    let (depth, suffix) = match rest.split_once('-') {
        Some((depth, suffix)) => (depth, Some(suffix)),
        None => (rest, None),
    };
    // One spelling for each network: no sign, no leading zero.
    let layers: usize = depth.parse().ok()?;
    if layers.to_string() != depth || layers < 8 || layers % 6 != 2 {
        return None;
    }
    let blocks = (layers - 2) / 6;
    let sharing = match suffix {
        None => None,
        Some(suffix) => Some(sharing(suffix, blocks)?),
    };
    let transition = Entrance::Transition { stride: 2 };
    let stages = [(16, Entrance::Same), (32, transition), (64, transition)];
    let stages = stages.map(|(channels, entrance)| Stage {
        sharing: sharing.clone(),
        ..stage(blocks, channels, entrance)
    });
    Some(stages.to_vec())
}

/// The sharing that a suffix means, in stages that have blocks to share.
fn sharing(suffix: &str, blocks: usize) -> Option<Sharing> {
    let way = WAYS.iter().find(|way| way.suffix == suffix)?;
    (blocks > FIRST_SHARED).then_some(Sharing {
        first: FIRST_SHARED,
        statistics: way.statistics,
        affine: way.affine,
        initial_gamma: way.initial_gamma,
    })
}

fn stage(blocks: usize, channels: usize, entrance: Entrance) -> Stage {
    Stage {
        blocks,
        channels,
        entrance,
        sharing: None,
    }
}
