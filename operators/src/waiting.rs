//! Waiting: rows of one key that are held until the watermark has passed them, in their order. What is fed from here comes
//! in one order, whatever the order of arrival within the lateness, and however input is cut into ticks.

use std::cmp::Ordering;
use std::collections::VecDeque;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::Int64Type;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::{Outputs, StepError};
use riverrun_dataflow::schema::Hidden;
use serde::{Deserialize, Serialize};

/// A row that can wait.
pub(crate) trait Waits {
    /// Returns its event time, in microseconds.
    fn time_us(&self) -> i64;
    /// Returns the order of two rows of one key; equal only if it does not matter which comes first.
    fn order(&self, other: &Self) -> Ordering;
}

impl<T: Waits> Waits for Box<T> {
    fn time_us(&self) -> i64 {
        (**self).time_us()
    }

    fn order(&self, other: &Self) -> Ordering {
        (**self).order(other)
    }
}

/// Rows of one key, in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Waiting<T> {
    rows: VecDeque<T>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting { rows: VecDeque::new() }
    }
}

impl<T: Waits> Waiting<T> {
    /// Puts a row in its place.
    pub(crate) fn push(&mut self, row: T) {
        let place = self.rows.partition_point(|other| other.order(&row) != Ordering::Greater);
        self.rows.insert(place, row);
    }

    /// Puts a row in its place, unless one that is the same waits: then the one that comes first in the order is kept. Says whether
    /// it is another. Rows that are the same stand beside each other in the order.
    pub(crate) fn push_once(&mut self, row: T, is_same: impl Fn(&T, &T) -> bool) -> bool {
        let place = self.rows.partition_point(|other| other.order(&row) != Ordering::Greater);
        if place.checked_sub(1).and_then(|before| self.rows.get(before)).is_some_and(|other| is_same(other, &row)) {
            return false;
        }
        match self.rows.get_mut(place).filter(|other| is_same(other, &row)) {
            Some(other) => {
                *other = row;
                false
            }
            None => {
                self.rows.insert(place, row);
                true
            }
        }
    }

    /// Returns the time of the first row.
    pub(crate) fn first_us(&self) -> Option<i64> {
        self.rows.front().map(Waits::time_us)
    }

    /// Takes the first row out.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.rows.pop_front()
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Returns whether a watermark has passed a time: that at the end of time has passed all.
pub(crate) fn passed(time_us: i64, limit: EventTime) -> bool {
    time_us < limit.0 || limit == EventTime::MAX
}

/// Returns the event times of a batch, in microseconds.
pub(crate) fn times_of(batch: &RecordBatch) -> Result<&[i64], StepError> {
    let column = batch.column_by_name(Hidden::Time.name());
    let column = column.ok_or_else(|| StepError::Internal("rows that wait have an event time".into()))?;
    Ok(column.as_primitive::<Int64Type>().values())
}

/// Returns the rows that `limit` had not passed; the others are counted, and go to the late output.
pub(crate) fn on_time(batch: RecordBatch, limit: EventTime, out: &mut Outputs) -> Result<RecordBatch, StepError> {
    out.counts.input += batch.num_rows() as u64;
    let times = times_of(&batch)?;
    if !times.iter().any(|time| passed(*time, limit)) {
        return Ok(batch);
    }
    let late: BooleanArray = times.iter().map(|time| Some(passed(*time, limit))).collect();
    out.counts.late += late.true_count() as u64;
    out.late.push(filter_record_batch(&batch, &late)?);
    Ok(filter_record_batch(&batch, &not(&late)?)?)
}

/// Returns the rows that `keep` tells to keep; the others are counted as filtered.
pub(crate) fn only(
    batch: RecordBatch,
    keep: impl Fn(usize) -> bool,
    out: &mut Outputs,
) -> Result<RecordBatch, StepError> {
    let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(keep(row))).collect();
    let kept = mask.true_count();
    out.counts.taken += kept as u64;
    out.counts.filtered += (batch.num_rows() - kept) as u64;
    if kept == batch.num_rows() { Ok(batch) } else { Ok(filter_record_batch(&batch, &mask)?) }
}
