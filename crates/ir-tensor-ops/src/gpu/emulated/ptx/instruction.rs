//! What an instruction says.

use std::collections::HashMap;

use super::arithmetic::{self, Function};
use super::{Kernel, Special};

/// One instruction of a kernel. Registers go by their numbers; constants are registers too.
#[derive(Debug)]
pub(super) struct Instruction {
    /// Only for threads in which this predicate is true, or false.
    pub(super) guard: Option<(usize, bool)>,
    pub(super) action: Action,
    /// Whether it is more than a name for a register, or for an argument, in the machine code.
    pub(super) takes_time: bool,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) enum Action {
    /// to = function(from).
    Compute {
        function: Function,
        from: [usize; 4],
        to: usize,
    },
    /// The parts of a register, of `bits` bits each, the lowest first.
    Unpack {
        from: usize,
        to: Vec<usize>,
        bits: usize,
    },
    Pack {
        from: Vec<usize>,
        to: usize,
        bits: usize,
    },
    /// A parameter by its place.
    Parameter {
        place: usize,
        bytes: usize,
        to: usize,
    },
    /// `to.len()` numbers of `bytes` bytes, side by side.
    Load {
        space: Space,
        from: At,
        bytes: usize,
        to: Vec<usize>,
    },
    Store {
        space: Space,
        from: Vec<usize>,
        bytes: usize,
        to: At,
    },
    /// Sixteen bytes from global to shared memory, without waiting.
    BeginCopy {
        to: At,
        from: At,
    },
    EndGroup,
    /// Waits for all groups of copies but the last ones.
    WaitForGroups {
        later: usize,
    },
    /// The value of the thread whose number differs in the bits of `mask`; `found` says that there is one. The last thread
    /// that may be asked is `last`.
    Shuffle {
        value: usize,
        mask: usize,
        last: usize,
        members: usize,
        to: usize,
        found: Option<usize>,
    },
    /// Puts a number in place of the one in global memory.
    Exchange {
        at: At,
        value: usize,
        to: usize,
    },
    LoadMatrices {
        from: At,
        transposed: bool,
        to: [usize; 4],
    },
    /// to = a b + c.
    Multiply {
        a: [usize; 4],
        b: [usize; 2],
        c: [usize; 4],
        to: [usize; 4],
    },
    Branch {
        target: usize,
    },
    Barrier,
    Return,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Space {
    Global,
    Shared,
}

/// An address: that in a register, and so many bytes behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) base: usize,
    pub(super) offset: i64,
}

/// An instruction taken apart: `@%p1 add.s32 %r1, %r2, 3;`, where an operand may be a list in braces.
#[derive(Debug)]
pub(super) struct Statement {
    guard: Option<(String, bool)>,
    mnemonic: String,
    operands: Vec<String>,
    pub(super) text: String,
}

impl Statement {
    pub(super) fn split(found: &str) -> Result<Self, String> {
        let text: Vec<&str> = found
            .strip_suffix(';')
            .ok_or_else(|| format!("the file ends within `{found}`"))?
            .split_whitespace()
            .collect();
        let text = text.join(" ");
        let mut rest = text.as_str();
        let mut guard = None;
        if let Some(guarded) = rest.strip_prefix('@') {
            let (predicate, behind) = guarded.split_once(' ').unwrap_or((guarded, ""));
            let positive = !predicate.starts_with('!');
            guard = Some((predicate.trim_start_matches('!').to_owned(), positive));
            rest = behind;
        }
        let (mnemonic, list) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut operands = vec![String::new()];
        let mut depth = 0;
        for character in list.chars().filter(|character| *character != ' ') {
            match character {
                ',' if depth == 0 => operands.push(String::new()),
                _ => {
                    depth += i32::from(character == '{') - i32::from(character == '}');
                    if let Some(last) = operands.last_mut() {
                        last.push(character);
                    }
                }
            }
        }
        operands.retain(|operand| !operand.is_empty());
        Ok(Self {
            guard,
            mnemonic: mnemonic.to_owned(),
            operands,
            text: text.clone(),
        })
    }

