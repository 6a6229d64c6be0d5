//! Opening data sets and making batches of them for the two loops that read them.

use anyhow::Result;
use candle_core::{Device, Tensor};
use indicatif::HumanBytes;
use ir_data::{Batch, BatchOptions, Dataset, Loader, Locations, Normalization, Split};

use crate::arguments::Source;
use crate::progress;

/// Opens what `--data` names, saying on stderr's spinner that it does.
pub(crate) fn open(source: &Source) -> Result<Dataset> {
    open_named(&source.data, source.offline)
}

/// Opens a folder or a named data set.
pub(crate) fn open_named(data: &str, offline: bool) -> Result<Dataset> {
    let spinner = progress::spinner(format!("reading {data}"));
    let mut locations = Locations::from_env();
    locations.offline |= offline;
    let dataset = Dataset::open_with_progress(data, &locations, &mut |fetched| {
        let (done, total) = (HumanBytes(fetched.done), HumanBytes(fetched.total));
        spinner.set_message(format!("fetching {}: {done} of {total}", fetched.file));
    })?;
    spinner.finish_and_clear();
    Ok(dataset)
}

/// The first `samples` samples of a split in stored order, as evaluation reads them.
pub(crate) fn evaluation(
    split: &Split,
    samples: Option<usize>,
    batch_size: usize,
    normalization: Normalization,
) -> Result<Loader> {
    let samples = samples.map(|samples| samples.min(split.len()));
    let options = BatchOptions {
        samples,
        ..BatchOptions::evaluation(batch_size, normalization)
    };
    Ok(Loader::new(split.clone(), options)?)
}

/// A batch as networks read it.
pub(crate) fn pair(batch: ir_data::Result<Batch>) -> ir_data::Result<(Tensor, Tensor)> {
    batch.map(|batch| (batch.images, batch.labels))
}

/// Batches with their images on the device that computes: what a network makes of them then stays there.
pub(crate) fn pairs(
    batches: impl Iterator<Item = ir_data::Result<Batch>>,
    device: &Device,
) -> impl Iterator<Item = ir_data::Result<(Tensor, Tensor)>> {
    batches.map(|batch| {
        let (images, labels) = pair(batch)?;
        Ok((images.to_device(device)?, labels))
    })
}

/// The checksums of both splits, as results carry them.
pub(crate) fn checksum(dataset: &Dataset) -> String {
    format!(
        "sha256 train {} test {}",
        dataset.train().checksum(),
        dataset.test().checksum()
    )
}
