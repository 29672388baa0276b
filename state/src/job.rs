//! A job from the first look at its folder to what the engine is given.
//!
//! ```text
//! JobState::open -> start -> Started -> (append_inputs) -> recover(tokens) -> Recovery, Parts
//! ```
//! The order matters: the generation record fences whoever ran the job before, only then are the sinks asked for their
//! tokens, and only then is it decided where to begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::journal::{Journal, LaneToken, StateFile, StateStore};
use riverrun_dataflow::tick::Floor;

use crate::collect::{Collector, Retention};
use crate::error::StateError;
use crate::events::OlderSought;
use crate::folder::{Folder, Holder, JobFile, JobSpec, Lock, Opened, SinkLanes, random_id};
use crate::follow::Followed;
use crate::journal::{JobJournal, Tail};
use crate::ledger::Ledger;
use crate::log::{Appended, Bounds, Log, LogReader, Writer};
use crate::oldest::Oldest;
use crate::record::{Body, Foundation, Generation, Inputs, Record};
use crate::recovery::passed::{Reading, Unusable};
use crate::recovery::{Asked, Recovery, decide};
use crate::states::{SharedLedger, States};
use crate::store::Store;

/// How often a start that lost the race for its generation record looks at the log anew.
pub(crate) const ATTEMPTS: usize = 5;
/// How many records a start may see appended before its own since it looked. Who runs the job appends as it commits, and looks at
/// the floor after each record; a start that only follows is faster, but may need a while to overtake.
const OVERTAKEN_MAX: usize = 1000;
/// To read so many bytes back takes long enough that somebody who waits wants to know why.
const LONG: u64 = 256 << 20;

/// A job's folder, open and locked.
#[derive(Debug)]
pub struct JobState {
    opened: Opened,
    holder: Holder,
    build: String,
    plan: String,
}

/// A job of which this process is the newest generation.
#[derive(Debug)]
pub struct Started {
    folder: Folder,
    file: JobFile,
    is_new: bool,
    lock: Option<Arc<Lock>>,
    log: Log,
    /// The log as it was before our generation record.
    before: Bounds,
    foundation: Option<Foundation>,
    retention: Retention,
}

/// Tells a process whether a later generation has taken its job over.
#[derive(Clone, Debug)]
pub struct Succession {
    reader: LogReader,
    generation: u64,
}

impl Succession {
    /// Returns that this process is fenced, if a later generation is in the log.
    ///
    /// A process that slept through that may find what it was about to write cleared away, and the store then fails. Asked for
    /// only after such a failure: a log that cannot be read says nothing.
    pub fn fenced(&self) -> Option<StateError> {
        let last = self.reader.bounds().and_then(|bounds| self.reader.read(bounds.last)).ok()?.header;
        (last.generation > self.generation).then(|| {
            StateError::Fenced(format!(
                "generation {} (attempt {}) runs the job now, generation {} ends",
                last.generation, last.attempt, self.generation
            ))
        })
    }
}

/// What the engine is given.
pub struct Parts {
    /// The journal.
    pub journal: Box<dyn Journal>,
    /// The checkpoints.
    pub states: Arc<dyn StateStore>,
}

impl JobState {
    /// Opens the job's folder in `store`, creating the job if there is none, and locks it for the life of this process.
    pub fn open(store: Store, spec: JobSpec) -> Result<JobState, StateError> {
        let opened = Folder::open(Arc::new(store), &spec)?;
        Ok(JobState { opened, holder: spec.holder, build: spec.build, plan: spec.plan })
    }

    /// Returns what was fixed when the job was created.
    pub fn file(&self) -> &JobFile {
        &self.opened.file
    }

    /// Returns the folder, who opens it and with which build.
    pub(crate) fn into_opened(self) -> (Opened, Holder, String) {
        (self.opened, self.holder, self.build)
    }

