//! The documents of the API, as they are sent and taken. The command line reads the same types.

mod catalogue;
mod history;
mod operators;
mod preview;

use std::collections::BTreeMap;

use riverrun_dataflow::balance::Counts;
use serde::{Deserialize, Serialize};

pub use catalogue::{Config, Explained, JobMetrics, JobSavepoint, MetricSeries, SavepointCatalogue};
pub use history::{ExceptionView, Exceptions, RescaleView, Rescales};
pub use operators::{OperatorDetail, OperatorWorker, OperatorWorkers, SinkView, TableView};
pub use preview::{NewPreview, PreviewEnd, PreviewRow};

use crate::manager::keys::{Key, Role};
use crate::manager::moment::Moment;
use crate::manager::phase::Phase;
use crate::manager::problem::Finding;
use crate::manager::record::{
    Cause, Change, ChangeKind, Event, Job, Operation, Replay, Restarts, Spec, Trouble, Wanted,
};
use crate::manager::secrets::Sensitive;
use crate::manager::store::AuditEntry;

/// Which version this is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The version of the program.
    pub version: String,
    /// Names what its jobs write.
    pub build: String,
    /// Who asks: the id of the key, or `anonymous`.
    pub caller: String,
    /// What they may.
    pub role: Role,
    /// The wall clock of the manager.
    pub now: Moment,
}

/// The jobs by phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// How many jobs are in which phase.
    pub jobs: BTreeMap<String, usize>,
    /// How many processes they are to have.
    pub processes: usize,
    /// How many workers these are to have, together.
    pub workers: usize,
}

/// A job that is submitted.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Submit {
    /// What is to be run.
    pub spec: Spec,
    /// The values of the secrets that it refers to as `${env:NAME}`, by name. They are never shown again.
    #[serde(default)]
    pub secrets: BTreeMap<String, Sensitive>,
    /// Parts that may lose something, if the job is upgraded; `all`: every one.
    #[serde(default)]
    pub allow_reset: Vec<String>,
}

/// What was found in a job file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The job's name.
    pub job: String,
    /// Warnings; errors are a problem.
    pub findings: Vec<Finding>,
}

/// What a submission does, or would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submitted {
    /// The job's name.
    pub job: String,
    /// The revision that was written, or would be.
    pub revision: u64,
    /// The job is new.
    pub created: bool,
    /// What the change takes; none for a new job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeKind>,
    /// What becomes of each part of the job's state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartView>,
    /// Parts that would lose something, and were not allowed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_allow: Vec<String>,
    /// The job file before the change, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Spec>,
    /// Warnings about the job file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The operation that began; none if nothing was to be done, or nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationView>,
}

/// What becomes of a part of a job's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartView {
    /// `source`, `step` or `sink`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `kept`, `migrated`, `reset`, `new` or `gone`.
    pub fate: String,
    /// It loses something.
    pub loses: bool,
    /// Why.
    pub notes: Vec<String>,
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    pub since: Moment,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// The number of what was submitted last.
    pub revision: u64,
    /// The number of its last generation of processes.
    pub generation: u64,
    /// Processes.
    pub processes: u16,
    /// Workers of each.
    pub workers: u16,
    /// The past that it is run over, if it is a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// How often it was started again.
    pub restarts: Restarts,
    /// What went wrong last, if it is not at its work since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// The change that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The id of the operation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// When it was submitted first.
    pub created: Moment,
    /// What was submitted; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Spec>,
}

impl JobView {
    /// Returns a job as lists show it.
    pub fn brief(job: &Job) -> JobView {
        JobView {
            name: job.name.clone(),
            phase: job.phase,
            since: job.since,
            wanted: job.wanted,
            revision: job.revision,
            generation: job.generation,
            processes: job.spec.processes,
            workers: job.spec.workers,
            replay: job.spec.replay.clone(),
            restarts: job.restarts.clone(),
            trouble: job.trouble.clone(),
            change: None,
            operation: job.operation.as_ref().map(|underway| underway.id.clone()),
            created: job.created,
            spec: None,
        }
    }

    /// Returns a job with everything.
    pub fn whole(job: &Job) -> JobView {
        JobView { spec: Some(job.spec.clone()), change: job.change.clone(), ..JobView::brief(job) }
    }
}

/// Jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobList {
    /// The jobs, by name.
    pub jobs: Vec<JobView>,
    /// There are more: ask for those after this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How a job is doing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The job.
    pub job: JobView,
    /// Its processes.
    pub processes: Vec<ProcessView>,
    /// What the job says of itself: rows, watermarks, positions; none if it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<serde_json::Value>,
}

/// A process of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessView {
    /// Its index.
    pub index: u16,
    /// `absent`, `alive` or `ended`.
    pub state: String,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What kind of end it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Why it ended: what it said at last, or the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The address of its admin port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// CPU time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes. Of a process that has ended, both are those of the last look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
    /// The memory that it may have, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
}

