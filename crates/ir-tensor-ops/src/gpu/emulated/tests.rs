//! That races are found, and none where there are none: the kernels of `kernels/racing.cuh`.

use crate::gpu::{Buffer, Gpu};

/// What a kernel of `blocks` blocks says to its race, or nothing.
fn reason(kernel: &str, blocks: usize, sound: bool) -> Option<String> {
    let gpu = Gpu::emulated().expect("there is a compiler");
    let numbers = Buffer::from_slice(&gpu, &[0i32; 256]).expect("there is memory");
    let arguments = [(&numbers).into(), i32::from(sound).into()];
    let grid = [blocks as u32, 1, 1];
    // SAFETY: the kernels take memory and a number, and use no more than 64 numbers a block and 64 more.
    let launched = unsafe { gpu.launch(kernel.into(), grid, [64, 1, 1], 256, arguments) };
    launched.err().map(|error| error.to_string())
}

/// Fails unless the sound kernel passes, and the other says `race`.
fn is_found(kernel: &str, blocks: usize, race: &str) {
    assert_eq!(reason(kernel, blocks, true), None, "{kernel}");
    let found = reason(kernel, blocks, false).unwrap_or_default();
    assert!(found.contains(race), "{kernel}: {found}");
}

#[test]
fn threads_of_a_block() {
    is_found(
        "race_of_threads",
        2,
        "shared memory, written by thread 32 of block 0 and read by thread 0 of block 0",
    );
    is_found(
        "race_after_reading",
        2,
        "read by thread 32 of block 0 and written by thread 0 of block 0",
    );
    is_found(
        "race_for_half_a_word",
        2,
        "argument 0, byte 0, written by thread 1 of block 0 and written by thread 0 of block 0",
    );
}

#[test]
fn lanes_of_a_warp() {
    is_found(
        "race_behind_an_exchange",
        2,
        "shared memory, read by thread 0 of block 0 and written by thread 1",
    );
}

#[test]
fn blocks_of_a_launch() {
    is_found(
        "race_of_blocks_that_write",
        3,
        "argument 0, byte 0, written by thread 0 of block 1 and written by thread 0 of block 0",
    );
    is_found(
        "race_of_blocks",
        3,
        "argument 0, byte 4, written by thread 0 of block 1 and read by thread 0 of block 0",
    );
}

#[test]
fn atomic_accesses() {
    let here = "argument 0, byte 0, written by thread 1 of block 0 and";
    is_found("race_for_a_mark", 2, &format!("{here} written by thread 0"));
    is_found("race_of_a_mark", 2, &format!("{here} read by thread 0"));
    is_found(
        "race_to_clear_a_mark",
        2,
        &format!("{here} written by thread 0"),
    );
}

#[test]
fn memory_as_a_whole() {
    is_found("race_to_clear", 2, "shared memory, written by thread");
    is_found("race_of_pieces", 2, "shared memory, written by thread");
}

#[test]
fn copies_under_way() {
    is_found("race_of_a_copy", 2, "shared memory, ");
    is_found("race_with_a_copy", 2, "argument 0, byte ");
}

#[test]
fn launches_of_two_queues() {
    let gpu = Gpu::emulated().expect("there is a compiler");
    let [x, y] = [(); 2].map(|()| Buffer::from_slice(&gpu, &[0f32; 8]).expect("there is memory"));
    let beside = || gpu.beside(|| x.fill(1.));
    let is_race = |result: crate::Result<()>| {
        let reason = result.expect_err("a race").to_string();
        assert!(
            reason.contains(" and written by fill in no order"),
            "{reason}"
        );
    };
    // Behind it, and in front of it, and in other memory.
    x.fill(2.).and_then(|()| beside()).expect("an order");
    y.fill(2.).expect("other memory");
    is_race(x.fill(3.));
    gpu.join().expect("work to join");
    x.fill(4.).expect("an order");
    // A copy of the host is an access too; one that reads joins first.
    beside().expect("an order");
    is_race(x.write(&[0.; 8]));
    beside().expect("an order");
    x.to_vec().expect("an order");
    // A part that nothing else uses.
    beside().expect("an order");
    is_race(x.slice(7..8).expect("it is there").fill(0.));
    gpu.join().expect("work to join");
    gpu.beside(|| x.slice(0..4)?.fill(1.)).expect("an order");
    x.slice(4..8)
        .and_then(|part| part.fill(2.))
        .expect("other memory");
    gpu.join().expect("work to join");
    // Recordings, which are in order among themselves.
    let steps = |joins: bool| {
        gpu.record(|| {
            x.fill(5.)?;
            beside()?;
            if joins {
                gpu.join()?;
            }
            x.fill(6.)
        })
        .expect("it is not carried out yet")
    };
    for _ in 0..2 {
        steps(true).launch().expect("an order");
        is_race(steps(false).launch());
    }
    // What went on beside before a recording is joined before it is carried out.
    let graph = steps(true);
    beside().expect("an order");
    graph.launch().expect("an order");
    // Nothing goes beside what is timed.
    gpu.time_recordings(true);
    steps(false).launch().expect("an order");
}
