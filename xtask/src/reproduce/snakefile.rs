//! A plan as a Snakefile, for every cluster that Snakemake knows.

use std::fmt::Write;
use std::path::Path;

use super::graph::{Graph, Step};
use super::plan::Plan;
use super::shell;

/// What a training leaves when it has come to its end. Snakemake removes the outputs of a job that it
/// begins again, so a checkpoint must not be one.
const DONE: &str = "train.done";

/// The plan as a Snakefile: a rule a step, and `all` for the report.
pub(super) fn print(plan: &Plan, ir: &Path) -> String {
    let mut text = String::from(
        "# Snakemake runs this plan from the root of the repository, here on 8 cores:\n\
         #     snakemake --snakefile Snakefile --cores 8\n\
         # A training that was killed goes on from its checkpoint.\n\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "THREADS = int(config.get(\"threads\", 4))\n");
    let _ = writeln!(
        text,
        "rule all:\n    input:\n        {}\n",
        path(&plan.report)
    );
    for step in plan.graph.steps() {
        text.push_str(&rule(&plan.graph, step, ir));
    }
    text
}

fn rule(graph: &Graph, step: &Step, ir: &Path) -> String {
    let name: String = step
        .slug()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let inputs: Vec<_> = step
        .inputs
        .iter()
        .map(|file| as_input(graph, file))
        .collect();
    let (outputs, resume) = match &step.checkpoint {
        Some(checkpoint) => (
            vec![format!("touch({})", path(&checkpoint.with_file_name(DONE)))],
            " --resume",
        ),
        None => (step.outputs.iter().map(|file| path(file)).collect(), ""),
    };
    // Snakemake fills in what stands in braces.
    let command = shell::line(ir, &step.arguments)
        .replace('{', "{{")
        .replace('}', "}}");
    let shell = literal(&format!("{command}{resume} --threads {{threads}}"));
    format!(
        "rule {name}:\n{}{}    threads: THREADS\n    shell:\n        {shell}\n\n",
        block("input", inputs),
        block("output", outputs)
    )
}

/// A file that a step reads: what a training writes is whole when the training has come to its end.
fn as_input(graph: &Graph, file: &Path) -> String {
    let writer = graph
        .steps()
        .iter()
        .find(|step| step.outputs.iter().any(|o| o == file));
    match writer.and_then(|step| step.checkpoint.as_ref()) {
        Some(checkpoint) => path(&checkpoint.with_file_name(DONE)),
        None => path(file),
    }
}

fn block(name: &str, mut lines: Vec<String>) -> String {
    lines.dedup();
    match lines.is_empty() {
        true => String::new(),
        false => format!("    {name}:\n        {}\n", lines.join(",\n        ")),
    }
}

fn path(path: &Path) -> String {
    literal(&path.to_string_lossy())
}

/// A Python string; JSON's are.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::data::Source;
    use super::super::profiles::{self, Name};
    use super::*;

    #[test]
    fn a_rule_a_step_and_trainings_that_go_on() {
        let source = Source::before_looking(Some("synthetic"));
        let plan = Plan::new(profiles::of(Name::Smoke), &source, Path::new("my out")).unwrap();
        let text = print(&plan, Path::new("ir"));
        let run = "runs/resnet-32-synthetic10-seed0";
        let analyze = format!(
            r#"rule analyze_resnet_32_on_synthetic10_seed_0:
    input:
        "my out/{run}/train.done"
    output:
        "my out/{run}/results.json"
    threads: THREADS
    shell:
        "ir analyze 'my out/{run}/checkpoint.safetensors' --data synthetic10 "#
        );
        assert!(text.contains(&analyze), "{text}");
        let train = format!(
            r#"    output:
        touch("my out/{run}/train.done")
    threads: THREADS
    shell:
        "ir train resnet-32 "#
        );
        assert!(text.contains(&train), "{text}");
        assert_eq!(text.matches(" --resume --threads {threads}\"\n").count(), 2);
        assert_eq!(text.matches("\nrule ").count(), 6);
    }
}
