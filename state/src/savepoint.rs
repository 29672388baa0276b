//! Savepoints: checkpoints that somebody named, which no collection deletes.
//!
//! A savepoint is a copy of a checkpoint's log record, tokens included, at `savepoints/{name}.json`. As long as it is there,
//! the files that it names stay, and so does the inputs record; the log after it is collected like any other. It
//! belongs to whoever named it, and goes over to every later incarnation of the job (`savepoint/keep.rs`).
//!
//! A job that runs may be collecting while a savepoint is made. Its collector raises the floor first and looks for
//! savepoints then; whoever makes one creates it first and looks at the floor then. So either the collector sees the
//! savepoint and spares its files, or the maker sees the floor and takes a later checkpoint.

pub(crate) mod keep;

use riverrun_dataflow::tick::Tick;

use crate::error::StateError;
use crate::file::load;
use crate::folder::Folder;
use crate::inspect::Look;
use crate::log::LogReader;
use crate::record::{Body, Checkpoint, Header, Record, unseal_copy};
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
    /// The shards of its state, if it is of an earlier incarnation than the job's, which may have others.
    pub shards: Option<u16>,
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
    let Look { folder, file, reader } = Look::at(store, job)?;
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
            let is_there = folder.read()?.is_some_and(|now| now.incarnation == file.incarnation);
            if is_there && is_kept(&reader, seq)? {
                return Ok(Some(savepoint));
            }
            folder.store().delete(&path)?;
            if !is_there {
                let reason = format!("job `{job}` was begun anew while its savepoint `{name}` was made");
                return Err(StateError::Fenced(reason));
            }
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

/// Returns the savepoints in `folder` that can be read, by name, and what is wrong with the others.
pub(crate) fn readable(folder: &Folder) -> Result<(Vec<Savepoint>, Vec<StateError>), StateError> {
    let listed = folder.store().list(&folder.inside("savepoints"))?;
    let (mut whole, mut broken) = (Vec::new(), Vec::new());
    for name in listed.iter().filter_map(|object| object.name.strip_suffix(".json")) {
        match find(folder, name) {
            Ok(found) => whole.extend(found),
            Err(error) => broken.push(error),
        }
    }
    Ok((whole, broken))
}

fn find(folder: &Folder, name: &str) -> Result<Option<Savepoint>, StateError> {
    Ok(read_record(folder, name)?.map(|record| of(name, record)))
}

/// Returns the record of savepoint `name`, which holds a checkpoint.
fn read_record(folder: &Folder, name: &str) -> Result<Option<Record>, StateError> {
    let bytes = folder.store().get(&path_of(folder, name)?)?;
    bytes.map(|bytes| parse_record(folder, name, &bytes)).transpose()
}

/// Returns the record of which the savepoint `name` is a copy; `None` if there is none.
pub(crate) fn record(folder: &Folder, name: &str) -> Result<Option<Record>, StateError> {
    read_record(folder, name)
}

fn parse(folder: &Folder, name: &str, bytes: &[u8]) -> Result<Savepoint, StateError> {
    Ok(of(name, parse_record(folder, name, bytes)?))
}

fn parse_record(folder: &Folder, name: &str, bytes: &[u8]) -> Result<Record, StateError> {
    let what = format!("savepoint {}", folder.store().name(&path_of(folder, name)?));
    let record = unseal_copy(bytes, &what).map_err(|error| match error {
        StateError::Damaged { what, reason } => damaged(folder, name, what, &reason),
        other => other,
    })?;
    match record.body.checkpoint() {
        Some(_) => Ok(record),
        None => Err(damaged(folder, name, what, "it is not the record of a checkpoint")),
    }
}

/// Says that `what`, without which savepoint `name` is worth nothing, is damaged, and what to do. `--fresh` helps nobody here: it keeps
/// savepoints.
fn damaged(folder: &Folder, name: &str, what: String, reason: &str) -> StateError {
    let reason = reason.split("\n  hint:").next().unwrap_or(reason);
    let job = folder.job();
    StateError::damaged(
        what,
        format!(
            "{reason}\n  hint: savepoint `{name}` needs it: restore it from a backup, or give the savepoint up with `riverrun checkpoints unpin {job} {name}`"
        ),
    )
}

fn of(name: &str, Record { header, body, .. }: Record) -> Savepoint {
    let name = name.to_owned();
    match body {
        Body::Upgrade(upgrade) => Savepoint { name, header, shards: upgrade.shards, checkpoint: upgrade.checkpoint },
        Body::Checkpoint(checkpoint) => Savepoint { name, header, shards: None, checkpoint: *checkpoint },
        Body::Generation(_) | Body::Inputs(_) | Body::Ticks(_) => unreachable!("it was seen to hold a checkpoint"),
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
pub(crate) mod tests;
