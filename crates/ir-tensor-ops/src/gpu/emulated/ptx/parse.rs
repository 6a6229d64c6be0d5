//! From the text of a file to its kernels.

use std::collections::HashMap;

use super::instruction::{Decoder, Statement};
use super::{Kernel, Special};

/// A file's kernels by their names.
///
/// # Errors
/// What is not known, with the line.
pub(super) fn kernels(text: &str) -> Result<HashMap<String, Kernel>, String> {
    let mut kernels = HashMap::new();
    let mut rest = Statements { text, line: 1 };
    while let Some((line, statement)) = rest.next() {
        let Some((_, head)) = statement.split_once(".entry ") else {
            // Of all that is outside of a kernel, only the dynamic shared memory matters, and it has one name.
            continue;
        };
        let (name, parameters) = head
            .split_once('(')
            .ok_or_else(|| format!("line {line}: a kernel without a list of parameters"))?;
        let kernel = body(&mut rest, parameters)
            .map_err(|(line, reason)| format!("kernel {}, line {line}: {reason}", name.trim()))?;
        kernels.insert(name.trim().to_owned(), kernel);
    }
    if kernels.is_empty() {
        return Err("it holds no kernel".into());
    }
    Ok(kernels)
}

/// The pieces of a file that end in `;`, `{`, `}` or, as labels do, in `:`, with their line; the braces of a list of registers are
/// in the middle of a piece.
struct Statements<'a> {
    text: &'a str,
    line: usize,
}

impl<'a> Iterator for Statements<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let blank = self.text.len() - self.text.trim_start().len();
            self.skip(blank);
            let Some(comment) = self.text.strip_prefix("//") else {
                break;
            };
            let length = comment.find('\n').unwrap_or(comment.len());
            self.skip(2 + length);
        }
        let line = self.line;
        let first = self.text.chars().next()?;
        let is_directive = first == '.';
        let mut end = None;
        for (place, character) in self.text.char_indices() {
            let ends = match character {
                ';' => true,
                ':' => !is_directive,
                '{' => place == 0 || is_directive,
                '}' => place == 0,
                // The directives in the head of a file end with their line.
                '\n' => {
                    let found = &self.text[..place];
                    [".version", ".target", ".address_size"]
                        .iter()
                        .any(|name| found.starts_with(name))
                }
                _ => false,
            };
            if ends {
                end = Some(place + character.len_utf8());
                break;
            }
        }
        let end = end.unwrap_or(self.text.len());
        let found = &self.text[..end];
        self.skip(end);
        Some((line, found))
    }
}

impl Statements<'_> {
    fn skip(&mut self, bytes: usize) {
        self.line += self.text[..bytes].matches('\n').count();
        self.text = &self.text[bytes..];
    }
}

/// A kernel from behind the parenthesis of its parameters on.
fn body(rest: &mut Statements<'_>, parameters: &str) -> Result<Kernel, (usize, String)> {
    let parameters = parameters.split(')').next().unwrap_or_default();
    let parameters = parameters
        .split(',')
        .filter_map(|parameter| parameter.split_whitespace().last());
    let mut decoder = Decoder::new(parameters.map(str::to_owned).collect());
    let mut statements = Vec::new();
    let mut depth = 1;
    while depth > 0 {
        let (line, found) = rest
            .next()
            .ok_or((rest.line, String::from("the file ends within it")))?;
        let wrong = |reason: String| (line, reason);
        match found {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if found.starts_with(".shared") => shared(&mut decoder, found).map_err(wrong)?,
            // Registers are known from where they are used; hints to the compiler change nothing.
            _ if found.starts_with('.') => {}
            _ => match found.strip_suffix(':') {
                Some(label) => decoder.label(label, statements.len()),
                None => statements.push((line, Statement::split(found).map_err(wrong)?)),
            },
        }
    }
    let instructions = statements
        .iter()
        .map(|(line, statement)| {
            decoder
                .decode(statement)
                .map_err(|reason| (*line, format!("`{}`: {reason}", statement.text)))
        })
        .collect::<Result<_, _>>()?;
    Ok(decoder.finish(instructions))
}

/// `.shared .align 16 .b8 name[8192];`
fn shared(decoder: &mut Decoder, declaration: &str) -> Result<(), String> {
    let not_known = || format!("shared memory of an unknown form: `{declaration}`");
    let words: Vec<&str> = declaration.split_whitespace().collect();
    let [".shared", ".align", align, ".b8", array] = words[..] else {
        return Err(not_known());
    };
    let (name, bytes) = array
        .strip_suffix("];")
        .and_then(|array| array.split_once('['))
        .ok_or_else(not_known)?;
    let [align, bytes] = [align, bytes].map(str::parse::<u32>);
    let (Ok(align), Ok(bytes)) = (align, bytes) else {
        return Err(not_known());
    };
    decoder.shared(name, align as usize, bytes as usize);
    Ok(())
}

impl Special {
    /// The register of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "%tid.x" => Self::ThreadX,
            "%tid.y" => Self::ThreadY,
            "%tid.z" => Self::ThreadZ,
            "%ctaid.x" => Self::BlockX,
            "%ctaid.y" => Self::BlockY,
            "%ctaid.z" => Self::BlockZ,
            "%ntid.x" => Self::BlockSizeX,
            "%ntid.y" => Self::BlockSizeY,
            "%ntid.z" => Self::BlockSizeZ,
            "%nctaid.x" => Self::GridX,
            "%nctaid.y" => Self::GridY,
            "%nctaid.z" => Self::GridZ,
            _ => return None,
        })
    }
}
