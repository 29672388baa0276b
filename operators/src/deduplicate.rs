//! Deduplicate: lets the first row of a key through, and no other for as long as the horizon goes.
//!
//! In:       rows routed by their key columns, with event time.
//! Out:      the rows that are accepted, as they came and in the tick in which they came. A row is a duplicate iff one with the
//!           same key was accepted before it (in an earlier tick, or in the same tick and before it in per-key order) and its time
//!           is less than that row's time + `within`. The horizon runs from the row that was accepted: a duplicate does not prolong
//!           it. A row that is older than the accepted one is within its horizon. A key with a null column is never a duplicate.
//! Sides:    0 `duplicates`, 1 `conflicts`: where `compare` names columns, a duplicate whose values in them are others than those
//!           of the accepted row goes there and not to the duplicates, with the hashes of both as `kept_hash` and `refused_hash`.
//!           Both count as `duplicate`.
//! Late:     a row whose time the watermark less `lateness` had passed before the tick. It is neither remembered nor a duplicate.
//! Retract:  none.
//! Keeps:    of each key that was accepted two hashes, the time, and the hash of what is compared: 32 bytes, whatever the row is.
//!           They are kept until no row on time can be within the horizon; of what has run out, up to an eighth may still lie there.
//!           More than `max_keys` on one worker stop the job. Keys are told apart by 128 bits of their hashes.
//! Restart:  a checkpoint has what was added, never what left: that follows from the watermark.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::Keys;
use riverrun_dataflow::operator::{Frozen, Operator, Outputs, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::{hidden_of, visible_of, with_hidden};
use riverrun_dataflow::time::micros_of;
use riverrun_dataflow::{EventTime, StepTick};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::accepted::{Accepted, AcceptedKeys, Verdict, state_schema};
use crate::late::on_time;
use crate::order::{KeyOrder, OrderColumns, RowRef, compare};

mod accepted;

/// The number of the side output of duplicates.
pub const DUPLICATES: usize = 0;
/// The number of the side output of conflicts.
pub const CONFLICTS: usize = 1;

/// The version of what a deduplication keeps. State of another version has another meaning, whatever its columns: raise it with
/// every change to what the columns hold, and teach upgrades the way from the one before.
pub const STATE_VERSION: u32 = 1;

/// The seed of the second hash of a key; the first is the one by which it is routed.
const SECOND_SEED: u64 = 1;

/// What the job's author chooses, already checked.
#[derive(Clone, Debug)]
pub struct DeduplicateSettings {
    /// The columns of the key.
    pub keys: Vec<usize>,
    /// The horizon.
    pub within: Duration,
    /// How long after the watermark a row may come.
    pub lateness: Duration,
    /// The columns in which rows of one key should be equal; none: whatever has the key is the same.
    pub compare: Vec<usize>,
    /// How many keys one worker may remember.
    pub max_keys: usize,
    /// Which side outputs are read: the others are not made.
    pub sides: [bool; 2],
}

/// A deduplication of an input with known columns.
#[derive(Clone)]
pub struct Deduplicate {
    settings: DeduplicateSettings,
    schema: SchemaRef,
    conflicts: SchemaRef,
    order: KeyOrder,
}

impl Deduplicate {
    /// The keys that one worker may remember, unless the job says otherwise.
    pub const MAX_KEYS: usize = 10_000_000;

    /// Fits the settings to the schema of the input, hidden columns included.
    pub fn new(settings: DeduplicateSettings, input: &SchemaRef) -> Result<Deduplicate, StepError> {
        let conflicts = with_hidden(&Deduplicate::conflict_columns(input), &hidden_of(input));
        Ok(Deduplicate { settings, schema: input.clone(), conflicts, order: KeyOrder::of(input)? })
    }

    /// Returns the user's columns of the side output of conflicts; names may clash.
    pub fn conflict_columns(input: &Schema) -> Vec<Field> {
        let mut columns = visible_of(input);
        columns.extend(["kept_hash", "refused_hash"].map(|name| Field::new(name, DataType::Utf8, false)));
        columns
    }

    /// Returns the schema of its rows, its late rows and its duplicates: the input's.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the schema of its conflicts: the input's with two columns more.
    pub fn conflicts_schema(&self) -> &SchemaRef {
        &self.conflicts
    }

    /// Makes the step of one worker.
    pub fn on(&self, shards: ShardRange) -> DeduplicateState {
        DeduplicateState { accepted: AcceptedKeys::new(shards, self.span()), plan: self.clone() }
    }

    /// Returns how long after its event time, by the watermark, a key is remembered.
    fn span(&self) -> Duration {
        self.settings.within + self.settings.lateness
    }
}

/// What must outlive a restart.
pub struct DeduplicateState {
    plan: Deduplicate,
    accepted: AcceptedKeys,
}

/// The rows of a tick, as far as they are on time.
struct Arrived {
    batches: Vec<Judged>,
    order: Vec<OrderColumns>,
}

/// A batch, and what became of its rows.
struct Judged {
    rows: RecordBatch,
    /// Of each row its key's second hash; the first is in `keys`.
    second: Vec<u64>,
    keys: Keys,
    /// Of each row the hash of what is compared; empty if nothing is.
    bodies: Vec<u64>,
    verdicts: Vec<Verdict>,
}

impl Operator for DeduplicateState {
    fn step(&mut self, inputs: Vec<Vec<RecordBatch>>, tick: &StepTick, out: &mut Outputs) -> Result<(), StepError> {
        let [batches] = <[Vec<RecordBatch>; 1]>::try_from(inputs)
            .map_err(|_| StepError::Internal("deduplicate has one input".into()))?;
        let mut arrived = self.arrive(&batches, tick.before, out)?;
        self.judge(&mut arrived);
        for batch in arrived.batches {
            self.give(batch, out)?;
        }
        let watermark = if tick.last { EventTime::MAX } else { tick.watermark };
        self.accepted.forget(watermark.minus(self.plan.span()), self.plan.settings.max_keys)
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec { name: "keys", schema: state_schema(), key_columns: 0 }]
    }

    fn kept_for(&self) -> Vec<Option<Duration>> {
        vec![Some(self.plan.span())]
    }

    fn sizes(&self) -> Vec<TableSize> {
        vec![TableSize { rows: self.accepted.len() as u64, bytes: Some(self.accepted.bytes() as u64) }]
    }

    fn freeze(&mut self, rebase: &[Vec<u16>]) -> Result<Vec<Frozen>, StepError> {
        Ok(vec![self.accepted.freeze(rebase.first().map_or(&[], Vec::as_slice))?.into()])
    }

    fn restore(&mut self, table: usize, rows: &RecordBatch) -> Result<(), StepError> {
        match table {
            0 => self.accepted.restore(rows),
            _ => Err(StepError::State(format!("deduplicate has no table {table}"))),
        }
    }
}

