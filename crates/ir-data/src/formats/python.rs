//! CIFAR's python batches: a pickled dictionary with a numpy array of pixels.
//!
//! ```text
//! data                     uint8 array [N, 3072] or [N, 3, 32, 32]
//! labels | fine_labels     list or integer array of N
//! batch_label              "training batch 1 of 5", "testing batch 1 of 1"; may be absent
//! ```
//!
//! Keys are byte strings, as Python 2 wrote them, or text. Nothing in the pickle is run,
//! see [`ir_pickle`].

use std::borrow::Cow;
use std::path::Path;

use ir_pickle::{Id, Pickle, Value};

use super::{
    MAX_SAMPLES, Probe, Samples, SplitName, checked_label, excerpt, malformed, read_whole,
};
use crate::classes::LabelSet;
use crate::dataset::{CHANNELS, IMAGE, SIDE};
use crate::error::Result;

/// Whether a file begins as a pickle of protocol 2 to 5 does.
pub(crate) fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Says whether the file is a batch, of which label set, and of which split.
pub(crate) fn probe(path: &Path) -> Result<Probe> {
    let content = read_whole(path)?;
    let pickle = match Pickle::parse(&content) {
        Ok(pickle) => pickle,
        Err(problem) => {
            let (found, offset) = (problem.found, problem.offset);
            return Ok(Probe::Foreign(format!("{found} at byte {offset}")));
        }
    };
    let Some(labels) = label_set(&pickle).filter(|_| entry(&pickle, "data").is_some()) else {
        return Ok(Probe::Foreign(
            "a pickle without the keys `data` and `labels` or `fine_labels`".into(),
        ));
    };
    let text = entry(&pickle, "batch_label").and_then(|id| string(&pickle, id));
    let parts = text.as_deref().map_or(0, parts);
    let split = text.and_then(|text| match text {
        _ if text.starts_with(b"train") => Some(SplitName::Train),
        _ if text.starts_with(b"test") => Some(SplitName::Test),
        _ => None,
    });
    Ok(Probe::Ours {
        labels,
        split,
        parts,
    })
}

/// N of "training batch 1 of N".
fn parts(text: &[u8]) -> usize {
    let text = str::from_utf8(text).unwrap_or_default();
    let count = text.rsplit_once(" of ").map(|(_, count)| count.trim());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Copies all samples.
pub(crate) fn read(path: &Path) -> Result<Samples> {
    let content = read_whole(path)?;
    let pickle = Pickle::parse(&content).map_err(|problem| {
        let place = format!("byte {}", problem.offset);
        malformed(
            path,
            place,
            "a batch pickled in protocol 2 to 5",
            problem.found,
        )
    })?;
    let wrong =
        |place: &str, expected: &str, found: String| malformed(path, place, expected, found);
    let labels = label_set(&pickle)
        .ok_or_else(|| wrong("keys", "`labels` or `fine_labels`", "neither".into()))?;
    let key = label_key(labels);
    let numbers = entry(&pickle, key)
        .ok_or("nothing".into())
        .and_then(|id| integers(&pickle, id))
        .map_err(|found| wrong(key, "a list or an array of integers", found))?;
    if numbers.len() > MAX_SAMPLES {
        let expected = format!("at most {MAX_SAMPLES} labels");
        return Err(wrong(key, &expected, numbers.len().to_string()));
    }
    let images = entry(&pickle, "data")
        .ok_or("nothing".into())
        .and_then(|id| pixels(&pickle, id, numbers.len()))
        .map_err(|found| {
            let expected = format!("a uint8 array of shape [{}, 3072]", numbers.len());
            wrong("data", &expected, found)
        })?;
    let labels = numbers
        .iter()
        .enumerate()
        .map(|(sample, &label)| checked_label(path, sample, label, labels))
        .collect::<Result<_>>()?;
    Ok(Samples { images, labels })
}

fn label_key(labels: LabelSet) -> &'static str {
    match labels {
        LabelSet::Cifar10 => "labels",
        LabelSet::Cifar100 => "fine_labels",
    }
}

