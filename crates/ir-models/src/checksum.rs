//! The checksum of a checkpoint's content.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// SHA-256 over what a safetensors file says, whatever the order and the spacing of its header:
/// the entries of the metadata in order of their keys, then name, shape and bytes of the tensors in
/// order of their names. Every part is preceded by its length, so that no two contents run into
/// the same bytes.
#[derive(Default)]
pub(crate) struct Checksum(Sha256);

impl Checksum {
    /// Adds an entry of the metadata, in order of keys.
    pub(crate) fn entry(&mut self, key: &str, value: &str) {
        self.part(key.as_bytes());
        self.part(value.as_bytes());
    }

    /// Adds an f32 tensor, in order of names.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], content: &[u8]) {
        self.part(name.as_bytes());
        self.length(shape.len());
        for &dimension in shape {
            self.length(dimension);
        }
        self.part(content);
    }

    /// In hexadecimal.
    pub(crate) fn finish(self) -> String {
        let mut text = String::new();
        for byte in self.0.finalize() {
            write!(text, "{byte:02x}").expect("a string takes whatever is written");
        }
        text
    }

    fn part(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }

    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_le_bytes());
    }
}
