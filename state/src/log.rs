//! The one log of a job: appending at exactly the next number, and reading back along the chain.
//!
//! Two rules keep every other process out. A record is created only if it is absent, at the number after the last one seen:
//! who loses that race is fenced. After every create the floor is read: a number at or below it was collected, so a process
//! that slept through a collection has not appended, whatever the store answered.

use std::sync::Arc;

use bytes::Bytes;
use riverrun_dataflow::fail_point::reach;
use riverrun_dataflow::tick::Tick;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StateError;
use crate::record::{Body, Digest, Header, InputsAt, Record, seal, unseal, written_now};
use crate::store::{Created, Store};

/// How often the log is read again because it was collected meanwhile.
const LOOKS_MAX: usize = 3;

/// Reads the log of a job.
#[derive(Clone, Debug)]
pub struct LogReader {
    store: Arc<Store>,
    folder: String,
    /// What the first record is chained to.
    root: Digest,
    /// Whose log it is.
    incarnation: String,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records up to this number are gone or about to be deleted; 0 if none are.
    pub floor: u64,
    /// The number of the last record; 0 if there is none.
    pub last: u64,
}

impl LogReader {
    /// Returns the reader of the log in `folder` of the incarnation `incarnation`.
    pub fn new(store: Arc<Store>, folder: &str, incarnation: &str) -> LogReader {
        LogReader {
            store,
            folder: folder.to_string(),
            root: Digest(xxh3_64(incarnation.as_bytes())),
            incarnation: incarnation.to_string(),
        }
    }

    /// Returns where the log begins and ends now.
    pub fn bounds(&self) -> Result<Bounds, StateError> {
        let floor = self.floor()?;
        let names = self.store.list(&format!("{}/log", self.folder))?;
        let last = names.iter().rev().find_map(|listed| number_of(listed.name.strip_suffix(".json")?));
        match last.unwrap_or(0) {
            // A listing that is behind lacks the newest records: before they are called lost, the first of them is asked for by name.
            // Whoever appends meets the others.
            last if floor > 0 && last <= floor && self.bytes(floor + 1)?.is_some() => {
                Ok(Bounds { floor, last: floor + 1 })
            }
            last if floor > 0 && last <= floor => Err(StateError::damaged(
                self.name(floor + 1),
                "it and all later ones are missing\n  hint: restore the log from a backup, or start over with --fresh",
            )),
            last => Ok(Bounds { floor, last }),
        }
    }

    /// Returns the floor.
    pub fn floor(&self) -> Result<u64, StateError> {
        let names = self.store.list(&format!("{}/floor", self.folder))?;
        Ok(names.iter().filter_map(|listed| number_of(&listed.name)).max().unwrap_or(0))
    }

    /// Returns the floor, and the incarnation that was put in the place of this one, if a mark says so.
    fn floor_and_successor(&self) -> Result<(u64, Option<String>), StateError> {
        let names = self.store.list(&format!("{}/floor", self.folder))?;
        let floor = names.iter().filter_map(|listed| number_of(&listed.name)).max().unwrap_or(0);
        let marks = names.iter().filter_map(|listed| listed.name.strip_prefix(INCARNATION));
        Ok((floor, marks.map(str::to_owned).find(|incarnation| *incarnation != self.incarnation)))
    }

    /// Returns the number of the oldest checkpoint record whose files are kept; 0 if all are.
    pub fn oldest_kept(&self) -> Result<u64, StateError> {
        Ok(self.oldest_mark()?.map_or(0, |(seq, _)| seq))
    }

    /// Returns the number of the oldest checkpoint record whose files are kept, and the path of the mark that says so; `None` if all are.
    pub fn oldest_mark(&self) -> Result<Option<(u64, String)>, StateError> {
        let marks = self.store.list(&format!("{}/floor", self.folder))?;
        let marked = marks.iter().filter_map(|mark| Some((oldest_of(&mark.path)?, mark.path.clone()))).max();
        let Some(floor) = marks.iter().filter_map(|mark| number_of(&mark.name)).max() else { return Ok(marked) };
        let path = self.floor_path(floor);
        let text = self.store.get(&path)?.unwrap_or_default();
        let named = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        Ok(marked.max(named.map(|seq| (seq, path))))
    }

    /// Returns where it is marked that records up to `seq` are gone.
    pub fn floor_path(&self, seq: u64) -> String {
        format!("{}/floor/{seq:020}", self.folder)
    }

    /// Returns where it is marked that checkpoints before record `seq` have no files any more, though their records are kept.
    pub fn oldest_path(&self, seq: u64) -> String {
        format!("{}/floor/{seq:020}{OLDEST}", self.folder)
    }

    /// Returns the record `seq` in these bytes, which were met where ours was to be.
    pub fn met(&self, seq: u64, bytes: &[u8]) -> Result<Record, StateError> {
        unseal(bytes, seq, &self.name(seq))
    }

