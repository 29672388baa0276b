//! Quantile: the values themselves, in no order; put in order when they are asked for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use super::accumulator::{Accumulator, Fold};
use super::scalar::Scalar;

/// The whole, in the parts in which a share is counted.
pub(super) const WHOLE: u64 = 1_000_000;

pub(super) struct Quantile<T> {
    of: DataType,
    /// The share of values that are not greater than the result, of a million.
    share: u32,
    kept: Vec<Vec<T>>,
    /// The values of all slots together.
    values: usize,
}

impl<T: Scalar> Quantile<T> {
    pub(super) fn new(of: DataType, share: u32) -> Self {
        Quantile { of, share, kept: Vec::new(), values: 0 }
    }

    fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", self.of.clone(), false))
    }

    /// Returns the values of a slot, ascending.
    fn sorted(&self, slot: u32) -> Vec<T::Ref<'_>> {
        let mut values: Vec<T::Ref<'_>> = self.kept[slot as usize].iter().map(T::get).collect();
        values.sort_unstable_by(|a, b| T::compare(*a, *b));
        values
    }

    fn push(&mut self, slot: usize, value: T::Ref<'_>) {
        let mut owned = T::default();
        owned.set(value);
        self.kept[slot].push(owned);
        self.values += 1;
    }
}

impl<T: Scalar> Accumulator for Quantile<T> {
    fn grow(&mut self, slots: usize) {
        self.kept.resize_with(slots, Vec::new);
    }
    fn clear(&mut self, slots: &[u32]) {
        for slot in slots {
            self.values -= std::mem::take(&mut self.kept[*slot as usize]).len();
        }
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        let column = T::column(rows.values());
        rows.for_each_valid(|slot, row| self.push(slot, T::at(&column, row)));
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        let found = slots.iter().map(|slot| {
            let values = self.sorted(*slot);
            values.get(place(self.share, values.len())).copied()
        });
        T::array(found, &self.of)
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![Field::new(format!("{name}.sample"), DataType::List(self.item()), true)]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        // The same values are the same row, however they came.
        let values = slots.iter().flat_map(|slot| self.sorted(*slot));
        let items = T::array(values.map(Some), &self.of);
        let offsets = OffsetBuffer::from_lengths(slots.iter().map(|slot| self.kept[*slot as usize].len()));
        vec![Arc::new(ListArray::new(self.item(), offsets, items, None))]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let lists = columns[0].as_list::<i32>();
        let items = T::column(lists.values());
        for (slot, row) in slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            self.clear(&[slot as u32]);
            if lists.is_valid(row) {
                let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                (from..to).for_each(|item| self.push(slot, T::at(&items, item)));
            }
        }
    }
    fn extra(&self) -> usize {
        self.values
    }
}

/// Returns the place of the first of so many ascending values up to which at least `share` of them lie.
fn place(share: u32, values: usize) -> usize {
    let rank = (u128::from(share) * values as u128).div_ceil(u128::from(WHOLE));
    usize::try_from(rank).unwrap_or(usize::MAX).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_first_value_that_enough_others_do_not_exceed() {
        let of = |share: u32, values: usize| place(share, values) + 1;
        assert_eq!([of(500_000, 1), of(500_000, 2), of(500_000, 3), of(500_000, 4)], [1, 1, 2, 2]);
        assert_eq!([of(950_000, 19), of(950_000, 20), of(950_000, 21), of(950_000, 100)], [19, 19, 20, 95]);
        assert_eq!([of(0, 7), of(1_000_000, 7), of(1, 7)], [1, 7, 1]);
    }
}
