//! Other people's weights: the forms of files, the names of tensors, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "pytorch/formula.rs"]
#[allow(
    dead_code,
    reason = "the weights of our own networks are not made here"
)]
mod formula;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ir_models::import::{
    BlockKind, Family, Fit, ImportedArchitecture, ImportedResNet, Interpolation, ModelConfig,
    ModelFiles, Strictness, StridePlacement, TensorReport, Weights,
};
use ir_models::{Block, Checkpoint, ResidualNetwork};

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/fixtures/files");
    folder.join(name)
}

/// The shapes of the small network of `imported_files.py`.
fn shapes() -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    let mut layer = |convolution: &str, norm: &str, shape: [usize; 4]| {
        shapes.insert(format!("{convolution}.weight"), shape.to_vec());
        for tensor in ["weight", "bias", "running_mean", "running_var"] {
            shapes.insert(format!("{norm}.{tensor}"), vec![shape[0]]);
        }
    };
    layer("conv1", "bn1", [4, 3, 3, 3]);
    layer("layer1.0.conv1", "layer1.0.bn1", [4, 4, 3, 3]);
    layer("layer1.0.conv2", "layer1.0.bn2", [4, 4, 3, 3]);
    layer("layer2.0.conv1", "layer2.0.bn1", [8, 4, 3, 3]);
    layer("layer2.0.conv2", "layer2.0.bn2", [8, 8, 3, 3]);
    layer(
        "layer2.0.downsample.0",
        "layer2.0.downsample.1",
        [8, 4, 1, 1],
    );
    shapes.insert("fc.weight".into(), vec![10, 8]);
    shapes.insert("fc.bias".into(), vec![10]);
    shapes
}

/// Its values by the formula.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let offset = if name.ends_with("running_var") {
        1.0
    } else {
        0.0
    };
    formula::uniform(1, name, shape.iter().product())
        .map(|value| value * 0.5 + offset)
        .collect()
}

/// Its tensors, with a change.
fn weights(change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> Weights {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let tensor = Tensor::from_vec(values(&name, &shape), shape, &Device::Cpu);
        (name, tensor.unwrap())
    };
    let mut tensors = shapes().into_iter().map(tensor).collect();
    change(&mut tensors);
    Weights::new(tensors)
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

fn build(weights: &Weights, strictness: Strictness) -> Result<TensorReport, String> {
    ImportedResNet::build(weights, &ModelConfig::default(), strictness)
        .map(|(_, report)| report)
        .map_err(|problem| problem.to_string())
}

#[test]
fn every_form_of_file_has_the_same_tensors() {
    for (name, counters) in [
        ("state.pth", 6),
        ("parameters.pth", 6),
        ("training.pth", 6),
        ("one-storage.pth", 0),
        ("channels-last.pth", 6),
    ] {
        let weights = Weights::open(&file(name)).unwrap();
        let report = build(&weights, Strictness::Strict).unwrap();
        assert_eq!(report.ignored.len(), counters, "{name}");
        assert_eq!(report.matched.len(), shapes().len(), "{name}");
        for (tensor, shape) in shapes() {
            let found = weights.get(&tensor).unwrap();
            assert_eq!(found.dims(), shape, "{name}: {tensor}");
            let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(found, values(&tensor, &shape), "{name}: {tensor}");
        }
    }
}

/// Values of another type are those of PyTorch's own conversion: rounded to nearest, ties to even.
#[test]
fn other_types_of_numbers_are_converted() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let name = match dtype {
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            _ => "float64",
        };
        for ending in ["pth", "safetensors"] {
            let weights = Weights::open(&file(&format!("{name}.{ending}"))).unwrap();
            build(&weights, Strictness::Strict).unwrap();
            for (tensor, shape) in shapes() {
                let exact = Tensor::new(values(&tensor, &shape), &Device::Cpu).unwrap();
                let rounded = exact.to_dtype(dtype).unwrap().to_dtype(DType::F64).unwrap();
                let found = weights.get(&tensor).unwrap();
                assert_eq!(found.dtype(), dtype, "{name}: {tensor}");
                let found = found.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
                assert_eq!(
                    found.to_vec1::<f64>().unwrap(),
                    rounded.to_vec1::<f64>().unwrap(),
                    "{name}.{ending}: {tensor}"
                );
            }
        }
    }
}

