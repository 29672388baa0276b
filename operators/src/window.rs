//! Window: aggregates rows per key in spans of event time, back to back (tumble) or overlapping (hop).
//!
//! In:       one input, routed by exactly the key columns `by` in their order ([`Hidden::Hash`]), with event time. Null keys
//!           are keys: they group together. A row is in every window `[start, start + size)` that holds its time, where
//!           starts are the multiples of `every` since the epoch, UTC.
//! Out:      one row per key and window, `window_start, window_end`, the keys, the aggregates; its time is the last instant
//!           of the window, one microsecond before its end. It is emitted once, in the first tick `t` with `end - 1us +
//!           lateness < W(t)`: from then on every row of the window would be late, so no accepted row ever misses its
//!           window. A window without rows gives none. Nothing depends on the order of rows within a tick.
//! Late:     a row with `time < W(t-1) - lateness`, even if its window is still open, goes to the `late` output as it came.
//! Bad:      a row on which a filter fails, or an argument where its filter is true, goes to the bad output; no aggregate sees it.
//! Keeps:    one group per key and open window; with `count(distinct ...)` also every different value. More than `groups_max`
//!           of both together stop the job.
//! Restart:  groups are checkpointed as typed rows, those that changed and those that are gone; the rest is the same rows.

mod checkpoint;
mod groups;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType, UInt64Type};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::is_key_type;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::tick::StepTick;
use riverrun_dataflow::time::micros_of;

use crate::aggregate::{Aggregate, Aggregates};
use crate::bad_row::bad_row;
use crate::changes::Changes;
use crate::expression::{is_stream_type, type_name};
use checkpoint::state_schema;
use groups::{Groups, Rows};

/// Rows in a batch that the step gives.
const BATCH_ROWS: usize = 8192;

/// What the job's author chooses.
#[derive(Clone, Debug)]
pub struct WindowSettings {
    /// The key columns, as indices into the input's schema.
    pub by: Vec<usize>,
    /// The aggregates with their names, compiled over the input's schema.
    pub aggregates: Vec<(String, Aggregate)>,
    /// The length of a window.
    pub size: Duration,
    /// The time between the starts of two windows; `size` for windows that stand back to back.
    pub every: Duration,
    /// How long after its end a window still takes rows.
    pub lateness: Duration,
    /// The unit of `window_start` and `window_end`.
    pub unit: TimeUnit,
    /// How many groups, and values kept by `count(distinct ...)`, one worker may keep.
    pub groups_max: usize,
}

/// The version of what a window keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

impl WindowSettings {
    /// The default of `groups_max`.
    pub const GROUPS_MAX: usize = 50_000_000;
}

/// The step, checked.
#[derive(Clone, Debug)]
pub struct Window {
    settings: WindowSettings,
    keys: Vec<Field>,
    schema: SchemaRef,
}

impl Window {
    /// Returns the step on rows of `input`, or what does not fit.
    pub fn new(settings: WindowSettings, input: &Schema) -> Result<Window, String> {
        let keys: Vec<Field> = settings.by.iter().map(|column| input.field(*column).clone()).collect();
        if let Some(key) = keys.iter().find(|key| !is_key_type(key.data_type()) || !is_stream_type(key.data_type())) {
            return Err(format!("`{}` cannot be a key: it is a {}", key.name(), type_name(key.data_type())));
        }
        if input.column_with_name(Hidden::Time.name()).is_none() {
            return Err("its input has no event time".into());
        }
        let (size, every) = (micros_of(settings.size), micros_of(settings.every));
        if every < 1 || size < every {
            return Err("a window lasts at least as long as the time to the next one, and that is not zero".into());
        }
        if settings.unit == TimeUnit::Nanosecond {
            return Err("times are no finer than microseconds".into());
        }
        let unit = unit_micros(settings.unit);
        if size % unit != 0 || every % unit != 0 {
            return Err("a window begins and ends at whole units of its columns' time".into());
        }
        if settings.groups_max >= u32::MAX as usize {
            return Err("the bound on groups is 2^32".into());
        }
        let mut fields: Vec<Field> = ["window_start", "window_end"]
            .map(|name| Field::new(name, DataType::Timestamp(settings.unit, None), false))
            .into();
        fields.extend(keys.iter().cloned());
        fields.extend(settings.aggregates.iter().map(|(name, aggregate)| aggregate.field(name)));
        let schema = with_hidden(&fields, &[Hidden::Time, Hidden::Hash]);
        Ok(Window { settings, keys, schema })
    }

