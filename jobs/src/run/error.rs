//! Why a run failed, and what the process should exit with.

use std::path::PathBuf;

use riverrun_dataflow::engine::{EngineError, StallCause};
use riverrun_dataflow::journal::JournalError;
use riverrun_dataflow::mesh::MeshError;
use riverrun_dataflow::sink::SinkError;
use riverrun_dataflow::source::SourceError;
use riverrun_state::StateError;

use crate::fault::Report;

/// A run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The job cannot be connected to the outside: faults with their places in the job file.
    #[error("the job cannot be connected to its sources and sinks")]
    Connect(Report),
    /// The input cannot be found.
    #[error(transparent)]
    Input(#[from] SourceError),
    /// The job cannot be upgraded as it stands, or has to be.
    #[error("{0}")]
    Upgrade(String),
    /// The job's state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The processes of the job do not come together, or one is lost.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The running job failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Recorded ticks cannot be derived again.
    #[error("{}", replayed(.0))]
    Replay(EngineError),
    /// The folder for a replay has something in it.
    #[error("folder `{}` is not empty\n  hint: a replay writes into a folder of its own; name another one with --out", .0.display())]
    NotEmpty(PathBuf),
    /// The job goes on until it is stopped, and is asked to end by itself.
    #[error(
        "source `{source_name}` of job `{job}` was begun without --until-end: it goes on until it is stopped\n  hint: run the job without --until-end, and stop it (SIGTERM) when it has what it is to have; or start over with --fresh"
    )]
    Endless {
        /// The job.
        job: String,
        /// The source.
        source_name: String,
    },
    /// The rows of a sink cannot be told apart in a file.
    #[error(
        "sink `{0}` writes Avro, whose rows have no end that can be seen in a file of rows\n  hint: --as NAME in the place of --out writes them to a topic as the job did, in a namespace of its own"
    )]
    NotSeparable(String),
}

impl From<Report> for RunError {
    fn from(report: Report) -> RunError {
        RunError::Connect(report)
    }
}

impl RunError {
    pub(crate) fn sink(sink: &str, error: SinkError) -> RunError {
        RunError::Engine(EngineError::Sink { sink: sink.to_owned(), error })
    }

    /// Returns the exit code of a process that ends with this error (OPERATIONS 5.3, 5.4): 3 not there, 5 in the way, 70
    /// internal, 74 storage or sink, 75 fenced or standing still, 78 job or configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Connect(_)
            | RunError::Input(_)
            | RunError::Upgrade(_)
            | RunError::Endless { .. }
            | RunError::NotSeparable(_) => 78,
            RunError::State(
                StateError::Storage { .. } | StateError::Damaged { .. } | StateError::NoCheckpoint { .. },
            ) => 74,
            RunError::State(StateError::Fenced(_) | StateError::Held { .. }) => 75,
            RunError::State(StateError::NoPast { .. }) => 3,
            RunError::State(StateError::SavepointExists { .. } | StateError::OtherReplay { .. }) => 5,
            RunError::State(_) => 78,
            RunError::NotEmpty(_) => 5,
            RunError::Mesh(error) => mesh_exit_code(error),
            RunError::Engine(error) | RunError::Replay(error) => engine_exit_code(error),
        }
    }
}

/// Says why recorded ticks cannot be derived again: what a live job would be advised to do is of no use here.
fn replayed(error: &EngineError) -> String {
    const INPUT: &str = "a replay needs the input as the job read it; --from-tick begins later, --to-tick ends earlier";
    match error {
        EngineError::Source { source, error: SourceError::Changed { what, reason } } => {
            format!("source `{source}`: {what} is not what the job read: {reason}\n  hint: {INPUT}")
        }
        EngineError::Source { .. } => format!("{error}\n  hint: {INPUT}"),
        EngineError::NotDeterministic { what, tick } => {
            format!("{what}, tick {tick}: the replay gives other rows than the journal says the live run gave")
        }
        other => other.to_string(),
    }
}

fn mesh_exit_code(error: &MeshError) -> u8 {
    match error {
        MeshError::Config(_) | MeshError::Mismatch { .. } => 78,
        MeshError::Absent { .. }
        | MeshError::Occupied { .. }
        | MeshError::Superseded { .. }
        | MeshError::Lost { .. }
        | MeshError::Stopped => 75,
        MeshError::Unreadable { .. } => 70,
    }
}

fn engine_exit_code(error: &EngineError) -> u8 {
    match error {
        EngineError::Source {
            error: SourceError::Changed { .. } | SourceError::Lost { .. } | SourceError::Gone { .. },
            ..
        } => 78,
        EngineError::Source { .. } => 74,
        EngineError::BadRow { .. } => 1,
        EngineError::Sink { error: SinkError::Refused(_), .. } => 78,
        EngineError::Sink { error: SinkError::Fenced(_), .. } => 75,
        EngineError::Sink { .. } => 74,
        EngineError::Journal(JournalError::Fenced(_)) => 75,
        EngineError::Journal(_) => 74,
        EngineError::Stalled(stall) => match stall.cause {
            StallCause::Inside => 75,
            StallCause::Outside => 74,
        },
        EngineError::Mesh(error) => mesh_exit_code(error),
        EngineError::Step { .. }
        | EngineError::NotDeterministic { .. }
        | EngineError::Panic(_)
        | EngineError::Wire(_)
        | EngineError::Internal(_) => 70,
    }
}