    fn operand(&self, place: usize) -> Result<&str, String> {
        let found = self.operands.get(place).map(String::as_str);
        found.ok_or_else(|| format!("it has {} operands", self.operands.len()))
    }
}

/// What a kernel's instructions are read with: the names that they use.
#[derive(Debug)]
pub(super) struct Decoder {
    parameters: Vec<String>,
    registers: HashMap<String, usize>,
    constants: HashMap<u64, usize>,
    labels: HashMap<String, usize>,
    /// Where each piece of shared memory begins.
    shared: HashMap<String, usize>,
    shared_bytes: usize,
    count: usize,
}

impl Decoder {
    pub(super) fn new(parameters: Vec<String>) -> Self {
        Self {
            parameters,
            registers: HashMap::new(),
            constants: HashMap::new(),
            labels: HashMap::new(),
            shared: HashMap::new(),
            shared_bytes: 0,
            count: Special::Count as usize,
        }
    }

    /// A name of the instruction that comes next.
    pub(super) fn label(&mut self, name: &str, instruction: usize) {
        self.labels.insert(name.to_owned(), instruction);
    }

    /// More shared memory.
    pub(super) fn shared(&mut self, name: &str, align: usize, bytes: usize) {
        let start = self.shared_bytes.next_multiple_of(align.max(1));
        self.shared.insert(name.to_owned(), start);
        self.shared_bytes = start + bytes;
    }

    pub(super) fn finish(self, instructions: Vec<Instruction>) -> Kernel {
        let constants = self.constants.iter();
        Kernel {
            parameters: self.parameters.len(),
            instructions,
            registers: self.count,
            constants: constants
                .map(|(&value, &register)| (register, value))
                .collect(),
            shared_bytes: self.dynamic(),
        }
    }

    /// Where the dynamic part of shared memory begins.
    fn dynamic(&self) -> usize {
        self.shared_bytes.next_multiple_of(16)
    }

    fn constant(&mut self, value: u64) -> usize {
        let count = &mut self.count;
        *self.constants.entry(value).or_insert_with(|| {
            *count += 1;
            *count - 1
        })
    }