/// How far a job is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offsets {
    /// Its process says so; else it is what its newest checkpoint says.
    pub running: bool,
    /// After this tick.
    pub tick: u64,
    /// The splits of its sources.
    pub splits: Vec<OffsetView>,
}

/// How far a split is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OffsetView {
    /// The source.
    pub source: String,
    /// The split.
    pub split: String,
    /// The position after the last row read.
    pub position: u64,
    /// Where it ends, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

/// Where splits of a job are to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOffsets {
    /// Those that are to go on elsewhere.
    pub offsets: Vec<NewOffset>,
    /// Records may be read again that the state has seen already: they count once more, or are late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
}

/// Where a split is to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewOffset {
    /// The source.
    pub source: String,
    /// The split.
    pub split: String,
    /// The position of the next record that is read.
    pub position: u64,
}

/// What the sources and steps of a job have done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operators {
    /// Its process says so; else it is what its newest checkpoint says.
    pub running: bool,
    /// After this tick.
    pub tick: u64,
    /// By name.
    pub operators: Vec<OperatorView>,
}

/// What a source or a step has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorView {
    /// Its name.
    pub name: String,
    /// The watermark of what it reads, in microseconds since the epoch, if it is a step that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// The rows that came in since the job began, by what became of them, and those that went out.
    pub rows: Counts,
}

/// What happened to a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Events {
    /// The newest last.
    pub events: Vec<Event>,
}

/// What a process said.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// The generation.
    pub generation: u64,
    /// The process.
    pub process: u16,
    /// Lines.
    pub lines: Vec<String>,
    /// What comes is after this position.
    pub next: u64,
}

/// Savepoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Savepoints {
    /// By name.
    pub savepoints: Vec<Savepoint>,
}

/// A savepoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Savepoint {
    /// Its name.
    pub name: String,
    /// The state is the one after this tick.
    pub tick: u64,
    /// When the checkpoint was published.
    pub at: String,
    /// Bytes that a start from it reads.
    pub size_bytes: u64,
}

/// A replay that is to begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewReplay {
    /// What it is called; made from the job and the range if nothing is said. The job that it is has the name `JOB@NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where topics begin: `earliest`, a date, a time with its zone, an age, or offsets.
    pub from: String,
    /// Where they end, in the same forms; their end as it is when the replay begins if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// They do not end: the replay goes on live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub then_live: bool,
    /// No faster than so many rows a second: `50k/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// No faster than so many times as fast as it happened: `10x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// Overrides of values of the job file, after those of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Workers; one if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// It adds to output that is there and not its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append: bool,
}

/// A checkpoint that was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// It is the state after this tick.
    pub tick: u64,
}

/// What is needed to ask a checkpoint by SQL.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateScript {
    /// The checkpoint is that after this tick.
    pub tick: u64,
    /// A script for DuckDB, which makes a view of every table.
    pub script: String,
    /// The files that it reads, by their place.
    pub files: Vec<String>,
}

/// A savepoint that is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSavepoint {
    /// Its name.
    pub name: String,
}

/// How a job is to be stopped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Stop {
    /// The name under which it leaves its last state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// Everything that waits for later rows is given out, and the job is finished.
    pub drain: bool,
}

/// How a job is to be spread.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rescale {
    /// Processes; as they are if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u16>,
    /// Workers of each; as they are if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_per_process: Option<u16>,
}

/// How a job is to be changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchJob {
    /// Whether it is to run; as it is if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<WantedState>,
    /// Processes; as they are if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u16>,
    /// Workers of each; as they are if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_per_process: Option<u16>,
}

/// Whether a job is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// It runs.
    Running,
    /// It is stopped cleanly, and can go on.
    Suspended,
}

/// Records of a sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tapped {
    /// The sink.
    pub sink: String,
    /// Its topic.
    pub topic: String,
    /// The newest records of each partition, as text.
    pub records: Vec<String>,
}

/// Something that takes its time.
pub type OperationView = Operation;

/// API keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// By id.
    pub keys: Vec<KeyView>,
}

/// An API key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The jobs that it is for.
    pub jobs: String,
    /// When it was made.
    pub created: Moment,
    /// It is good for nothing from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
}

impl KeyView {
    /// Returns a key as it is shown.
    pub fn of(key: &Key) -> KeyView {
        let Key { id, name, role, jobs, created, expires, .. } = key.clone();
        KeyView { id, name, role, jobs, created, expires }
    }
}

/// A key that is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The jobs that it is for: a name, or the beginning of names and a `*`.
    #[serde(default = "every_job")]
    pub jobs: String,
    /// It is good for so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

fn every_job() -> String {
    "*".to_owned()
}

/// A key that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeKey {
    /// What is kept of it.
    pub key: KeyView,
    /// The key itself, shown this once.
    pub secret: String,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Audit {
    /// The newest first.
    pub entries: Vec<AuditEntry>,
}
