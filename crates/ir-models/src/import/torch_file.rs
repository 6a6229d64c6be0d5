//! A file of PyTorch's, as `torch.save` writes a `state_dict` since version 1.6.
//!
//! ```text
//! {name}/data.pkl      a pickle: an OrderedDict from names to calls of _rebuild_tensor_v2
//! {name}/byteorder     "little"; absent in older files
//! {name}/data/{key}    the values of one storage
//! ```
//!
//! A zip archive without compression. The pickle is read by [`ir_pickle`], which calls nothing.
//! Whatever it says of sizes is compared with the file before memory is asked for: storages and
//! tensors together are at most as long as the file, each for itself.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ir_pickle::{Id, Pickle, Value};
use zip::ZipArchive;

use super::problem::ImportProblem;

/// The longest pickle that is read; that of resnet152 has 200 kB.
const MAX_PICKLE: u64 = 64 << 20;

/// Keys under which training programs put the weights beside other things.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

const ADVICE: &str = "in Python, write its weights alone: \
    torch.save(model.state_dict(), \"weights.pth\")";

type Archive = ZipArchive<BufReader<File>>;

/// A tensor as the pickle describes it; sizes in elements.
struct Described<'a> {
    name: &'a str,
    dtype: DType,
    storage: &'a str,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Reads every tensor of a file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>, ImportProblem> {
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut archive = open(file)?;
    let pickle = archive.file_names().find_map(|name| {
        let name = name.ok()?;
        name.ends_with("data.pkl").then(|| name.into_owned())
    });
    let Some(pickle) = pickle else {
        return Err(refused("a zip archive without data.pkl".into()));
    };
    let folder = pickle.trim_end_matches("data.pkl").to_owned();
    if let Ok(order) = entry(&mut archive, &format!("{folder}byteorder"), 16)
        && order != b"little"
    {
        return Err(refused("values in big-endian order".into()));
    }
    let content = entry(&mut archive, &pickle, MAX_PICKLE)?;
    let pickle = Pickle::parse(&content).map_err(|problem| refused(problem.to_string()))?;
    let described = state_dict(&pickle)?;
    let mut storages = HashMap::new();
    let (mut stored, mut asked) = (0, 0);
    let mut tensors = BTreeMap::new();
    for tensor in &described {
        if !storages.contains_key(tensor.storage) {
            let name = format!("{folder}data/{}", tensor.storage);
            let values = entry(&mut archive, &name, length.saturating_sub(stored))?;
            stored += values.len() as u64;
            storages.insert(tensor.storage, values);
        }
        let values = tensor.gather(&storages[tensor.storage])?;
        asked += values.len() as u64;
        if asked > length {
            return Err(refused(
                "tensors that share their values with others".into(),
            ));
        }
        let values = Tensor::from_raw_buffer(&values, tensor.dtype, &tensor.shape, &Device::Cpu)?;
        tensors.insert(tensor.name.to_owned(), values);
    }
    Ok(tensors)
}

fn open(mut file: File) -> Result<Archive, ImportProblem> {
    let mut head = [0; 2];
    file.read_exact(&mut head).map_err(unreadable)?;
    if head != *b"PK" {
        return Err(refused(
            "a pickle without a zip archive around it, as PyTorch wrote them before version 1.6; \
             in Python, write it anew: torch.save(torch.load(\"old.pth\", weights_only=True), \"new.pth\")"
                .into(),
        ));
    }
    ZipArchive::new(BufReader::new(file)).map_err(|error| {
        refused(format!(
            "a zip archive that is damaged or cut off ({error})"
        ))
    })
}

/// The content of an entry of at most so many bytes.
fn entry(archive: &mut Archive, name: &str, most: u64) -> Result<Vec<u8>, ImportProblem> {
    let failed = |error: &dyn std::fmt::Display| {
        refused(format!("{} cannot be read ({error})", name.escape_debug()))
    };
    let entry = archive.by_name(name).map_err(|error| failed(&error))?;
    if entry.size() > most {
        let found = format!("{} bytes, expected at most {most}", entry.size());
        return Err(failed(&found));
    }
    let expected = entry.size();
    let mut content = Vec::new();
    let read = entry.take(most).read_to_end(&mut content);
    match read {
        Ok(read) if read as u64 == expected => Ok(content),
        Ok(read) => Err(failed(&format!("{read} bytes of {expected}"))),
        Err(error) => Err(failed(&error)),
    }
}

/// The tensors of the dictionary of weights: the root, or what it has under a usual key.
fn state_dict<'a>(pickle: &Pickle<'a>) -> Result<Vec<Described<'a>>, ImportProblem> {
    let mut dictionary = pickle.root_id();
    for _ in 0..2 {
        let pairs = pickle.items(dictionary).unwrap_or_default();
        let is_tensor = |&(_, value): &(Id, Id)| {
            let call = pickle.call(rebuilt(pickle, value));
            matches!(call, Some(("torch._utils", "_rebuild_tensor_v2", _)))
        };
        if pairs.iter().any(is_tensor) {
            return pairs.iter().map(|&pair| described(pickle, pair)).collect();
        }
        let under = |wrapper: &&str| {
            let is = |&&(key, _): &&(Id, Id)| *pickle.get(key) == Value::Text(wrapper);
            pairs.iter().find(is).map(|&(_, value)| value)
        };
        match WRAPPERS.iter().find_map(under) {
            Some(inner) => dictionary = inner,
            None => break,
        }
    }
    let found = match pickle.call(pickle.root_id()) {
        Some((module, name, _)) => format!(
            "an object of {}.{} and no dictionary of tensors",
            module.escape_debug(),
            name.escape_debug()
        ),
        None => "no dictionary of tensors".into(),
    };
    Err(refused(format!("{found}; {ADVICE}")))
}