    /// Returns the bytes of record `seq` as they are stored; `None` if it is not there.
    pub fn bytes(&self, seq: u64) -> Result<Option<Bytes>, StateError> {
        self.store.get(&self.path(seq))
    }

    /// Reads record `seq`.
    pub fn read(&self, seq: u64) -> Result<Record, StateError> {
        let path = self.path(seq);
        let what = format!("log record {}", self.store.name(&path));
        match self.store.get(&path)? {
            Some(bytes) => unseal(&bytes, seq, &what),
            None => Err(StateError::damaged(
                what,
                "it is missing\n  hint: restore this file from a backup, or start over with --fresh",
            )),
        }
    }

    /// Reads the inputs record at `at`, which may be older than the floor.
    pub fn read_at(&self, at: InputsAt) -> Result<Record, StateError> {
        let record = self.read(at.seq)?;
        if record.xxh3 != at.xxh3 {
            return Err(StateError::damaged(self.name(at.seq), "it is not the record that the checkpoint names"));
        }
        Ok(record)
    }

    /// Returns the records up to `bounds.last`, newest first, each checked against its successor; reads as far as asked.
    pub fn backwards(&self, bounds: Bounds) -> Backwards {
        Backwards { reader: self.clone(), floor: bounds.floor, next: bounds.last, expected: None }
    }

    /// Returns the record of the newest checkpoint, or of the newest one at `tick`; `None` if there is none. The log may be
    /// collected meanwhile.
    pub fn newest_checkpoint(&self, tick: Option<Tick>) -> Result<Option<Record>, StateError> {
        let wanted = |record: &Record| {
            record.body.checkpoint().is_some_and(|checkpoint| tick.is_none_or(|tick| tick == checkpoint.tick))
        };
        let find = |bounds| self.backwards(bounds).find(|record| record.as_ref().map_or(true, wanted)).transpose();
        Ok(self.settled(find)?.1)
    }

    /// Runs `look` on the log, again if the log was collected under its hands.
    pub fn settled<T>(&self, look: impl Fn(Bounds) -> Result<T, StateError>) -> Result<(Bounds, T), StateError> {
        let mut attempt = 1;
        loop {
            let bounds = self.bounds()?;
            match look(bounds) {
                Err(StateError::Damaged { .. }) if attempt < LOOKS_MAX && self.floor()? > bounds.floor => attempt += 1,
                result => return Ok((bounds, result?)),
            }
        }
    }

    /// Returns what the first record is chained to.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Returns how a person finds record `seq`.
    pub fn name(&self, seq: u64) -> String {
        format!("log record {}", self.store.name(&self.path(seq)))
    }

    /// Returns where record `seq` lies.
    pub fn path(&self, seq: u64) -> String {
        format!("{}/log/{seq:020}.json", self.folder)
    }
}

/// Begins the name of the mark of an incarnation that was put in the place of another.
const INCARNATION: &str = "incarnation.";

/// Returns where, in the job's folder, it is marked that `incarnation` was put in the place of another, where there are no locks.
/// It lies beside the floor, which is looked at after every append.
pub fn incarnation_mark(incarnation: &str) -> String {
    format!("floor/{INCARNATION}{incarnation}")
}

/// Ends the names of marks of the oldest checkpoint that has its files.
const OLDEST: &str = ".oldest";

/// Returns which checkpoint a mark says to be the oldest that has its files, if it is such a mark.
pub fn oldest_of(path: &str) -> Option<u64> {
    number_of(path.strip_suffix(OLDEST)?.rsplit('/').next()?)
}

fn number_of(name: &str) -> Option<u64> {
    if name.len() == 20 { name.parse().ok() } else { None }
}

/// Records, newest first.
#[derive(Debug)]
pub struct Backwards {
    reader: LogReader,
    floor: u64,
    next: u64,
    expected: Option<Digest>,
}

impl Backwards {
    fn read(&mut self) -> Result<Record, StateError> {
        let seq = self.next;
        let record = self.reader.read(seq)?;
        if self.expected.is_some_and(|expected| expected != record.xxh3) {
            return Err(StateError::damaged(
                self.reader.name(seq),
                format!("record {} was not written after it: the log was forked or edited", seq + 1),
            ));
        }
        if seq == 1 && record.header.prev_xxh3 != self.reader.root {
            return Err(StateError::damaged(
                self.reader.name(seq),
                "it belongs to another incarnation of the job than job.json",
            ));
        }
        self.expected = Some(record.header.prev_xxh3);
        self.next -= 1;
        Ok(record)
    }
}

impl Iterator for Backwards {
    type Item = Result<Record, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next > self.floor).then(|| self.read())
    }
}

/// Who writes to a log.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The generation.
    pub generation: u64,
    /// The process, unlike any other.
    pub attempt: String,
    /// The build.
    pub build: String,
    /// The plan.
    pub plan: String,
}

