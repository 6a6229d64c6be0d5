//! What `gpu compare` says of a device that computes right: near enough to the CPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ir_benches::compare::compare;
use ir_emulation::gpus;
use ir_models::Architecture;
use ir_tensor_ops::gpu::Precision;

#[test]
fn a_training_pass_is_near_that_of_the_cpu() {
    let architecture = Architecture::from_json(
        r#"{ "name": "tiny", "classes": 3, "image": [3, 8, 8], "stem_channels": 4, "head_pooling": 4,
             "stages": [{ "blocks": 1, "channels": 4 },
                        { "blocks": 2, "channels": 8, "entrance": { "transition": { "stride": 2 } } }] }"#,
    )
    .unwrap();
    for gpu in gpus() {
        for precision in [Precision::F32, Precision::Bf16] {
            let found = compare(&gpu, &architecture, 4, precision).unwrap();
            assert!(found.exceeded().is_empty(), "{}", found.row());
            // So few numbers that no ReLU is near zero: rounding is no more than that.
            if precision == Precision::F32 {
                assert!(found.gradients < 1e-5, "{}", found.row());
                assert!(found.rounding < 1e-5, "{}", found.row());
            }
            assert!(found.statistics < 2e-2, "{}", found.row());
        }
    }
}
