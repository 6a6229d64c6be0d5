//! Sound files, from which broken ones are made.

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat};
use ir_models::{
    Architecture, Checkpoint, DataDescription, Normalization, ResNet, Schedule, Sgd, Trainer,
    TrainingSettings,
};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/ir-data/tests/fixtures/", $name))
    };
}

/// A binary batch of CIFAR-10.
pub const BINARY_10: &[u8] = fixture!("binary10/test_batch.bin");
/// A binary batch of CIFAR-100.
pub const BINARY_100: &[u8] = fixture!("binary100/test.bin");
/// A python batch of CIFAR-10 that says that it is the test split.
pub const PYTHON_TEST: &[u8] = fixture!("python10/test_batch");

const PYTHON: [&[u8]; 8] = [
    fixture!("python10/data_batch_1"),
    fixture!("python100/train"),
    fixture!("pickles/protocol2"),
    fixture!("pickles/protocol3"),
    fixture!("pickles/protocol4"),
    fixture!("pickles/protocol5"),
    fixture!("pickles/column_major5"),
    fixture!("pickles/four_dimensions"),
];

const PARQUET: [&[u8]; 3] = [
    fixture!("parquet10/plain_text/train-00000-of-00001.parquet"),
    fixture!("parquet100/cifar100/train-00000-of-00001.parquet"),
    fixture!("parquet10_other/data/train/0000.parquet"),
];

macro_rules! weights {
    ($name:literal) => {
        include_bytes!(concat!(
            "../../crates/ir-models/tests/pytorch/fixtures/files/",
            $name
        ))
    };
}

/// Weights as `torch.save` writes a dictionary of them.
pub const STATE: &[u8] = weights!("state.pth");
/// A pickle that runs a command of the system's in Python.
pub const COMMAND: &[u8] = weights!("hostile.pth");

const WEIGHTS: [&[u8]; 6] = [
    STATE,
    weights!("training.pth"),
    weights!("one-storage.pth"),
    weights!("parameters.pth"),
    weights!("float16.safetensors"),
    COMMAND,
];

const TIMM: &str = r#"{"architecture":"resnet18","num_classes":2,"label_names":["a","b"],"pretrained_cfg":
{"input_size":[3,224,224],"interpolation":"bicubic","crop_pct":0.95,"crop_mode":"center","mean":[0.5,0.4,0.3],"std":[0.2,0.2,0.2]}}"#;

const HUGGING_FACE: &str = r#"{"id2label":{"0":"a","1":"b"},"downsample_in_bottleneck":true,"hidden_act":"relu",
"crop_pct":0.875,"size":{"shortest_edge":224},"resample":3,"image_mean":[0.5,0.4,0.3],"image_std":[0.2,0.2,0.2],
"do_center_crop":true,"crop_size":{"height":224,"width":224}}"#;

/// An architecture small enough to be built in microseconds.
pub const TINY: &str = r#"{"name":"tiny","classes":3,"image":[3,8,8],"stem_channels":2,"head_pooling":4,
"stages":[{"blocks":2,"channels":2},{"blocks":1,"channels":3,"entrance":{"transition":{"stride":2}}}]}"#;

const SHARED: &str = r#"{"name":"shared","classes":2,"image":[3,8,8],"stem_channels":2,"head_pooling":4,
"stages":[{"blocks":3,"channels":2,"sharing":{"first":1,"statistics":"step","affine":"shared","initial_gamma":0.1}},
{"blocks":1,"channels":2,"entrance":"average_pooling"}]}"#;

/// The sound files of a target, by its name.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "architecture" => [TINY, SHARED].map(|text| text.as_bytes().to_vec()).into(),
        "binary_batch" => [BINARY_10, BINARY_100].map(<[u8]>::to_vec).into(),
        "checkpoint" => checkpoints(),
        "class_names" => vec![b"circle\nsquare\ntriangle\n".to_vec()],
        "hub_reference" => vec![b"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f".to_vec()],
        "image" => images(),
        "model_config" => [TIMM, HUGGING_FACE]
            .map(|text| text.as_bytes().to_vec())
            .into(),
        "photograph" => {
            let mut files = images();
            files.push(fixture!("images/cat/tall.jpg").to_vec());
            files
        }
        "weights" => WEIGHTS.map(<[u8]>::to_vec).into(),
        "parquet" => {
            let mut files = vec![sound_parquet()];
            files.extend(PAGES.map(|pages| {
                let images = images();
                let images: Vec<&[u8]> = images.iter().take(2).map(Vec::as_slice).collect();
                parquet_of(&images, &[1, 2], pages)
            }));
            files.extend(PARQUET.map(<[u8]>::to_vec));
            files
        }
        "python_batch" => PYTHON.map(<[u8]>::to_vec).into(),
        _ => Vec::new(),
    }
}

