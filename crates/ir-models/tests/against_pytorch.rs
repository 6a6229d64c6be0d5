//! The networks and their training against PyTorch, from the same weights and images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pytorch;

use ir_models::{Checkpoint, DataDescription, Schedule, Sgd, Trainer, TrainingSettings};
use pytorch::{CASES, Fixture, all};

#[test]
fn both_sides_have_the_same_weights_and_images() {
    for case in all() {
        Fixture::open(case).assert_same_inputs();
    }
}

#[test]
fn parameters_are_as_many_as_pytorch_trains() {
    for case in CASES {
        let fixture = Fixture::open(case);
        assert_eq!(
            fixture.architecture().parameters().trainable,
            fixture.trainable(),
            "{case}"
        );
    }
}

#[test]
fn a_checkpoint_has_the_names_and_shapes_of_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    for case in CASES {
        let fixture = Fixture::open(case);
        let path = folder.path().join(case);
        Checkpoint::save_network(&path, &fixture.resnet(), &DataDescription::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = header.tensors();
        let shapes = tensors
            .iter()
            .map(|(name, info)| (name.clone(), info.shape.clone()));
        assert_eq!(
            &shapes.collect::<std::collections::BTreeMap<_, _>>(),
            fixture.tensors(),
            "{case}"
        );
        assert!(
            tensors
                .values()
                .all(|info| info.dtype == safetensors::Dtype::F32),
            "{case}"
        );
    }
}

#[test]
fn representations_branches_and_logits_are_those_of_pytorch() {
    for case in all() {
        let fixture = Fixture::open(case);
        let (network, (images, _)) = (fixture.network(), fixture.batch("evaluation"));
        let mut comparison = fixture.compare(is_forward);
        let mut h = network.stem(&images).unwrap();
        for (j, block) in network.blocks().iter().enumerate() {
            comparison.tensor(&format!("h.{j}"), &h);
            comparison.tensor(&format!("branch.{j}"), &network.branch(j, &h).unwrap());
            if block.transition {
                comparison.tensor(&format!("shortcut.{j}"), &network.shortcut(j, &h).unwrap());
            }
            h = network.step(j, &h).unwrap();
        }
        comparison.tensor(&format!("h.{}", network.blocks().len()), &h);
        comparison.tensor("logits", &network.logits(&images).unwrap());
        comparison.finish();
    }
}

fn is_forward(quantity: &str) -> bool {
    let forward = ["h.", "branch.", "shortcut."];
    quantity == "logits" || forward.iter().any(|prefix| quantity.starts_with(prefix))
}

/// Two steps, so that the second shows the momentum of the first.
#[test]
fn two_training_steps_are_those_of_pytorch() {
    for case in CASES {
        let fixture = Fixture::open(case);
        let settings = TrainingSettings {
            schedule: Schedule::constant(0.1),
            sgd: Sgd::default(),
        };
        let mut trainer = Trainer::new(fixture.resnet(), settings).unwrap();
        let mut comparison = fixture.compare(|quantity| quantity.starts_with("step."));
        for step in ["step.1", "step.2"] {
            let (images, labels) = fixture.batch(step);
            let pass = trainer.network().training_pass(&images, &labels).unwrap();
            comparison.tensor(&format!("{step}.logits"), &pass.logits);
            for (spec, gradient) in pass.gradients(trainer.network()) {
                comparison.tensor(&format!("{step}.gradient.{}", spec.name), gradient);
            }
            let report = trainer.step(&images, &labels).unwrap();
            comparison.values(&format!("{step}.loss"), &[report.loss]);
            for (spec, tensor) in trainer.network().tensors() {
                comparison.tensor(&format!("{step}.tensor.{}", spec.name), tensor);
            }
        }
        comparison.finish();
    }
}
