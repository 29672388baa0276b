//! The key columns of what a step keeps per key, by slot.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use crate::aggregate::Scalar;

/// One key column of all slots.
pub(crate) trait KeyColumn {
    /// Reads the column of a batch, for the calls that name a row of it.
    fn read(&mut self, column: &ArrayRef);
    /// Makes room for `slots` slots.
    fn grow(&mut self, slots: usize);
    /// Gives `slots[i]` the key of row `rows[i]`.
    fn put(&mut self, rows: &[u32], slots: &[u32]);
    /// Calls `differ` with each i for which row `rows[i]` has another key than `slots[i]`.
    fn compare(&self, rows: &[u32], slots: &[u32], differ: &mut dyn FnMut(usize));
    /// Returns whether a row has the key of a slot.
    fn equals(&self, row: u32, slot: u32) -> bool;
    /// Returns the order of the keys of two slots; null comes first.
    fn order(&self, a: u32, b: u32) -> Ordering;
    /// Returns the keys of slots.
    fn array(&self, slots: &[u32]) -> ArrayRef;
    /// Forgets the keys of slots.
    fn clear(&mut self, slots: &[u32]);
}

/// Returns a column without slots for keys of this type.
pub(crate) fn key_column(data_type: &DataType) -> Box<dyn KeyColumn> {
    match data_type {
        DataType::Utf8 => Box::new(Column::<Box<str>>::new(data_type)),
        DataType::Float64 => Box::new(Column::<f64>::new(data_type)),
        DataType::Decimal128(..) => Box::new(Column::<i128>::new(data_type)),
        _ => Box::new(Column::<i64>::new(data_type)),
    }
}

struct Column<T: Scalar> {
    of: DataType,
    values: Vec<T>,
    valid: Vec<bool>,
    input: Option<(T::Column, Option<NullBuffer>)>,
}

impl<T: Scalar> Column<T> {
    fn new(of: &DataType) -> Self {
        Column { of: of.clone(), values: Vec::new(), valid: Vec::new(), input: None }
    }

    fn value(&self, row: u32) -> Option<T::Ref<'_>> {
        let (column, nulls) = self.input.as_ref().expect("a batch is read before its rows are named");
        let row = row as usize;
        nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| T::at(column, row))
    }
}

impl<T: Scalar> KeyColumn for Column<T> {
    fn read(&mut self, column: &ArrayRef) {
        self.input = Some((T::column(column), column.nulls().filter(|nulls| nulls.null_count() > 0).cloned()));
    }
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots, T::default());
        self.valid.resize(slots, false);
    }
    fn put(&mut self, rows: &[u32], slots: &[u32]) {
        for (row, slot) in rows.iter().zip(slots) {
            let slot = *slot as usize;
            let mut value = T::default();
            let key = self.value(*row);
            let valid = key.is_some();
            if let Some(key) = key {
                value.set(key);
            }
            self.valid[slot] = valid;
            self.values[slot] = value;
        }
    }
    fn compare(&self, rows: &[u32], slots: &[u32], differ: &mut dyn FnMut(usize)) {
        for (index, (row, slot)) in rows.iter().zip(slots).enumerate() {
            if !self.equals(*row, *slot) {
                differ(index);
            }
        }
    }
    fn equals(&self, row: u32, slot: u32) -> bool {
        let slot = slot as usize;
        match self.value(row) {
            Some(value) => self.valid[slot] && T::compare(value, self.values[slot].get()).is_eq(),
            None => !self.valid[slot],
        }
    }
    fn order(&self, a: u32, b: u32) -> Ordering {
        let (a, b) = (a as usize, b as usize);
        match (self.valid[a], self.valid[b]) {
            (true, true) => T::compare(self.values[a].get(), self.values[b].get()),
            (a, b) => a.cmp(&b),
        }
    }
    fn array(&self, slots: &[u32]) -> ArrayRef {
        let slots = slots.iter().map(|slot| *slot as usize);
        T::array(slots.map(|slot| self.valid[slot].then(|| self.values[slot].get())), &self.of)
    }
    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.values[*slot as usize] = T::default());
    }
}
