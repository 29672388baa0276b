//! Parquet files of a lake: rows gathered by partition in memory, written when they are committed, and put in their places.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use riverrun_dataflow::objects::Objects;
use riverrun_dataflow::sink::{EncodedRows, SinkError, TickRows};
use riverrun_dataflow::tick::Tick;

use super::error::LakeError;
use super::partition::{Partition, PartitionBy};
use super::record::{LakeFile, Layout, checksum};
use super::rows::LakeRows;
use super::table::Table;

/// Where files wait until their record is there. No reader of Parquet looks for names that begin so or end in `.staged`.
pub(super) const STAGING: &str = "_staging";
/// Encoded but not yet compressed bytes of a file, beyond which a row group ends.
const GROUP_BYTES: usize = 32 << 20;
/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 20;
/// Bytes of rows that wait for a writer. A writer takes a third of a megabyte, however few its rows are.
const WAITING_BYTES: usize = 256 << 10;
/// Writers that are at work when a commit is due.
const WRITERS_MAX: usize = 256;
/// What the rows of a file take beside their bytes.
const GROWING_BYTES: u64 = 512;

/// Returns where the file of this path waits.
pub(super) fn staging(path: &str) -> String {
    format!("{STAGING}/{}.staged", path.strip_suffix(".parquet").unwrap_or(path))
}

/// Returns the path of the file that waits at `staging`.
pub(super) fn unstaged(staging: &str) -> Option<String> {
    let path = staging.strip_prefix(STAGING)?.strip_prefix('/')?.strip_suffix(".staged")?;
    Some(format!("{path}.parquet"))
}

/// Returns where a file is written before its record.
pub(super) fn first_place(layout: Layout, path: &str) -> String {
    match layout {
        Layout::VisibleAfterCommit => staging(path),
        Layout::Manifest => path.to_owned(),
    }
}

/// Returns the paths of files that count and are not in their places yet.
pub(super) fn staged(objects: &dyn Objects, table: &Table) -> Result<BTreeSet<String>, LakeError> {
    if table.layout == Layout::Manifest {
        return Ok(BTreeSet::new());
    }
    let found = objects.list(STAGING)?.into_iter().filter_map(|it| unstaged(&it.path));
    Ok(found.filter(|path| table.files.contains_key(path)).collect())
}

/// Returns a file that is not there though it was written, if there is one: for a last look before a record names it.
pub(super) fn missing<'p>(
    objects: &dyn Objects,
    layout: Layout,
    paths: impl IntoIterator<Item = &'p str>,
) -> Result<Option<String>, LakeError> {
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in paths {
        let path = first_place(layout, path);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        if !listed.contains_key(&folder) {
            let there = objects.list(&folder)?.into_iter().map(|found| found.path);
            listed.insert(folder.clone(), there.collect());
        }
        if !listed[&folder].contains(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Puts files in their places, if the layout has that still to be done.
pub(super) fn place<'p>(
    objects: &dyn Objects,
    layout: Layout,
    paths: impl IntoIterator<Item = &'p str>,
) -> Result<(), LakeError> {
    if layout == Layout::VisibleAfterCommit {
        for path in paths {
            // That it is not there means that it is in its place already.
            objects.rename(&staging(path), path)?;
        }
    }
    Ok(())
}

/// Settles what processes that died left in staging: files that count get their places, and of the others those go whose names
/// `is_ours` knows.
pub(super) fn settle_staging(
    objects: &dyn Objects,
    table: &Table,
    is_ours: impl Fn(&str) -> bool,
) -> Result<(), LakeError> {
    let mut orphans = Vec::new();
    for found in objects.list(STAGING)? {
        let Some(path) = unstaged(&found.path) else { continue };
        if table.files.contains_key(&path) {
            objects.rename(&found.path, &path)?;
        } else if is_ours(path.rsplit('/').next().unwrap_or_default()) {
            orphans.push(found.path);
        }
    }
    Ok(objects.delete(&orphans)?)
}

/// Returns how Parquet files of a lake are written.
pub(super) fn properties(notes: Vec<KeyValue>) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("zstd has a level 3")))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_created_by("riverrun".into())
        .set_key_value_metadata(Some(notes))
        .build()
}

/// A file that is being written, in memory.
pub(super) struct Writing {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    times: Option<(i64, i64)>,
}