impl DeduplicateState {
    /// Returns how many keys are remembered.
    pub fn kept(&self) -> usize {
        self.accepted.len()
    }

    /// Returns the bytes of what is kept, about.
    pub fn bytes(&self) -> usize {
        self.accepted.bytes()
    }

    fn arrive(&self, batches: &[RecordBatch], before: EventTime, out: &mut Outputs) -> Result<Arrived, StepError> {
        let settings = &self.plan.settings;
        let mut arrived = Arrived { batches: Vec::new(), order: Vec::new() };
        for batch in batches {
            out.counts.input += batch.num_rows() as u64;
            let limit = before.minus(settings.lateness);
            let rows = on_time(batch, limit, &mut out.counts.late, Some(&mut out.late))?;
            if rows.num_rows() == 0 {
                continue;
            }
            let keys = Keys::of(&rows, &settings.keys)?;
            let second = (0..rows.num_rows()).map(|row| xxh3_64_with_seed(keys.key(row), SECOND_SEED)).collect();
            let bodies = match settings.compare.is_empty() {
                true => Vec::new(),
                false => Keys::of(&rows, &settings.compare)?.hashes,
            };
            arrived.order.push(self.plan.order.columns(&rows));
            let verdicts = vec![Verdict::First; rows.num_rows()];
            arrived.batches.push(Judged { rows, second, keys, bodies, verdicts });
        }
        Ok(arrived)
    }

