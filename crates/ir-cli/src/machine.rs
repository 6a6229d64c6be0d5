//! What a result has to say about where it was computed.

use anyhow::{Context, Result};

use crate::engine::Target;
use crate::run::Machine;

/// Sets the number of threads of everything that computes; all cores if `None`.
pub(crate) fn use_threads(threads: Option<u16>) -> Result<()> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, usize::from));
    builder.build_global().context("starting threads")
}

/// The machine, as far as it says what it is, and the GPU of it that computed.
pub(crate) fn describe(target: &Target) -> Machine {
    let (gpu, precision) = target.gpu().unzip();
    Machine {
        cpu: cpu_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: rayon::current_num_threads(),
        instruction_set: ir_tensor_ops::instruction_set().into(),
        gpu,
        precision: precision.map(Into::into),
    }
}

/// The processor's name, where Linux tells.
fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The machine's name on the network, where the system tells.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map_or_else(|| "an unnamed host".into(), |name| name.trim().to_owned())
}
