//! What a checkpoint keeps of the groups, and how they come back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int8Array, RecordBatch, TimestampMicrosecondArray, UInt16Array, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt16Type};
use riverrun_dataflow::key::{Keys, shard_of};
use riverrun_dataflow::operator::{FrozenTable, STATE_COLUMNS, StepError};

use super::WindowState;
use super::groups::Rows;

/// Rows in a batch of state.
const STATE_BATCH_ROWS: usize = 64 * 1024;
const UPSERT: i8 = 1;
const DELETE: i8 = 0;
/// Columns before the keys: shard, op, start of the window.
const BEFORE_KEYS: usize = 3;

/// What changed since the last checkpoint.
#[derive(Default)]
pub(super) struct Changes {
    /// By slot: it changed.
    changed: Vec<bool>,
    /// All slots that changed, and some more: those that were freed, and those that were freed and changed again.
    list: Vec<u32>,
    /// By slot: the checkpoint before has it.
    stored: Vec<bool>,
    /// Rows that delete what the checkpoint before has.
    deletes: Vec<RecordBatch>,
}

impl Changes {
    pub(super) fn grow(&mut self, slots: usize) {
        self.changed.resize(slots, false);
        self.stored.resize(slots, false);
    }

    pub(super) fn touch(&mut self, slots: &[u32]) {
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
    fn forget(&mut self, slots: &[u32]) {
        for slot in slots {
            self.changed[*slot as usize] = false;
            self.stored[*slot as usize] = false;
        }
    }

    fn store(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.stored[*slot as usize] = true);
    }
}

/// Returns the columns of the table: `shard, op, window_start`, the keys, the parts of the aggregates.
pub(super) fn state_schema(keys: &[Field], aggregates: Vec<Field>) -> SchemaRef {
    let mut fields = vec![
        Field::new(STATE_COLUMNS[0], DataType::UInt16, false),
        Field::new(STATE_COLUMNS[1], DataType::Int8, false),
        Field::new("window_start", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ];
    // A key may have any name, these columns have theirs.
    fields.extend(keys.iter().map(|key| Field::new(format!("by.{}", key.name()), key.data_type().clone(), true)));
    fields.extend(aggregates);
    Arc::new(Schema::new(fields))
}

impl WindowState {
    /// Notes that groups are gone; called before their slots are released.
    pub(super) fn note_deleted(&mut self, slots: &[u32]) -> Result<(), StepError> {
        let stored: Vec<u32> = slots.iter().copied().filter(|slot| self.changes.stored[*slot as usize]).collect();
        for part in stored.chunks(STATE_BATCH_ROWS) {
            let rows = self.state_rows(part, DELETE)?;
            self.changes.deletes.push(rows);
        }
        self.changes.forget(slots);
        Ok(())
    }

    fn state_rows(&self, slots: &[u32], op: i8) -> Result<RecordBatch, StepError> {
        let shards = slots.iter().map(|slot| shard_of(self.groups.hash(*slot), self.shards));
        let starts = slots.iter().map(|slot| self.groups.start(*slot));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from_iter_values(shards)),
            Arc::new(Int8Array::from(vec![op; slots.len()])),
            Arc::new(TimestampMicrosecondArray::from_iter_values(starts)),
        ];
        columns.extend(self.groups.keys(slots));
        if op == UPSERT {
            columns.extend(self.aggregates.save(slots));
        } else {
            let rest = &self.state_schema.fields()[columns.len()..];
            columns.extend(rest.iter().map(|field| new_null_array(field.data_type(), slots.len())));
        }
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }

    pub(super) fn freeze_groups(&mut self, rebase: &[u16]) -> Result<FrozenTable, StepError> {
        let mut frozen = FrozenTable::default();
        let mut rebased = vec![false; usize::from(self.shards)];
        rebase.iter().filter(|shard| **shard < self.shards).for_each(|shard| rebased[usize::from(*shard)] = true);
        let shards = self.shards;
        let is_rebased = |hash: u64| rebased[usize::from(shard_of(hash, shards))];
        for rows in std::mem::take(&mut self.changes.deletes) {
            let shards = rows.column(0).as_primitive::<UInt16Type>().values();
            let others: BooleanArray = shards.iter().map(|shard| Some(!rebased[usize::from(*shard)])).collect();
            let others = filter_record_batch(&rows, &others)?;
            frozen.delta.extend(Some(others).filter(|rows| rows.num_rows() > 0));
        }
        let mut changed = self.changes.take_list();
        changed.retain(|slot| !is_rebased(self.groups.hash(*slot)));
        // In the order of memory, which the job waits for.
        changed.sort_unstable();
        for part in changed.chunks(STATE_BATCH_ROWS) {
            frozen.delta.push(self.state_rows(part, UPSERT)?);
        }
        self.changes.store(&changed);
        if !rebase.is_empty() {
            let all = self.groups.all(is_rebased);
            for part in all.chunks(STATE_BATCH_ROWS) {
                frozen.base.push(self.state_rows(part, UPSERT)?);
            }
            self.changes.store(&all);
        }
        Ok(frozen)
    }

    pub(super) fn restore_groups(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(rows.schema_ref()) != types(&self.state_schema) {
            return Err(StepError::State(format!("expected {}, found {}", self.state_schema, rows.schema_ref())));
        }
        let key_columns: Vec<usize> = (BEFORE_KEYS..BEFORE_KEYS + self.keys.len()).collect();
        let hashes = Keys::of(rows, &key_columns)?.hashes;
        let ops = rows.column(1).as_primitive::<Int8Type>().values();
        let starts = rows.column(2).as_primitive::<TimestampMicrosecondType>().values();
        self.groups.read(&rows.columns()[BEFORE_KEYS..]);
        let mut slots = Vec::new();
        let mut from = 0;
        while from < rows.num_rows() {
            let run = ops[from..].iter().take_while(|op| **op == ops[from]).count();
            let numbers: Vec<u32> = (from..from + run).map(|row| row as u32).collect();
            let looked_for = Rows { rows: &numbers, starts: &starts[from..from + run], hashes: &hashes };
            self.groups.find(&looked_for, &mut slots);
            self.make_room();
            if ops[from] == DELETE {
                slots.sort_unstable();
                slots.dedup();
                self.changes.forget(&slots);
                self.groups.remove(&slots);
                self.aggregates.clear(&slots);
                self.groups.release(&slots);
            } else {
                let columns = &rows.columns()[BEFORE_KEYS + self.keys.len()..];
                self.aggregates.load(&slots, &numbers, columns)?;
                self.changes.store(&slots);
            }
            from += run;
        }
        Ok(())
    }
}
