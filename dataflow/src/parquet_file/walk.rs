//! Goes through a structure of Thrift's compact protocol, and holds it against what it should be.
//!
//! Protocol: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use std::fmt;

use super::shapes::{Kind, Shape};

/// Structures within each other: more are refused.
const DEPTH_MAX: u32 = 64;

/// What is wrong with a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not end in these bytes. With more of them it may be right.
    Cut(String),
    /// It is wrong, whatever follows.
    Wrong(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Fault::Cut(reason) | Fault::Wrong(reason)) = self;
        f.write_str(reason)
    }
}

/// Checks the structure that `bytes` begin with. Fields that `shape` does not have may be of any type.
pub(super) fn check(bytes: &[u8], shape: Shape) -> Result<(), Fault> {
    Walk { left: bytes }.fields(shape, DEPTH_MAX)
}

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

impl Kind {
    fn is(&self, kind: u8) -> bool {
        match self {
            Kind::Truth => matches!(kind, TRUE | FALSE),
            Kind::Byte => kind == BYTE,
            Kind::Number => matches!(kind, I16 | I32 | I64),
            Kind::Double => kind == DOUBLE,
            Kind::Binary => kind == BINARY,
            Kind::List(_) => kind == LIST,
            Kind::Struct(_) => kind == STRUCT,
        }
    }
}

/// Goes through bytes.
struct Walk<'a> {
    left: &'a [u8],
}

impl Walk<'_> {
    /// Passes the fields of a structure.
    fn fields(&mut self, shape: Shape, depth: u32) -> Result<(), Fault> {
        let mut number = 0_i16;
        loop {
            let head = self.byte()?;
            if head == STOP {
                return Ok(());
            }
            number = match i16::from(head >> 4) {
                // It is not told by its distance from the one before.
                0 => self.signed()?,
                further => number.checked_add(further).ok_or_else(|| wrong("a field has a number above all"))?,
            };
            let kind = head & 15;
            let known = shape.iter().find(|(known, _)| *known == number).map(|(_, kind)| kind);
            if known.is_some_and(|known| !known.is(kind)) {
                return Err(wrong(format!("field {number} is a value of type {kind}")));
            }
            self.value(kind, known, depth)?;
        }
    }

    /// Passes a value of this type, of which it is known what it should be, or not. A truth value is in the type itself, and takes no byte.
    fn value(&mut self, kind: u8, known: Option<&Kind>, depth: u32) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or_else(|| wrong("it has structures within each other for ever"))?;
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            I16 | I32 | I64 => self.number().map(drop),
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let length = self.number()?;
                self.pass(length)
            }
            LIST | SET => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                let element = match known {
                    Some(Kind::List(element)) => Some(*element),
                    _ => None,
                };
                self.elements(count, &[head & 15], element, depth)
            }
            MAP => match self.number()? {
                0 => Ok(()),
                count => {
                    let kinds = self.byte()?;
                    self.elements(count, &[kinds >> 4, kinds & 15], None, depth)
                }
            },
            STRUCT => match known {
                Some(Kind::Struct(shape)) => self.fields(shape, depth),
                _ => self.fields(&[], depth),
            },
            _ => Err(wrong(format!("it has a value of type {kind}"))),
        }
    }

    /// Passes so many elements of a list, or pairs of a map. Nothing that Parquet defines has truth values among them: readers do not
    /// agree on how many bytes they take.
    fn elements(&mut self, count: u64, kinds: &[u8], known: Option<&Kind>, depth: u32) -> Result<(), Fault> {
        if count == 0 {
            return Ok(());
        }
        if kinds.iter().any(|kind| matches!(*kind, TRUE | FALSE)) {
            return Err(wrong("it has a list of truth values"));
        }
        if known.is_some_and(|known| !kinds.iter().all(|kind| known.is(*kind))) {
            return Err(wrong(format!("it has a list of values of type {}", kinds[0])));
        }
        if count > self.left.len() as u64 {
            return Err(Fault::Cut(format!("it has a list of {count} elements in {} bytes", self.left.len())));
        }
        (0..count).try_for_each(|_| kinds.iter().try_for_each(|kind| self.value(*kind, known, depth)))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, left) = self.left.split_first().ok_or_else(cut)?;
        self.left = left;
        Ok(*first)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), Fault> {
        let left = usize::try_from(bytes).ok().and_then(|bytes| self.left.get(bytes..));
        self.left = left.ok_or_else(cut)?;
        Ok(())
    }

    /// Reads a number of seven bits a byte, the least ones first.
    fn number(&mut self) -> Result<u64, Fault> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte & 128 == 0 {
                return Ok(number);
            }
        }
        Err(wrong("it has a number of more than ten bytes"))
    }

    /// Reads the number of a field, of which the last bit is the sign.
    fn signed(&mut self) -> Result<i16, Fault> {
        let number = self.number()?;
        let number = i64::try_from(number >> 1).ok().map(|half| half ^ -i64::from(number & 1 == 1));
        number.and_then(|number| i16::try_from(number).ok()).ok_or_else(|| wrong("a field has a number above all"))
    }
}

fn cut() -> Fault {
    Fault::Cut("it ends in the middle of a value".into())
}

fn wrong(reason: impl Into<String>) -> Fault {
    Fault::Wrong(reason.into())
}
