//! Which state files are live, and which shards should be written in full next.
//!
//! A checkpoint writes what changed. The newest base of a shard and the deltas after it are its rows; everything older is
//! superseded for that shard, and a file is live while any shard still needs it. A shard is rebased once its deltas weigh
//! as much as its base, the worst first. What has been written as deltas pays for bases, byte for byte: over time at most twice
//! the bytes of the deltas are written, whatever the size of the state. A checkpoint spends no more than twice its own deltas or a
//! 64th of the state, so none pays for all, and what was put by while keys were new or deltas came in bursts is spent soon after.
//! Nor does it spend less than that part of the state while more is due: to find the rows of some shards a step looks at all of
//! its rows, which must not happen for a few of them. A restart decodes about twice the state at most. It may have to fetch more: a
//! file is there as a whole until no shard needs it.
//!
//! Files of a checkpoint that was frozen but never published stay in order: the next deltas are relative to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use riverrun_dataflow::journal::{FileKind, StateFile};
use riverrun_dataflow::tick::Tick;

use crate::record::{Checkpoint, FileEntry, TableFiles};

/// Bytes that a checkpoint with small deltas may spend on bases, if they have been earned.
const BUDGET_MIN: u64 = 1 << 20;
/// The part of the state that is worth looking at all of it.
const PARTS: f64 = 64.0;

/// A table of a step.
pub type TableKey = (String, String);

/// The books of a job's state files.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Files of the newest published checkpoint, those of a table oldest first.
    live: Vec<StateFile>,
    /// Files written for checkpoints that are not published, by tick.
    pending: BTreeMap<Tick, Vec<StateFile>>,
    columns: BTreeMap<TableKey, Vec<String>>,
    weights: HashMap<TableKey, BTreeMap<u16, Weight>>,
    /// Shards to be rebased next.
    due: BTreeSet<(TableKey, u16)>,
    /// Bytes of deltas that no base has been written for.
    earned: f64,
}

/// What the store holds of a shard, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    base: f64,
    delta: f64,
}

impl Weight {
    /// Returns what a new base will weigh, about. That is known only when it is written: as before if keys are overwritten, up to base
    /// and delta together if they are new. Half the delta lies between and never lets the work fall behind; what turns out heavier
    /// has to be earned before the next one.
    fn renewal(self) -> f64 {
        if self.base > 0.0 { self.base.max(self.delta / 2.0) } else { self.delta }
    }
}

/// A file that was written, and how its rows lie.
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub file: StateFile,
    /// Its columns, each as `name: type`.
    pub columns: Vec<String>,
    /// Rows of each shard that has any.
    pub rows: BTreeMap<u16, u64>,
}

impl Ledger {
    /// Returns the books as they were when `checkpoint` was published.
    pub fn of(checkpoint: &Checkpoint) -> Ledger {
        let mut ledger = Ledger { live: checkpoint.files().collect(), ..Ledger::default() };
        for table in &checkpoint.tables {
            ledger.columns.insert((table.step.clone(), table.table.clone()), table.columns.clone());
        }
        for file in ledger.live.clone() {
            ledger.weigh_evenly(&file);
        }
        // Bases that are there have been paid for; deltas before the newest base of a shard have paid.
        ledger.earned = ledger.weights.values().flat_map(BTreeMap::values).map(|weight| weight.delta).sum();
        ledger.plan(checkpoint.tick);
        ledger
    }

    /// Returns the shards of `step` and `table` that are due and pass `owned`; they are due no longer.
    pub fn take_due(&mut self, step: &str, table: &str, owned: impl Fn(u16) -> bool) -> Vec<u16> {
        let key = (step.to_string(), table.to_string());
        let range = (key.clone(), 0)..=(key, u16::MAX);
        let taken: Vec<_> = self.due.range(range).filter(|(_, shard)| owned(*shard)).cloned().collect();
        for one in &taken {
            self.due.remove(one);
        }
        taken.into_iter().map(|(_, shard)| shard).collect()
    }

    /// Enters a file that was written for a checkpoint not yet published.
    pub fn enter(&mut self, written: Written) {
        let Written { file, columns, rows } = written;
        self.columns.insert(key_of(&file), columns);
        self.weigh(&file, &rows);
        self.pending.entry(file.tick).or_default().push(file);
    }

    /// Moves on to the checkpoint at `tick`, of which `files` are part. Returns its live files.
    pub fn publish(&mut self, tick: Tick, files: &[StateFile]) -> Vec<TableFiles> {
        let later = self.pending.split_off(&(tick + 1));
        let mut added: Vec<StateFile> = std::mem::replace(&mut self.pending, later).into_values().flatten().collect();
        let known: BTreeSet<String> = added.iter().map(|file| file.path.clone()).collect();
        for file in files.iter().filter(|file| !known.contains(&file.path)) {
            self.weigh_evenly(file);
            added.push(file.clone());
        }
        self.live.append(&mut added);
        // Within one tick no shard has both a delta and a base, so their order does not matter; it is fixed all the same.
        self.live.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        self.live.dedup_by(|a, b| a.path == b.path);
        let newest = newest_bases(&self.live);
        self.live.retain(|file| needed(&newest, file).next().is_some());
        self.plan(tick);
        self.tables()
    }

