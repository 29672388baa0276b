//! Collection: deletes the log records and state files that no kept checkpoint and no savepoint needs.
//!
//! Runs on the journal's thread after a checkpoint of its own generation, a bounded piece at a time. The floor is raised
//! before a record is deleted, so a process that was paused cannot take a collected number for a free one; savepoints are
//! looked for after it was raised, so one that is being made is either seen or sees the floor. Files of later
//! generations are never touched, those of earlier ones that no kept checkpoint names are orphans, those of our own are
//! deleted when the last checkpoint that names them goes. A crash or a failure anywhere leaves only what the next run
//! collects.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use riverrun_dataflow::fail_point::reach;

use crate::error::StateError;
use crate::events::{CollectionFailed, OldRecordDamaged};
use crate::folder::Folder;
use crate::log::{Backwards, Bounds, LogReader, oldest_of};
use crate::record::{Body, Checkpoint, written_now};
use crate::savepoint;
use crate::states::SharedLedger;
use crate::store::{Created, Listed};

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
    /// How much of the log is kept.
    pub log: KeepLog,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepLog {
    /// What a restart from the oldest kept checkpoint needs.
    Needed,
    /// All of it, so that every tick can be derived again from the first; the files of old checkpoints go all the same.
    All,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { checkpoints: 3, keep_for: Duration::from_secs(3600), log: KeepLog::Needed }
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
    /// As it is in the store.
    floor: u64,
    /// Records up to this number are gone or doomed.
    records_to: u64,
    /// The number of the oldest checkpoint whose files are kept, as the store says.
    oldest: u64,
    /// Checkpoints that are not collected, newest first. The beginning of the job counts as one, without files.
    kept: VecDeque<Kept>,
    /// The older part of the log that was not looked through yet, for checkpoints of earlier runs.
    unseen: Option<Backwards>,
    /// All files of the oldest checkpoint in `kept`, as long as older ones are looked for.
    oldest_files: BTreeSet<String>,
    /// An upgrade was seen: no checkpoint before it can be restored by the plan that runs.
    upgraded: bool,
    /// When the oldest record that was seen was written.
    oldest_at: String,
    /// Files of checkpoints that were dropped, until it is known that nobody needs them.
    loose: BTreeSet<String>,
    /// Checkpoints were dropped since it was last looked what nobody needs.
    dropped: bool,
    /// Paths of objects to be deleted.
    doomed: VecDeque<String>,
    /// What earlier runs left behind was found.
    swept: bool,
    /// The last attempt failed, and that was said.
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
    /// The files that it names and the next newer one does not; all of them, of the newest. Hundreds of files live for hundreds of
    /// checkpoints: with all files of each, an hour of checkpoints would take more memory than a small state.
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
    /// Returns the collector of `generation`, which recovered from the checkpoint record `base` of a log within `bounds`;
    /// `oldest` is the oldest checkpoint whose files are kept.
    pub fn new(
        folder: Folder,
        reader: LogReader,
        retention: Retention,
        generation: u64,
        bounds: Bounds,
        oldest: u64,
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
            records_to: bounds.floor,
            oldest,
            kept: VecDeque::new(),
            unseen: Some(unseen),
            oldest_files: BTreeSet::new(),
            upgraded: false,
            oldest_at: written_now(),
            loose: BTreeSet::new(),
            dropped: false,
            doomed: VecDeque::new(),
            swept: false,
            failed: false,
        }
    }

    /// Notes that `checkpoint` was published just now as record `seq`, and deletes a piece of what is no longer needed. Failure
    /// loses nothing but room: it is logged once, and tried again after the next checkpoint.
    pub fn published(&mut self, seq: u64, checkpoint: &Checkpoint, ledger: &SharedLedger) {
        let newest = Kept::of(seq, checkpoint, &written_now());
        match self.kept.front_mut() {
            Some(before) => before.files.retain(|file| !newest.files.contains(file)),
            None => self.oldest_files.clone_from(&newest.files),
        }
        self.kept.push_front(newest);
        match self.collect(seq, ledger) {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !self.failed {
                    CollectionFailed(&error).log();
                }
                self.failed = true;
            }
        }
    }

    fn collect(&mut self, seq: u64, ledger: &SharedLedger) -> Result<(), StateError> {
        self.look_back()?;
        if self.unseen.is_some() {
            return Ok(());
        }
        let left = self.left();
        if self.is_worthwhile(left) {
            if self.reader.bytes(seq + 1)?.is_some() {
                // Another generation runs the job: what is needed is for it to say.
                return Ok(());
            }
            if self.mark(left)? {
                self.loose.extend(self.kept.split_off(left).into_iter().flat_map(|kept| kept.files));
                self.dropped = true;
            }
        }
        if self.dropped {
            self.doom(ledger)?;
            self.dropped = false;
        }
        if !self.swept {
            self.sweep(ledger)?;
            self.swept = true;
        }
        let piece: Vec<String> = self.doomed.iter().take(PIECE).cloned().collect();
        if piece.is_empty() {
            return Ok(());
        }
        reach("collect.delete");
        self.folder.store().delete_all(&piece)?;
        reach("collect.deleted");
        self.doomed.drain(..piece.len());
        Ok(())
    }

    /// Looks through a piece of the log of earlier runs.
    fn look_back(&mut self) -> Result<(), StateError> {
        let Some(unseen) = &mut self.unseen else { return Ok(()) };
        for _ in 0..PIECE {
            let Some(record) = unseen.next() else {
                self.looked_back();
                if self.floor == 0 && self.oldest == 0 {
                    self.kept.push_back(Kept::beginning(&self.oldest_at));
                }
                return Ok(());
            };
            let record = match record {
                Ok(record) => record,
                Err(error @ StateError::Damaged { .. }) => {
                    // No recovery can read past it either: what lies before it is an orphan, and is swept up.
                    OldRecordDamaged(&error).log();
                    self.looked_back();
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.oldest_at.clone_from(&record.header.at);
            if let Some(checkpoint) = record.body.checkpoint() {
                let seq = record.header.seq;
                if seq < self.oldest {
                    self.looked_back();
                    return Ok(());
                }
                let counts = seq <= self.base && !self.upgraded;
                let mut older = Kept { counts, ..Kept::of(seq, checkpoint, &record.header.at) };
                let all = older.files.clone();
                older.files.retain(|file| !self.oldest_files.contains(file));
                self.oldest_files = all;
                self.kept.push_back(older);
            }
            self.upgraded |= matches!(record.body, Body::Upgrade(_));
        }
        Ok(())
    }

    /// Notes that all is known of the older part of the log that can be.
    fn looked_back(&mut self) {
        self.unseen = None;
        self.oldest_files.clear();
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

    /// Returns whether enough can go, if `left` checkpoints are left, to mark it in the store.
    fn is_worthwhile(&self, left: usize) -> bool {
        let step = if self.swept { FLOOR_STEP } else { 1 };
        let from = match self.retention.log {
            KeepLog::Needed => self.floor,
            KeepLog::All => self.oldest,
        };
        left < self.kept.len() && self.target(left) >= from + step
    }

    /// Returns up to which record the log is not needed for the `left` newest checkpoints.
    fn target(&self, left: usize) -> u64 {
        self.kept.iter().take(left).map(|kept| kept.after - 1).min().unwrap_or(0)
    }

    /// Says in the store that only the `left` newest checkpoints have their files from now on, and raises the floor unless all of the log is
    /// kept. Returns whether that is so now.
    ///
    /// The floor tells which is the oldest checkpoint that has its files: records of older ones may stand above the floor,
    /// since they came late.
    fn mark(&mut self, left: usize) -> Result<bool, StateError> {
        let oldest = self.kept[left - 1].seq;
        let (target, path) = match self.retention.log {
            KeepLog::Needed => (self.target(left), self.reader.floor_path(self.target(left))),
            KeepLog::All => (self.floor, self.reader.oldest_path(oldest)),
        };
        // A floor of an earlier attempt, whose answer was lost, may name another checkpoint: then the next one is waited for.
        reach("collect.raise");
        if self.folder.store().create(&path, format!("{oldest}\n").into_bytes())? != Created::Ours {
            return Ok(false);
        }
        reach("collect.raised");
        (self.floor, self.oldest) = (target, oldest);
        Ok(true)
    }

    /// Dooms what nobody needs of what was dropped: records, files, floors.
    fn doom(&mut self, ledger: &SharedLedger) -> Result<(), StateError> {
        let needed = self.needed(ledger)?;
        let marks = self.folder.store().list(&self.folder.inside("floor"))?;
        for path in std::mem::take(&mut self.loose) {
            if needed.pinned.contains(&path) {
                // Looked at again when more is dropped: the savepoint may be gone by then.
                self.loose.insert(path);
            } else if !needed.files.contains(&path) {
                self.doomed.push_back(self.folder.inside(&path));
            }
        }
        let records = (self.records_to + 1..=self.floor).filter(|seq| !needed.inputs.contains(seq));
        self.doomed.extend(records.map(|seq| self.reader.path(seq)));
        self.records_to = self.floor;
        let known: BTreeSet<String> = self.doomed.iter().cloned().collect();
        self.doomed.extend(self.outdated(marks).filter(|path| !known.contains(path)));
        Ok(())
    }

    /// Returns those of `marks` that greater ones have outdated.
    fn outdated(&self, marks: Vec<Listed>) -> impl Iterator<Item = String> + use<> {
        let (floor, oldest) = (self.reader.floor_path(self.floor), self.reader.oldest_path(self.oldest));
        let is_outdated = move |path: &String| match oldest_of(path) {
            Some(_) => *path < oldest,
            None => *path < floor,
        };
        marks.into_iter().map(|mark| mark.path).filter(is_outdated)
    }

    fn needed(&self, ledger: &SharedLedger) -> Result<Needed, StateError> {
        let savepoints = savepoint::all(&self.folder)?;
        let mut files = ledger.lock().paths();
        files.extend(self.kept.iter().flat_map(|kept| kept.files.iter().cloned()));
        let pins = || savepoints.iter().map(|savepoint| &savepoint.checkpoint);
        let mut inputs: BTreeSet<u64> = self.kept.iter().filter_map(|kept| kept.inputs).collect();
        inputs.extend(pins().filter_map(|checkpoint| Some(checkpoint.inputs?.seq)));
        let pinned = pins().flat_map(|checkpoint| checkpoint.files().map(|file| file.path));
        let pinned = pinned.filter(|path| !files.contains(path)).collect();
        Ok(Needed { files, pinned, inputs })
    }

    /// Dooms what earlier runs left behind: records and marks below the floor, files of earlier generations that nobody
    /// needs.
    fn sweep(&mut self, ledger: &SharedLedger) -> Result<(), StateError> {
        let store = self.folder.store();
        let needed = self.needed(ledger)?;
        let inputs: BTreeSet<String> = needed.inputs.iter().map(|seq| self.reader.path(*seq)).collect();
        let below = self.reader.path(self.floor);
        let mut found: BTreeSet<String> = BTreeSet::new();
        for record in store.list(&self.folder.inside("log"))? {
            if record.path <= below && !inputs.contains(&record.path) {
                found.insert(record.path);
            }
        }
        found.extend(self.outdated(store.list(&self.folder.inside("floor"))?));
        let ours = self.folder.inside(&format!("state/g{:06}", self.generation));
        for part in ["log", "floor"] {
            store.discard_unfinished(&self.folder.inside(part), &|_| true)?;
        }
        store.discard_unfinished(&self.folder.inside("state"), &|path| is_before(path, &ours))?;
        for file in store.list(&self.folder.inside("state"))?.into_iter().filter(|file| is_before(&file.path, &ours)) {
            let Some(path) = file.path.strip_prefix(&self.folder.inside("")) else { continue };
            if needed.pinned.contains(path) {
                self.loose.insert(path.to_string());
            } else if !needed.files.contains(path) {
                found.insert(file.path);
            }
        }
        let known: BTreeSet<String> = self.doomed.iter().cloned().collect();
        self.doomed.extend(found.difference(&known).cloned());
        Ok(())
    }
}

/// Returns whether `path` is, or lies in, the folder of an earlier generation than that of `ours`. Our own folder is not: it is there,
/// and empty, just before its first file is.
fn is_before(path: &str, ours: &str) -> bool {
    path.get(..ours.len()).is_some_and(|folder| folder < ours)
}

/// What must stay.
struct Needed {
    /// Files of kept checkpoints, and of those to come.
    files: BTreeSet<String>,
    /// Files that only savepoints name.
    pinned: BTreeSet<String>,
    /// Numbers of inputs records.
    inputs: BTreeSet<u64>,
}

#[cfg(test)]
mod tests;
