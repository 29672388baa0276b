//! Columns of its first row that a journey carries along: kept as text, which is exact for all types that can be a key, and can be
//! read by who looks into the state.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use riverrun_dataflow::operator::StepError;

/// The columns of a batch that may be carried along.
pub(super) struct Carried {
    columns: Vec<ArrayRef>,
}

impl Carried {
    /// Reads the columns of a batch.
    pub(super) fn read(batch: &RecordBatch, columns: &[usize]) -> Result<Carried, StepError> {
        let text = |column: &usize| -> Result<ArrayRef, StepError> {
            let column = batch.column(*column);
            let plain = match number_of(column.data_type()) {
                Some(number) => cast(column, &number)?,
                None => column.clone(),
            };
            Ok(cast(&plain, &DataType::Utf8)?)
        };
        Ok(Carried { columns: columns.iter().map(text).collect::<Result<_, _>>()? })
    }

    /// Returns the values of a row.
    pub(super) fn of(&self, row: usize) -> Vec<Option<String>> {
        let columns = self.columns.iter().map(|column| column.as_string::<i32>());
        columns.map(|column| column.is_valid(row).then(|| column.value(row).to_owned())).collect()
    }
}

/// Makes a column of its type from values that were carried along.
pub(super) fn column<'a>(
    values: impl Iterator<Item = Option<&'a str>>,
    data_type: &DataType,
) -> Result<ArrayRef, StepError> {
    let texts: ArrayRef = Arc::new(values.collect::<StringArray>());
    let plain = match number_of(data_type) {
        Some(number) => cast(&texts, &number)?,
        None => texts,
    };
    Ok(cast(&plain, data_type)?)
}

/// Returns the number that stands for a time: not every time that can be kept can be read again from how it is written.
fn number_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(..) => Some(DataType::Int64),
        DataType::Date32 => Some(DataType::Int32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, TimestampMillisecondArray,
    };

    use super::*;

    #[test]
    fn every_value_comes_back_as_it_was() {
        let decimals =
            Decimal128Array::from(vec![Some(-1), None, Some(10_i128.pow(37))]).with_precision_and_scale(38, 2);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some(""), None, Some("ключ, \"x\"\n")])),
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])),
            Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-1e300)])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(decimals.unwrap()),
            Arc::new(TimestampMillisecondArray::from(vec![Some(i64::MAX / 1000), None, Some(-1)])),
            Arc::new(Date32Array::from(vec![Some(i32::MAX), None, Some(-1)])),
        ];
        let names = ["s", "i", "f", "b", "d", "t", "date"];
        let batch = RecordBatch::try_from_iter_with_nullable(
            names.into_iter().zip(&columns).map(|(name, column)| (name, column.clone(), true)),
        );
        let carried = Carried::read(&batch.unwrap(), &[0, 1, 2, 3, 4, 5, 6]).unwrap();
        let rows: Vec<Vec<Option<String>>> = (0..3).map(|row| carried.of(row)).collect();
        for (at, wanted) in columns.iter().enumerate() {
            let values = rows.iter().map(|row| row[at].as_deref());
            assert_eq!(&column(values, wanted.data_type()).unwrap(), wanted);
        }
    }
}
