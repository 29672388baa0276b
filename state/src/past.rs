//! The past of a job, to be derived again by someone else: recorded ticks, and the state before the first of them.
//!
//! Nothing is locked and nothing is written; the job may be running. What it might collect meanwhile, log records and the
//! state files of the checkpoint, is therefore read at once, and looked for again if it was collected during that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use riverrun_dataflow::journal::{FrozenPart, JournalEntry, JournalError, StateFile, StateStore, TakeRows};
use riverrun_dataflow::tick::{Floor, Tick};

use crate::error::StateError;
use crate::file::load_each;
use crate::folder::JobFile;
use crate::inspect::Look;
use crate::ledger::Ledger;
use crate::log::{Bounds, LogReader};
use crate::record::{Body, Checkpoint, Foundation, Inputs, Record};
use crate::recovery::Restored;
use crate::recovery::passed::PassedOver;
use crate::states::read_table;
use crate::store::Store;

/// What is to be derived again, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The job.
    pub job: &'a str,
    /// The plan that derives it.
    pub plan: &'a str,
    /// The build that derives it.
    pub build: &'a str,
    /// The first tick; `None`: the first that can be.
    pub from: Option<Tick>,
    /// The last tick; `None`: the last that is recorded.
    pub to: Option<Tick>,
}

/// A stretch of recorded ticks with all that is needed to derive them again.
pub struct Past {
    /// What was fixed when the job was created, with the lanes that it has had since its last upgrade.
    pub file: JobFile,
    /// What the job reads.
    pub inputs: Inputs,
    /// By step: how far it had come when the job was upgraded last.
    pub floors: BTreeMap<String, Floor>,
    /// The state before the first of `entries`; `None`: they begin at tick 1.
    pub base: Option<Restored>,
    /// The ticks, ascending, without a gap.
    pub entries: Vec<JournalEntry>,
    /// What must be said aloud: checkpoints that were passed over, and why.
    pub warnings: Vec<String>,
    /// The state of `base`; writes nothing.
    pub states: Arc<dyn StateStore>,
    /// `base` as it was written down, with its files.
    pub(crate) copy: Option<Copy>,
}

/// A checkpoint, read whole.
pub(crate) struct Copy {
    pub checkpoint: Checkpoint,
    /// The files' bytes, by path.
    pub files: Arc<HashMap<String, Bytes>>,
}

impl Past {
    /// Reads the past of the job that `wanted` names.
    pub fn read(store: Store, wanted: &Wanted<'_>) -> Result<Past, StateError> {
        let look = Look::at(store, wanted.job)?;
        let (_, past) = look.reader.settled(|bounds| look.past(bounds, wanted))?;
        Ok(past)
    }
}

impl Look {
    fn past(&self, bounds: Bounds, wanted: &Wanted<'_>) -> Result<Past, StateError> {
        let reader = &self.reader;
        let kept = Kept::of(reader, bounds)?;
        let stretch = kept.stretch(wanted)?;
        let mut passed = PassedOver::default();
        let mut chosen = None;
        for begin in kept.begins(&stretch, wanted)? {
            match self.restorable(begin) {
                Ok(found) => {
                    chosen = Some(found);
                    break;
                }
                // It may have been collected just now: whoever called looks again.
                Err(_) if reader.floor()? > bounds.floor => return Err(self.gone()),
                Err(error) => passed.add(begin.tick, begin.seq.unwrap_or_default(), error.to_string()),
            }
        }
        let Some((checkpoint, states)) = chosen else {
            return Err(StateError::NoCheckpoint { job: wanted.job.to_string(), reasons: passed.told() });
        };
        let base = checkpoint.as_ref().and_then(|record| record.body.checkpoint()).map_or(0, |it| it.tick);
        let warnings = passed.told_with(&format!("the replay begins after tick {base}"));
        let entries = kept.entries(reader, base, stretch.last)?;
        let Some(foundation) = kept.foundation(reader, checkpoint.as_ref())? else {
            let what = format!("the log of job `{}`", wanted.job);
            return Err(StateError::damaged(what, "it does not say what the job reads"));
        };
        let restored = |Record { header, body, .. }: Record| {
            let parts = body.checkpoint()?.clone().into_parts();
            Some(Restored { seq: header.seq, generation: header.generation, parts })
        };
        let written = checkpoint.as_ref().and_then(|record| record.body.checkpoint()).cloned();
        let copy = written.map(|checkpoint| Copy { checkpoint, files: states.files.clone() });
        let base = checkpoint.and_then(restored);
        let Foundation { lanes, inputs, floors, .. } = foundation;
        let file = self.file.clone();
        let file = JobFile { lanes: lanes.unwrap_or(file.lanes), ..file };
        Ok(Past { file, inputs, floors, base, entries, warnings, states: Arc::new(states), copy })
    }

    fn gone(&self) -> StateError {
        let what = format!("what is kept of job `{}`", self.file.job);
        StateError::damaged(what, "the job collected it while it was being read\n  hint: try again")
    }

