//! The fast way for objects of plain values: one pass over the bytes, no tree, no allocation.
//!
//! It knows: fields at the top level, strings (where they are wanted: without escapes), numbers, `true`, `false`, `null`. On
//! anything else, and on anything wrong, it gives up, and the caller begins the record again with `serde_json`. So it may refuse
//! what is right, but never take what is wrong; tests hold the two readers together.
//!
//! Records repeat their fields in one order: the name expected next is compared as it stands, quotes and colon included.

use super::super::column::GrowingColumn;
use super::super::fields::Fields;
use super::super::rows::{Cells, Rows};
use super::super::schema::ColumnType;
use super::scan::plain_end;

/// Fields of a record whose order is remembered.
const EXPECTED_MAX: usize = 256;

/// The reader, and what it expects.
#[derive(Debug)]
pub(super) struct Flat {
    /// The fields in use at the top level.
    targets: Vec<Target>,
    /// The fields of the record before, in their order.
    expected: Vec<Expected>,
    /// Every field in use at the top level goes to exactly one slot.
    pub(super) usable: bool,
}

#[derive(Debug)]
struct Target {
    name: String,
    slot: usize,
}

#[derive(Debug)]
struct Expected {
    /// `"name":`
    text: Vec<u8>,
    slot: Option<usize>,
}

/// The record is not of the plain kind.
struct GiveUp;

impl Flat {
    /// Returns a reader of the fields of node 0.
    pub(super) fn new(fields: &Fields) -> Flat {
        let plain = |field: &&super::super::fields::Field| field.child.is_none() && field.slots.len() == 1;
        let targets: Vec<Target> = fields.nodes[0]
            .iter()
            .filter(plain)
            .map(|field| Target { name: field.name.clone(), slot: field.slots[0] })
            .collect();
        let usable = targets.len() == fields.nodes[0].len();
        Flat { targets, expected: Vec::new(), usable }
    }

    /// Reads a record into the row in hand and returns whether it could.
    #[inline]
    pub(super) fn fill(&mut self, text: &str, rows: &mut Rows) -> bool {
        self.usable && self.object(text, rows).is_ok()
    }

    fn object(&mut self, text: &str, rows: &mut Rows) -> Result<(), GiveUp> {
        let bytes = text.as_bytes();
        let mut at = blanks(bytes, 0);
        at = eat(bytes, at, b'{')?;
        let mut place = 0;
        loop {
            at = blanks(bytes, at);
            let slot;
            (slot, at) = self.name(text, at, place)?;
            place += 1;
            at = blanks(bytes, at);
            at = match slot {
                Some(slot) => take(text, at, rows, slot)?,
                None => skip(bytes, at)?,
            };
            at = blanks(bytes, at);
            match bytes.get(at) {
                Some(b',') => at += 1,
                Some(b'}') => break,
                _ => return Err(GiveUp),
            }
        }
        match blanks(bytes, at + 1) == bytes.len() {
            true => Ok(()),
            false => Err(GiveUp),
        }
    }

    /// Reads a name and its colon at `at` and returns its slot and where its value begins.
    #[inline]
    fn name(&mut self, text: &str, at: usize, place: usize) -> Result<(Option<usize>, usize), GiveUp> {
        let bytes = text.as_bytes();
        if let Some(expected) = self.expected.get(place)
            && bytes[at..].starts_with(&expected.text)
        {
            return Ok((expected.slot, at + expected.text.len()));
        }
        let start = eat(bytes, at, b'"')?;
        let end = string_end(bytes, start)?;
        let colon = blanks(bytes, end + 1);
        let after = eat(bytes, colon, b':')?;
        let name = &text[start..end];
        let slot = self.targets.iter().find(|target| target.name == name).map(|target| target.slot);
        self.expect(place, name, slot);
        Ok((slot, after))
    }

    fn expect(&mut self, place: usize, name: &str, slot: Option<usize>) {
        if place == self.expected.len() && place < EXPECTED_MAX {
            self.expected.push(Expected { text: Vec::new(), slot });
        }
        if let Some(expected) = self.expected.get_mut(place) {
            expected.slot = slot;
            expected.text.clear();
            for part in ["\"", name, "\":"] {
                expected.text.extend_from_slice(part.as_bytes());
            }
        }
    }
}

