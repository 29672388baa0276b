//! The keys that were accepted, each as a few numbers.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt16Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef, UInt16Type, UInt64Type};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{shard_of, worker_of};
use riverrun_dataflow::operator::{FrozenTable, STATE_COLUMNS, StepError};
use riverrun_dataflow::schema::Hidden;

use crate::kept::ages::Ages;
use crate::kept::by_key::spread;
use crate::late::passed;

/// Rows in a batch of state.
const STATE_BATCH_ROWS: usize = 64 * 1024;

/// What is remembered of the row that was accepted under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The hash by which the key is routed.
    pub first: u64,
    /// Another hash of the key.
    pub second: u64,
    /// Event time, in microseconds.
    pub time: i64,
    /// The hash of what is compared; `None` if nothing is, or was when it came.
    pub body: Option<u64>,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the first of its key.
    First,
    /// It repeats the first.
    Duplicate,
    /// It has the key of the first, and other values in what is compared.
    Conflict { kept: u64, refused: u64 },
}

/// An accepted row in 32 bytes. A hash of 0 stands for none.
#[derive(Clone, Copy)]
struct Packed {
    first: u64,
    second: u64,
    time: i64,
    body: u64,
}

impl Packed {
    fn of(accepted: Accepted) -> Packed {
        let Accepted { first, second, time, body } = accepted;
        Packed { first, second, time, body: body.unwrap_or(0) }
    }

    fn is_of(&self, other: &Packed) -> bool {
        self.first == other.first && self.second == other.second
    }

    fn body(&self) -> Option<u64> {
        Some(self.body).filter(|body| *body != 0)
    }
}

/// Returns the columns of the table: `shard, op`, the hashes of the key and of what is compared, the event time.
pub(super) fn state_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(STATE_COLUMNS[0], DataType::UInt16, false),
        Field::new(STATE_COLUMNS[1], DataType::Int8, false),
        Field::new("hash", DataType::UInt64, false),
        Field::new("second_hash", DataType::UInt64, false),
        Field::new("body_hash", DataType::UInt64, true),
        Hidden::Time.field(),
    ]))
}

pub(super) struct AcceptedKeys {
    shards: ShardRange,
    table: HashTable<Packed>,
    /// What was accepted since the last checkpoint.
    fresh: Vec<Packed>,
    ages: Ages,
}

impl AcceptedKeys {
    /// Remembers nothing yet. Rows are counted by age in steps of a small part of `span`, the time they are remembered.
    pub fn new(shards: ShardRange, span: Duration) -> AcceptedKeys {
        AcceptedKeys { shards, table: HashTable::new(), fresh: Vec::new(), ages: Ages::new(span) }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn bytes(&self) -> usize {
        (self.table.capacity() + self.fresh.capacity()) * size_of::<Packed>() + self.table.capacity()
    }

    /// Says what becomes of a row whose horizon is `within` microseconds; the first of its key is remembered.
    pub fn judge(&mut self, row: Accepted, within: i64) -> Verdict {
        let row = Packed::of(row);
        match self.table.entry(spread(row.first), |known| known.is_of(&row), |known| spread(known.first)) {
            Entry::Vacant(vacant) => drop(vacant.insert(row)),
            Entry::Occupied(mut occupied) => {
                let known = occupied.get_mut();
                if row.time.saturating_sub(known.time) < within {
                    return match (known.body(), row.body()) {
                        (Some(kept), Some(refused)) if kept != refused => Verdict::Conflict { kept, refused },
                        _ => Verdict::Duplicate,
                    };
                }
                self.ages.remove(known.time);
                *known = row;
            }
        }
        self.ages.add_all(&[row.time]);
        self.fresh.push(row);
        Verdict::First
    }

    /// Forgets keys with a time before `limit`, when enough of them are there. More than `keys_max` that are left stop the job.
    pub fn forget(&mut self, limit: EventTime, keys_max: usize) -> Result<(), StepError> {
        let old = self.ages.older_than(limit);
        if old > 0 && old * 8 >= self.table.len() || self.table.len() > keys_max {
            self.sweep(limit);
        }
        if self.table.len() > keys_max {
            return Err(StepError::Bound(format!(
                "more than {keys_max} keys are remembered on one worker (`max_keys`): \
                 shorten `within`, run more workers, or raise the bound"
            )));
        }
        Ok(())
    }

    fn sweep(&mut self, limit: EventTime) {
        let ages = &mut self.ages;
        self.table.retain(|known| {
            let is_old = passed(known.time, limit);
            if is_old {
                ages.remove(known.time);
            }
            !is_old
        });
        self.fresh.retain(|known| !passed(known.time, limit));
        if self.table.capacity() > 8 * self.table.len() + 1024 {
            self.table.shrink_to(2 * self.table.len(), |known| spread(known.first));
        }
    }

    /// Returns what a checkpoint must write: keys that are new, and all keys of the shards in `rebase`.
    pub fn freeze(&mut self, rebase: &[u16]) -> Result<FrozenTable, StepError> {
        let mut rebased = vec![false; usize::from(self.shards.shards)];
        rebase.iter().for_each(|shard| rebased[usize::from(*shard)] = true);
        let shard = |known: &Packed| shard_of(known.first, self.shards.shards);
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|known| !rebased[usize::from(shard(known))]);
        let all = self.table.iter().filter(|known| rebased[usize::from(shard(known))]).copied();
        let base = if rebase.is_empty() { Vec::new() } else { all.collect() };
        Ok(FrozenTable { delta: self.state_rows(fresh)?, base: self.state_rows(base)? })
    }

