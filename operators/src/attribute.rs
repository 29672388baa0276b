//! Attribute: credits each conversion to touches of the same key in a span of event time before it.
//!
//! In:       0 conversions, 1 touches; both routed by their key columns, with event time. A touch is in the window of a
//!           conversion iff `conversion.time - window <= touch.time <= conversion.time`. Keys with a null column never
//!           match: such a touch is counted and not kept, such a conversion has no touch.
//! Out:      each conversion exactly once, when the watermark has passed its time: its columns, the columns of the touch
//!           credited as `touch_...`, `attributed`, `model`, `weight_ppm`, `time_to_convert_ms`. A conversion without a
//!           touch has `attributed = false` and nulls in the touch's columns, the weight and the time. Times, ids and
//!           origin are the conversion's.
//! Dedupe:   with `dedupe_for`, a conversion is a duplicate iff one with the same key (nulls equal here) and id, and an
//!           event time at most `dedupe_for` apart, was accepted before it: in an earlier tick, or in the same tick and
//!           before it in per-key order. It is counted and gives no row. A duplicate does not prolong the span; an id that
//!           comes again further apart than that is a conversion of its own, and remembered beside the first. A null id is
//!           never a duplicate. A late conversion is neither remembered nor a duplicate.
//! Late:     a row of either input whose time the watermark had passed before the tick. Late conversions go to the `late`
//!           output; late touches go there too if both inputs have the same columns, else they are counted only.
//! Retract:  none.
//! Keeps:    `touches` until no conversion on time can find them, `pending` conversions until they are emitted, `seen` ids
//!           until no duplicate can be on time; of what has run out, up to an eighth may still lie there. More than
//!           `max_touches`, `max_touches_per_key`, `max_pending` or `max_seen` stop the job.
//! Restart:  a checkpoint has what was added, never what left: that follows from the watermark of the tick before the
//!           first one after a restart, [`StepTick::before`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::{Hidden, hidden_of, visible_of, with_hidden};
use riverrun_dataflow::time::micros_of;
use riverrun_dataflow::{EventTime, StepTick};

use self::emit::Rows;
use self::model::Credit;
use self::seen::Seen;
use self::touches::Touches;
use crate::kept::{KeptRows, Layout, Slot, with_whole_key};
use crate::late::{on_time, passed};

mod emit;
mod model;
mod seen;
mod touches;

pub use model::{Model, WHOLE_PPM};

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct AttributeSettings {
    /// Key columns of the conversions.
    pub conversion_keys: Vec<usize>,
    /// Key columns of the touches, of the same types.
    pub touch_keys: Vec<usize>,
    /// How long before a conversion a touch may be.
    pub window: Duration,
    /// How credit is divided.
    pub model: Model,
    /// Conversions of one key and id this close together are one; only where the conversions have an id.
    pub dedupe_for: Option<Duration>,
    /// How much may be kept.
    pub bounds: AttributeBounds,
}

/// The version of what an attribution keeps. State of another version has another meaning, whatever its columns: raise it with
/// every change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// How much one worker may keep of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeBounds {
    /// Touches; each takes some 200 bytes and its text.
    pub max_touches: usize,
    /// Touches of one key.
    pub max_touches_per_key: usize,
    /// Conversions that wait for the watermark.
    pub max_pending: usize,
    /// Conversions remembered to know duplicates.
    pub max_seen: usize,
}

impl Default for AttributeBounds {
    fn default() -> Self {
        AttributeBounds {
            max_touches: 10_000_000,
            max_touches_per_key: 100_000,
            max_pending: 1_000_000,
            max_seen: 10_000_000,
        }
    }
}

/// An attribution of two inputs with known columns.
#[derive(Clone)]
pub struct Attribute {
    settings: AttributeSettings,
    late: SchemaRef,
    late_touches: bool,
    schema: SchemaRef,
    touches: Layout,
    pending: Layout,
    seen: Option<Layout>,
}

