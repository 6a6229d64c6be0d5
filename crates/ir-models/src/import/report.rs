//! Which tensors of a file a network found, and which not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many names a message shows of each kind.
const SHOWN: usize = 6;

/// The tensors of a file beside those that a network asks for, by name.
///
/// ```
/// use ir_models::import::TensorReport;
///
/// let report = TensorReport { unexpected: vec!["extra.weight".into()], ..TensorReport::default() };
/// assert!(!report.is_exact());
/// assert_eq!(report.to_string(), "0 tensors matched; unexpected: extra.weight");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorReport {
    /// There, and of the right shape.
    pub matched: Vec<String>,
    /// There, known, and not read: the counters `num_batches_tracked` of the norms.
    pub ignored: Vec<String>,
    /// Not there.
    pub missing: Vec<String>,
    /// There, and of no use to the network.
    pub unexpected: Vec<String>,
    /// There, in another shape.
    pub misshapen: Vec<Misshapen>,
}

/// A tensor of another shape than the network's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name.
    pub name: String,
    /// The shape that the network asks for; 0 where any size would do.
    pub expected: Vec<usize>,
    /// The shape that it has.
    pub found: Vec<usize>,
}

impl TensorReport {
    pub(super) fn new(
        tensors: Vec<(String, Vec<usize>)>,
        counters: Vec<String>,
        found: &BTreeMap<String, Vec<usize>>,
    ) -> Self {
        let mut report = Self::default();
        let mut left: BTreeSet<&str> = found.keys().map(String::as_str).collect();
        for (name, expected) in tensors {
            left.remove(name.as_str());
            match found.get(&name) {
                None => report.missing.push(name),
                Some(shape) if *shape != expected => report.misshapen.push(Misshapen {
                    name,
                    expected,
                    found: shape.clone(),
                }),
                Some(_) => report.matched.push(name),
            }
        }
        report.ignored = counters;
        report.ignored.retain(|name| left.remove(name.as_str()));
        report.unexpected = left.into_iter().map(str::to_owned).collect();
        report
    }

    /// A report of one tensor that is missing or misshapen.
    pub(super) fn only(name: String, found: Option<&[usize]>, expected: &[usize]) -> Self {
        let mut report = Self::default();
        match found {
            None => report.missing.push(name),
            Some(found) => report.misshapen.push(Misshapen {
                name,
                expected: expected.to_vec(),
                found: found.to_vec(),
            }),
        }
        report
    }

    /// Whether the file holds the network and nothing else, but for what is known and not read.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.unexpected.is_empty()
    }

    /// Whether every tensor of the network is there, whatever else is.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for TensorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors matched", self.matched.len())?;
        let list = |f: &mut fmt::Formatter<'_>, what: &str, names: &[String]| {
            if names.is_empty() {
                return Ok(());
            }
            write!(
                f,
                "; {what}: {}",
                names[..names.len().min(SHOWN)].join(", ")
            )?;
            match names.len().saturating_sub(SHOWN) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        };
        list(f, "missing", &self.missing)?;
        let misshapen = self.misshapen.iter().map(ToString::to_string);
        list(f, "of another shape", &misshapen.collect::<Vec<_>>())?;
        list(f, "unexpected", &self.unexpected)
    }
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |&size: &usize| match size {
            0 => "·".to_owned(),
            size => size.to_string(),
        };
        let expected: Vec<_> = self.expected.iter().map(size).collect();
        let (name, found) = (&self.name, &self.found);
        write!(f, "{name} {found:?}, expected [{}]", expected.join(", "))
    }
}
