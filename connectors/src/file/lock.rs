//! The lock that holds a lane: an exclusive one on the output file itself, for as long as the process lives.

use std::fs::{File, TryLockError};
use std::path::Path;

use riverrun_dataflow::disk::{Disk, Opening};
use riverrun_dataflow::sink::SinkError;

/// Opens the output file at `path` for writing, creates it if need be, and locks it.
pub(super) fn open_locked(disk: &dyn Disk, path: &Path, what: &str) -> Result<File, SinkError> {
    let failed = |error: std::io::Error| SinkError::Write { what: what.to_owned(), reason: error.to_string() };
    if path.exists() && !path.is_file() {
        return Err(SinkError::Refused(format!(
            "{what} is not a regular file: rows cannot be appended to it exactly once"
        )));
    }
    let file = disk.open(path, Opening::Keep).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(SinkError::Fenced(format!("{what} is being written by another process: is the job running already?")))
        }
        Err(TryLockError::Error(error)) => {
            let reason = format!("it cannot be locked ({error}); network file systems are not supported");
            Err(SinkError::Write { what: what.to_owned(), reason })
        }
    }
}
