//! Which steps make an array, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use super::super::graph::Graph;

/// Steps of one kind that are equally far from the beginning, and may run side by side.
#[derive(Debug)]
pub(super) struct Array {
    /// The subcommand of `ir`.
    pub(super) kind: String,
    /// What the script is called.
    pub(super) name: String,
    /// The steps by their numbers in the array, done ones among them.
    steps: Vec<usize>,
    /// The numbers that are submitted.
    submitted: BTreeSet<usize>,
    /// The arrays that it waits for by their places among those submitted.
    waits_for: Vec<(usize, Wait)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Each task for the one of the same number.
    Task,
    /// Each task for the whole array.
    Array,
}

/// The arrays that hold what is pending, in an order in which they can be submitted.
pub(super) fn of(graph: &Graph, pending: &BTreeSet<usize>) -> Vec<Array> {
    let groups = groups(graph);
    let links = links(graph, &groups);
    let mut submitted: Vec<BTreeSet<usize>> = groups
        .iter()
        .map(|(_, steps)| {
            (0..steps.len())
                .filter(|&i| pending.contains(&steps[i]))
                .collect()
        })
        .collect();
    // A task may wait for the one of the same number only if that is submitted too: one that is done
    // already ends at once.
    for &(child, parent, wait) in links.iter().rev() {
        if wait == Wait::Task && !submitted[parent].is_empty() {
            let needed = submitted[child].clone();
            submitted[parent].extend(needed);
        }
    }
    let mut places = BTreeMap::new();
    let mut arrays: Vec<Array> = Vec::new();
    for (group, (kind, steps)) in groups.into_iter().enumerate() {
        if submitted[group].is_empty() {
            continue;
        }
        let parents = links.iter().filter(|link| link.0 == group);
        let waits_for =
            parents.filter_map(|&(_, parent, wait)| Some((*places.get(&parent)?, wait)));
        let waits_for = waits_for.collect();
        places.insert(group, arrays.len());
        arrays.push(Array {
            name: format!("{}-{kind}", group + 1),
            kind,
            steps,
            submitted: submitted[group].clone(),
            waits_for,
        });
    }
    arrays
}

/// The steps by depth and kind: every step's parents are in groups before its own.
fn groups(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let mut depths: Vec<usize> = Vec::new();
    let mut groups: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    for (index, step) in graph.steps().iter().enumerate() {
        let above = graph
            .parents(index)
            .iter()
            .map(|&parent| depths[parent] + 1);
        let depth = above.max().unwrap_or(0);
        depths.push(depth);
        groups.entry((depth, step.kind())).or_default().push(index);
    }
    let named = |((_, kind), steps): ((usize, &str), Vec<usize>)| (kind.to_owned(), steps);
    groups.into_iter().map(named).collect()
}

/// Which group waits for which, as (child, parent, how), by child.
fn links(graph: &Graph, groups: &[(String, Vec<usize>)]) -> Vec<(usize, usize, Wait)> {
    let mut links = Vec::new();
    for (child, (_, steps)) in groups.iter().enumerate() {
        for (parent, (_, candidates)) in groups.iter().enumerate().take(child) {
            let parents = |&step: &usize| {
                let in_group = |parent: &usize| candidates.iter().position(|c| c == parent);
                graph
                    .parents(step)
                    .iter()
                    .filter_map(in_group)
                    .collect::<Vec<_>>()
            };
            let parents: Vec<Vec<usize>> = steps.iter().map(parents).collect();
            if parents.iter().all(Vec::is_empty) {
                continue;
            }
            let same_number = |(number, parents): (usize, &Vec<usize>)| *parents == [number];
            let wait = match parents.iter().enumerate().all(same_number) {
                true => Wait::Task,
                false => Wait::Array,
            };
            links.push((child, parent, wait));
        }
    }
    links
}

impl Array {
    /// What `--array` says: the numbers, and how many of them run at once.
    pub(super) fn indices(&self, at_once: Option<usize>) -> String {
        let numbers: Vec<_> = self.submitted.iter().map(ToString::to_string).collect();
        let limit = at_once.map_or_else(String::new, |jobs| format!("%{jobs}"));
        numbers.join(",") + &limit
    }

    /// What `--dependency` says, given the numbers of the jobs submitted before.
    pub(super) fn dependency(&self, jobs: &[String]) -> Option<String> {
        let one = |&(array, wait): &(usize, Wait)| match wait {
            Wait::Task => format!("aftercorr:{}", jobs[array]),
            Wait::Array => format!("afterok:{}", jobs[array]),
        };
        let all: Vec<_> = self.waits_for.iter().map(one).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// Kind and number of the tasks, and the first of them by name.
    pub(super) fn description(&self, graph: &Graph) -> String {
        let tasks = self.submitted.len();
        let first = self.submitted.first().map(|&number| self.steps[number]);
        let first = first.map_or("", |step| graph.steps()[step].name.as_str());
        match tasks {
            1 => first.to_owned(),
            _ => format!("{tasks} × {}, the first: {first}", self.kind),
        }
    }

    /// For each number, done ones too, the name of the step.
    pub(super) fn names(&self, graph: &Graph) -> Vec<String> {
        self.steps
            .iter()
            .map(|&step| graph.steps()[step].name.clone())
            .collect()
    }
}
