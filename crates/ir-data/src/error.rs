//! Everything that can go wrong with data, said so that a person can act on it.

use std::path::PathBuf;

/// What went wrong, where, what was expected and what to do.
///
/// Every message is one sentence that can stand alone on a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file or folder could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A file of a known format breaks that format's rules.
    #[error(
        "{}: {place}: expected {expected}, found {found}; the file is damaged or of another data set, replace or remove it",
        file.display()
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        place: String,
        /// What the format asks for there.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A parquet file is compressed in a way that is not read.
    #[error(
        "{}: column {column}: expected no compression or snappy, found {found}; write the file anew with one of these",
        file.display()
    )]
    Compression {
        /// The file.
        file: PathBuf,
        /// The column.
        column: String,
        /// Its compression.
        found: String,
    },

    /// An image is not 32 × 32 pixels.
    #[error(
        "{}: sample {sample}: expected an image of 32×32 pixels, found {width}×{height}; only data sets in CIFAR's form can be read",
        file.display()
    )]
    ImageSize {
        /// The file.
        file: PathBuf,
        /// Index of the sample within the file, from 0.
        sample: usize,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },

    /// A label is not the index of a class.
    #[error(
        "{}: sample {sample}: expected a label from 0 to {}, found {label}; the file is damaged or of another data set, replace or remove it",
        file.display(),
        classes - 1
    )]
    Label {
        /// The file.
        file: PathBuf,
        /// Index of the sample within the file, from 0.
        sample: usize,
        /// The label as it stands in the file.
        label: i64,
        /// Number of classes of the data set.
        classes: usize,
    },

    /// Images and labels that are given together do not fit together.
    #[error("expected {expected} {what}, found {found}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },

    /// A folder holds no data set in a form that this crate reads.
    #[error(
        "no CIFAR data in {}: expected parquet files, binary batches or python batches there or up to two folders deeper{}",
        folder.display(),
        listed("; not taken: ", notes)
    )]
    NoData {
        /// The folder.
        folder: PathBuf,
        /// Files that came close, each with the reason why it was not taken.
        notes: Vec<String>,
    },

    /// A folder holds more than one data set, or one split twice.
    #[error(
        "{} holds {}; name the folder that holds only the one you want",
        folder.display(),
        found.join(" and ")
    )]
    Ambiguous {
        /// The folder.
        folder: PathBuf,
        /// What was found there.
        found: Vec<String>,
    },

    /// Nothing says whether a file holds the train or the test split.
    #[error(
        "{}: cannot tell whether this is the train or the test split; put `train` or `test` into its name",
        file.display()
    )]
    UnknownSplit {
        /// The file.
        file: PathBuf,
    },

    /// A data set lacks its train or its test split.
    #[error(
        "{}: the {missing} split is missing{}; complete the folder, or name another",
        folder.display(),
        listed("; not taken: ", notes)
    )]
    MissingSplit {
        /// The folder.
        folder: PathBuf,
        /// The split, `train` or `test`.
        missing: &'static str,
        /// Files that came close, each with the reason why it was not taken.
        notes: Vec<String>,
    },

    /// One of several files that make up a split is not there.
    #[error("{}: {part} is missing from its files; complete the data set", folder.display())]
    MissingPart {
        /// The folder.
        folder: PathBuf,
        /// The file's name, as far as it is known.
        part: String,
    },

    /// A split is there and holds nothing.
    #[error("the {split} split holds no samples; complete the data set, or name another")]
    EmptySplit {
        /// The split, `train` or `test`.
        split: &'static str,
    },

    /// A folder has too many entries to be a data set's.
    #[error(
        "{} has more than {limit} entries; name the folder that holds the data set itself",
        folder.display()
    )]
    TooManyEntries {
        /// The folder.
        folder: PathBuf,
        /// The largest number of entries that is searched.
        limit: usize,
    },

    /// The text after `--data` is neither a folder nor a known name.
    #[error(
        "`{data}` is neither a folder nor a data set's name; known names: cifar10, cifar100, synthetic10 (or synthetic), synthetic100"
    )]
    UnknownName {
        /// What was asked for.
        data: String,
    },

    /// A data set is nowhere on this machine and fetching it was not allowed.
    #[error(
        "{name} is not on this machine and the network is switched off (HF_HUB_OFFLINE or --offline){}; fetch it once with `ir data fetch {name}` while online, or use `--data FOLDER`",
        listed("; looked at ", looked)
    )]
    Offline {
        /// The data set.
        name: String,
        /// Every place that was looked at, with what was found there.
        looked: Vec<String>,
    },

    /// A data set could not be fetched.
    #[error(
        "cannot fetch {name} from {endpoint}: {reason}{}; check the network, or put the files into a folder and use `--data FOLDER`",
        listed("; not on this machine either, looked at ", looked)
    )]
    Fetch {
        /// The data set.
        name: String,
        /// The hub's address.
        endpoint: String,
        /// What the transfer said.
        reason: String,
        /// Every place that was looked at before, with what was found there.
        looked: Vec<String>,
    },

    /// The name of a model on the hub cannot be one.
    #[error(
        "`{reference}` is no model on the hub: expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
    )]
    ModelReference {
        /// What was given.
        reference: String,
    },

    /// A model's weights are not on this machine and fetching them was not allowed.
    #[error(
        "{model} is not in {cache} and the network is switched off (HF_HUB_OFFLINE or --offline); fetch it \
         once while online, or name a file or folder"
    )]
    ModelOffline {
        /// The model.
        model: String,
        /// The hub's cache.
        cache: String,
    },

    /// A model could not be fetched.
    #[error(
        "cannot fetch {model} from {endpoint}: {reason}; check the name and the network, or name a file or folder"
    )]
    FetchModel {
        /// The model.
        model: String,
        /// The hub's address.
        endpoint: String,
        /// What the transfer said.
        reason: String,
    },

    /// More samples were asked for than a split has.
    #[error("expected at least 1 and at most {available} samples, found {asked} asked for")]
    Samples {
        /// How many were asked for.
        asked: usize,
        /// How many the split has.
        available: usize,
    },

    /// The batch size is zero, or leaves no batch at all.
    #[error(
        "expected a batch size from 1 to {samples} (the number of samples, as incomplete batches are dropped), found {batch_size}"
    )]
    BatchSize {
        /// The batch size asked for.
        batch_size: usize,
        /// Number of samples to make batches of.
        samples: usize,
    },

    /// A normalisation cannot be applied.
    #[error(
        "channel {channel}: expected a finite mean and a finite standard deviation above 0, found {mean} and {std}"
    )]
    Normalization {
        /// The channel: 0 red, 1 green, 2 blue.
        channel: usize,
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },

    /// A folder has no images.
    #[error(
        "{}: no images (.jpg, .jpeg, .png, .webp) in it; expected one folder a class with the images of that class, \
         in the folder itself or in `train` and `val`",
        folder.display()
    )]
    NoImages {
        /// The folder.
        folder: PathBuf,
    },

    /// One class of a folder has no images while others have.
    #[error("{}: no images (.jpg, .jpeg, .png, .webp) in it, though other classes have some; remove the folder or complete it", folder.display())]
    EmptyClass {
        /// The folder of the class.
        folder: PathBuf,
    },

    /// Nothing says which of a network's classes a folder's are.
    #[error(
        "{}: it has {found} classes and the network {expected}, and their names are not the network's; \
         say which is which with --classes FILE: a JSON object from folder to index, or the \
         folders of the network's classes one a line in their order",
        folder.display()
    )]
    Classes {
        /// The folder.
        folder: PathBuf,
        /// Its classes.
        found: usize,
        /// The network's.
        expected: usize,
    },

    /// A map from folders to classes cannot be taken.
    #[error("{}: {reason}", file.display())]
    ClassMap {
        /// The file.
        file: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },

    /// Images cannot be prepared as asked for.
    #[error("{what}: expected {expected}, found {found}")]
    Preparation {
        /// What is asked for.
        what: &'static str,
        /// What is possible.
        expected: &'static str,
        /// What was given.
        found: String,
    },

    /// The folder to write to is already there and not empty.
    #[error("{} exists and is not empty; name a new folder", path.display())]
    OutputExists {
        /// The folder.
        path: PathBuf,
    },

    /// The thread that prepares batches ended before its work was done.
    #[error("the thread that prepares batches ended before its work was done")]
    Worker,

    /// An operation of ir-tensor-ops failed: there was not enough memory on a GPU, say.
    #[error(transparent)]
    Operation(#[from] ir_tensor_ops::Error),

    /// Candle could not make a tensor.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The result of reading or preparing data.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `prefix` and the entries, or nothing where there are none.
fn listed(prefix: &str, entries: &[String]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    format!("{prefix}{}", entries.join(", "))
}
