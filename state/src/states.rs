//! The checkpoints of a job as its workers see them: rows go in when they are frozen, and come out after a restart.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::array::RecordBatch;
use bytes::Bytes;
use riverrun_dataflow::fail_point::reach;
use riverrun_dataflow::journal::{FileKind, FrozenPart, JournalError, StateFile, StateStore, TakeRows};
use riverrun_dataflow::key::worker_of;
use riverrun_dataflow::operator::TableSpec;
use riverrun_dataflow::tick::Tick;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StateError;
use crate::file::{Notes, decode, encode, load_each};
use crate::folder::Folder;
use crate::ledger::{Ledger, Written};
use crate::log::Writer;
use crate::record::Record;
use crate::rows::Sorted;

/// The books, shared by the store and the journal.
#[derive(Clone, Debug, Default)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Returns the books `ledger`, to be shared.
    pub fn new(ledger: Ledger) -> SharedLedger {
        SharedLedger(Arc::new(Mutex::new(ledger)))
    }

    /// Locks the books.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().expect("no one panics while holding the books")
    }
}

/// Writes and reads the state files of a job.
#[derive(Debug)]
pub struct States {
    folder: Folder,
    shards: u16,
    writer: Writer,
    ledger: SharedLedger,
    /// The job's lock lives as long as anyone may write.
    _lock: Option<Arc<crate::folder::Lock>>,
}

impl States {
    /// Returns the store of the job in `folder`, which has `shards` shards.
    pub fn new(
        folder: Folder,
        shards: u16,
        writer: Writer,
        ledger: SharedLedger,
        lock: Option<Arc<crate::folder::Lock>>,
    ) -> States {
        States { folder, shards, writer, ledger, _lock: lock }
    }

    /// Returns why nothing could be written. A process that was away may find that a later generation has swept up what it had begun:
    /// then its store is well, and it is too late.
    fn why(&self, error: StateError) -> StateError {
        let newest = || -> Result<Option<Record>, StateError> {
            let Some(file) = self.folder.read()? else { return Ok(None) };
            let log = self.folder.log(&file);
            let newest = |bounds| log.backwards(bounds).next().transpose();
            Ok(log.settled(newest)?.1)
        };
        match newest() {
            Ok(Some(Record { header, .. })) if header.generation > self.writer.generation => {
                StateError::Fenced(format!(
                    "generation {} (attempt {}) runs the job now, generation {} ends; what it could not do any more: {error}",
                    header.generation, header.attempt, self.writer.generation
                ))
            }
            // A store that cannot be read either is not well.
            _ => error,
        }
    }

    /// Makes the bytes of a file, and the entry that it will have in the books.
    fn make_file(
        &self,
        part: &FrozenPart,
        table: &TableSpec,
        kind: FileKind,
        rows: &[RecordBatch],
        rebased: &[u16],
    ) -> Result<(Written, Vec<u8>), JournalError> {
        let broken = |reason: String| JournalError::Damaged {
            what: format!("frozen state of {}.{}", part.step, table.name),
            reason,
        };
        let sorted = Sorted::of(rows, table).map_err(broken)?;
        let outside = |shard: &&u16| match kind {
            FileKind::Base => !rebased.contains(shard),
            FileKind::Delta => rebased.contains(shard) || **shard >= self.shards,
        };
        if let Some(shard) = sorted.shards.keys().find(outside) {
            return Err(broken(format!("a row of shard {shard} is where it does not belong")));
        }
        let word = match kind {
            FileKind::Delta => "delta",
            FileKind::Base => "base",
        };
        let (step, name) = (&part.step, table.name);
        let folders = format!("state/g{:06}/c{:012}/w{:04}", self.writer.generation, part.tick, part.worker);
        let path = format!("{folders}/{step}.{name}.{word}.parquet");
        let generation = self.writer.generation;
        let (tick, build, key_columns) = (part.tick, &self.writer.build, table.key_columns);
        let notes = Notes { step, table: name, key_columns, tick, generation, build };
        let bytes = encode(&sorted, table.schema.clone(), kind, &notes).map_err(broken)?;
        let mut file = StateFile {
            path,
            step: step.clone(),
            table: name.to_string(),
            kind,
            tick: part.tick,
            shards: sorted.shards.keys().copied().collect(),
            rows: sorted.rows(),
            bytes: bytes.len() as u64,
            xxh3: xxh3_64(&bytes),
        };
        if kind == FileKind::Base {
            file.shards = rebased.to_vec();
            file.shards.sort_unstable();
        }
        let columns = table.schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
        Ok((Written { file, columns, rows: sorted.shards }, bytes))
    }
}

