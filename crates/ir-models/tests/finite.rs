//! Numbers that went wrong stop a step before they reach the network, and the borders of what is
//! right do not.

#![expect(
    clippy::unwrap_used,
    reason = "what tests share fails by panicking, as they do"
)]

use candle_core::{Device, Tensor};
use ir_models::{Architecture, Error, ResNet, Schedule, Sgd, Trainer, TrainingSettings};

fn tiny() -> Architecture {
    Architecture::from_json(
        r#"{ "name": "tiny", "classes": 3, "image": [3, 8, 8], "stem_channels": 4, "head_pooling": 4,
             "stages": [{ "blocks": 2, "channels": 4 },
                        { "blocks": 2, "channels": 6, "entrance": { "transition": { "stride": 2 } } }] }"#,
    )
    .unwrap()
}

fn batch(index: u64) -> (Tensor, Tensor) {
    use rand::Rng;
    let mut stream = ir_tensor_ops::random::stream(1, 0, index, 0);
    let values: Vec<f32> = (0..6 * 3 * 8 * 8)
        .map(|_| stream.random::<f32>() - 0.5)
        .collect();
    let images = Tensor::from_vec(values, (6, 3, 8, 8), &Device::Cpu).unwrap();
    (
        images,
        Tensor::new(&[0u32, 1, 2, 0, 1, 2], &Device::Cpu).unwrap(),
    )
}

fn trainer() -> Trainer {
    let settings = TrainingSettings {
        schedule: Schedule::constant(0.05),
        sgd: Sgd::default(),
    };
    Trainer::new(ResNet::initialize(&tiny(), 3).unwrap(), settings).unwrap()
}

