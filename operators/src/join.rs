//! Join: pairs the rows of two streams that have one key and lie close together in event time.
//!
//! In:       0 left, 1 right; both routed by their key columns, with event time. Two rows are a pair iff their keys are equal and
//!           `left.time - before <= right.time <= left.time + after`. Keys with a null column never match.
//! Out:      each pair exactly once, in the tick in which its second row came: the left row's columns, then the right row's with a
//!           prefix; its event time is the greater of both, its id and origin are the left row's. Of kind `left` also each left
//!           row without a pair, with nulls for the right one and with its own time, once the watermark has passed the end of its
//!           window; the step's watermark is then `after` behind that of its inputs.
//! Late:     a row of either input whose time the watermark had passed before the tick. Late left rows go to the `late` output;
//!           late right rows go there too if both inputs have the same columns, else they are counted only.
//! Retract:  none.
//! Keeps:    left rows until no right row on time can match them; right rows until no left row on time can, of kind `left` until
//!           no left row that still waits can. Of what has run out, up to an eighth may still lie there. Of one key at most
//!           `max_per_key` rows of each side that can still match are kept: what comes beyond that, in per-key order, is a bad row
//!           (`crowded`) and matches nothing. More than `max_rows` of both sides on one worker stop the job.
//! Restart:  a checkpoint has what was added, never what left: that follows from the watermark of the tick before the first one
//!           after a restart, [`StepTick::before`]. Whether a left row had a pair is not stored: its right rows are still there.

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

use self::pairs::Pairs;
use crate::bad_row::refused_row;
use crate::kept::by_key::ByKey;
use crate::kept::{KeptRows, Layout, NO_ROW, Slot};
use crate::late::{on_time, passed};

mod pairs;

/// The version of what a join keeps. State of another version has another meaning, whatever its columns: raise it with every
/// change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// Which left rows are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Those that have a pair.
    Inner,
    /// All.
    Left,
}

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct JoinSettings {
    /// Key columns of the left rows.
    pub left_keys: Vec<usize>,
    /// Key columns of the right rows, of the same types.
    pub right_keys: Vec<usize>,
    /// How long before the left row the right one may be.
    pub before: Duration,
    /// How long after it.
    pub after: Duration,
    /// Which left rows are given.
    pub kind: JoinKind,
    /// What stands before the names of the right row's columns.
    pub prefix: String,
    /// How many rows of one key and side are kept that can still match.
    pub max_per_key: usize,
    /// How many rows one worker may keep.
    pub max_rows: usize,
}

/// A join of two inputs with known columns.
#[derive(Clone)]
pub struct Join {
    settings: JoinSettings,
    late: SchemaRef,
    late_right: bool,
    schema: SchemaRef,
    left: Layout,
    right: Layout,
}

