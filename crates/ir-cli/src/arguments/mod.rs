//! The command line, as typed.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::Serialize;

mod runs;

pub(crate) use runs::{Compare, Export, Report, Watch};

/// Train residual networks and see what their blocks do to the loss.
///
/// Results go to stdout, progress to stderr. Exit status: 0 done, 1 failed, 2 wrong usage,
/// 130, 143 or 129 interrupted (SIGINT, SIGTERM, SIGHUP) after a checkpoint was written. Colours
/// are for terminals; NO_COLOR=1 turns them off.
#[derive(Debug, Parser)]
#[command(name = "ir", version = env!("IR_VERSION"), propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Threads to compute with; all cores by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// What is asked for twice, in ways that exclude each other.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        match &self.command {
            Command::Train(train)
                if train.device == Device::Cpu && train.precision != Precision::F32 =>
            {
                Some("--precision bf16 is for --device cuda: the processor computes in f32")
            }
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the networks of the paper: blocks, stages, parameters.
    #[command(after_help = "Example: ir models --json")]
    Models(Models),
    /// See, fetch or draw data sets.
    #[command(subcommand, after_help = "Example: ir data info cifar10")]
    Data(Data),
    /// Write the checkpoint of an untrained network.
    #[command(after_help = "Example: ir init resnet-32 --seed 0 --out untrained.safetensors")]
    Init(Init),
    /// Train a network; an interrupted run goes on with --resume.
    #[command(
        after_help = "Example: ir train resnet-32 --data cifar10 --epochs 10 --out runs/resnet-32"
    )]
    Train(Train),
    /// Measure what the blocks of a trained network do.
    #[command(
        after_help = "Example: ir analyze runs/resnet-32/checkpoint.safetensors --data cifar10 --samples 2000 \
                      --out runs/resnet-32/results.json\n         ir analyze hf:timm/resnet18.a1_in1k --data imagenette2/val --classes synsets.txt"
    )]
    Analyze(Analyze),
    /// Draw the figures and write report.html from one or several runs.
    #[command(after_help = "Example: ir report runs/resnet-32 runs/single --out report")]
    Report(Report),
    /// Show two or more runs side by side: settings that differ, losses, cosines, exits.
    #[command(after_help = "Example: ir compare runs/seed0 runs/seed1")]
    Compare(Compare),
    /// Show a run, in progress or done, in the terminal.
    #[command(
        after_help = "Keys: t the other split, ← and → another epoch, Home the first, End the last, q quit\n\n\
                            Example: ir watch runs/resnet-32"
    )]
    Watch(Watch),
    /// Write what training recorded in another program's format.
    #[command(after_help = "Example: ir export runs/resnet-32 --tensorboard logs/resnet-32")]
    Export(Export),
    /// Print the completions of a shell, to be read by it or kept where it looks for them.
    #[command(
        after_help = "Example: ir completions bash > ~/.local/share/bash-completion/completions/ir"
    )]
    Completions(Completions),
    /// Write the manual, a page for each command.
    #[command(after_help = "Example: ir man --out ~/.local/share/man/man1")]
    Man(Man),
}

/// Arguments of `ir models`.
#[derive(Debug, Args)]
pub(crate) struct Models {
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where data comes from.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Source {
    /// A folder (CIFAR's binary or python batches, the hub's parquet files, or for analysis one
    /// sub-folder of images a class), `cifar10`,
    /// `cifar100`, `synthetic10` or `synthetic100`. Names are looked for in $IR_DATA, ./data and
    /// the Hugging Face cache, then fetched.
    #[arg(long, value_name = "FOLDER|NAME")]
    pub(crate) data: String,

    /// Never use the network; HF_HUB_OFFLINE=1 says the same.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) offline: bool,
}

/// Subcommands of `ir data`.
#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Say what is there: where from, checksums, mean and standard deviation per channel.
    #[command(after_help = "Example: ir data info cifar10")]
    Info(DataInfo),
    /// Fetch a data set into the Hugging Face cache.
    #[command(after_help = "Example: ir data fetch cifar100")]
    Fetch(DataFetch),
    /// Draw the synthetic data set and write it as CIFAR's binary batches.
    #[command(after_help = "Example: ir data synthesize --classes 10 --out data/synthetic10")]
    Synthesize(DataSynthesize),
}

/// Arguments of `ir data info`.
#[derive(Debug, Args)]
pub(crate) struct DataInfo {
    /// A folder or a name, as in --data of the other commands.
    #[arg(value_name = "FOLDER|NAME")]
    pub(crate) data: String,

    /// Never use the network.
    #[arg(long)]
    pub(crate) offline: bool,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ir data fetch`.
#[derive(Debug, Args)]
pub(crate) struct DataFetch {
    /// `cifar10` or `cifar100`.
    pub(crate) name: String,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ir data synthesize`.
#[derive(Debug, Args)]
pub(crate) struct DataSynthesize {
    /// Number of classes: 10 or 100.
    #[arg(long, default_value_t = 10, value_parser = parse_classes)]
    pub(crate) classes: usize,