    /// Becomes the newest generation: whoever ran the job before is fenced from here on. Another plan than the job's is refused
    /// before anything is written.
    pub fn start(self) -> Result<Started, StateError> {
        let reader = self.opened.folder.log(&self.opened.file);
        let attempt = random_id();
        for _ in 0..ATTEMPTS {
            let before = reader.bounds()?;
            let seen = Seen::of(&reader, before)?;
            if self.opened.file.savepoint.is_some() && seen.foundation.is_none() {
                self.sow(&reader, &attempt, &seen)?;
                continue;
            }
            if let Some((log, before, seen)) = self.overtake(&reader, &attempt, before, seen)? {
                return Ok(self.started(log, before, seen));
            }
        }
        let job = self.opened.folder.job();
        Err(StateError::Fenced(format!("other processes keep taking over job `{job}`; this one gives way")))
    }

    /// Appends our generation record, after whatever another process appends meanwhile: each record that is met in its place is
    /// taken in, without looking at the whole log again. `None` if the log must be looked at again.
    fn overtake(
        &self,
        reader: &LogReader,
        attempt: &str,
        mut before: Bounds,
        mut seen: Seen,
    ) -> Result<Option<(Log, Bounds, Seen)>, StateError> {
        for _ in 0..OVERTAKEN_MAX {
            let stored = seen.foundation.as_ref().map_or(&self.opened.file.plan, |it| &it.plan);
            if *stored != self.plan {
                let (job, stored) = (self.opened.folder.job().to_string(), stored.clone());
                return Err(StateError::PlanChanged { job, stored, given: self.plan.clone() });
            }
            let writer = Writer {
                generation: seen.generation + 1,
                attempt: attempt.to_string(),
                build: self.build.clone(),
                plan: self.plan.clone(),
            };
            let mut log = Log::after(reader.clone(), writer, seen.last.as_ref());
            let Holder { host, pid, workers } = self.holder.clone();
            match log.try_append(&Body::Generation(Generation { host, pid, workers, base: seen.base })) {
                Ok(Appended::Ours(_)) => return Ok(Some((log, before, seen))),
                Ok(Appended::Taken(theirs)) => {
                    let record = reader.met(before.last + 1, &theirs)?;
                    if seen.last.as_ref().is_some_and(|last| last.xxh3 != record.header.prev_xxh3) {
                        return Ok(None);
                    }
                    before.last += 1;
                    seen.follow(reader, record)?;
                }
                Err(StateError::Fenced(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Makes what lies ready the first record of the log.
    fn sow(&self, reader: &LogReader, attempt: &str, seen: &Seen) -> Result<(), StateError> {
        let body = crate::seed::ready(&self.opened.folder, &self.opened.file)?;
        let writer = Writer {
            generation: seen.generation + 1,
            attempt: attempt.to_string(),
            build: self.build.clone(),
            plan: self.opened.file.plan.clone(),
        };
        match Log::after(reader.clone(), writer, seen.last.as_ref()).append(&body) {
            Ok(_) | Err(StateError::Fenced(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn started(self, log: Log, before: Bounds, seen: Seen) -> Started {
        let Opened { folder, file, lock } = self.opened;
        let (is_new, foundation) = (!seen.may_have_given(), seen.foundation);
        let lock = lock.map(Arc::new);
        Started { folder, file, is_new, lock, log, before, foundation, retention: Retention::default() }
    }
}

/// What a start must know of the log before it appends.
#[derive(Default)]
struct Seen {
    last: Option<Record>,
    generation: u64,
    base: Option<u64>,
    foundation: Option<Foundation>,
    ticks: bool,
    /// The generation that laid down the ticks of another job, if this one derives such: it gave nothing to a sink.
    laid_by: Option<u64>,
}

impl Seen {
    /// Reads back to the newest checkpoint, or to the beginning.
    fn of(reader: &LogReader, bounds: Bounds) -> Result<Seen, StateError> {
        let mut seen = Seen::default();
        for record in reader.backwards(bounds) {
            let record = record?;
            let seq = record.header.seq;
            seen.generation = seen.generation.max(record.header.generation);
            if let (None, Some(foundation)) = (&seen.foundation, record.foundation()) {
                seen.lay(foundation, record.header.generation);
            }
            if let Some(checkpoint) = record.body.checkpoint() {
                // What an incarnation begins with is not its own.
                seen.ticks |= seq > 1;
                seen.base = Some(seq);
                if let (None, Some(at)) = (&seen.foundation, checkpoint.inputs) {
                    seen.foundation = reader.read_at(at)?.foundation();
                }
            }
            seen.ticks |= matches!(record.body, Body::Ticks(_));
            seen.last.get_or_insert(record);
            if seen.base.is_some() {
                break;
            }
        }
        Ok(seen)
    }

    fn lay(&mut self, foundation: Foundation, generation: u64) {
        self.laid_by = foundation.inputs.recorded.is_some().then_some(generation);
        self.foundation = Some(foundation);
    }

    /// Returns whether a sink may have been given something of this incarnation.
    fn may_have_given(&self) -> bool {
        self.laid_by.map_or(self.ticks, |laid_by| self.generation > laid_by)
    }

    /// Takes in the record that was appended next.
    fn follow(&mut self, reader: &LogReader, record: Record) -> Result<(), StateError> {
        self.generation = self.generation.max(record.header.generation);
        if let Some(foundation) = record.foundation() {
            self.lay(foundation, record.header.generation);
        }
        if let Some(checkpoint) = record.body.checkpoint() {
            self.ticks |= record.header.seq > 1;
            self.base = Some(record.header.seq);
            if let (None, Some(at)) = (&self.foundation, checkpoint.inputs) {
                self.foundation = reader.read_at(at)?.foundation();
            }
        }
        self.ticks |= matches!(record.body, Body::Ticks(_));
        self.last = Some(record);
        Ok(())
    }
}

impl Started {
    /// Returns our generation.
    pub fn generation(&self) -> u64 {
        self.log.writer().generation
    }

    /// Returns the job's incarnation.
    pub fn incarnation(&self) -> &str {
        &self.file.incarnation
    }

    /// Returns what was fixed when the job was created.
    pub fn file(&self) -> &JobFile {
        &self.file
    }

    /// Returns the shards, fixed when the job was created.
    pub fn shards(&self) -> u16 {
        self.file.shards
    }

    /// Returns the lanes of each sink in the order of the graph, fixed when the job was created or upgraded.
    pub fn lanes(&self) -> &[SinkLanes] {
        self.foundation.as_ref().and_then(|it| it.lanes.as_ref()).unwrap_or(&self.file.lanes)
    }

    /// Returns whether nothing of this incarnation was ever handed to a sink: no tick was made final yet.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns what the job reads, if that was resolved already.
    pub fn inputs(&self) -> Option<&Inputs> {
        self.foundation.as_ref().map(|it| &it.inputs)
    }

    /// Returns, by step, how far it had come when the job was upgraded last.
    pub fn floors(&self) -> BTreeMap<String, Floor> {
        self.foundation.as_ref().map(|it| it.floors.clone()).unwrap_or_default()
    }

    /// Returns what tells later on whether another process has taken over.
    pub fn succession(&self) -> Succession {
        Succession { reader: self.log.reader().clone(), generation: self.generation() }
    }

    /// Returns what tells how far the job had read at the oldest checkpoint that a restart may use.
    pub fn oldest(&self) -> Oldest {
        let upgraded = self.foundation.as_ref().filter(|it| it.lanes.is_some()).map_or(0, |it| it.at.seq);
        Oldest::of(self.log.reader().clone(), upgraded)
    }

    /// Returns what the other processes of the job need to know of this one.
    pub fn followed(&self) -> Followed {
        let Writer { generation, attempt, build, plan } = self.log.writer().clone();
        let (job, incarnation) = (self.folder.job().to_owned(), self.file.incarnation.clone());
        Followed { job, incarnation, generation, attempt, build, plan }
    }

    /// Sets which checkpoints are kept.
    pub fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Writes down what the job reads, once, before its first tick.
    pub fn append_inputs(&mut self, inputs: Inputs) -> Result<(), StateError> {
        assert!(self.foundation.is_none(), "inputs are resolved once");
        let body = Body::Inputs(inputs);
        let at = self.log.append(&body)?;
        if let Body::Inputs(inputs) = body {
            let plan = self.log.writer().plan.clone();
            self.foundation = Some(Foundation { at, plan, lanes: None, inputs, floors: BTreeMap::new() });
        }
        Ok(())
    }

    /// Returns the job's folder.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the log, which ends with what this process has appended.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the log as it was before our generation record.
    pub(crate) fn before(&self) -> Bounds {
        self.before
    }

    /// Makes `body` the next record, in a process that runs nothing.
    pub(crate) fn append(&mut self, body: &Body) -> Result<(), StateError> {
        self.log.append(body).map(|_| ())
    }

    /// Decides where to begin, given the committed tick of every lane of every exactly-once sink (0: never), asked after
    /// [`JobState::start`].
    pub fn recover(self, tokens: &[LaneToken]) -> Result<(Recovery, Parts), StateError> {
        let writer = self.log.writer().clone();
        let asked = Asked { job: self.folder.job(), plan: &writer.plan, build: &writer.build, tokens };
        let mark = self.log.reader().oldest_mark()?;
        let oldest = mark.as_ref().map_or(0, |(seq, _)| *seq);
        // Checkpoints whose files are gone are nothing to warn of.
        let mut collected = 0;
        let records = self.log.reader().backwards(self.before).filter(|record| match record {
            Ok(Record { header, body: Body::Checkpoint(_), .. }) if header.seq < oldest => {
                collected += 1;
                false
            }
            _ => true,
        });
        let mut failing = None;
        let mut reading = Reading::of(&self.folder);
        let mut said = false;
        let decision = decide(records, &asked, |checkpoint| {
            if failing.is_some() {
                return Err("the store fails".into());
            }
            let files: Vec<StateFile> = checkpoint.files().collect();
            reading.read(&files).map_err(|unusable| {
                let error = match unusable {
                    Unusable::Known(reason) => return reason,
                    Unusable::Found(error) => error,
                };
                let reason = error.to_string();
                // A disk that cannot read a file may be broken there. A network that fails is: the file is as good as ever.
                let is_passing = matches!(error, StateError::Storage { .. }) && self.folder.store().is_remote();
                // All of them are told of together at the end, which comes late where there is much to read.
                let is_long = self.folder.store().is_remote() || files.iter().map(|it| it.bytes).sum::<u64>() >= LONG;
                if is_long && !is_passing && !std::mem::replace(&mut said, true) {
                    OlderSought { tick: checkpoint.tick, reason: &reason }.log();
                }
                failing = is_passing.then_some(error);
                reason
            })
        });
        if let Some(error) = failing {
            return Err(error);
        }
        let decision = decision.map_err(|error| match mark {
            Some((seq, path)) if collected > 0 => blamed(error, &self.folder.store().name(&path), seq, collected),
            _ => error,
        })?;
        let mut tail = Tail::default();
        for (seq, entries) in &decision.tail {
            tail.enter(*seq, entries);
        }
        let ledger = decision.checkpoint.as_ref().map(|(_, _, it)| Ledger::of(it)).unwrap_or_default();
        let ledger = SharedLedger::new(ledger);
        let recovery = decision.into_recovery();
        let newest = recovery.checkpoint.as_ref().map(|it| it.seq);
        let reader = self.log.reader().clone();
        let collector =
            Collector::new(self.folder.clone(), reader, self.retention, writer.generation, self.before, oldest, newest);
        let base = recovery.checkpoint.as_ref().map_or(0, |it| it.parts.tick);
        let last = recovery.entries.last().map_or(base, |entry| entry.record.tick);
        let states = States::new(self.folder, self.file.shards, writer, ledger.clone(), self.lock.clone());
        let inputs = self.foundation.map(|it| it.at);
        let journal = JobJournal::new(self.log, ledger, inputs, last, tail, collector, self.lock);
        Ok((recovery, Parts { journal: Box::new(journal), states: Arc::new(states) }))
    }
}

/// Names the mark that passes over checkpoints, where none is left: it may be what is damaged.
fn blamed(error: StateError, mark: &str, seq: u64, collected: usize) -> StateError {
    match error {
        StateError::NoCheckpoint { job, mut reasons } => {
            let gone =
                format!("{mark} says that checkpoints before log record {seq} ({collected}) have no files any more");
            reasons.insert(0, gone);
            StateError::NoCheckpoint { job, reasons }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