/// What a parameter wraps; any other value itself.
fn rebuilt(pickle: &Pickle<'_>, value: Id) -> Id {
    match pickle.call(value) {
        Some(("torch._utils", "_rebuild_parameter", &[tensor, ..])) => tensor,
        _ => value,
    }
}

/// One entry of the dictionary: `_rebuild_tensor_v2(storage, offset, size, stride, …)`, where the
/// storage is `("storage", class, key, device, elements)` behind a persistent identifier.
fn described<'a>(
    pickle: &Pickle<'a>,
    (key, value): (Id, Id),
) -> Result<Described<'a>, ImportProblem> {
    let &Value::Text(name) = pickle.get(key) else {
        return Err(refused("a tensor whose name is no text".into()));
    };
    let wrong = |found: &str| ImportProblem::Values {
        tensor: name.escape_debug().to_string(),
        reason: format!("expected a tensor as torch.save writes it, found {found}"),
    };
    let arguments = match pickle.call(rebuilt(pickle, value)) {
        Some(("torch._utils", "_rebuild_tensor_v2", arguments)) => arguments,
        Some((module, function, _)) => {
            let (module, function) = (module.escape_debug(), function.escape_debug());
            return Err(wrong(&format!("a call of {module}.{function}")));
        }
        None => return Err(wrong("something else")),
    };
    let &[storage, offset, shape, strides, ..] = arguments else {
        return Err(wrong("a call with too few arguments"));
    };
    let storage = match *pickle.get(storage) {
        Value::Persistent(identifier) => pickle.tuple(identifier),
        _ => None,
    };
    let Some(&[_, class, storage, ..]) = storage else {
        return Err(wrong("no storage"));
    };
    let dtype = match *pickle.get(class) {
        Value::Global("torch", "FloatStorage") => DType::F32,
        Value::Global("torch", "DoubleStorage") => DType::F64,
        Value::Global("torch", "HalfStorage") => DType::F16,
        Value::Global("torch", "BFloat16Storage") => DType::BF16,
        Value::Global("torch", "LongStorage") => DType::I64,
        Value::Global(_, class) => return Err(wrong(&class.escape_debug().to_string())),
        _ => return Err(wrong("a storage without a class")),
    };
    let &Value::Text(storage) = pickle.get(storage) else {
        return Err(wrong("a storage without a key"));
    };
    let sizes = |id| -> Option<Vec<usize>> {
        let sizes = pickle.tuple(id)?.iter();
        sizes.map(|&size| number(pickle, size)).collect()
    };
    let layout = (number(pickle, offset), sizes(shape), sizes(strides));
    match layout {
        (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
            Ok(Described {
                name,
                dtype,
                storage,
                offset,
                shape,
                strides,
            })
        }
        _ => Err(wrong("no offset, shape and strides")),
    }
}

fn number(pickle: &Pickle<'_>, id: Id) -> Option<usize> {
    match *pickle.get(id) {
        Value::Int(number) => usize::try_from(number).ok(),
        _ => None,
    }
}

impl Described<'_> {
    /// The tensor's values in row-major order, out of its storage.
    fn gather(&self, storage: &[u8]) -> Result<Vec<u8>, ImportProblem> {
        let width = self.dtype.size_in_bytes();
        let available = storage.len() / width;
        let outside = || ImportProblem::Values {
            tensor: self.name.escape_debug().to_string(),
            reason: format!(
                "shape {:?} with strides {:?} from element {} on, in a storage of {available} elements",
                self.shape, self.strides, self.offset
            ),
        };
        let count = self
            .shape
            .iter()
            .try_fold(1usize, |n, &size| n.checked_mul(size));
        let count = count
            .filter(|&count| count <= available)
            .ok_or_else(outside)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps
            .clone()
            .try_fold(self.offset, |last, (&size, &stride)| {
                last.checked_add((size - 1).checked_mul(stride)?)
            });
        if last.is_none_or(|last| last >= available) {
            return Err(outside());
        }
        // Element by element, the last index first, as one counts.
        let mut index = vec![0; self.shape.len()];
        let mut place = self.offset;
        let mut values = Vec::with_capacity(count * width);
        for _ in 0..count {
            values.extend_from_slice(&storage[place * width..][..width]);
            for (position, (&size, &stride)) in index.iter_mut().zip(steps.clone()).rev() {
                *position += 1;
                place += stride;
                if *position < size {
                    break;
                }
                place -= size * stride;
                *position = 0;
            }
        }
        Ok(values)
    }
}

fn refused(reason: String) -> ImportProblem {
    ImportProblem::TorchFile { reason }
}

fn unreadable(error: std::io::Error) -> ImportProblem {
    refused(error.to_string())
}
