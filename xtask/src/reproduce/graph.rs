//! A graph of steps: who reads what whom writes. Nobody states an order; it follows from the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// One `ir` command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Step {
    /// What it does, for people; unique in the graph.
    pub(super) name: String,
    /// The arguments of `ir`.
    pub(super) arguments: Vec<String>,
    /// The files it reads, besides the images.
    pub(super) inputs: Vec<PathBuf>,
    /// The files it leaves; it is done when all are there.
    pub(super) outputs: Vec<PathBuf>,
    /// The checkpoint from which `--resume` goes on, for a step that takes `--resume`.
    pub(super) checkpoint: Option<PathBuf>,
    /// About how much work it is, in seconds on four CPU cores.
    pub(super) cost: f64,
}

impl Step {
    /// The subcommand of `ir`: what kind of step this is.
    pub(super) fn kind(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// The name as a file name.
    pub(super) fn slug(&self) -> String {
        self.name.replace(", ", "-").replace(' ', "-")
    }
}

/// Steps in an order in which they can run, each with those that it waits for.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    steps: Vec<Step>,
    /// For each step the steps that write what it reads, by their places in `steps`.
    parents: Vec<BTreeSet<usize>>,
}

impl Graph {
    /// Orders the steps, each after those whose files it reads and otherwise as they come; `data`
    /// is what is there beforehand.
    ///
    /// # Errors
    /// Two steps share a name; a file has two writers, or is read and neither written nor data;
    /// steps wait for each other in a circle.
    pub(super) fn new(steps: Vec<Step>, data: &[PathBuf]) -> Result<Self> {
        let writers = writers(&steps)?;
        let parents = steps.iter().map(|step| parents(step, &writers, data));
        let parents = parents.collect::<Result<Vec<_>>>()?;
        let order = order(&steps, &parents)?;
        let mut places = vec![0; order.len()];
        for (place, &step) in order.iter().enumerate() {
            places[step] = place;
        }
        let moved = |step: &usize| {
            parents[*step]
                .iter()
                .map(|&parent| places[parent])
                .collect()
        };
        Ok(Self {
            parents: order.iter().map(moved).collect(),
            steps: order.iter().map(|&step| steps[step].clone()).collect(),
        })
    }

    /// In an order in which they can run.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps whose files this one reads.
    pub(super) fn parents(&self, step: usize) -> &BTreeSet<usize> {
        &self.parents[step]
    }

    /// The steps in groups that have nothing to do with each other: what only one training leads to
    /// belongs to it. What gathers several groups is in none.
    pub(super) fn chains(&self) -> Vec<Vec<usize>> {
        let mut chains: Vec<Vec<usize>> = Vec::new();
        // For each step so far the chain that it is in, if it is in one.
        let mut member: Vec<Option<usize>> = Vec::new();
        for (step, parents) in self.parents.iter().enumerate() {
            let joined: BTreeSet<Option<usize>> = parents.iter().map(|&p| member[p]).collect();
            let mut joined = joined.into_iter();
            let chain = match (joined.next(), joined.next()) {
                (None, _) => {
                    chains.push(Vec::new());
                    Some(chains.len() - 1)
                }
                (Some(chain), None) => chain,
                (Some(_), Some(_)) => None,
            };
            if let Some(chain) = chain {
                chains[chain].push(step);
            }
            member.push(chain);
        }
        chains
    }
}

/// Who writes each file.
fn writers(steps: &[Step]) -> Result<BTreeMap<&Path, usize>> {
    let mut names = BTreeSet::new();
    let mut writers = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        ensure!(
            names.insert(step.slug()),
            "two steps are called {:?}",
            step.name
        );
        for output in &step.outputs {
            if let Some(other) = writers.insert(output.as_path(), index) {
                let (output, other) = (output.display(), &steps[other].name);
                bail!(
                    "{output} is written by two steps, {other:?} and {:?}",
                    step.name
                );
            }
        }
    }
    Ok(writers)
}

fn parents(
    step: &Step,
    writers: &BTreeMap<&Path, usize>,
    data: &[PathBuf],
) -> Result<BTreeSet<usize>> {
    let mut parents = BTreeSet::new();
    for input in &step.inputs {
        match writers.get(input.as_path()) {
            Some(&writer) => drop(parents.insert(writer)),
            None => ensure!(
                data.contains(input),
                "{:?} reads {}, which no step writes and which is no data",
                step.name,
                input.display()
            ),
        }
    }
    Ok(parents)
}