    /// What the images are a function of.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Training images.
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    pub(crate) train_samples: usize,

    /// Test images.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) test_samples: usize,

    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `ir init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// A network of the paper, or a JSON file with an architecture.
    #[arg(value_name = "NAME|FILE.json")]
    pub(crate) model: String,

    /// What the initial weights are a function of.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// The data set that it is for; gives the number of classes.
    #[arg(long, value_enum, default_value_t = NamedDataset::Cifar10)]
    pub(crate) dataset: NamedDataset,

    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A data set that gives a number of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NamedDataset {
    /// 10 classes.
    Cifar10,
    /// 100 classes.
    Cifar100,
}

/// Arguments of `ir train`, which a file given with `--config` sets by their long names. What is
/// serialized is what describes the run.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Train {
    /// A network of the paper, or a JSON file with an architecture.
    #[arg(value_name = "NAME|FILE.json")]
    pub(crate) model: String,

    /// Take what is not said here from this TOML file: `epochs = 10`, `batch-size = 64`, every
    /// argument by its long name, the network as `model`. A run keeps its own as config.toml.
    #[arg(long, value_name = "FILE.toml")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) source: Source,

    /// The folder to write: config.toml, run.json, history.jsonl, blocks.csv, exits.csv,
    /// checkpoint.safetensors, best.safetensors.
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,

    /// Passes over the training images; the paper's number by default, and with 0 the network is
    /// only measured as it is before its first step.
    #[arg(long, value_name = "N", value_parser = count(0..=1_000_000))]
    pub(crate) epochs: Option<usize>,

    /// Images in a step.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = count(1..=1_000_000))]
    pub(crate) batch_size: usize,

    /// What every random number is a function of: initial weights, order, augmentation.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Learning rate by epoch: `paper`, `scaled` (the paper's, changes moved in proportion to
    /// --epochs), or pieces such as 0:0.1,6:0.01 (from epoch 0 on 0.1, from epoch 6 on 0.01).
    #[arg(long, default_value = "scaled", value_name = "SCHEDULE")]
    pub(crate) schedule: String,

    /// Momentum of the optimiser.
    #[arg(long, default_value_t = 0.9, value_parser = parse_factor)]
    pub(crate) momentum: f64,

    /// Weight decay, on the weights of convolutions and of the classifier.
    #[arg(long, default_value_t = 1e-4, value_parser = parse_factor)]
    pub(crate) weight_decay: f64,

    /// Train on the images as they are, without flips and translations.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) no_augmentation: bool,

    /// Train on the first N images only.
    #[arg(long, value_name = "N", value_parser = count(1..=1_000_000_000))]
    pub(crate) train_samples: Option<usize>,

    /// Evaluate on the first N test images only.
    #[arg(long, value_name = "N", value_parser = count(1..=1_000_000_000))]
    pub(crate) test_samples: Option<usize>,

    /// Record every block's cosine, ratio and norms and every exit of the last stage each N epochs,
    /// before the first and after the last, in blocks.csv and exits.csv; 0 for never.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) measure_every: usize,

    /// On the first N images of each split.
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = count(1..=1_000_000_000))]
    pub(crate) measure_samples: usize,

    /// Keep the last N checkpoints, besides the one with the highest test accuracy.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = count(1..=1_000_000))]
    pub(crate) keep: usize,

    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub(crate) device: Device,

    /// What a GPU stores activations and the weights of convolutions as. Parameters, sums and
    /// statistics are f32 either way.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub(crate) precision: Precision,

    /// Go on with the run in --out, or start it where there is none.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    #[serde(skip)]
    pub(crate) resume: bool,

    /// Print what the run came to as one JSON document.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
          default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    #[serde(skip)]
    pub(crate) json: bool,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Device {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, in a program that was built for it.
    Cuda,
}

/// What numbers are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    /// 24 bits of significand.
    F32,
    /// 8 bits of significand, on tensor cores.
    Bf16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// Arguments of `ir analyze`.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// A checkpoint of `ir train` or `ir init`, or the folder of a run, for its newest; or a ResNet
    /// of torchvision, timm or Hugging Face: a file of weights (.safetensors, .pth, .bin), a folder
    /// with one and its config.json, or a model on the hub. By default the resnet-32 that comes with
    /// this program, trained on CIFAR-10 for the paper's 300 epochs.
    #[arg(value_name = "CHECKPOINT|FILE|FOLDER|hf:OWNER/NAME")]
    pub(crate) network: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) source: Source,

    #[command(flatten)]
    pub(crate) import: Import,

    /// Which split; both by default.
    #[arg(long, value_enum)]
    pub(crate) split: Option<SplitName>,

    /// The first N images of each split, in stored order; all by default.
    #[arg(long, value_name = "N", value_parser = count(1..=1_000_000_000))]
    pub(crate) samples: Option<usize>,

    /// Images in a batch: memory grows with it, results do not depend on it. 100 by default, and
    /// fewer for someone else's network where these would need more than 2 GiB.
    #[arg(long, value_name = "N", value_parser = count(1..=1_000_000))]
    pub(crate) batch_size: Option<usize>,

    /// Take fewer images in a batch where the analysis would need more memory than this, such as
    /// 2GiB: by an estimate, not a guarantee.
    #[arg(long, value_name = "SIZE", value_parser = crate::memory::parse_size)]
    pub(crate) memory_limit: Option<u64>,

    /// Where to compute: on a GPU a network of ours, in f32.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub(crate) device: Device,

    /// What to measure, separated by commas: the paper's cosine, exit-cosine, ratio, drop, exits,
    /// unroll, taylor (these by default); of the works beside it delete, reorder, paths,
    /// estimation, readouts; `paper` for the former, `all` for all.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "MEASURES",
        default_value = "paper"
    )]
    pub(crate) measures: Vec<Measures>,

    /// Random draws for each number of deleted or swapped blocks and each length of a path.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = count(1..=10_000))]
    pub(crate) draws: usize,

    /// What these draws are a function of.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub(crate) draw_seed: u64,

    /// Additional applications of the last block.
    #[arg(long, default_value_t = 20, value_name = "K", value_parser = count(0..=10_000))]
    pub(crate) unroll_steps: usize,

    /// Factor on the unrolled branch: a number, or `auto` for the one with the lowest loss on
    /// the training split. The unscaled unrolling is always measured too.
    #[arg(long, default_value = "auto", value_name = "FACTOR|auto")]
    pub(crate) unroll_scale: String,

    /// The exit at which the groups are decided: the first of the five shown, or the last.
    #[arg(long, value_enum, default_value_t = Reference::First)]
    pub(crate) reference_exit: Reference,

    /// Write the results to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Print the results as one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One or several measures by one name.
#[derive(Debug, Clone)]
pub(crate) struct Measures(pub(crate) Vec<ir_analysis::Measure>);

impl std::str::FromStr for Measures {
    type Err = ir_analysis::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(Self(match name {
            "paper" => ir_analysis::Measure::PAPER.into(),
            "all" => ir_analysis::Measure::all().collect(),
            one => vec![one.parse()?],
        }))
    }
}

/// How someone else's network is read, and how its images are prepared. What is not given here is
/// read from the network's config.json.
#[derive(Debug, Args)]
#[command(next_help_heading = "Other people's networks")]
pub(crate) struct Import {
    /// Mean of red, green and blue on the 0–1 scale.
    #[arg(long, value_name = "R,G,B", value_parser = parse_channels)]
    pub(crate) mean: Option<[f64; 3]>,

    /// Standard deviation of red, green and blue on the 0–1 scale.
    #[arg(long, value_name = "R,G,B", value_parser = parse_channels)]
    pub(crate) std: Option<[f64; 3]>,

    /// Height and width of the images that the network reads.
    #[arg(long, value_name = "PIXELS", value_parser = count(1..=4096))]
    pub(crate) input_size: Option<usize>,

    /// The shorter edge of an image is scaled to the input's size divided by this, and the centre
    /// cut out; where nothing says otherwise 0.875, and 1 for inputs up to 64 pixels.
    #[arg(long, value_name = "FRACTION", value_parser = parse_factor)]
    pub(crate) crop: Option<f64>,

    /// How images are scaled; bilinear where nothing says otherwise.
    #[arg(long, value_enum)]
    pub(crate) interpolation: Option<InterpolationName>,

    /// Which folder of images is which class of the network: a JSON object from folder to index, or
    /// the folders of the network's classes one a line in their order.
    #[arg(long, value_name = "FILE")]
    pub(crate) classes: Option<PathBuf>,

    /// Accept a file with tensors that the network has no use for. Missing ones are never accepted.
    #[arg(long)]
    pub(crate) allow_unexpected: bool,
}

/// How images are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InterpolationName {
    /// The nearest pixel.
    Nearest,
    /// Linear, averaging over the pixels that fall together.
    Bilinear,
    /// Cubic, likewise.
    Bicubic,
    /// Lanczos with three lobes, likewise.
    Lanczos,
}

/// A split of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitName {
    /// The images that networks are trained on.
    Train,
    /// The others.
    Test,
}

impl SplitName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// The exit at which the groups are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reference {
    /// The first of the five exits shown.
    First,
    /// The network itself.
    Final,
}

/// Arguments of `ir completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Whose completions.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Arguments of `ir man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder to write: ir.1 and a page for each command.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

/// A number of things, within what memory and a person's patience hold.
fn count(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (0.0..f64::INFINITY).contains(&factor) => Ok(factor),
        _ => Err("expected a finite number, 0 or above".into()),
    }
}

fn parse_channels(text: &str) -> Result<[f64; 3], String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let numbers = numbers
        .ok()
        .filter(|numbers| numbers.iter().all(|n: &f64| n.is_finite()));
    let numbers: Option<[f64; 3]> = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| "expected three numbers such as 0.485,0.456,0.406".into())
}

fn parse_classes(text: &str) -> Result<usize, String> {
    match text {
        "10" => Ok(10),
        "100" => Ok(100),
        _ => Err("expected 10 or 100".into()),
    }
}
