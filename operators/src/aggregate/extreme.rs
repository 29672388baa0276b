//! Min and max.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};

use super::accumulator::{Accumulator, Fold, optional};
use super::scalar::Scalar;

pub(super) struct Extreme<T> {
    of: DataType,
    /// How a value must compare to the one that is kept to take its place.
    wins: Ordering,
    values: Vec<T>,
    valid: Vec<bool>,
}

impl<T: Scalar> Extreme<T> {
    pub(super) fn new(of: DataType, wins: Ordering) -> Self {
        Extreme { of, wins, values: Vec::new(), valid: Vec::new() }
    }
}

impl<T: Scalar> Accumulator for Extreme<T> {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots, T::default());
        self.valid.resize(slots, false);
    }
    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            self.values[*slot as usize] = T::default();
            self.valid[*slot as usize] = false;
        }
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        let column = T::column(rows.values());
        rows.for_each_valid(|slot, row| {
            let value = T::at(&column, row);
            if !self.valid[slot] || T::compare(value, self.values[slot].get()) == self.wins {
                self.values[slot].set(value);
                self.valid[slot] = true;
            }
        });
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        T::array(optional(&self.values, &self.valid, slots), &self.of)
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![Field::new(format!("{name}.value"), self.of.clone(), true)]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        vec![self.finish(slots)]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let column = T::column(&columns[0]);
        for (slot, row) in slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            self.valid[slot] = columns[0].is_valid(row);
            match self.valid[slot] {
                true => self.values[slot].set(T::at(&column, row)),
                false => self.values[slot] = T::default(),
            }
        }
    }
}
