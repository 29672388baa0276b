//! Lateness: which rows came after their time.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::Int64Type;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::Hidden;

/// Returns whether a watermark has passed a time: +inf has passed all.
pub(crate) fn passed(time: i64, watermark: EventTime) -> bool {
    time < watermark.0 || watermark == EventTime::MAX
}

/// Returns the rows that the watermark had not passed; counts the others, and gives them to `late`.
pub(crate) fn on_time(
    batch: &RecordBatch,
    before: EventTime,
    count: &mut u64,
    late: Option<&mut Vec<RecordBatch>>,
) -> Result<RecordBatch, StepError> {
    let column = batch.column_by_name(Hidden::Time.name());
    let times =
        column.ok_or_else(|| StepError::Internal("rows without event time are neither late nor on time".into()))?;
    let times = times.as_primitive::<Int64Type>().values();
    if !times.iter().any(|time| passed(*time, before)) {
        return Ok(batch.clone());
    }
    let mask: BooleanArray = times.iter().map(|time| Some(passed(*time, before))).collect();
    *count += mask.true_count() as u64;
    if let Some(late) = late {
        late.push(filter_record_batch(batch, &mask)?);
    }
    Ok(filter_record_batch(batch, &not(&mask)?)?)
}