/// One of the two inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Join {
    /// The rows of one key and side that are kept, unless the job says otherwise.
    pub const MAX_PER_KEY: usize = 10_000;
    /// The rows that one worker may keep, unless the job says otherwise.
    pub const MAX_ROWS: usize = 10_000_000;

    /// Fits the settings to the schemas of both inputs, hidden columns included.
    pub fn new(settings: JoinSettings, left: &SchemaRef, right: &SchemaRef) -> Result<Join, StepError> {
        let types = |schema: &Schema, keys: &[usize]| -> Vec<DataType> {
            keys.iter().map(|key| schema.field(*key).data_type().clone()).collect()
        };
        if types(left, &settings.left_keys) != types(right, &settings.right_keys) {
            return Err(StepError::Internal("the key columns of both sides differ in type".into()));
        }
        Ok(Join {
            late: left.clone(),
            late_right: left.fields() == right.fields(),
            schema: with_hidden(&Join::columns(left, right, &settings.prefix, settings.kind), &hidden_of(left)),
            left: Layout::new(left, kept_columns(left), &settings.left_keys)?,
            right: Layout::new(right, kept_columns(right), &settings.right_keys)?,
            settings,
        })
    }

    /// Returns the user's columns of the rows that a join gives; names may clash.
    pub fn columns(left: &Schema, right: &Schema, prefix: &str, kind: JoinKind) -> Vec<Field> {
        let mut columns = visible_of(left);
        columns.extend(visible_of(right).into_iter().map(|field| {
            let (name, nullable) = (format!("{prefix}{}", field.name()), field.is_nullable() || kind == JoinKind::Left);
            field.with_name(name).with_nullable(nullable)
        }));
        columns
    }

    /// Returns the schema of its rows: the left rows' hidden columns after [`Join::columns`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the schema of its late rows: the left rows'.
    pub fn late_schema(&self) -> &SchemaRef {
        &self.late
    }

    /// Returns how far its output watermark is behind its input watermark.
    pub fn delay(&self) -> Duration {
        match self.settings.kind {
            JoinKind::Inner => Duration::ZERO,
            JoinKind::Left => self.settings.after,
        }
    }

    /// Returns how long after its event time, by the watermark, a left and a right row is kept.
    pub fn spans(&self) -> [Duration; 2] {
        [Side::Left, Side::Right].map(|side| self.span(side))
    }

    /// Makes the step of one worker.
    pub fn on(&self, shards: ShardRange) -> JoinState {
        let kept = |layout: &Layout, side: Side| ByKey::new(KeptRows::new(layout.clone(), shards, self.span(side)));
        JoinState {
            left: kept(&self.left, Side::Left),
            right: kept(&self.right, Side::Right),
            due: BinaryHeap::new(),
            restored: false,
            plan: self.clone(),
        }
    }

    /// Returns how long after its event time, by the watermark, a row is kept.
    fn span(&self, side: Side) -> Duration {
        let JoinSettings { before, after, kind, .. } = self.settings;
        match (side, kind) {
            (Side::Left, _) => after,
            (Side::Right, JoinKind::Inner) => before,
            // Whether a left row has a pair is asked when the watermark passes the end of its window.
            (Side::Right, JoinKind::Left) => before + after,
        }
    }

    /// Returns from when to when the other row of a pair may be.
    fn window(&self, side: Side, time: i64) -> (i64, i64) {
        let (before, after) = (micros_of(self.settings.before), micros_of(self.settings.after));
        match side {
            Side::Left => (time.saturating_sub(before), time.saturating_add(after)),
            Side::Right => (time.saturating_sub(after), time.saturating_add(before)),
        }
    }
}

/// Returns the columns of an input that are kept: all but the key's hash, which is made anew.
fn kept_columns(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len()).filter(|i| schema.field(*i).name() != Hidden::Hash.name()).collect()
}

/// What must outlive a restart.
pub struct JoinState {
    plan: Join,
    left: ByKey,
    right: ByKey,
    /// Of kind `left`: time and row of each left row whose window the watermark has not passed, the smallest time first.
    due: BinaryHeap<Reverse<(i64, Slot)>>,
    /// Rows were put back, and those that had left before the checkpoint are still among them.
    restored: bool,
}

impl Operator for JoinState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let [left, right] =
            <[Vec<RecordBatch>; 2]>::try_from(inputs).map_err(|_| StepError::Internal("join has two inputs".into()))?;
        let watermark = if tick.last { EventTime::MAX } else { tick.watermark };
        if std::mem::take(&mut self.restored) {
            self.sweep(tick.before)?;
        }
        let mut pairs = Pairs::default();
        // New left rows find the right rows that were there, new right rows find all left rows: each pair is found once.
        let new = self.take(Side::Left, &left, tick.before, out)?;
        self.pair(Side::Left, &new, &mut pairs, out)?;
        let new = self.take(Side::Right, &right, tick.before, out)?;
        self.pair(Side::Right, &new, &mut pairs, out)?;
        let done = self.give_unpaired(watermark, &mut pairs, out)?;
        self.flush(&mut pairs, out)?;
        done.into_iter().for_each(|slot| self.left.rows.remove(slot));
        self.forget(watermark)
    }

    fn tables(&self) -> Vec<TableSpec> {
        let table = |name, of: &ByKey| TableSpec { name, schema: of.rows.layout().state_schema(), key_columns: 0 };
        vec![table("left", &self.left), table("right", &self.right)]
    }

    fn kept_for(&self) -> Vec<Option<Duration>> {
        self.plan.spans().map(Some).to_vec()
    }

    fn sizes(&self) -> Vec<TableSize> {
        let size = |of: &ByKey| TableSize { rows: of.rows.len() as u64, bytes: Some(of.bytes() as u64) };
        vec![size(&self.left), size(&self.right)]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        let shards = |table: usize| rebase.get(table).map_or(&[][..], Vec::as_slice);
        Ok(vec![self.left.rows.freeze(shards(0)), self.right.rows.freeze(shards(1))])
    }

    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        self.restored = true;
        match table {
            0 => {
                for slot in self.left.rows.restore(rows)? {
                    self.keep_left(slot);
                }
                Ok(())
            }
            1 => self.right.restore(rows),
            _ => Err(StepError::State(format!("join has no table {table}"))),
        }
    }
}

