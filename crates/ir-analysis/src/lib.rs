//! What the paper measures, on anything that is a residual network.

mod batch;
mod blocks;
mod checked;
mod drop;
mod error;
mod evaluate;
mod exits;
mod groups;
mod last_stage;
mod number;
mod options;
mod outcome;
pub mod results;
mod shim;
mod split;
mod statistics;
mod taylor;
mod trace;
mod unroll;

pub use error::{Error, Part, Result};
pub use evaluate::{BatchError, Evaluation, ExitEvaluation, evaluate, exit_accuracies};
pub use number::Number;
pub use options::{Measure, Options, ReferenceExit, UnrollScale};
pub use split::{Progress, analyze_split, stages};
pub use trace::{Trace, TracedBlock, trace};
pub use unroll::{ScaleChoice, choose_scale};