#[test]
fn a_header_of_any_length_is_one_of_safetensors() {
    // The file begins with the length of its header, whose lowest byte may be that of a pickle.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let mut lowest = std::collections::BTreeSet::new();
    for padding in 0..32 {
        let about = HashMap::from([("about".to_owned(), " ".repeat(8 * padding))]);
        let tensor = ones(&[2, 3]);
        let bytes = safetensors::serialize([("fc.weight", &tensor)], Some(about)).unwrap();
        lowest.insert(bytes[0]);
        std::fs::write(&path, bytes).unwrap();
        assert!(!Weights::is_torch_file(&path));
        assert_eq!(Weights::open(&path).unwrap().shapes()["fc.weight"], [2, 3]);
    }
    assert!(lowest.len() == 32 && lowest.contains(&0x80));
}

#[test]
fn files_that_cannot_be_taken_say_what_to_do() {
    for (name, said) in [
        ("legacy.pth", "before version 1.6"),
        ("legacy.pth", "torch.save(torch.load("),
        ("whole-model.pth", "an object of __main__.SmallResNet"),
        ("whole-model.pth", "torch.save(model.state_dict()"),
        ("hostile.pth", "no dictionary of tensors"),
        (
            "hostile-entry.pth",
            "fc.bias: expected a tensor as torch.save writes it, found a call of posix.system",
        ),
    ] {
        let error = Weights::open(&file(name)).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(name), "{error}");
    }
    // Whoever runs the pickle of these two finds this file.
    assert!(!Path::new("pickle-was-run").exists());
}

#[test]
fn a_network_is_found_by_its_tensors() {
    let found = ImportedArchitecture::identify(&shapes(), StridePlacement::default()).unwrap();
    assert_eq!(
        (found.family, found.block),
        (Family::Torchvision, BlockKind::Basic)
    );
    assert_eq!(
        (found.stem_kernel, found.stem_channels, found.classes),
        (3, 4, 10)
    );
    let stages: Vec<_> = found
        .stages
        .iter()
        .map(|s| (s.blocks, s.channels, s.stride))
        .collect();
    assert_eq!(stages, [(1, 4, 1), (1, 8, 2)]);
    let (network, _) = ImportedResNet::build(
        &weights(|_| ()),
        &ModelConfig::default(),
        Strictness::Strict,
    )
    .unwrap();
    let block = |stage, transition| Block { stage, transition };
    assert_eq!(network.blocks(), [block(0, false), block(1, true)]);
    assert!(network.branch(2, &ones(&[1, 8, 4, 4])).is_err());
}

#[test]
fn a_tensor_too_many_too_few_or_of_another_shape_is_named() {
    let report = |change: fn(&mut BTreeMap<String, Tensor>)| {
        build(&weights(change), Strictness::Strict).unwrap_err()
    };
    assert_eq!(
        report(|tensors| drop(tensors.remove("layer2.0.bn2.running_var"))),
        "38 tensors matched; missing: layer2.0.bn2.running_var"
            .replace("38", &(shapes().len() - 1).to_string())
    );
    let said = report(|tensors| {
        tensors.insert("layer2.0.bn1.bias".into(), ones(&[9]));
        tensors.insert("extra".into(), ones(&[2, 2]));
    });
    assert!(
        said.ends_with("of another shape: layer2.0.bn1.bias [9], expected [8]; unexpected: extra"),
        "{said}"
    );
    let said = report(|tensors| drop(tensors.remove("fc.weight")));
    assert!(said.ends_with("missing: fc.weight"), "{said}");
    // A second block of the first stage that lacks its second half.
    let said =
        report(|tensors| drop(tensors.insert("layer1.1.conv1.weight".into(), ones(&[4, 4, 3, 3]))));
    assert!(said.contains("missing: layer1.1.bn1.weight"), "{said}");
}

