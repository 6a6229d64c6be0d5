//! Whether the cost grows in proportion to blocks and images, ours alone.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::comparison::MODES;
use super::record::{aligned, number};
use super::summary::Summary;
use super::{Bench, progress};

const BLOCKS_A_STAGE: [usize; 6] = [5, 10, 15, 20, 25, 30];
const BATCHES: [usize; 4] = [32, 64, 128, 256];
const STAGES: usize = 3;

/// Measures residual networks of growing depth, each on growing batches; records and prints.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    let bar = progress(MODES.len() * BLOCKS_A_STAGE.len() * BATCHES.len() * bench.rounds);
    let mut table = vec![header()];
    for mode in MODES {
        for blocks in BLOCKS_A_STAGE {
            for batch in BATCHES {
                bar.set_message(format!("{blocks} blocks a stage, batch {batch}, {mode}"));
                let task = json!({
                    "network": architecture(blocks), "batch": batch, "mode": mode,
                    "threads": bench.threads,
                });
                let mut worker = bench.workers.ours(&task)?;
                worker.calibrate(bench.budget)?;
                for _ in 0..bench.rounds {
                    worker
                        .measure()
                        .with_context(|| format!("{blocks} blocks, {mode}"))?;
                    bar.inc(1);
                }
                let memory = worker.peak_memory_mib;
                table.push(row(
                    blocks,
                    batch,
                    mode,
                    &Summary::of(&worker.times)?,
                    memory,
                ));
            }
        }
    }
    bar.finish_and_clear();
    print!("{}", aligned(&table));
    let notes = [
        ("threads", bench.threads.to_string()),
        ("rounds", bench.rounds.to_string()),
    ];
    let path = bench.records.write("depth", &notes, &table)?;
    println!("\nrecorded in {}", path.display());
    Ok(())
}

/// A network like the paper's resnet-32 and resnet-110, of another depth.
fn architecture(blocks: usize) -> Value {
    let transition = json!({ "transition": { "stride": 2 } });
    json!({
        "name": format!("resnet-{}", 6 * blocks + 2),
        "classes": 10,
        "stem_channels": 16,
        "stages": [
            { "blocks": blocks, "channels": 16 },
            { "blocks": blocks, "channels": 32, "entrance": transition },
            { "blocks": blocks, "channels": 64, "entrance": transition },
        ],
    })
}

fn header() -> Vec<String> {
    let names = [
        "blocks_a_stage",
        "batch",
        "mode",
        "ms",
        "ms_min",
        "ms_max",
        "peak_mib",
        "us_per_image",
        "us_per_image_and_block",
    ];
    names.map(str::to_owned).into()
}

fn row(
    blocks: usize,
    batch: usize,
    mode: &str,
    time: &Summary,
    memory: Option<f64>,
) -> Vec<String> {
    let Summary { median, min, max } = *time;
    let per_image = 1e3 * median / batch as f64;
    let [median, min, max] = [median, min, max].map(|time| number(Some(time), 2));
    vec![
        blocks.to_string(),
        batch.to_string(),
        mode.to_owned(),
        median,
        min,
        max,
        number(memory, 0),
        number(Some(per_image), 1),
        number(Some(per_image / (STAGES * blocks) as f64), 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_divided_by_images_and_blocks() {
        let time = Summary::of(&[48.0]).unwrap();
        let row = row(5, 32, "train", &time, None);
        assert_eq!(row.join(","), "5,32,train,48.00,48.00,48.00,,1500.0,100.00");
        assert_eq!(row.len(), header().len());
    }
}
