//! The norms of representations in a training pass.

use candle_core::{Device, Tensor};
use ir_models::{Architecture, ResNet, ResidualNetwork};

/// The norm of a whole batch, divided by √N.
fn root_mean_square(h: &Tensor) -> f64 {
    let samples = h.dims()[0] as f64;
    let values = h.flatten_all().and_then(|h| h.to_vec1::<f32>());
    let squares: f64 = values
        .expect("values")
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum();
    (squares / samples).sqrt()
}

#[test]
fn they_are_those_of_the_representations() {
    let json = r#"{ "name": "two stages, pooled", "classes": 10, "image": [3, 16, 16],
        "stem_channels": 5, "head_pooling": 2,
        "stages": [{ "blocks": 2, "channels": 5 },
                   { "blocks": 2, "channels": 7, "entrance": { "transition": { "stride": 2 } } },
                   { "blocks": 1, "channels": 7, "entrance": "average_pooling" }] }"#;
    let architecture = Architecture::from_json(json).expect("sound");
    let network = ResNet::initialize(&architecture, 3).expect("built");
    // Any images will do; these are the same in every run.
    let pixels = (0..4 * 3 * 16 * 16)
        .map(|place| (place as f32 * 0.37).sin() + (place as f32 * 0.011).cos());
    let images = Tensor::from_iter(pixels, &Device::Cpu).expect("images");
    let images = images.reshape((4, 3, 16, 16)).expect("images");
    let labels = Tensor::new(&[1u32, 2, 3, 4], &Device::Cpu).expect("labels");
    let pass = network.training_pass(&images, &labels).expect("a pass");
    let norms = pass.representation_norms();
    assert_eq!(norms.len(), 6);

    // h_0 has no batch norm before it, so an evaluation has the same.
    let h = network.stem(&images).expect("h_0");
    let expected = root_mean_square(&h);
    assert!((norms[0] - expected).abs() < 1e-5 * expected, "{norms:?}");

    // With the statistics of this batch as running ones an evaluation has all the same. A step
    // with momentum 0.1 moves 10 % of the way; 200 of them leave 0.9^200 = 7e-10 of the start,
    // and f32 sums 1e-6. Only the unbiased variance stays different, by n / (n − 1): two batch
    // norms a block make its part smaller by 1 / n at most, and n ≥ 4 · 4 · 4 values.
    let mut trainer = ir_models::Trainer::new(
        network,
        ir_models::TrainingSettings {
            schedule: ir_models::Schedule::constant(0.0),
            sgd: ir_models::Sgd::default(),
        },
    )
    .expect("a trainer");
    for _ in 0..200 {
        let batch = (images.clone(), labels.clone());
        let batches = std::iter::once(Ok::<_, candle_core::Error>(batch));
        let _ = trainer
            .epoch(batches, |_| std::ops::ControlFlow::Continue(()))
            .expect("a step");
    }
    let network = trainer.network();
    let mut h = network.stem(&images).expect("h_0");
    for (block, norm) in norms.iter().enumerate() {
        let expected = root_mean_square(&h);
        assert!(
            (norm - expected).abs() < expected / 64.0,
            "h_{block}: {norm}, expected {expected}"
        );
        if block < architecture.blocks().len() {
            h = network.step(block, &h).expect("a block");
        }
    }
}
