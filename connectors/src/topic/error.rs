//! Every failure of a topic, and what it is to a source or a sink.

use std::io;
use std::path::Path;

use riverrun_dataflow::sink::SinkError;
use riverrun_dataflow::source::SourceError;

/// A topic cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The name cannot be a topic's.
    #[error(
        "`{0}` cannot name a topic\nhint: use 1 to 249 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`, but not `.` or `..`"
    )]
    Name(String),
    /// An option has a value that cannot be.
    #[error("{0}")]
    Option(String),
    /// There is no such topic.
    #[error("topic `{topic}` does not exist in `{dir}`\nhint: create it with `riverrun topic create {topic}`")]
    Missing {
        /// The topic.
        topic: String,
        /// The folder of topics.
        dir: String,
    },
    /// There is such a topic already.
    #[error("topic `{topic}` exists already in `{dir}`")]
    Exists {
        /// The topic.
        topic: String,
        /// The folder of topics.
        dir: String,
    },
    /// Another writer holds the partition.
    #[error(
        "{what} is being written by {holder}\nhint: a partition has one writer at a time; stop the other one first"
    )]
    Held {
        /// The partition.
        what: String,
        /// What the other writer said of itself.
        holder: String,
    },
    /// A position that the partition does not have.
    #[error("{what} has no position {position}: it ends at {end}")]
    OutOfRange {
        /// The partition.
        what: String,
        /// The position that was asked for.
        position: u64,
        /// Where the partition ends.
        end: u64,
    },
    /// The topic is not the one it was.
    #[error("{what} was deleted or created anew")]
    Changed {
        /// The topic.
        what: String,
    },
    /// A record that no topic takes.
    #[error("{what} takes no record of {bytes} bytes: the limit is {limit}")]
    TooLong {
        /// The partition.
        what: String,
        /// The length of key and value.
        bytes: usize,
        /// The greatest length.
        limit: usize,
    },
    /// What is stored is not what was written.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// The file.
        what: String,
        /// How that was seen.
        reason: String,
    },
    /// A writer whose last write failed was used again.
    #[error("{what} is not written any more after a failed write\nhint: open it again; what was acknowledged is safe")]
    Failed {
        /// The partition.
        what: String,
    },
    /// The file system failed.
    #[error("cannot {act} `{path}`: {reason}")]
    Io {
        /// What was attempted.
        act: &'static str,
        /// The file or folder.
        path: String,
        /// What the system said, with a hint where there is one.
        reason: String,
    },
}

impl TopicError {
    /// Returns the error of a failed call to the file system.
    pub(crate) fn io(act: &'static str, path: &Path, error: &io::Error) -> TopicError {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "\nhint: what was acknowledged is safe; free some space and start again"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "\nhint: the folder must be writable by this user; topics may lie elsewhere: `--topics DIR`"
            }
            _ => "",
        };
        TopicError::Io { act, path: path.display().to_string(), reason: format!("{error}{hint}") }
    }

    /// Returns the error of stored bytes that are not what was written.
    pub(crate) fn damaged(path: &Path, at: u64, reason: impl std::fmt::Display) -> TopicError {
        TopicError::Damaged {
            what: format!("`{}`", path.display()),
            reason: format!(
                "at byte {at}: {reason}\nhint: nothing was changed or skipped; restore the file from a copy"
            ),
        }
    }
}

impl From<TopicError> for SourceError {
    fn from(error: TopicError) -> SourceError {
        match error {
            TopicError::Damaged { what, reason } => SourceError::Damaged { what, reason },
            TopicError::Changed { what } => {
                SourceError::Changed { what, reason: "it was deleted or created anew".into() }
            }
            TopicError::OutOfRange { what, position, end } => SourceError::Changed {
                what,
                reason: format!("position {position} was read before, but now it ends at {end}"),
            },
            TopicError::Io { path, reason, .. } => SourceError::Read { what: format!("`{path}`"), reason },
            TopicError::Missing { topic, dir } => SourceError::Read {
                what: format!("topic `{topic}`"),
                reason: format!("it does not exist in `{dir}`\nhint: create it with `riverrun topic create {topic}`"),
            },
            other => SourceError::Read { what: "a topic".into(), reason: other.to_string() },
        }
    }
}

impl From<TopicError> for SinkError {
    fn from(error: TopicError) -> SinkError {
        match error {
            TopicError::Damaged { what, reason } => SinkError::Damaged { what, reason },
            TopicError::TooLong { what, bytes, limit } => {
                SinkError::Write { what, reason: format!("a row of {bytes} bytes is too long: the limit is {limit}") }
            }
            TopicError::Failed { what } => SinkError::Write { what, reason: "a write failed before".into() },
            TopicError::Held { .. } => SinkError::Fenced(error.to_string()),
            TopicError::Name(_) | TopicError::Option(_) | TopicError::Missing { .. } => {
                SinkError::Refused(error.to_string())
            }
            TopicError::Io { path, reason, .. } => SinkError::Write { what: format!("`{path}`"), reason },
            other => SinkError::Write { what: "a topic".into(), reason: other.to_string() },
        }
    }
}
