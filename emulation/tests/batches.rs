//! The batches that a GPU makes are those of the loader, bit by bit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ir_data::{BatchOptions, CHANNELS, Loader, SIDE, synthetic};
use ir_emulation::gpus;
use ir_tensor_ops::gpu::{Buffer, Map, Precision, StepState};

#[test]
fn the_batches_of_an_epoch_are_those_of_the_loader() {
    const BATCH: usize = 4;
    let dataset = synthetic::dataset(synthetic::Classes::Ten, 3, 14, 10).unwrap();
    for (augment, samples) in [(true, None), (false, None), (true, Some(9))] {
        let options = BatchOptions {
            augment,
            samples,
            ..BatchOptions::training(BATCH, 42, dataset.normalization())
        };
        let loader = Loader::new(dataset.train().clone(), options).unwrap();
        for gpu in gpus() {
            let images = loader.resident_images(&gpu).unwrap();
            let order = loader.resident_order(&gpu).unwrap();
            let state = StepState::new(&gpu, loader.batches()).unwrap();
            let map = Map::new(&gpu, [BATCH, CHANNELS, SIDE, SIDE], Precision::F32).unwrap();
            let labels = Buffer::zeros(&gpu, BATCH).unwrap();
            for epoch in [0, 5] {
                let (samples, changes) = loader.resident_epoch(epoch);
                order.write(&samples, &changes).unwrap();
                for (index, expected) in loader.epoch(epoch).enumerate() {
                    let expected = expected.unwrap();
                    state.begin(index).unwrap();
                    images.take(&order, &state, &map, &labels).unwrap();
                    let values = |tensor: &candle_core::Tensor| {
                        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                    };
                    assert_eq!(values(&map.to_tensor().unwrap()), values(&expected.images));
                    let expected = expected.labels.to_vec1::<u32>().unwrap();
                    assert_eq!(labels.to_vec().unwrap(), expected);
                }
            }
        }
    }
}
