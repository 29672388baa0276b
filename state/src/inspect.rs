//! Looking at a job's state from outside: nothing is locked, nothing is written, and the job may be running.
//!
//! A running job may collect what is being read. Whoever looks then looks again; only what stays missing is a finding.

pub mod script;
pub mod tables;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::source::SplitId;
use riverrun_dataflow::tick::Tick;
use riverrun_dataflow::time::EventTime;
use serde::{Deserialize, Serialize};

pub use verify::{Report, StateFinding, verify};

use crate::error::StateError;
use crate::folder::{Folder, JobFile, Lock, SinkLanes};
use crate::log::LogReader;
use crate::record::{Body, Checkpoint, Foundation, Header, Inputs, Record, TableFiles};
use crate::savepoint::{self, Savepoint};
use crate::store::Store;

/// A job and its checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// What was fixed when the job was created.
    pub job: JobFile,
    /// Whether a process runs it now; unknown on stores without locks.
    pub running: Option<bool>,
    /// The newest generation.
    pub generation: u64,
    /// The first and the last record of the log that are kept.
    pub records: (u64, u64),
    /// The last tick in the log.
    pub last_tick: Tick,
    /// The checkpoints, newest first.
    pub checkpoints: Vec<Summary>,
    /// The savepoints, by name.
    pub savepoints: Vec<Named>,
    /// What cannot be read, the newest log record first: it is not listed, and what stands on it may be missing here.
    pub findings: Vec<StateFinding>,
}

/// A savepoint in a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The checkpoint.
    #[serde(flatten)]
    pub summary: Summary,
}

/// A checkpoint in a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The state is the one after this tick.
    pub tick: Tick,
    /// The number of its record in the log.
    pub seq: u64,
    /// The generation that published it.
    pub generation: u64,
    /// The build that published it.
    pub build: String,
    /// When it was published.
    pub at: String,
    /// It is the first one of another plan: here the job was upgraded from the plan with this hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgraded_from: Option<String>,
    /// The tick was the job's last.
    pub finished: bool,
    /// CPU time of its pause, all workers together, in microseconds.
    pub pause_micros: u64,
    /// CPU time of the pause and of writing the files beside the job, in microseconds.
    pub cpu_micros: u64,
    /// Files that a restart from it reads.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes among them that were written for this checkpoint.
    pub bytes_new: u64,
    /// State by step.
    pub steps: BTreeMap<String, StepState>,
    /// The least committed tick of all lanes; `None` without sinks that have tokens.
    pub token: Option<Tick>,
}

impl Named {
    /// Returns `savepoint` in a line.
    pub fn of(savepoint: &Savepoint) -> Named {
        Named { name: savepoint.name.clone(), summary: summary(&savepoint.header, &savepoint.checkpoint) }
    }
}

/// What the files of a step hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepState {
    /// Files.
    pub files: usize,
    /// Rows in them; a key that changed since its base counts once per file.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// A checkpoint, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detail {
    /// In a line.
    #[serde(flatten)]
    pub summary: Summary,
    /// The recorded clock, in microseconds since the epoch.
    pub now: i64,
    /// The watermark of each source.
    pub sources: Vec<SourceAt>,
    /// How far each split was read.
    pub splits: Vec<SplitAt>,
    /// How far each lane had committed.
    pub lanes: Vec<LaneAt>,
    /// The balance since the job began.
    pub balance: BTreeMap<String, Counts>,
    /// The files of each table.
    pub tables: Vec<TableFiles>,
}

/// How far a source was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceAt {
    /// Its name.
    pub source: String,
    /// Its watermark.
    pub watermark: EventTime,
}

/// How far a split was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SplitAt {
    /// Its number.
    pub id: SplitId,
    /// Its source.
    pub source: String,
    /// Its name.
    pub split: String,
    /// The position after the last row read.
    pub position: u64,
    /// Where it ends, if that is fixed.
    pub end: Option<u64>,
    /// Greatest event time seen.
    pub greatest: EventTime,
    /// It held back no watermark.
    pub idle: bool,
    /// It will never give another row.
    pub ended: bool,
}

/// How far a lane had committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaneAt {
    /// Its sink.
    pub sink: String,
    /// The lane.
    pub lane: u32,
    /// Its committed tick when the checkpoint was published.
    pub tick: Tick,
}

