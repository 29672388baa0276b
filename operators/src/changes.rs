//! Changes: which slots of a table changed since the last checkpoint, and what a checkpoint writes of them.
//!
//! A table is kept by slot, a number that is used again once its row is gone. Rows are written in full when they changed; a row
//! that is gone is written as a deletion, but only if a checkpoint before has it: what came and went between two of them costs
//! nothing.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt16Type;
use riverrun_dataflow::key::shard_of;
use riverrun_dataflow::operator::{FrozenTable, StepError};

/// Rows in a batch of state.
const STATE_BATCH_ROWS: usize = 64 * 1024;
/// The `op` of a row that is there.
pub(crate) const UPSERT: i8 = 1;
/// The `op` of a row that is gone.
pub(crate) const DELETE: i8 = 0;

/// What changed since the last checkpoint.
#[derive(Default)]
pub(crate) struct Changes {
    /// By slot: it changed.
    changed: Vec<bool>,
    /// All slots that changed, and some more: those that were freed, and those that were freed and changed again.
    list: Vec<u32>,
    /// By slot: the checkpoint before has it.
    stored: Vec<bool>,
    /// Rows that delete what the checkpoint before has.
    deletes: Vec<RecordBatch>,
}

/// The shards that a checkpoint writes in full, of all there are.
#[derive(Clone, Copy)]
pub(crate) struct Rebase<'a> {
    /// How many shards the job has.
    pub(crate) shards: u16,
    /// Those to be written in full.
    pub(crate) rebase: &'a [u16],
}

/// The same, to be asked for each key.
pub(crate) struct Rebased {
    shards: u16,
    which: Vec<bool>,
}

impl Rebased {
    /// Returns whether the shard of a key with this hash is written in full.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.which[usize::from(shard_of(hash, self.shards))]
    }
}

impl Changes {
    /// Makes room for `slots` slots.
    pub(crate) fn grow(&mut self, slots: usize) {
        self.changed.resize(slots, false);
        self.stored.resize(slots, false);
    }

    /// Returns for how many slots there is room.
    pub(crate) fn slots(&self) -> usize {
        self.changed.len()
    }

    /// Notes that slots changed; one may stand several times.
    pub(crate) fn touch(&mut self, slots: &[u32]) {
        for slot in slots {
            if !std::mem::replace(&mut self.changed[*slot as usize], true) {
                self.list.push(*slot);
            }
        }
        if self.list.len() > 2 * self.changed.len() {
            self.list = self.take_list();
            self.list.iter().for_each(|slot| self.changed[*slot as usize] = true);
        }
    }

    /// Returns each slot that changed, once, and forgets that they did.
    fn take_list(&mut self) -> Vec<u32> {
        let mut list = std::mem::take(&mut self.list);
        list.retain(|slot| std::mem::replace(&mut self.changed[*slot as usize], false));
        list
    }

    /// Forgets slots that are freed.
    pub(crate) fn forget(&mut self, slots: &[u32]) {
        for slot in slots {
            self.changed[*slot as usize] = false;
            self.stored[*slot as usize] = false;
        }
    }

    /// Notes that a checkpoint has these slots as they are.
    pub(crate) fn store(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.stored[*slot as usize] = true);
    }

    /// Notes that slots are gone; called while their keys are still there. `deletions` makes the rows that say so.
    pub(crate) fn delete(
        &mut self,
        slots: &[u32],
        deletions: impl Fn(&[u32]) -> Result<RecordBatch, StepError>,
    ) -> Result<(), StepError> {
        let stored: Vec<u32> = slots.iter().copied().filter(|slot| self.stored[*slot as usize]).collect();
        for part in stored.chunks(STATE_BATCH_ROWS) {
            self.deletes.push(deletions(part)?);
        }
        self.forget(slots);
        Ok(())
    }

    /// Returns what a checkpoint writes: deletions first, then what changed; all of the shards to be written in full.
    ///
    /// `hash` tells the hash of a slot's key, `all` lists the slots in use of some shards in the order of memory, `rows` makes the
    /// rows of slots, in one batch or several.
    pub(crate) fn freeze(
        &mut self,
        Rebase { shards, rebase }: Rebase<'_>,
        hash: impl Fn(u32) -> u64,
        all: impl Fn(&Rebased) -> Vec<u32>,
        rows: impl Fn(&[u32]) -> Result<Vec<RecordBatch>, StepError>,
    ) -> Result<FrozenTable, StepError> {
        let mut frozen = FrozenTable::default();
        let mut rebased = Rebased { shards, which: vec![false; usize::from(shards)] };
        rebase.iter().filter(|shard| **shard < shards).for_each(|shard| rebased.which[usize::from(*shard)] = true);
        for rows in std::mem::take(&mut self.deletes) {
            let of = rows.column(0).as_primitive::<UInt16Type>().values();
            let others: BooleanArray = of.iter().map(|shard| Some(!rebased.which[usize::from(*shard)])).collect();
            let others = filter_record_batch(&rows, &others)?;
            frozen.delta.extend(Some(others).filter(|rows| rows.num_rows() > 0));
        }
        let mut changed = self.take_list();
        changed.retain(|slot| !rebased.has(hash(*slot)));
        // In the order of memory, which the job waits for.
        changed.sort_unstable();
        for part in changed.chunks(STATE_BATCH_ROWS) {
            frozen.delta.extend(rows(part)?);
        }
        self.store(&changed);
        if !rebase.is_empty() {
            let all = all(&rebased);
            for part in all.chunks(STATE_BATCH_ROWS) {
                frozen.base.extend(rows(part)?);
            }
            self.store(&all);
        }
        Ok(frozen)
    }
}
