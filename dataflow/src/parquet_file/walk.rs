//! Goes through a structure of Thrift's compact protocol, and holds it against what it should be.
//!
//! Protocol: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

use std::fmt;

use super::kinds::*;
use super::shapes::{Kind, NOTES, Note, SCHEMA_ELEMENT, Shape};

/// Structures within each other: more are refused.
const DEPTH_MAX: u32 = 64;
/// The paths of all columns together may be so much longer than the footer, and so long in any case.
const PATHS_FACTOR: usize = 64;
const PATHS: usize = 1 << 20;

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

/// Checks the structure that `bytes` begin with, and returns the numbers that are noted of it. Fields that `shape` does not have may be of
/// any type.
pub(super) fn check(bytes: &[u8], shape: Shape) -> Result<Notes, Fault> {
    let mut walk = Walk { left: bytes, notes: Notes::default() };
    walk.fields(shape, DEPTH_MAX)?;
    Ok(walk.notes)
}

/// Numbers of a structure; 0 if it does not have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes([i64; NOTES]);

impl Notes {
    pub(super) fn of(&self, note: Note) -> i64 {
        self.0[note as usize]
    }
}

impl Kind {
    fn is(&self, kind: u8) -> bool {
        match self {
            Kind::Truth => matches!(kind, TRUE | FALSE),
            Kind::Byte => kind == BYTE,
            Kind::Number | Kind::Noted(_) => matches!(kind, I16 | I32 | I64),
            Kind::Double => kind == DOUBLE,
            Kind::Binary => kind == BINARY,
            Kind::List(_) | Kind::Schema => kind == LIST,
            Kind::Struct(_) => kind == STRUCT,
        }
    }
}

/// Goes through bytes.
struct Walk<'a> {
    left: &'a [u8],
    notes: Notes,
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
                0 => i16::try_from(signed(self.number()?)).ok(),
                further => number.checked_add(further),
            }
            .ok_or_else(|| wrong("a field has a number above all"))?;
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
            I16 | I32 | I64 => {
                let number = signed(self.number()?);
                if let Some(Kind::Noted(note)) = known {
                    self.notes.0[*note as usize] = number;
                }
                Ok(())
            }
            DOUBLE => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let length = self.number()?;
                self.pass(length)
            }
            LIST | SET => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                match known {
                    Some(Kind::Schema) => self.schema(count, head & 15, depth),
                    Some(Kind::List(element)) => self.elements(count, &[head & 15], Some(element), depth),
                    _ => self.elements(count, &[head & 15], None, depth),
                }
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
        self.has_room_for(count)?;
        (0..count).try_for_each(|_| kinds.iter().try_for_each(|kind| self.value(*kind, known, depth)))
    }

    /// Passes the elements of a schema. They are a tree, each before its children: its reader calls itself for each level, and writes the whole
    /// path of each column.
    fn schema(&mut self, count: u64, kind: u8, depth: u32) -> Result<(), Fault> {
        if count > 0 && kind != STRUCT {
            return Err(wrong(format!("it has a list of values of type {kind}")));
        }
        self.has_room_for(count)?;
        let mut paths = PATHS_FACTOR * self.left.len() + PATHS;
        // Of each group that is not complete: how many children are to come, and about how many bytes its path has.
        let mut open: Vec<(u64, usize)> = Vec::new();
        for number in 1..=count {
            let before = self.left.len();
            self.notes.0[Note::Children as usize] = 0;
            self.fields(SCHEMA_ELEMENT, depth)?;
            let children = self.notes.of(Note::Children);
            let children = u64::try_from(children).ok().filter(|children| *children <= count - number);
            let children = children.ok_or_else(|| wrong(OTHER_COLUMNS))?;
            let mut path = before - self.left.len();
            if let Some((missing, group)) = open.last_mut() {
                *missing -= 1;
                path += *group;
            } else if number > 1 {
                return Err(wrong("its schema has columns in no group"));
            }
            if children > 0 {
                open.push((children, path));
            } else {
                paths = paths
                    .checked_sub(path)
                    .ok_or_else(|| wrong("the paths of its columns are much longer than it is"))?;
            }
            if open.len() > DEPTH_MAX as usize {
                return Err(wrong("it has groups of columns within each other for ever"));
            }
            while open.pop_if(|(missing, _)| *missing == 0).is_some() {}
        }
        match open.is_empty() {
            true => Ok(()),
            false => Err(wrong(OTHER_COLUMNS)),
        }
    }

    /// Each element takes a byte at least.
    fn has_room_for(&self, count: u64) -> Result<(), Fault> {
        match count > self.left.len() as u64 {
            true => Err(Fault::Cut(format!("it has a list of {count} elements in {} bytes", self.left.len()))),
            false => Ok(()),
        }
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
}

/// Returns the number that is written with its sign as the last bit.
fn signed(number: u64) -> i64 {
    let half = (number >> 1).cast_signed();
    if number & 1 == 1 { !half } else { half }
}

const OTHER_COLUMNS: &str = "a group of its schema has other columns than there are";

fn cut() -> Fault {
    Fault::Cut("it ends in the middle of a value".into())
}

fn wrong(reason: impl Into<String>) -> Fault {
    Fault::Wrong(reason.into())
}
