//! Rows to comma-separated values, one line per row, without a line end.
//!
//! Text is quoted where it must be: where it holds the delimiter, a quote or a line end, is empty, or is what stands for null. Lists and
//! structs are JSON text, timestamps RFC 3339, and NaN and infinities null.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use riverrun_dataflow::schema::{is_hidden, visible_of};
use riverrun_dataflow::sink::{EncodedRows, Encoder, SinkError};

use super::super::cell::{CellWriter, check_type};
use super::super::json::RowKey;
use super::super::{CsvOptions, FormatError, Timestamps};

/// Encodes rows as comma-separated values.
#[derive(Clone)]
pub(crate) struct CsvEncoder {
    options: CsvOptions,
    columns: Vec<usize>,
    key: Option<RowKey>,
    scratch: Vec<u8>,
}

impl CsvEncoder {
    /// Returns an encoder of rows of `schema`, or why one of its columns cannot be written.
    pub(crate) fn new(
        schema: &SchemaRef,
        options: &CsvOptions,
        key: Option<Vec<usize>>,
    ) -> Result<CsvEncoder, FormatError> {
        let visible = schema.fields().iter().enumerate().filter(|(_, field)| !is_hidden(field.name()));
        let columns: Vec<usize> = visible.map(|(index, _)| index).collect();
        for index in &columns {
            check_type(schema.field(*index))?;
        }
        let key = key.map(|columns| RowKey::new(schema, columns, Timestamps::Rfc3339)).transpose()?;
        Ok(CsvEncoder { options: options.clone(), columns, key, scratch: Vec::new() })
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        let schema = rows.schema();
        let writer = |index: &usize| CellWriter::new(rows.column(*index), schema.field(*index), Timestamps::Rfc3339);
        let writers = self.columns.iter().map(writer).collect::<Result<Vec<_>, SinkError>>()?;
        let keys = self.key.as_ref().map(|key| key.writers(rows)).transpose()?;
        for row in 0..rows.num_rows() {
            let key_length = keys.as_ref().map(|keys| keys.push(&mut out.bytes, row));
            for (i, writer) in writers.iter().enumerate() {
                if i > 0 {
                    out.bytes.push(self.options.delimiter);
                }
                push_cell(&mut out.bytes, writer, row, &self.options, &mut self.scratch);
            }
            out.end_row(key_length);
        }
        Ok(())
    }
}

/// Returns the line that names the visible columns of `schema`, without a line end.
pub(crate) fn header_line(schema: &SchemaRef, options: &CsvOptions) -> Vec<u8> {
    let mut line = Vec::new();
    for (i, field) in visible_of(schema).iter().enumerate() {
        if i > 0 {
            line.push(options.delimiter);
        }
        push_text(&mut line, field.name(), options);
    }
    line
}

fn push_cell(out: &mut Vec<u8>, writer: &CellWriter, row: usize, options: &CsvOptions, scratch: &mut Vec<u8>) {
    if writer.is_null(row) {
        out.extend_from_slice(options.null.as_bytes());
        return;
    }
    if let Some(text) = writer.text(row) {
        return push_text(out, text, options);
    }
    match writer {
        CellWriter::List(..) | CellWriter::Struct(..) => {
            scratch.clear();
            writer.push(scratch, row);
            push_text(out, &String::from_utf8_lossy(scratch), options);
        }
        CellWriter::Date(_) | CellWriter::Time(..) => {
            scratch.clear();
            writer.push(scratch, row);
            let unquoted = &scratch[1..scratch.len() - 1];
            push_text(out, &String::from_utf8_lossy(unquoted), options);
        }
        _ => writer.push(out, row),
    }
}

fn push_text(out: &mut Vec<u8>, text: &str, options: &CsvOptions) {
    let special = |byte: u8| byte == options.delimiter || matches!(byte, b'"' | b'\n' | b'\r');
    if !text.is_empty() && *text != options.null && !text.bytes().any(special) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}
