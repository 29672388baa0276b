//! Avro: one datum per record, in the binary form.
//!
//! Each record is read by the schema it was written with, which comes from a registry by the number before the datum (a zero
//! byte, four bytes of number), or from a file for records without such a frame. Columns are the reader's schema: fields are
//! found by name, what the writer did not have is null, what the job does not name is passed over. So the two resolve as the
//! specification says, promotions included (see [`cells`]); aliases are the paths of columns.
//!
//! Decoded by code of our own, straight into columns: the libraries there are give a value tree per record, or whole batches
//! that one bad record spoils halfway.

mod cells;
pub(crate) mod encode;
mod input;
mod schema;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;
use std::sync::Arc;

use super::FormatError;
use super::fields::Fields;
use super::framing::{no_frame, unframed, unknown_schema};
use super::records::FillRow;
use super::rows::{Fault, Rows};
use crate::registry::{Answer, RegisteredSchema, Registry, SchemaKind};
use cells::Walk;
use input::Input;
pub(crate) use schema::AvroSchema;

/// Where the schema of a record is.
#[derive(Clone)]
pub(crate) enum Written {
    /// In a registry, by the number in the record; with those that were read.
    Registered(Registry, HashMap<u32, Result<Arc<AvroSchema>, Fault>>),
    /// Here: all records have the same.
    Alike(Arc<AvroSchema>),
}

/// Fills rows from Avro records.
pub(crate) struct AvroRows {
    written: Written,
    fields: Fields,
    /// Where texts are put together.
    scratch: Vec<u8>,
}

impl AvroRows {
    /// Returns what fills `rows`.
    pub fn new(rows: &Rows, written: Written) -> AvroRows {
        AvroRows { written, fields: Fields::of(rows), scratch: Vec::new() }
    }

    /// Returns the schema of a record, and its datum.
    fn schema<'r>(&mut self, record: &'r [u8]) -> Result<(Arc<AvroSchema>, &'r [u8]), Fault> {
        let (registry, known) = match &mut self.written {
            Written::Alike(schema) => return Ok((schema.clone(), record)),
            Written::Registered(registry, known) => (registry, known),
        };
        let (id, datum) = unframed(record).ok_or_else(|| no_frame(record))?;
        if let Some(schema) = known.get(&id) {
            return schema.clone().map(|schema| (schema, datum));
        }
        let read = match registry.answer(id) {
            // Asked for again the next time: it may be many.
            Answer::Unknown(reason) => return Err(unknown_schema(id, &reason)),
            Answer::Known(found) => match found.kind {
                SchemaKind::Avro => {
                    let refers: Vec<&str> = found.references.iter().map(|(_, text)| text.as_str()).collect();
                    AvroSchema::parse(&found.text, &refers).and_then(is_record).map(Arc::new).map_err(|reason| {
                        Fault::new("unknown_schema", format!("schema {id} of the registry cannot be used: {reason}"))
                    })
                }
                kind => Err(Fault::new("unknown_schema", format!("schema {id} is no AVRO, it is {}", kind.word()))),
            },
        };
        known.insert(id, read.clone());
        read.map(|schema| (schema, datum))
    }
}

impl FillRow for AvroRows {
    fn fill(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), Fault> {
        let (schema, datum) = self.schema(record)?;
        let mut walk = Walk { schema: &schema, fields: &self.fields, rows, scratch: &mut self.scratch };
        let mut input = Input::new(datum);
        walk.whole(&mut input)?;
        match input.rest() {
            0 => Ok(()),
            left => Err(Fault::new("malformed", format!("{left} bytes follow the record: it has another schema"))),
        }
    }
}

/// A registered schema that makes JSON of the records that were written with it, for who looks at them.
pub struct AvroText(AvroSchema);

impl AvroText {
    /// Reads a schema; says why it cannot be used.
    pub fn new(found: &RegisteredSchema) -> Result<AvroText, String> {
        let refers: Vec<&str> = found.references.iter().map(|(_, text)| text.as_str()).collect();
        AvroSchema::parse(&found.text, &refers).map(AvroText)
    }

    /// Returns a datum as JSON, as a `json` column has it; or says why it is none of this schema.
    pub fn json(&self, datum: &[u8]) -> Result<String, String> {
        let (mut input, mut out) = (Input::new(datum), Vec::new());
        text::push_json(&self.0, &mut input, self.0.root, &mut out, 0).map_err(|malformed| malformed.0)?;
        match input.rest() {
            0 => Ok(String::from_utf8(out).expect("JSON is text")),
            left => Err(format!("{left} bytes follow the record: it has another schema")),
        }
    }
}

/// Reads the schema in a file.
pub(crate) fn parse_alone(bytes: &[u8]) -> Result<AvroSchema, FormatError> {
    let text = std::str::from_utf8(bytes).map_err(|error| FormatError(format!("it is not UTF-8: {error}")))?;
    AvroSchema::parse(text, &[]).and_then(is_record).map_err(FormatError)
}

fn is_record(schema: AvroSchema) -> Result<AvroSchema, String> {
    match schema.fields() {
        Some(_) => Ok(schema),
        None => Err(format!("it is {}, not a record", schema.name(schema.root))),
    }
}
