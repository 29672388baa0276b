//! Rows of a Parquet file. A position is a row's number; only the top-level columns that are needed are read.

use std::fs::File;

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::file::metadata::RowGroupMetaData;
use riverrun_dataflow::parquet_file::{self, Opened, Rows};
use riverrun_dataflow::source::{COLUMNAR_ROW_BYTES, Chunk, Payload, ReadLimits, SourceError, SplitReader};

use crate::format::RowSchema;
use crate::format::parquet::{check_schema, needed_roots};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8192;

/// Reads rows.
pub(super) struct ColumnsReader {
    what: String,
    rows: Rows,
    /// Rows of the first group that lie before the position, still to be passed.
    passed: u64,
    /// Rows that were decoded but not given.
    ahead: Option<RecordBatch>,
    position: u64,
    end: u64,
}

/// Returns the number of rows in `file`.
pub(super) fn count_rows(what: &str, file: File) -> Result<u64, SourceError> {
    Ok(open(what, file)?.1)
}

fn open(what: &str, file: File) -> Result<(Opened<File>, u64), SourceError> {
    let builder = parquet_file::open(file).map_err(|reason| damaged(what, &reason))?;
    let rows = builder.metadata().row_groups().iter().map(rows_of).try_fold(0, u64::checked_add);
    let rows = rows.ok_or_else(|| damaged(what, &"it says that it has more rows than there are numbers"))?;
    Ok((builder, rows))
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
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
        // By the file's own schema: Arrow's lacks groups without columns.
        let roots = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
        let mut wanted: Vec<usize> =
            roots.filter(|(_, field)| needed.contains(&field.name())).map(|(index, _)| index).collect();
        if wanted.is_empty() {
            // Rows of no columns would be as many as the footer says; those of any column are there.
            wanted.push(0);
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let (groups, skipped) = groups_from(&builder, position);
        let builder = builder.with_projection(mask).with_row_groups(groups);
        let rows = Rows::of(builder.with_batch_size(BATCH_ROWS)).map_err(|reason| damaged(what, &reason))?;
        Ok(ColumnsReader { what: what.to_owned(), rows, passed: position - skipped, ahead: None, position, end })
    }

    fn next_batch(&mut self) -> Result<RecordBatch, SourceError> {
        if let Some(batch) = self.ahead.take() {
            return Ok(batch);
        }
        loop {
            let batch = match self.rows.next() {
                Some(Ok(batch)) if batch.num_rows() > 0 => batch,
                Some(Err(error)) => return Err(damaged(&self.what, &error)),
                _ => return Err(damaged(&self.what, &format!("it ends at row {}, not {}", self.position, self.end))),
            };
            let rows = batch.num_rows();
            let before = usize::try_from(self.passed).map_or(rows, |passed| passed.min(rows));
            self.passed -= before as u64;
            if before < rows {
                return Ok(batch.slice(before, rows - before));
            }
        }
    }
}

/// Returns the row groups from that of row `position` on, and the number of rows before them.
fn groups_from(builder: &Opened<File>, position: u64) -> (Vec<usize>, u64) {
    let groups = builder.metadata().row_groups();
    let mut before = 0;
    for (index, group) in groups.iter().enumerate() {
        let rows = rows_of(group);
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
