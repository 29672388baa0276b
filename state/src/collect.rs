//! Collection: deletes the log records and state files that no kept checkpoint needs.
//!
//! Runs on the journal's thread after a checkpoint of its own generation, a bounded piece at a time. The floor is raised
//! before a record is deleted, so a process that was paused cannot take a collected number for a free one. Files of later
//! generations are never touched, those of earlier ones that no kept checkpoint names are orphans, those of our own are
//! deleted when the last checkpoint that names them goes. A crash anywhere leaves only what the next run collects.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use riverrun_dataflow::fail_point::reach;

use crate::error::StateError;
use crate::events::CollectionFailed;
use crate::folder::Folder;
use crate::log::{Backwards, Bounds, LogReader};
use crate::record::{Body, Checkpoint, written_now};
use crate::states::SharedLedger;

/// Records read, or objects deleted, after one checkpoint.
const PIECE: usize = 256;
/// The floor is raised by at least so many records at once.
const FLOOR_STEP: u64 = 64;

/// Which checkpoints are kept, each with all that a restart from it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The last so many; at least one is always kept.
    pub checkpoints: usize,
    /// And all that are younger than this.
    pub keep_for: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { checkpoints: 3, keep_for: Duration::from_secs(3600) }
    }
}

/// Collects after each checkpoint.
#[derive(Debug)]
pub struct Collector {
    folder: Folder,
    reader: LogReader,
    retention: Retention,
    generation: u64,
    /// The checkpoint record from which this generation was restored; later ones of earlier runs were passed over.
    base: u64,
    floor: u64,
    /// Checkpoints that are not collected, newest first. The beginning of the job counts as one, without files.
    kept: VecDeque<Kept>,
    /// The older part of the log that was not looked through yet, for checkpoints of earlier runs.
    unseen: Option<Backwards>,
    /// An upgrade was seen: no checkpoint before it can be restored by the plan that runs.
    upgraded: bool,
    /// When the oldest record that was seen was written.
    oldest: String,
    /// Paths of objects to be deleted.
    doomed: VecDeque<String>,
    /// What earlier runs left behind was found.
    swept: bool,
    failed: bool,
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    /// The job could be restored from it when it was last looked at. Those that were passed over keep their files as long as
    /// they stand between others, but do not count.
    counts: bool,
    at: Option<DateTime<Utc>>,
    after: u64,
    inputs: Option<u64>,
    files: BTreeSet<String>,
}

impl Kept {
    fn beginning(at: &str) -> Kept {
        Kept { seq: 0, counts: true, at: time_of(at), after: 1, inputs: None, files: BTreeSet::new() }
    }

    fn of(seq: u64, checkpoint: &Checkpoint, at: &str) -> Kept {
        Kept {
            seq,
            counts: true,
            at: time_of(at),
            after: checkpoint.after,
            inputs: checkpoint.inputs.map(|inputs| inputs.seq),
            files: checkpoint.files().map(|file| file.path).collect(),
        }
    }
}

fn time_of(at: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(at).ok().map(|at| at.to_utc())
}

impl Collector {
    /// Returns the collector of `generation`, which recovered from the checkpoint record `base` of a log within `bounds`.
    pub fn new(
        folder: Folder,
        reader: LogReader,
        retention: Retention,
        generation: u64,
        bounds: Bounds,
        base: Option<u64>,
    ) -> Collector {
        let unseen = reader.backwards(bounds);
        Collector {
            folder,
            reader,
            retention,
            generation,
            base: base.unwrap_or(0),
            floor: bounds.floor,
            kept: VecDeque::new(),
            unseen: Some(unseen),
            upgraded: false,
            oldest: written_now(),
            doomed: VecDeque::new(),
            swept: false,
            failed: false,
        }
    }

    /// Notes that `checkpoint` was published just now as record `seq`, and deletes a piece of what is no longer needed. Failure is logged: it
    /// loses nothing but room.
    pub fn published(&mut self, seq: u64, checkpoint: &Checkpoint, ledger: &SharedLedger) {
        self.kept.push_front(Kept::of(seq, checkpoint, &written_now()));
        if self.failed {
            return;
        }
        if let Err(error) = self.collect(ledger) {
            CollectionFailed(&error).log();
            self.failed = true;
        }
    }

    fn collect(&mut self, ledger: &SharedLedger) -> Result<(), StateError> {
        self.look_back()?;
        if self.unseen.is_some() {
            return Ok(());
        }
        let left = self.left();
        let target = self.kept.iter().take(left).map(|kept| kept.after - 1).min().unwrap_or(0);
        let step = if self.swept { FLOOR_STEP } else { 1 };
        if left < self.kept.len() && target >= self.floor + step {
            let dropped = self.kept.split_off(left);
            self.raise(target)?;
            self.drop_files(dropped, ledger);
        }
        if !self.swept {
            self.sweep(ledger)?;
            self.swept = true;
        }
        let piece = self.doomed.len().min(PIECE);
        self.doomed.drain(..piece).try_for_each(|path| {
            reach("collect.delete");
            self.folder.store().delete(&path)?;
            reach("collect.deleted");
            Ok(())
        })
    }

