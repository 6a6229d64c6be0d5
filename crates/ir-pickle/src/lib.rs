//! Reads the values of a pickle without doing what it says.
//!
//! A pickle is a program for a stack machine, and running one can run anything. Here a call
//! is only written down: the result is a list of values that refer to each other, with a
//! [`Value::Call`] where Python would have called something. Byte strings are views into
//! the file, and an instruction adds one value at most, so memory is bounded by the file's
//! size and by a limit on their number.
//!
//! Protocols 2 to 5, without out-of-band buffers and extension codes. A persistent identifier,
//! with which a pickle names what is kept elsewhere, is a value as well.
//!
//! ```
//! use ir_pickle::{Pickle, Value};
//!
//! // Python's pickle.dumps({"epoch": 3}, protocol=2), and one that would delete everything.
//! let harmless = Pickle::parse(b"\x80\x02}q\x00X\x05\x00\x00\x00epochq\x01K\x03s.")?;
//! let pairs = harmless.items(harmless.root_id()).expect("a dictionary");
//! assert_eq!(harmless.get(pairs[0].0), &Value::Text("epoch"));
//! let hostile = Pickle::parse(b"\x80\x02cos\nsystem\nX\x08\x00\x00\x00rm -rf /\x85R.")?;
//! assert!(matches!(hostile.root(), Value::Call { .. }));
//! # Ok::<(), ir_pickle::Problem>(())
//! ```

use std::collections::HashMap;

/// The most instructions that are followed; a batch of CIFAR-100 has some 400,000.
const MAX_INSTRUCTIONS: usize = 2_000_000;

/// Index of a value within its pickle.
pub type Id = usize;

/// One Python value. Containers name their members by index.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// `bytes`, `bytearray`, or Python 2's `str`.
    Bytes(&'a [u8]),
    /// `str`.
    Text(&'a str),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// Pairs of key and value in stored order.
    Dict(Vec<(Id, Id)>),
    /// Something importable: module and name.
    Global(&'a str, &'a str),
    /// What is kept elsewhere under this identifier.
    Persistent(Id),
    /// The result of a call that is not made.
    Call {
        /// What would be called.
        function: Id,
        /// With what.
        arguments: Id,
        /// What the result would be told by `__setstate__`.
        state: Option<Id>,
        /// What would be put into the result by `__setitem__`, as into an `OrderedDict`.
        items: Vec<(Id, Id)>,
    },
}

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} expected a pickle of protocol 2 to 5, found {found}")]
pub struct Problem {
    /// Offset into the file in bytes.
    pub offset: usize,
    /// What stands there.
    pub found: String,
}

type Result<T> = std::result::Result<T, Problem>;

/// All values of a pickle and which of them it stands for.
#[derive(Debug)]
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle up to its end mark; what follows is ignored, as Python does.
    ///
    /// # Errors
    /// [`Problem`] for what is no pickle, or one that uses what is not read.
    pub fn parse(input: &'a [u8]) -> Result<Self> {
        let mut machine = Machine {
            input,
            offset: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let mut instructions = 0;
        while !machine.step()? {
            instructions += 1;
            if instructions == MAX_INSTRUCTIONS {
                return Err(machine.problem(format!("more than {MAX_INSTRUCTIONS} instructions")));
            }
        }
        let root = machine.pop()?;
        Ok(Self {
            values: machine.values,
            root,
        })
    }

    /// The index of the value that the pickle stands for.
    pub fn root_id(&self) -> Id {
        self.root
    }

    /// The value that the pickle stands for.
    pub fn root(&self) -> &Value<'a> {
        &self.values[self.root]
    }

    /// The value with this index, which a value of the same pickle has named.
    pub fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// Keys and values, in stored order, of a dictionary or of a call that becomes one.
    pub fn items(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(pairs) => Some(pairs),
            Value::Call { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The members of a tuple.
    pub fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(members) => Some(members),
            _ => None,
        }
    }

    /// Module and name of what a call calls, and its arguments.
    pub fn call(&self, id: Id) -> Option<(&'a str, &'a str, &[Id])> {
        let &Value::Call {
            function,
            arguments,
            ..
        } = self.get(id)
        else {
            return None;
        };
        match *self.get(function) {
            Value::Global(module, name) => Some((module, name, self.tuple(arguments)?)),
            _ => None,
        }
    }
}

