//! Keyed state: one machine per key, with timers. The frame of every step whose rules are a machine that is fed the rows of its
//! key and told the time.
//!
//! The step owns the rules: it finds the slot of each row's key ([`KeyedState::slots`]), feeds the key's machine in per-key order
//! ([`KeyedState::update`]), and says after each call what is left of it ([`Left`]): how much it keeps, and the time at which
//! something will happen by itself. [`KeyedState::fire`] wakes the machines whose time has passed. At the end of a tick
//! [`KeyedState::tidy`] forgets the keys of which nothing is left.
//!
//! Machines fire in one order, by time, then by the key's hash, then by the key, so that what a step gives does not depend on the
//! order in which keys came or on where they lie in memory.
//!
//! A checkpoint has one row per key that changed: `shard, op`, the key columns as `by.<name>`, `due` and `state`, the machine as
//! JSON by serde. State is read again by serde, so a field that is new needs a default, and one that is gone is ignored. Writing
//! costs what changed; a restored run is the same from there on, with any number of workers.
//!
//! What a machine keeps is counted in units of its own ([`Left::size`]); the step holds the sum against its bound.

mod checkpoint;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef, UInt64Type};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::operator::{Pulse, StepError, TableSize, TableSpec};
use riverrun_dataflow::schema::Hidden;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::changes::Changes;
use crate::key_table::KeyTable;
pub(crate) use checkpoint::check_place;

/// Machines that are woken between two signs of life.
const WAKES_A_BEAT: usize = 256;

/// The number of a key, as long as something is kept of it; used again later.
pub type Slot = u32;

/// What a step keeps of a key. It begins as `Default`, and is written down as JSON.
pub trait Machine: Default + Serialize + DeserializeOwned {}

impl<M: Default + Serialize + DeserializeOwned> Machine for M {}

/// What is left of a machine after it was fed or told the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How much it keeps, in the unit of the step's bound. With 0 the key is forgotten.
    pub size: usize,
    /// The machine is to be woken once the time has passed this one; in the unit of [`KeyedState::fire`].
    pub due: Option<i64>,
}

impl Left {
    /// Nothing is left: the key is forgotten.
    pub const NOTHING: Left = Left { size: 0, due: None };
}

/// The machines of the keys of one worker.
pub struct KeyedState<M> {
    name: &'static str,
    keys: Vec<Field>,
    schema: SchemaRef,
    shards: ShardRange,
    table: KeyTable,
    // By slot. Slots not in use have the default, size 0 and no time.
    machines: Vec<M>,
    sizes: Vec<usize>,
    due: Vec<Option<i64>>,
    /// Exactly the machines that have a time.
    timers: BTreeSet<(i64, Slot)>,
    /// Slots that nothing was left of at some time of this tick.
    ended: Vec<Slot>,
    changes: Changes,
    size: usize,
}