impl Attribute {
    /// Fits the settings to the schemas of conversions and touches, hidden columns included.
    pub fn new(
        settings: AttributeSettings,
        conversions: &SchemaRef,
        touches: &SchemaRef,
    ) -> Result<Attribute, StepError> {
        let types = |schema: &Schema, keys: &[usize]| -> Vec<DataType> {
            keys.iter().map(|key| schema.field(*key).data_type().clone()).collect()
        };
        if types(conversions, &settings.conversion_keys) != types(touches, &settings.touch_keys) {
            return Err(StepError::Internal("the key columns of conversions and touches differ in type".into()));
        }
        let seen = settings.dedupe_for.map(|_| seen_layout(conversions, &settings.conversion_keys)).transpose()?;
        Ok(Attribute {
            late: conversions.clone(),
            late_touches: conversions.fields() == touches.fields(),
            schema: with_hidden(&Attribute::columns(conversions, touches), &hidden_of(conversions)),
            touches: Layout::new(touches, kept_columns(touches), &settings.touch_keys)?,
            pending: Layout::new(conversions, kept_columns(conversions), &settings.conversion_keys)?,
            seen,
            settings,
        })
    }

    /// Returns the user's columns of the rows that an attribution gives; names may clash.
    pub fn columns(conversions: &Schema, touches: &Schema) -> Vec<Field> {
        let mut columns = visible_of(conversions);
        columns.extend(visible_of(touches).into_iter().map(|field| {
            let name = format!("touch_{}", field.name());
            field.with_name(name).with_nullable(true)
        }));
        columns.extend([
            Field::new("attributed", DataType::Boolean, false),
            Field::new("model", DataType::Utf8, false),
            Field::new("weight_ppm", DataType::Int64, true),
            Field::new("time_to_convert_ms", DataType::Int64, true),
        ]);
        columns
    }

    /// Returns the schema of its rows: the conversions' hidden columns after [`Attribute::columns`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the schema of its late rows: the conversions'.
    pub fn late_schema(&self) -> &SchemaRef {
        &self.late
    }

    /// Makes the step of one worker.
    pub fn on(&self, shards: ShardRange) -> AttributeState {
        let AttributeSettings { window, dedupe_for, bounds, .. } = self.settings;
        let seen = self.seen.clone().zip(dedupe_for);
        AttributeState {
            touches: Touches::new(KeptRows::new(self.touches.clone(), shards, window), bounds.max_touches_per_key),
            pending: KeptRows::new(self.pending.clone(), shards, Duration::ZERO),
            due: BinaryHeap::new(),
            seen: seen.map(|(layout, span)| Seen::new(KeptRows::new(layout, shards, span), span)),
            restored: false,
            plan: self.clone(),
        }
    }
}

/// Returns the columns of an input that are kept: all but the key's hash, which is made anew.
fn kept_columns(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len()).filter(|i| schema.field(*i).name() != Hidden::Hash.name()).collect()
}

fn seen_layout(conversions: &Schema, keys: &[usize]) -> Result<Layout, StepError> {
    let hidden = [Hidden::Time, Hidden::Id].map(|h| conversions.column_with_name(h.name()).map(|(index, _)| index));
    let [Some(time), Some(id)] = hidden else {
        return Err(StepError::Internal("conversions without an id cannot be deduplicated".into()));
    };
    let mut columns = keys.to_vec();
    columns.sort_unstable();
    columns.dedup();
    columns.extend([time, id]);
    Layout::new(conversions, columns, keys)
}

/// What must outlive a restart.
pub struct AttributeState {
    plan: Attribute,
    touches: Touches,
    /// Conversions that the watermark has not passed.
    pending: KeptRows,
    /// Time and row of each pending conversion, the smallest time first.
    due: BinaryHeap<Reverse<(i64, Slot)>>,
    seen: Option<Seen>,
    /// Rows were put back, and those that had left before the checkpoint are still among them.
    restored: bool,
}