    /// Reads all of the state where deriving would begin.
    fn restorable(&self, begin: Begin) -> Result<(Option<Record>, Restorable), StateError> {
        let mut states = Restorable { shards: self.file.shards, ledger: Ledger::default(), files: Arc::default() };
        let Some(seq) = begin.seq else { return Ok((None, states)) };
        let record = self.reader.read(seq)?;
        let Some(checkpoint) = record.body.checkpoint() else {
            return Err(StateError::damaged(self.reader.name(seq), "it is no checkpoint any more"));
        };
        let files: Vec<StateFile> = checkpoint.files().collect();
        let mut read = HashMap::new();
        load_each(&self.folder, &files, &mut |at, bytes| {
            read.insert(files[at].path.clone(), bytes);
            Ok(())
        })?;
        states.files = Arc::new(read);
        states.ledger = Ledger::of(checkpoint);
        Ok((Some(record), states))
    }
}

/// What is kept of a log, without its bulk.
struct Kept {
    floor: u64,
    /// The number of the oldest checkpoint record whose files are kept.
    oldest: u64,
    inputs: Option<Foundation>,
    /// The ticks after which the job was upgraded, the last first: nothing is derived across them.
    upgrades: Vec<Tick>,
    /// Oldest first.
    ticks: Vec<TicksAt>,
    /// Oldest first.
    checkpoints: Vec<CheckpointAt>,
}

/// A ticks record.
struct TicksAt {
    seq: u64,
    first: Tick,
    last: Tick,
    plan: String,
    build: String,
}

/// A checkpoint record.
struct CheckpointAt {
    seq: u64,
    tick: Tick,
    plan: String,
}

/// A place where deriving may begin: the state after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    tick: Tick,
    /// The checkpoint's record; `None`: the beginning of the job.
    seq: Option<u64>,
}

/// Ticks that one plan and one build derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: Tick,
    last: Tick,
}

impl Kept {
    /// Reads the log from its end to its floor, along the chain.
    fn of(reader: &LogReader, bounds: Bounds) -> Result<Kept, StateError> {
        let mut kept = Kept {
            floor: bounds.floor,
            oldest: reader.oldest_kept()?,
            inputs: None,
            upgrades: Vec::new(),
            ticks: Vec::new(),
            checkpoints: Vec::new(),
        };
        for record in reader.backwards(bounds) {
            kept.take(record?);
        }
        kept.ticks.reverse();
        kept.checkpoints.reverse();
        Ok(kept)
    }

    fn take(&mut self, record: Record) {
        let foundation = record.foundation();
        let Record { header, body, .. } = record;
        if let Some(checkpoint) = body.checkpoint() {
            let (seq, tick, plan) = (header.seq, checkpoint.tick, header.plan.clone());
            self.checkpoints.push(CheckpointAt { seq, tick, plan });
        }
        match body {
            Body::Ticks(ticks) => self.ticks.push(TicksAt {
                seq: header.seq,
                first: ticks.first,
                last: ticks.last,
                plan: header.plan,
                build: header.build,
            }),
            Body::Upgrade(upgrade) => self.upgrades.push(upgrade.checkpoint.tick),
            Body::Inputs(_) => self.inputs = foundation,
            Body::Checkpoint(_) | Body::Generation(_) => {}
        }
    }

    /// Returns the ticks up to the last wanted one that the wanted plan and build derived.
    fn stretch(&self, wanted: &Wanted<'_>) -> Result<Stretch, StateError> {
        let none = |reason: String| StateError::NoPast { job: wanted.job.to_string(), reason };
        let Some(end) = self.ticks.last() else {
            let reason = match self.checkpoints.last() {
                Some(at) => format!("its log holds none: all were collected after the checkpoint at tick {}", at.tick),
                None => "it has not made a tick final yet".to_string(),
            };
            return Err(none(reason));
        };
        let last = wanted.to.unwrap_or(end.last);
        let asked = wanted.from.unwrap_or(0).max(last);
        if asked > end.last {
            return Err(none(format!("tick {asked} was asked for, and the last one is {}", end.last)));
        }
        let Some(at) = self.ticks.iter().rposition(|ticks| (ticks.first..=ticks.last).contains(&last)) else {
            let first = self.ticks[0].first;
            return Err(none(format!("tick {last} was asked for, and the oldest that is kept is {first}")));
        };
        let ours = |ticks: &&TicksAt| ticks.plan == wanted.plan && ticks.build == wanted.build;
        let Some(own) = self.ticks[..=at].iter().rev().take_while(ours).last() else {
            return Err(self.other(&self.ticks[at], last, wanted));
        };
        let upgraded = self.upgrades.iter().find(|tick| **tick < last).map_or(0, |tick| tick + 1);
        Ok(Stretch { first: own.first.max(upgraded), last })
    }

