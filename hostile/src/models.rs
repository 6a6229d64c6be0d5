//! The readers of checkpoints and architectures.

use std::fs;

use ir_models::import::{ImportedResNet, ModelConfig, Strictness, Weights};
use ir_models::{Architecture, Checkpoint, ResNet};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().unwrap();
}

/// Networks above this size are not built: that takes long and shows nothing.
const MOST_PARAMETERS: usize = 100_000;

/// A safetensors file, opened as a checkpoint, built as a network and resumed.
pub fn checkpoint(content: &[u8]) {
    let path = FOLDER.with(|folder| folder.path().join("checkpoint.safetensors"));
    fs::write(&path, content).unwrap();
    let names_file = |error: &ir_models::Error| {
        let message = error.to_string();
        assert!(message.contains("checkpoint.safetensors"), "{message}");
    };
    let checkpoint = match Checkpoint::open(&path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return names_file(&error),
    };
    match checkpoint.network() {
        Ok(network) => {
            let values = network.tensors().map(|(_, tensor)| 4 * tensor.elem_count());
            assert!(values.sum::<usize>() <= content.len());
        }
        Err(error) => names_file(&error),
    }
    if let Err(error) = checkpoint.trainer() {
        names_file(&error);
    }
}

/// The JSON of an architecture, as a user writes it.
pub fn architecture(content: &[u8]) {
    let Ok(text) = std::str::from_utf8(content) else {
        return;
    };
    let Ok(architecture) = Architecture::from_json(text) else {
        return;
    };
    let parameters = architecture.parameters();
    assert!(parameters.trainable <= parameters.all);
    assert_eq!(architecture.stage_sizes().len(), architecture.stages.len());
    if parameters.all <= MOST_PARAMETERS {
        ResNet::initialize(&architecture, 0).unwrap();
    }
}

/// A file of someone else's weights, safetensors or PyTorch's, built as a network.
pub fn weights(content: &[u8]) {
    let path = FOLDER.with(|folder| folder.path().join("weights.pth"));
    fs::write(&path, content).unwrap();
    let weights = match Weights::open(&path) {
        Ok(weights) => weights,
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("weights.pth"), "{message}");
            return;
        }
    };
    let values = weights.shapes().into_values();
    let values = values.map(|shape| shape.iter().product::<usize>());
    assert!(values.sum::<usize>() <= content.len());
    let config = ModelConfig::default();
    drop(ImportedResNet::build(
        &weights,
        &config,
        Strictness::AllowUnexpected,
    ));
}

/// The `config.json` beside someone else's weights, also as a `preprocessor_config.json`.
pub fn model_config(content: &[u8]) {
    let Ok(text) = std::str::from_utf8(content) else {
        return;
    };
    drop(ModelConfig::parse(Some(text), None));
    drop(ModelConfig::parse(None, Some(text)));
}
