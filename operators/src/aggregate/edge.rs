//! First and last in per-key order. The order of what is kept is kept with it, so rows may come in any order.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, UInt32Type, UInt64Type};

use super::accumulator::{Accumulator, Fold, OrderKeys, gather, optional};
use super::scalar::Scalar;

pub(super) struct Edge<T> {
    of: DataType,
    /// How a row must compare to the one that is kept to take its place.
    wins: Ordering,
    seen: Vec<bool>,
    times: Vec<i64>,
    ids: Vec<Option<Box<str>>>,
    splits: Vec<u32>,
    positions: Vec<u64>,
    values: Vec<T>,
    /// False where the value of the row is null.
    valid: Vec<bool>,
}

impl<T: Scalar> Edge<T> {
    pub(super) fn new(of: DataType, wins: Ordering) -> Self {
        Edge {
            of,
            wins,
            seen: Vec::new(),
            times: Vec::new(),
            ids: Vec::new(),
            splits: Vec::new(),
            positions: Vec::new(),
            values: Vec::new(),
            valid: Vec::new(),
        }
    }

    /// Returns the order of a row and the one that is kept. Rows that are one in all that orders them go by value: then it does
    /// not matter which of them came first.
    fn compare(&self, order: &OrderKeys, row: usize, value: Option<T::Ref<'_>>, slot: usize) -> Ordering {
        order.time(row).cmp(&self.times[slot]).then_with(|| {
            let ids = order.id(row).cmp(&self.ids[slot].as_deref());
            ids.then_with(|| order.split(row).cmp(&self.splits[slot]))
                .then_with(|| order.position(row).cmp(&self.positions[slot]))
                .then_with(|| match (value, self.valid[slot].then(|| self.values[slot].get())) {
                    (Some(value), Some(kept)) => T::compare(value, kept),
                    (value, kept) => value.is_some().cmp(&kept.is_some()),
                })
        })
    }

    fn put(&mut self, slot: usize, value: Option<T::Ref<'_>>) {
        self.valid[slot] = value.is_some();
        match value {
            Some(value) => self.values[slot].set(value),
            None => self.values[slot] = T::default(),
        }
    }
}

impl<T: Scalar> Accumulator for Edge<T> {
    fn grow(&mut self, slots: usize) {
        self.seen.resize(slots, false);
        self.times.resize(slots, 0);
        self.ids.resize(slots, None);
        self.splits.resize(slots, 0);
        self.positions.resize(slots, 0);
        self.values.resize(slots, T::default());
        self.valid.resize(slots, false);
    }
    fn clear(&mut self, slots: &[u32]) {
        for slot in slots.iter().map(|slot| *slot as usize) {
            self.seen[slot] = false;
            self.ids[slot] = None;
            self.put(slot, None);
        }
    }
    fn fold(&mut self, rows: &Fold<'_>) {
        let nulls = rows.values().nulls().cloned();
        let column = T::column(rows.values());
        for (slot, row) in rows.slots.iter().zip(rows.rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            let value = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| T::at(&column, row));
            if !self.seen[slot] || self.compare(rows.order, row, value, slot) == self.wins {
                self.seen[slot] = true;
                self.times[slot] = rows.order.time(row);
                self.ids[slot] = rows.order.id(row).map(Into::into);
                self.splits[slot] = rows.order.split(row);
                self.positions[slot] = rows.order.position(row);
                self.put(slot, value);
            }
        }
    }
    fn finish(&self, slots: &[u32]) -> ArrayRef {
        T::array(optional(&self.values, &self.valid, slots), &self.of)
    }
    fn state_fields(&self, name: &str) -> Vec<Field> {
        vec![
            // Null: no row yet.
            Field::new(format!("{name}.time"), DataType::Int64, true),
            Field::new(format!("{name}.id"), DataType::Utf8, true),
            Field::new(format!("{name}.split"), DataType::UInt32, true),
            Field::new(format!("{name}.position"), DataType::UInt64, true),
            Field::new(format!("{name}.value"), self.of.clone(), true),
        ]
    }
    fn save(&self, slots: &[u32]) -> Vec<ArrayRef> {
        let seen = |slot: &&u32| self.seen[**slot as usize];
        let times = slots.iter().map(|slot| Some(slot).filter(seen).map(|slot| self.times[*slot as usize]));
        let ids = slots.iter().map(|slot| self.ids[*slot as usize].as_deref());
        vec![
            Arc::new(times.collect::<Int64Array>()),
            Arc::new(ids.collect::<StringArray>()),
            Arc::new(UInt32Array::from(gather(&self.splits, slots))),
            Arc::new(UInt64Array::from(gather(&self.positions, slots))),
            self.finish(slots),
        ]
    }
    fn load(&mut self, slots: &[u32], rows: &[u32], columns: &[ArrayRef]) {
        let times = columns[0].as_primitive::<Int64Type>();
        let ids = columns[1].as_string::<i32>();
        let splits = columns[2].as_primitive::<UInt32Type>().values();
        let positions = columns[3].as_primitive::<UInt64Type>().values();
        let values = T::column(&columns[4]);
        for (slot, row) in slots.iter().zip(rows).map(|(slot, row)| (*slot as usize, *row as usize)) {
            self.seen[slot] = times.is_valid(row);
            self.times[slot] = times.value(row);
            self.ids[slot] = ids.is_valid(row).then(|| ids.value(row).into());
            self.splits[slot] = splits[row];
            self.positions[slot] = positions[row];
            self.put(slot, columns[4].is_valid(row).then(|| T::at(&values, row)));
        }
    }
}
