//! A linear classifier trained on every representation (Huang et al. 2018, BoostResNet: a weak
//! learner a block; what the tuned lens of Belrose et al. 2023 is to transformers).

use candle_core::{Device, Tensor};
use ir_models::ResidualNetwork;
use ir_tensor_ops::for_each_piece;

use crate::batch::Batch;
use crate::checked::Checked;
use crate::error::{Error, Result};
use crate::evaluate::{BatchError, each_batch};
use crate::groups::ScoreSoFar;
use crate::outcome::Outcomes;
use crate::probe::on_the_host;
use crate::results::Readout;
use crate::trace::{Gradients, Trace, run};

mod lbfgs;
mod softmax;

use softmax::Softmax;

/// Trained linear classifiers, one for each of h_0, …, h_L: what [`fit_readouts`] gives and
/// [`Options::readouts`](crate::Options::readouts) takes.
///
/// - **Features** of h `[N, C, …]` with at least two dimensions after C: the mean over all of them,
///   C features (global average pooling of `[N, C, H, W]`). Of h `[N, T, D]`: the mean over the T
///   tokens, D features. Of h `[N, D]`: h itself. They are standardised by mean and standard
///   deviation over the training samples; a feature that is constant there is not read.
/// - **Training** minimises mean cross-entropy + (λ/2) ‖W‖² with λ = 10⁻³, biases not penalised, by
///   L-BFGS in f64 until the gradient's norm is at most 10⁻⁶; where it ended instead, after 5000
///   steps or when rounding hid any decrease, is in [`Readout::gradient_norm`]. The minimum is unique
///   up to a constant on all biases, and its bits do not depend on the number of threads.
///
/// They read h_j as block j does, before any norm or ReLU of its branch; the plugged head has its
/// own norm, trained for h_L.
#[derive(Debug, Clone, PartialEq)]
pub struct Readouts(Vec<Softmax>);

impl Readouts {
    /// How many there are: one more than the network has blocks.
    ///
    /// ```no_run
    /// # fn of(readouts: ir_analysis::Readouts) {
    /// assert_eq!(readouts.count(), 15 + 1); // resnet-32
    /// # }
    /// ```
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The logits `[classes]` of the classifier of h_`index` for one sample's features; `None` if
    /// there is no such classifier or it reads another number of features.
    ///
    /// ```no_run
    /// # fn of(readouts: ir_analysis::Readouts) {
    /// let logits = readouts.logits(0, &[0.5; 16]); // 16 channels behind the stem
    /// # }
    /// ```
    #[must_use]
    pub fn logits(&self, index: usize, features: &[f32]) -> Option<Vec<f64>> {
        let readout = self.0.get(index)?;
        (readout.features() == features.len()).then(|| readout.logits(features))
    }
}

/// Trains a linear classifier on each of h_0, …, h_L of a network, from batches of (images
/// `[N, …]`, u32 labels `[N]`): meant for the training split, see [`Readouts`].
///
/// A forward pass a batch. The features of all samples are kept meanwhile, 4 bytes each, and those of
/// one classifier in 8.
///
/// # Errors
/// [`Error::EmptySplit`], [`Error::Feature`], and what a pass can report.
///
/// # Example
/// ```
/// # use candle_core::{Device, Result, Tensor};
/// # use ir_models::{Block, ResidualNetwork};
/// # struct Tiny;
/// # impl ResidualNetwork for Tiny {
/// #     fn blocks(&self) -> Vec<Block> { vec![Block { stage: 0, transition: false }] }
/// #     fn stem(&self, images: &Tensor) -> Result<Tensor> { Ok(images.clone()) }
/// #     fn branch(&self, _: usize, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// #     fn head(&self, h: &Tensor) -> Result<Tensor> { Ok(h.clone()) }
/// # }
/// # let network = Tiny; // The logits are twice the image.
/// use ir_analysis::{Measure, Options, analyze_split, fit_readouts};
///
/// // Class 1 is where the first number is the larger one; the head has it the other way round.
/// let images = Tensor::new(&[[3f32, 0.], [0., 2.], [2., 1.], [1., 3.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 0, 1, 0], &Device::Cpu)?;
/// let batches = || vec![Ok::<_, ir_analysis::Error>((images.clone(), labels.clone()))];
///
/// let readouts = fit_readouts(&network, batches())?;
/// let options = Options {
///     measures: [Measure::Readouts].into(),
///     readouts: Some(readouts),
///     ..Options::default()
/// };
/// let split = analyze_split(&network, batches(), &options, &mut |_| {})?;
/// assert_eq!(split.accuracy, 0.0);
/// assert_eq!((split.readouts[0].after_block, split.readouts[0].accuracy), (None, 1.0));
/// assert_eq!((split.readouts[1].after_block, split.readouts[1].accuracy), (Some(0), 1.0));
/// # Ok::<(), ir_analysis::Error>(())
/// ```
pub fn fit_readouts<E: BatchError>(
    network: &dyn ResidualNetwork,
    batches: impl IntoIterator<Item = Result<(Tensor, Tensor), E>>,
) -> Result<Readouts> {
    let network = Checked::new(network)?;
    let mut features = vec![Vec::new(); network.blocks().len() + 1];
    let (mut labels, mut classes) = (Vec::new(), None);
    each_batch(batches, |batch| {
        network.together(|| {
            let (trace, _) = run(&network, batch, Gradients::Left)?;
            let found_classes = trace.logits.dim(1)?;
            let classes = *classes.get_or_insert(found_classes);
            let places = features.iter_mut().zip(representations(&trace));
            for (index, (all, h)) in places.enumerate() {
                let (found, width) = pooled(index, h)?;
                let expected = all.len().checked_div(labels.len()).unwrap_or(width);
                same_shape(index, (expected, classes), (width, found_classes))?;
                all.extend(found);
            }
            labels.extend(&batch.label_values);
            Ok(())
        })
    })?;
    let train = |features: Vec<f32>| Softmax::train(&features, &labels, classes.unwrap_or(0));
    Ok(Readouts(features.into_iter().map(train).collect()))
}