/// Takes a step that must succeed and leave finite numbers only.
fn good_step(trainer: &mut Trainer, images: &Tensor, labels: &Tensor) {
    let report = trainer.step(images, labels).unwrap();
    assert!(report.loss.is_finite());
    let tensors = trainer.network().tensors();
    let tensors = tensors.map(|(spec, tensor)| (spec.name.as_str(), tensor));
    for (name, tensor) in tensors.chain(trainer.velocities()) {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
}

/// A step that must fail, with the weights, velocities and running statistics as they were.
fn refused_step(trainer: &mut Trainer, batch: (Tensor, Tensor)) -> Error {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let state = |trainer: &Trainer| {
        let tensors = trainer.network().tensors();
        let velocities = trainer.velocities().map(|(_, tensor)| values(tensor));
        let tensors = tensors.map(|(_, tensor)| values(tensor));
        (
            tensors.chain(velocities).collect::<Vec<_>>(),
            *trainer.position(),
        )
    };
    let before = state(trainer);
    let error = trainer.step(&batch.0, &batch.1).unwrap_err();
    // Compared as text, in which NaN equals NaN.
    assert_eq!(format!("{before:?}"), format!("{:?}", state(trainer)));
    error
}

/// Sets a tensor of the network to values that are repeated to fill it.
fn set(trainer: &Trainer, name: &str, values: &[f32], shape: &[usize]) {
    let tensor = trainer.network().tensor(name).unwrap();
    let values = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let values = values.broadcast_as(tensor.shape()).unwrap();
    tensor
        .slice_set(&values.contiguous().unwrap(), 0, 0)
        .unwrap();
}

#[test]
fn a_loss_that_is_no_number_stops_before_the_weights_change() {
    let mut trainer = trainer();
    let (images, labels) = batch(0);
    let error = refused_step(&mut trainer, ((images * f64::NAN).unwrap(), labels));
    let Error::NonFiniteLoss {
        loss,
        step: 0,
        epoch: 0,
        origin,
    } = &error
    else {
        panic!("{error}");
    };
    assert!(loss.is_nan());
    assert_eq!(origin.as_deref(), Some("blocks.0.bn1"), "the first norm");
}

#[test]
fn a_loss_that_is_no_number_names_the_block_that_overflowed() {
    let mut trainer = trainer();
    trainer.step(&batch(0).0, &batch(0).1).unwrap();
    set(&trainer, "blocks.1.conv1.weight", &[f32::INFINITY], &[]);
    let error = refused_step(&mut trainer, batch(1));
    let Error::NonFiniteLoss {
        step: 1, origin, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(origin.as_deref(), Some("blocks.1.bn2"));
    assert!(error.to_string().contains("blocks.1.bn2"), "{error}");
}

#[test]
fn a_finite_loss_with_infinite_statistics_stops_before_the_weights_change() {
    // A variance beyond f32 normalises to 0, which every later layer takes without a word.
    let mut trainer = trainer();
    set(&trainer, "blocks.2.conv1.weight", &[1e25], &[]);
    let error = refused_step(&mut trainer, batch(0));
    let Error::NonFiniteStep {
        quantity,
        tensor,
        loss,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(loss.is_finite());
    assert_eq!(
        (*quantity, tensor.as_str()),
        ("batch statistics", "blocks.2.bn2")
    );
}

#[test]
fn a_finite_loss_with_an_infinite_gradient_stops_before_the_weights_change() {
    // With y = 1e-38 x + 1e-37 before the classifier the logits are 3e38 · 1e-37 · 6 = 180 at
    // most; ∂L/∂β is the mean of W over samples and places, 3e38 + 3e38 with class 1 never right.
    let mut trainer = trainer();
    set(&trainer, "head.bn.weight", &[1e-38], &[]);
    set(&trainer, "head.bn.bias", &[1e-37], &[]);
    set(&trainer, "head.fc.weight", &[3e38, -3e38, 0.0], &[3, 1]);
    let (images, _) = batch(0);
    let labels = Tensor::new(&[1u32; 6], &Device::Cpu).unwrap();
    let error = refused_step(&mut trainer, (images, labels));
    let Error::NonFiniteStep {
        quantity,
        tensor,
        loss,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(loss.is_finite());
    assert_eq!((*quantity, tensor.as_str()), ("gradient", "head.bn.bias"));
}

#[test]
fn an_update_that_overflows_stops_before_the_weights_change() {
    let settings = TrainingSettings {
        schedule: Schedule::constant(1e39),
        sgd: Sgd::default(),
    };
    let mut trainer = Trainer::new(ResNet::initialize(&tiny(), 3).unwrap(), settings).unwrap();
    let error = refused_step(&mut trainer, batch(0));
    let Error::NonFiniteStep {
        quantity: "updated value",
        ..
    } = &error
    else {
        panic!("{error}");
    };
}

#[test]
fn a_channel_of_zero_variance_is_normalised_to_beta() {
    // Without weights every value of a convolution is its bias, 0: x − μ = 0 and √(0 + ε) > 0.
    let mut trainer = trainer();
    set(&trainer, "blocks.1.conv1.weight", &[0.0], &[]);
    set(&trainer, "blocks.1.bn2.bias", &[0.25], &[]);
    let (images, labels) = batch(0);
    let pass = trainer.network().training_pass(&images, &labels).unwrap();
    let gradient = |name: &str| {
        let mut gradients = pass.gradients(trainer.network());
        let (_, gradient) = gradients.find(|(spec, _)| spec.name == name).unwrap();
        gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    // ∂L/∂γ = Σ x̂ · ∂L/∂y, and x̂ is 0 everywhere.
    assert_eq!(gradient("blocks.1.bn2.weight"), [0.0; 4]);
    assert!(gradient("blocks.1.bn2.bias").iter().any(|&g| g != 0.0));
    // With the same β the result does not depend on γ.
    let logits = |pass: &ir_models::TrainingPass| pass.logits.to_vec2::<f32>().unwrap();
    let before = logits(&pass);
    set(&trainer, "blocks.1.bn2.weight", &[100.0], &[]);
    let again = trainer.network().training_pass(&images, &labels).unwrap();
    assert_eq!(before, logits(&again));
    good_step(&mut trainer, &images, &labels);
}

#[test]
fn images_of_one_colour_and_equal_images_are_trained_on() {
    let mut trainer = trainer();
    let (images, labels) = batch(0);
    good_step(&mut trainer, &images.zeros_like().unwrap(), &labels);
    let equal = images
        .narrow(0, 0, 1)
        .unwrap()
        .repeat((6, 1, 1, 1))
        .unwrap();
    good_step(&mut trainer, &equal, &labels);
}

#[test]
fn a_batch_of_one_sample_is_trained_on() {
    let mut trainer = trainer();
    let (images, labels) = batch(0);
    let (image, label) = (
        images.narrow(0, 0, 1).unwrap(),
        labels.narrow(0, 0, 1).unwrap(),
    );
    good_step(&mut trainer, &image, &label);

    // Even where the last stage has one value a channel, and its variance is therefore 0.
    let narrow = Architecture::from_json(
        r#"{ "name": "narrow", "classes": 3, "image": [3, 2, 2], "stem_channels": 4, "head_pooling": 1,
             "stages": [{ "blocks": 1, "channels": 4 },
                        { "blocks": 1, "channels": 6, "entrance": { "transition": { "stride": 2 } } }] }"#,
    )
    .unwrap();
    let settings = trainer.settings().clone();
    let mut trainer = Trainer::new(ResNet::initialize(&narrow, 0).unwrap(), settings).unwrap();
    let image = image.narrow(2, 0, 2).unwrap().narrow(3, 0, 2).unwrap();
    good_step(&mut trainer, &image.contiguous().unwrap(), &label);
}

#[test]
fn a_class_that_never_occurs_is_learned_to_be_unlikely() {
    let mut trainer = trainer();
    let (images, _) = batch(0);
    let labels = Tensor::new(&[0u32, 1, 0, 0, 1, 0], &Device::Cpu).unwrap();
    for _ in 0..20 {
        good_step(&mut trainer, &images, &labels);
    }
    let pass = trainer.network().training_pass(&images, &labels).unwrap();
    for logits in pass.logits.to_vec2::<f32>().unwrap() {
        assert!(logits[2] < logits[0].max(logits[1]), "{logits:?}");
    }
}
