//! Comma-separated values: one record per line, quoted fields may hold line ends.
//!
//! A quote opens a field only where the field begins; within, two quotes are one, and what follows the closing quote belongs to the
//! field as it stands. An unquoted field with the text of `null` is null; so is a quoted one, unless the column is text. Values are
//! written as in JSON, texts without quotes; lists, structs and `json` are JSON text. A record with more or fewer
//! fields than the header is bad.

mod encode;
mod fields;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Payload, Records};

pub(crate) use encode::{CsvEncoder, header_line};
pub(crate) use fields::{FieldReader, record_end};

use super::CsvOptions;
use super::column::{GrowingColumn, Misfit};
use super::json::push_json_text;
use super::rows::{Cells, Fault, RECORD_BYTES_MAX, Rows, bad_record};
use super::schema::{Column, ColumnType, RowSchema};

/// The names in the header of a source's files, known as soon as one was opened.
pub(crate) type Header = Arc<OnceLock<Vec<String>>>;

/// Returns the name by which a header knows `column`.
fn name_of(column: &Column) -> String {
    column.path.join(".")
}

/// Returns the names that a file without a header stands for: the columns in declared order. Columns that are found at one
/// path are one field, which stands where the first of them does.
pub(crate) fn declared_names(schema: &RowSchema) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(schema.columns.len());
    for name in schema.columns.iter().filter(|column| column.meta.is_none()).map(name_of) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns the names in a header's record.
pub(crate) fn header_names(record: &[u8], options: &CsvOptions) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(record).map_err(|_| "its header is not UTF-8")?;
    let names: Vec<String> =
        FieldReader::new(text, options.delimiter).map(|field| field.text.trim().to_owned()).collect();
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        Some((_, name)) => Err(format!("its header names `{name}` twice")),
        None => Ok(names),
    }
}

/// Checks that a header has the columns without which every row would be bad.
pub(crate) fn check_header(names: &[String], schema: &RowSchema) -> Result<(), String> {
    match schema.lacking(|column| names.contains(&name_of(column))).map(name_of) {
        Some(name) => Err(format!("its header has no column `{name}`; it has {}", names.join(", "))),
        None => Ok(()),
    }
}

/// Decodes comma-separated values.
pub(crate) struct CsvDecoder {
    options: CsvOptions,
    header: Header,
    rows: Rows,
    /// The slots that each field of a record goes to; empty until the header is known.
    targets: Vec<Vec<usize>>,
    scratch: String,
}

impl CsvDecoder {
    /// Returns a decoder for rows of `schema`, which was checked; `header` is known before the first record comes.
    pub(crate) fn new(schema: &RowSchema, options: &CsvOptions, header: Header) -> CsvDecoder {
        let (options, rows) = (options.clone(), Rows::new(schema));
        CsvDecoder { options, header, rows, targets: Vec::new(), scratch: String::new() }
    }

    fn learn_header(&mut self) {
        let names = self.header.get().expect("a file's header is read before its records");
        let takers = |name: &String| {
            let slots = self.rows.slots.iter().enumerate();
            slots
                .filter(|(_, slot)| slot.column.meta.is_none() && name_of(&slot.column) == *name)
                .map(|(i, _)| i)
                .collect()
        };
        self.targets = names.iter().map(takers).collect();
    }

    fn fill(&mut self, text: &str) -> Result<(), Fault> {
        let mut count = 0;
        let mut fault = None;
        for field in FieldReader::new(text, self.options.delimiter) {
            for slot in self.targets.get(count).into_iter().flatten() {
                let slot = &mut self.rows.slots[*slot];
                let null = is_null(&field.text, field.quoted, &self.options.null, &slot.column.column_type);
                let pushed = match &mut slot.cells {
                    Cells::Kept(cells) if null => {
                        cells.push_null();
                        Ok(())
                    }
                    Cells::Kept(cells) => push_field(cells, &field.text, &mut self.scratch),
                    Cells::Presence(present) => {
                        *present = !null;
                        Ok(())
                    }
                };
                if let Err(misfit) = pushed {
                    fault.get_or_insert(Fault::misfit(&slot.column, &misfit));
                }
            }
            count += 1;
        }
        let wanted = self.targets.len();
        if count != wanted {
            return Err(Fault::new("malformed", format!("the record has {count} fields, not {wanted}")));
        }
        fault.map_or(Ok(()), Err)
    }

    fn decode_records(&mut self, chunk: &Chunk, records: &Records, context: &DecodeContext, out: &mut Decoded) {
        if self.targets.is_empty() {
            self.learn_header();
        }
        for (index, (start, end)) in records.ranges.iter().enumerate() {
            if self.rows.leaves_out(records, index) {
                out.filtered += 1;
                continue;
            }
            let raw = &records.bytes[*start as usize..*end as usize];
            let filled = match std::str::from_utf8(raw) {
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

impl Decoder for CsvDecoder {
    fn decode(&mut self, chunk: &Chunk, context: &DecodeContext, out: &mut Decoded) {
        match &chunk.payload {
            Payload::Records(records) => self.decode_records(chunk, records, context, out),
            Payload::Columns(_) => unreachable!("a CSV source gives records"),
        }
    }
}

fn is_null(text: &str, quoted: bool, null: &str, column_type: &ColumnType) -> bool {
    text == null && !(quoted && matches!(column_type, ColumnType::String))
}

fn push_field(cells: &mut GrowingColumn, text: &str, scratch: &mut String) -> Result<(), Misfit> {
    match cells.column_type() {
        ColumnType::String | ColumnType::Timestamp | ColumnType::Date | ColumnType::Decimal { .. } => {
            cells.push_text(text)
        }
        ColumnType::Bool => match text {
            "true" => cells.push_bool(true),
            "false" => cells.push_bool(false),
            _ => Err(Misfit::Kind("a text other than true and false")),
        },
        ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Json => push_json_text(cells, text, scratch),
        _ if is_number(text) => cells.push_number(text),
        _ => Err(Misfit::Kind("a text that is no number")),
    }
}

/// Returns whether `text` is made of a number's characters only; names of infinities are not.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'))
}