/// The steps so that each comes after its parents, and otherwise in the order given.
fn order(steps: &[Step], parents: &[BTreeSet<usize>]) -> Result<Vec<usize>> {
    let mut order = Vec::with_capacity(steps.len());
    let mut placed = BTreeSet::new();
    while order.len() < steps.len() {
        let ready = |step: &usize| !placed.contains(step) && parents[*step].is_subset(&placed);
        let Some(next) = (0..steps.len()).find(ready) else {
            bail!(
                "steps wait for each other: {}",
                circle(steps, parents, &placed)
            );
        };
        placed.insert(next);
        order.push(next);
    }
    Ok(order)
}

/// Some circle among the steps that could not be placed, as their names.
fn circle(steps: &[Step], parents: &[BTreeSet<usize>], placed: &BTreeSet<usize>) -> String {
    let mut path = Vec::new();
    let mut at = (0..steps.len()).find(|step| !placed.contains(step));
    while let Some(step) = at {
        if let Some(start) = path.iter().position(|&earlier| earlier == step) {
            let names = path[start..].iter().chain([&step]);
            let names: Vec<_> = names
                .map(|&step| format!("{:?}", steps[step].name))
                .collect();
            return names.join(" for ");
        }
        path.push(step);
        // Each of them waits for one that was not placed either.
        at = parents[step]
            .iter()
            .find(|parent| !placed.contains(parent))
            .copied();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, inputs: &[&str], outputs: &[&str]) -> Step {
        Step {
            name: name.to_owned(),
            arguments: vec![name.to_owned()],
            inputs: inputs.iter().map(PathBuf::from).collect(),
            outputs: outputs.iter().map(PathBuf::from).collect(),
            checkpoint: None,
            cost: 1.0,
        }
    }

    fn complaint(steps: Vec<Step>) -> String {
        Graph::new(steps, &["data".into()]).unwrap_err().to_string()
    }

    #[test]
    fn order_follows_from_the_files_and_otherwise_stays() {
        let steps = vec![
            step("gather", &["b", "c"], &["d"]),
            step("second", &["a"], &["b"]),
            step("first", &["data"], &["a"]),
            step("alone", &[], &["c"]),
        ];
        let graph = Graph::new(steps, &["data".into()]).unwrap();
        let names: Vec<_> = graph.steps().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "alone", "gather"]);
        let parents: Vec<Vec<usize>> = (0..4)
            .map(|step| graph.parents(step).iter().copied().collect())
            .collect();
        assert_eq!(parents, [vec![], vec![0], vec![], vec![1, 2]]);
    }

    #[test]
    fn what_cannot_run_is_refused_by_name() {
        let circle = vec![
            step("a", &["3"], &["1"]),
            step("b", &["1"], &["2"]),
            step("c", &["2"], &["3"]),
            step("after it", &["3"], &["4"]),
        ];
        assert_eq!(
            complaint(circle),
            r#"steps wait for each other: "a" for "c" for "b" for "a""#
        );
        assert_eq!(
            complaint(vec![step("a", &["1"], &["1"])]),
            r#"steps wait for each other: "a" for "a""#
        );
        assert_eq!(
            complaint(vec![step("a", &[], &["1"]), step("b", &[], &["2", "1"])]),
            r#"1 is written by two steps, "a" and "b""#
        );
        assert_eq!(
            complaint(vec![step("a", &["data", "elsewhere"], &["1"])]),
            r#""a" reads elsewhere, which no step writes and which is no data"#
        );
        // Their logs and stamps would share a file.
        assert_eq!(
            complaint(vec![step("a, b", &[], &["1"]), step("a-b", &[], &["2"])]),
            r#"two steps are called "a-b""#
        );
    }

    #[test]
    fn a_chain_is_all_that_only_one_training_leads_to() {
        let steps = vec![
            step("train a", &[], &["a"]),
            step("analyze a", &["a"], &["ra"]),
            step("train b", &[], &["b"]),
            step("analyze b", &["b"], &["rb"]),
            step("compare", &["a", "rb"], &["c"]),
            step("draw", &["c"], &["d"]),
            step("measure b again", &["b", "rb"], &["mb"]),
            step("gather all", &["c", "ra"], &["g"]),
        ];
        let graph = Graph::new(steps, &[]).unwrap();
        assert_eq!(graph.chains(), [vec![0, 1], vec![2, 3, 6]]);
    }
}
