//! Kept rows by key, those of a key in per-key order.

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::operator::StepError;

use super::{KeptRows, Slot};
use crate::late::passed;

/// A row of some key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// Its event time.
    pub time: i64,
    /// Its place among the kept rows.
    pub slot: Slot,
}

/// Rows kept by key.
pub(crate) struct ByKey {
    pub rows: KeptRows,
    /// Invariant: every row that was inserted, and is still kept, is in exactly one line, and no line is empty.
    lines: HashTable<Line>,
}

/// The rows of one key.
struct Line {
    hash: u64,
    rows: Few,
}

/// Mostly a key has one row, which needs no allocation. In per-key order, never empty.
enum Few {
    One(Timed),
    Many(Vec<Timed>),
}

/// Returns the hash under which a table finds a key. A worker has keys of some shards only, and the shard is the hash
/// modulo their number: its low bits alone would crowd a table into a few of its places.
pub(crate) fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

impl ByKey {
    /// Keeps no row yet.
    pub fn new(rows: KeptRows) -> ByKey {
        ByKey { rows, lines: HashTable::new() }
    }

    /// Puts rows of a checkpoint back, none of which may have a null key.
    pub fn restore(&mut self, rows: &RecordBatch) -> Result<(), StepError> {
        for slot in self.rows.restore(rows)? {
            if self.rows.has_null_key(slot) {
                return Err(StepError::State("a row with a null key was kept by its key".into()));
            }
            self.insert(slot);
        }
        Ok(())
    }

    /// Puts a row that is kept to the others of its key; returns how many those are now.
    pub fn insert(&mut self, slot: Slot) -> usize {
        let rows = &self.rows;
        let row = Timed { time: rows.time(slot), slot };
        let (hash, key) = (rows.hash(slot), rows.key(slot));
        let same = |line: &Line| line.hash == hash && rows.key(line.rows.first().slot) == key;
        match self.lines.entry(spread(hash), same, |line| spread(line.hash)) {
            Entry::Vacant(vacant) => {
                vacant.insert(Line { hash, rows: Few::One(row) });
                1
            }
            Entry::Occupied(mut occupied) => {
                let line = &mut occupied.get_mut().rows;
                line.insert(row, |other| {
                    row.time.cmp(&other.time).then_with(|| rows.compare(slot, other.slot)).is_lt()
                });
                line.as_slice().len()
            }
        }
    }

    /// Returns the rows that have the key of a row of `others` and `from <= time <= to`, in per-key order.
    pub fn window(&self, others: &KeptRows, other: Slot, from: i64, to: i64) -> &[Timed] {
        let (hash, key) = (others.hash(other), others.key(other));
        let same = |line: &Line| line.hash == hash && self.rows.key(line.rows.first().slot) == key;
        let rows = self.lines.find(spread(hash), same).map_or(&[][..], |line| line.rows.as_slice());
        let start = rows.partition_point(|row| row.time < from);
        let end = start + rows[start..].partition_point(|row| row.time <= to);
        &rows[start..end]
    }

    /// Lets go of all rows with a time before `limit`.
    pub fn sweep(&mut self, limit: EventTime) {
        let rows = &mut self.rows;
        self.lines.retain(|line| line.rows.keep_from(limit, |gone| rows.remove(gone.slot)));
        if self.lines.capacity() > 8 * self.lines.len() + 1024 {
            self.lines.shrink_to(2 * self.lines.len(), |line| spread(line.hash));
        }
    }

    /// Returns a row of a key that has more rows than `most`, if there is one.
    pub fn crowded(&self, most: usize) -> Option<Slot> {
        let line = self.lines.iter().find(|line| line.rows.as_slice().len() > most);
        line.map(|line| line.rows.first().slot)
    }

    /// Returns the bytes of what is kept, about.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.lines.capacity() * size_of::<Line>()
    }

    /// Returns the key of a row for a person.
    pub fn name_key(&self, slot: Slot) -> Result<String, StepError> {
        let layout = self.rows.layout();
        let values = self.rows.gather(&[slot], layout.keys().iter().copied())?;
        let names = layout.keys().iter().map(|key| layout.schema().field(*key).name());
        let pairs =
            names.zip(&values).map(|(name, value)| Ok(format!("{name} = `{}`", array_value_to_string(value, 0)?)));
        Ok(pairs.collect::<Result<Vec<_>, StepError>>()?.join(", "))
    }
}

impl Few {
    fn as_slice(&self) -> &[Timed] {
        match self {
            Few::One(row) => std::slice::from_ref(row),
            Few::Many(rows) => rows,
        }
    }

    fn first(&self) -> Timed {
        self.as_slice()[0]
    }

    /// Puts a row in its place; `before` says whether it stands before another.
    fn insert(&mut self, row: Timed, before: impl Fn(&Timed) -> bool) {
        match self {
            Few::One(other) if before(other) => *self = Few::Many(vec![row, *other]),
            Few::One(other) => *self = Few::Many(vec![*other, row]),
            // Rows mostly come in order: the place is looked for from the end.
            Few::Many(rows) if !rows.last().is_some_and(&before) => rows.push(row),
            Few::Many(rows) => {
                let place = rows.partition_point(|other| !before(other));
                rows.insert(place, row);
            }
        }
    }

    /// Drops the rows before `limit`, each after a call of `gone`; returns whether any is left.
    fn keep_from(&mut self, limit: EventTime, mut gone: impl FnMut(Timed)) -> bool {
        let old = self.as_slice().partition_point(|row| passed(row.time, limit));
        self.as_slice()[..old].iter().for_each(|row| gone(*row));
        if let Few::Many(rows) = self {
            rows.drain(..old);
            match rows.as_slice() {
                [] => return false,
                [one] => *self = Few::One(*one),
                _ if rows.capacity() > 4 * rows.len() => rows.shrink_to_fit(),
                _ => {}
            }
            return true;
        }
        old == 0
    }
}