#[test]
fn only_what_is_too_much_can_be_allowed() {
    let more = weights(|tensors| drop(tensors.insert("extra".into(), ones(&[1]))));
    assert!(build(&more, Strictness::Strict).is_err());
    let report = build(&more, Strictness::AllowUnexpected).unwrap();
    assert_eq!(report.unexpected, ["extra"]);
    let less = weights(|tensors| drop(tensors.remove("fc.bias")));
    assert!(build(&less, Strictness::AllowUnexpected).is_err());
}

#[test]
fn variants_are_refused_by_the_tensor_that_shows_them() {
    for (tensor, shape, what) in [
        (
            "conv1.0.weight",
            &[4, 3, 3, 3][..],
            "a stem of several convolutions",
        ),
        (
            "layer1.0.se.fc1.weight",
            &[1, 4, 1, 1],
            "squeeze-and-excitation",
        ),
        ("layer1.0.eca.conv.weight", &[1, 1, 3], "channel attention"),
        (
            "layer2.0.downsample.1.weight",
            &[8, 4, 1, 1],
            "average pooling in the shortcut",
        ),
        ("layer1.0.aa.filt", &[4, 1, 3, 3], "anti-aliasing"),
    ] {
        let changed = weights(|tensors| drop(tensors.insert(tensor.into(), ones(shape))));
        for strictness in [Strictness::Strict, Strictness::AllowUnexpected] {
            let said = build(&changed, strictness).unwrap_err();
            assert!(said.contains(tensor) && said.contains(what), "{said}");
        }
    }
    let of = |config: &str| ModelConfig::parse(Some(config), None).map_err(|e| e.to_string());
    for name in ["resnetblur50", "resnetaa50d", "seresnextaa101d_32x8d"] {
        let said = of(&format!(r#"{{"architecture":"{name}"}}"#)).unwrap_err();
        assert!(
            said.contains(name) && said.contains("anti-aliasing"),
            "{said}"
        );
    }
    assert!(of(r#"{"hidden_act":"gelu"}"#).unwrap_err().contains("gelu"));
}

#[test]
fn tensors_of_no_network_are_refused() {
    let none = Weights::new(BTreeMap::new());
    let said = build(&none, Strictness::Strict).unwrap_err();
    assert!(
        said.contains("its tensors (none) are of no known network"),
        "{said}"
    );
    let other = Weights::new(BTreeMap::from([("wte.weight".to_owned(), ones(&[4, 4]))]));
    let said = build(&other, Strictness::Strict).unwrap_err();
    assert!(said.contains("(wte.weight, …)"), "{said}");
}

#[test]
fn a_variance_that_is_none_is_refused() {
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let name = "layer1.0.bn1.running_var";
        let tensor = Tensor::new(&[1.0, bad, 1.0, 1.0], &Device::Cpu).unwrap();
        let changed = weights(|tensors| drop(tensors.insert(name.into(), tensor)));
        let said = build(&changed, Strictness::Strict).unwrap_err();
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn strides_are_where_the_config_says() {
    let config = |text: &str| ModelConfig::parse(Some(text), None).unwrap().strides;
    assert_eq!(config("{}"), StridePlacement::default());
    assert!(config(r#"{"downsample_in_bottleneck":true}"#).in_first_convolution);
    let first = config(r#"{"downsample_in_first_stage":true}"#);
    assert!(first.in_first_stage);
    // The first stage then needs a shortcut, which this network does not have.
    let found = ImportedArchitecture::identify(&shapes(), first).unwrap();
    let missing = found.compare(&shapes()).missing;
    assert_eq!(missing[0], "layer1.0.downsample.0.weight");
}

#[test]
fn preparation_is_read_from_both_kinds_of_config() {
    let timm = r#"{"architecture":"resnet18","num_classes":1000,"pretrained_cfg":{"tag":"a1_in1k",
        "input_size":[3,224,224],"test_input_size":[3,288,288],"interpolation":"bicubic","crop_pct":0.95,
        "crop_mode":"center","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}}"#;
    let found = ModelConfig::parse(Some(timm), None).unwrap().preprocessing;
    assert_eq!(found.mean, Some([0.485, 0.456, 0.406]));
    assert_eq!(found.std, Some([0.229, 0.224, 0.225]));
    assert_eq!(found.input_size, Some([224, 224]));
    assert_eq!(found.fit, Some(Fit::Crop(0.95)));
    assert_eq!(found.interpolation, Some(Interpolation::Bicubic));

    let config = r#"{"architectures":["ResNetForImageClassification"],
        "id2label":{"0":"tench, Tinca tinca","1":"goldfish"}}"#;
    let resnet50 = r#"{"crop_pct":0.875,"do_normalize":true,"do_resize":true,"size":224,"resample":3,
        "feature_extractor_type":"ConvNextFeatureExtractor",
        "image_mean":[0.485,0.456,0.406],"image_std":[0.229,0.224,0.225]}"#;
    let found = ModelConfig::parse(Some(config), Some(resnet50)).unwrap();
    assert_eq!(found.labels.unwrap(), ["tench, Tinca tinca", "goldfish"]);
    assert_eq!(found.preprocessing.input_size, Some([224, 224]));
    assert_eq!(found.preprocessing.fit, Some(Fit::Crop(0.875)));
    assert_eq!(
        found.preprocessing.interpolation,
        Some(Interpolation::Bicubic)
    );

    let of = |text: &str| ModelConfig::parse(None, Some(text)).unwrap().preprocessing;
    let newer = of(r#"{"size":{"shortest_edge":384},"crop_pct":0.875,"resample":2}"#);
    assert_eq!(
        (newer.input_size, newer.fit),
        (Some([384, 384]), Some(Fit::Exact))
    );
    assert_eq!(newer.interpolation, Some(Interpolation::Bilinear));
    let exact = of(r#"{"size":{"height":96,"width":64}}"#);
    assert_eq!(
        (exact.input_size, exact.fit),
        (Some([96, 64]), Some(Fit::Exact))
    );
    let cut = of(
        r#"{"size":{"shortest_edge":256},"do_center_crop":true,"crop_size":{"height":224,"width":224}}"#,
    );
    assert_eq!(
        (cut.input_size, cut.fit),
        (Some([224, 224]), Some(Fit::Crop(0.875)))
    );
}

#[test]
fn entries_that_cannot_be_taken_are_named() {
    for (config, said) in [
        ("[", "config.json: expected JSON"),
        (
            r#"{"pretrained_cfg":{"mean":[0.5,0.5]}}"#,
            "pretrained_cfg.mean: expected three numbers, found [0.5,0.5]",
        ),
        (r#"{"mean":[0.5,"x",0.5]}"#, "mean: expected three numbers"),
        (
            r#"{"crop_mode":"border"}"#,
            "crop_mode: expected center or squash, found \"border\"",
        ),
        (
            r#"{"interpolation":"random"}"#,
            "interpolation: expected nearest, bilinear, bicubic or lanczos",
        ),
        (
            r#"{"architecture":3}"#,
            "architecture: expected a text, found 3",
        ),
        (
            r#"{"downsample_in_bottleneck":"yes"}"#,
            "expected true or false",
        ),
        (
            r#"{"id2label":{"1":"a"}}"#,
            "id2label: expected a label for every id from 0 on",
        ),
    ] {
        let error = ModelConfig::parse(Some(config), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_folder_is_its_weights_and_what_is_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelFiles::find(folder.path()).unwrap_err().to_string();
    assert!(error.contains("holds none of model.safetensors"), "{error}");
    std::fs::copy(file("state.pth"), folder.path().join("pytorch_model.bin")).unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"architecture":"resnet4"}"#,
    )
    .unwrap();
    let files = ModelFiles::find(folder.path()).unwrap();
    assert!(files.weights.ends_with("pytorch_model.bin"));
    let imported = ImportedResNet::open(&files, Strictness::Strict).unwrap();
    assert_eq!(imported.config.architecture.as_deref(), Some("resnet4"));
    let logits = imported.network.logits(&ones(&[2, 3, 32, 32])).unwrap();
    assert_eq!(logits.dims(), [2, 10]);
    // safetensors go first.
    std::fs::copy(
        file("float16.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let files = ModelFiles::find(folder.path()).unwrap();
    assert!(!Checkpoint::recognizes(&files.weights).unwrap());
    ImportedResNet::open(&files, Strictness::Strict).unwrap();
}
