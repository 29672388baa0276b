//! The touches that a conversion may still find, by key and in per-key order.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::StepError;

use super::passed;
use crate::kept::{KeptRows, Slot};

/// A touch of some key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    /// Its event time.
    pub time: i64,
    /// Its row.
    pub slot: Slot,
}

pub(super) struct Touches {
    pub rows: KeptRows,
    /// Invariant: every kept row is in exactly one line, and no line is empty.
    lines: HashTable<Line>,
    per_key_max: usize,
    /// A line grew beyond the bound since it was last looked at.
    crowded: bool,
}

/// The touches of one key.
struct Line {
    hash: u64,
    touches: Few,
}

/// Mostly a key has one touch, which needs no allocation. In per-key order, never empty.
enum Few {
    One(Touch),
    Many(Vec<Touch>),
}

/// Returns the hash under which a table finds a key. A worker has keys of some shards only, and the shard is the hash
/// modulo their number: its low bits alone would crowd a table into a few of its places.
pub(super) fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

impl Touches {
    pub fn new(rows: KeptRows, per_key_max: usize) -> Touches {
        Touches { rows, lines: HashTable::new(), per_key_max, crowded: false }
    }

    /// Keeps the touches of a batch, none of which has a null key.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), StepError> {
        for slot in self.rows.add(batch)? {
            self.insert(slot);
        }
        Ok(())
    }

    /// Puts touches of a checkpoint back.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        for slot in self.rows.restore(rows)? {
            if self.rows.has_null_key(slot) {
                return Err(StepError::State("a touch with a null key was kept".into()));
            }
            self.insert(slot);
        }
        Ok(())
    }

    /// Returns the touches of the key of a row of `conversions` with `from <= time <= to`, in per-key order.
    pub fn window(&self, conversions: &KeptRows, conversion: Slot, from: i64, to: i64) -> &[Touch] {
        let (hash, key) = (conversions.hash(conversion), conversions.key(conversion));
        let same = |line: &Line| line.hash == hash && self.rows.key(line.touches.first().slot) == key;
        let touches = self.lines.find(spread(hash), same).map_or(&[][..], |line| line.touches.as_slice());
        let start = touches.partition_point(|touch| touch.time < from);
        let end = start + touches[start..].partition_point(|touch| touch.time <= to);
        &touches[start..end]
    }

    /// Lets go of touches with a time before `limit`, when enough of them are there to make it worth while.
    pub fn forget(&mut self, limit: EventTime, rows_max: usize) -> Result<(), StepError> {
        if self.rows.is_due(limit) || self.crowded || self.rows.len() > rows_max {
            self.sweep(limit);
        }
        if self.crowded {
            self.crowded = false;
            if let Some(line) = self.lines.iter().find(|line| line.touches.as_slice().len() > self.per_key_max) {
                return Err(StepError::Bound(format!(
                    "more than {} touches of one key, {}, are in its window (`max_touches_per_key`): \
                     leave out this key in a select before the step, shorten `window`, or raise the bound",
                    self.per_key_max,
                    self.name_key(line.touches.first().slot)?,
                )));
            }
        }
        if self.rows.len() > rows_max {
            return Err(StepError::Bound(format!(
                "more than {rows_max} touches are in their windows on one worker (`max_touches`): \
                 shorten `window`, run more workers, or raise the bound"
            )));
        }
        self.rows.tidy()
    }

    /// Lets go of all touches with a time before `limit`.
    fn sweep(&mut self, limit: EventTime) {
        let rows = &mut self.rows;
        self.lines.retain(|line| line.touches.keep_from(limit, |gone| rows.remove(gone.slot)));
        if self.lines.capacity() > 8 * self.lines.len() + 1024 {
            self.lines.shrink_to(2 * self.lines.len(), |line| spread(line.hash));
        }
    }

    /// Returns the bytes of what is kept, about.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.lines.capacity() * size_of::<Line>()
    }

    fn insert(&mut self, slot: Slot) {
        let rows = &self.rows;
        let touch = Touch { time: rows.time(slot), slot };
        let (hash, key) = (rows.hash(slot), rows.key(slot));
        let same = |line: &Line| line.hash == hash && rows.key(line.touches.first().slot) == key;
        match self.lines.entry(spread(hash), same, |line| spread(line.hash)) {
            Entry::Vacant(vacant) => {
                vacant.insert(Line { hash, touches: Few::One(touch) });
            }
            Entry::Occupied(mut occupied) => {
                let touches = &mut occupied.get_mut().touches;
                touches.insert(touch, |other| {
                    touch.time.cmp(&other.time).then_with(|| rows.compare(slot, other.slot)).is_lt()
                });
                self.crowded |= touches.as_slice().len() > self.per_key_max;
            }
        }
    }

    /// Returns the key of a touch for a person.
    fn name_key(&self, slot: Slot) -> Result<String, StepError> {
        let layout = self.rows.layout();
        let values = self.rows.gather(&[slot], layout.keys().iter().copied())?;
        let names = layout.keys().iter().map(|key| layout.schema().field(*key).name());
        let pairs =
            names.zip(&values).map(|(name, value)| Ok(format!("{name} = `{}`", array_value_to_string(value, 0)?)));
        Ok(pairs.collect::<Result<Vec<_>, StepError>>()?.join(", "))
    }
}

impl Few {
    fn as_slice(&self) -> &[Touch] {
        match self {
            Few::One(touch) => std::slice::from_ref(touch),
            Few::Many(touches) => touches,
        }
    }

    fn first(&self) -> Touch {
        self.as_slice()[0]
    }

    /// Puts a touch in its place; `before` says whether it stands before another.
    fn insert(&mut self, touch: Touch, before: impl Fn(&Touch) -> bool) {
        match self {
            Few::One(other) if before(other) => *self = Few::Many(vec![touch, *other]),
            Few::One(other) => *self = Few::Many(vec![*other, touch]),
            // Touches mostly come in order: the place is looked for from the end.
            Few::Many(touches) if !touches.last().is_some_and(&before) => touches.push(touch),
            Few::Many(touches) => {
                let place = touches.partition_point(|other| !before(other));
                touches.insert(place, touch);
            }
        }
    }

    /// Drops the touches before `limit`, each after a call of `gone`; returns whether any is left.
    fn keep_from(&mut self, limit: EventTime, mut gone: impl FnMut(Touch)) -> bool {
        let old = self.as_slice().partition_point(|touch| passed(touch.time, limit));
        self.as_slice()[..old].iter().for_each(|touch| gone(*touch));
        if let Few::Many(touches) = self {
            touches.drain(..old);
            match touches.as_slice() {
                [] => return false,
                [one] => *self = Few::One(*one),
                _ if touches.capacity() > 4 * touches.len() => touches.shrink_to_fit(),
                _ => {}
            }
            return true;
        }
        old == 0
    }
}