impl Writing {
    /// Begins a file.
    pub(super) fn new(schema: SchemaRef, notes: Vec<KeyValue>) -> Result<Writing, SinkError> {
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties(notes))).map_err(|e| unwritable(&e))?;
        Ok(Writing { writer, rows: 0, times: None })
    }

    /// Appends rows. `times`: the least and the greatest event time among them.
    pub(super) fn push(&mut self, rows: &RecordBatch, times: Option<(i64, i64)>) -> Result<(), SinkError> {
        self.writer.write(rows).map_err(|error| unwritable(&error))?;
        self.rows += rows.num_rows() as u64;
        self.times = match (self.times, times) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(|error| unwritable(&error))?;
        }
        Ok(())
    }

    /// Returns about how large the file would be if it ended here.
    pub(super) fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Ends the file, and returns its bytes and its entry.
    pub(super) fn finish(
        self,
        path: String,
        partition: BTreeMap<String, String>,
    ) -> Result<(Bytes, LakeFile), SinkError> {
        let bytes = Bytes::from(self.writer.into_inner().map_err(|error| unwritable(&error))?);
        let file = LakeFile {
            path,
            partition,
            rows: self.rows,
            bytes: bytes.len() as u64,
            xxh3: checksum(&bytes),
            time_min_us: self.times.map(|times| times.0),
            time_max_us: self.times.map(|times| times.1),
        };
        Ok((bytes, file))
    }
}

fn unwritable(error: &parquet::errors::ParquetError) -> SinkError {
    SinkError::Refused(format!("rows cannot be written as Parquet: {error}"))
}

/// The rows of one file to be: they wait as they came, for a writer takes some memory however few its rows are.
struct Growing {
    waiting: EncodedRows,
    times: Option<(i64, i64)>,
    writing: Option<Writing>,
}

impl Growing {
    fn new() -> Growing {
        Growing { waiting: EncodedRows::default(), times: None, writing: None }
    }

    fn push(&mut self, row: &[u8], time: i64) {
        self.waiting.bytes.extend_from_slice(row);
        self.waiting.end_row(None);
        if time != i64::MIN {
            self.times = Some(self.times.map_or((time, time), |(least, most)| (least.min(time), most.max(time))));
        }
    }

    /// Returns about how much memory the rows take.
    fn size(&self) -> u64 {
        GROWING_BYTES + self.waiting.bytes.len() as u64 + self.writing.as_ref().map_or(0, Writing::size)
    }

    /// Hands the rows that wait to the file's writer.
    fn write(&mut self, rows: &LakeRows, notes: &[KeyValue]) -> Result<(), SinkError> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.ends.is_empty() {
            return Ok(());
        }
        let writing = match &mut self.writing {
            Some(writing) => writing,
            empty => empty.insert(Writing::new(rows.schema().clone(), notes.to_vec())?),
        };
        writing.push(&rows.decode(&waiting, 0..waiting.ends.len())?, self.times.take())
    }
}

/// The rows that a lane has gathered.
pub(super) struct Gathered {
    rows: LakeRows,
    partition_by: PartitionBy,
    file_size: u64,
    notes: Vec<KeyValue>,
    growing: BTreeMap<Partition, Growing>,
    /// The first tick with rows.
    first: Option<Tick>,
}

impl Gathered {
    pub(super) fn new(rows: LakeRows, partition_by: PartitionBy, file_size: u64, notes: Vec<KeyValue>) -> Gathered {
        Gathered { rows, partition_by, file_size, notes, growing: BTreeMap::new(), first: None }
    }

    /// Returns the first tick of which there are rows.
    pub(super) fn first(&self) -> Option<Tick> {
        self.first
    }

    /// Adds the rows of a tick, in their order.
    pub(super) fn push(&mut self, tick: &TickRows) -> Result<(), SinkError> {
        for (row, time) in tick.times.iter().enumerate() {
            let growing = self.growing.entry(self.partition_by.partition(*time)).or_insert_with(Growing::new);
            growing.push(tick.rows.key_value(row).1, *time);
            if growing.waiting.bytes.len() >= WAITING_BYTES {
                growing.write(&self.rows, &self.notes)?;
            }
            self.first.get_or_insert(tick.tick);
        }
        Ok(())
    }

    /// Returns whether there is enough for a commit. That depends on the rows alone, and on nothing that could be otherwise when they
    /// are derived again.
    pub(super) fn is_enough(&self) -> bool {
        let written = self.growing.values().filter(|growing| growing.writing.is_some()).count();
        written >= WRITERS_MAX || self.growing.values().map(Growing::size).sum::<u64>() >= self.file_size
    }

    /// Ends all files, and hands each to `write`; returns their entries. `name`: what the file with this number is called.
    pub(super) fn finish(
        &mut self,
        name: impl Fn(usize) -> String,
        mut write: impl FnMut(&str, Bytes) -> Result<(), SinkError>,
    ) -> Result<Vec<LakeFile>, SinkError> {
        let mut files = Vec::new();
        for (number, (partition, mut growing)) in std::mem::take(&mut self.growing).into_iter().enumerate() {
            let values = self.partition_by.values(partition);
            let path = self.partition_by.path(&values, &format!("{}.parquet", name(number)));
            growing.write(&self.rows, &self.notes)?;
            let Some(writing) = growing.writing else { continue };
            let (bytes, file) = writing.finish(path, values)?;
            write(&file.path, bytes)?;
            files.push(file);
        }
        self.first = None;
        Ok(files)
    }
}
