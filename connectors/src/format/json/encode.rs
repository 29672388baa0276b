//! Rows to JSON objects, one per row, without a line end.
//!
//! Timestamps are RFC 3339 in UTC with as many digits after the point as their unit has (none, 3, 6 or 9), or whole milliseconds.
//! Decimals are numbers with exactly their scale, floats the shortest text that reads back the same; NaN and infinities are
//! null. `json` columns are written as they stand; nulls are written; hidden columns are not.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use riverrun_dataflow::schema::is_hidden;
use riverrun_dataflow::sink::{EncodedRows, Encoder, SinkError};

use super::super::cell::{CellWriter, check_type, push_escaped};
use super::super::{FormatError, Timestamps};

/// Encodes rows as JSON objects.
#[derive(Clone)]
pub(crate) struct JsonEncoder {
    timestamps: Timestamps,
    /// Index of each visible column, with what stands before its value.
    columns: Vec<(usize, Vec<u8>)>,
    key: Option<RowKey>,
}

impl JsonEncoder {
    /// Returns an encoder of rows of `schema`, or why one of its columns cannot be written.
    pub(crate) fn new(
        schema: &SchemaRef,
        timestamps: Timestamps,
        key: Option<Vec<usize>>,
    ) -> Result<JsonEncoder, FormatError> {
        let mut columns = Vec::new();
        for (index, field) in schema.fields().iter().enumerate().filter(|(_, field)| !is_hidden(field.name())) {
            check_type(field)?;
            let mut before = vec![if columns.is_empty() { b'{' } else { b',' }];
            push_escaped(&mut before, field.name());
            before.push(b':');
            columns.push((index, before));
        }
        let key = key.map(|columns| RowKey::new(schema, columns, timestamps)).transpose()?;
        Ok(JsonEncoder { timestamps, columns, key })
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError> {
        let schema = rows.schema();
        let writers = self.columns.iter().map(|(index, before)| {
            let writer = CellWriter::new(rows.column(*index), schema.field(*index), self.timestamps)?;
            Ok((before.as_slice(), writer))
        });
        let writers = writers.collect::<Result<Vec<_>, SinkError>>()?;
        let keys = self.key.as_ref().map(|key| key.writers(rows)).transpose()?;
        for row in 0..rows.num_rows() {
            let key_length = keys.as_ref().map(|keys| keys.push(&mut out.bytes, row));
            if writers.is_empty() {
                out.bytes.push(b'{');
            }
            for (before, writer) in &writers {
                out.bytes.extend_from_slice(before);
                writer.push(&mut out.bytes, row);
            }
            out.bytes.push(b'}');
            out.end_row(key_length);
        }
        Ok(())
    }
}

/// How a record's key is made: one text column gives its text, one other column its JSON value, several a JSON array.
/// The key of a null is empty.
#[derive(Clone)]
pub(crate) struct RowKey {
    columns: Vec<usize>,
    timestamps: Timestamps,
}

impl RowKey {
    pub(crate) fn new(schema: &SchemaRef, columns: Vec<usize>, timestamps: Timestamps) -> Result<RowKey, FormatError> {
        for index in &columns {
            match schema.fields().get(*index) {
                Some(field) => check_type(field)?,
                None => return Err(FormatError(format!("the key names column {index}, which the rows do not have"))),
            }
        }
        Ok(RowKey { columns, timestamps })
    }

    pub(crate) fn writers(&self, rows: &RecordBatch) -> Result<KeyWriters, SinkError> {
        let schema = rows.schema();
        let writer = |index: &usize| CellWriter::new(rows.column(*index), schema.field(*index), self.timestamps);
        Ok(KeyWriters(self.columns.iter().map(writer).collect::<Result<_, _>>()?))
    }
}

/// The key columns of a batch.
pub(crate) struct KeyWriters(Vec<CellWriter>);

impl KeyWriters {
    /// Appends the key of `row` and returns its length.
    pub(crate) fn push(&self, out: &mut Vec<u8>, row: usize) -> u32 {
        let start = out.len();
        match self.0.as_slice() {
            [one] if one.is_null(row) => {}
            [one] => match one.text(row) {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => one.push(out, row),
            },
            several => {
                out.push(b'[');
                for (i, one) in several.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    one.push(out, row);
                }
                out.push(b']');
            }
        }
        u32::try_from(out.len() - start).expect("a batch of encoded rows stays below 4 GiB")
    }
}