    /// Judges the rows of a tick, those of one key in per-key order.
    fn judge(&mut self, arrived: &mut Arrived) {
        let mut rows: Vec<(u64, RowRef)> = Vec::new();
        for (number, batch) in arrived.batches.iter().enumerate() {
            let whole = (0..batch.rows.num_rows()).filter(|row| !batch.keys.has_null(*row));
            rows.extend(whole.map(|row| (batch.keys.hashes[row], RowRef { batch: number as u32, row: row as u32 })));
        }
        rows.sort_unstable_by_key(|(hash, _)| *hash);
        let within = micros_of(self.plan.settings.within);
        for same in rows.chunk_by_mut(|a, b| a.0 == b.0) {
            if same.len() > 1 {
                same.sort_unstable_by(|a, b| compare(&arrived.order, a.1, b.1));
            }
            for (first, RowRef { batch, row }) in same.iter() {
                let (batch, row) = (*batch as usize, *row as usize);
                let judged = &mut arrived.batches[batch];
                let body = judged.bodies.get(row).copied();
                let second = judged.second[row];
                let event = Accepted { first: *first, second, time: arrived.order[batch].time(row), body };
                judged.verdicts[row] = self.accepted.judge(event, within);
            }
        }
    }

    /// Gives the rows of a batch where they belong.
    fn give(&self, batch: Judged, out: &mut Outputs) -> Result<(), StepError> {
        let Judged { rows, verdicts, .. } = batch;
        let is = |wanted: fn(&Verdict) -> bool| verdicts.iter().map(|it| Some(wanted(it))).collect::<BooleanArray>();
        let first = is(|verdict| *verdict == Verdict::First);
        let accepted = first.true_count();
        out.counts.taken += accepted as u64;
        out.counts.duplicate += (verdicts.len() - accepted) as u64;
        if accepted == verdicts.len() {
            out.rows.push(rows);
            return Ok(());
        }
        let [duplicates, conflicts] = self.plan.settings.sides;
        if duplicates {
            let mask = is(|verdict| *verdict == Verdict::Duplicate);
            out.side(DUPLICATES).push(filter_record_batch(&rows, &mask)?);
        }
        if conflicts {
            let mask = is(|verdict| matches!(verdict, Verdict::Conflict { .. }));
            let refused = self.conflicts(&filter_record_batch(&rows, &mask)?, &verdicts)?;
            out.side(CONFLICTS).push(refused);
        }
        if accepted > 0 {
            out.rows.push(filter_record_batch(&rows, &first)?);
        }
        Ok(())
    }

    /// Returns the conflicts of a batch with their hashes.
    fn conflicts(&self, rows: &RecordBatch, verdicts: &[Verdict]) -> Result<RecordBatch, StepError> {
        let hashes: Vec<(u64, u64)> = verdicts
            .iter()
            .filter_map(|verdict| match verdict {
                Verdict::Conflict { kept, refused } => Some((*kept, *refused)),
                _ => None,
            })
            .collect();
        let text = |hash: fn(&(u64, u64)) -> u64| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(hashes.iter().map(|of| format!("{:016x}", hash(of)))))
        };
        let visible = visible_of(rows.schema_ref()).len();
        let mut columns = rows.columns().to_vec();
        let hidden = columns.split_off(visible);
        columns.extend([text(|of| of.0), text(|of| of.1)]);
        columns.extend(hidden);
        Ok(RecordBatch::try_new(self.plan.conflicts.clone(), columns)?)
    }
}

#[cfg(test)]
mod tests;
