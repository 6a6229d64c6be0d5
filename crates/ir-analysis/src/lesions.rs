//! The network with several blocks deleted, or in another order (Veit et al. 2016, section 4).

use crate::batch::Batch;
use crate::checked::Checked;
use crate::draws::{Draws, kendall_tau, ordinary, sizes};
use crate::error::Result;
use crate::groups::ScoreSoFar;
use crate::outcome::Outcomes;
use crate::results::{Deletion, Deletions, Reordering, Reorderings};
use crate::statistics::Moments;
use crate::trace::Trace;

/// At each place the block whose branch is applied there; `None` for none. Shortcut and what
/// follows the sum stay with the place.
type Lesion = [Option<usize>];

/// The outcomes with a lesion: h_{p+1} = after_p(shortcut_p(h_p) + branch_{lesion[p]}(h_p)).
///
/// It starts at the first place that is not as it was, from the h that the trace holds.
fn outcomes(
    network: &Checked<'_>,
    trace: &Trace,
    batch: &Batch,
    lesion: &Lesion,
) -> Result<Outcomes> {
    let changed = |place: &usize| lesion[*place] != Some(*place);
    let mut places = (0..lesion.len()).filter(changed);
    let Some(first) = places.next() else {
        return Outcomes::new(&trace.logits, batch);
    };
    let last = places.next_back().unwrap_or(first);
    let mut h = trace.blocks[first].h.clone();
    for (place, &applied) in (first..).zip(&lesion[first..=last]) {
        h = match applied {
            Some(block) if block == place => network.step(place, &h)?,
            _ => {
                let shortcut = network.shortcut(place, &h)?;
                let sum = match applied {
                    Some(block) => network.sum(place, &shortcut, &network.branch(block, &h)?)?,
                    None => shortcut,
                };
                network.after(place, &sum)?.detach()
            }
        };
    }
    Outcomes::new(&network.logits_from(last + 1, &h)?, batch)
}

/// One lesion over the batches so far.
struct LesionSoFar {
    lesion: Vec<Option<usize>>,
    score: ScoreSoFar,
}

impl LesionSoFar {
    fn new(lesion: Vec<Option<usize>>) -> Self {
        Self {
            lesion,
            score: ScoreSoFar::default(),
        }
    }

    /// Accuracy and mean loss; `None` before the first sample.
    fn finish(&self) -> Option<(f64, f64)> {
        Some((self.score.accuracy()?, self.score.loss()?))
    }
}

/// Mean and standard deviation over draws; `None` of none.
fn over_draws(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let mut moments = Moments::default();
    values.for_each(|value| moments.add(value));
    Some((moments.mean()?, moments.std()?))
}

/// The draws of one size.
struct DrawsSoFar {
    size: usize,
    lesions: Vec<LesionSoFar>,
}

/// Lesions of one kind, by size.
pub(crate) struct LesionsSoFar {
    sizes: Vec<DrawsSoFar>,
}

impl LesionsSoFar {
    /// Deletions of each size that the network has ordinary blocks for.
    pub(crate) fn deletions(network: &Checked<'_>, draws: Draws) -> Self {
        let without = |deleted: Vec<usize>| {
            let places = 0..network.blocks().len();
            let kept = |place| (!deleted.contains(&place)).then_some(place);
            LesionSoFar::new(places.map(kept).collect())
        };
        Self::new(network, |size| {
            let deleted = draws.deletions(network.blocks(), size);
            deleted.into_iter().map(without).collect()
        })
    }

    /// Orders after as many swaps.
    pub(crate) fn reorderings(network: &Checked<'_>, draws: Draws) -> Self {
        let all = |order: Vec<usize>| LesionSoFar::new(order.into_iter().map(Some).collect());
        Self::new(network, |size| {
            let orders = draws.orders(network.blocks(), size);
            orders.into_iter().map(all).collect()
        })
    }

    fn new(network: &Checked<'_>, draw: impl Fn(usize) -> Vec<LesionSoFar>) -> Self {
        let of_size = |size| DrawsSoFar {
            size,
            lesions: draw(size),
        };
        let sizes = sizes(ordinary(network.blocks()).len()).map(of_size);
        Self {
            sizes: sizes.filter(|size| !size.lesions.is_empty()).collect(),
        }
    }

    pub(crate) fn add(
        &mut self,
        network: &Checked<'_>,
        trace: &Trace,
        batch: &Batch,
    ) -> Result<()> {
        for so_far in self.sizes.iter_mut().flat_map(|size| &mut size.lesions) {
            let outcomes = outcomes(network, trace, batch, &so_far.lesion)?;
            so_far.score.add(&outcomes);
        }
        Ok(())
    }

    /// `None` before the first sample, as in the other.
    pub(crate) fn finish_deletions(&self) -> Option<Vec<Deletions>> {
        let deletion = |so_far: &LesionSoFar| {
            let (accuracy, loss) = so_far.finish()?;
            let places = 0..so_far.lesion.len();
            Some(Deletion {
                blocks: places
                    .filter(|&place| so_far.lesion[place].is_none())
                    .collect(),
                accuracy,
                loss: loss.into(),
            })
        };
        let deletions = |of_size: &DrawsSoFar| {
            let draws = of_size.lesions.iter().map(deletion);
            let draws: Vec<Deletion> = draws.collect::<Option<_>>()?;
            let accuracy = over_draws(draws.iter().map(|draw| draw.accuracy))?;
            let loss = over_draws(draws.iter().map(|draw| draw.loss.0))?;
            Some(Deletions {
                deleted: of_size.size,
                accuracy: accuracy.0,
                accuracy_std: accuracy.1,
                loss: loss.0.into(),
                loss_std: loss.1.into(),
                draws,
            })
        };
        self.sizes.iter().map(deletions).collect()
    }

    pub(crate) fn finish_reorderings(&self) -> Option<Vec<Reorderings>> {
        let reordering = |so_far: &LesionSoFar| {
            let (accuracy, loss) = so_far.finish()?;
            let order: Vec<usize> = so_far.lesion.iter().copied().flatten().collect();
            Some(Reordering {
                kendall_tau: kendall_tau(&order),
                order,
                accuracy,
                loss: loss.into(),
            })
        };
        let reorderings = |of_size: &DrawsSoFar| {
            let draws = of_size.lesions.iter().map(reordering);
            let draws: Vec<Reordering> = draws.collect::<Option<_>>()?;
            let accuracy = over_draws(draws.iter().map(|draw| draw.accuracy))?;
            let loss = over_draws(draws.iter().map(|draw| draw.loss.0))?;
            Some(Reorderings {
                swaps: of_size.size,
                kendall_tau: over_draws(draws.iter().map(|draw| draw.kendall_tau))?.0,
                accuracy: accuracy.0,
                accuracy_std: accuracy.1,
                loss: loss.0.into(),
                loss_std: loss.1.into(),
                draws,
            })
        };
        self.sizes.iter().map(reorderings).collect()
    }
}
