//! The paper's learning rates, and what becomes of them in fewer epochs.

use ir_models::Recipe;

#[test]
fn the_resnet_recipe_is_the_papers() {
    let recipe = Recipe::of("resnet-110").unwrap();
    assert_eq!(recipe.epochs, 300);
    let rates: Vec<f64> = [0, 79, 80, 119, 120, 199, 200, 239, 240, 299]
        .map(|epoch| recipe.schedule.learning_rate(epoch))
        .into();
    assert_eq!(
        rates,
        [
            0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.000_01, 0.000_01, 0.000_011, 0.000_011
        ]
    );
}

#[test]
fn a_scaled_schedule_changes_at_the_same_fractions() {
    let recipe = Recipe::of("resnet-32").unwrap();
    for epochs in [1, 2, 4, 7, 30, 299, 300] {
        let scaled = recipe.schedule.scaled(300, epochs);
        for epoch in 0..epochs {
            let same = recipe.schedule.learning_rate(epoch * 300 / epochs);
            assert_eq!(
                scaled.learning_rate(epoch),
                same,
                "epoch {epoch} of {epochs}"
            );
        }
        let starts: Vec<usize> = scaled.pieces.iter().map(|piece| piece.from_epoch).collect();
        assert!(
            starts.windows(2).all(|pair| pair[0] < pair[1]),
            "{starts:?}"
        );
        assert!(starts.iter().all(|&start| start < epochs), "{starts:?}");
    }
}
