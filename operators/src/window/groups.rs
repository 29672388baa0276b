//! Groups: one per key and open window, each with a slot, a number under which its columns are found.
//!
//! A group is looked up by the key's hash, which rows carry; then all keys of a batch are compared column by column with
//! those of the slots that were found. Keys that differ and have one hash are rare, and found one by one.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use hashbrown::HashTable;

use crate::key_column::{KeyColumn, key_column};

/// Emptied tables that are kept for windows to come.
const SPARE_TABLES_MAX: usize = 4;

/// The groups of all open windows.
pub(super) struct Groups {
    /// By start of the window: its slots, by hash. Every slot in here is in use; no table is empty.
    windows: BTreeMap<i64, HashTable<u32>>,
    spare: Vec<HashTable<u32>>,
    hashes: Vec<u64>,
    starts: Vec<i64>,
    keys: Vec<Box<dyn KeyColumn>>,
    /// Slots that are not in use.
    free: Vec<u32>,
    /// By slot: it is in use.
    used: Vec<bool>,
    // Kept for their memory: the rows that made a slot, and the slots they made.
    made_rows: Vec<u32>,
    made_slots: Vec<u32>,
}

/// Rows of a batch whose groups are looked for.
pub(super) struct Rows<'a> {
    /// The rows.
    pub(super) rows: &'a [u32],
    /// The start of the window of each of `rows`.
    pub(super) starts: &'a [i64],
    /// The hash of each row of the batch.
    pub(super) hashes: &'a [u64],
}

/// The place of a hash in a table. Rows of one worker share the low bits of their hashes, for these give the shard.
fn place(hash: u64) -> u64 {
    hash.rotate_right(20)
}

