//! What is submitted, as text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::data::Source;
use super::super::graph::{Graph, Step};
use super::super::plan::Plan;
use super::super::profiles::{self, Name};
use super::arrays::{self, Array};
use super::script::{self, Place, SlurmOption};

/// The smoke plan: two trainings (0 and 2), their analyses (1 and 3), the report (4).
fn smoke() -> Graph {
    let source = Source::before_looking(Some("synthetic"));
    Plan::new(profiles::of(Name::Smoke), &source, Path::new("out"))
        .unwrap()
        .graph
}

/// Name, `--array` and `--dependency` of what is submitted, as jobs 1, 2, 3 and so on.
fn submitted(graph: &Graph, pending: &[usize]) -> Vec<String> {
    let pending = pending.iter().copied().collect();
    let arrays = arrays::of(graph, &pending);
    let jobs: Vec<String> = (1..=arrays.len()).map(|job| job.to_string()).collect();
    let brief = |array: &Array| {
        let dependency = array.dependency(&jobs).unwrap_or_default();
        format!("{} {} {dependency}", array.name, array.indices(None))
    };
    arrays
        .iter()
        .map(|array| brief(array).trim().to_owned())
        .collect()
}

#[test]
fn every_analysis_waits_for_its_training_and_the_report_for_all() {
    let graph = smoke();
    assert_eq!(
        submitted(&graph, &[0, 1, 2, 3, 4]),
        [
            "1-train 0,1",
            "2-analyze 0,1 aftercorr:1",
            "3-report 0 afterok:1,afterok:2"
        ]
    );
    assert!(submitted(&graph, &[]).is_empty());
    assert_eq!(submitted(&graph, &[4]), ["3-report 0"]);
}

#[test]
fn a_done_training_is_submitted_only_where_an_analysis_needs_its_number() {
    let graph = smoke();
    // The analysis of the first is lost: no training is submitted, and nothing waits for one.
    assert_eq!(
        submitted(&graph, &[1, 4]),
        ["2-analyze 0", "3-report 0 afterok:1"]
    );
    // And the second is not trained either: the analyses wait by number.
    assert_eq!(
        submitted(&graph, &[1, 2, 3, 4]),
        [
            "1-train 0,1",
            "2-analyze 0,1 aftercorr:1",
            "3-report 0 afterok:1,afterok:2"
        ]
    );
}

#[test]
fn what_is_made_of_several_waits_for_the_whole_array() {
    let step = |name: &str, inputs: &[&str]| Step {
        name: name.to_owned(),
        arguments: vec![name.split(' ').next().unwrap().to_owned()],
        inputs: inputs.iter().map(PathBuf::from).collect(),
        outputs: vec![name.into()],
        checkpoint: None,
        cost: 1.0,
    };
    let steps = vec![
        step("train a", &[]),
        step("train b", &[]),
        step("analyze a", &["train a"]),
        step("analyze both", &["train a", "train b"]),
        step("train on from a", &["analyze a"]),
    ];
    let graph = Graph::new(steps, &[]).unwrap();
    assert_eq!(
        submitted(&graph, &[0, 1, 2, 3, 4]),
        [
            "1-train 0,1",
            "2-analyze 0,1 afterok:1",
            "3-train 0 aftercorr:2"
        ]
    );
}

#[test]
fn a_script_names_its_steps_and_takes_the_options_that_concern_it() {
    let graph = smoke();
    let all: BTreeSet<usize> = (0..5).collect();
    let arrays = arrays::of(&graph, &all);
    assert_eq!(arrays[0].indices(Some(3)), "0,1%3");
    let place = Place {
        workspace: "/home/me/my work".into(),
        xtask: "/bin/xtask".into(),
        plan: "/out/slurm/plan.json".into(),
        logs: "/out 100%/logs".into(),
    };
    let options: Vec<SlurmOption> = [
        "train:time=24:00:00",
        "analyze:time=1:00:00",
        "cpus-per-task=16",
        "comment=one two",
        "exclusive",
    ]
    .map(|option| option.parse().unwrap())
    .into();
    assert_eq!(
        script::text(&arrays[0], &graph, &place, &options),
        r#"#!/bin/bash
# Written and submitted by `cargo xtask reproduce --engine slurm`.
#SBATCH --job-name=ir-train
#SBATCH --output="/out 100%%/logs/slurm-1-train-%a.log"
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time=24:00:00
#SBATCH --cpus-per-task=16
#SBATCH --comment="one two"
#SBATCH --exclusive

# The tasks by their numbers.
steps=(
    'train resnet-32 on synthetic10, seed 0'
    'train single-representation-small on synthetic10, seed 0'
)

cd '/home/me/my work' || exit 1
# In place of this shell, which would not pass signals on.
exec /bin/xtask step /out/slurm/plan.json "${steps[SLURM_ARRAY_TASK_ID]}" --threads "${SLURM_CPUS_ON_NODE:-1}"
"#
    );
}

#[test]
fn an_option_is_checked_before_it_gets_into_a_script() {
    for good in ["time=1-00:00:00", "train:mem=4G", "exclusive", "gres=gpu:1"] {
        assert_eq!(good.parse::<SlurmOption>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "=1",
        "a b=1",
        "--time=1",
        "comment=a\nrm",
        "comment=\"",
        ":time=1",
    ] {
        assert!(bad.parse::<SlurmOption>().is_err(), "{bad:?}");
    }
    let ours = "array=1-3".parse::<SlurmOption>().unwrap_err();
    assert_eq!(ours, "--array is set for each job by this command");
}
