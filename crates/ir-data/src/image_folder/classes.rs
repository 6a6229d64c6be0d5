//! From the names of classes' folders to the indices that a network has for them.

use std::collections::HashMap;
use std::path::Path;

use super::ImageFolder;
use crate::error::{Error, Result};
use crate::formats::read_small;

impl ImageFolder {
    /// The label that a network of `outputs` classes has for each of this folder's classes.
    ///
    /// With a `map`, a file, as that says: a JSON object from folder to index, or the names of
    /// folders one a line in the order of the network's classes (of a line the first word counts, so
    /// that ImageNet's `LOC_synset_mapping.txt` can be taken as it is). Without one, by the
    /// network's own `names` where every folder is called as one of them, whatever the case and
    /// with `_` for a space; else in the order of the folders' names where there are as many as the
    /// network has classes, as torchvision's `ImageFolder` does.
    ///
    /// # Errors
    /// [`Error::Classes`] if none of that says it; [`Error::ClassMap`] for a map that cannot be
    /// taken.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # for class in ["cat", "dog"] {
    /// #     std::fs::create_dir(folder.path().join(class))?;
    /// #     std::fs::write(folder.path().join(class).join("1.png"), "no image")?;
    /// # }
    /// let images = ir_data::ImageFolder::open(folder.path())?; // cat, dog
    /// assert_eq!(images.labels_of(2, None, None)?, [0, 1]);
    /// let names = ["bird", "Dog", "house cat, Cat"].map(str::to_owned);
    /// assert_eq!(images.labels_of(3, Some(&names), None)?, [2, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn labels_of(
        &self,
        outputs: usize,
        names: Option<&[String]>,
        map: Option<&Path>,
    ) -> Result<Vec<u32>> {
        let classes = self.classes();
        if let Some(file) = map {
            return mapped(classes, outputs, file);
        }
        let named = names.and_then(|names| by_name(classes, names));
        if let Some(labels) = named {
            return Ok(labels);
        }
        if classes.len() == outputs {
            return Ok((0..).take(outputs).collect());
        }
        Err(Error::Classes {
            folder: self.root().into(),
            found: classes.len(),
            expected: outputs,
        })
    }
}

/// Labels by names, where every class is called as one of them.
fn by_name(classes: &[String], names: &[String]) -> Option<Vec<u32>> {
    let plain = |name: &str| name.trim().to_lowercase().replace('_', " ");
    let mut index = HashMap::new();
    for (label, name) in (0..).zip(names) {
        // A name of ImageNet's is several, with commas between; the first class to have one keeps it.
        for synonym in std::iter::once(name.as_str()).chain(name.split(',')) {
            index.entry(plain(synonym)).or_insert(label);
        }
    }
    classes
        .iter()
        .map(|class| index.get(&plain(class)).copied())
        .collect()
}

fn mapped(classes: &[String], outputs: usize, file: &Path) -> Result<Vec<u32>> {
    let refuse = |reason: String| Error::ClassMap {
        file: file.into(),
        reason,
    };
    let Some(text) = read_small(file) else {
        return Err(refuse("expected a text file of at most 64 kB".into()));
    };
    let map: HashMap<String, u32> = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| {
            refuse(format!(
                "expected a JSON object from folder to index: {error}"
            ))
        })?
    } else {
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        text.lines().filter_map(first).zip(0..).collect()
    };
    let label = |class: &String| match map.get(class) {
        Some(&label) if (label as usize) < outputs => Ok(label),
        Some(label) => Err(refuse(format!(
            "{class} has the index {label}; the network has classes 0 to {}",
            outputs.saturating_sub(1)
        ))),
        None => Err(refuse(format!("it does not name the folder {class}"))),
    };
    classes.iter().map(label).collect()
}
