//! The contract of operators: pure functions of state, the rows of a tick, and its record.
//!
//! No clock, no I/O, no randomness, no dependence on the order of rows within a tick. The same calls give the same rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::balance::Counts;
use crate::source::BadRow;
use crate::tick::StepTick;

/// A stateless step: its rows depend on one batch alone, so it runs as soon as a batch arrives.
pub trait Transform {
    /// Takes one batch of input number `input` and gives what becomes of it.
    fn apply(&mut self, input: usize, batch: RecordBatch, out: &mut Outputs) -> Result<(), StepError>;
}

/// A stateful step: it is given the rows of a tick all at once.
pub trait Operator {
    /// Steps one tick. `inputs[i]` are the batches of input `i`, in no particular order. Called for ticks without rows too.
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError>;

    /// Returns the tables in which the state is kept.
    fn tables(&self) -> Vec<TableSpec>;

    /// Returns, per table, for how long after its event time a row is kept, by the watermark; `None` where rows are replaced and
    /// deleted by key. A checkpoint may hold rows that have left by this rule.
    fn kept_for(&self) -> Vec<Option<Duration>> {
        vec![None; self.tables().len()]
    }

    /// Returns, per table, what a checkpoint must write: the rows changed since the last call, or all rows of the shards in
    /// `rebase`. `rebase` is parallel to `tables()`. The job stands still meanwhile: what need not be done at once is left to
    /// [`Frozen::gather`].
    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError>;

    /// Returns how many rows each table has now, parallel to `tables()`; nothing if the operator does not count. Cheap: for metrics.
    fn sizes(&self) -> Vec<TableSize> {
        Vec::new()
    }

    /// Puts rows of a table back; called before the first step, oldest rows first, so that a later row of a key wins. The rows
    /// have the table's schema after [`STATE_COLUMNS`].
    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError>;
}

/// The first columns of all state rows: `shard` (UInt16) and `op` (Int8: 1 upsert, 0 delete).
pub const STATE_COLUMNS: [&str; 2] = ["shard", "op"];

/// A table of an operator's state.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Its name, unique in the step.
    pub name: &'static str,
    /// Columns: `shard`, `op`, then key and value columns, typed.
    pub schema: SchemaRef,
    /// How many columns after `shard` and `op` are the key. 0: rows are never replaced, only added and deleted by rule.
    pub key_columns: usize,
}

/// What a table has in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Rows.
    pub rows: u64,
    /// Bytes, about, if that is known.
    pub bytes: Option<u64>,
}

/// What a checkpoint writes of one table.
#[derive(Clone, Debug, Default)]
pub struct FrozenTable {
    /// Rows changed since the last freeze, of shards that are not rebased.
    pub delta: Vec<RecordBatch>,
    /// All rows of the rebased shards.
    pub base: Vec<RecordBatch>,
}

/// The rows of a table as they were when it was frozen, to be gathered beside the job by whoever writes them.
pub struct Frozen(Box<Gather>);

type Gather = dyn FnOnce() -> Result<FrozenTable, StepError> + Send;

impl Frozen {
    /// Returns rows that `gather` will make of what it holds, which nobody changes any more.
    pub fn later(gather: impl FnOnce() -> Result<FrozenTable, StepError> + Send + 'static) -> Frozen {
        Frozen(Box::new(gather))
    }

    /// Returns the rows.
    pub fn gather(self) -> Result<FrozenTable, StepError> {
        (self.0)()
    }
}

impl From<FrozenTable> for Frozen {
    fn from(rows: FrozenTable) -> Frozen {
        Frozen::later(move || Ok(rows))
    }
}

/// A sign of life. A step that has much to do in one tick says now and then that it gets on, or the watchdog takes it to hang.
/// Nothing comes back through it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Option<Arc<AtomicU64>>);

impl Pulse {
    /// Returns one that is felt in `beats`.
    pub fn on(beats: Arc<AtomicU64>) -> Pulse {
        Pulse(Some(beats))
    }

    /// Says that another piece of work is done: some thousand rows, never nothing.
    pub fn beat(&self) {
        if let Some(beats) = &self.0 {
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a step gives.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Rows of the step.
    pub rows: Vec<RecordBatch>,
    /// Late rows, in the schema of the input they came from (the first input's, for steps with several; see the step).
    pub late: Vec<RecordBatch>,
    /// Rows on which an expression failed.
    pub bad: Vec<BadRow>,
    /// Rows of the side outputs that the step has of its own, by their number; those that nothing reads are dropped.
    pub sides: Vec<Vec<RecordBatch>>,
    /// What became of the rows that came in. `out` is counted by the engine.
    pub counts: Counts,
    /// Where a step that works for long says that it gets on.
    pub pulse: Pulse,
}

impl Outputs {
    /// Returns the rows of side output `number`, to be added to.
    pub fn side(&mut self, number: usize) -> &mut Vec<RecordBatch> {
        if self.sides.len() <= number {
            self.sides.resize_with(number + 1, Vec::new);
        }
        &mut self.sides[number]
    }
}

/// A step cannot go on: its state is at its bound, or the code is broken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The state reached its declared bound.
    #[error("{0}")]
    Bound(String),
    /// Stored state cannot be read back.
    #[error("state does not fit: {0}")]
    State(String),
    /// Anything else that should not be.
    #[error("{0}")]
    Internal(String),
}

impl From<arrow::error::ArrowError> for StepError {
    fn from(error: arrow::error::ArrowError) -> Self {
        StepError::Internal(error.to_string())
    }
}