/// Lists the checkpoints of `job`.
pub fn list(store: Store, job: &str) -> Result<Overview, StateError> {
    let Look { folder, file, reader } = Look::at(store, job)?;
    let bounds = reader.bounds()?;
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    for seq in (bounds.floor + 1..=bounds.last).rev() {
        match reader.read(seq) {
            Ok(record) => records.push(record),
            // A network that fails now fails for the next one, too.
            Err(error @ StateError::Storage { .. }) if folder.store().is_remote() => return Err(error),
            Err(error) => unreadable.push((seq, error)),
        }
    }
    if !unreadable.is_empty() {
        // A running job may have collected them meanwhile.
        let floor = reader.floor()?;
        unreadable.retain(|(seq, _)| *seq > floor);
    }
    let (savepoints, broken) = savepoint::readable(&folder)?;
    let findings = unreadable.iter().map(|(_, error)| error).chain(&broken).map(StateFinding::of).collect();
    let last_tick = records.iter().map(|record| last_tick_of(&record.body)).max().unwrap_or(0);
    let checkpoints = records.iter().filter_map(|record| {
        let summary = summary(&record.header, record.body.checkpoint()?);
        let upgraded_from = match &record.body {
            Body::Upgrade(upgrade) => Some(upgrade.from_plan.clone()),
            _ => None,
        };
        Some(Summary { upgraded_from, ..summary })
    });
    Ok(Overview {
        running: Lock::is_held(&folder),
        generation: records.first().map_or(0, |record| record.header.generation),
        records: (records.last().map_or(0, |record| record.header.seq), bounds.last),
        last_tick,
        checkpoints: checkpoints.collect(),
        savepoints: savepoints.iter().map(Named::of).collect(),
        findings,
        job: file,
    })
}

/// Returns what stands in the way of looking at `job`, if something does.
pub fn there(store: &Store, job: &str) -> Result<(), StateError> {
    Look::at(store.clone(), job).map(|_| ())
}

/// Returns the names of the jobs that have state in `store`.
pub fn jobs(store: &Store) -> Result<Vec<String>, StateError> {
    let mut jobs = store.folders("jobs")?;
    jobs.retain(|job| store.get(&format!("jobs/{job}/job.json")).is_ok_and(|file| file.is_some()));
    Ok(jobs)
}

/// Returns whether `store` is no state folder but one that lies in it: that of all jobs, or that of one.
pub fn is_too_deep(store: &Store) -> Result<bool, StateError> {
    let is_job = |folder: &str| store.get(&format!("{folder}job.json")).is_ok_and(|file| file.is_some());
    Ok(is_job("") || store.folders("")?.iter().any(|folder| is_job(&format!("{folder}/"))))
}

/// Shows the newest checkpoint of `job`, or the newest one at `tick`; `None` if there is none.
pub fn show(store: Store, job: &str, tick: Option<Tick>) -> Result<Option<Detail>, StateError> {
    let Look { file, reader, .. } = Look::at(store, job)?;
    let Some(record) = reader.newest_checkpoint(tick)? else { return Ok(None) };
    shown(&file, &reader, &record)
}

/// Shows the savepoint `name` of `job`.
pub fn show_savepoint(store: Store, job: &str, name: &str) -> Result<Detail, StateError> {
    let Look { folder, file, reader } = Look::at(store, job)?;
    let found = savepoint::record(&folder, name)?.map(|record| shown(&file, &reader, &record)).transpose()?.flatten();
    found.ok_or_else(|| StateError::NoSavepoint { job: job.to_string(), name: name.to_string() })
}

/// Shows the checkpoint that a record is or holds.
fn shown(file: &JobFile, reader: &LogReader, record: &Record) -> Result<Option<Detail>, StateError> {
    let Some(checkpoint) = record.body.checkpoint() else { return Ok(None) };
    let foundation = foundation_of(reader, record)?;
    let (inputs, lanes) = foundation.map(|it| (it.inputs, it.lanes)).unwrap_or_default();
    let mut found = detail(&record.header, checkpoint, &inputs, lanes.as_ref().unwrap_or(&file.lanes));
    if let Body::Upgrade(upgrade) = &record.body {
        found.summary.upgraded_from = Some(upgrade.from_plan.clone());
    }
    Ok(Some(found))
}

