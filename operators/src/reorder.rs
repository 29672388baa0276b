//! A reorder buffer: holds rows until the watermark says that no earlier one can come, and gives them back then.
//!
//! What has no successor to wait for does not go through the buffer at all: a row that is settled in the tick in which it comes is
//! handed on at once. So a replay of the past, whose ticks are long, holds little, and live input holds what the lateness says.
//!
//! A row is settled once its time is before the limit, the watermark less the allowed lateness: a row of exactly that time may
//! still come. Rows leave by this rule, so a checkpoint writes only those that came, and after a restart those that had left are
//! let go by the watermark of the tick before.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Frozen, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::Hidden;

use crate::kept::{KeptRows, Layout, Slot};

/// Rows that wait, of one worker.
pub struct Reorder {
    schema: SchemaRef,
    rows: KeptRows,
    /// Time and row of each, the smallest time first.
    due: BinaryHeap<Reverse<(i64, Slot)>>,
    lateness: Duration,
    /// Rows were put back, and those that had left before the checkpoint are still among them.
    restored: bool,
}

impl Reorder {
    /// Returns how rows of `schema` with the key columns `by` are held.
    pub fn layout(schema: &Schema, by: &[usize]) -> Result<Layout, StepError> {
        // The hash is made anew from the key.
        let kept = (0..schema.fields().len()).filter(|column| schema.field(*column).name() != Hidden::Hash.name());
        Layout::new(schema, kept.collect(), by)
    }

    /// Holds nothing yet. `schema` is that of the rows, which carry the hash of their key as the last column.
    pub fn new(schema: SchemaRef, layout: Layout, shards: ShardRange, lateness: Duration) -> Reorder {
        let rows = KeptRows::new(layout, shards, lateness);
        Reorder { schema, rows, due: BinaryHeap::new(), lateness, restored: false }
    }

    /// Returns the number of rows that wait.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// To be called first in every tick, with the watermark before it: lets go of what had left before a checkpoint.
    pub fn begin(&mut self, before: EventTime) {
        if std::mem::take(&mut self.restored) {
            for slot in self.take_due(before.minus(self.lateness)) {
                self.rows.remove(slot);
            }
        }
    }

    /// Returns until when rows are settled once the watermark is `to`.
    pub fn limit(&self, to: EventTime) -> EventTime {
        to.minus(self.lateness)
    }

    /// Divides a batch into the rows that are settled once `limit` is reached, and those that are to wait.
    pub fn divide(batch: RecordBatch, limit: EventTime) -> Result<(RecordBatch, RecordBatch), StepError> {
        let column = batch.column_by_name(Hidden::Time.name());
        let column = column.ok_or_else(|| StepError::Internal("rows without event time cannot wait".into()))?;
        let times = column.as_primitive::<Int64Type>().values();
        if times.iter().all(|time| settled(*time, limit)) {
            let none = batch.slice(0, 0);
            return Ok((batch, none));
        }
        let now: BooleanArray = times.iter().map(|time| Some(settled(*time, limit))).collect();
        Ok((filter_record_batch(&batch, &now)?, filter_record_batch(&batch, &not(&now)?)?))
    }

    /// Holds the rows of a batch.
    pub fn hold(&mut self, batch: &RecordBatch) -> Result<(), StepError> {
        if batch.num_rows() > 0 {
            let slots = self.rows.add(batch)?;
            self.due.extend(slots.iter().map(|slot| Reverse((self.rows.time(*slot), *slot))));
        }
        Ok(())
    }

    /// Gives back the rows that are settled once `limit` is reached, in no order.
    pub fn release(&mut self, limit: EventTime) -> Result<Option<RecordBatch>, StepError> {
        let slots = self.take_due(limit);
        if slots.is_empty() {
            return Ok(None);
        }
        let width = self.rows.layout().schema().fields().len();
        let mut columns = self.rows.gather(&slots, 0..width)?;
        columns.push(Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| self.rows.hash(*slot)))));
        slots.iter().for_each(|slot| self.rows.remove(*slot));
        self.rows.tidy()?;
        Ok(Some(RecordBatch::try_new(self.schema.clone(), columns)?))
    }

    fn take_due(&mut self, limit: EventTime) -> Vec<Slot> {
        let mut slots = Vec::new();
        while let Some(Reverse((time, slot))) = self.due.peek().copied() {
            if !settled(time, limit) {
                break;
            }
            self.due.pop();
            slots.push(slot);
        }
        slots
    }

    /// Returns its table.
    pub fn spec(&self, name: &'static str) -> TableSpec {
        TableSpec { name, schema: self.rows.layout().state_schema(), key_columns: 0 }
    }

    /// Returns for how long its rows are kept.
    pub fn kept_for(&self) -> Duration {
        self.lateness
    }

    /// Returns how much it holds.
    pub fn table_size(&self) -> TableSize {
        TableSize { rows: self.rows.len() as u64, bytes: Some(self.rows.bytes() as u64) }
    }

    /// Returns what a checkpoint must write: rows that came, and all rows of the shards in `rebase`.
    pub fn freeze(&mut self, rebase: &[u16]) -> Frozen {
        self.rows.freeze(rebase)
    }

    /// Puts rows of a checkpoint back.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        self.restored = true;
        let slots = self.rows.restore(rows)?;
        self.due.extend(slots.iter().map(|slot| Reverse((self.rows.time(*slot), *slot))));
        Ok(())
    }
}

/// Returns whether no row before `time` can come once the limit is reached; at the end none can come at all.
fn settled(time: i64, limit: EventTime) -> bool {
    time < limit.0 || limit == EventTime::MAX
}
