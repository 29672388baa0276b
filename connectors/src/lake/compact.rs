//! Small files merged into larger ones: the same rows, in one record that replaces the files they were in.
//!
//! Safe beside a running job, beside other compactions, and at every crash: until the record is there the old files count, from then on
//! the new ones. A compaction whose files were replaced by another one gives up what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::KeyValue;
use riverrun_dataflow::objects::Objects;
use riverrun_dataflow::parquet_file::{Rows, open};
use riverrun_dataflow::sink::SinkError;
use serde::Serialize;

use super::error::LakeError;
use super::files::{Writing, first_place, missing, place, settle_staging};
use super::log::{Appended, Log};
use super::record::{Body, LakeFile, Layout, Writer, checksum};
use super::table::Table;

/// How files are merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactOptions {
    /// Files are merged up to about this size; those of half of it and more are left as they are.
    pub target: u64,
    /// Unlike that of any other compaction, ever: it is in the names of the files.
    pub id: String,
    /// Only says what it would do.
    pub dry: bool,
}

/// What a compaction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Files that were replaced.
    pub before: u64,
    /// Files in their place.
    pub after: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of the files that were replaced.
    pub bytes_before: u64,
    /// Bytes of those in their place; 0 if nothing was done.
    pub bytes_after: u64,
}

/// Some files of one writer and partition that are to become one.
#[derive(Debug)]
struct Batch {
    writer: Writer,
    files: Vec<LakeFile>,
}

/// Merges small files, if there is a lake.
pub fn compact(objects: Arc<dyn Objects>, options: &CompactOptions) -> Result<Option<Compacted>, LakeError> {
    let Some(mut log) = Log::read(objects.clone())? else { return Ok(None) };
    let mut done = Compacted::default();
    if !options.dry {
        // Files that are not in their places yet are merged there, not here.
        settle_staging(objects.as_ref(), log.table(), |_| false)?;
        remove_replaced(&log)?;
    }
    for (number, batch) in batches(log.table(), options.target).into_iter().enumerate() {
        let bytes: u64 = batch.files.iter().map(|file| file.bytes).sum();
        if options.dry {
            done.add(&batch, batch.files.len() as u64, bytes, 1, 0);
            continue;
        }
        let name = format!("{}.{}-m{}-{number:03}", batch.writer.job, batch.writer.sink, options.id);
        let merged = match merge(objects.as_ref(), &batch, log.table(), &name) {
            Ok(merged) => merged,
            Err(error) => {
                // Another compaction may have replaced a file, which then is gone.
                log.follow()?;
                match counts(&batch, log.table()) {
                    true => return Err(error),
                    false => continue,
                }
            }
        };
        let (after, bytes_after) = (merged.len() as u64, merged.iter().map(|(file, _)| file.bytes).sum());
        if replace(&mut log, &batch, merged)? {
            done.add(&batch, batch.files.len() as u64, bytes, after, bytes_after);
        }
    }
    Ok(Some(done))
}

impl Compacted {
    fn add(&mut self, batch: &Batch, before: u64, bytes_before: u64, after: u64, bytes_after: u64) {
        self.before += before;
        self.after += after;
        self.rows += batch.files.iter().map(|file| file.rows).sum::<u64>();
        self.bytes_before += bytes_before;
        self.bytes_after += bytes_after;
    }
}

/// Returns what is worth merging: files that are less than half as large as they should be, by writer and partition, in the order of
/// their names.
fn batches(table: &Table, target: u64) -> Vec<Batch> {
    let mut groups: BTreeMap<(&Writer, &BTreeMap<String, String>), Vec<&LakeFile>> = BTreeMap::new();
    for live in table.files.values().filter(|live| live.file.bytes < target / 2) {
        groups.entry((&live.writer, &live.file.partition)).or_default().push(&live.file);
    }
    let mut batches = Vec::new();
    for ((writer, _), files) in groups {
        let mut batch: Vec<LakeFile> = Vec::new();
        for file in files {
            let size: u64 = batch.iter().map(|file| file.bytes).sum();
            if size + file.bytes > target {
                batches.push(Batch { writer: writer.clone(), files: std::mem::take(&mut batch) });
            }
            batch.push(file.clone());
        }
        batches.push(Batch { writer: writer.clone(), files: batch });
    }
    batches.retain(|batch| batch.files.len() > 1);
    batches
}

