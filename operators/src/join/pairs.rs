//! The rows that a join gives, put together column by column.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::{Hidden, is_hidden};

use super::Join;
use crate::kept::{BATCH_BYTES, BATCH_ROWS, KeptRows, NO_ROW, Slot};

/// Rows to be: for each a left row, and the right one if there is one.
#[derive(Default)]
pub(super) struct Pairs {
    left: Vec<Slot>,
    right: Vec<Slot>,
    bytes: usize,
}

impl Pairs {
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Returns whether a batch of these rows is large enough.
    pub fn is_full(&self) -> bool {
        self.left.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Adds a row of at most so many bytes.
    pub fn push(&mut self, left: Slot, right: Slot, bytes: usize) {
        self.left.push(left);
        self.right.push(right);
        self.bytes += bytes;
    }

    /// Returns the rows as a batch of the join's schema, and begins anew.
    pub fn build(&mut self, plan: &Join, left: &KeptRows, right: &KeptRows) -> Result<RecordBatch, StepError> {
        let visible = |rows: &KeptRows| -> Vec<usize> {
            let fields = rows.layout().schema().fields();
            (0..fields.len()).filter(|i| !is_hidden(fields[*i].name())).collect()
        };
        let mut columns = left.gather(&self.left, visible(left).into_iter())?;
        columns.extend(right.gather(&self.right, visible(right).into_iter())?);
        for hidden in Hidden::ALL {
            if plan.schema.column_with_name(hidden.name()).is_some() {
                columns.push(self.hidden(hidden, left, right)?);
            }
        }
        (self.left, self.right, self.bytes) = (Vec::new(), Vec::new(), 0);
        Ok(RecordBatch::try_new(plan.schema.clone(), columns)?)
    }

    fn hidden(&self, hidden: Hidden, left: &KeptRows, right: &KeptRows) -> Result<ArrayRef, StepError> {
        let time = |(one, two): (&Slot, &Slot)| match *two {
            NO_ROW => left.time(*one),
            two => left.time(*one).max(right.time(two)),
        };
        Ok(match hidden {
            Hidden::Time => Arc::new(self.left.iter().zip(&self.right).map(time).collect::<Int64Array>()),
            Hidden::Hash => Arc::new(self.left.iter().map(|slot| left.hash(*slot)).collect::<UInt64Array>()),
            other => {
                let place = left.layout().schema().index_of(other.name())?;
                left.gather(&self.left, std::iter::once(place))?.swap_remove(0)
            }
        })
    }
}
