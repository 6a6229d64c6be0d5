//! Broken and hostile input for every reader: where it goes in, what it is made from, how it is
//! damaged.
//!
//! A target takes the bytes of one file through the public way of opening it and checks what
//! must hold whatever the bytes are: no panic, and an error that names the file. The same targets
//! run under libFuzzer (`fuzz/`), on mutations of sound files (`tests/mutated.rs`), and on a
//! table of broken files (`tests/table.rs`).

#![expect(
    clippy::unwrap_used,
    reason = "a target fails by panicking, as a test does"
)]

pub mod data;
pub mod models;
pub mod mutation;
pub mod seeds;

/// What is done with the bytes of one file.
pub type Target = fn(&[u8]);

/// Every target of this crate by its name, which is also that of its fuzz target and of the
/// folder of its seeds.
///
/// ```
/// let names = ir_hostile::TARGETS.map(|(name, _)| name);
/// assert!(names.contains(&"parquet"));
/// for (name, target) in ir_hostile::TARGETS {
///     for seed in ir_hostile::seeds::of(name) {
///         target(&seed);
///     }
/// }
/// ```
pub const TARGETS: [(&str, Target); 11] = [
    ("architecture", models::architecture),
    ("binary_batch", data::binary_batch),
    ("checkpoint", models::checkpoint),
    ("class_names", data::class_names),
    ("hub_reference", data::hub_reference),
    ("image", data::image),
    ("model_config", models::model_config),
    ("parquet", data::parquet),
    ("photograph", data::photograph),
    ("python_batch", data::python_batch),
    ("weights", models::weights),
];