/// Returns what `job` reads, as its log says; `None` if it never began to.
pub fn inputs(store: Store, job: &str) -> Result<Option<Inputs>, StateError> {
    let Look { reader, .. } = Look::at(store, job)?;
    if let Some(record) = reader.newest_checkpoint(None)?
        && let Some(foundation) = foundation_of(&reader, &record)?
    {
        return Ok(Some(foundation.inputs));
    }
    // Without a checkpoint all of the log is there.
    let (_, found) = reader.settled(|bounds| {
        for record in reader.backwards(bounds) {
            if let Some(foundation) = record?.foundation() {
                return Ok(Some(foundation.inputs));
            }
        }
        Ok(None)
    })?;
    Ok(found)
}

/// Returns what the record of a checkpoint stands on: its own foundation, or the one that the checkpoint names.
fn foundation_of(reader: &LogReader, record: &Record) -> Result<Option<Foundation>, StateError> {
    match (record.foundation(), record.body.checkpoint().and_then(|checkpoint| checkpoint.inputs)) {
        (None, Some(at)) => match reader.read_at(at)?.foundation() {
            None => Err(StateError::damaged(reader.name(at.seq), "it is no inputs record")),
            found => Ok(found),
        },
        (own, _) => Ok(own),
    }
}

/// A job that is looked at.
pub(crate) struct Look {
    /// Its folder.
    pub(crate) folder: Folder,
    /// What was fixed when it was created.
    pub(crate) file: JobFile,
    /// Its log.
    pub(crate) reader: LogReader,
}

impl Look {
    /// Looks at `job`, which must have been created.
    pub(crate) fn at(store: Store, job: &str) -> Result<Look, StateError> {
        let folder = Folder::of(Arc::new(store), job)?;
        let Some(file) = folder.read()? else { return Err(folder.without_description()?) };
        let reader = folder.log(&file);
        Ok(Look { folder, file, reader })
    }
}

fn last_tick_of(body: &Body) -> Tick {
    match body {
        Body::Ticks(ticks) => ticks.last,
        body => body.checkpoint().map_or(0, |checkpoint| checkpoint.tick),
    }
}

fn summary(header: &Header, checkpoint: &Checkpoint) -> Summary {
    let mut steps: BTreeMap<String, StepState> = BTreeMap::new();
    let (mut files, mut bytes, mut bytes_new) = (0, 0, 0);
    for file in checkpoint.files() {
        let step = steps.entry(file.step).or_default();
        step.files += 1;
        step.rows += file.rows;
        step.bytes += file.bytes;
        files += 1;
        bytes += file.bytes;
        bytes_new += if file.tick == checkpoint.tick { file.bytes } else { 0 };
    }
    Summary {
        tick: checkpoint.tick,
        seq: header.seq,
        generation: header.generation,
        build: header.build.clone(),
        at: header.at.clone(),
        upgraded_from: None,
        finished: checkpoint.finished,
        pause_micros: checkpoint.pause_micros,
        cpu_micros: checkpoint.cpu_micros,
        files,
        bytes,
        bytes_new,
        steps,
        token: checkpoint.tokens.iter().map(|token| token.tick).min(),
    }
}

fn detail(header: &Header, checkpoint: &Checkpoint, inputs: &Inputs, lanes: &[SinkLanes]) -> Detail {
    let after = checkpoint.clone().into_parts().after();
    let name = |names: Option<&str>, index: usize| names.map_or_else(|| index.to_string(), str::to_owned);
    let source = |at: usize| name(inputs.sources.get(at).map(String::as_str), at);
    let sources = after.watermarks.iter().enumerate();
    let splits = after.splits.values().map(|mark| {
        let input = inputs.splits.iter().find(|input| input.id == mark.split);
        SplitAt {
            id: mark.split,
            source: input.map(|input| input.source.clone()).unwrap_or_default(),
            split: name(input.map(|input| input.spec.name.as_str()), mark.split as usize),
            position: mark.to,
            end: input.and_then(|input| input.spec.end),
            greatest: mark.greatest,
            idle: mark.idle,
            ended: mark.ended,
        }
    });
    let at = checkpoint.tokens.iter().map(|token| {
        let sink = lanes.get(token.sink as usize).map(|sink| sink.sink.as_str());
        LaneAt { sink: name(sink, token.sink as usize), lane: token.lane, tick: token.tick }
    });
    Detail {
        summary: summary(header, checkpoint),
        now: after.now,
        sources: sources.map(|(at, watermark)| SourceAt { source: source(at), watermark: *watermark }).collect(),
        splits: splits.collect(),
        lanes: at.collect(),
        balance: checkpoint.balance.clone(),
        tables: checkpoint.tables.clone(),
    }
}

#[cfg(test)]
mod tests;
