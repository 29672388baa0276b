//! Savepoints: checkpoints that somebody named, which no collection deletes.
//!
//! A savepoint is a copy of a checkpoint's log record, tokens included, at `savepoints/{name}.json`. As long as it is there,
//! the files that it names stay, and so does the inputs record; the log after it is collected like any other. It
//! belongs to the incarnation of the job: `--fresh` deletes it with everything else.
//!
//! A job that runs may be collecting while a savepoint is made. Its collector raises the floor first and looks for
//! savepoints then; whoever makes one creates it first and looks at the floor then. So either the collector sees the
//! savepoint and spares its files, or the maker sees the floor and takes a later checkpoint.

use riverrun_dataflow::tick::Tick;

use crate::error::StateError;
use crate::file::load;
use crate::folder::Folder;
use crate::inspect::Look;
use crate::log::LogReader;
use crate::record::{Checkpoint, Header, Record, unseal_copy};
use crate::store::{Created, Store};

/// How often a checkpoint may be collected while it is being named.
const ATTEMPTS: usize = 5;

/// The longest name.
const NAME_MAX: usize = 100;

/// A named checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Savepoint {
    /// Its name.
    pub name: String,
    /// The header of the checkpoint's record: who published it when, with which build and plan.
    pub header: Header,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
}

/// Says why `name` cannot be the name of a savepoint, if it cannot.
pub fn check_name(name: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(letters) {
        return Err(format!("the name of a savepoint is letters, digits, `-`, `_` and `.`, at most {NAME_MAX}"));
    }
    Ok(())
}

/// Names the newest checkpoint of `job`, or the newest one at `tick`, after reading all its files back; `None` if there is no
/// such checkpoint. The same name for the same checkpoint again is success. The job may be running.
pub fn create(store: Store, job: &str, name: &str, tick: Option<Tick>) -> Result<Option<Savepoint>, StateError> {
    let Look { folder, reader, .. } = Look::at(store, job)?;
    let path = path_of(&folder, name)?;
    for _ in 0..ATTEMPTS {
        let Some(record) = reader.newest_checkpoint(tick)? else { return Ok(None) };
        let seq = record.header.seq;
        let Some(bytes) = reader.bytes(seq)? else { continue };
        let savepoint = parse(&folder, name, &bytes)?;
        if let Some(known) = find(&folder, name)? {
            return if known == savepoint { Ok(Some(known)) } else { Err(exists(&folder, known)) };
        }
        let whole = savepoint.checkpoint.files().try_for_each(|file| load(&folder, &file).map(|_| ()));
        if is_kept(&reader, seq)? {
            whole?;
            if let Created::Taken(theirs) = folder.store().create(&path, bytes.to_vec())? {
                return Err(exists(&folder, parse(&folder, name, &theirs)?));
            }
            if is_kept(&reader, seq)? {
                return Ok(Some(savepoint));
            }
            folder.store().delete(&path)?;
        }
    }
    let reason = "its checkpoints are collected faster than they can be read back; let it keep more of them".into();
    Err(StateError::Storage { act: "read", what: format!("the newest checkpoint of job `{job}`"), reason })
}

/// Returns the savepoints of `job`, by name.
pub fn list(store: Store, job: &str) -> Result<Vec<Savepoint>, StateError> {
    all(&Look::at(store, job)?.folder)
}

/// Returns the savepoint `name` of `job`.
pub fn read(store: Store, job: &str, name: &str) -> Result<Savepoint, StateError> {
    let folder = Look::at(store, job)?.folder;
    let missing = || StateError::NoSavepoint { job: job.to_string(), name: name.to_string() };
    find(&folder, name)?.ok_or_else(missing)
}

/// Deletes the savepoint `name` of `job`. Its files go with the next collection that finds nobody else needing them.
pub fn delete(store: Store, job: &str, name: &str) -> Result<(), StateError> {
    let folder = Look::at(store, job)?.folder;
    let path = path_of(&folder, name)?;
    // A damaged one can be deleted too.
    if folder.store().get(&path)?.is_none() {
        return Err(StateError::NoSavepoint { job: job.to_string(), name: name.to_string() });
    }
    folder.store().delete(&path)?;
    folder.store().settle(&folder.inside("savepoints"))
}

/// Returns the savepoints in `folder`, by name.
pub fn all(folder: &Folder) -> Result<Vec<Savepoint>, StateError> {
    let listed = folder.store().list(&folder.inside("savepoints"))?;
    let names = listed.iter().filter_map(|object| object.name.strip_suffix(".json"));
    // What was deleted since it was listed is gone.
    names.filter_map(|name| find(folder, name).transpose()).collect()
}

fn find(folder: &Folder, name: &str) -> Result<Option<Savepoint>, StateError> {
    let bytes = folder.store().get(&path_of(folder, name)?)?;
    bytes.map(|bytes| parse(folder, name, &bytes)).transpose()
}

/// Returns the record of which the savepoint `name` is a copy; `None` if there is none.
pub(crate) fn record(folder: &Folder, name: &str) -> Result<Option<Record>, StateError> {
    let path = path_of(folder, name)?;
    let what = || format!("savepoint {}", folder.store().name(&path));
    let bytes = folder.store().get(&path)?;
    bytes.map(|bytes| unseal_copy(&bytes, &what())).transpose()
}

fn parse(folder: &Folder, name: &str, bytes: &[u8]) -> Result<Savepoint, StateError> {
    let what = format!("savepoint {}", folder.store().name(&path_of(folder, name)?));
    let record = unseal_copy(bytes, &what)?;
    match record.body.checkpoint() {
        Some(checkpoint) => {
            Ok(Savepoint { name: name.to_string(), checkpoint: checkpoint.clone(), header: record.header })
        }
        None => Err(StateError::damaged(what, "it is not the record of a checkpoint")),
    }
}

fn path_of(folder: &Folder, name: &str) -> Result<String, StateError> {
    check_name(name).map_err(|reason| StateError::SavepointName { name: name.to_string(), reason })?;
    Ok(folder.inside(&format!("savepoints/{name}.json")))
}

fn exists(folder: &Folder, known: Savepoint) -> StateError {
    StateError::SavepointExists { job: folder.job().to_string(), name: known.name, tick: known.checkpoint.tick }
}

fn is_kept(reader: &LogReader, seq: u64) -> Result<bool, StateError> {
    Ok(reader.oldest_kept()? <= seq)
}

#[cfg(test)]
mod tests;
