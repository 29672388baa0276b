//! Order: the per-key order of rows, `(event time, id, source name, split, position)`, never arrival.
//!
//! Whatever depends on which row comes first asks this module. Split numbers follow (source name, split name), so one
//! number stands for both. Rows that a step made have neither split nor position, and two rows may come from one record
//! (through a `union`): what is still equal then is put in order by the content of the user's columns, so that a tie is
//! left only between rows that are the same in every column, and no result can depend on which of them came first.
//!
//! A null id stands before all ids. A rank that stands between time and id would be another column in [`KeyOrder`].

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{Int64Type, Schema, UInt32Type, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::{Hidden, is_hidden};

/// A row among several batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowRef {
    /// Index of its batch.
    pub batch: u32,
    /// Index of the row in its batch.
    pub row: u32,
}

/// How rows of one schema are put in order.
#[derive(Clone)]
pub struct KeyOrder {
    time: usize,
    id: Option<usize>,
    split: Option<usize>,
    position: Option<usize>,
    content: Vec<usize>,
    converter: Arc<RowConverter>,
}

impl KeyOrder {
    /// Finds what orders the rows of `schema`, which must have event time.
    pub fn of(schema: &Schema) -> Result<KeyOrder, StepError> {
        let hidden = |column: Hidden| schema.column_with_name(column.name()).map(|(index, _)| index);
        let time =
            hidden(Hidden::Time).ok_or_else(|| StepError::Internal("rows without event time have no order".into()))?;
        let content: Vec<usize> = (0..schema.fields().len()).filter(|i| !is_hidden(schema.field(*i).name())).collect();
        let fields = content.iter().map(|i| SortField::new(schema.field(*i).data_type().clone())).collect();
        Ok(KeyOrder {
            time,
            id: hidden(Hidden::Id),
            split: hidden(Hidden::Split),
            position: hidden(Hidden::Position),
            content,
            converter: Arc::new(RowConverter::new(fields)?),
        })
    }

    /// Returns what orders the rows of `batch`, a batch of this order's schema. Copies no column.
    pub fn columns(&self, batch: &RecordBatch) -> OrderColumns {
        OrderColumns {
            times: batch.column(self.time).as_primitive::<Int64Type>().values().clone(),
            ids: self.id.map(|i| batch.column(i).as_string::<i32>().clone()),
            splits: self.split.map(|i| batch.column(i).as_primitive::<UInt32Type>().values().clone()),
            positions: self.position.map(|i| batch.column(i).as_primitive::<UInt64Type>().values().clone()),
            content: self.content.iter().map(|i| batch.column(*i).clone()).collect(),
            converter: self.converter.clone(),
            encoded: OnceCell::new(),
        }
    }

    /// Returns the columns of each batch, to be used with [`compare`] and [`sort`].
    pub fn columns_of(&self, batches: &[RecordBatch]) -> Vec<OrderColumns> {
        batches.iter().map(|batch| self.columns(batch)).collect()
    }
}

/// What orders the rows of one batch.
pub struct OrderColumns {
    times: ScalarBuffer<i64>,
    ids: Option<StringArray>,
    splits: Option<ScalarBuffer<u32>>,
    positions: Option<ScalarBuffer<u64>>,
    content: Vec<ArrayRef>,
    converter: Arc<RowConverter>,
    /// The content in a form that compares byte by byte, made when the first tie asks for it.
    encoded: OnceCell<Rows>,
}

impl OrderColumns {
    /// Returns the event time of `row`, in microseconds since the epoch.
    pub fn time(&self, row: usize) -> i64 {
        self.times[row]
    }

    /// Returns the event times of all rows.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// Returns split and position of `row`; 0 for what it does not carry.
    pub fn origin(&self, row: usize) -> [u64; 2] {
        let split = self.splits.as_ref().map_or(0, |splits| u64::from(splits[row]));
        [split, self.positions.as_ref().map_or(0, |positions| positions[row])]
    }

    /// Returns the order of `row` and a row of another batch of the same schema.
    pub fn compare(&self, row: usize, other: &OrderColumns, other_row: usize) -> Ordering {
        self.times[row].cmp(&other.times[other_row]).then_with(|| self.break_tie(row, other, other_row))
    }

    /// Returns the order of two rows of equal event time.
    pub fn break_tie(&self, row: usize, other: &OrderColumns, other_row: usize) -> Ordering {
        compare_ids(self.ids.as_ref(), row, other.ids.as_ref(), other_row)
            .then_with(|| compare_numbers(self.splits.as_deref(), row, other.splits.as_deref(), other_row))
            .then_with(|| compare_numbers(self.positions.as_deref(), row, other.positions.as_deref(), other_row))
            .then_with(|| self.compare_content(row, other, other_row))
    }

    fn compare_content(&self, row: usize, other: &OrderColumns, other_row: usize) -> Ordering {
        if self.content.is_empty() {
            return Ordering::Equal;
        }
        self.encoded().row(row).cmp(&other.encoded().row(other_row))
    }

    fn encoded(&self) -> &Rows {
        self.encoded.get_or_init(|| {
            self.converter.convert_columns(&self.content).expect("the converter was made for this schema")
        })
    }
}

/// Returns the order of two rows; `columns[i]` are those of batch `i`.
pub fn compare(columns: &[OrderColumns], a: RowRef, b: RowRef) -> Ordering {
    columns[a.batch as usize].compare(a.row as usize, &columns[b.batch as usize], b.row as usize)
}

/// Puts rows in per-key order; `columns[i]` are those of batch `i`.
pub fn sort(columns: &[OrderColumns], rows: &mut [RowRef]) {
    let mut timed: Vec<(i64, RowRef)> =
        rows.iter().map(|row| (columns[row.batch as usize].time(row.row as usize), *row)).collect();
    timed.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| {
            columns[a.1.batch as usize].break_tie(a.1.row as usize, &columns[b.1.batch as usize], b.1.row as usize)
        })
    });
    for (row, (_, sorted)) in rows.iter_mut().zip(timed) {
        *row = sorted;
    }
}

/// Returns references to all rows of `columns`, batch by batch.
pub fn all_rows(columns: &[OrderColumns]) -> Vec<RowRef> {
    let index = |i: usize| u32::try_from(i).expect("the rows of a tick are fewer than u32");
    columns
        .iter()
        .enumerate()
        .flat_map(|(batch, of)| (0..of.times.len()).map(move |row| RowRef { batch: index(batch), row: index(row) }))
        .collect()
}

fn compare_ids(a: Option<&StringArray>, a_row: usize, b: Option<&StringArray>, b_row: usize) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return Ordering::Equal };
    let a_id = a.is_valid(a_row).then(|| a.value(a_row));
    let b_id = b.is_valid(b_row).then(|| b.value(b_row));
    a_id.cmp(&b_id)
}

fn compare_numbers<T: Ord>(a: Option<&[T]>, a_row: usize, b: Option<&[T]>, b_row: usize) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a[a_row].cmp(&b[b_row]),
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests;
