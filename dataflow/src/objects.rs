//! The contract of a place for whole objects: a local folder, or a bucket.
//!
//! Objects are written once, whole, and durable when the call returns. Everything that must not happen twice rests on
//! [`Objects::create`]: of all who create the same object, one succeeds.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;

/// A place for objects. Calls block.
pub trait Objects: fmt::Debug + Send + Sync {
    /// Returns how a person finds the object `path`; the empty path is the place itself.
    fn name(&self, path: &str) -> String;

    /// Creates `path` unless it exists. That an earlier, unanswered attempt already succeeded is success.
    fn create(&self, path: &str, bytes: Bytes) -> Result<Created, ObjectsError>;

    /// Writes `path`, replacing what is there.
    fn put(&self, path: &str, bytes: Bytes) -> Result<(), ObjectsError>;

    /// Reads `path`; `None` if there is no such object.
    fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError>;

    /// Gives the object `from` the path `to`, in place of what is there. Returns whether there was an object `from`. Where this is
    /// not one act, both paths hold the object for a moment.
    fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError>;

    /// Returns all objects below the folder `prefix`, by path.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError>;

    /// Deletes `paths`; that one is gone already is success.
    fn delete(&self, paths: &[String]) -> Result<(), ObjectsError>;

    /// Removes what writes that never ended left before that time, where a place keeps such things: no listing shows them. Only
    /// of objects whose paths `is_ours` knows.
    fn discard_unfinished(&self, _before: SystemTime, _is_ours: &dyn Fn(&str) -> bool) -> Result<(), ObjectsError> {
        Ok(())
    }
}

/// What became of a create.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// The object holds the given bytes, from now on or since an earlier attempt of the same call.
    Ours,
    /// The object exists and holds these other bytes.
    Taken(Bytes),
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// A place for objects failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {act} {what}: {reason}")]
pub struct ObjectsError {
    /// What was attempted: `read`, `write`, `list`, `delete`.
    pub act: &'static str,
    /// On which object.
    pub what: String,
    /// What the system said.
    pub reason: String,
}
