//! The touches that a conversion may still find, by key and in per-key order.

use arrow::array::RecordBatch;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::StepError;

use crate::kept::by_key::{ByKey, Timed};
use crate::kept::{KeptRows, Slot};

/// A touch of some key.
pub(super) type Touch = Timed;

pub(super) struct Touches {
    kept: ByKey,
    per_key_max: usize,
    /// A key was given more touches than the bound since that was last looked at.
    crowded: bool,
}

impl Touches {
    pub fn new(rows: KeptRows, per_key_max: usize) -> Touches {
        Touches { kept: ByKey::new(rows), per_key_max, crowded: false }
    }

    pub fn rows(&self) -> &KeptRows {
        &self.kept.rows
    }

    pub fn rows_mut(&mut self) -> &mut KeptRows {
        &mut self.kept.rows
    }

    /// Keeps the touches of a batch, none of which has a null key.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), StepError> {
        for slot in self.kept.rows.add(batch)? {
            self.crowded |= self.kept.insert(slot) > self.per_key_max;
        }
        Ok(())
    }

    /// Puts touches of a checkpoint back.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        // Those that had left are among them: whether a key is crowded shows when they are gone.
        self.crowded = true;
        self.kept.restore(rows)
    }

    /// Returns the touches of the key of a row of `conversions` with `from <= time <= to`, in per-key order.
    pub fn window(&self, conversions: &KeptRows, conversion: Slot, from: i64, to: i64) -> &[Touch] {
        self.kept.window(conversions, conversion, from, to)
    }

    /// Lets go of touches with a time before `limit`, when enough of them are there to make it worth while.
    pub fn forget(&mut self, limit: EventTime, rows_max: usize) -> Result<(), StepError> {
        if self.kept.rows.is_due(limit) || self.crowded || self.kept.rows.len() > rows_max {
            self.kept.sweep(limit);
        }
        if std::mem::take(&mut self.crowded)
            && let Some(touch) = self.kept.crowded(self.per_key_max)
        {
            return Err(StepError::Bound(format!(
                "more than {} touches of one key, {}, are in its window (`max_touches_per_key`): \
                 leave out this key in a select before the step, shorten `window`, or raise the bound",
                self.per_key_max,
                self.kept.name_key(touch)?,
            )));
        }
        if self.kept.rows.len() > rows_max {
            return Err(StepError::Bound(format!(
                "more than {rows_max} touches are in their windows on one worker (`max_touches`): \
                 shorten `window`, run more workers, or raise the bound"
            )));
        }
        self.kept.rows.tidy()
    }

    /// Returns the bytes of what is kept, about.
    pub fn bytes(&self) -> usize {
        self.kept.bytes()
    }
}