impl JoinState {
    /// Returns how many rows are kept of each side.
    pub fn kept(&self) -> [usize; 2] {
        [self.left.rows.len(), self.right.rows.len()]
    }

    /// Returns the bytes of what is kept, about.
    pub fn bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes()
    }

    fn side(&mut self, side: Side) -> &mut ByKey {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    /// Keeps the rows of one input that are on time; returns those that may have a pair, in per-key order.
    fn take(
        &mut self,
        side: Side,
        batches: &[RecordBatch],
        before: EventTime,
        out: &mut Outputs,
    ) -> Result<Vec<Slot>, StepError> {
        let wants_late = side == Side::Left || self.plan.late_right;
        let limit = before.minus(self.plan.span(side));
        let mut arrived: Vec<(i64, Slot, (usize, usize))> = Vec::new();
        let mut rows = Vec::new();
        for batch in batches {
            out.counts.input += batch.num_rows() as u64;
            let late = Some(&mut out.late).filter(|_| wants_late);
            let batch = on_time(batch, before, &mut out.counts.late, late)?;
            let kept = self.side(side);
            let slots = kept.rows.add(&batch)?;
            let number = rows.len();
            arrived.extend(slots.iter().enumerate().map(|(row, slot)| (kept.rows.time(*slot), *slot, (number, row))));
            rows.push(batch);
        }
        let kept = self.side(side);
        arrived.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| kept.rows.compare(a.1, b.1)));
        let mut new = Vec::with_capacity(arrived.len());
        for (_, slot, (batch, row)) in arrived {
            match self.keep(side, slot, limit) {
                Fate::Kept => new.push(slot),
                Fate::Alone => {}
                Fate::Crowded => {
                    out.counts.bad += 1;
                    out.bad.push(refused_row(&rows[batch], row, "crowded", &self.crowded()));
                    continue;
                }
            }
            out.counts.taken += 1;
        }
        Ok(new)
    }
}

/// What becomes of a row that came.
enum Fate {
    /// It is kept by its key.
    Kept,
    /// It can have no pair.
    Alone,
    /// Its key has as many rows as may be.
    Crowded,
}

impl JoinState {
    fn keep(&mut self, side: Side, slot: Slot, limit: EventTime) -> Fate {
        let (kind, most) = (self.plan.settings.kind, self.plan.settings.max_per_key);
        let kept = self.side(side);
        if kept.rows.has_null_key(slot) {
            match (side, kind) {
                (Side::Left, JoinKind::Left) => self.keep_left(slot),
                _ => kept.rows.remove(slot),
            }
            return Fate::Alone;
        }
        // What has run out may still lie there, and must not count.
        let of_key = kept.window(&kept.rows, slot, i64::MIN, i64::MAX);
        if of_key.len() >= most {
            let gone = of_key.partition_point(|row| passed(row.time, limit));
            if of_key.len() - gone >= most {
                kept.rows.remove(slot);
                return Fate::Crowded;
            }
        }
        match side {
            Side::Left => self.keep_left(slot),
            Side::Right => drop(self.right.insert(slot)),
        }
        Fate::Kept
    }

    /// Puts a left row where it is found: by its key, and by when it must be given.
    fn keep_left(&mut self, slot: Slot) {
        if !self.left.rows.has_null_key(slot) {
            self.left.insert(slot);
        }
        if self.plan.settings.kind == JoinKind::Left {
            self.due.push(Reverse((self.left.rows.time(slot), slot)));
        }
    }

