//! JSON: one object per record.
//!
//! Rules beyond the types: a field that is given twice counts with its last value, though both must fit; a path through a missing or
//! null object is null, through anything else a misfit; `int64` and counted times take integers only (`1.0` is
//! none), `float64` any number; `json` keeps the text without blanks between tokens, at most 128 levels deep. A record that
//! is not UTF-8 or not well-formed is bad whatever is wrong with it besides.
//!
//! Two readers give the same rows: `flat` takes objects of plain strings and numbers in one pass; whatever it does not know goes to
//! `serde_json`, which alone says what is wrong.

pub(crate) mod encode;
mod flat;
pub(crate) mod scan;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Payload, Records};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use encode::{JsonEncoder, RowKey};
pub(crate) use value::push_json_text;

use super::fields::{Field, Fields};
use super::framing::{FRAME, unframed};
use super::rows::{Cells, Fault, RECORD_BYTES_MAX, Rows, bad_record};
use super::schema::RowSchema;
use flat::Flat;

/// Decodes JSON objects.
pub(crate) struct JsonDecoder {
    fields: Arc<Fields>,
    rows: Rows,
    flat: Flat,
    /// The number of a schema may stand before a record.
    framed: bool,
    /// Where strings with escapes are unescaped.
    scratch: String,
}

impl JsonDecoder {
    /// Returns a decoder for rows of `schema`, which was checked.
    pub(crate) fn new(schema: &RowSchema) -> JsonDecoder {
        let rows = Rows::new(schema);
        let fields = Arc::new(Fields::of(&rows));
        let flat = Flat::new(&fields);
        JsonDecoder { fields, rows, flat, framed: schema.framed, scratch: String::new() }
    }

    /// Reads one record into the row in hand.
    fn fill(&mut self, text: &str) -> Result<(), Fault> {
        if self.flat.fill(text, &mut self.rows) {
            return Ok(());
        }
        self.rows.roll_back();
        self.fill_slowly(text)
    }

    /// Reads one record into the row in hand with `serde_json`.
    fn fill_slowly(&mut self, text: &str) -> Result<(), Fault> {
        let mut walk = Walk { fields: &self.fields, rows: &mut self.rows, scratch: &mut self.scratch, fault: None };
        let begin = text.trim_start_matches([' ', '\t', '\r', '\n']);
        if begin.starts_with('{') {
            walk.object(text, 0).map_err(malformed)?;
        } else {
            serde_json::from_str::<IgnoredAny>(text).map_err(malformed)?;
            walk.fault = Some(Fault::new("type", format!("the record is {}, not an object", value::kind(begin))));
        }
        match walk.fault {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Returns the fault of a record that begins with a zero byte.
    fn numbered(&self, raw: &[u8]) -> Fault {
        match unframed(raw) {
            Some((id, _)) if !self.framed => {
                let how = "`framing: registry` passes over it";
                Fault::new(
                    "malformed",
                    format!("the number of a registered schema, {id}, stands before the record: {how}"),
                )
            }
            _ => Fault::new("malformed", "the record begins with a zero byte"),
        }
    }

    fn decode_records(&mut self, chunk: &Chunk, records: &Records, context: &DecodeContext, out: &mut Decoded) {
        let all = std::str::from_utf8(&records.bytes).ok();
        for (index, (start, end)) in records.ranges.iter().enumerate() {
            if self.rows.leaves_out(records, index) {
                out.filtered += 1;
                continue;
            }
            let (start, end) = (*start as usize, *end as usize);
            // No JSON begins with a zero byte: what has a number before it is told from what has none.
            let number = if self.framed { unframed(&records.bytes[start..end]).map_or(0, |_| FRAME) } else { 0 };
            let start = start + number;
            let raw = &records.bytes[start..end];
            let filled = match all.and_then(|all| all.get(start..end)).map_or_else(|| std::str::from_utf8(raw), Ok) {
                _ if raw.first() == Some(&0) => Err(self.numbered(raw)),
                _ if raw.len() > RECORD_BYTES_MAX => Err(Fault::new("too_long", "the record is longer than 64 MiB")),
                Ok(text) => self.fill(text),
                Err(fault) => Err(Fault::new("utf8", fault.to_string())),
            };
            let filled = filled.and_then(|()| self.rows.surround(chunk, records, index, context));
            let ended = filled.and_then(|()| self.rows.end_row(chunk.position(index), context));
            if let Err(fault) = ended {
                self.rows.roll_back();
                out.bad.push(bad_record(chunk, records, index, context.split, fault));
            }
            if self.rows.is_full() {
                self.rows.flush(context.split, out);
            }
        }
        self.rows.flush(context.split, out);
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, chunk: &Chunk, context: &DecodeContext, out: &mut Decoded) {
        match &chunk.payload {
            Payload::Records(records) => self.decode_records(chunk, records, context, out),
            Payload::Columns(_) => unreachable!("a JSON source gives records"),
        }
    }
}

fn malformed(error: serde_json::Error) -> Fault {
    Fault::new("malformed", error.to_string().replace(" at line 1 column ", " at byte "))
}

/// One record on its way into the slots.
struct Walk<'a> {
    fields: &'a Fields,
    rows: &'a mut Rows,
    scratch: &'a mut String,
    /// The first value that does not fit. The rest of the record is then only checked for form.
    fault: Option<Fault>,
}

impl Walk<'_> {
    /// Reads the object in `text`, whose fields stand at `node`.
    fn object(&mut self, text: &str, node: usize) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(ObjectVisitor { walk: self, node })?;
        deserializer.end()
    }

    /// Takes the value of a field.
    fn value(&mut self, field: &Field, text: &str) {
        for slot in &field.under {
            self.rows.reset(*slot);
        }
        for slot in &field.slots {
            let slot = &mut self.rows.slots[*slot];
            let pushed = match &mut slot.cells {
                Cells::Kept(cells) => value::push_value(cells, text, self.scratch),
                Cells::Presence(present) => {
                    *present = text != "null";
                    Ok(())
                }
            };
            if let Err(misfit) = pushed {
                self.fault.get_or_insert(Fault::misfit(&slot.column, &misfit));
                return;
            }
        }
        let Some(child) = field.child else { return };
        if text.starts_with('{') {
            if let Err(error) = self.object(text, child) {
                self.fault.get_or_insert(malformed(error));
            }
        } else if text != "null" {
            let below = field.under.iter().find(|slot| !field.slots.contains(slot));
            let column = below.map(|slot| &self.rows.slots[*slot].column);
            let path = column.map(|column| column.path.join(".")).unwrap_or_default();
            let reason = format!("`{path}` leads through {}, not an object", value::kind(text));
            self.fault.get_or_insert(Fault::new("type", reason));
        }
    }
}

struct ObjectVisitor<'w, 'a> {
    walk: &'w mut Walk<'a>,
    node: usize,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = self.walk.fields;
        let mut hint = 0;
        while let Some(found) = map.next_key_seed(Key { fields, node: self.node, hint })? {
            match found {
                Some(index) if self.walk.fault.is_none() => {
                    hint = index + 1;
                    let raw: &'de RawValue = map.next_value()?;
                    self.walk.value(&fields.nodes[self.node][index], raw.get());
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Finds a field by its name; `hint` is where it is expected.
struct Key<'a> {
    fields: &'a Fields,
    node: usize,
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.fields.find(self.node, name, self.hint))
    }
}
