//! The contract of durable state: the journal that makes ticks final, and the store that keeps checkpoints.
//!
//! Implemented one floor up. The engine calls these from threads of their own, so both may block.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::balance::Counts;
use crate::operator::{FrozenTable, TableSpec};
use crate::tick::{Tick, TickRecord, Timeline};

/// How many rows a lane was given in a tick, and their digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneDigest {
    /// Index of the sink in the graph.
    pub sink: u32,
    /// The lane.
    pub lane: u32,
    /// Rows.
    pub rows: u64,
    /// xxh3_64 over the encoded rows in canonical order.
    pub xxh3: u64,
}

/// One tick as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The tick record.
    pub record: TickRecord,
    /// Output of the lanes that had any, by sink and lane.
    pub lanes: Vec<LaneDigest>,
    /// The balance of the tick, by name of source or step; those without rows are left out.
    pub balance: BTreeMap<String, Counts>,
}

/// The job's log as the engine writes to it. Owned by one thread of worker 0.
pub trait Journal: Send {
    /// Makes `entries` durable, in one act.
    fn append_ticks(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError>;

    /// Publishes a checkpoint whose parts are all written and which every lane covers.
    fn append_checkpoint(&mut self, checkpoint: CheckpointParts) -> Result<(), JournalError>;
}

/// All that the engine knows of a checkpoint that may be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointParts {
    /// The state is the one after this tick.
    pub tick: Tick,
    /// Where the job stood before the first of `recent`; applying those gives where it stood after `tick`.
    pub before: Timeline,
    /// The last `in_flight` tick records up to `tick` (fewer if the job is younger), oldest first: the cut of the ticks to come
    /// follows from them.
    pub recent: Vec<TickRecord>,
    /// The files written for it by all workers.
    pub files: Vec<StateFile>,
    /// The committed tick of every lane of every exactly-once sink, by (sink, lane).
    pub tokens: Vec<LaneToken>,
    /// The balance since the job began, by name of source or step.
    pub balance: BTreeMap<String, Counts>,
    /// The tick was the last: the job is finished.
    pub finished: bool,
    /// CPU time of the pause in which the state was frozen, all workers together, in microseconds.
    pub pause_micros: u64,
    /// CPU time of the pause and of writing the files beside the job, in microseconds.
    pub cpu_micros: u64,
}

impl CheckpointParts {
    /// Returns where the job stood after the checkpoint's tick.
    pub fn after(&self) -> Timeline {
        let mut timeline = self.before.clone();
        self.recent.iter().for_each(|record| timeline.apply(record));
        timeline
    }
}

/// The committed tick of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneToken {
    /// Index of the sink in the graph.
    pub sink: u32,
    /// The lane.
    pub lane: u32,
    /// The committed tick.
    pub tick: Tick,
}

/// Whether a state file holds changes or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Rows changed since the checkpoint before.
    Delta,
    /// All rows of the shards it names.
    Base,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    /// Path relative to the job's folder.
    pub path: String,
    /// The step.
    pub step: String,
    /// The table.
    pub table: String,
    /// Changes or everything.
    pub kind: FileKind,
    /// The checkpoint's tick.
    pub tick: Tick,
    /// The shards it is about, ascending: for a base all that were asked for, even those without a row.
    pub shards: Vec<u16>,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// xxh3_64 of the whole file.
    pub xxh3: u64,
}

/// Takes rows that were read.
pub type TakeRows<'a> = dyn FnMut(RecordBatch) -> ControlFlow<()> + 'a;

/// Where checkpoints are written and read. Shared by all workers.
pub trait StateStore: Send + Sync {
    /// Returns the shards, among those of `worker`, of each of `tables` that the next checkpoint should write in full.
    fn rebase(&self, step: &str, tables: &[&'static str], worker: usize, workers: usize) -> Vec<Vec<u16>>;

    /// Writes the frozen tables of a step (parallel to `tables`; `rebased` as returned by `rebase`). Returns the files.
    fn write(&self, part: FrozenPart) -> Result<Vec<StateFile>, JournalError>;

    /// Hears that a checkpoint was published, with these files: what a process must be told whose journal is elsewhere.
    fn published(&self, _tick: Tick, _files: &[StateFile]) {}

    /// Hands the rows of a table that `worker` restores to `take`, oldest first: a base of each shard, then the deltas after it. No more
    /// of them are in memory than one file has; a break stops the reading.
    fn read(
        &self,
        step: &str,
        table: &str,
        worker: usize,
        workers: usize,
        take: &mut TakeRows<'_>,
    ) -> Result<(), JournalError>;
}

/// What one worker froze of one step.
pub struct FrozenPart {
    /// The checkpoint's tick.
    pub tick: Tick,
    /// The step.
    pub step: String,
    /// The worker.
    pub worker: usize,
    /// The tables; files are sorted by (shard, key columns), so the store must know which columns those are.
    pub tables: Vec<TableSpec>,
    /// What was frozen of each.
    pub frozen: Vec<FrozenTable>,
    /// The shards that were rebased, of each.
    pub rebased: Vec<Vec<u16>>,
}

/// Durable state failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A newer generation owns the job (exit 75).
    #[error("{0}")]
    Fenced(String),
    /// The store failed (exit 74).
    #[error("cannot write {what}: {reason}")]
    Storage {
        /// What was attempted, on which object.
        what: String,
        /// What the store said.
        reason: String,
    },
    /// What is stored cannot be used.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The object.
        what: String,
        /// How that was seen.
        reason: String,
    },
}