    /// Returns the schema of its rows, hidden columns included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the step's empty state on the shards of one worker.
    pub fn on(&self, shards: ShardRange) -> WindowState {
        let aggregates = Aggregates::new(self.settings.aggregates.clone());
        let types: Vec<DataType> = self.keys.iter().map(|key| key.data_type().clone()).collect();
        WindowState {
            size: micros_of(self.settings.size),
            every: micros_of(self.settings.every),
            lateness: micros_of(self.settings.lateness),
            by: self.settings.by.clone(),
            groups_max: self.settings.groups_max,
            unit: self.settings.unit,
            shards: shards.shards,
            state_schema: state_schema(&self.keys, aggregates.state_fields()),
            schema: self.schema.clone(),
            keys: self.keys.clone(),
            groups: Groups::new(&types),
            aggregates,
            changes: Changes::default(),
            rows: Vec::new(),
            starts: Vec::new(),
            slots: Vec::new(),
        }
    }
}

fn unit_micros(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
    }
}

/// What the step keeps between ticks, for the shards of one worker.
pub struct WindowState {
    size: i64,
    every: i64,
    lateness: i64,
    by: Vec<usize>,
    groups_max: usize,
    unit: TimeUnit,
    shards: u16,
    schema: SchemaRef,
    state_schema: SchemaRef,
    keys: Vec<Field>,
    groups: Groups,
    /// Invariant: slots that are not in use are empty.
    aggregates: Aggregates,
    changes: Changes,
    // Kept for their memory: the rows in hand, the start of the window of each, and their slots.
    rows: Vec<u32>,
    starts: Vec<i64>,
    slots: Vec<u32>,
}

impl Operator for WindowState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let mut batches: Vec<RecordBatch> = inputs.into_iter().flatten().filter(|b| b.num_rows() > 0).collect();
        if self.aggregates.folds_in_order() && batches.len() > 1 {
            // Their order is that of the whole tick.
            let schema = batches[0].schema();
            batches = vec![concat_batches(&schema, &batches)?];
        }
        for batch in batches {
            self.absorb(batch, tick, out)?;
        }
        self.close(tick, out)
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec { name: "groups", schema: self.state_schema.clone(), key_columns: 1 + self.keys.len() }]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![TableSize { rows: self.groups() as u64, bytes: None }]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        Ok(vec![self.freeze_groups(rebase.first().map_or(&[], Vec::as_slice))?.into()])
    }

    fn restore(&mut self, _: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.restore_groups(rows)
    }
}

impl WindowState {
    /// Returns how many groups are kept.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Takes the rows of a batch into their groups.
    fn absorb(&mut self, batch: RecordBatch, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        out.counts.input += batch.num_rows() as u64;
        let batch = self.without_late(batch, tick, out)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let inputs = self.aggregates.evaluate(&batch);
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let mut failed = inputs.failed.iter().map(|failed| failed.row).peekable();
        rows.extend((0..batch.num_rows()).filter(|row| failed.next_if_eq(row).is_none()).map(|row| row as u32));
        out.bad.extend(inputs.failed.iter().map(|failed| bad_row(&batch, failed)));
        out.counts.bad += inputs.failed.len() as u64;
        out.counts.taken += rows.len() as u64;
        if self.aggregates.folds_in_order() {
            inputs.in_order(&mut rows);
        }
        let times = hidden_column(&batch, Hidden::Time)?.as_primitive::<Int64Type>().values().clone();
        let hashes = hidden_column(&batch, Hidden::Hash)?.as_primitive::<UInt64Type>().values().clone();
        self.groups.read(&self.by.iter().map(|column| batch.column(*column).clone()).collect::<Vec<_>>());
        let (mut starts, mut slots) = (std::mem::take(&mut self.starts), std::mem::take(&mut self.slots));
        self.newest_starts(&times, &rows, &mut starts);
        while !rows.is_empty() {
            self.groups.find(&Rows { rows: &rows, starts: &starts, hashes: &hashes }, &mut slots);
            self.make_room();
            self.changes.touch(&slots);
            self.aggregates.fold(&inputs, &rows, &slots);
            self.check_bound()?;
            self.previous_starts(&times, &mut rows, &mut starts);
        }
        (self.rows, self.starts, self.slots) = (rows, starts, slots);
        Ok(())
    }

    /// Gives the late rows to the late output, and returns the others.
    fn without_late(&self, batch: RecordBatch, tick: &StepTick, out: &mut Outputs) -> Result<RecordBatch, StepError> {
        let EventTime(limit) = tick.before.minus(Duration::from_micros(self.lateness.unsigned_abs()));
        let times = hidden_column(&batch, Hidden::Time)?.as_primitive::<Int64Type>().values();
        if times.iter().all(|time| *time >= limit) {
            return Ok(batch);
        }
        let late: BooleanArray = times.iter().map(|time| Some(*time < limit)).collect();
        let on_time = filter_record_batch(&batch, &not(&late)?)?;
        out.counts.late += (batch.num_rows() - on_time.num_rows()) as u64;
        out.late.push(filter_record_batch(&batch, &late)?);
        Ok(on_time)
    }