/// Reads the files of a batch, and returns the files that take their place: one for each schema that they have.
fn merge(objects: &dyn Objects, batch: &Batch, table: &Table, name: &str) -> Result<Vec<(LakeFile, Bytes)>, LakeError> {
    let mut writing: Vec<(SchemaRef, Writing)> = Vec::new();
    for file in &batch.files {
        let what = || objects.name(&file.path);
        let damaged = |reason: String| LakeError::Damaged { what: what(), reason };
        let bytes = objects.get(&file.path)?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        if checksum(&bytes) != file.xxh3 {
            return Err(damaged("its content does not match its checksum".to_owned()));
        }
        let opened = open(bytes).map_err(damaged)?;
        let schema = opened.schema().clone();
        let known = writing.iter().position(|(known, _)| *known == schema);
        let index = match known {
            Some(index) => index,
            None => {
                let note = |key: &str, value: &str| KeyValue::new(format!("riverrun.{key}"), value.to_owned());
                let notes = vec![note("job", &batch.writer.job), note("sink", &batch.writer.sink)];
                writing.push((schema.clone(), Writing::new(schema, notes).map_err(unmergeable)?));
                writing.len() - 1
            }
        };
        for rows in Rows::of(opened).map_err(damaged)? {
            let rows = rows.map_err(damaged)?;
            writing[index].1.push(&rows, file.time_min_us.zip(file.time_max_us)).map_err(unmergeable)?;
        }
    }
    let partition = batch.files[0].partition.clone();
    let finish = |(index, (_, writing)): (usize, (_, Writing))| {
        let path = table.partition_by.path(&partition, &format!("{name}-{index:03}.parquet"));
        let (bytes, file) = writing.finish(path, partition.clone()).map_err(unmergeable)?;
        Ok((file, bytes))
    };
    writing.into_iter().enumerate().map(finish).collect()
}

fn unmergeable(error: SinkError) -> LakeError {
    LakeError::Refused(error.to_string())
}

/// Returns whether all files of a batch count.
fn counts(batch: &Batch, table: &Table) -> bool {
    batch.files.iter().all(|file| table.files.contains_key(&file.path))
}

/// Puts `merged` in the place of the files of `batch`; returns false if someone else replaced one of them meanwhile.
fn replace(log: &mut Log, batch: &Batch, merged: Vec<(LakeFile, Bytes)>) -> Result<bool, LakeError> {
    let (objects, layout) = (log.objects().clone(), log.table().layout);
    let add: Vec<LakeFile> = merged.iter().map(|(file, _)| file.clone()).collect();
    let first_places: Vec<String> = add.iter().map(|file| first_place(layout, &file.path)).collect();
    for ((_, bytes), path) in merged.into_iter().zip(&first_places) {
        objects.put(path, bytes)?;
    }
    let remove: Vec<String> = batch.files.iter().map(|file| file.path.clone()).collect();
    loop {
        if !counts(batch, log.table()) || missing(objects.as_ref(), layout, paths_of(&add))?.is_some() {
            objects.delete(&first_places)?;
            return Ok(false);
        }
        let body = Body::Compact { writer: batch.writer.clone(), add: add.clone(), remove: remove.clone() };
        if log.append(body)? == Appended::Done {
            break;
        }
    }
    place(objects.as_ref(), layout, paths_of(&add))?;
    remove_replaced(log)?;
    super::sweep::now_and_then(log)?;
    Ok(true)
}

fn paths_of(files: &[LakeFile]) -> impl Iterator<Item = &str> {
    files.iter().map(|file| file.path.as_str())
}

/// Removes files that were replaced, where readers go by the folders. Others keep what they are just reading, until a sweep.
pub(super) fn remove_replaced(log: &Log) -> Result<(), LakeError> {
    match log.table().layout {
        Layout::VisibleAfterCommit => {
            let gone: Vec<String> = log.table().gone.keys().cloned().collect();
            Ok(log.objects().delete(&gone)?)
        }
        Layout::Manifest => Ok(()),
    }
}