    /// The register with what an operand says.
    fn value(&mut self, operand: &str) -> Result<usize, String> {
        if let Some(special) = Special::named(operand) {
            return Ok(special as usize);
        }
        if operand.starts_with('%') {
            return Ok(self.register(operand));
        }
        let not_known = || format!("the operand `{operand}` is not known");
        let hexadecimal = |digits| u64::from_str_radix(digits, 16).map_err(|_| not_known());
        let value = if let Some(bits) = operand.strip_prefix("0f") {
            hexadecimal(bits)?
        } else if let Some(bits) = operand.strip_prefix("0d") {
            hexadecimal(bits)?
        } else if let Some(bits) = operand.strip_prefix("0x") {
            hexadecimal(bits)?
        } else if operand.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
            operand.parse::<i64>().map_err(|_| not_known())? as u64
        } else if operand == "shared" {
            self.dynamic() as u64
        } else {
            *self.shared.get(operand).ok_or_else(not_known)? as u64
        };
        Ok(self.constant(value))
    }

    fn register(&mut self, name: &str) -> usize {
        let count = &mut self.count;
        *self.registers.entry(name.to_owned()).or_insert_with(|| {
            *count += 1;
            *count - 1
        })
    }

    /// The registers of `{%r1, %r2}`, or of a single operand.
    fn list(&mut self, operand: &str) -> Result<Vec<usize>, String> {
        inner(operand)
            .split(',')
            .map(|one| self.value(one))
            .collect()
    }

    /// The register that an operand names to be written.
    fn result(&mut self, operand: &str) -> Result<usize, String> {
        if operand.starts_with('%') && Special::named(operand).is_none() {
            Ok(self.register(operand))
        } else {
            Err(format!("`{operand}` is nothing that can be written"))
        }
    }

    /// Likewise of `{%r1, %r2}`, or of a single operand.
    fn results(&mut self, operand: &str) -> Result<Vec<usize>, String> {
        inner(operand)
            .split(',')
            .map(|one| self.result(one))
            .collect()
    }

    fn results_of_matrix(&mut self, operand: &str) -> Result<[usize; 4], String> {
        exactly(operand, self.results(operand)?)
    }

    fn registers<const N: usize>(&mut self, operand: &str) -> Result<[usize; N], String> {
        exactly(operand, self.list(operand)?)
    }

    /// The address of `[%r1+16]`.
    fn at(&mut self, operand: &str) -> Result<At, String> {
        let inner = operand
            .strip_prefix('[')
            .and_then(|operand| operand.strip_suffix(']'))
            .ok_or_else(|| format!("`{operand}` is no address"))?;
        let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
        let wrong = |_| format!("`{operand}` is no address");
        Ok(At {
            base: self.value(base)?,
            offset: offset.parse().map_err(wrong)?,
        })
    }

    pub(super) fn decode(&mut self, statement: &Statement) -> Result<Instruction, String> {
        let guard = match &statement.guard {
            Some((predicate, positive)) => Some((self.value(predicate)?, *positive)),
            None => None,
        };
        let kind = statement.mnemonic.split('.').next().unwrap_or_default();
        Ok(Instruction {
            guard,
            action: self.action(statement)?,
            takes_time: !matches!(kind, "mov" | "cvta")
                && !statement.mnemonic.starts_with("ld.param"),
            text: statement.text.clone(),
        })
    }

    fn action(&mut self, statement: &Statement) -> Result<Action, String> {
        let mnemonic = statement.mnemonic.as_str();
        let operand = |place| statement.operand(place);
        let parts: Vec<&str> = mnemonic.split('.').collect();
        Ok(match parts[..] {
            ["bra"] | ["bra", "uni"] => Action::Branch {
                target: self.target(operand(0)?)?,
            },
            ["ret"] => Action::Return,
            ["bar", "sync"] if operand(0)? == "0" => Action::Barrier,
            ["mov", kind] if operand(0)?.starts_with('{') => {
                let to = self.results(operand(0)?)?;
                Action::Unpack {
                    bits: bits_of_part(kind, to.len())?,
                    from: self.value(operand(1)?)?,
                    to,
                }
            }
            ["mov", kind] if operand(1)?.starts_with('{') => {
                let from = self.list(operand(1)?)?;
                Action::Pack {
                    bits: bits_of_part(kind, from.len())?,
                    from,
                    to: self.result(operand(0)?)?,
                }
            }
            ["ld", "param", kind] => self.parameter(kind, operand(0)?, operand(1)?)?,
            ["ld", space, .., kind] => Action::Load {
                space: space_of(space)?,
                bytes: bytes_of_vector(kind, operand(0)?)?,
                to: self.results(operand(0)?)?,
                from: self.at(operand(1)?)?,
            },
            ["st", space, .., kind] => Action::Store {
                space: space_of(space)?,
                bytes: bytes_of_vector(kind, operand(1)?)?,
                to: self.at(operand(0)?)?,
                from: self.list(operand(1)?)?,
            },
            ["cp", "async", "cg", "shared", "global"] if operand(2)? == "16" => Action::BeginCopy {
                to: self.at(operand(0)?)?,
                from: self.at(operand(1)?)?,
            },
            ["cp", "async", "commit_group"] => Action::EndGroup,
            ["cp", "async", "wait_group"] => Action::WaitForGroups {
                later: operand(0)?.parse().map_err(|_| "how many groups?")?,
            },
            ["shfl", "sync", "bfly", "b32"] => {
                let mut to = operand(0)?.split('|');
                Action::Shuffle {
                    to: self.result(to.next().unwrap_or_default())?,
                    found: to.next().map(|found| self.result(found)).transpose()?,
                    value: self.value(operand(1)?)?,
                    mask: self.value(operand(2)?)?,
                    last: self.value(operand(3)?)?,
                    members: self.value(operand(4)?)?,
                }
            }
            ["atom", "global", "exch", "b32"] => Action::Exchange {
                to: self.result(operand(0)?)?,
                at: self.at(operand(1)?)?,
                value: self.value(operand(2)?)?,
            },
            [
                "ldmatrix",
                "sync",
                "aligned",
                "m8n8",
                "x4",
                ref layout @ ..,
                "shared",
                "b16",
            ] => Action::LoadMatrices {
                transposed: layout == ["trans"],
                to: self.results_of_matrix(operand(0)?)?,
                from: self.at(operand(1)?)?,
            },
            [
                "mma",
                "sync",
                "aligned",
                "m16n8k16",
                "row",
                "col",
                "f32",
                "bf16",
                "bf16",
                "f32",
            ] => Action::Multiply {
                to: self.results_of_matrix(operand(0)?)?,
                a: self.registers(operand(1)?)?,
                b: self.registers(operand(2)?)?,
                c: self.registers(operand(3)?)?,
            },
            _ => self.compute(statement)?,
        })
    }

    fn target(&self, label: &str) -> Result<usize, String> {
        let found = self.labels.get(label).copied();
        found.ok_or_else(|| format!("there is no label `{label}`"))
    }

    fn parameter(&mut self, kind: &str, to: &str, name: &str) -> Result<Action, String> {
        let name = name.trim_matches(['[', ']']);
        let place = self.parameters.iter().position(|other| other == name);
        Ok(Action::Parameter {
            place: place.ok_or_else(|| format!("there is no parameter `{name}`"))?,
            bytes: bytes_of(kind)?,
            to: self.result(to)?,
        })
    }

    fn compute(&mut self, statement: &Statement) -> Result<Action, String> {
        let function =
            arithmetic::function(&statement.mnemonic).ok_or("the instruction is not known")?;
        let [to, sources @ ..] = &statement.operands[..] else {
            return Err("it has no operands".into());
        };
        if sources.len() > 4 {
            return Err("it has more operands than any that is known".into());
        }
        let mut from = [self.constant(0); 4];
        for (place, source) in from.iter_mut().zip(sources) {
            *place = self.value(source)?;
        }
        Ok(Action::Compute {
            function,
            from,
            to: self.result(to)?,
        })
    }
}

