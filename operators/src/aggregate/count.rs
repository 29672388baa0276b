//! Count: rows, or values that are not null.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};

use super::accumulator::{Accumulator, Fold, gather};

#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }
    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.counts[*slot as usize] = 0);
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        rows.for_each_valid(|slot, _| self.counts[slot] += 1);
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        Arc::new(Int64Array::from(gather(&self.counts, slots)))
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![Field::new(format!("{name}.count"), DataType::Int64, true)]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        vec![self.finish(slots)]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let counts = columns[0].as_primitive::<Int64Type>().values();
        slots.iter().zip(rows).for_each(|(slot, row)| self.counts[*slot as usize] = counts[*row as usize]);
    }
}
