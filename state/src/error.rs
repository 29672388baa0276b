//! Every way in which durable state can fail, and what the person before it can do.

use std::io;

use riverrun_dataflow::journal::JournalError;

use crate::store::Trouble;

/// Durable state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed (exit 74).
    #[error("cannot {act} {what}: {reason}")]
    Storage {
        /// What was attempted: `read`, `write`, `list`, `delete`, `lock`.
        act: &'static str,
        /// On which object.
        what: String,
        /// What the store said.
        reason: String,
    },
    /// What is stored cannot be used (exit 74).
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The object.
        what: String,
        /// How that was seen, and what can be done.
        reason: String,
    },
    /// A newer generation owns the job (exit 75).
    #[error("{0}")]
    Fenced(String),
    /// Another process runs the job (exit 75).
    #[error(
        "job `{job}` is already running: {holder} holds {lock}\n  hint: stop that process first, or give this run another --state"
    )]
    Held {
        /// The job.
        job: String,
        /// Who holds it.
        holder: String,
        /// The lock file.
        lock: String,
    },
    /// The job file changed under existing state (exit 78).
    #[error(
        "the plan of job `{job}` changed under existing state: the state was made by plan {stored}, this is plan {given}\n  hint: {}",
        ways_on(job)
    )]
    PlanChanged {
        /// The job.
        job: String,
        /// The plan hash in `job.json`.
        stored: String,
        /// The plan hash of this run.
        given: String,
    },
    /// An upgrade needs a drained job (exit 78).
    #[error(
        "job `{job}` is not drained: {reason}\n  hint: run it once more as it was, with the job file and the build it had, and stop it with SIGTERM or Ctrl-C (one that a manager keeps: `riverrun resume {job}`, `riverrun stop {job}`); then do this again"
    )]
    NotDrained {
        /// The job.
        job: String,
        /// What is left to be done.
        reason: String,
    },
    /// Recorded ticks must be derived again, but another build derived them first (exit 78).
    #[error(
        "job `{job}` has ticks {first} to {last} after its checkpoint that build {stored} derived; this build, {given}, may derive other bytes\n  hint: run the job with build {stored} until it stops cleanly (SIGTERM), then upgrade, or start over with --fresh"
    )]
    BuildChanged {
        /// The job.
        job: String,
        /// The build that wrote the journal.
        stored: String,
        /// This build.
        given: String,
        /// First tick after the checkpoint.
        first: u64,
        /// Last tick of the journal.
        last: u64,
    },
    /// There are no such recorded ticks (exit 3).
    #[error(
        "job `{job}` has no recorded ticks to derive again: {reason}\n  hint: `journal: {{ keep: all }}` in the job file keeps all ticks from the first on"
    )]
    NoPast {
        /// The job.
        job: String,
        /// Why there are none.
        reason: String,
    },
    /// Another plan or build derived the recorded ticks (exit 78).
    #[error("tick {tick} of job `{job}` was derived by {theirs}; this is {ours}\n  hint: {hint}")]
    PastOther {
        /// The job.
        job: String,
        /// The tick.
        tick: u64,
        /// The plan and the build that derived it.
        theirs: String,
        /// The plan and the build of this run.
        ours: String,
        /// The way out.
        hint: String,
    },
    /// The replay of this name is of another kind (exit 5).
    #[error("`{job}` is there already, {theirs}\n  hint: another --as is another replay, --fresh begins this one anew")]
    OtherReplay {
        /// The job that the replay is.
        job: String,
        /// What it was begun as.
        theirs: String,
    },
    /// The folder belongs to something else (exit 78).
    #[error("{folder} cannot be used for job `{job}`: {reason}")]
    OtherJob {
        /// The folder.
        folder: String,
        /// The job that was to be run.
        job: String,
        /// What is there instead.
        reason: String,
    },
    /// A later version of Riverrun wrote it (exit 78).
    #[error(
        "{what} has format version {found}, this build knows up to {known}\n  hint: run the version of riverrun that wrote it, or a later one"
    )]
    Newer {
        /// The object.
        what: String,
        /// Its version.
        found: u64,
        /// The newest version that is understood.
        known: u64,
    },
    /// No checkpoint can be used, and the journal does not reach back to the first tick (exit 74).
    #[error("job `{job}` cannot be restored: {}\n  hint: restore what is missing from a backup, or start over with --fresh", .reasons.join("; "))]
    NoCheckpoint {
        /// The job.
        job: String,
        /// Why each checkpoint was refused, newest first.
        reasons: Vec<String>,
    },
    /// There is no such savepoint (exit 78; 3 if a command was to show or delete it).
    #[error("job `{job}` has no savepoint `{name}`\n  hint: `riverrun checkpoints ls {job}` lists them")]
    NoSavepoint {
        /// The job.
        job: String,
        /// The name.
        name: String,
    },
    /// The name stands for another checkpoint (exit 5).
    #[error(
        "job `{job}` has a savepoint `{name}` already, of the checkpoint at tick {tick}\n  hint: choose another name, or delete it with `riverrun checkpoints unpin {job} {name}`"
    )]
    SavepointExists {
        /// The job.
        job: String,
        /// The name.
        name: String,
        /// Its tick.
        tick: u64,
    },
    /// A savepoint cannot be called so (exit 2).
    #[error("`{name}` cannot be the name of a savepoint: {reason}")]
    SavepointName {
        /// The name.
        name: String,
        /// What a name is made of.
        reason: String,
    },
}

impl StateError {
    /// Returns the failure of `act` on `what`, with the deepest cause put into words.
    pub fn storage(
        act: &'static str,
        what: impl Into<String>,
        error: &(dyn std::error::Error + 'static),
    ) -> StateError {
        StateError::Storage { act, what: what.into(), reason: reason_of(error) }
    }

    /// Returns that `what` is damaged.
    pub fn damaged(what: impl Into<String>, reason: impl Into<String>) -> StateError {
        StateError::Damaged { what: what.into(), reason: reason.into() }
    }
}

impl From<StateError> for JournalError {
    fn from(error: StateError) -> JournalError {
        match error {
            StateError::Storage { act: "write", what, reason } => JournalError::Storage { what, reason },
            StateError::Storage { act, what, reason } => {
                JournalError::Storage { what: "state".into(), reason: format!("cannot {act} {what}: {reason}") }
            }
            StateError::Damaged { what, reason } => JournalError::Damaged { what, reason },
            fenced => JournalError::Fenced(fenced.to_string()),
        }
    }
}

/// Returns the deepest cause of `error`, in words that say what to do where that is known.
fn reason_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        // It has said all there is to say.
        if let Some(trouble) = cause.downcast_ref::<Trouble>() {
            return trouble.to_string();
        }
        let Some(deeper) = cause.source() else { break };
        cause = deeper;
    }
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            format!("{cause}: the disk is full; free some space and run the job again, it goes on where it stopped")
        }
        Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            format!("{cause}: the state folder must be writable; choose another one with --state")
        }
        _ => cause.to_string(),
    }
}

/// Returns what can be done about a plan that changed: the name of a replay has its own after an `@`.
fn ways_on(job: &str) -> &'static str {
    match job.contains('@') {
        true => {
            "a replay is not upgraded: give this one another name with --as, go back to the job file as it was, or start over with --fresh"
        }
        false => {
            "drain the job and upgrade it (`riverrun upgrade JOB --dry-run` shows what becomes of its state), go back to the job file as it was, or start over with --fresh"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_as_such() {
        let error = StateError::storage("write", "x", &io::Error::from(io::ErrorKind::StorageFull));
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(matches!(JournalError::from(error), JournalError::Storage { .. }));
    }
}