impl<M: Machine> KeyedState<M> {
    /// Keeps nothing yet. `name` is that of its table in checkpoints, `keys` are the key columns of the rows.
    pub fn new(name: &'static str, keys: Vec<Field>, shards: ShardRange) -> KeyedState<M> {
        let types: Vec<DataType> = keys.iter().map(|key| key.data_type().clone()).collect();
        KeyedState {
            name,
            schema: checkpoint::state_schema(&keys),
            keys,
            shards,
            table: KeyTable::new(&types),
            machines: Vec::new(),
            sizes: Vec::new(),
            due: Vec::new(),
            timers: BTreeSet::new(),
            ended: Vec::new(),
            changes: Changes::default(),
            size: 0,
        }
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the sum of what the machines say they keep.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the slots of the keys of all rows of a batch, whose key columns are `by`; a key that was not there is given one.
    /// The rows must carry the hash of these keys. Every slot is to be [`KeyedState::update`]d before the tick ends.
    pub fn slots(&mut self, batch: &RecordBatch, by: &[usize]) -> Result<Vec<Slot>, StepError> {
        let hashes = batch.column_by_name(Hidden::Hash.name());
        let hashes = hashes.ok_or_else(|| StepError::Internal("rows of a keyed step carry their hash".into()))?;
        let columns: Vec<ArrayRef> = by.iter().map(|column| batch.column(*column).clone()).collect();
        let hashes = hashes.as_primitive::<UInt64Type>().values();
        self.table.read(&columns);
        Ok((0..).zip(hashes).map(|(row, hash)| self.slot_of(row, *hash)).collect())
    }

    /// Returns the slot of the key of a row of the batch that was read last.
    fn slot_of(&mut self, row: u32, hash: u64) -> Slot {
        if let Some(slot) = self.table.find(row, hash) {
            return slot;
        }
        let slot = self.table.insert(row, hash);
        if self.machines.len() < self.table.slots() {
            let count = self.table.slots();
            self.machines.resize_with(count, M::default);
            self.sizes.resize(count, 0);
            self.due.resize(count, None);
            self.changes.grow(count);
        }
        // Until something is left of it, it is as if nothing were.
        self.ended.push(slot);
        slot
    }

    /// Feeds the machine of a key; `feed` says what is left of it.
    pub fn update<E>(&mut self, slot: Slot, feed: impl FnOnce(&mut M) -> Result<Left, E>) -> Result<(), E> {
        let left = feed(&mut self.machines[slot as usize])?;
        self.leave(slot, left);
        Ok(())
    }

    /// Returns when a machine is to be woken, as it said last.
    pub fn due(&self, slot: Slot) -> Option<i64> {
        self.due[slot as usize]
    }

    /// Wakes all machines whose time is before `to`, and with [`EventTime::MAX`] all that have a time, each once. `wake` is given
    /// the slot, and says what is left.
    ///
    /// A machine that is due again at once is woken again by the next call only. Many may be due at once, so `pulse` is told.
    pub fn fire<E>(
        &mut self,
        to: EventTime,
        pulse: &Pulse,
        mut wake: impl FnMut(Slot, &mut M) -> Result<Left, E>,
    ) -> Result<(), E> {
        let mut due: Vec<(i64, Slot)> = match to {
            EventTime::MAX => self.timers.iter().copied().collect(),
            EventTime(to) => self.timers.range(..(to, 0)).copied().collect(),
        };
        due.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.table.order(a.1, b.1)));
        for (number, (_, slot)) in due.into_iter().enumerate() {
            if number % WAKES_A_BEAT == 0 {
                pulse.beat();
            }
            let left = wake(slot, &mut self.machines[slot as usize])?;
            self.leave(slot, left);
        }
        Ok(())
    }

    /// Returns the machine of a key.
    pub fn machine(&self, slot: Slot) -> &M {
        &self.machines[slot as usize]
    }

    /// Returns all keys, in the order in which machines fire.
    pub fn all(&self) -> Vec<Slot> {
        let mut all = self.table.all(|_| true);
        all.sort_unstable_by(|a, b| self.table.order(*a, *b));
        all
    }

    /// Returns the key columns of slots; a slot may stand several times. They can be read until [`KeyedState::tidy`].
    pub fn keys(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        self.table.columns(slots)
    }

    /// Returns the hash of a key, as rows of it carry it.
    pub fn hash(&self, slot: Slot) -> u64 {
        self.table.hash(slot)
    }

    /// Forgets the keys of which nothing is left; called at the end of every tick.
    pub fn tidy(&mut self) -> Result<(), StepError> {
        let mut gone = std::mem::take(&mut self.ended);
        gone.retain(|slot| self.sizes[*slot as usize] == 0);
        gone.sort_unstable();
        gone.dedup();
        if gone.is_empty() {
            return Ok(());
        }
        self.note_deleted(&gone)?;
        self.forget(&gone);
        Ok(())
    }

    /// Takes keys out of memory.
    fn forget(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.set(*slot, Left::NOTHING);
            self.machines[*slot as usize] = M::default();
            self.table.remove(*slot);
        }
        self.table.release(slots);
    }

    /// Notes what is left of a machine that was called.
    fn leave(&mut self, slot: Slot, left: Left) {
        self.changes.touch(&[slot]);
        self.set(slot, left);
        if left.size == 0 {
            self.ended.push(slot);
        }
    }

    fn set(&mut self, slot: Slot, left: Left) {
        let at = slot as usize;
        let due = left.due.filter(|_| left.size > 0);
        if self.due[at] != due {
            self.due[at].map(|before| self.timers.remove(&(before, slot)));
            due.map(|due| self.timers.insert((due, slot)));
            self.due[at] = due;
        }
        self.size = self.size - self.sizes[at] + left.size;
        self.sizes[at] = left.size;
    }

    /// Returns its table.
    pub fn spec(&self) -> TableSpec {
        TableSpec { name: self.name, schema: self.schema.clone(), key_columns: self.keys.len() }
    }

    /// Returns how many rows its table has.
    pub fn table_size(&self) -> TableSize {
        TableSize { rows: self.len() as u64, bytes: None }
    }
}