/// How the pages of a parquet file are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pages {
    /// Snappy instead of nothing.
    pub compressed: bool,
    /// With dictionaries.
    pub dictionary: bool,
    /// Pages of version 2.
    pub version_2: bool,
}

const PAGES: [Pages; 4] = [
    Pages {
        compressed: true,
        dictionary: true,
        version_2: false,
    },
    Pages {
        compressed: false,
        dictionary: true,
        version_2: true,
    },
    Pages {
        compressed: true,
        dictionary: false,
        version_2: true,
    },
    Pages {
        compressed: false,
        dictionary: false,
        version_2: false,
    },
];

/// A parquet file with one sound image.
#[must_use]
pub fn sound_parquet() -> Vec<u8> {
    parquet_of(&[&images()[0]], &[3], Pages::default())
}

/// A parquet file with these compressed images and labels.
#[must_use]
pub fn parquet_of(images: &[&[u8]], labels: &[i64], pages: Pages) -> Vec<u8> {
    let schema =
        "message m { optional group img { optional binary bytes; } optional int64 label; }";
    let compression = match pages.compressed {
        true => Compression::SNAPPY,
        false => Compression::UNCOMPRESSED,
    };
    let version = match pages.version_2 {
        true => WriterVersion::PARQUET_2_0,
        false => WriterVersion::PARQUET_1_0,
    };
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(pages.dictionary)
        .set_writer_version(version)
        .build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let values: Vec<ByteArray> = images.iter().map(|image| image.to_vec().into()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    let levels = vec![2; values.len()];
    let typed = column.typed::<ByteArrayType>();
    typed.write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let levels = vec![1; labels.len()];
    let typed = column.typed::<Int64Type>();
    typed.write_batch(labels, Some(&levels), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Images of 32 × 32 pixels, PNG and WebP.
#[must_use]
pub fn images() -> Vec<Vec<u8>> {
    let rgb = image::RgbImage::from_fn(32, 32, |x, y| {
        image::Rgb([(7 * x) as u8, (5 * y) as u8, 90])
    });
    let rgb = DynamicImage::ImageRgb8(rgb);
    let grey = DynamicImage::ImageLuma8(rgb.to_luma8());
    let opaque = DynamicImage::ImageRgba8(rgb.to_rgba8());
    [
        (&rgb, ImageFormat::Png),
        (&rgb, ImageFormat::WebP),
        (&grey, ImageFormat::Png),
        (&opaque, ImageFormat::Png),
    ]
    .map(|(image, format)| encode(image, format))
    .into()
}

/// An image as the bytes of a file.
#[must_use]
pub fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The checkpoint as the first version of the format had it, without a checksum, so that damage is
/// not found before it is read.
///
/// ```
/// let sound = ir_hostile::seeds::of("checkpoint").remove(0);
/// let old = ir_hostile::seeds::without_checksum(&sound);
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("old"), old)?;
/// ir_models::Checkpoint::open(&folder.path().join("old"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn without_checksum(checkpoint: &[u8]) -> Vec<u8> {
    let (length, rest) = checkpoint.split_first_chunk().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    metadata.insert("format_version".into(), "1".into());
    metadata.remove("sha256");
    let header = header.to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_slice(), tensors].concat()
}

fn checkpoints() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let data = DataDescription {
        dataset: Some("synthetic".into()),
        normalization: Some(Normalization {
            mean: [0.5, 0.25, 0.125],
            std: [0.1, 0.2, 0.3],
        }),
    };
    let mut files = Vec::new();
    for text in [TINY, SHARED] {
        let network = ResNet::initialize(&Architecture::from_json(text).unwrap(), 0).unwrap();
        Checkpoint::save_network(&path, &network, &data).unwrap();
        files.push(std::fs::read(&path).unwrap());
        let settings = TrainingSettings {
            schedule: Schedule::constant(0.1),
            sgd: Sgd::default(),
        };
        let trainer = Trainer::new(network, settings).unwrap();
        let run = serde_json::json!({ "seed": 3 });
        Checkpoint::save_training(&path, &trainer, &data, run).unwrap();
        files.push(std::fs::read(&path).unwrap());
    }
    let old: Vec<_> = files.iter().map(|file| without_checksum(file)).collect();
    files.extend(old);
    files
}
