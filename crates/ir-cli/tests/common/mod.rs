//! Run folders made from formulas, for tests of the report.

#![allow(dead_code, reason = "every test uses a part")]

use std::f64::consts::PI;
use std::fs;
use std::path::Path;

use ir_analysis::Number;
use ir_analysis::results::{
    BlockMeasures, Exit, Group, Groups, Results, SCHEMA_VERSION, ScaleSource, Split, Stage,
    TaylorRow, Undefined, Unroll, UnrollStep,
};
use serde_json::{Value, json};

/// A network to make up a run of.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) model: &'static str,
    pub(crate) dataset: &'static str,
    pub(crate) seed: u64,
    pub(crate) stages: Vec<Stage>,
    /// Whether the first block of later stages is a transition.
    pub(crate) transitions: bool,
}

impl Sample {
    /// Three stages of `blocks` blocks, as resnet-110 has with 18.
    pub(crate) fn three_stages(model: &'static str, blocks: usize, seed: u64) -> Self {
        let stages = (0..3).map(|stage| Stage {
            stage,
            first_block: stage * blocks,
            last_block: (stage + 1) * blocks - 1,
            shape: vec![16 << stage, 32 >> stage, 32 >> stage],
        });
        Self {
            model,
            dataset: "cifar10",
            seed,
            stages: stages.collect(),
            transitions: true,
        }
    }

    /// One stage, as single-representation has with 10 blocks.
    pub(crate) fn one_stage(model: &'static str, blocks: usize, seed: u64) -> Self {
        let stage = Stage {
            stage: 0,
            first_block: 0,
            last_block: blocks - 1,
            shape: vec![100, 32, 32],
        };
        Self {
            model,
            dataset: "cifar10",
            seed,
            stages: vec![stage],
            transitions: false,
        }
    }

