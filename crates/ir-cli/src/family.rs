//! How the `resnet-D` networks relate: depth, sharing, and what the paper's Table 1 has of them.

/// The ways to share, from none to "unshared batch normalisation" (section 4.5): the ending of a
/// network's name, and what people read.
pub(crate) const SHARINGS: [(Option<&str>, &str); 7] = [
    (None, "not shared"),
    (Some("naive"), "naive"),
    (Some("naive-gamma"), "naive, γ 0.1"),
    (Some("statistics"), "own statistics"),
    (Some("statistics-gamma"), "own statistics, γ 0.1"),
    (Some("batch-norm"), "own statistics, γ and β"),
    (Some("ubn"), "UBN (that, γ 0.1)"),
];

/// A network's place in the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// Layers, 110 in `resnet-110-ubn`.
    pub(crate) depth: usize,
    /// Index in [`SHARINGS`].
    pub(crate) sharing: usize,
}

impl Member {
    /// The place that a name says; `None` for a network of another kind.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("resnet-")?;
        let (depth, ending) = match rest.split_once('-') {
            Some((depth, ending)) => (depth, Some(ending)),
            None => (rest, None),
        };
        Some(Self {
            depth: depth.parse().ok()?,
            sharing: SHARINGS.iter().position(|(known, _)| *known == ending)?,
        })
    }
}

/// Errors in percent, by data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Errors {
    /// On the training split.
    pub(crate) train: f64,
    /// On the test split.
    pub(crate) test: f64,
}

/// A row of Table 1: mean of 4 runs of 300 epochs.
struct Row {
    name: &'static str,
    cifar10: Errors,
    cifar100: Errors,
}

/// The networks of Table 1, in its order.
pub(crate) fn table_1() -> impl Iterator<Item = &'static str> {
    TABLE_1.iter().map(|row| row.name)
}

/// What Table 1 has of a network on a data set.
pub(crate) fn paper_errors(name: &str, dataset: &str) -> Option<Errors> {
    let row = TABLE_1.iter().find(|row| row.name == name)?;
    match dataset {
        "cifar10" => Some(row.cifar10),
        "cifar100" => Some(row.cifar100),
        _ => None,
    }
}

const fn row(name: &'static str, cifar10: [f64; 2], cifar100: [f64; 2]) -> Row {
    Row {
        name,
        cifar10: errors(cifar10),
        cifar100: errors(cifar100),
    }
}

const fn errors([train, test]: [f64; 2]) -> Errors {
    Errors { train, test }
}

const TABLE_1: [Row; 7] = [
    row("resnet-32", [1.53, 7.14], [12.62, 30.08]),
    row("resnet-38", [1.20, 6.99], [10.04, 29.66]),
    row("resnet-110-ubn", [0.63, 6.62], [7.75, 29.94]),
    row("resnet-146-ubn", [0.68, 6.82], [7.21, 29.49]),
    row("resnet-182-ubn", [0.48, 6.97], [6.42, 29.33]),
    row("resnet-56", [0.58, 6.53], [5.19, 28.99]),
    row("resnet-110", [0.22, 6.13], [1.26, 27.54]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_depth_and_sharing() {
        let member = |name| Member::of(name).map(|member| (member.depth, member.sharing));
        assert_eq!(member("resnet-110"), Some((110, 0)));
        assert_eq!(member("resnet-110-naive-gamma"), Some((110, 2)));
        assert_eq!(member("resnet-182-ubn"), Some((182, 6)));
        assert_eq!(member("resnet-110-other"), None);
        assert_eq!(member("wide"), None);
    }

    #[test]
    fn every_sharing_is_the_name_of_a_network() {
        for (ending, _) in SHARINGS {
            let ending = ending.map_or(String::new(), |ending| format!("-{ending}"));
            let name = format!("resnet-110{ending}");
            assert!(ir_models::Architecture::named(&name, 10).is_ok(), "{name}");
        }
        assert!(table_1().all(|name| Member::of(name).is_some()));
    }
}
