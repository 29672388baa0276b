//! Count distinct: the values themselves, in a set per slot.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use hashbrown::HashTable;

use super::accumulator::{Accumulator, Fold};
use super::scalar::Scalar;

pub(super) struct Distinct<T> {
    of: DataType,
    sets: Vec<HashTable<T>>,
    /// The sizes of all sets together.
    values: usize,
}

impl<T: Scalar> Distinct<T> {
    pub(super) fn new(of: DataType) -> Self {
        Distinct { of, sets: Vec::new(), values: 0 }
    }

    fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", self.of.clone(), false))
    }

    fn insert(&mut self, slot: usize, value: T::Ref<'_>) {
        let set = &mut self.sets[slot];
        let hash = T::hash(value);
        if set.find(hash, |kept| T::compare(kept.get(), value).is_eq()).is_none() {
            let mut owned = T::default();
            owned.set(value);
            set.insert_unique(hash, owned, |kept| T::hash(kept.get()));
            self.values += 1;
        }
    }
}

impl<T: Scalar> Accumulator for Distinct<T> {
    fn grow(&mut self, slots: usize) {
        self.sets.resize_with(slots, HashTable::new);
    }
    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            self.values -= std::mem::take(&mut self.sets[*slot as usize]).len();
        }
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        let column = T::column(rows.values());
        rows.for_each_valid(|slot, row| self.insert(slot, T::at(&column, row)));
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        let size = |slot: &u32| i64::try_from(self.sets[*slot as usize].len()).expect("a set fits memory");
        Arc::new(slots.iter().map(size).collect::<Int64Array>())
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![Field::new(format!("{name}.values"), DataType::List(self.item()), true)]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        let mut values: Vec<T::Ref<'_>> = Vec::new();
        for slot in slots {
            let from = values.len();
            values.extend(self.sets[*slot as usize].iter().map(T::get));
            // The same set is the same row, however it came about.
            values[from..].sort_unstable_by(|a, b| T::compare(*a, *b));
        }
        let offsets = OffsetBuffer::from_lengths(slots.iter().map(|slot| self.sets[*slot as usize].len()));
        let items = T::array(values.into_iter().map(Some), &self.of);
        vec![Arc::new(ListArray::new(self.item(), offsets, items, None))]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let lists = columns[0].as_list::<i32>();
        let items = T::column(lists.values());
        for (slot, row) in slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            self.clear(&[slot as u32]);
            if lists.is_valid(row) {
                let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                (from..to).for_each(|item| self.insert(slot, T::at(&items, item)));
            }
        }
    }
    fn extra(&self) -> usize {
        self.values
    }
}
