//! Rows of a Parquet file. A position is a row's number; only the top-level columns that are needed are read.

use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use riverrun_dataflow::ipc::{PARQUET_NOTE, check_schema_note};
use riverrun_dataflow::source::{COLUMNAR_ROW_BYTES, Chunk, Payload, ReadLimits, SourceError, SplitReader};
use riverrun_dataflow::thrift::{PARQUET_END, check_footer, parquet_footer};

use crate::format::RowSchema;
use crate::format::parquet::{check_schema, needed_roots};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8192;

/// Reads rows.
pub(super) struct ColumnsReader {
    what: String,
    rows: ParquetRecordBatchReader,
    /// Rows that were decoded but not given.
    ahead: Option<RecordBatch>,
    position: u64,
    end: u64,
}

/// Returns the number of rows in `file`.
pub(super) fn count_rows(what: &str, file: File) -> Result<u64, SourceError> {
    Ok(open(what, file)?.1)
}

fn open(what: &str, file: File) -> Result<(ParquetRecordBatchReaderBuilder<File>, u64), SourceError> {
    check_end(&file).map_err(|reason| damaged(what, &reason))?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| damaged(what, &error))?;
    check_places(&metadata).map_err(|reason| damaged(what, &reason))?;
    // Its Arrow schema is looked at before it is converted, which panics on what is none.
    for note in metadata.file_metadata().key_value_metadata().into_iter().flatten() {
        if let (PARQUET_NOTE, Some(schema)) = (note.key.as_str(), &note.value) {
            check_schema_note(schema).map_err(|reason| damaged(what, &reason))?;
        }
    }
    let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new());
    let metadata = metadata.map_err(|error| damaged(what, &error))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let rows = builder.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).map_err(|_| damaged(what, &"it says that it has less than no rows"))?;
    Ok((builder, rows))
}

/// Checks the footer before it is read, which may take for ever. Whether there is one is for its reader to say.
fn check_end(file: &File) -> Result<(), String> {
    let bytes = |from: u64, length: usize| file.get_bytes(from, length).map_err(|error| error.to_string());
    let Some(end) = file.len().checked_sub(PARQUET_END as u64) else { return Ok(()) };
    let footer = parquet_footer(&bytes(end, PARQUET_END)?);
    let footer = footer.and_then(|length| Some((end.checked_sub(length as u64)?, length)));
    footer.map_or(Ok(()), |(from, length)| check_footer(&bytes(from, length)?))
}

/// Checks what is counted on to be there when pages are looked for, and panics where it is not.
fn check_places(metadata: &ParquetMetaData) -> Result<(), String> {
    for group in metadata.row_groups() {
        let column = |column: &ColumnChunkMetaData| {
            let begins = column.dictionary_page_offset().unwrap_or(0).min(column.data_page_offset());
            begins < 0 || column.compressed_size() < 0 || column.uncompressed_size() < 0 || column.num_values() < 0
        };
        if group.num_rows() < 0 || group.columns().iter().any(column) {
            return Err("its footer names places and numbers below zero".into());
        }
    }
    Ok(())
}

fn damaged(what: &str, reason: &dyn std::fmt::Display) -> SourceError {
    SourceError::Damaged { what: what.to_owned(), reason: reason.to_string() }
}

impl ColumnsReader {
    /// Returns a reader of the rows from number `position` on.
    pub(super) fn new(what: &str, file: File, schema: &RowSchema, position: u64) -> Result<ColumnsReader, SourceError> {
        let (builder, end) = open(what, file)?;
        check_schema(builder.schema(), schema).map_err(|reason| SourceError::Read { what: what.to_owned(), reason })?;
        let needed = needed_roots(schema);
        let roots = builder.schema().fields().iter().enumerate();
        let wanted: Vec<usize> =
            roots.filter(|(_, field)| needed.contains(&field.name().as_str())).map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let (groups, skipped) = groups_from(&builder, position);
        let offset = usize::try_from(position - skipped).map_err(|error| damaged(what, &error))?;
        let builder = builder.with_projection(mask).with_row_groups(groups).with_offset(offset);
        let rows = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| damaged(what, &error))?;
        Ok(ColumnsReader { what: what.to_owned(), rows, ahead: None, position, end })
    }

    fn next_batch(&mut self) -> Result<RecordBatch, SourceError> {
        if let Some(batch) = self.ahead.take() {
            return Ok(batch);
        }
        match self.rows.next() {
            Some(Ok(batch)) if batch.num_rows() > 0 => Ok(batch),
            Some(Err(error)) => Err(damaged(&self.what, &error)),
            _ => Err(damaged(&self.what, &format!("it ends at row {}, not {}", self.position, self.end))),
        }
    }
}

/// Returns the row groups from that of row `position` on, and the number of rows before them.
fn groups_from(builder: &ParquetRecordBatchReaderBuilder<File>, position: u64) -> (Vec<usize>, u64) {
    let groups = builder.metadata().row_groups();
    let mut before = 0;
    for (index, group) in groups.iter().enumerate() {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        if before + rows > position {
            return ((index..groups.len()).collect(), before);
        }
        before += rows;
    }
    (Vec::new(), position.min(before))
}

impl SplitReader for ColumnsReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        let until = limits.until.map_or(self.end, |until| until.min(self.end));
        if self.position >= until {
            return Ok(None);
        }
        let batch = self.next_batch()?;
        let left = usize::try_from(until - self.position).unwrap_or(usize::MAX);
        // Where batches end depends on where reading began; how many rows fit the limits must not.
        let rows = limits.rows.min(limits.bytes.div_ceil(COLUMNAR_ROW_BYTES)).max(1);
        let given = batch.num_rows().min(rows).min(left);
        if given < batch.num_rows() {
            self.ahead = Some(batch.slice(given, batch.num_rows() - given));
        }
        let from = self.position;
        self.position += given as u64;
        Ok(Some(Chunk { from, to: self.position, payload: Payload::Columns(batch.slice(0, given)) }))
    }

    fn ended(&self) -> bool {
        self.position >= self.end
    }
}