/// h_0, …, h_L.
fn representations(trace: &Trace) -> impl Iterator<Item = &Tensor> {
    let before = trace.blocks.iter().map(|block| &block.h);
    before.chain(std::iter::once(&trace.h_last))
}

/// An error unless a readout of (features, classes) fits.
fn same_shape(index: usize, expected: (usize, usize), found: (usize, usize)) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::ReadoutShape {
        index,
        expected,
        found,
    })
}

/// The features of each sample, row by row, and how many a sample has. `index` is for a message.
fn pooled(index: usize, h: &Tensor) -> Result<(Vec<f32>, usize)> {
    let h = on_the_host(h)?;
    // How many features of how many values each, from one feature's first value to the next one's,
    // and from one value of a feature to its next.
    let (width, averaged, feature_step, step) = match *h.dims() {
        [_, width] => (width, 1, 1, 1),
        [_, tokens, width] => (width, tokens, 1, width),
        [_, width, ref space @ ..] => {
            let area = space.iter().product();
            (width, area, area, 1)
        }
        [_] | [] => (1, 1, 1, 1),
    };
    let values = h.flatten_all()?.to_vec1::<f32>()?;
    let size = width * averaged;
    let mut features = vec![0.0; h.dim(0)? * width];
    for_each_piece(&mut features, width, |sample, features| {
        let values = &values[sample * size..][..size];
        for (place, feature) in features.iter_mut().enumerate() {
            let group = values[place * feature_step..].iter().step_by(step);
            let sum: f64 = group.take(averaged).map(|&value| f64::from(value)).sum();
            *feature = (sum / averaged as f64) as f32;
        }
    });
    let not_finite = features.iter().position(|feature| !feature.is_finite());
    match not_finite {
        None if width > 0 => Ok((features, width)),
        place => Err(Error::Feature {
            position: format!("h_{index}"),
            sample: place.unwrap_or(0) / width.max(1),
        }),
    }
}

/// The readouts over the batches so far.
pub(crate) struct ReadoutsSoFar<'a> {
    readouts: &'a Readouts,
    scores: Vec<ScoreSoFar>,
}

impl<'a> ReadoutsSoFar<'a> {
    /// Refuses readouts of a network with another number of blocks.
    pub(crate) fn new(network: &Checked<'_>, readouts: &'a Readouts) -> Result<Self> {
        let expected = network.blocks().len() + 1;
        if readouts.count() != expected {
            return Err(Error::ReadoutCount {
                expected,
                found: readouts.count(),
            });
        }
        Ok(Self {
            readouts,
            scores: vec![ScoreSoFar::default(); expected],
        })
    }

    pub(crate) fn add(&mut self, trace: &Trace, batch: &Batch) -> Result<()> {
        let readouts = self.readouts.0.iter().zip(&mut self.scores);
        for (index, ((readout, score), h)) in readouts.zip(representations(trace)).enumerate() {
            let (features, width) = pooled(index, h)?;
            let classes = readout.classes();
            let found = (width, trace.logits.dim(1)?);
            same_shape(index, (readout.features(), classes), found)?;
            let rows = features.chunks(width).flat_map(|row| readout.logits(row));
            let logits: Vec<f32> = rows.map(|logit| logit as f32).collect();
            let logits = Tensor::from_vec(logits, (features.len() / width, classes), &Device::Cpu)?;
            score.add(&Outcomes::new(&logits, batch)?);
        }
        Ok(())
    }

    /// `None` before the first sample.
    pub(crate) fn finish(&self) -> Option<Vec<Readout>> {
        let readouts = self.readouts.0.iter().zip(&self.scores).enumerate();
        let finished = readouts.map(|(index, (readout, score))| {
            Some(Readout {
                after_block: index.checked_sub(1),
                features: readout.features(),
                accuracy: score.accuracy()?,
                loss: score.loss()?.into(),
                loss_std: score.loss_std()?.into(),
                gradient_norm: readout.gradient_norm,
                iterations: readout.iterations,
            })
        });
        finished.collect()
    }
}
