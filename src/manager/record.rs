//! What the manager keeps of a job: written down before anything is done, so that a manager that was killed knows what it was at.
//!
//! These types are a file format: fields are added with a default, and never given another meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::history::{Away, Start};
use super::moment::Moment;
use super::phase::{At, Phase, To};
use crate::limits::Limits;
use crate::replay::Asked;

/// So many events of a job are kept.
const EVENTS_MAX: usize = 100;

/// What is to be run, as it was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The job file's name, as messages call it.
    pub file: String,
    /// What it says. Secrets are references in it, never values.
    pub text: String,
    /// Overrides of its values, `KEY=VALUE` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Where topics live; none: where the manager has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<String>,
    /// The schema registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<String>,
    /// Processes.
    #[serde(default = "one")]
    pub processes: u16,
    /// Workers of each process.
    #[serde(default = "one")]
    pub workers: u16,
    /// Topics end where they end when the job begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub until_end: bool,
    /// What each process may take of the machine; where nothing is said: what the manager says.
    #[serde(default, skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
    /// It is a replay: the job file over a past, in a namespace of its own. Only the manager itself writes this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// A past that a job is run over, beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replay {
    /// The job.
    pub of: String,
    /// What the replay is called.
    pub name: String,
    /// Where topics begin.
    pub from: String,
    /// Where they end; none: at their end as it is when the replay begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// They do not end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub then_live: bool,
    /// No faster than so many rows a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// No faster than so many times as fast as it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
}

impl Replay {
    /// Returns the past as it was asked for.
    pub fn asked(&self) -> Asked<'_> {
        let Replay { from, to, then_live, name, .. } = self;
        Asked { from, to: to.as_deref(), then_live: *then_live, name: Some(name) }
    }
}

fn one() -> u16 {
    1
}

/// What is wanted of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// That it runs.
    Running,
    /// That it is stopped cleanly, so that it can go on.
    Suspended,
    /// That it ends at once; it can go on from its newest checkpoint.
    Cancelled,
    /// That it ends at once and is forgotten.
    Deleted,
}

/// What a generation of processes is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Task {
    /// To run the job.
    Run,
    /// To upgrade its state to the job file, once.
    Upgrade {
        /// Parts that may lose something.
        allow: Vec<String>,
        /// The savepoint that is made of it before.
        #[serde(default)]
        savepoint: Option<String>,
    },
    /// To begin anew from a savepoint, once.
    Plant {
        /// The savepoint.
        savepoint: String,
    },
    /// To have it go on from other positions of its topics, once.
    Move {
        /// The positions, `SOURCE:SPLIT=N` each.
        offsets: Vec<String>,
        /// Records may be read again that its state has seen.
        repeat: bool,
    },
}

/// A generation of processes. It is written down before the first of them is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// Its number; only ever greater.
    pub generation: u64,
    /// What it is for.
    pub task: Task,
    /// So many processes it has.
    pub processes: u16,
    /// So many workers has each.
    pub workers: u16,
    /// When it was decided.
    pub at: Moment,
}

/// How processes that are being ended are ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// They finish what was read; otherwise they are killed.
    pub cleanly: bool,
    /// The name under which the job leaves its last state.
    pub savepoint: Option<String>,
    /// It is the end of all input, for good.
    #[serde(default)]
    pub drain: bool,
    /// After this they are killed all the same.
    pub deadline: Moment,
}

/// A change of a job that is under way, until it is seen running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What it takes.
    pub kind: ChangeKind,
    /// What the job was before.
    pub from: Spec,
    /// The savepoint that is made of it, if its state changes.
    pub savepoint: Option<String>,
    /// Parts that may lose something.
    pub allow: Vec<String>,
    /// The job is what it is to be, but for its state, which may be yet to be upgraded.
    pub done: bool,
    /// The state was found to be one that only the former version can go on with: that runs until it is at its work, and is stopped then.
    #[serde(default)]
    pub undrained: bool,
    /// So often the processes ended since it was done; before, so often it went on as it was.
    pub ended: u32,
    /// By then it is healthy, or it is taken back. Set when it is done.
    pub deadline: Option<Moment>,
}

impl Change {
    /// Returns a change that is not begun yet.
    pub fn new(kind: ChangeKind, from: Spec) -> Change {
        let (savepoint, allow, deadline) = (None, Vec::new(), None);
        Change { kind, from, savepoint, allow, done: false, undrained: false, ended: 0, deadline }
    }
}

