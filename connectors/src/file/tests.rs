//! Files against a naive reading of the same bytes, real data, and every state a crash can leave.

mod crash;
mod power;
mod real;
mod source;
mod text;

use std::path::Path;

use arrow::array::RecordBatch;
use riverrun_dataflow::source::{Chunk, Decoded, Payload, ReadLimits, Source, SplitReader};

use super::{Compression, FileSource, FileSourceConfig};
use crate::format::samples::{anything, values};
use crate::format::{FormatSpec, RowSchema};

/// Returns the source of `path`.
fn source(path: &Path, format: FormatSpec, schema: &RowSchema) -> FileSource {
    let path = path.to_str().unwrap().to_owned();
    let schema = std::sync::Arc::new(schema.clone());
    FileSource::new(FileSourceConfig { path, format, compression: Compression::Auto, schema }).unwrap()
}

const ALL: ReadLimits = ReadLimits::at_most(usize::MAX, usize::MAX);

/// Reads a split to its end.
fn read_all(reader: &mut dyn SplitReader, limits: &ReadLimits) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.read(limits).unwrap() {
        assert!(chunk.rows() <= limits.rows);
        chunks.push(chunk);
    }
    assert!(reader.ended() || limits.until.is_some());
    chunks
}

/// Returns the records of chunks with their positions.
fn records(chunks: &[Chunk]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    for chunk in chunks {
        let Payload::Records(records) = &chunk.payload else { panic!("text gives records") };
        for (index, (from, to)) in records.ranges.iter().enumerate() {
            found.push((chunk.position(index), records.bytes[*from as usize..*to as usize].to_vec()));
        }
    }
    found
}

/// Returns the bytes of chunks, which follow each other without a gap.
fn bytes(chunks: &[Chunk]) -> Vec<u8> {
    let mut all = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        assert!(index == 0 || chunk.from == chunks[index - 1].to);
        let Payload::Records(records) = &chunk.payload else { panic!("text gives records") };
        assert_eq!(chunk.to - chunk.from, records.bytes.len() as u64);
        all.extend_from_slice(&records.bytes);
    }
    all
}

/// Decodes all splits of a source.
fn decode_all(source: &FileSource) -> Decoded {
    let mut out = Decoded::default();
    let mut decoder = source.decoder().unwrap()();
    for split in source.splits(true).unwrap() {
        for chunk in read_all(&mut *source.open(&split, 0).unwrap(), &ReadLimits { rows: 5000, ..ALL }) {
            decoder.decode(&chunk, &anything(), &mut out);
        }
    }
    out
}

/// Returns the rows of a source as JSON values; none may be bad.
fn rows_of(source: &FileSource) -> Vec<serde_json::Value> {
    let decoded = decode_all(source);
    assert_eq!(decoded.bad, [], "{:?}", decoded.bad.first());
    values(&decoded)
}

/// Writes batches as a Parquet file with row groups of `group` rows.
fn write_parquet(path: &Path, batches: &[RecordBatch], group: usize) {
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}