    /// Returns that tick `last`, of record `at`, was derived by another plan or build.
    fn other(&self, at: &TicksAt, last: Tick, wanted: &Wanted<'_>) -> StateError {
        let ours = |ticks: &&TicksAt| ticks.plan == wanted.plan && ticks.build == wanted.build;
        StateError::PastOther {
            job: wanted.job.to_string(),
            tick: last,
            theirs: format!("plan {}, build {}", at.plan, at.build),
            ours: format!("plan {}, build {}", wanted.plan, wanted.build),
            hint: match self.ticks.iter().rev().find(ours) {
                Some(ticks) => format!("this job file and build derived ticks up to {}: --to-tick {0}", ticks.last),
                None if at.plan == wanted.plan => format!("replay with the build that ran the job, {}", at.build),
                None => "replay with the job file, --set and all, that the job was run with".to_string(),
            },
        }
    }

    /// Returns where deriving the wanted part of `stretch` may begin, the best place first.
    fn begins(&self, stretch: &Stretch, wanted: &Wanted<'_>) -> Result<Vec<Begin>, StateError> {
        let before = wanted.from.unwrap_or(stretch.last).min(stretch.last);
        let fits = |at: &&CheckpointAt| at.plan == wanted.plan && at.seq >= self.oldest;
        let mut begins: Vec<Begin> = self
            .checkpoints
            .iter()
            .filter(fits)
            .map(|at| Begin { tick: at.tick, seq: Some(at.seq) })
            .filter(|begin| begin.tick + 1 >= stretch.first && begin.tick < before)
            .collect();
        if self.floor == 0 && stretch.first == 1 {
            begins.insert(0, Begin { tick: 0, seq: None });
        }
        if begins.is_empty() {
            let later = self.checkpoints.iter().filter(fits).map(|at| at.tick + 1).find(|first| *first > before);
            let reason = match later.filter(|first| *first <= stretch.last) {
                Some(first) => {
                    format!("tick {before} was asked for, and the state before it is gone; tick {first} is the first")
                }
                None => format!("no checkpoint before tick {before} is kept"),
            };
            return Err(StateError::NoPast { job: wanted.job.to_string(), reason });
        }
        if wanted.from.is_some() {
            begins.reverse();
        }
        Ok(begins)
    }

    /// Reads the ticks after `base` up to `last`.
    fn entries(&self, reader: &LogReader, base: Tick, last: Tick) -> Result<Vec<JournalEntry>, StateError> {
        let mut entries: Vec<JournalEntry> = Vec::new();
        for at in self.ticks.iter().filter(|at| at.last > base && at.first <= last) {
            let Body::Ticks(ticks) = reader.read(at.seq)?.body else {
                return Err(StateError::damaged(reader.name(at.seq), "it holds no ticks any more"));
            };
            for entry in ticks.entries.into_iter().filter(|entry| (base + 1..=last).contains(&entry.record.tick)) {
                let next = entries.last().map_or(base, |entry| entry.record.tick) + 1;
                if entry.record.tick != next {
                    let reason = format!("it holds tick {} where {next} should be", entry.record.tick);
                    return Err(StateError::damaged(reader.name(at.seq), reason));
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Returns what was laid down for the ticks after `checkpoint`.
    fn foundation(&self, reader: &LogReader, checkpoint: Option<&Record>) -> Result<Option<Foundation>, StateError> {
        let Some(record) = checkpoint else { return Ok(self.inputs.clone()) };
        match (record.foundation(), record.body.checkpoint().and_then(|checkpoint| checkpoint.inputs)) {
            (None, Some(at)) => match reader.read_at(at)?.foundation() {
                None => Err(StateError::damaged(reader.name(at.seq), "it is no inputs record")),
                found => Ok(found),
            },
            (None, None) => Ok(self.inputs.clone()),
            (own, _) => Ok(own),
        }
    }
}

/// The state of one checkpoint, to be restored and never written.
struct Restorable {
    shards: u16,
    ledger: Ledger,
    /// The files' bytes, by path.
    files: Arc<HashMap<String, Bytes>>,
}

impl StateStore for Restorable {
    fn rebase(&self, step: &str, _: &[&'static str], _: usize, _: usize) -> Vec<Vec<u16>> {
        unreachable!("the state of `{step}` is not frozen where no checkpoint is taken")
    }

    fn write(&self, part: FrozenPart) -> Result<Vec<StateFile>, JournalError> {
        unreachable!("the state of `{}` is not written where no checkpoint is taken", part.step)
    }

    fn read(
        &self,
        step: &str,
        table: &str,
        worker: usize,
        workers: usize,
        take: &mut TakeRows<'_>,
    ) -> Result<(), JournalError> {
        let each = |files: &[StateFile], take: &mut dyn FnMut(usize, Bytes) -> Result<(), StateError>| {
            files.iter().enumerate().try_for_each(|(at, file)| take(at, self.files[&file.path].clone()))
        };
        read_table(self.ledger.needed(step, table), &each, self.shards, (worker, workers), take)
    }
}

#[cfg(test)]
mod tests;