impl Operator for AttributeState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let [conversions, touches] = <[Vec<RecordBatch>; 2]>::try_from(inputs)
            .map_err(|_| StepError::Internal("attribute has two inputs".into()))?;
        let watermark = if tick.last { EventTime::MAX } else { tick.watermark };
        if std::mem::take(&mut self.restored) {
            self.forget_emitted(tick.before);
        }
        for batch in touches {
            self.take_touches(&batch, tick.before, out)?;
        }
        self.take_conversions(&conversions, tick.before, out)?;
        self.emit(watermark, out)?;
        self.forget(watermark)
    }

    fn tables(&self) -> Vec<TableSpec> {
        let table = |name, rows: &KeptRows| TableSpec { name, schema: rows.layout().state_schema(), key_columns: 0 };
        let mut tables = vec![table("touches", self.touches.rows()), table("pending", &self.pending)];
        tables.extend(self.seen.as_ref().map(|seen| table("seen", &seen.rows)));
        tables
    }

    fn kept_for(&self) -> Vec<Option<Duration>> {
        let mut spans = vec![Some(self.plan.settings.window), Some(Duration::ZERO)];
        spans.extend(self.seen.as_ref().map(|seen| Some(seen.dedupe_for)));
        spans
    }

    fn sizes(&self) -> Vec<TableSize> {
        let size = |rows: &KeptRows, bytes: usize| TableSize { rows: rows.len() as u64, bytes: Some(bytes as u64) };
        let mut sizes =
            vec![size(self.touches.rows(), self.touches.bytes()), size(&self.pending, self.pending.bytes())];
        sizes.extend(self.seen.as_ref().map(|seen| size(&seen.rows, seen.rows.bytes())));
        sizes
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        let shards = |table: usize| rebase.get(table).map_or(&[][..], Vec::as_slice);
        let mut frozen = vec![self.touches.rows_mut().freeze(shards(0)), self.pending.freeze(shards(1))];
        if let Some(seen) = &mut self.seen {
            frozen.push(seen.rows.freeze(shards(2)));
        }
        Ok(frozen)
    }

    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.restored = true;
        match (table, &mut self.seen) {
            (0, _) => self.touches.restore(rows),
            (1, _) => {
                let slots = self.pending.restore(rows)?;
                self.due.extend(slots.iter().map(|slot| Reverse((self.pending.time(*slot), *slot))));
                Ok(())
            }
            (2, Some(seen)) => seen.restore(rows),
            _ => Err(StepError::State(format!("attribute has no table {table}"))),
        }
    }
}

impl AttributeState {
    /// Returns how many rows are kept: touches, pending conversions, remembered ids.
    pub fn kept(&self) -> [usize; 3] {
        [self.touches.rows().len(), self.pending.len(), self.seen.as_ref().map_or(0, |seen| seen.rows.len())]
    }

    /// Returns the bytes of what is kept, about.
    pub fn bytes(&self) -> usize {
        let seen = self.seen.as_ref().map_or(0, |seen| seen.rows.bytes());
        self.touches.bytes() + self.pending.bytes() + seen
    }

    fn take_touches(&mut self, batch: &RecordBatch, before: EventTime, out: &mut Outputs) -> Result<(), StepError> {
        out.counts.input += batch.num_rows() as u64;
        let late = if self.plan.late_touches { Some(&mut out.late) } else { None };
        let batch = on_time(batch, before, &mut out.counts.late, late)?;
        out.counts.taken += batch.num_rows() as u64;
        let batch = with_whole_key(batch, &self.plan.settings.touch_keys)?;
        if batch.num_rows() > 0 { self.touches.add(&batch) } else { Ok(()) }
    }

