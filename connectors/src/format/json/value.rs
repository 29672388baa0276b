//! One JSON value into one cell. The text is a value that `serde_json` found well-formed, without blanks around it.

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::column::{GrowingColumn, Misfit, Values};
use super::super::schema::ColumnType;

/// A `json` value may be nested this deep, as deep as `serde_json` reads it back.
const DEPTH_MAX: usize = 128;

/// Appends the JSON value in `text` to `cells`.
pub(super) fn push_value(cells: &mut GrowingColumn, text: &str, scratch: &mut String) -> Result<(), Misfit> {
    let first = text.as_bytes().first().copied().unwrap_or_default();
    if first == b'n' {
        cells.push_null();
        return Ok(());
    }
    if *cells.column_type() == ColumnType::Json {
        compact(text, scratch)?;
        return cells.push_json(scratch);
    }
    match first {
        b'"' => cells.push_text(unescaped(text, scratch)?),
        b't' => cells.push_bool(true),
        b'f' => cells.push_bool(false),
        b'[' => push_list(cells, text, scratch),
        b'{' => push_struct(cells, text, scratch),
        _ => cells.push_number(text),
    }
}

/// Appends any text that should be one JSON value, from outside JSON.
pub(crate) fn push_json_text(cells: &mut GrowingColumn, text: &str, scratch: &mut String) -> Result<(), Misfit> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| Misfit::Malformed(error.to_string()))?;
    push_value(cells, raw.get(), scratch)
}

/// Returns what kind of JSON value begins with `text`.
pub(super) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a bool",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Returns the string in the quoted `text`.
fn unescaped<'t>(text: &'t str, scratch: &'t mut String) -> Result<&'t str, Misfit> {
    let inner = &text[1..text.len() - 1];
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(inner);
    }
    scratch.clear();
    let taken = serde_json::Deserializer::from_str(text).deserialize_str(Unescape(scratch));
    taken.map_err(|error| Misfit::Malformed(error.to_string()))?;
    Ok(scratch)
}

struct Unescape<'a>(&'a mut String);

impl Visitor<'_> for Unescape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

fn push_list(cells: &mut GrowingColumn, text: &str, scratch: &mut String) -> Result<(), Misfit> {
    let Values::List { item, .. } = &mut cells.values else { return Err(Misfit::Kind("a list")) };
    let mut result = Ok(());
    let read = serde_json::Deserializer::from_str(text).deserialize_seq(Items { item, scratch, result: &mut result });
    result?;
    read.map_err(|error| Misfit::Malformed(error.to_string()))?;
    cells.end_list()
}

struct Items<'a> {
    item: &'a mut GrowingColumn,
    scratch: &'a mut String,
    result: &'a mut Result<(), Misfit>,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(raw) = items.next_element::<&'de RawValue>()? {
            if self.result.is_ok() {
                *self.result = push_value(self.item, raw.get(), self.scratch);
            }
        }
        Ok(())
    }
}

fn push_struct(cells: &mut GrowingColumn, text: &str, scratch: &mut String) -> Result<(), Misfit> {
    let row = cells.len();
    let Values::Struct(fields) = &mut cells.values else { return Err(Misfit::Kind("an object")) };
    let mut result = Ok(());
    let visitor = StructFields { fields, row, scratch, result: &mut result };
    let read = serde_json::Deserializer::from_str(text).deserialize_map(visitor);
    result?;
    read.map_err(|error| Misfit::Malformed(error.to_string()))?;
    cells.end_struct()
}

struct StructFields<'a> {
    fields: &'a mut [(String, GrowingColumn)],
    row: usize,
    scratch: &'a mut String,
    result: &'a mut Result<(), Misfit>,
}

impl<'de> Visitor<'de> for StructFields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut key = String::new();
        while map.next_key_seed(KeyInto(&mut key))?.is_some() {
            let raw: &'de RawValue = map.next_value()?;
            let field = self.fields.iter_mut().find(|(name, _)| *name == key);
            if let (Some((_, cells)), Ok(())) = (field, &self.result) {
                cells.truncate(self.row);
                *self.result = push_value(cells, raw.get(), self.scratch);
            }
        }
        Ok(())
    }
}

struct KeyInto<'a>(&'a mut String);

impl<'de> serde::de::DeserializeSeed<'de> for KeyInto<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.clear();
        deserializer.deserialize_str(Unescape(self.0))
    }
}

/// Writes `text` without the blanks between its tokens into `out`.
fn compact(text: &str, out: &mut String) -> Result<(), Misfit> {
    out.clear();
    let bytes = text.as_bytes();
    let (mut depth, mut copied, mut at) = (0, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(&text[copied..at]);
                copied = at + 1;
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Misfit::Malformed(format!("nested more than {DEPTH_MAX} levels deep")));
        }
        at += 1;
    }
    out.push_str(&text[copied..]);
    Ok(())
}

/// Returns where the string that begins before `at` has its closing quote.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}
