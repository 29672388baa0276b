//! A table of keys: each has a slot, a number under which the columns of its owner find what they keep of it.
//!
//! A key is looked up by the hash that its row carries, and compared column by column. Slots of keys that are gone are used
//! again, but not before the owner says so: until then their keys can be read.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use hashbrown::HashTable;

use crate::key_column::{KeyColumn, key_column};

/// Keys by hash, and by slot.
pub(crate) struct KeyTable {
    /// The slots of keys that are found.
    index: HashTable<u32>,
    hashes: Vec<u64>,
    keys: Vec<Box<dyn KeyColumn>>,
    /// Slots that are not in use.
    free: Vec<u32>,
}

/// The place of a hash in a table. Rows of one worker share the low bits of their hashes, for these give the shard.
fn place(hash: u64) -> u64 {
    hash.rotate_right(20)
}

impl KeyTable {
    /// Returns a table without keys; a key has a column of each of `types`.
    pub(crate) fn new(types: &[DataType]) -> KeyTable {
        KeyTable {
            index: HashTable::new(),
            hashes: Vec::new(),
            keys: types.iter().map(key_column).collect(),
            free: Vec::new(),
        }
    }

    /// Returns the number of keys that are found.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the number of slots, those not in use among them.
    pub(crate) fn slots(&self) -> usize {
        self.hashes.len()
    }

    /// Returns the slots of all keys that are found and of which `wanted` wants the hash, ascending.
    pub(crate) fn all(&self, wanted: impl Fn(u64) -> bool) -> Vec<u32> {
        let mut all: Vec<u32> = self.index.iter().copied().filter(|slot| wanted(self.hash(*slot))).collect();
        all.sort_unstable();
        all
    }

    /// Returns the hash of a key.
    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// Returns the key columns of slots.
    pub(crate) fn columns(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.keys.iter().map(|column| column.array(slots)).collect()
    }

    /// Returns the order of two keys: by hash, then by value. It is the same in every run and on every worker.
    pub(crate) fn order(&self, a: u32, b: u32) -> Ordering {
        let by_value = || self.keys.iter().map(|column| column.order(a, b)).find(|order| order.is_ne());
        self.hash(a).cmp(&self.hash(b)).then_with(|| by_value().unwrap_or(Ordering::Equal))
    }

    /// Reads the key columns of a batch, whose rows are then looked for.
    pub(crate) fn read(&mut self, columns: &[ArrayRef]) {
        self.keys.iter_mut().zip(columns).for_each(|(key, column)| key.read(column));
    }

    /// Returns the slot of a row's key, if it is there.
    pub(crate) fn find(&self, row: u32, hash: u64) -> Option<u32> {
        let same = |slot: &u32| {
            self.hashes[*slot as usize] == hash && self.keys.iter().all(|column| column.equals(row, *slot))
        };
        self.index.find(place(hash), same).copied()
    }

    /// Gives a row's key, which is not there, a slot.
    pub(crate) fn insert(&mut self, row: u32, hash: u64) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.hashes[slot as usize] = hash;
                slot
            }
            None => {
                self.hashes.push(hash);
                u32::try_from(self.hashes.len() - 1).expect("the bound on keys is below 2^32")
            }
        };
        for column in &mut self.keys {
            column.grow(self.hashes.len());
            column.put(&[row], &[slot]);
        }
        self.index.insert_unique(place(hash), slot, |slot| place(self.hashes[*slot as usize]));
        slot
    }

    /// Takes a key out: it is not found any more. Its slot stays taken until it is [`KeyTable::release`]d.
    pub(crate) fn remove(&mut self, slot: u32) {
        let entry = self.index.find_entry(place(self.hashes[slot as usize]), |other| *other == slot);
        entry.expect("a key that is taken out is there").remove();
        if self.index.capacity() > 8 * self.index.len() + 1024 {
            self.index.shrink_to(2 * self.index.len(), |slot| place(self.hashes[*slot as usize]));
        }
    }

    /// Frees the slots of keys that were taken out.
    pub(crate) fn release(&mut self, slots: &[u32]) {
        self.keys.iter_mut().for_each(|column| column.clear(slots));
        self.free.extend_from_slice(slots);
    }
}
