//! Parts of a plan for machines that know nothing of each other.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::graph::Graph;

/// The `part`-th of `parts` parts, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    part: usize,
    parts: usize,
}

/// More parts than any plan has steps.
const MOST: usize = 1000;

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((part, parts)) if parts <= MOST && (1..=parts).contains(&part) => {
                Ok(Self { part, parts })
            }
            _ => Err(format!("expected i/n with 1 ≤ i ≤ n ≤ {MOST}, such as 2/3")),
        }
    }
}

impl Shard {
    /// The steps of this part: whole chains, none of them in another part. What gathers several
    /// chains, such as the report, is in no part.
    ///
    /// The chains are dealt out from the most costly on, each to the part that has least so far: every
    /// machine that has the same plan comes to the same parts.
    pub(super) fn of(self, graph: &Graph) -> BTreeSet<usize> {
        let cost = |chain: &Vec<usize>| chain.iter().map(|&s| graph.steps()[s].cost).sum::<f64>();
        let mut chains: Vec<_> = graph.chains().into_iter().map(|c| (cost(&c), c)).collect();
        // Stable: chains that cost the same stay in the plan's order.
        chains.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut parts = vec![(0.0_f64, BTreeSet::new()); self.parts];
        for (cost, chain) in chains {
            let least = parts
                .iter_mut()
                .enumerate()
                .min_by(|(i, a), (j, b)| a.0.total_cmp(&b.0).then(i.cmp(j)));
            if let Some((_, (sum, part))) = least {
                *sum += cost;
                part.extend(chain);
            }
        }
        parts.swap_remove(self.part - 1).1
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::ValueEnum as _;

    use super::super::data::Source;
    use super::super::plan::Plan;
    use super::super::profiles::{self, Name};
    use super::*;

    #[test]
    fn a_part_is_one_of_several_counted_from_one() {
        assert_eq!("2/3".parse(), Ok(Shard { part: 2, parts: 3 }));
        for wrong in ["0/3", "4/3", "1/0", "1", "a/b", "-1/3", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_parts_hold_every_training_with_its_analysis_once_and_cost_about_the_same() {
        for &name in Name::value_variants() {
            let plan = Plan::new(profiles::of(name), &Source::Named, Path::new("out")).unwrap();
            let graph = &plan.graph;
            let cost = |steps: &[usize]| steps.iter().map(|&s| graph.steps()[s].cost).sum::<f64>();
            let chains = graph.chains();
            let most = chains
                .iter()
                .map(|c| cost(c))
                .max_by(f64::total_cmp)
                .unwrap();
            for parts in 1..=chains.len() + 1 {
                let of = |part| Shard { part, parts }.of(graph);
                let found: Vec<_> = (1..=parts).map(of).collect();
                let mut all: Vec<usize> = found.iter().flatten().copied().collect();
                all.sort_unstable();
                // Everything but the report, which is the last.
                let expected: Vec<usize> = (0..graph.steps().len() - 1).collect();
                assert_eq!(all, expected, "{name} in {parts}");
                for step in &found {
                    let whole = |&s: &usize| graph.parents(s).is_subset(step);
                    assert!(step.iter().all(whole), "{name} in {parts}");
                }
                // Dealt out from the most costly on, no part exceeds another by more than one chain.
                let costs: Vec<f64> = found
                    .iter()
                    .map(|part| cost(&part.iter().copied().collect::<Vec<_>>()))
                    .collect();
                let [least, highest] = [f64::min as fn(f64, f64) -> f64, f64::max]
                    .map(|pick| costs.iter().copied().reduce(pick).unwrap());
                assert!(
                    highest - least <= most * (1.0 + 1e-9),
                    "{name} in {parts}: {costs:?}"
                );
            }
        }
    }
}