/// Reads the value at `at` into `slot` and returns where it ends.
#[inline]
fn take(text: &str, at: usize, rows: &mut Rows, slot: usize) -> Result<usize, GiveUp> {
    let row = rows.row;
    let bytes = text.as_bytes();
    let cells = match &mut rows.slots[slot].cells {
        Cells::Kept(cells) => cells,
        Cells::Presence(present) => {
            *present = bytes.get(at) != Some(&b'n');
            return skip(bytes, at);
        }
    };
    // A second value for the same cell: the slow way knows the rule.
    if cells.len() != row {
        return Err(GiveUp);
    }
    match bytes.get(at).ok_or(GiveUp)? {
        b'"' => {
            let end = string_end(bytes, at + 1)?;
            let pushed = match cells.column_type() {
                ColumnType::Json => cells.push_json(&text[at..=end]),
                _ => cells.push_text(&text[at + 1..end]),
            };
            pushed.map_err(|_| GiveUp)?;
            Ok(end + 1)
        }
        b'-' | b'0'..=b'9' => number(text, at, cells),
        b'n' => {
            let end = word(bytes, at, b"null")?;
            cells.push_null();
            Ok(end)
        }
        b't' => {
            let end = word(bytes, at, b"true")?;
            cells.push_bool(true).map_err(|_| GiveUp)?;
            Ok(end)
        }
        b'f' => {
            let end = word(bytes, at, b"false")?;
            cells.push_bool(false).map_err(|_| GiveUp)?;
            Ok(end)
        }
        _ => Err(GiveUp),
    }
}

/// Skips the value at `at` and returns where it ends.
#[inline]
fn skip(bytes: &[u8], at: usize) -> Result<usize, GiveUp> {
    match bytes.get(at).ok_or(GiveUp)? {
        b'"' => Ok(skipped_end(bytes, at + 1)? + 1),
        b'-' | b'0'..=b'9' => Ok(number_end(bytes, at)?.0),
        b'n' => word(bytes, at, b"null"),
        b't' => word(bytes, at, b"true"),
        b'f' => word(bytes, at, b"false"),
        _ => Err(GiveUp),
    }
}

#[inline]
fn number(text: &str, at: usize, cells: &mut GrowingColumn) -> Result<usize, GiveUp> {
    let (end, integer) = number_end(text.as_bytes(), at)?;
    let token = &text[at..end];
    // Up to 18 digits and a sign cannot overflow.
    let pushed = match integer && token.len() <= 18 && is_counted(cells.column_type()) {
        true => cells.push_integer(small_integer(token)),
        false if *cells.column_type() == ColumnType::Json => cells.push_json(token),
        false => cells.push_number(token),
    };
    pushed.map_err(|_| GiveUp)?;
    Ok(end)
}

#[inline]
fn is_counted(column_type: &ColumnType) -> bool {
    use ColumnType::{Int64, TimestampMicros, TimestampMillis, TimestampSeconds};
    matches!(column_type, Int64 | TimestampSeconds | TimestampMillis | TimestampMicros)
}

#[inline]
fn small_integer(token: &str) -> i64 {
    let (negative, digits) = match token.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let value = digits.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit & 15));
    if negative { -value } else { value }
}

/// Returns where the number at `at` ends, and whether it is an integer.
#[inline]
fn number_end(bytes: &[u8], at: usize) -> Result<(usize, bool), GiveUp> {
    let whole = if bytes[at] == b'-' { at + 1 } else { at };
    let mut end = digits_end(bytes, whole);
    // No number begins with 0 but 0 itself.
    if end == whole || (bytes[whole] == b'0' && end > whole + 1) {
        return Err(GiveUp);
    }
    let mut integer = true;
    if bytes.get(end) == Some(&b'.') {
        integer = false;
        let part = end + 1;
        end = digits_end(bytes, part);
        if end == part {
            return Err(GiveUp);
        }
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        integer = false;
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        end = digits_end(bytes, exponent);
        if end == exponent {
            return Err(GiveUp);
        }
    }
    Ok((end, integer))
}

#[inline]
fn digits_end(bytes: &[u8], at: usize) -> usize {
    let digits = bytes[at..].iter().position(|byte| !byte.is_ascii_digit());
    digits.map_or(bytes.len(), |length| at + length)
}

#[inline]
fn word(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, GiveUp> {
    match bytes[at..].starts_with(word) {
        true => Ok(at + word.len()),
        false => Err(GiveUp),
    }
}

#[inline]
fn eat(bytes: &[u8], at: usize, byte: u8) -> Result<usize, GiveUp> {
    match bytes.get(at) == Some(&byte) {
        true => Ok(at + 1),
        false => Err(GiveUp),
    }
}

#[inline]
fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Returns where the string that begins at `at` has its closing quote; gives up on escapes and control characters.
#[inline]
fn string_end(bytes: &[u8], at: usize) -> Result<usize, GiveUp> {
    let end = plain_end(bytes, at);
    match bytes.get(end) == Some(&b'"') {
        true => Ok(end),
        false => Err(GiveUp),
    }
}

/// Returns where the string that begins at `at`, and that nobody wants, has its closing quote; escapes are only checked.
#[inline]
fn skipped_end(bytes: &[u8], mut at: usize) -> Result<usize, GiveUp> {
    loop {
        let end = plain_end(bytes, at);
        at = match (bytes.get(end), bytes.get(end + 1)) {
            (Some(b'"'), _) => return Ok(end),
            (Some(b'\\'), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => end + 2,
            (Some(b'\\'), Some(b'u')) => match bytes.get(end + 2..end + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => end + 6,
                _ => return Err(GiveUp),
            },
            _ => return Err(GiveUp),
        };
    }
}