impl Groups {
    pub(super) fn new(keys: &[DataType]) -> Groups {
        Groups {
            windows: BTreeMap::new(),
            spare: Vec::new(),
            hashes: Vec::new(),
            starts: Vec::new(),
            keys: keys.iter().map(key_column).collect(),
            free: Vec::new(),
            used: Vec::new(),
            made_rows: Vec::new(),
            made_slots: Vec::new(),
        }
    }

    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        self.hashes.len() - self.free.len()
    }

    /// Returns the number of slots, those not in use among them.
    pub(super) fn slots(&self) -> usize {
        self.hashes.len()
    }

    pub(super) fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    pub(super) fn start(&self, slot: u32) -> i64 {
        self.starts[slot as usize]
    }

    /// Returns the key columns of slots.
    pub(super) fn keys(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.keys.iter().map(|column| column.array(slots)).collect()
    }

    /// Returns the slots in use of which `wanted` wants the hash, in the order of memory.
    pub(super) fn all(&self, wanted: impl Fn(u64) -> bool) -> Vec<u32> {
        let used = (0..).zip(&self.hashes).zip(&self.used).filter(|(_, used)| **used);
        used.filter(|((_, hash), _)| wanted(**hash)).map(|((slot, _), _)| slot).collect()
    }

    /// Reads the key columns of a batch, whose rows are then looked for.
    pub(super) fn read(&mut self, columns: &[ArrayRef]) {
        self.keys.iter_mut().zip(columns).for_each(|(key, column)| key.read(column));
    }

    /// Puts the slot of each row into `slots`; a group that was not there is made.
    pub(super) fn find(&mut self, rows: &Rows<'_>, slots: &mut Vec<u32>) {
        self.find_by_hash(rows, slots);
        let Groups { keys, made_rows, made_slots, .. } = self;
        let count = self.hashes.len();
        let mut differ = Vec::new();
        for column in keys {
            column.grow(count);
            column.put(made_rows, made_slots);
            column.compare(rows.rows, slots, &mut |index| differ.push(index));
        }
        differ.sort_unstable();
        differ.dedup();
        for index in differ {
            slots[index] = self.find_by_key(rows.rows[index], rows.starts[index], rows.hashes);
        }
    }

    /// Finds slots as if no two keys had the same hash.
    fn find_by_hash(&mut self, rows: &Rows<'_>, slots: &mut Vec<u32>) {
        slots.clear();
        self.made_rows.clear();
        self.made_slots.clear();
        let mut from = 0;
        while from < rows.rows.len() {
            // Rows that follow each other are mostly in one window.
            let start = rows.starts[from];
            let run = rows.starts[from..].iter().take_while(|s| **s == start).count();
            let spare = &mut self.spare;
            let table = self.windows.entry(start).or_insert_with(|| spare.pop().unwrap_or_default());
            for row in &rows.rows[from..from + run] {
                let hash = rows.hashes[*row as usize];
                let hashes = &self.hashes;
                slots.push(match table.find(place(hash), |slot| hashes[*slot as usize] == hash) {
                    Some(slot) => *slot,
                    None => {
                        let slot =
                            new_slot(&mut self.free, &mut self.used, &mut self.hashes, &mut self.starts, hash, start);
                        table.insert_unique(place(hash), slot, |slot| place(self.hashes[*slot as usize]));
                        self.made_rows.push(*row);
                        self.made_slots.push(slot);
                        slot
                    }
                });
            }
            from += run;
        }
    }

    /// Finds the slot of a row whose hash leads to another key first.
    fn find_by_key(&mut self, row: u32, start: i64, hashes: &[u64]) -> u32 {
        let hash = hashes[row as usize];
        let table = self.windows.entry(start).or_default();
        let found = table.find(place(hash), |slot| {
            self.hashes[*slot as usize] == hash && self.keys.iter().all(|column| column.equals(row, *slot))
        });
        if let Some(slot) = found {
            return *slot;
        }
        let slot = new_slot(&mut self.free, &mut self.used, &mut self.hashes, &mut self.starts, hash, start);
        table.insert_unique(place(hash), slot, |slot| place(self.hashes[*slot as usize]));
        for column in &mut self.keys {
            column.grow(self.hashes.len());
            column.put(&[row], &[slot]);
        }
        slot
    }

    /// Takes out the groups of the windows, from the earliest on, for which `closed` says so. Their slots stay taken until
    /// they are [`Groups::release`]d.
    pub(super) fn take_closed(&mut self, closed: impl Fn(i64) -> bool) -> Vec<u32> {
        let mut slots = Vec::new();
        while let Some(window) = self.windows.first_entry().filter(|window| closed(*window.key())) {
            let mut table = window.remove();
            slots.extend(table.drain());
            if self.spare.len() < SPARE_TABLES_MAX {
                self.spare.push(table);
            }
        }
        slots
    }

    /// Takes out single groups.
    pub(super) fn remove(&mut self, slots: &[u32]) {
        for slot in slots {
            let start = self.starts[*slot as usize];
            let table = self.windows.get_mut(&start).expect("a slot in use is in the table of its window");
            let entry = table.find_entry(place(self.hashes[*slot as usize]), |other| other == slot);
            entry.expect("a slot in use is in the table of its window").remove();
            if table.is_empty() {
                self.windows.remove(&start);
            }
        }
    }

    /// Frees the slots of groups that were taken out.
    pub(super) fn release(&mut self, slots: &[u32]) {
        self.keys.iter_mut().for_each(|column| column.clear(slots));
        slots.iter().for_each(|slot| self.used[*slot as usize] = false);
        self.free.extend_from_slice(slots);
    }
}

fn new_slot(
    free: &mut Vec<u32>,
    used: &mut Vec<bool>,
    hashes: &mut Vec<u64>,
    starts: &mut Vec<i64>,
    hash: u64,
    start: i64,
) -> u32 {
    match free.pop() {
        Some(slot) => {
            used[slot as usize] = true;
            hashes[slot as usize] = hash;
            starts[slot as usize] = start;
            slot
        }
        None => {
            used.push(true);
            hashes.push(hash);
            starts.push(start);
            u32::try_from(hashes.len() - 1).expect("the bound on groups is below 2^32")
        }
    }
}
