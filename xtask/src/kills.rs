//! `cargo xtask kills`: training runs that are killed at random moments and go on to the same bytes.
//!
//! SIGKILL leaves a process no time for anything, as a power cut or the out-of-memory killer does.
//! The network and its images are so small that much of a run's time is spent writing checkpoints:
//! some of the kills fall inside a write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::elapsed::Elapsed;
use crate::reproduce;

/// Trains in a fraction of a second and has all kinds of tensors.
const NETWORK: &str = r#"{ "name": "tiny", "classes": 10, "stem_channels": 4,
  "stages": [{ "blocks": 1, "channels": 4 },
             { "blocks": 1, "channels": 8, "entrance": { "transition": { "stride": 2 } } }] }"#;

/// What a run has to agree in.
const COMPARED: [&str; 4] = [
    "checkpoint.safetensors",
    "best.safetensors",
    "blocks.csv",
    "exits.csv",
];

/// Arguments of `cargo xtask kills`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask kills --kills 100")]
pub(crate) struct Args {
    /// How many processes to kill.
    #[arg(long, default_value_t = 100, value_name = "N")]
    kills: usize,
    /// What the moments are drawn from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Use this `ir` instead of building one.
    #[arg(long, value_name = "PATH")]
    ir: Option<PathBuf>,
}

/// Kills as many runs as asked for, and fails if one ends otherwise than the undisturbed one.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let ir = reproduce::ir(args.ir.as_deref())?;
    let folder = tempfile::tempdir().context("making a folder for the runs")?;
    let course = Course::new(ir.canonicalize()?, folder.path())?;
    let started = Instant::now();
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let mut tally = Tally::default();
    while tally.kills < args.kills {
        course.disturbed_run(args.kills, &mut random, &mut tally)?;
    }
    println!(
        "{} kills in {} runs, {} before the first checkpoint, {} inside a write; every run ended with the bytes of \
         the undisturbed one ({})",
        tally.kills,
        tally.runs,
        tally.before_a_checkpoint,
        tally.inside_a_write,
        Elapsed(started.elapsed())
    );
    Ok(ExitCode::SUCCESS)
}

/// What has happened so far.
#[derive(Default)]
struct Tally {
    kills: usize,
    runs: usize,
    before_a_checkpoint: usize,
    inside_a_write: usize,
}

/// The runs' common ground: what is trained, and what undisturbed training comes to.
struct Course<'a> {
    ir: PathBuf,
    folder: &'a Path,
    /// How long the undisturbed run took.
    whole: Duration,
    expected: Vec<Vec<u8>>,
}

impl<'a> Course<'a> {
    fn new(ir: PathBuf, folder: &'a Path) -> Result<Self> {
        fs::write(folder.join("tiny.json"), NETWORK)?;
        let mut course = Self {
            ir,
            folder,
            whole: Duration::ZERO,
            expected: Vec::new(),
        };
        let images = "data synthesize --train-samples 64 --test-samples 20 --out images";
        course.finish(course.command(images).spawn()?)?;
        let started = Instant::now();
        course.finish(course.train("undisturbed", 1)?)?;
        course.whole = started.elapsed();
        course.expected = course.outcome("undisturbed")?;
        Ok(course)
    }

    /// One run, killed again and again until it gets to its end before its time or all `kills` are
    /// done; then it goes on undisturbed.
    fn disturbed_run(
        &self,
        kills: usize,
        random: &mut ChaCha8Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let name = format!("run{}", tally.runs);
        tally.runs += 1;
        loop {
            // Neither does the number of threads change what a run comes to.
            let mut child = self.train(&name, random.random_range(1..=4))?;
            if tally.kills == kills {
                self.finish(child)?;
                break;
            }
            std::thread::sleep(self.whole.mul_f64(random.random()));
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "{name} ended with {status}");
                break;
            }
            child.kill()?;
            child.wait()?;
            tally.kills += 1;
            let names = self.names(&name)?;
            tally.inside_a_write += usize::from(names.iter().any(|n| n.contains(".unfinished-")));
            let begun = names.iter().any(|name| name == COMPARED[0]);
            tally.before_a_checkpoint += usize::from(!begun);
        }
        for (file, (found, expected)) in COMPARED
            .iter()
            .zip(self.outcome(&name)?.iter().zip(&self.expected))
        {
            if found != expected {
                bail!(
                    "{name}/{file} differs from the undisturbed run's, after {} kills",
                    tally.kills
                );
            }
        }
        fs::remove_dir_all(self.folder.join(&name))?;
        Ok(())
    }

    fn train(&self, name: &str, threads: usize) -> Result<Child> {
        let line = "train tiny.json --data images --batch-size 16 --epochs 15 --schedule 0:0.05 \
                    --measure-every 3 --measure-samples 8 --resume --out";
        let mut command = self.command(line);
        command.args([name, "--threads", &threads.to_string()]);
        Ok(command.stderr(Stdio::piped()).spawn()?)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.ir);
        command
            .current_dir(self.folder)
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Lets a process come to its end, which has to be a good one.
    fn finish(&self, child: Child) -> Result<()> {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}\n{said}", self.ir.display(), output.status);
        }
        Ok(())
    }

    fn outcome(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        let read = |file: &&str| {
            let path = self.folder.join(name).join(file);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        COMPARED.iter().map(read).collect()
    }

    /// The files of a run, none where it has not even begun.
    fn names(&self, name: &str) -> Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(self.folder.join(name)) else {
            return Ok(Vec::new());
        };
        let name = |entry: std::io::Result<fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }
}