    /// Lets the conversions of a tick wait for the watermark, all but late ones and duplicates.
    fn take_conversions(
        &mut self,
        batches: &[RecordBatch],
        before: EventTime,
        out: &mut Outputs,
    ) -> Result<(), StepError> {
        let mut arrived: Vec<(i64, Slot, Slot)> = Vec::new();
        for batch in batches {
            out.counts.input += batch.num_rows() as u64;
            let batch = on_time(batch, before, &mut out.counts.late, Some(&mut out.late))?;
            if batch.num_rows() == 0 {
                continue;
            }
            let slots = self.pending.add(&batch)?;
            let seen = self.seen.as_mut().map(|seen| seen.add(&batch)).transpose()?.unwrap_or_else(|| slots.clone());
            arrived.extend(slots.into_iter().zip(seen).map(|(slot, seen)| (self.pending.time(slot), slot, seen)));
        }
        if let Some(seen) = &mut self.seen {
            let pending = &self.pending;
            arrived.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| pending.compare(a.1, b.1)));
            let arrived_rows = arrived.len();
            arrived.retain(|(_, slot, as_seen)| {
                let first = seen.accept(*as_seen);
                if !first {
                    self.pending.remove(*slot);
                }
                first
            });
            out.counts.duplicate += (arrived_rows - arrived.len()) as u64;
        }
        out.counts.taken += arrived.len() as u64;
        self.due.extend(arrived.into_iter().map(|(time, slot, _)| Reverse((time, slot))));
        Ok(())
    }

    /// Emits the conversions that the watermark has passed. All touches that they may find are in.
    fn emit(&mut self, watermark: EventTime, out: &mut Outputs) -> Result<(), StepError> {
        let mut rows = Rows::default();
        let mut credits: Vec<Credit> = Vec::new();
        for (time, slot) in self.take_due(watermark) {
            credits.clear();
            if !self.pending.has_null_key(slot) {
                let from = time.saturating_sub(micros_of(self.plan.settings.window));
                let window = self.touches.window(&self.pending, slot, from, time);
                self.plan.settings.model.divide(window, &mut credits);
            }
            let touches = credits.iter().map(|credit| self.touches.rows().row_bytes(credit.touch.slot));
            rows.add_bytes(self.pending.row_bytes(slot) * credits.len().max(1) + touches.sum::<usize>());
            rows.push(time, slot, &credits);
            if rows.is_full() {
                out.rows.push(self.finish(&mut rows)?);
            }
        }
        if !rows.is_empty() {
            out.rows.push(self.finish(&mut rows)?);
        }
        Ok(())
    }

    /// Takes the conversions that the watermark has passed off the queue, in per-key order.
    fn take_due(&mut self, watermark: EventTime) -> Vec<(i64, Slot)> {
        let mut due = Vec::new();
        while let Some(Reverse((time, slot))) = self.due.peek().copied() {
            if !passed(time, watermark) {
                break;
            }
            self.due.pop();
            due.push((time, slot));
        }
        for same_time in due.chunk_by_mut(|a, b| a.0 == b.0) {
            same_time.sort_unstable_by(|a, b| self.pending.compare(a.1, b.1));
        }
        due
    }

    /// Makes a batch of rows and lets go of their conversions.
    fn finish(&mut self, rows: &mut Rows) -> Result<RecordBatch, StepError> {
        let batch = rows.build(&self.plan, &self.pending, self.touches.rows())?;
        rows.conversions().for_each(|slot| self.pending.remove(slot));
        *rows = Rows::default();
        Ok(batch)
    }

    /// Lets go of what no row on time can need.
    fn forget(&mut self, watermark: EventTime) -> Result<(), StepError> {
        let AttributeBounds { max_touches, max_pending, max_seen, .. } = self.plan.settings.bounds;
        self.touches.forget(watermark.minus(self.plan.settings.window), max_touches)?;
        if let Some(seen) = &mut self.seen {
            seen.forget(watermark, max_seen)?;
        }
        if self.pending.len() > max_pending {
            return Err(StepError::Bound(format!(
                "more than {max_pending} conversions wait for the watermark on one worker (`max_pending`): \
                 look for a source that holds it back, run more workers, or raise the bound"
            )));
        }
        self.pending.tidy()
    }

    /// Lets go of restored conversions that had been emitted before the checkpoint; `before` was the watermark then.
    /// Touches and ids that had left are found by no row on time, and go when time moves on.
    fn forget_emitted(&mut self, before: EventTime) {
        for (_, slot) in self.take_due(before) {
            self.pending.remove(slot);
        }
    }
}

#[cfg(test)]
mod tests;
