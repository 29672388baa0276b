//! What a checkpoint keeps of the machines, and how they come back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt16Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef, UInt16Type};
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};
use riverrun_dataflow::operator::{FrozenTable, STATE_COLUMNS, StepError};

use super::{KeyedState, Left, Machine, Slot};
use crate::changes::{DELETE, Rebase, UPSERT};
use crate::kept::BATCH_BYTES;

/// Returns the columns of the table: `shard, op`, the keys, `due`, `size`, `state`.
pub(super) fn state_schema(keys: &[Field]) -> SchemaRef {
    let mut fields = vec![
        Field::new(STATE_COLUMNS[0], DataType::UInt16, false),
        Field::new(STATE_COLUMNS[1], DataType::Int8, false),
    ];
    // A key may have any name, these columns have theirs.
    fields.extend(keys.iter().map(|key| Field::new(format!("by.{}", key.name()), key.data_type().clone(), true)));
    fields.push(Field::new("due", DataType::Int64, true));
    fields.push(Field::new("size", DataType::Int64, true));
    fields.push(Field::new("state", DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

impl<M: Machine> KeyedState<M> {
    /// Notes that keys are gone; called while they can be read.
    pub(super) fn note_deleted(&mut self, slots: &[Slot]) -> Result<(), StepError> {
        let mut changes = std::mem::take(&mut self.changes);
        let noted = changes.delete(slots, |slots| self.deletions(slots));
        self.changes = changes;
        noted
    }

    fn shard(&self, slot: Slot) -> u16 {
        shard_of(self.table.hash(slot), self.shards.shards)
    }

    fn deletions(&self, slots: &[Slot]) -> Result<RecordBatch, StepError> {
        let mut columns = self.first_columns(slots, DELETE);
        let rest = &self.schema.fields()[columns.len()..];
        columns.extend(rest.iter().map(|field| new_null_array(field.data_type(), slots.len())));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Returns the columns up to the last of the key.
    fn first_columns(&self, slots: &[Slot], op: i8) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt16Array::from_iter_values(slots.iter().map(|slot| self.shard(*slot)))),
            Arc::new(Int8Array::from(vec![op; slots.len()])),
        ];
        columns.extend(self.table.columns(slots));
        columns
    }

    /// Returns the rows of machines, in batches of bounded size.
    fn state_rows(&self, slots: &[Slot]) -> Result<Vec<RecordBatch>, StepError> {
        let mut batches = Vec::new();
        let mut rest = slots;
        while !rest.is_empty() {
            let (mut texts, mut bytes) = (Vec::new(), 0);
            for slot in rest {
                let text = serde_json::to_string(&self.machines[*slot as usize]);
                let text = text.map_err(|error| StepError::Internal(format!("state cannot be written: {error}")))?;
                bytes += text.len();
                texts.push(text);
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
            let (part, after) = rest.split_at(texts.len());
            let mut columns = self.first_columns(part, UPSERT);
            columns.push(Arc::new(part.iter().map(|slot| self.due[*slot as usize]).collect::<Int64Array>()));
            let sizes = part.iter().map(|slot| i64::try_from(self.sizes[*slot as usize]).unwrap_or(i64::MAX));
            columns.push(Arc::new(Int64Array::from_iter_values(sizes)));
            columns.push(Arc::new(StringArray::from(texts)));
            batches.push(RecordBatch::try_new(self.schema.clone(), columns)?);
            rest = after;
        }
        Ok(batches)
    }

    /// Returns what a checkpoint must write: what changed since the last one, and all of the shards in `rebase`. Called between
    /// ticks, after [`KeyedState::tidy`].
    pub fn freeze(&mut self, rebase: &[u16]) -> Result<FrozenTable, StepError> {
        let mut changes = std::mem::take(&mut self.changes);
        let rebase = Rebase { shards: self.shards.shards, rebase };
        let frozen = changes.freeze(
            rebase,
            |slot| self.table.hash(slot),
            |rebased| self.table.all(|hash| rebased.has(hash)),
            |slots| self.state_rows(slots),
        );
        self.changes = changes;
        frozen
    }

    /// Puts rows of a checkpoint back, oldest first.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        if types(rows.schema_ref()) != types(&self.schema) {
            return Err(StepError::State(format!("expected {}, found {}", self.schema, rows.schema_ref())));
        }
        let width = self.keys.len();
        let by: Vec<usize> = (STATE_COLUMNS.len()..STATE_COLUMNS.len() + width).collect();
        let hashes = Keys::of(rows, &by)?.hashes;
        check_place(self.shards, &hashes, rows.column(0).as_primitive::<UInt16Type>().values())?;
        let ops = rows.column(1).as_primitive::<Int8Type>().values();
        let columns = &rows.columns()[STATE_COLUMNS.len()..];
        let [due, size, state] = [0, 1, 2].map(|at| &columns[width + at]);
        let (due, size) = (due.as_primitive::<Int64Type>(), size.as_primitive::<Int64Type>());
        let state = state.as_string::<i32>();
        self.table.read(&columns[..width]);
        for (row, hash) in hashes.iter().enumerate() {
            let number = u32::try_from(row).expect("a batch has fewer rows than 2^32");
            let slot = self.slot_of(number, *hash);
            if ops[row] == DELETE {
                self.changes.forget(&[slot]);
                self.forget(&[slot]);
                continue;
            }
            let machine = serde_json::from_str(state.value(row));
            self.machines[slot as usize] =
                machine.map_err(|error| StepError::State(format!("what was kept of a key: {error}")))?;
            let size = usize::try_from(size.value(row)).unwrap_or(0).max(1);
            self.set(slot, Left { size, due: due.is_valid(row).then(|| due.value(row)) });
            self.changes.store(&[slot]);
        }
        self.ended.clear();
        Ok(())
    }
}

/// Checks that rows of a checkpoint, with these hashes and stored as of these shards, are those of a worker.
pub(crate) fn check_place(range: ShardRange, hashes: &[u64], stored: &[u16]) -> Result<(), StepError> {
    let ShardRange { worker, workers, shards } = range;
    for (hash, stored) in hashes.iter().zip(stored) {
        let shard = shard_of(*hash, shards);
        if shard != *stored || worker_of(shard, shards, workers) != worker {
            return Err(StepError::State(format!(
                "a row of shard {shard}, stored as one of shard {stored}, was given to worker {worker} of {workers}"
            )));
        }
    }
    Ok(())
}
