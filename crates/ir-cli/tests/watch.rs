//! `ir watch`: the frame, as text.

mod common;
mod place;

use common::Sample;
use place::Place;

fn place() -> Place {
    let place = Place::empty();
    Sample::three_stages("resnet-32", 5, 0).write(&place.path("run"));
    place
}

#[test]
fn a_frame_shows_curves_and_blocks() {
    let place = place();
    let frame = place.ok("watch run");
    let expected = include_str!("frames/resnet-32.txt");
    assert_eq!(frame, expected, "\n{frame}");
    assert_eq!(place.ok("watch run --once --epoch 8"), expected);
}

#[test]
fn the_split_and_the_epoch_are_chosen() {
    let place = place();
    let frame = place.ok("watch run --split train --epoch 3");
    assert!(frame.contains("train, epoch 3"), "{frame}");
    let complaint = place.complaint("watch run --epoch 9");
    assert!(complaint.contains("recorded are 0, 1, 2"), "{complaint}");
}

#[test]
fn a_run_that_has_only_begun_is_shown() {
    let place = place();
    for file in ["history.jsonl", "blocks.csv", "exits.csv", "results.json"] {
        std::fs::remove_file(place.path("run").join(file)).unwrap();
    }
    let frame = place.ok("watch run");
    assert!(frame.contains("nothing is recorded yet"), "{frame}");
    assert!(frame.contains("epoch 0 of 8"), "{frame}");
    let complaint = place.complaint("watch nowhere");
    assert!(complaint.contains("ir train"), "{complaint}");
}

#[test]
fn an_analysis_of_an_earlier_epoch_is_no_hindrance() {
    let place = place();
    let results = place.read("run/results.json");
    let earlier = results.replacen(
        "\"provenance\":{",
        "\"provenance\":{\"epochs_trained\":3,",
        1,
    );
    assert_ne!(earlier, results);
    place.write("run/results.json", &earlier);
    place.complaint("compare run run");
    place.ok("watch run");
}

/// Closing its window must not leave a process behind, least of all one that waits awake.
#[cfg(unix)]
#[test]
fn it_ends_with_its_terminal() {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::time::{Duration, Instant};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    let place = place();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let size = Winsize {
        ws_row: 40,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let end = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut command = place.command("watch run");
    command
        .stdin(end.try_clone().unwrap())
        .stdout(end.try_clone().unwrap())
        .stderr(end);
    let mut watching = command.spawn().unwrap();
    // The command holds the other end of the terminal as long as it is there.
    drop(command);
    let mut terminal = std::fs::File::from(terminal);
    assert!(
        terminal.read(&mut [0; 4096]).unwrap() > 0,
        "nothing is drawn"
    );
    drop(terminal);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = watching.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(60) {
            watching.kill().unwrap();
            panic!("it goes on without a terminal");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
}