    /// Puts rows of a checkpoint back. A key that was accepted again is there twice: the later time counts.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(rows.schema_ref()) != types(&state_schema()) {
            return Err(StepError::State(format!("stored columns are {:?}", rows.schema())));
        }
        if rows.column(1).as_primitive::<Int8Type>().values().iter().any(|op| *op != 1) {
            return Err(StepError::State("a key is deleted that can only leave by rule".into()));
        }
        let stored = rows.column(0).as_primitive::<UInt16Type>().values();
        let [first, second, body] = [2, 3, 4].map(|column| rows.column(column).as_primitive::<UInt64Type>());
        let times = rows.column(5).as_primitive::<Int64Type>().values();
        let ShardRange { worker, workers, shards } = self.shards;
        for row in 0..rows.num_rows() {
            let body = body.is_valid(row).then(|| body.value(row));
            let (first, second, time) = (first.value(row), second.value(row), times[row]);
            let shard = shard_of(first, shards);
            if shard != stored[row] || worker_of(shard, shards, workers) != worker {
                return Err(StepError::State(format!(
                    "a key of shard {shard}, stored as one of shard {}, was given to worker {worker} of {workers}",
                    stored[row]
                )));
            }
            self.put_back(Packed::of(Accepted { first, second, time, body }));
        }
        Ok(())
    }

    fn put_back(&mut self, row: Packed) {
        match self.table.entry(spread(row.first), |known| known.is_of(&row), |known| spread(known.first)) {
            Entry::Vacant(vacant) => drop(vacant.insert(row)),
            Entry::Occupied(occupied) if occupied.get().time >= row.time => return,
            Entry::Occupied(mut occupied) => {
                self.ages.remove(occupied.get().time);
                *occupied.get_mut() = row;
            }
        }
        self.ages.add_all(&[row.time]);
    }

    /// Returns rows of a checkpoint, by shard.
    fn state_rows(&self, mut rows: Vec<Packed>) -> Result<Vec<RecordBatch>, StepError> {
        let shards = self.shards.shards;
        rows.sort_unstable_by_key(|row| (shard_of(row.first, shards), row.time, row.first, row.second));
        let schema = state_schema();
        let batch = |rows: &[Packed]| -> Result<RecordBatch, StepError> {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| shard_of(row.first, shards)).collect::<UInt16Array>()),
                Arc::new(Int8Array::from(vec![1; rows.len()])),
                Arc::new(rows.iter().map(|row| row.first).collect::<UInt64Array>()),
                Arc::new(rows.iter().map(|row| row.second).collect::<UInt64Array>()),
                Arc::new(rows.iter().map(Packed::body).collect::<UInt64Array>()),
                Arc::new(rows.iter().map(|row| row.time).collect::<Int64Array>()),
            ];
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        };
        rows.chunks(STATE_BATCH_ROWS).map(batch).collect()
    }
}
