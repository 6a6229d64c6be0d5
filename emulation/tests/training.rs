//! Training on a GPU gives what training on the CPU gives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use ir_emulation::{distance, gpus};
use ir_models::{
    Architecture, Entrance, Error, Kind, ResNet, ResidualNetwork, Schedule, Scope, Sgd, Sharing,
    Stage, Trainer, TrainingPass, TrainingSettings, gpu,
};
use ir_tensor_ops::gpu::{EpochOrder, Gpu, Precision, ResidentImages};

const SIDE: usize = 8;
const IMAGES: usize = 6;
const BATCH: usize = 3;
const CLASSES: usize = 3;

/// Two stages of the second of which only its entrance and its sharing differ.
fn architecture(name: &str, entrance: Entrance, sharing: Option<Sharing>) -> Architecture {
    let stage = |blocks, channels, entrance, sharing| Stage {
        blocks,
        channels,
        entrance,
        sharing,
    };
    let channels = match entrance {
        Entrance::Transition { .. } => 18,
        _ => 5,
    };
    Architecture {
        name: name.into(),
        classes: CLASSES,
        image: [3, SIDE, SIDE],
        stem_channels: 5,
        stages: vec![
            stage(1, 5, Entrance::Same, None),
            stage(3, channels, entrance, sharing),
        ],
        head_pooling: 2,
    }
}

/// Every kind of network that the paper has: plain, pooled, and with a shared block in each way.
fn architectures() -> Vec<Architecture> {
    let transition = Entrance::Transition { stride: 2 };
    let shared = |statistics, affine| Sharing {
        first: 1,
        statistics,
        affine,
        initial_gamma: 0.5,
    };
    let (one, own) = (Scope::Shared, Scope::Step);
    vec![
        architecture("plain", transition, None),
        architecture("wide", Entrance::Transition { stride: 1 }, None),
        architecture("pooled", Entrance::AveragePooling, None),
        architecture("naive", transition, Some(shared(one, one))),
        architecture("statistics", transition, Some(shared(own, one))),
        architecture("ubn", transition, Some(shared(own, own))),
    ]
}

/// Bytes of images without order, with labels and what a byte is as a number.
fn data() -> (Vec<u8>, Vec<u32>, Vec<f32>) {
    let bytes = (0..IMAGES * 3 * SIDE * SIDE).map(|i| (i * 7919 % 251) as u8);
    let labels = (0..IMAGES).map(|i| (i % CLASSES) as u32);
    let lookup = (0..3 * 256).map(|i| (i % 256) as f32 / 100. - 1. - (i / 256) as f32 / 10.);
    (bytes.collect(), labels.collect(), lookup.collect())
}

/// The samples of an epoch, and what happens to each.
fn order(epoch: usize) -> (Vec<u32>, Vec<(usize, usize, bool)>) {
    let samples = (0..IMAGES).map(|i| ((i * 5 + epoch) % IMAGES) as u32);
    let changes = (0..IMAGES).map(|i| ((i + epoch) % 5, (2 * i + epoch) % 5, (i + epoch) % 2 == 1));
    (samples.collect(), changes.collect())
}

const BORDER: usize = 2;

/// The changes as the device takes them.
fn packed(changes: &[(usize, usize, bool)]) -> Vec<u32> {
    let changes = changes.iter();
    changes
        .map(|&(top, left, flip)| EpochOrder::change(top, left, flip))
        .collect()
}

/// A batch as the CPU sees it: crops of the images with black around them, mirrored, then normalised.
fn batch(samples: &[u32], changes: &[(usize, usize, bool)]) -> (Tensor, Tensor) {
    let (bytes, labels, lookup) = data();
    let mut values = Vec::new();
    for (&sample, &(top, left, flip)) in samples.iter().zip(changes) {
        for channel in 0..3 {
            for row in 0..SIDE {
                for column in 0..SIDE {
                    let column = if flip { SIDE - 1 - column } else { column };
                    let place = |at: usize| at.checked_sub(BORDER).filter(|&at| at < SIDE);
                    let byte = match (place(row + top), place(column + left)) {
                        (Some(row), Some(column)) => {
                            bytes[((sample as usize * 3 + channel) * SIDE + row) * SIDE + column]
                        }
                        _ => 0,
                    };
                    values.push(lookup[channel * 256 + usize::from(byte)]);
                }
            }
        }
    }
    let labels: Vec<u32> = samples
        .iter()
        .map(|&sample| labels[sample as usize])
        .collect();
    let count = samples.len();
    (
        Tensor::from_vec(values, (count, 3, SIDE, SIDE), &Device::Cpu).unwrap(),
        Tensor::from_vec(labels, count, &Device::Cpu).unwrap(),
    )
}