    fn crowded(&self) -> String {
        let most = self.plan.settings.max_per_key;
        format!("its key has {most} rows of its side that can still match, which is the most (`max_per_key`)")
    }

    /// Gives the pairs of rows of one side with the rows that are kept of the other one.
    fn pair(&self, side: Side, new: &[Slot], pairs: &mut Pairs, out: &mut Outputs) -> Result<(), StepError> {
        let (of, others) = match side {
            Side::Left => (&self.left, &self.right),
            Side::Right => (&self.right, &self.left),
        };
        for slot in new {
            let (from, to) = self.plan.window(side, of.rows.time(*slot));
            for other in others.window(&of.rows, *slot, from, to) {
                let (left, right) = if side == Side::Left { (*slot, other.slot) } else { (other.slot, *slot) };
                pairs.push(left, right, self.left.rows.row_bytes(left) + self.right.rows.row_bytes(right));
                if pairs.is_full() {
                    self.flush(pairs, out)?;
                }
            }
        }
        Ok(())
    }

    /// Gives the left rows whose window the watermark has passed and that had no pair. Returns those of them that are in no line,
    /// which would let go of them.
    fn give_unpaired(
        &mut self,
        watermark: EventTime,
        pairs: &mut Pairs,
        out: &mut Outputs,
    ) -> Result<Vec<Slot>, StepError> {
        let mut due = self.take_due(watermark);
        for slot in due.iter().copied() {
            if !self.is_paired(slot) {
                pairs.push(slot, NO_ROW, self.left.rows.row_bytes(slot));
                if pairs.is_full() {
                    self.flush(pairs, out)?;
                }
            }
        }
        due.retain(|slot| self.left.rows.has_null_key(*slot));
        Ok(due)
    }

    fn is_paired(&self, left: Slot) -> bool {
        if self.left.rows.has_null_key(left) {
            return false;
        }
        let (from, to) = self.plan.window(Side::Left, self.left.rows.time(left));
        !self.right.window(&self.left.rows, left, from, to).is_empty()
    }

    /// Takes the left rows whose window the watermark has passed off the queue, in per-key order.
    fn take_due(&mut self, watermark: EventTime) -> Vec<Slot> {
        let limit = watermark.minus(self.plan.settings.after);
        let mut due = Vec::new();
        while let Some(Reverse((time, slot))) = self.due.peek().copied() {
            if !passed(time, limit) {
                break;
            }
            self.due.pop();
            due.push((time, slot));
        }
        for same_time in due.chunk_by_mut(|a, b| a.0 == b.0) {
            same_time.sort_unstable_by(|a, b| self.left.rows.compare(a.1, b.1));
        }
        due.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Makes a batch of what was found.
    fn flush(&self, pairs: &mut Pairs, out: &mut Outputs) -> Result<(), StepError> {
        if !pairs.is_empty() {
            out.rows.push(pairs.build(&self.plan, &self.left.rows, &self.right.rows)?);
        }
        Ok(())
    }

    /// Lets go of what no row on time can need, when enough of it is there.
    fn forget(&mut self, watermark: EventTime) -> Result<(), StepError> {
        let most = self.plan.settings.max_rows;
        let is_full = self.left.rows.len() + self.right.rows.len() > most;
        for side in [Side::Left, Side::Right] {
            let limit = watermark.minus(self.plan.span(side));
            let kept = self.side(side);
            if kept.rows.is_due(limit) || is_full {
                kept.sweep(limit);
            }
            kept.rows.tidy()?;
        }
        if self.left.rows.len() + self.right.rows.len() > most {
            return Err(StepError::Bound(format!(
                "more than {most} rows can still have a pair on one worker (`max_rows`): \
                 shorten `within`, run more workers, or raise the bound"
            )));
        }
        Ok(())
    }

    /// Lets go of restored rows that had left before the checkpoint; `before` was the watermark then.
    fn sweep(&mut self, before: EventTime) -> Result<(), StepError> {
        for slot in self.take_due(before) {
            if self.left.rows.has_null_key(slot) {
                self.left.rows.remove(slot);
            }
        }
        for side in [Side::Left, Side::Right] {
            let limit = before.minus(self.plan.span(side));
            self.side(side).sweep(limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