/// Writes the log of a job. After a failure it refuses everything: what the store then holds is unknown.
#[derive(Debug)]
pub struct Log {
    reader: LogReader,
    writer: Writer,
    last: u64,
    prev: Digest,
    failed: bool,
    /// To whom the race was lost.
    lost_to: Option<String>,
    /// What the store could not do, if that is why: act, object and reason.
    broken: Option<(&'static str, String, String)>,
}

/// What became of an attempt to append.
#[derive(Debug)]
pub enum Appended {
    /// The record is in the log.
    Ours(InputsAt),
    /// Another process's record is there instead: its bytes.
    Taken(Bytes),
}

impl Log {
    /// Returns a log to be continued after record `last`, `None` if there is no record yet.
    pub fn after(reader: LogReader, writer: Writer, last: Option<&Record>) -> Log {
        let (seq, prev) = last.map_or((0, reader.root), |record| (record.header.seq, record.xxh3));
        Log { reader, writer, last: seq, prev, failed: false, lost_to: None, broken: None }
    }

    /// Returns the log as it is read.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Returns who writes.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Writes as another plan from here on.
    pub fn become_plan(&mut self, plan: String) {
        self.writer.plan = plan;
    }

    /// Returns the number of the last record.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Makes `body` the next record. Returns its number and hash.
    pub fn append(&mut self, body: &Body) -> Result<InputsAt, StateError> {
        match self.try_append(body)? {
            Appended::Ours(at) => Ok(at),
            Appended::Taken(theirs) => {
                let lost = self.lost(self.last + 1, &theirs);
                // Whoever tries again is told the same, not just that something failed.
                self.lost_to = Some(lost.to_string());
                Err(lost)
            }
        }
    }

    /// Makes `body` the next record, unless another process was faster.
    pub fn try_append(&mut self, body: &Body) -> Result<Appended, StateError> {
        if self.failed {
            return Err(self.failed_before());
        }
        self.failed = true;
        let appended = self.write(body);
        if let Err(StateError::Storage { act, what, reason }) = &appended {
            self.broken = Some((act, what.clone(), reason.clone()));
        }
        appended
    }

    /// Says again why nothing more is written: a store that failed is not a log that was lost.
    fn failed_before(&self) -> StateError {
        if let Some((act, what, reason)) = self.broken.clone() {
            return StateError::Storage { act, what, reason };
        }
        let before = self.lost_to.clone();
        StateError::Fenced(before.unwrap_or_else(|| "the log failed before; nothing more is written to it".into()))
    }

    fn write(&mut self, body: &Body) -> Result<Appended, StateError> {
        let seq = self.last + 1;
        let header = Header {
            v: body.kind().version(),
            seq,
            prev_xxh3: self.prev,
            generation: self.writer.generation,
            attempt: self.writer.attempt.clone(),
            build: self.writer.build.clone(),
            plan: self.writer.plan.clone(),
            at: written_now(),
            kind: body.kind(),
        };
        let (bytes, xxh3) = seal(&header, body);
        let [before, after] = points(body);
        reach(before);
        if let Created::Taken(theirs) = self.reader.store.create(&self.reader.path(seq), bytes)? {
            return Ok(Appended::Taken(theirs));
        }
        reach(after);
        let (floor, successor) = self.reader.floor_and_successor()?;
        if let Some(successor) = successor {
            // It would stand in the way of the log that is there now.
            self.reader.store.delete(&self.reader.path(seq))?;
            let fenced = format!("the job was begun anew (incarnation {successor}) while this process was running it");
            self.lost_to = Some(fenced.clone());
            return Err(StateError::Fenced(fenced));
        }
        if floor >= seq {
            return Err(StateError::Fenced(format!(
                "records up to {floor} were collected while this process was paused before record {seq}: a newer generation runs the job"
            )));
        }
        self.failed = false;
        self.last = seq;
        self.prev = xxh3;
        Ok(Appended::Ours(InputsAt { seq, xxh3 }))
    }

    fn lost(&self, seq: u64, theirs: &[u8]) -> StateError {
        let name = self.reader.name(seq);
        match unseal(theirs, seq, &name) {
            Ok(record) => StateError::Fenced(format!(
                "generation {} (attempt {}) wrote {name} first: it runs the job now, generation {} ends",
                record.header.generation, record.header.attempt, self.writer.generation
            )),
            Err(_) => StateError::Fenced(format!("another process wrote {name} first")),
        }
    }
}

/// The points before and after a record becomes part of the log.
fn points(body: &Body) -> [&'static str; 2] {
    match body {
        Body::Generation(_) => ["log.generation.append", "log.generation.appended"],
        Body::Inputs(_) => ["log.inputs.append", "log.inputs.appended"],
        Body::Ticks(_) => ["log.ticks.append", "log.ticks.appended"],
        Body::Checkpoint(_) => ["log.checkpoint.append", "log.checkpoint.appended"],
        Body::Upgrade(_) => ["log.upgrade.append", "log.upgrade.appended"],
    }
}

#[cfg(test)]
mod tests;