/// What a change of a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Nothing: it would run the same.
    Nothing,
    /// Other processes or workers.
    Rescale,
    /// A restart: the same plan with other settings or places.
    Restart,
    /// An upgrade of its state.
    Upgrade,
}

/// How often and why a job was started again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Restarts {
    /// By reason, since it was submitted.
    pub by_reason: BTreeMap<String, u64>,
    /// Those that count, one after the other, without a long time of work in between.
    pub in_a_row: u32,
    /// It is not started before.
    pub not_before: Moment,
}

/// Why a job came to an end that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// When.
    pub at: Moment,
    /// The exit code of the process; none if it was killed.
    pub code: Option<i32>,
    /// What it said, or what was found.
    pub message: String,
    /// How the process ended that it came from, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ProcessEnd>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessEnd {
    /// Its index.
    pub process: u16,
    /// Why.
    pub cause: Cause,
    /// Its exit code; none if a signal ended it and nobody knows why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// CPU time that it had taken when it was looked at last, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Resident memory that it had then, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident_bytes: Option<u64>,
}

/// Why a process ended, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// It did what it was to do, or was stopped: 0.
    Completed,
    /// It cannot do what it was to do: 1 to 7.
    Failed,
    /// A fault in the program: 70.
    Panicked,
    /// Storage or a sink failed for good: 74.
    StorageFailed,
    /// It lost another process, was fenced, or stood still: 75.
    PeerLost,
    /// The job or its surroundings must be changed first: 78.
    Invalid,
    /// A disk was full under memory that is a file: 135.
    DiskFull,
    /// Memory ran out: 137.
    #[serde(rename = "OOMKilled")]
    OutOfMemory,
    /// A signal ended it, or an exit code that means nothing.
    Killed,
}

impl Cause {
    /// Returns what an exit code says.
    pub fn of(code: Option<i32>) -> Cause {
        match code {
            Some(0) => Cause::Completed,
            Some(1..=7) => Cause::Failed,
            Some(70) => Cause::Panicked,
            Some(74) => Cause::StorageFailed,
            Some(75) => Cause::PeerLost,
            Some(78) => Cause::Invalid,
            Some(135) => Cause::DiskFull,
            Some(137) => Cause::OutOfMemory,
            _ => Cause::Killed,
        }
    }

    /// Returns its name, as it is written everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Completed => "Completed",
            Cause::Failed => "Failed",
            Cause::Panicked => "Panicked",
            Cause::StorageFailed => "StorageFailed",
            Cause::PeerLost => "PeerLost",
            Cause::Invalid => "Invalid",
            Cause::DiskFull => "DiskFull",
            Cause::OutOfMemory => "OOMKilled",
            Cause::Killed => "Killed",
        }
    }

    /// Returns whether a restart would only meet the same again.
    pub fn is_for_good(self) -> bool {
        matches!(self, Cause::Failed | Cause::Invalid)
    }

    /// Returns the reason that a restart after it is counted by, and whether it counts towards a wait.
    pub fn restart(self) -> (&'static str, bool) {
        match self {
            Cause::Completed => ("stopped", false),
            Cause::PeerLost => ("mesh", false),
            Cause::Panicked => ("panic", true),
            Cause::StorageFailed => ("sink", true),
            Cause::DiskFull => ("disk", true),
            Cause::OutOfMemory => ("oom", true),
            Cause::Failed | Cause::Invalid | Cause::Killed => ("killed", true),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub at: Moment,
    /// The phase after it.
    pub phase: Phase,
    /// The generation.
    pub generation: u64,
    /// What, if there is more to say than the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// How the process ended from which it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ProcessEnd>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its name.
    pub name: String,
    /// What was submitted last. Its number: only ever greater.
    pub revision: u64,
    /// What was submitted last.
    pub spec: Spec,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it came there.
    pub since: Moment,
    /// When it was submitted first.
    pub created: Moment,
    /// The number of the last generation.
    pub generation: u64,
    /// The generation that runs, or that is to.
    pub launch: Option<Launch>,
    /// How it is being ended.
    pub ending: Option<Ending>,
    /// What must be done to its state before it runs, if anything.
    pub pending: Option<Task>,
    /// The change that is under way.
    pub change: Option<Change>,
    /// What was seen running last: what a rollback may go back to.
    pub proven: Option<Spec>,
    /// It adds to outputs of a former incarnation.
    #[serde(default)]
    pub append: bool,
    /// A restart was asked for.
    #[serde(default)]
    pub restart: bool,
    /// Its state goes with it when it is deleted.
    #[serde(default)]
    pub purge: bool,
    /// The savepoint that is to be left when it is suspended.
    #[serde(default)]
    pub savepoint: Option<String>,
    /// It is to be finished for good when it is stopped.
    #[serde(default)]
    pub drain: bool,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: Restarts,
    /// What went wrong last.
    pub trouble: Option<Trouble>,
    /// What happened, the newest last.
    #[serde(default)]
    pub events: Vec<Event>,
    /// The operation that is under way.
    pub operation: Option<Underway>,
    /// Since when it is away, if it is.
    #[serde(default)]
    pub away: Option<Away>,
    /// The start of the generation that runs or ran last.
    #[serde(default)]
    pub start: Option<Start>,
}

/// The operation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// Its id.
    pub id: String,
    /// The phase in which it is done.
    pub goal: Phase,
}

