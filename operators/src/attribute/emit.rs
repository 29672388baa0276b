//! The rows that an attribution gives, put together column by column.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::{Hidden, is_hidden};

use super::Attribute;
use super::model::Credit;
use crate::kept::{BATCH_BYTES, BATCH_ROWS, KeptRows, NO_ROW, Slot};

/// Rows to be: for each a conversion, and the touch that it credits, if any.
#[derive(Default)]
pub(super) struct Rows {
    conversions: Vec<Slot>,
    touches: Vec<Slot>,
    weights_ppm: Vec<Option<i64>>,
    times_to_convert_ms: Vec<Option<i64>>,
    bytes: usize,
}

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.conversions.is_empty()
    }

    /// Returns whether a batch of these rows is large enough.
    pub fn is_full(&self) -> bool {
        self.conversions.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Counts bytes that the batch will take.
    pub fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Adds the rows of one conversion: one per credit, or one without a touch.
    pub fn push(&mut self, time: i64, conversion: Slot, credits: &[Credit]) {
        for credit in credits {
            self.conversions.push(conversion);
            self.touches.push(credit.touch.slot);
            self.weights_ppm.push(Some(credit.weight_ppm));
            self.times_to_convert_ms.push(Some(millis_between(credit.touch.time, time)));
        }
        if credits.is_empty() {
            self.conversions.push(conversion);
            self.touches.push(NO_ROW);
            self.weights_ppm.push(None);
            self.times_to_convert_ms.push(None);
        }
    }

    /// Returns the conversions, each once.
    pub fn conversions(&self) -> impl Iterator<Item = Slot> {
        self.conversions.chunk_by(|a, b| a == b).map(|rows| rows[0])
    }

    /// Returns the rows as a batch of the attribution's schema.
    pub fn build(
        &mut self,
        plan: &Attribute,
        conversions: &KeptRows,
        touches: &KeptRows,
    ) -> Result<RecordBatch, StepError> {
        let visible = |rows: &KeptRows| -> Vec<usize> {
            let fields = rows.layout().schema().fields();
            (0..fields.len()).filter(|i| !is_hidden(fields[*i].name())).collect()
        };
        let (conversion_columns, touch_columns) = (visible(conversions), visible(touches));
        let hidden = (0..conversions.layout().schema().fields().len()).filter(|i| !conversion_columns.contains(i));
        let all = conversion_columns.iter().copied().chain(hidden);

        let mut columns = conversions.gather(&self.conversions, all)?;
        let hidden = columns.split_off(conversion_columns.len());
        columns.extend(touches.gather(&self.touches, touch_columns.into_iter())?);
        columns.extend(self.verdict(plan.settings.model.name()));
        columns.extend(hidden);
        if plan.schema.column_with_name(Hidden::Hash.name()).is_some() {
            let hashes = self.conversions.iter().map(|slot| conversions.hash(*slot));
            columns.push(Arc::new(UInt64Array::from_iter_values(hashes)));
        }
        Ok(RecordBatch::try_new(plan.schema.clone(), columns)?)
    }

    /// `attributed, model, weight_ppm, time_to_convert_ms`
    fn verdict(&mut self, model: &str) -> [ArrayRef; 4] {
        let attributed = self.touches.iter().map(|slot| Some(*slot != NO_ROW)).collect::<BooleanArray>();
        [
            Arc::new(attributed),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(model, self.touches.len()))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.weights_ppm))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.times_to_convert_ms))),
        ]
    }
}

/// Returns the whole milliseconds from one time to a later one.
fn millis_between(from: i64, to: i64) -> i64 {
    i64::try_from(to.abs_diff(from) / 1000).expect("the span of all times, in milliseconds, fits i64")
}