/// The stack machine. Every index on the stack, in the memo and in a container is that of
/// a value that exists, as values are never taken away.
struct Machine<'a> {
    input: &'a [u8],
    offset: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Does one instruction; true at the end mark.
    fn step(&mut self) -> Result<bool> {
        let opcode = self.take(1)?[0];
        match opcode {
            b'.' => return Ok(true),
            0x80 => self.protocol()?,
            // A frame announces its length, which reading does not need.
            0x95 => drop(self.take(8)?),
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | b'G' => self.number(opcode)?,
            b'U' | b'T' | b'C' | b'B' | 0x8e | 0x96 => self.bytes(opcode)?,
            0x8c | b'X' | 0x8d => self.text(opcode)?,
            b'(' => self.marks.push(self.stack.len()),
            b']' | b'l' | b')' | b't' | 0x85..=0x87 | b'}' | b'd' => self.container(opcode)?,
            b'a' | b'e' | b's' | b'u' => self.fill(opcode)?,
            b'c' | 0x93 | b'R' | 0x81 | b'b' => self.call(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode)?,
            b'Q' => {
                let identifier = self.pop()?;
                self.push(Value::Persistent(identifier));
            }
            b'0' => drop(self.pop()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            _ => return Err(self.problem(format!("instruction {opcode:#04x}"))),
        }
        Ok(false)
    }

    fn protocol(&mut self) -> Result<()> {
        match self.take(1)?[0] {
            2..=5 => Ok(()),
            other => Err(self.problem(format!("pickle protocol {other}"))),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(self.take(1)?[0])),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            _ => Value::Int(self.long()?),
        };
        self.push(value);
        Ok(())
    }

    /// A two's complement number of up to eight bytes.
    fn long(&mut self) -> Result<i64> {
        let length = usize::from(self.take(1)?[0]);
        if length > 8 {
            return Err(self.problem(format!("an integer of {length} bytes")));
        }
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut all = if negative { [0xff; 8] } else { [0; 8] };
        all[..length].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn bytes(&mut self, opcode: u8) -> Result<()> {
        let length = match opcode {
            b'U' | b'C' => u64::from(self.take(1)?[0]),
            b'T' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take_long(length)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let length = match opcode {
            0x8c => u64::from(self.take(1)?[0]),
            b'X' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take_long(length)?;
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| self.problem("text that is not UTF-8"))?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn container(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b']' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            b'l' => Value::List(self.pop_to_mark()?),
            b't' => Value::Tuple(self.pop_to_mark()?),
            b'd' => Value::Dict(self.pop_pairs()?),
            _ => {
                let start = self.below(usize::from(opcode - 0x84))?;
                Value::Tuple(self.stack.split_off(start))
            }
        };
        self.push(value);
        Ok(())
    }

    /// Puts what is on top of the stack into the list or dictionary below it.
    fn fill(&mut self, opcode: u8) -> Result<()> {
        let mut members = Vec::new();
        let mut pairs = Vec::new();
        match opcode {
            b'a' => members.push(self.pop()?),
            b'e' => members = self.pop_to_mark()?,
            b's' => {
                let value = self.pop()?;
                pairs.push((self.pop()?, value));
            }
            _ => pairs = self.pop_pairs()?,
        }
        let container = self.top()?;
        match (&mut self.values[container], opcode) {
            (Value::List(list), b'a' | b'e') => list.append(&mut members),
            (Value::Dict(dict), b's' | b'u') => dict.append(&mut pairs),
            (Value::Call { items, .. }, b's' | b'u') => items.append(&mut pairs),
            _ => return Err(self.problem("members for what is no list or dictionary")),
        }
        Ok(())
    }

    fn call(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'c' => Value::Global(self.line()?, self.line()?),
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (&Value::Text(module), &Value::Text(name)) => Value::Global(module, name),
                    _ => return Err(self.problem("a global whose name is no text")),
                }
            }
            b'b' => return self.build(),
            _ => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                Value::Call {
                    function,
                    arguments,
                    state: None,
                    items: Vec::new(),
                }
            }
        };
        self.push(value);
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let new = self.pop()?;
        let object = self.top()?;
        match &mut self.values[object] {
            Value::Call { state, .. } => *state = Some(new),
            _ => return Err(self.problem("state for what is no object")),
        }
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            0x94 => self.memo.len() as u64,
            b'q' | b'h' => u64::from(self.take(1)?[0]),
            _ => u64::from(u32::from_le_bytes(self.array()?)),
        };
        if matches!(opcode, b'h' | b'j') {
            let Some(&id) = self.memo.get(&index) else {
                return Err(self.problem(format!("memo entry {index} before it is set")));
            };
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The stack index so many values below the top, none of them below the last mark.
    fn below(&self, count: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= floor => Ok(start),
            _ => Err(self.problem("an instruction without its operands")),
        }
    }

    fn top(&self) -> Result<Id> {
        Ok(self.stack[self.below(1)?])
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.problem("the end of a group that never began")),
        }
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let members = self.pop_to_mark()?;
        let (pairs, rest) = members.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
        } else {
            Err(self.problem("a key without a value"))
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = self.input.get(self.offset..).unwrap_or_default();
        match rest.get(..count) {
            Some(taken) => {
                self.offset += count;
                Ok(taken)
            }
            None => Err(self.problem(format!(
                "the end of the file, {count} bytes announced and {} left",
                rest.len()
            ))),
        }
    }

    fn take_long(&mut self, count: u64) -> Result<&'a [u8]> {
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.input.get(self.offset..).unwrap_or_default();
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.problem("a name without an end"));
        };
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| self.problem("a name that is not UTF-8"))
    }

    fn problem(&self, found: impl Into<String>) -> Problem {
        Problem {
            offset: self.offset,
            found: found.into(),
        }
    }
}