    fn blocks(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.last_block + 1)
    }

    fn last_stage(&self) -> std::ops::RangeInclusive<usize> {
        let stage = &self.stages[self.stages.len() - 1];
        stage.first_block..=stage.last_block
    }

    /// A number in −1 … 1 that looks random and depends on the seed.
    fn wobble(&self, place: usize) -> f64 {
        ((place as f64 + 1.3) * (self.seed as f64 + 2.1) * PI).sin()
    }

    pub(crate) fn info(&self) -> Value {
        let synthetic = self.dataset.starts_with("synthetic");
        json!({
            "schema_version": 1, "model": self.model, "dataset": self.dataset,
            "synthetic": synthetic, "classes": 10, "seed": self.seed, "epochs": 8,
            "batch_size": 128,
            "optimizer": {
                "learning_rate": [
                    {"from_epoch": 0, "learning_rate": 0.1},
                    {"from_epoch": 6, "learning_rate": 0.01}
                ],
                "momentum": 0.9, "weight_decay": 1e-4
            },
            "augmentation": "horizontal flip, translation by up to 4 pixels",
            "normalization": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]},
            "train_samples": 50000, "test_samples": 10000,
            "parameters": {"all": 470034, "trainable": 467946},
            "scaled_down": ["8 epochs instead of 300"],
            "machine": {
                "cpu": "A processor", "cores": 4, "threads": 4, "instruction_set": "AVX-512"
            },
            "version": "0.1.0",
            "command": ["ir", "train", self.model, "--epochs", "8"],
            "data_checksum": "sha256:0f343b0931126a20f133d67c2b018a3b"
        })
    }

    pub(crate) fn history(&self) -> Vec<Value> {
        let epochs = 0..=8usize;
        let line = |epoch: usize| {
            let progress = 1.0 - (-(epoch as f64) / 3.0).exp();
            json!({
                "epoch": epoch, "step": 391 * epoch, "learning_rate": 0.1, "seconds": 41.5,
                "train_loss": if epoch == 0 { Value::Null } else { json!(2.3 - 1.7 * progress) },
                "train_accuracy": if epoch == 0 { Value::Null } else { json!(0.1 + 0.75 * progress) },
                "test_loss": 2.3 - 1.6 * progress, "test_accuracy": 0.1 + 0.72 * progress,
                "gradient_norm_ratio": {"train": 1.5 + progress, "test": 1.6 + progress}
            })
        };
        epochs.map(line).collect()
    }

    /// `blocks.csv` as training records it.
    pub(crate) fn blocks_csv(&self) -> String {
        let mut text = String::from(
            "epoch,split,block,stage,transition,cosine,cosine_std,exit_cosine,exit_cosine_std,\
             l2_ratio,l2_ratio_std,grad_norm,grad_norm_std,h_norm,h_norm_std,batch_h_norm\n",
        );
        // Naive sharing makes large representations.
        let size = if self.model.ends_with("naive") {
            20.0
        } else {
            1.0
        };
        for (epoch, split) in recorded() {
            let progress = 1.0 - (-(epoch as f64) / 3.0).exp();
            for stage in &self.stages {
                for block in stage.first_block..=stage.last_block {
                    let transition = stage.stage > 0 && block == stage.first_block;
                    let cosine = 0.02 - 0.12 * progress * (0.3 + block as f64 / 20.0);
                    let batch = if split == "train" { "310.5" } else { "" };
                    text += &format!(
                        "{epoch},{split},{block},{},{transition},{cosine},0.05,,,{},0.1,0.002,\
                         0.001,{},12.5,{batch}\n",
                        stage.stage,
                        0.2 + 0.3 * progress,
                        size * (300.0 + 10.0 * block as f64),
                    );
                }
            }
        }
        text
    }

    /// `exits.csv` as training records it.
    pub(crate) fn exits_csv(&self) -> String {
        let mut text = String::from("epoch,split,after_block,accuracy,loss,entropy\n");
        let count = self.last_stage().count();
        for (epoch, split) in recorded() {
            let progress = 1.0 - (-(epoch as f64) / 3.0).exp();
            let gain = if split == "train" { 0.76 } else { 0.7 };
            let after = std::iter::once(String::new())
                .chain(self.last_stage().map(|block| block.to_string()));
            for (place, after) in after.enumerate() {
                let depth = place as f64 / count as f64;
                let accuracy =
                    0.1 + gain * progress * depth.powf(0.6) + 0.004 * self.wobble(place + epoch);
                let loss = 2.3 - 1.6 * progress * depth;
                text += &format!("{epoch},{split},{after},{accuracy},{loss},{}\n", 0.8 * loss);
            }
        }
        text
    }

    pub(crate) fn results(&self) -> Results {
        let splits = [
            ("train", self.split(0.84, true)),
            ("test", self.split(0.78, false)),
        ];
        Results {
            schema_version: SCHEMA_VERSION,
            network: self.model.into(),
            dataset: self.dataset.into(),
            stages: self.stages.clone(),
            splits: splits
                .into_iter()
                .map(|(name, split)| (name.into(), split))
                .collect(),
            provenance: json!({"command": ["ir", "analyze"], "seconds": 93.0}),
        }
    }

    fn split(&self, accuracy: f64, train: bool) -> Split {
        Split {
            samples: 5000,
            accuracy: accuracy + 0.01 * self.wobble(3),
            loss: 0.62,
            blocks: (0..self.blocks())
                .map(|block| self.block(block, accuracy, train))
                .collect(),
            exits: self.exits(accuracy),
            unroll: vec![
                self.unroll(1.0, ScaleSource::Unscaled, train),
                self.unroll(0.1, ScaleSource::Fixed, train),
                self.unroll(0.05, ScaleSource::ChosenOnTrain, train),
            ],
            taylor: self.last_stage().map(|block| self.taylor(block)).collect(),
            ..Split::default()
        }
    }

    fn block(&self, block: usize, accuracy: f64, train: bool) -> BlockMeasures {
        let stage = self
            .stages
            .iter()
            .find(|s| block <= s.last_block)
            .expect("a stage")
            .stage;
        let first = stage > 0 && block == self.stages[stage].first_block;
        let depth = block as f64 / self.blocks() as f64;
        let within = (block - self.stages[stage].first_block) as f64;
        let ratio = 0.08 + 1.6 * (-within).exp() / (1.0 + stage as f64) + 0.01 * self.wobble(block);
        let in_last = self.last_stage().contains(&block);
        let cost = if block == 0 && !self.transitions {
            0.6
        } else {
            0.02 + 0.2 * (-within).exp()
        };
        BlockMeasures {
            block,
            stage,
            transition: self.transitions && first,
            cosine: Some(
                -0.02 - 0.12 * depth + 0.02 * self.wobble(block) - 0.004 * f64::from(train),
            ),
            cosine_std: Some(0.05),
            exit_cosine: in_last.then_some(-0.1 - 0.3 * (-within).exp()),
            exit_cosine_std: in_last.then_some(0.08),
            l2_ratio: Some(Number(ratio * if train { 1.02 } else { 1.0 })),
            l2_ratio_std: Some(Number(0.15 * ratio)),
            grad_norm: Some(Number(0.1)),
            grad_norm_std: None,
            h_norm: Some(Number(20.0 + block as f64)),
            h_norm_std: None,
            drop_accuracy: Some(accuracy - cost),
            drop_loss: Some(Number(1.0)),
            drop_loss_std: None,
            undefined: Undefined {
                cosine: if block == 3 { 7 } else { 0 },
                ..Undefined::default()
            },
        }
    }

    fn exits(&self, accuracy: f64) -> Vec<Exit> {
        let mut after = vec![None];
        after.extend(self.last_stage().map(Some));
        let count = after.len();
        let exits = after.into_iter().enumerate().map(|(place, after)| {
            let depth = (place + 1) as f64 / count as f64;
            Exit {
                after_block: after,
                reference: place + 5 == count,
                groups: Groups {
                    all: group(5000, accuracy * depth.powf(0.3), 0.62 / depth, 0.5 / depth),
                    correct: group(3400, 1.0 - 0.05 * depth, 0.1 + 0.1 * depth, 0.3 / depth),
                    borderline: group(260, 0.3 + 0.25 * depth, 1.3, 1.1 / depth.sqrt()),
                },
            }
        });
        exits.collect()
    }

    fn unroll(&self, scale: f64, scale_source: ScaleSource, train: bool) -> Unroll {
        let step = |step: usize| {
            let growth = (scale * 1.9 * step as f64).exp();
            let start = if train { 0.45 } else { 0.62 };
            let drift = if train { -0.002 } else { 0.005 };
            let loss = if scale < 1.0 {
                start + drift * step as f64
            } else {
                start * growth
            };
            let loss = match step {
                17.. if scale == 1.0 => f64::NAN,
                14.. if scale == 1.0 => f64::INFINITY,
                _ => loss,
            };
            let fall = if scale < 1.0 { 0.0 } else { 0.03 * step as f64 };
            let accuracy = if train { 0.84 } else { 0.78 };
            UnrollStep {
                step,
                groups: Groups {
                    all: group(5000, (accuracy - fall).max(0.1), loss, 0.5),
                    correct: group(3900, (1.0 - fall).max(0.1), 0.4 * loss, 0.4),
                    borderline: group(
                        51,
                        0.43 + 0.1 * (1.0 - growth.recip()) - fall / 3.0,
                        1.2 * loss,
                        1.1,
                    ),
                },
                cosine: (loss.is_finite())
                    .then_some(-0.1 - 0.02 * f64::from(train) + 0.04 * step as f64 * scale),
                cosine_std: Some(0.05),
                l2_ratio: Some(Number(if train { 0.29 } else { 0.3 } * scale)),
                l2_ratio_std: Some(Number(0.02)),
                h_norm: Some(Number(40.0 * growth)),
                undefined: Undefined::default(),
            }
        };
        Unroll {
            scale,
            scale_source,
            steps: (0..=20).map(step).collect(),
        }
    }

    fn taylor(&self, block: usize) -> TaylorRow {
        let within = (block - self.last_stage().start()) as f64;
        let change = -0.4 * (-0.7 * within).exp();
        let predicted = 1.3 * change + 0.005 * self.wobble(block);
        TaylorRow {
            block,
            exit_loss: Number(0.62 - change),
            next_exit_loss: Number(0.62),
            predicted_change: Number(predicted),
            predicted_change_std: Number(0.1),
            remainder: Number(change - predicted),
            remainder_std: Number(0.08),
        }
    }

    /// The contents of the files that [`FILES`] names.
    fn files(&self) -> [String; 5] {
        let lines: Vec<String> = self.history().iter().map(ToString::to_string).collect();
        let results = serde_json::to_string(&self.results()).expect("JSON");
        [
            self.info().to_string(),
            lines.join("\n") + "\n",
            self.blocks_csv(),
            self.exits_csv(),
            results,
        ]
    }

    /// The files with a record separator between them, as fuzzing has them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.files().join("\x1e").into_bytes()
    }

    /// Writes the whole run folder.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        for (name, content) in FILES.into_iter().zip(self.files()) {
            fs::write(folder.join(name), content).expect(name);
        }
    }
}

/// The files of a run folder.
const FILES: [&str; 5] = [
    "run.json",
    "history.jsonl",
    "blocks.csv",
    "exits.csv",
    "results.json",
];

/// Every epoch recorded, on each split.
fn recorded() -> impl Iterator<Item = (usize, &'static str)> {
    (0..=8).flat_map(|epoch| [(epoch, "train"), (epoch, "test")])
}

fn group(samples: usize, accuracy: f64, loss: f64, entropy: f64) -> Group {
    Group {
        samples,
        accuracy: Some(accuracy),
        loss: Some(Number(loss)),
        loss_std: Some(Number(0.2)),
        entropy: Some(Number(entropy)),
        entropy_std: Some(Number(0.1)),
    }
}
