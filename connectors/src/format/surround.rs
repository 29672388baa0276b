//! Rows with more than key and value: headers made of columns, and `op`, which says whether a row joins a table or leaves it.

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use riverrun_dataflow::schema::is_hidden;
use riverrun_dataflow::sink::{EncodedRows, Encoder, SinkError, Surround};

use super::cell::{CellWriter, check_type};
use super::{FormatError, Timestamps};

/// The column that says whether a row joins a table (`+`) or leaves it (`-`).
pub const OP: &str = "op";
/// What it says of a row that leaves.
const GONE: &str = "-";

/// How `op` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpAs {
    /// As a field of the value, like any column.
    #[default]
    Field,
    /// As the header `op`, and not in the value.
    Header,
    /// Not at all: a row that leaves is its key without a value.
    Tombstone,
}

/// What is written of rows besides key and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SurroundSpec {
    /// Headers by name, with the columns that they are made of.
    pub headers: Vec<(String, usize)>,
    /// How `op` is written.
    pub op: OpAs,
}

impl SurroundSpec {
    /// Returns whether rows have headers.
    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty() || self.op == OpAs::Header
    }

    /// Returns the columns that the value is made of, if they are not all.
    pub(crate) fn kept(&self, schema: &SchemaRef) -> Result<Option<Vec<usize>>, FormatError> {
        if self.op == OpAs::Field {
            return Ok(None);
        }
        let wrong = |why: &str| FormatError(format!("it has no column `{OP}` {why}"));
        let (op, field) = schema.column_with_name(OP).ok_or_else(|| wrong("that says which rows are taken back"))?;
        if *field.data_type() != DataType::Utf8 {
            return Err(wrong("of text"));
        }
        let kept: Vec<usize> = (0..schema.fields().len()).filter(|index| *index != op).collect();
        match kept.iter().any(|index| !is_hidden(schema.field(*index).name())) {
            true => Ok(Some(kept)),
            false => Err(FormatError(format!("besides `{OP}` it has no column"))),
        }
    }
}

/// Encodes rows by another encoder and puts around them what they have besides.
pub(crate) struct SurroundEncoder {
    inner: Box<dyn Encoder>,
    spec: SurroundSpec,
    /// The columns that the inner encoder is given.
    kept: Option<Vec<usize>>,
    timestamps: Timestamps,
    plain: EncodedRows,
}

impl SurroundEncoder {
    /// Returns an encoder that gives `inner` the columns `kept` of each batch.
    pub fn new(
        inner: Box<dyn Encoder>,
        spec: SurroundSpec,
        kept: Option<Vec<usize>>,
        timestamps: Timestamps,
    ) -> SurroundEncoder {
        SurroundEncoder { inner, spec, kept, timestamps, plain: EncodedRows::default() }
    }

    /// Checks that headers can be made of columns.
    pub fn check(spec: &SurroundSpec, schema: &SchemaRef) -> Result<(), FormatError> {
        spec.headers.iter().try_for_each(|(_, column)| check_type(schema.field(*column)))
    }
}

/// The name of the header, and what writes it.
struct HeaderWriter<'a> {
    name: &'a str,
    cells: CellWriter,
}

impl HeaderWriter<'_> {
    /// Appends the header's value for a row; false if there is none.
    fn push(&self, out: &mut Vec<u8>, row: usize) -> bool {
        match self.cells.text(row) {
            _ if self.cells.is_null(row) => return false,
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => self.cells.push(out, row),
        }
        true
    }
}

impl Encoder for SurroundEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        let cannot =
            |error: arrow::error::ArrowError| SinkError::Refused(format!("cannot take columns apart: {error}"));
        self.plain = EncodedRows::default();
        match &self.kept {
            Some(kept) => self.inner.encode(&rows.project(kept).map_err(cannot)?, &mut self.plain)?,
            None => self.inner.encode(rows, &mut self.plain)?,
        }
        let schema = rows.schema();
        let mut written = Vec::with_capacity(self.spec.headers.len());
        for (name, column) in &self.spec.headers {
            let cells = CellWriter::new(rows.column(*column), schema.field(*column), self.timestamps)?;
            written.push(HeaderWriter { name, cells });
        }
        let ops = self.kept.as_ref().and_then(|_| rows.column_by_name(OP)).map(|ops| ops.as_string::<i32>());
        for row in 0..rows.num_rows() {
            self.push_row(&written, ops, row, out);
        }
        Ok(())
    }
}

impl SurroundEncoder {
    fn push_row(&self, headers: &[HeaderWriter], ops: Option<&StringArray>, row: usize, out: &mut EncodedRows) {
        let (key, value) = self.plain.key_value(row);
        out.bytes.extend_from_slice(key.unwrap_or_default());
        let op = ops.filter(|ops| ops.is_valid(row)).map(|ops| ops.value(row));
        let is_tombstone = self.spec.op == OpAs::Tombstone && op == Some(GONE);
        let mut texts: Vec<(&str, Vec<u8>)> = Vec::with_capacity(headers.len() + 1);
        if let (OpAs::Header, Some(op)) = (self.spec.op, op) {
            texts.push((OP, op.as_bytes().to_vec()));
        }
        for header in headers {
            let mut text = Vec::new();
            if header.push(&mut text, row) {
                texts.push((header.name, text));
            }
        }
        let begin = out.bytes.len();
        Surround::push(&mut out.bytes, is_tombstone, texts.iter().map(|(name, text)| (*name, Some(text.as_slice()))));
        let length = u32::try_from(out.bytes.len() - begin).expect("headers stay below 4 GiB");
        if !is_tombstone {
            out.bytes.extend_from_slice(value);
        }
        out.end_row(self.plain.key_lengths.get(row).copied());
        out.surround_lengths.push(length);
    }
}

#[cfg(test)]
mod tests;
