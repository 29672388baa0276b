//! What a checkpoint keeps of the groups, and how they come back.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, RecordBatch, TimestampMicrosecondArray, UInt16Array, new_null_array};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use riverrun_dataflow::key::{Keys, shard_of};
use riverrun_dataflow::operator::{FrozenTable, STATE_COLUMNS, StepError};

use super::WindowState;
use super::groups::Rows;
use crate::changes::{DELETE, Rebase, UPSERT};

/// Columns before the keys: shard, op, start of the window.
const BEFORE_KEYS: usize = 3;

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
        let mut changes = std::mem::take(&mut self.changes);
        let noted = changes.delete(slots, |slots| self.state_rows(slots, DELETE));
        self.changes = changes;
        noted
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
        let mut changes = std::mem::take(&mut self.changes);
        let frozen = changes.freeze(
            Rebase { shards: self.shards, rebase },
            |slot| self.groups.hash(slot),
            |rebased| self.groups.all(|hash| rebased.has(hash)),
            |slots| Ok(vec![self.state_rows(slots, UPSERT)?]),
        );
        self.changes = changes;
        frozen
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
