//! The conversions that were seen: which of them came before.

use arrow::array::RecordBatch;
use hashbrown::HashTable;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::time::micros_of;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::kept::by_key::spread;
use crate::kept::{KeptRows, Slot};
use crate::late::passed;

/// Key, id and event time of every conversion that was accepted and can still have a duplicate.
pub(super) struct Seen {
    pub rows: KeptRows,
    pub dedupe_for: Duration,
    /// Rows by key and id. An id may be there several times, further apart than `dedupe_for`.
    index: HashTable<(u64, Slot)>,
}

impl Seen {
    pub fn new(rows: KeptRows, dedupe_for: Duration) -> Seen {
        Seen { rows, dedupe_for, index: HashTable::new() }
    }

    /// Keeps the conversions of a batch until the tick ends; each must be put to [`Seen::accept`] by then.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<Vec<Slot>, StepError> {
        self.rows.add(batch)
    }

    /// Returns whether a conversion is the first of its key and id within the span; a later one is forgotten.
    pub fn accept(&mut self, slot: Slot) -> bool {
        let Some(hash) = self.hash(slot) else {
            self.rows.remove(slot);
            return true;
        };
        if self
            .index
            .iter_hash(spread(hash))
            .any(|(other_hash, other)| *other_hash == hash && self.is_same(slot, *other))
        {
            self.rows.remove(slot);
            return false;
        }
        self.insert(hash, slot);
        true
    }

    /// Puts rows of a checkpoint back.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        for slot in self.rows.restore(rows)? {
            let hash = self.hash(slot);
            self.insert(hash.ok_or_else(|| StepError::State("a null id was remembered".into()))?, slot);
        }
        Ok(())
    }

    /// Forgets conversions that no row on time can duplicate any more, when enough of them are there.
    pub fn forget(&mut self, watermark: EventTime, rows_max: usize) -> Result<(), StepError> {
        let limit = watermark.minus(self.dedupe_for);
        if self.rows.is_due(limit) || self.rows.len() > rows_max {
            self.sweep(limit);
        }
        if self.rows.len() > rows_max {
            return Err(StepError::Bound(format!(
                "more than {rows_max} conversions are remembered on one worker to know duplicates (`max_seen`): \
                 shorten `dedupe_for`, run more workers, or raise the bound"
            )));
        }
        self.rows.tidy()
    }

    /// Forgets all conversions with a time before `limit`.
    fn sweep(&mut self, limit: EventTime) {
        let rows = &mut self.rows;
        self.index.retain(|(_, slot)| {
            let old = passed(rows.time(*slot), limit);
            if old {
                rows.remove(*slot);
            }
            !old
        });
        if self.index.capacity() > 8 * self.index.len() + 1024 {
            self.index.shrink_to(2 * self.index.len(), |(hash, _)| spread(*hash));
        }
    }

    fn insert(&mut self, hash: u64, slot: Slot) {
        self.index.insert_unique(spread(hash), (hash, slot), |(hash, _)| spread(*hash));
    }

    /// Returns the hash of key and id; none without an id.
    fn hash(&self, slot: Slot) -> Option<u64> {
        self.rows.id(slot).map(|id| xxh3_64_with_seed(id.as_bytes(), self.rows.hash(slot)))
    }

    fn is_same(&self, a: Slot, b: Slot) -> bool {
        let rows = &self.rows;
        let apart = rows.time(a).abs_diff(rows.time(b));
        rows.id(a) == rows.id(b) && rows.key(a) == rows.key(b) && apart <= micros_of(self.dedupe_for).unsigned_abs()
    }
}