fn label_set(pickle: &Pickle<'_>) -> Option<LabelSet> {
    [LabelSet::Cifar100, LabelSet::Cifar10]
        .into_iter()
        .find(|&labels| entry(pickle, label_key(labels)).is_some())
}

/// The value under a key of the dictionary that the pickle is.
fn entry(pickle: &Pickle<'_>, key: &str) -> Option<Id> {
    let Value::Dict(pairs) = pickle.root() else {
        return None;
    };
    pairs
        .iter()
        .rev()
        .find_map(|&(found, value)| is_text(pickle, found, key).then_some(value))
}

/// Whether a value is this text of ASCII characters, in any of the forms of [`string`]. Nothing
/// is decoded, however long a text a pickle has for its keys and however often.
fn is_text(pickle: &Pickle<'_>, id: Id, text: &str) -> bool {
    match *pickle.get(id) {
        Value::Bytes(bytes) => bytes == text.as_bytes(),
        Value::Text(found) => found == text,
        _ => encoded(pickle, id) == Some(text),
    }
}

/// Bytes or text as bytes, also what Python 3 writes for bytes in protocol 2, see [`encoded`].
fn string<'a>(pickle: &Pickle<'a>, id: Id) -> Option<Cow<'a, [u8]>> {
    match *pickle.get(id) {
        Value::Bytes(bytes) => return Some(Cow::Borrowed(bytes)),
        Value::Text(text) => return Some(Cow::Borrowed(text.as_bytes())),
        _ => {}
    }
    let bytes: Option<Vec<u8>> = encoded(pickle, id)?
        .chars()
        .map(|character| u8::try_from(character).ok())
        .collect();
    bytes.map(Cow::Owned)
}

/// The text of a call that encodes text of characters up to 255 as Latin-1.
fn encoded<'a>(pickle: &Pickle<'a>, id: Id) -> Option<&'a str> {
    let ("encode", arguments, _) = call(pickle, id)? else {
        return None;
    };
    match *pickle.get(*tuple(pickle, arguments).ok()?.first()?) {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// What a reader of a value says it found instead.
type Found<T> = std::result::Result<T, String>;

fn integers(pickle: &Pickle<'_>, id: Id) -> Found<Vec<i64>> {
    if let Value::List(members) = pickle.get(id) {
        return members
            .iter()
            .enumerate()
            .map(|(index, &member)| match pickle.get(member) {
                Value::Int(number) => Ok(*number),
                _ => Err(format!("no integer in place {index}")),
            })
            .collect();
    }
    let array = Array::read(pickle, id)?;
    let [count] = array.shape[..] else {
        return Err(format!("an array of shape {:?}", array.shape));
    };
    let width = match array.dtype.as_str() {
        "u1" | "i1" => 1,
        "u2" | "i2" => 2,
        "u4" | "i4" => 4,
        "u8" | "i8" => 8,
        other => return Err(format!("an array of dtype {other}")),
    };
    if count.checked_mul(width) != Some(array.data.len()) {
        return Err(format!("{} bytes for {count} labels", array.data.len()));
    }
    let number = |bytes: &[u8]| {
        let mut all = [0; 8];
        all[..width].copy_from_slice(bytes);
        i64::from_le_bytes(all)
    };
    Ok(array.data.chunks_exact(width).map(number).collect())
}

/// The pixels of `count` images, `[N, 3, 32, 32]`.
fn pixels(pickle: &Pickle<'_>, id: Id, count: usize) -> Found<Vec<u8>> {
    let array = Array::read(pickle, id)?;
    if array.dtype != "u1" {
        return Err(format!("an array of dtype {}", array.dtype));
    }
    let flat = array.shape == [count, IMAGE];
    if !flat && array.shape != [count, CHANNELS, SIDE, SIDE] {
        return Err(format!("an array of shape {:?}", array.shape));
    }
    if count.checked_mul(IMAGE) != Some(array.data.len()) {
        return Err(format!("{} bytes of pixels", array.data.len()));
    }
    match (array.fortran, flat) {
        (false, _) => Ok(array.data.into_owned()),
        (true, true) => Ok(transposed(&array.data, count)),
        (true, false) => Err("an array of four dimensions in Fortran order".into()),
    }
}

/// `[N, 3072]` in row-major order from the same in column-major order.
fn transposed(data: &[u8], count: usize) -> Vec<u8> {
    let mut images = vec![0; data.len()];
    for (position, column) in data.chunks_exact(count.max(1)).enumerate() {
        for (sample, &value) in column.iter().enumerate() {
            images[sample * IMAGE + position] = value;
        }
    }
    images
}

/// A numpy array, little endian.
struct Array<'a> {
    /// As `dtype` writes it: `u1`, `i8`, …
    dtype: String,
    shape: Vec<usize>,
    fortran: bool,
    data: Cow<'a, [u8]>,
}