    /// Puts into `starts` the start of the newest window of each row.
    fn newest_starts(&self, times: &[i64], rows: &[u32], starts: &mut Vec<i64>) {
        starts.clear();
        let Some(first) = rows.first() else { return };
        let (every, start_of) = (self.every, |time: i64| time.saturating_sub(time.rem_euclid(self.every)));
        // The start of the row before: division is dear, and rows that follow each other are mostly in one window.
        let mut start = start_of(times[*first as usize]);
        starts.extend(rows.iter().map(|row| {
            let time = times[*row as usize];
            if time < start || time.abs_diff(start) >= every.unsigned_abs() {
                start = start_of(time);
            }
            start
        }));
    }

    /// Moves each row to its next older window; rows that are in none leave.
    fn previous_starts(&self, times: &[i64], rows: &mut Vec<u32>, starts: &mut Vec<i64>) {
        if self.size == self.every {
            rows.clear();
            return;
        }
        let mut kept = 0;
        for index in 0..rows.len() {
            let Some(start) = starts[index].checked_sub(self.every) else { continue };
            if times[rows[index] as usize].abs_diff(start) < self.size.unsigned_abs() {
                (rows[kept], starts[kept]) = (rows[index], start);
                kept += 1;
            }
        }
        rows.truncate(kept);
        starts.truncate(kept);
    }

    fn make_room(&mut self) {
        if self.groups.slots() > self.aggregates.slots() {
            self.aggregates.grow(self.groups.slots());
            self.changes.grow(self.groups.slots());
        }
    }

    fn check_bound(&self) -> Result<(), StepError> {
        let (groups, values) = (self.groups.len(), self.aggregates.extra());
        if groups + values <= self.groups_max {
            return Ok(());
        }
        let values = if values > 0 { format!(" and {values} distinct values") } else { String::new() };
        Err(StepError::Bound(format!(
            "it keeps {groups} groups (keys times open windows){values}, and {} are allowed: fewer keys, shorter windows or \
             less lateness need less",
            self.groups_max
        )))
    }

    /// Emits the windows that no row can reach any more.
    fn close(&mut self, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let EventTime(watermark) = tick.watermark;
        let all = tick.last || tick.watermark == EventTime::MAX;
        let (size, lateness) = (self.size, self.lateness);
        let timer = |start: i64| (start.saturating_add(size) - 1).saturating_add(lateness);
        let closed = self.groups.take_closed(|start| all || timer(start) < watermark);
        if closed.is_empty() {
            return Ok(());
        }
        for slots in closed.chunks(BATCH_ROWS) {
            out.rows.push(self.results(slots)?);
            out.pulse.beat();
        }
        self.note_deleted(&closed)?;
        self.aggregates.clear(&closed);
        self.groups.release(&closed);
        Ok(())
    }

    fn results(&self, slots: &[u32]) -> Result<RecordBatch, StepError> {
        let starts: Vec<i64> = slots.iter().map(|slot| self.groups.start(*slot)).collect();
        let ends: Vec<i64> = starts.iter().map(|start| start.saturating_add(self.size)).collect();
        let last_instants: Int64Array = ends.iter().map(|end| end - 1).collect();
        let hashes: UInt64Array = slots.iter().map(|slot| self.groups.hash(*slot)).collect();
        let mut columns = vec![self.bound(starts)?, self.bound(ends)?];
        columns.extend(self.groups.keys(slots));
        columns.extend(self.aggregates.finish(slots));
        columns.push(Arc::new(last_instants));
        columns.push(Arc::new(hashes));
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Returns microseconds as a column of the bounds' unit.
    fn bound(&self, micros: Vec<i64>) -> Result<ArrayRef, StepError> {
        let unit = unit_micros(self.unit);
        // Divided here: at the ends of time a saturated bound is no whole unit, and is rounded down.
        let whole: Vec<i64> = micros.into_iter().map(|micros| micros.div_euclid(unit)).collect();
        let numbers: ArrayRef = match self.unit {
            TimeUnit::Microsecond => Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(whole)),
            _ => Arc::new(Int64Array::from(whole)),
        };
        Ok(cast(&numbers, &DataType::Timestamp(self.unit, None))?)
    }
}

fn hidden_column(batch: &RecordBatch, hidden: Hidden) -> Result<&ArrayRef, StepError> {
    let column = batch.column_by_name(hidden.name());
    column.ok_or_else(|| StepError::Internal(format!("rows of a window carry `{}`", hidden.name())))
}