/// What is within the braces of a list.
fn inner(operand: &str) -> &str {
    let within = operand.strip_prefix('{');
    within
        .and_then(|within| within.strip_suffix('}'))
        .unwrap_or(operand)
}

fn exactly<const N: usize>(operand: &str, found: Vec<usize>) -> Result<[usize; N], String> {
    <[usize; N]>::try_from(found)
        .map_err(|found| format!("`{operand}` has {} registers, expected {N}", found.len()))
}

/// Bits of each of the parts of a register.
fn bits_of_part(kind: &str, parts: usize) -> Result<usize, String> {
    match 8 * bytes_of(kind)? / parts.max(1) {
        bits @ (8 | 16 | 32) => Ok(bits),
        _ => Err(format!("`{kind}` has no {parts} parts")),
    }
}

/// Bytes of each of the numbers that are read or written together.
fn bytes_of_vector(kind: &str, operand: &str) -> Result<usize, String> {
    let bytes = bytes_of(kind)?;
    match bytes * inner(operand).split(',').count() {
        1 | 2 | 4 | 8 | 16 => Ok(bytes),
        all => Err(format!("{all} bytes are not read or written together")),
    }
}

fn space_of(name: &str) -> Result<Space, String> {
    match name {
        "global" => Ok(Space::Global),
        "shared" => Ok(Space::Shared),
        _ => Err(format!("memory `{name}` is not known")),
    }
}

/// Bytes of a type of numbers that are not extended by their sign.
fn bytes_of(kind: &str) -> Result<usize, String> {
    Ok(match kind {
        "u8" | "b8" => 1,
        "u16" | "b16" => 2,
        "u32" | "b32" | "f32" | "s32" => 4,
        "u64" | "b64" | "f64" | "s64" => 8,
        _ => return Err(format!("the type `{kind}` is not known")),
    })
}