    /// Returns the live files of `step` and `table`, oldest first, each with the shards for which it is needed.
    pub fn needed(&self, step: &str, table: &str) -> Vec<(StateFile, BTreeSet<u16>)> {
        let newest = newest_bases(&self.live);
        let files = self.live.iter().filter(|file| file.step == step && file.table == table);
        files.map(|file| (file.clone(), needed(&newest, file).collect())).collect()
    }

    /// Returns the paths of all files that a published or future checkpoint may need.
    pub fn paths(&self) -> BTreeSet<String> {
        self.live.iter().chain(self.pending.values().flatten()).map(|file| file.path.clone()).collect()
    }

    fn tables(&self) -> Vec<TableFiles> {
        let mut tables: BTreeMap<TableKey, Vec<FileEntry>> = BTreeMap::new();
        for file in &self.live {
            tables.entry(key_of(file)).or_default().push(FileEntry::of(file));
        }
        tables
            .into_iter()
            .map(|(key, files)| {
                let columns = self.columns.get(&key).cloned().unwrap_or_default();
                TableFiles { step: key.0, table: key.1, columns, files }
            })
            .collect()
    }

    /// Enters the weight of a file of which only the shards are known, not the rows of each.
    fn weigh_evenly(&mut self, file: &StateFile) {
        self.weigh(file, &file.shards.iter().map(|shard| (*shard, 1)).collect());
    }

    fn weigh(&mut self, file: &StateFile, rows: &BTreeMap<u16, u64>) {
        let weights = self.weights.entry(key_of(file)).or_default();
        let all = rows.values().sum::<u64>().max(1) as f64;
        match file.kind {
            FileKind::Delta => self.earned += file.bytes as f64,
            FileKind::Base => self.earned -= file.bytes as f64,
        }
        for shard in &file.shards {
            let share = rows.get(shard).map_or(0.0, |rows| file.bytes as f64 * *rows as f64 / all);
            let weight = weights.entry(*shard).or_default();
            match file.kind {
                FileKind::Delta => weight.delta += share,
                FileKind::Base => *weight = Weight { base: share, delta: 0.0 },
            }
        }
    }

    /// Chooses the shards that the checkpoint after the one at `tick` rebases.
    fn plan(&mut self, tick: Tick) {
        let last = self.live.iter().filter(|file| file.tick == tick && file.kind == FileKind::Delta);
        let fresh = last.map(|file| file.bytes).sum::<u64>();
        let part = self.weights.values().flat_map(BTreeMap::values).map(|weight| weight.base).sum::<f64>() / PARTS;
        let budget = self.earned.min(part.max((2 * fresh).max(BUDGET_MIN) as f64));
        let mut worst: Vec<(f64, f64, &TableKey, u16)> = Vec::new();
        for (key, weights) in &self.weights {
            let heavy = weights.iter().filter(|(_, weight)| weight.delta > 0.0 && weight.delta >= weight.base);
            worst.extend(heavy.map(|(shard, w)| (w.delta / w.base.max(1.0), w.renewal(), key, *shard)));
        }
        worst.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.2, a.3).cmp(&(b.2, b.3))));
        self.due.clear();
        let mut spent = 0.0;
        for (_, bytes, key, shard) in worst {
            // A shard that alone is beyond the budget of any checkpoint has its turn once it is earned.
            let alone = spent == 0.0 && bytes <= self.earned;
            if spent + bytes > budget && !alone {
                if self.earned < part {
                    self.due.clear();
                }
                break;
            }
            spent += bytes;
            self.due.insert((key.clone(), shard));
        }
    }
}

/// Returns whether every shard of every table is there exactly once: no two files of one tick say something of it.
pub fn overlaps(files: &[StateFile]) -> Vec<String> {
    let mut seen: HashMap<(TableKey, Tick, u16), &str> = HashMap::new();
    let mut found = Vec::new();
    for file in files {
        for shard in &file.shards {
            if let Some(other) = seen.insert((key_of(file), file.tick, *shard), &file.path) {
                found.push(format!("shard {shard} of {}.{} is in {other} and in {}", file.step, file.table, file.path));
            }
        }
    }
    found
}

fn key_of(file: &StateFile) -> TableKey {
    (file.step.clone(), file.table.clone())
}

fn order_of(file: &StateFile) -> (Tick, bool, &str) {
    (file.tick, file.kind == FileKind::Base, &file.path)
}

/// The tick of the newest base of each shard of each table; 0 where there is none.
type Newest = HashMap<TableKey, Vec<Tick>>;

fn newest_bases(files: &[StateFile]) -> Newest {
    let mut newest = Newest::new();
    for file in files {
        let bases = newest.entry(key_of(file)).or_default();
        let size = file.shards.last().map_or(0, |last| usize::from(*last) + 1);
        bases.resize(bases.len().max(size), 0);
        for shard in file.shards.iter().filter(|_| file.kind == FileKind::Base) {
            let base = &mut bases[usize::from(*shard)];
            *base = file.tick.max(*base);
        }
    }
    newest
}

/// Returns the shards for which `file` is needed.
fn needed<'a>(newest: &'a Newest, file: &'a StateFile) -> impl Iterator<Item = u16> + 'a {
    let bases = newest.get(&key_of(file));
    file.shards.iter().copied().filter(move |shard| {
        let base = bases.map_or(0, |bases| bases[usize::from(*shard)]);
        match file.kind {
            FileKind::Base => base == file.tick,
            FileKind::Delta => file.tick > base,
        }
    })
}

#[cfg(test)]
mod tests;
