//! What can be wrong with a lake.

use riverrun_dataflow::objects::ObjectsError;
use riverrun_dataflow::sink::SinkError;

/// A lake cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The folder or bucket failed (exit 74).
    #[error(transparent)]
    Objects(#[from] ObjectsError),
    /// What is stored is damaged (exit 74).
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The object.
        what: String,
        /// How that was seen.
        reason: String,
    },
    /// Someone must decide first (exit 78).
    #[error("{0}")]
    Refused(String),
    /// A later start of the job writes to the lake (exit 75).
    #[error("{0}")]
    Fenced(String),
}

impl From<LakeError> for SinkError {
    fn from(error: LakeError) -> SinkError {
        match error {
            LakeError::Objects(ObjectsError { act: "write", what, reason }) => SinkError::Write { what, reason },
            LakeError::Objects(error) => {
                let reason = format!("cannot {} {}: {}", error.act, error.what, error.reason);
                SinkError::Write { what: "the lake".to_owned(), reason }
            }
            LakeError::Damaged { what, reason } => SinkError::Damaged { what, reason },
            LakeError::Refused(reason) => SinkError::Refused(reason),
            LakeError::Fenced(reason) => SinkError::Fenced(reason),
        }
    }
}
