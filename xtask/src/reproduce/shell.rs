//! Command lines that can be pasted into a shell.

use std::borrow::Cow;
use std::path::Path;

/// Joins a program and its arguments, quoting what a shell would take apart.
pub(super) fn line(program: &Path, arguments: &[String]) -> String {
    let program = program.to_string_lossy();
    let mut words = vec![quoted(&program)];
    words.extend(arguments.iter().map(|argument| quoted(argument)));
    words.join(" ")
}

fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_it_is_quoted() {
        let arguments = ["train", "--data", "my data", "it's", ""].map(str::to_owned);
        assert_eq!(
            line(Path::new("target/release/ir"), &arguments),
            r"target/release/ir train --data 'my data' 'it'\''s' ''"
        );
    }
}
