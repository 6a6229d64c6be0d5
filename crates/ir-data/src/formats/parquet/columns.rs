//! Which columns of a parquet file hold images and labels, and of which label set.

use parquet::basic::Type;
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use serde_json::Value;

use crate::classes::LabelSet;
use crate::formats::excerpt;

/// Where the needed columns stand, among all leaves of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub(super) image: usize,
    pub(super) label: usize,
    pub(super) labels: LabelSet,
}

impl Columns {
    /// Finds the columns by name and type, or says why the file is none of CIFAR's.
    pub(super) fn find(metadata: &FileMetaData) -> Result<Self, String> {
        let schema = metadata.schema_descr();
        let image = position(schema, |column| {
            column.physical_type() == Type::BYTE_ARRAY && is_image(column.path().parts())
        });
        let label = |name: &str| {
            position(schema, |column| {
                let is_integer = matches!(column.physical_type(), Type::INT32 | Type::INT64);
                is_integer && column.path().parts() == [name]
            })
        };
        let (image, label, name) = match (image, label("fine_label"), label("label")) {
            (Some(image), Some(label), _) => (image, label, "fine_label"),
            (Some(image), None, Some(label)) => (image, label, "label"),
            _ => return Err(describe(schema)),
        };
        let labels = match class_names(metadata, name) {
            Some(names) => label_set(&names)?,
            None if name == "fine_label" => LabelSet::Cifar100,
            None => LabelSet::Cifar10,
        };
        Ok(Self {
            image,
            label,
            labels,
        })
    }
}

fn position(
    schema: &SchemaDescriptor,
    wanted: impl Fn(&ColumnDescriptor) -> bool,
) -> Option<usize> {
    schema
        .columns()
        .iter()
        .position(|column| column.max_rep_level() == 0 && wanted(column))
}

fn is_image(path: &[String]) -> bool {
    match path {
        [name] => name == "img" || name == "image",
        [name, field] => (name == "img" || name == "image") && field == "bytes",
        _ => false,
    }
}

/// The class names that the hub's tools write into the footer:
/// `{"info": {"features": {"label": {"names": ["airplane", …]}}}}` under `huggingface`.
fn class_names(metadata: &FileMetaData, column: &str) -> Option<Vec<String>> {
    let entries = metadata.key_value_metadata()?;
    let entry = entries.iter().find(|entry| entry.key == "huggingface")?;
    let content: Value = serde_json::from_str(entry.value.as_ref()?).ok()?;
    let names = content["info"]["features"][column]["names"].as_array()?;
    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
    names.collect()
}

/// The label set that has these names, most of them at least: copies spell some in their
/// own way.
fn label_set(names: &[String]) -> Result<LabelSet, String> {
    [LabelSet::Cifar10, LabelSet::Cifar100]
        .into_iter()
        .find(|labels| {
            let classes = labels.classes();
            let pairs = names.iter().zip(classes);
            let equal = pairs.filter(|(name, class)| name == class).count();
            names.len() == classes.len() && 2 * equal > classes.len()
        })
        .ok_or_else(|| {
            let first: Vec<_> = names.iter().take(3).map(|name| excerpt(name)).collect();
            let first = first.join(", ");
            format!("{} classes that are not CIFAR's: {first}, …", names.len())
        })
}

fn describe(schema: &SchemaDescriptor) -> String {
    let columns = schema
        .columns()
        .iter()
        .take(8)
        .map(|column| {
            let name = excerpt(&column.path().string());
            format!("{name} {}", column.physical_type())
        })
        .collect::<Vec<_>>()
        .join(", ");
    format!("the columns {columns}, and not img.bytes BYTE_ARRAY with label or fine_label INT64")
}
