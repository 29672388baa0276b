//! State files: Parquet, sorted by (shard, key), typed columns, no dictionaries, row groups that name their shards.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use riverrun_dataflow::journal::{FileKind, StateFile, TakeRows};
use riverrun_dataflow::operator::STATE_COLUMNS;
use riverrun_dataflow::parquet_file::{Rows, open};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StateError;
use crate::folder::Folder;
use crate::rows::{GROUP_ROWS, Sorted, is_state_schema, shards_of};

/// Rows in a batch that is read, of which each worker has one in memory besides what it keeps.
const READ_ROWS: usize = 16_384;

/// The note that says how many columns are the key.
const KEY_COLUMNS: &str = "key_columns";

/// What stands in the metadata of a file, for people and tools.
pub struct Notes<'a> {
    /// The step.
    pub step: &'a str,
    /// The table.
    pub table: &'a str,
    /// How many columns after `shard` and `op` are the key.
    pub key_columns: usize,
    /// The checkpoint's tick.
    pub tick: u64,
    /// The generation that writes.
    pub generation: u64,
    /// Its build.
    pub build: &'a str,
}

/// Returns the bytes of a file with the rows of `sorted`.
pub fn encode(sorted: &Sorted, schema: SchemaRef, kind: FileKind, notes: &Notes) -> Result<Vec<u8>, String> {
    let compression = match kind {
        FileKind::Delta => Compression::LZ4_RAW,
        FileKind::Base => Compression::ZSTD(ZstdLevel::try_new(1).expect("zstd has a level 1")),
    };
    let note = |key: &str, value: String| KeyValue::new(format!("riverrun.{key}"), value);
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(ColumnPath::from(STATE_COLUMNS[0]), EnabledStatistics::Chunk)
        .set_created_by("riverrun".into())
        .set_key_value_metadata(Some(vec![
            note("step", notes.step.into()),
            note("table", notes.table.into()),
            note(KEY_COLUMNS, notes.key_columns.to_string()),
            note("tick", notes.tick.to_string()),
            note("generation", notes.generation.to_string()),
            note("build", notes.build.into()),
        ]))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(|e| e.to_string())?;
    for piece in sorted.pieces() {
        writer.write(&piece?).map_err(|e| e.to_string())?;
        // A row group of its own, so that it is not decoded for rows of other shards.
        writer.flush().map_err(|e| e.to_string())?;
    }
    writer.close().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Reads the bytes of `file`, after checking that they are those that were written.
pub fn load(folder: &Folder, file: &StateFile) -> Result<Bytes, StateError> {
    checked(folder, file, folder.store().get(&folder.inside(&file.path))?)
}

/// Reads the bytes of `files` as [`load`] does, and hands each to `take` with its place among them. `take` may not come back to the
/// store.
pub fn load_each(
    folder: &Folder,
    files: &[StateFile],
    take: &mut dyn FnMut(usize, Bytes) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let paths: Vec<String> = files.iter().map(|file| folder.inside(&file.path)).collect();
    folder.store().get_each(&paths, |at, bytes| take(at, checked(folder, &files[at], bytes)?))
}

/// Returns how errors call `file`.
pub fn name_of(folder: &Folder, file: &StateFile) -> String {
    format!("state file {}", folder.store().name(&folder.inside(&file.path)))
}

fn checked(folder: &Folder, file: &StateFile, bytes: Option<Bytes>) -> Result<Bytes, StateError> {
    let what = || name_of(folder, file);
    let Some(bytes) = bytes else { return Err(StateError::damaged(what(), "it is missing")) };
    if bytes.len() as u64 != file.bytes {
        return Err(StateError::damaged(what(), format!("it has {} bytes instead of {}", bytes.len(), file.bytes)));
    }
    if xxh3_64(&bytes) != file.xxh3 {
        return Err(StateError::damaged(what(), "its content does not match its checksum"));
    }
    Ok(bytes)
}

/// Hands the rows in `bytes` of the shards for which `wanted` holds to `take`, until it breaks; row groups without any are not
/// decoded.
pub fn decode(bytes: Bytes, wanted: &dyn Fn(u16) -> bool, take: &mut TakeRows<'_>) -> Result<ControlFlow<()>, String> {
    let file = open(bytes)?;
    if !is_state_schema(file.schema()) {
        return Err("its first columns are not `shard` and `op`".into());
    }
    let groups = wanted_groups(file.metadata(), wanted);
    for batch in Rows::of(file.with_row_groups(groups).with_batch_size(READ_ROWS))? {
        let mut batch = batch?;
        let keep: Vec<bool> = shards_of(&batch).values().iter().map(|shard| wanted(*shard)).collect();
        if !keep.iter().all(|keep| *keep) {
            batch = filter_record_batch(&batch, &BooleanArray::from(keep)).map_err(|e| e.to_string())?;
        }
        if batch.num_rows() > 0 && take(batch).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns all rows in `bytes` of the shards for which `wanted` holds.
pub fn decode_all(bytes: Bytes, wanted: &dyn Fn(u16) -> bool) -> Result<Vec<RecordBatch>, String> {
    let mut found = Vec::new();
    let all = decode(bytes, wanted, &mut |rows| {
        found.push(rows);
        ControlFlow::Continue(())
    })?;
    debug_assert!(all.is_continue(), "nothing stops the reading");
    Ok(found)
}

/// What a file says of itself.
pub struct About {
    /// Its columns.
    pub schema: SchemaRef,
    /// The notes that were written into it, by their names.
    pub notes: BTreeMap<String, String>,
}

impl About {
    /// Returns what the file with these bytes says of itself.
    pub fn of(bytes: Bytes) -> Result<About, String> {
        let file = open(bytes)?;
        let notes = file.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
        let ours = |note: KeyValue| Some((note.key.strip_prefix("riverrun.")?.to_string(), note.value?));
        Ok(About { schema: file.schema().clone(), notes: notes.into_iter().filter_map(ours).collect() })
    }

    /// Returns how many columns after `shard` and `op` are the key.
    pub fn key_columns(&self) -> Result<usize, String> {
        let noted = self.notes.get(KEY_COLUMNS).and_then(|note| note.parse().ok());
        let known = noted.filter(|keys| STATE_COLUMNS.len() + keys <= self.schema.fields().len());
        known.ok_or_else(|| "it does not say which of its columns are the key".to_string())
    }
}

fn wanted_groups(metadata: &ParquetMetaData, wanted: &dyn Fn(u16) -> bool) -> Vec<usize> {
    let holds = |group: usize| match metadata.row_group(group).column(0).statistics() {
        Some(Statistics::Int32(shard)) => match (shard.min_opt(), shard.max_opt()) {
            (Some(min), Some(max)) => match (u16::try_from(*min), u16::try_from(*max)) {
                (Ok(min), Ok(max)) => (min..=max).any(wanted),
                // No shard has such a number: what is said is not believed, and it would be a long way from one to the other.
                _ => true,
            },
            _ => true,
        },
        _ => true,
    };
    (0..metadata.num_row_groups()).filter(|group| holds(*group)).collect()
}