    /// Looks through a piece of the log of earlier runs.
    fn look_back(&mut self) -> Result<(), StateError> {
        let Some(unseen) = &mut self.unseen else { return Ok(()) };
        for _ in 0..PIECE {
            let Some(record) = unseen.next() else {
                self.unseen = None;
                if self.floor == 0 {
                    self.kept.push_back(Kept::beginning(&self.oldest));
                }
                return Ok(());
            };
            let record = record?;
            self.oldest.clone_from(&record.header.at);
            if let Some(checkpoint) = record.body.checkpoint() {
                let seq = record.header.seq;
                let counts = seq <= self.base && !self.upgraded;
                self.kept.push_back(Kept { counts, ..Kept::of(seq, checkpoint, &record.header.at) });
            }
            self.upgraded |= matches!(record.body, Body::Upgrade(_));
        }
        Ok(())
    }

    /// Returns how many of the checkpoints are still to be kept.
    fn left(&self) -> usize {
        let keep_for = chrono::Duration::from_std(self.retention.keep_for).ok();
        let limit = time_of(&written_now()).zip(keep_for).and_then(|(now, age)| now.checked_sub_signed(age));
        let is_young = |kept: &Kept| kept.at.zip(limit).is_some_and(|(at, limit)| at > limit);
        let mut counted = self.kept.iter().filter(|kept| kept.counts).count();
        let mut left = self.kept.len();
        for kept in self.kept.iter().rev() {
            counted -= usize::from(kept.counts);
            if counted < self.retention.checkpoints.max(1) || is_young(kept) {
                break;
            }
            left -= 1;
        }
        left
    }

    /// Dooms the files of dropped checkpoints that nobody needs.
    fn drop_files(&mut self, dropped: VecDeque<Kept>, ledger: &SharedLedger) {
        let dropped: BTreeSet<String> = dropped.into_iter().flat_map(|kept| kept.files).collect();
        let needed = self.needed(ledger);
        self.doomed.extend(dropped.difference(&needed).map(|path| self.folder.inside(path)));
    }

    fn needed(&self, ledger: &SharedLedger) -> BTreeSet<String> {
        let mut needed = ledger.lock().paths();
        needed.extend(self.kept.iter().flat_map(|kept| kept.files.iter().cloned()));
        needed
    }

    /// Raises the floor to `target` and dooms the records up to it. The floor tells which is the oldest checkpoint that still
    /// has its files: records of older ones may stand above the floor, since they came late.
    fn raise(&mut self, target: u64) -> Result<(), StateError> {
        let store = self.folder.store();
        let oldest = self.kept.back().map_or(0, |kept| kept.seq);
        reach("collect.raise");
        store.create(&self.folder.inside(&format!("floor/{target:020}")), format!("{oldest}\n").into_bytes())?;
        reach("collect.raised");
        let inputs: BTreeSet<u64> = self.kept.iter().filter_map(|kept| kept.inputs).collect();
        let records = (self.floor + 1..=target).filter(|seq| !inputs.contains(seq));
        self.doomed.extend(records.map(|seq| self.reader.path(seq)));
        if self.floor > 0 {
            self.doomed.push_back(self.folder.inside(&format!("floor/{:020}", self.floor)));
        }
        self.floor = target;
        Ok(())
    }

    /// Dooms what earlier runs left behind: records and floors below the floor, files of earlier generations that nobody
    /// needs.
    fn sweep(&mut self, ledger: &SharedLedger) -> Result<(), StateError> {
        let store = self.folder.store();
        let needed = self.needed(ledger);
        let inputs: BTreeSet<String> =
            self.kept.iter().filter_map(|kept| Some(self.reader.path(kept.inputs?))).collect();
        let below = self.reader.path(self.floor);
        let mut found: BTreeSet<String> = BTreeSet::new();
        for record in store.list(&self.folder.inside("log"))? {
            if record.path <= below && !inputs.contains(&record.path) {
                found.insert(record.path);
            }
        }
        let floor = self.folder.inside(&format!("floor/{:020}", self.floor));
        found.extend(store.list(&self.folder.inside("floor"))?.into_iter().map(|it| it.path).filter(|it| *it < floor));
        let ours = self.folder.inside(&format!("state/g{:06}/", self.generation));
        let needed: BTreeSet<String> = needed.iter().map(|path| self.folder.inside(path)).collect();
        for part in ["log", "floor"] {
            store.discard_unfinished(&self.folder.inside(part), &|_| true)?;
        }
        store.discard_unfinished(&self.folder.inside("state"), &|path| path < ours.as_str())?;
        let files = store.list(&self.folder.inside("state"))?.into_iter().map(|file| file.path);
        found.extend(files.filter(|path| *path < ours && !needed.contains(path)));
        let known: BTreeSet<String> = self.doomed.iter().cloned().collect();
        self.doomed.extend(found.difference(&known).cloned());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