impl<'a> Array<'a> {
    /// Recognises the two calls that numpy pickles an array as:
    ///
    /// ```text
    /// _reconstruct(ndarray, (0,), b"b") with state (1, shape, dtype, is_fortran, data)
    /// _frombuffer(data, dtype, shape, "C" or "F")
    /// ```
    fn read(pickle: &Pickle<'a>, id: Id) -> Found<Self> {
        let (name, arguments, state) = call(pickle, id).ok_or("no array")?;
        let (dtype, shape, fortran, data) = match (name, state) {
            ("_reconstruct", Some(state)) => match tuple(pickle, state)? {
                &[_, shape, dtype, fortran, data] => {
                    let fortran = match pickle.get(fortran) {
                        Value::Bool(flag) => *flag,
                        Value::Int(flag) => *flag != 0,
                        _ => return Err("an array whose order is not said".into()),
                    };
                    (dtype, shape, fortran, data)
                }
                _ => return Err("an array of an unknown version of numpy".into()),
            },
            ("_frombuffer", None) => match tuple(pickle, arguments)? {
                &[data, dtype, shape, order] => {
                    let fortran = is_text(pickle, order, "F");
                    (dtype, shape, fortran, data)
                }
                _ => return Err("an array of an unknown version of numpy".into()),
            },
            _ => return Err(format!("a call of {}", excerpt(name))),
        };
        Ok(Self {
            dtype: dtype_name(pickle, dtype)?,
            shape: dimensions(pickle, shape)?,
            fortran,
            data: string(pickle, data).ok_or("an array without its bytes")?,
        })
    }
}

/// Name of the called function, its arguments and the state set afterwards.
fn call<'a>(pickle: &Pickle<'a>, id: Id) -> Option<(&'a str, Id, Option<Id>)> {
    let &Value::Call {
        function,
        arguments,
        state,
        ..
    } = pickle.get(id)
    else {
        return None;
    };
    match pickle.get(function) {
        Value::Global(_, name) => Some((name, arguments, state)),
        _ => None,
    }
}

fn tuple<'p>(pickle: &'p Pickle<'_>, id: Id) -> Found<&'p [Id]> {
    match pickle.get(id) {
        Value::Tuple(members) => Ok(members),
        _ => Err("an array whose parts are no tuple".into()),
    }
}

/// `u1` of `dtype("u1", …)`; refuses big-endian types, whose state says `>`.
fn dtype_name(pickle: &Pickle<'_>, id: Id) -> Found<String> {
    let unknown = || "an array of unknown dtype".to_string();
    let ("dtype", arguments, state) = call(pickle, id).ok_or_else(unknown)? else {
        return Err(unknown());
    };
    if let Some(state) = state
        && let Some(&order) = tuple(pickle, state)?.get(1)
        && is_text(pickle, order, ">")
    {
        return Err("an array in big-endian order".into());
    }
    tuple(pickle, arguments)?
        .first()
        .and_then(|&name| string(pickle, name))
        .map(|name| excerpt(&String::from_utf8_lossy(&name)))
        .ok_or_else(unknown)
}

fn dimensions(pickle: &Pickle<'_>, id: Id) -> Found<Vec<usize>> {
    tuple(pickle, id)?
        .iter()
        .map(|&member| match pickle.get(member) {
            Value::Int(size) => usize::try_from(*size).map_err(|_| format!("dimension {size}")),
            _ => Err("a dimension that is no integer".into()),
        })
        .collect()
}