impl StateStore for States {
    fn rebase(&self, step: &str, tables: &[&'static str], worker: usize, workers: usize) -> Vec<Vec<u16>> {
        let owned = |shard: u16| worker_of(shard, self.shards, workers) == worker;
        let mut ledger = self.ledger.lock();
        tables.iter().map(|table| ledger.take_due(step, table, owned)).collect()
    }

    fn write(&self, part: FrozenPart) -> Result<Vec<StateFile>, JournalError> {
        let store = self.folder.store();
        let (mut files, mut waiting) = (Vec::new(), Vec::new());
        let mut keep = |(written, bytes): (Written, Vec<u8>)| -> Result<(), JournalError> {
            let path = self.folder.inside(&written.file.path);
            match store.local() {
                // One after the other: a disk gains nothing, and the bytes of one file are in memory at a time.
                Some(_) => {
                    reach("state.write");
                    store.put(&path, bytes).map_err(|error| self.why(error))?;
                    reach("state.written");
                }
                None => waiting.push((path, bytes)),
            }
            files.push(written);
            Ok(())
        };
        for (at, table) in part.tables.iter().enumerate() {
            let (frozen, rebased) = (&part.frozen[at], &part.rebased[at]);
            if frozen.delta.iter().any(|batch| batch.num_rows() > 0) {
                keep(self.make_file(&part, table, FileKind::Delta, &frozen.delta, rebased)?)?;
            }
            // A base of shards that have no row left is written too: it supersedes what was there.
            if !rebased.is_empty() || frozen.base.iter().any(|batch| batch.num_rows() > 0) {
                keep(self.make_file(&part, table, FileKind::Base, &frozen.base, rebased)?)?;
            }
        }
        if !waiting.is_empty() {
            reach("state.write");
            store.put_all(waiting).map_err(|error| self.why(error))?;
            reach("state.written");
        }
        let mut ledger = self.ledger.lock();
        let enter = |written: Written| {
            let file = written.file.clone();
            ledger.enter(written);
            file
        };
        Ok(files.into_iter().map(enter).collect())
    }

    fn published(&self, tick: Tick, files: &[StateFile]) {
        self.ledger.lock().publish(tick, files);
    }

    fn read(
        &self,
        step: &str,
        table: &str,
        worker: usize,
        workers: usize,
        take: &mut TakeRows<'_>,
    ) -> Result<(), JournalError> {
        let needed = self.ledger.lock().needed(step, table);
        read_table(needed, &|files, take| load_each(&self.folder, files, take), self.shards, (worker, workers), take)
    }
}

/// Reads files and hands each to the other function, with its place among them.
pub type LoadEach<'a> =
    dyn Fn(&[StateFile], &mut dyn FnMut(usize, Bytes) -> Result<(), StateError>) -> Result<(), StateError> + 'a;

/// Hands the rows of a table that one of the workers of a job with `shards` shards restores to `take`. `needed` are the table's files,
/// oldest first, each with the shards for which it is needed.
pub fn read_table(
    needed: Vec<(StateFile, BTreeSet<u16>)>,
    load_each: &LoadEach,
    shards: u16,
    (worker, workers): (usize, usize),
    take: &mut TakeRows<'_>,
) -> Result<(), JournalError> {
    let (mut files, mut wanted) = (Vec::new(), Vec::new());
    for (file, mut shards_of_file) in needed {
        shards_of_file.retain(|shard| worker_of(*shard, shards, workers) == worker);
        if !shards_of_file.is_empty() {
            files.push(file);
            wanted.push(shards_of_file);
        }
    }
    let mut stopped = ControlFlow::Continue(());
    load_each(&files, &mut |at, bytes| {
        if stopped.is_continue() {
            stopped = decode(bytes, &|shard| wanted[at].contains(&shard), take)
                .map_err(|reason| StateError::damaged(format!("state file {}", files[at].path), reason))?;
        }
        Ok(())
    })?;
    Ok(())
}
