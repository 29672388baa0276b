//! Event time that clocks tell, for the rows of a file that have none.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use riverrun_behaviour::time::Stamps;

use super::super::clocks;
use super::super::rows::{Fault, micros_per_unit};
use super::super::schema::{Column, RowSchema};
use super::{Faults, array_at, typed};

/// What clocks tell of the rows that have no event time.
#[derive(Default)]
pub(super) struct Told<'a> {
    event_time: &'a str,
    flag: Option<&'a str>,
    /// By row.
    rows: BTreeMap<usize, Result<clocks::Told, Fault>>,
}

/// Asks the clocks of `schema`, if it has any, for the event time of rows without one.
pub(super) fn told<'a>(schema: &'a RowSchema, rows: &RecordBatch) -> Told<'a> {
    let (Some(clocks), Some(event_time)) = (&schema.clocks, &schema.event_time) else { return Told::default() };
    let times = times_of(schema, event_time, rows);
    if times.null_count() == 0 {
        return Told::default();
    }
    let client = times_of(schema, &clocks.client, rows);
    let sent = clocks.sent.as_ref().map(|sent| times_of(schema, sent, rows));
    let received = times_of(schema, &clocks.received, rows);
    let at = |times: &Int64Array, row: usize| times.is_valid(row).then(|| times.value(row));
    let tell = |row: usize| {
        let stamps = Stamps {
            client_time: at(&client, row),
            sent_at: sent.as_ref().and_then(|sent| at(sent, row)),
            received_at: at(&received, row),
        };
        (row, clocks.tell(event_time, stamps))
    };
    let rows = (0..times.len()).filter(|row| times.is_null(*row)).map(tell).collect();
    Told { event_time, flag: clocks.flag.as_deref(), rows }
}

/// Returns a column of times in microseconds.
fn times_of(schema: &RowSchema, name: &str, rows: &RecordBatch) -> Int64Array {
    let column = schema.column(name).expect("the schema was checked");
    // What does not fit is found, and said, where the column itself is decoded.
    let array = typed(column, array_at(rows, &column.path), rows.num_rows(), &mut Faults::new());
    let unit = micros_per_unit(&column.column_type);
    numbers(&array).unary(|value| value.saturating_mul(unit))
}

fn numbers(array: &ArrayRef) -> Int64Array {
    cast(array, &DataType::Int64).expect("a timestamp is a number").as_primitive::<Int64Type>().clone()
}

impl Told<'_> {
    /// Returns `array`, which is `column`, with what was told in it; a row of which nothing can be told is a fault.
    pub(super) fn completed(&self, column: &Column, array: ArrayRef, faults: &mut Faults) -> ArrayRef {
        let told = |row: usize| self.rows.get(&row).and_then(|told| told.as_ref().ok());
        if self.rows.is_empty() {
            array
        } else if self.event_time == column.name {
            for (row, fault) in self.rows.iter().filter_map(|(row, told)| Some((row, told.as_ref().err()?))) {
                faults.entry(*row).or_insert_with(|| fault.clone());
            }
            let unit = micros_per_unit(&column.column_type);
            let time = |(row, value): (usize, Option<i64>)| value.or_else(|| Some(told(row)?.micros.div_euclid(unit)));
            let filled: Int64Array = numbers(&array).iter().enumerate().map(time).collect();
            cast(&filled, array.data_type()).expect("a number can be a timestamp")
        } else if self.flag == Some(column.name.as_str()) {
            let ahead = |(row, value): (usize, Option<bool>)| match told(row) {
                Some(told) if told.ahead => Some(true),
                _ => value,
            };
            Arc::new(array.as_boolean().iter().enumerate().map(ahead).collect::<BooleanArray>())
        } else {
            array
        }
    }
}
