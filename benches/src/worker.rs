//! The protocol between `cargo xtask bench` and a program that it measures: one JSON document a line, each answered by one.
//!
//! ```text
//! {…}                          what is measured; its fields are the program's own
//! {"warm_up": 1, "steps": 3}   so many steps untimed, then so many timed
//! ```
//!
//! The peers in `benches/peers` speak it too.

use std::error::Error;
use std::io::{BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::peak_memory_mib;

/// What can go wrong, as the program ends with it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Something whose steps are timed.
pub trait Steps {
    /// What computes, in words.
    fn instruction_set(&self) -> String;

    /// Takes a step; gives the milliseconds that it took.
    ///
    /// # Errors
    /// The program ends with it.
    fn step(&mut self) -> Result<f64>;

    /// The kernels of the last step with their milliseconds, in order, where they were timed.
    ///
    /// # Errors
    /// The program ends with it.
    fn kernels(&self) -> Result<Vec<(String, f64)>> {
        Ok(Vec::new())
    }
}

/// The answer to the first line.
#[derive(Serialize)]
struct Ready {
    version: &'static str,
    instruction_set: String,
    peak_memory_mib: Option<f64>,
}

/// Every further line.
#[derive(Deserialize)]
struct Request {
    warm_up: usize,
    steps: usize,
}

#[derive(Serialize)]
struct Answer {
    milliseconds: Vec<f64>,
    peak_memory_mib: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<(String, f64)>,
}

/// Answers stdin line by line until it ends, with the steps that `prepare` makes of the first line.
///
/// Between two lines it sleeps: rayon's threads wait without turning.
///
/// # Errors
/// A line that is not of the protocol; what `prepare` and the steps report.
pub fn serve<T: DeserializeOwned, S: Steps>(prepare: impl FnOnce(T) -> Result<S>) -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let task = lines.next().ok_or("no task on stdin")??;
    let mut steps = prepare(serde_json::from_str(&task)?)?;
    answer(&Ready {
        version: env!("CARGO_PKG_VERSION"),
        instruction_set: steps.instruction_set(),
        peak_memory_mib: peak_memory_mib(),
    })?;
    for line in lines {
        answer(&measure(&mut steps, &serde_json::from_str(&line?)?)?)?;
    }
    Ok(())
}

fn measure(steps: &mut impl Steps, request: &Request) -> Result<Answer> {
    for _ in 0..request.warm_up {
        steps.step()?;
    }
    let timed = (0..request.steps).map(|_| steps.step());
    Ok(Answer {
        milliseconds: timed.collect::<Result<_>>()?,
        peak_memory_mib: peak_memory_mib(),
        kernels: steps.kernels()?,
    })
}

fn answer(document: &impl Serialize) -> Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, document)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}
