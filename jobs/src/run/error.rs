//! Why a run failed, and what the process should exit with.

use riverrun_dataflow::engine::EngineError;
use riverrun_dataflow::journal::JournalError;
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
    /// The job's state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The running job failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<Report> for RunError {
    fn from(report: Report) -> RunError {
        RunError::Connect(report)
    }
}

impl RunError {
    pub(super) fn sink(sink: &str, error: SinkError) -> RunError {
        RunError::Engine(EngineError::Sink { sink: sink.to_owned(), error })
    }

    /// Returns the exit code of a process that ends with this error (OPERATIONS 5.4): 70 internal, 74 storage or sink,
    /// 75 fenced, 78 job or configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Connect(_) | RunError::Input(_) => 78,
            RunError::State(
                StateError::Storage { .. } | StateError::Damaged { .. } | StateError::NoCheckpoint { .. },
            ) => 74,
            RunError::State(StateError::Fenced(_) | StateError::Held { .. }) => 75,
            RunError::State(_) => 78,
            RunError::Engine(error) => engine_exit_code(error),
        }
    }
}

fn engine_exit_code(error: &EngineError) -> u8 {
    match error {
        EngineError::Source { error: SourceError::Changed { .. }, .. } => 78,
        EngineError::Source { .. } => 74,
        EngineError::BadRow { .. } => 1,
        EngineError::Sink { error: SinkError::Refused(_), .. } => 78,
        EngineError::Sink { error: SinkError::Fenced(_), .. } => 75,
        EngineError::Sink { .. } => 74,
        EngineError::Journal(JournalError::Fenced(_)) => 75,
        EngineError::Journal(_) => 74,
        EngineError::Step { .. }
        | EngineError::NotDeterministic { .. }
        | EngineError::Panic(_)
        | EngineError::Internal(_) => 70,
    }
}