impl Job {
    /// Returns a job that was just submitted.
    pub fn new(name: &str, spec: Spec, now: Moment) -> Job {
        let phase = Phase::Created;
        Job {
            name: name.to_owned(),
            revision: 1,
            spec,
            wanted: Wanted::Running,
            phase,
            since: now,
            created: now,
            generation: 0,
            launch: None,
            ending: None,
            pending: None,
            change: None,
            proven: None,
            append: false,
            restart: false,
            purge: false,
            savepoint: None,
            drain: false,
            restarts: Restarts::default(),
            trouble: None,
            events: vec![Event { at: now, phase, generation: 0, what: None, end: None }],
            operation: None,
            away: None,
            start: None,
        }
    }

    /// Goes from one phase to the next. Which may follow which is checked when this is compiled; that the job is where the caller
    /// takes it to be, is checked here.
    pub fn go<A: At + To<B>, B: At>(&mut self, _from: A, _to: B, now: Moment, what: Option<String>) {
        assert_eq!(self.phase, A::PHASE, "job `{}` is not where it was taken to be", self.name);
        self.phase = B::PHASE;
        self.since = now;
        self.note(now, what);
    }

    /// Writes down what happened.
    pub fn note(&mut self, now: Moment, what: Option<String>) {
        self.events.push(Event { at: now, phase: self.phase, generation: self.generation, what, end: None });
        let old = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..old);
    }

    /// Returns the change that is still to be made.
    pub fn open_change(&self) -> Option<&Change> {
        self.change.as_ref().filter(|change| !change.done)
    }

    /// Returns what its processes run: until a change is made, what the job was before.
    pub fn runs(&self) -> &Spec {
        self.open_change().map_or(&self.spec, |change| &change.from)
    }

    /// Returns the task of the generation that runs or is to run.
    pub fn task(&self) -> Option<&Task> {
        self.launch.as_ref().map(|launch| &launch.task)
    }
}

/// Something that takes its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its id.
    pub id: String,
    /// The job.
    pub job: String,
    /// What was asked for.
    pub kind: String,
    /// How far it is.
    pub state: OperationState,
    /// When it was asked for.
    pub created: Moment,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Moment>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// It is done.
    Succeeded,
    /// It is not, and will not be.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_mean_what_the_table_says() {
        let table = [
            (Some(0), "Completed", "stopped", false),
            (Some(1), "Failed", "killed", true),
            (Some(70), "Panicked", "panic", true),
            (Some(74), "StorageFailed", "sink", true),
            (Some(75), "PeerLost", "mesh", false),
            (Some(78), "Invalid", "killed", true),
            (Some(135), "DiskFull", "disk", true),
            (Some(137), "OOMKilled", "oom", true),
            (Some(99), "Killed", "killed", true),
            (None, "Killed", "killed", true),
        ];
        for (code, name, reason, counts) in table {
            let cause = Cause::of(code);
            assert_eq!((cause.name(), cause.restart()), (name, (reason, counts)), "{code:?}");
            assert_eq!(serde_json::to_value(cause).unwrap(), name);
            assert_eq!(cause.is_for_good(), matches!(code, Some(1 | 78)));
        }
    }
}
