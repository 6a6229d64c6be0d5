//! Every target on mutations of its sound files, the same ones in every run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ir_hostile::{TARGETS, mutation, seeds};

/// Mutations of each target's files together.
const MUTATIONS: u64 = 3000;

fn run(name: &str) {
    let (_, target) = TARGETS
        .into_iter()
        .find(|(found, _)| *found == name)
        .unwrap();
    let seeds = seeds::of(name);
    // One thread: waking the others costs more than a few images.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(|| {
        for index in 0..MUTATIONS {
            let sound = &seeds[index as usize % seeds.len()];
            target(&mutation::of(sound, index));
        }
    });
}

macro_rules! mutated {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_here() {
            let names = TARGETS.map(|(name, _)| name);
            assert_eq!(names.as_slice(), [$(stringify!($name)),*]);
        }
    };
}

mutated!(
    architecture binary_batch checkpoint class_names hub_reference image model_config parquet photograph
    python_batch weights
);
