//! What the tests of all formats share: records to decode, and rows as JSON values to compare.

use std::sync::Arc;

use arrow::array::RecordBatch;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::sink::{EncodedRows, Encoder};
use riverrun_dataflow::source::{Chunk, DecodeContext, Decoded, Decoder, Numbering, Payload, Records};
use serde_json::Value;

use super::Timestamps;
use super::json::JsonEncoder;
use super::schema::{Column, ColumnType, RowSchema};

/// Returns a schema of columns written as `name: type`, or `name: type @ path`.
pub(crate) fn schema(columns: &[&str]) -> RowSchema {
    let column = |text: &&str| {
        let (name, rest) = text.split_once(": ").unwrap();
        let (column_type, path) = rest.split_once(" @ ").unwrap_or((rest, name));
        let (column_type, required) = ColumnType::parse(column_type).unwrap();
        Column { required, ..Column::new(name, column_type).at(path) }
    };
    RowSchema { columns: columns.iter().map(column).collect(), ..RowSchema::default() }
}

/// Returns a chunk that begins at `from`, of records that end with line feeds.
pub(crate) fn chunk<T: AsRef<[u8]>>(from: u64, records: &[T]) -> Chunk {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for record in records {
        let start = u32::try_from(bytes.len()).unwrap();
        bytes.extend_from_slice(record.as_ref());
        ranges.push((start, u32::try_from(bytes.len()).unwrap()));
        bytes.push(b'\n');
    }
    let to = from + bytes.len() as u64;
    Chunk {
        from,
        to,
        payload: Payload::Records(Records { bytes: Arc::new(bytes), ranges, numbering: Numbering::Offset }),
    }
}

/// Returns a context in which all times are accepted.
pub(crate) fn anything() -> DecodeContext {
    DecodeContext { split: 7, name: "7".into(), accept: EventTime::MIN..=EventTime::MAX }
}

/// Decodes records.
pub(crate) fn decode<T: AsRef<[u8]>>(decoder: &mut dyn Decoder, records: &[T]) -> Decoded {
    let mut out = Decoded::default();
    decoder.decode(&chunk(0, records), &anything(), &mut out);
    out
}

/// Returns rows as JSON texts.
pub(crate) fn texts(batch: &RecordBatch) -> Vec<String> {
    let mut out = EncodedRows::default();
    let mut encoder = JsonEncoder::new(&batch.schema(), Timestamps::Rfc3339, None).unwrap();
    encoder.encode(batch, &mut out).unwrap();
    (0..out.len()).map(|row| String::from_utf8(out.row(row).to_vec()).unwrap()).collect()
}

/// Returns the good rows as JSON values.
pub(crate) fn values(decoded: &Decoded) -> Vec<Value> {
    let rows = decoded.batches.iter().flat_map(texts);
    rows.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

/// Returns the codes of the bad rows.
pub(crate) fn codes(decoded: &Decoded) -> Vec<&str> {
    decoded.bad.iter().map(|bad| bad.code.as_str()).collect()
}