fn settings(rate: f64) -> TrainingSettings {
    TrainingSettings {
        schedule: Schedule::constant(rate),
        sgd: Sgd::default(),
    }
}

fn on_the_cpu(architecture: &Architecture, rate: f64) -> Trainer {
    Trainer::new(ResNet::initialize(architecture, 1).unwrap(), settings(rate)).unwrap()
}

fn on_a_gpu(gpu: &Gpu, trainer: Trainer, precision: Precision) -> gpu::Trainer {
    with_samples(gpu, trainer, precision, IMAGES)
}

/// With epochs of as many samples.
fn with_samples(gpu: &Gpu, trainer: Trainer, precision: Precision, samples: usize) -> gpu::Trainer {
    let (bytes, labels, lookup) = data();
    let images = gpu::TrainingImages {
        images: ResidentImages::new(gpu, &bytes, &labels, &lookup, SIDE).unwrap(),
        order: EpochOrder::new(gpu, samples, IMAGES, BORDER).unwrap(),
        samples,
        batch_size: BATCH,
    };
    gpu::Trainer::new(gpu, trainer, images, precision).unwrap()
}

/// Trains for two epochs on both, and gives the largest relative error of a tensor and of a loss.
fn apart(gpu: &Gpu, architecture: &Architecture, precision: Precision, rate: f64) -> (f64, f64) {
    let mut cpu = on_the_cpu(architecture, rate);
    let mut other = on_a_gpu(gpu, on_the_cpu(architecture, rate), precision);
    let (mut losses, mut others) = (Vec::new(), Vec::new());
    for epoch in 0..2 {
        let (samples, changes) = order(epoch);
        let batches = samples.chunks(BATCH).zip(changes.chunks(BATCH));
        let batches = batches.map(|(samples, changes)| Ok::<_, Error>(batch(samples, changes)));
        cpu.epoch(batches, |step| {
            losses.push((step.loss, step.correct));
            ControlFlow::Continue(())
        })
        .unwrap();
        let packed = packed(&changes);
        other
            .epoch(&samples, &packed, |step| {
                others.push((step.loss, step.correct));
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert_eq!(other.position().step, cpu.position().step);
    let back = other.updated().unwrap();
    let both = |there: &Trainer| -> Vec<(String, Tensor)> {
        let weights = there
            .network()
            .tensors()
            .map(|(spec, tensor)| (spec.name.clone(), tensor.clone()));
        let velocities = there
            .velocities()
            .map(|(name, tensor)| (name.to_owned(), tensor.clone()));
        weights.chain(velocities).collect()
    };
    let mut tensors = 0f64;
    for ((name, there), (_, here)) in both(back).into_iter().zip(both(&cpu)) {
        // A batch norm takes away what a convolution's bias adds: its gradient is nothing but rounding.
        if name.ends_with(".bias") && !name.contains(".bn") && !name.starts_with("head") {
            let largest = there
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(largest < 1e-2, "{name}: {largest}");
        } else {
            let apart = distance(&there, &here);
            tensors = tensors.max(apart);
        }
    }
    let relative = losses
        .iter()
        .zip(&others)
        .map(|(here, there)| (here.0 - there.0).abs() / here.0);
    (tensors, relative.fold(0., f64::max))
}

#[test]
fn f32_agrees_with_the_cpu() {
    for gpu in gpus() {
        for architecture in architectures() {
            let (tensors, losses) = apart(&gpu, &architecture, Precision::F32, 0.05);
            let name = &architecture.name;
            assert!(
                tensors < 1e-4 && losses < 1e-5,
                "{name}: {tensors} {losses}"
            );
        }
    }
}

/// The gradients of all parameters after one step from rest: the velocities, in one row.
fn gradients(trainer: &Trainer) -> Tensor {
    let all: Vec<Tensor> = trainer
        .velocities()
        .map(|(_, velocity)| velocity.flatten_all().unwrap())
        .collect();
    Tensor::cat(&all, 0).unwrap()
}

/// A number as bfloat16 has it.
fn rounded(tensor: &Tensor) -> Tensor {
    tensor
        .to_dtype(DType::BF16)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

#[test]
fn bf16_stays_near_the_cpu() {
    for architecture in architectures() {
        let name = &architecture.name;
        let (samples, changes) = order(0);
        let (images, labels) = batch(&samples[..BATCH], &changes[..BATCH]);
        let mut cpu = on_the_cpu(&architecture, 0.05);
        let exact = cpu.step(&images, &labels).unwrap().loss;
        // What rounding can do here: the gradients of the CPU, in f32, where no more than the images and the
        // convolutions' weights are bfloat16.
        let initial = ResNet::initialize(&architecture, 1).unwrap();
        let network = ResNet::from_tensors(&architecture, |spec| {
            let tensor = initial.tensor(&spec.name).unwrap();
            Ok(match spec.kind {
                Kind::ConvolutionWeight => rounded(tensor),
                _ => tensor.clone(),
            })
        });
        let mut yardstick = Trainer::new(network.unwrap(), settings(0.05)).unwrap();
        yardstick.step(&rounded(&images), &labels).unwrap();
        let yardstick = distance(&gradients(&yardstick), &gradients(&cpu));
        for gpu in gpus() {
            let trainer = on_the_cpu(&architecture, 0.05);
            let mut there = with_samples(&gpu, trainer, Precision::Bf16, BATCH);
            let (samples, changes) = (&samples[..BATCH], packed(&changes[..BATCH]));
            let sums = there
                .epoch(samples, &changes, |_| ControlFlow::Continue(()))
                .unwrap()
                .unwrap();
            let loss = sums.loss().unwrap();
            assert!(
                (loss - exact).abs() < 2e-2 * exact,
                "{name}: {loss} {exact}"
            );
            let apart = distance(&gradients(there.updated().unwrap()), &gradients(&cpu));
            assert!(
                apart < 3.0 * yardstick,
                "{name}: {apart}, yardstick {yardstick}"
            );
        }
    }
}

#[test]
fn an_epoch_goes_on_where_it_was_broken_off() {
    for gpu in gpus() {
        let architecture = &architectures()[0];
        let (samples, changes) = order(0);
        let changes = packed(&changes);
        let mut whole = on_a_gpu(&gpu, on_the_cpu(architecture, 0.05), Precision::F32);
        whole
            .epoch(&samples, &changes, |_| ControlFlow::Continue(()))
            .unwrap();

        // The CPU takes the first batch, the GPU the second.
        let mut cpu = on_the_cpu(architecture, 0.05);
        let (_, unpacked) = order(0);
        let (images, labels) = batch(&samples[..BATCH], &unpacked[..BATCH]);
        cpu.step(&images, &labels).unwrap();
        let mut rest = on_a_gpu(&gpu, cpu, Precision::F32);
        let mut steps = 0;
        let sums = rest.epoch(&samples, &changes, |_| {
            steps += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((steps, sums.unwrap().unwrap().samples), (1, IMAGES));
        let (whole, rest) = (whole.updated().unwrap(), rest.updated().unwrap());
        assert_eq!(whole.position(), rest.position());
        let name = "blocks.0.conv1.weight";
        let [whole, rest] = [whole, rest].map(|t| t.network().tensor(name).unwrap().clone());
        assert!(distance(&rest, &whole) < 1e-5);
    }
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    for gpu in gpus() {
        let architecture = &architectures()[0];
        // The second step meets what the first has made of the weights.
        let mut trainer = on_a_gpu(&gpu, on_the_cpu(architecture, 1e30), Precision::F32);
        let (samples, changes) = order(0);
        let changes = packed(&changes);
        let error = trainer
            .epoch(&samples, &changes, |_| ControlFlow::Continue(()))
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::NonFiniteLoss { step: 1, .. } | Error::NonFiniteStep { step: 1, .. }
            ),
            "{error}"
        );
        assert_eq!(trainer.position().step, 1);
        for (spec, tensor) in trainer.updated().unwrap().network().tensors() {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(
                values.iter().all(|value| value.is_finite()),
                "{}",
                spec.name
            );
        }
    }
}

#[test]
fn a_pass_gives_what_the_cpu_gives() {
    let (samples, changes) = order(0);
    let (images, labels) = batch(&samples[..BATCH], &changes[..BATCH]);
    let gradients = |pass: &TrainingPass, network: &ResNet| {
        // Those of the biases behind which a batch norm stands are nothing but rounding.
        let gradients = pass.gradients(network);
        let matter = gradients.filter(|(spec, _)| spec.kind != Kind::ConvolutionBias);
        let all: Vec<Tensor> = matter
            .map(|(_, gradient)| gradient.flatten_all().unwrap())
            .collect();
        Tensor::cat(&all, 0).unwrap()
    };
    for gpu in gpus() {
        for architecture in architectures() {
            let name = &architecture.name;
            let cpu = on_the_cpu(&architecture, 0.05);
            let network = cpu.network().clone();
            let here = network.training_pass(&images, &labels).unwrap();
            let mut trainer = on_a_gpu(&gpu, cpu, Precision::F32);
            let there = trainer.training_pass(&images, &labels).unwrap();
            assert!((there.loss / here.loss - 1.0).abs() < 1e-5, "{name}");
            assert_eq!(there.correct, here.correct, "{name}");
            assert!(distance(&there.logits, &here.logits) < 1e-4, "{name}");
            let [there_gradients, here_gradients] =
                [&there, &here].map(|pass| gradients(pass, &network));
            assert!(distance(&there_gradients, &here_gradients) < 1e-4, "{name}");
            let norms = |pass: &TrainingPass| {
                let norms = pass.representation_norms();
                let norms: Vec<f32> = norms.into_iter().map(|norm| norm as f32).collect();
                Tensor::new(norms, &Device::Cpu)
            };
            let [there, here] = [&there, &here].map(|pass| norms(pass).unwrap());
            assert_eq!(there.dims(), [network.blocks().len() + 1], "{name}");
            assert!(distance(&there, &here) < 1e-5, "{name}");
        }
        // It changes nothing, and takes no other batch than a step does.
        let mut trainer = on_a_gpu(&gpu, on_the_cpu(&architectures()[0], 0.05), Precision::F32);
        let before = trainer.training_pass(&images, &labels).unwrap().loss;
        assert_eq!(
            trainer.training_pass(&images, &labels).unwrap().loss,
            before
        );
        let fewer = images.narrow(0, 0, BATCH - 1).unwrap();
        assert!(trainer.training_pass(&fewer, &labels).is_err());
        let fewer = labels.narrow(0, 0, BATCH - 1).unwrap();
        assert!(trainer.training_pass(&images, &fewer).is_err());
    }
}

/// What an error says was not finite, and of which tensor.
fn culprit(error: &Error) -> (&'static str, Option<&str>) {
    match error {
        Error::NonFiniteLoss { origin, .. } => ("loss", origin.as_deref()),
        Error::NonFiniteStep {
            quantity, tensor, ..
        } => (quantity, Some(tensor)),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_not_finite_is_named() {
    // A tensor, the value that it gets everywhere, the learning rate, and what is then said.
    let (conv1, conv2) = ("blocks.1.conv1.weight", "blocks.3.conv2.weight");
    let fc = "head.fc.bias";
    let cases = [
        (conv1, f32::INFINITY, 0.05, ("loss", "blocks.1.bn2")),
        (conv2, f32::INFINITY, 0.05, ("loss", "head.bn")),
        // A variance beyond f32 normalises to 0, which every later layer takes without a word.
        (conv1, 1e25, 0.05, ("batch statistics", "blocks.1.bn2")),
        // A rate beyond f32; the last tensor is looked at first.
        (fc, 0.0, 1e39, ("updated value", fc)),
    ];
    let architecture = &architectures()[0];
    let (samples, changes) = order(0);
    let (images, labels) = batch(&samples[..BATCH], &changes[..BATCH]);
    for gpu in gpus() {
        for (name, value, rate, (quantity, tensor)) in cases {
            let broken = || {
                let trainer = on_the_cpu(architecture, rate);
                let tensor = trainer.network().tensor(name).unwrap();
                let values = Tensor::full(value, tensor.shape(), &Device::Cpu).unwrap();
                tensor.slice_set(&values, 0, 0).unwrap();
                trainer
            };
            let (mut cpu, mut trainer) = (broken(), on_a_gpu(&gpu, broken(), Precision::F32));
            let here = cpu.step(&images, &labels).unwrap_err();
            let packed = packed(&changes);
            let there = trainer.epoch(&samples, &packed, |_| ControlFlow::Continue(()));
            let there = there.unwrap_err();
            for error in [here, there] {
                assert_eq!(culprit(&error), (quantity, Some(tensor)), "{error}");
            }
        }
    }
}
