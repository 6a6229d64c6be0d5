//! About how long a step takes: enough to deal the work out evenly, and for nothing else.

use super::profiles::{Model, Training};

/// CIFAR's splits together.
const TRAIN_IMAGES: usize = 50_000;
const TEST_IMAGES: usize = 10_000;

/// What a training costs, in seconds on the four cores of the README's table of speeds.
pub(super) fn training(training: &Training) -> f64 {
    let images = training.train_images.unwrap_or(TRAIN_IMAGES);
    // Evaluating an image takes about a third of the time of learning from it.
    let evaluated = training.test_images.unwrap_or(TEST_IMAGES) as f64 / 3.0;
    f64::from(training.epochs) * (images as f64 + evaluated) * per_image(&training.model)
}

/// What the analysis of a network costs, on as many images of each split.
pub(super) fn analysis(training: &Training, images: Option<usize>) -> f64 {
    let of = |split: usize| images.map_or(split, |images| images.min(split));
    let images = (of(TRAIN_IMAGES) + of(TEST_IMAGES)) as f64;
    ANALYZED_OVER_TRAINED * images * per_image(&training.model)
}

/// How many times as long an image takes in an analysis as in a training step: 7 measured with
/// resnet-32, 10 with single-representation.
const ANALYZED_OVER_TRAINED: f64 = 8.0;

/// Seconds that one image takes in training.
fn per_image(model: &Model) -> f64 {
    let (Model::Named(name) | Model::File(name, _)) = *model;
    let depth = name
        .strip_prefix("resnet-")
        .map(|rest| rest.split('-').next());
    if let Some(depth) = depth.and_then(|depth| depth?.parse::<f64>().ok()) {
        return 1.6e-5 * depth;
    }
    match name {
        "single-representation" => 7.4e-3,
        "avg-pooling" => 21e-3,
        "wide" => 28e-3,
        // Other networks are small ones.
        _ => 0.5e-3,
    }
}
