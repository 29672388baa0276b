//! The manager's database: one file, in which everything stands that a manager must know when it comes back.
//!
//! One writer at a time, and what is written is durable when the call returns. The file is locked as long as it is open: a second
//! manager on the same folder is refused.

use std::path::Path;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decide::Step;
use super::history::History;
use super::keys::Key;
use super::moment::Moment;
use super::record::{Job, Operation, OperationState, Underway};

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// By the job's name.
const JOBS: Table = TableDefinition::new("jobs");
/// By the job's name: what happened to it.
const HISTORIES: Table = TableDefinition::new("histories");
/// By the operation's id.
const OPERATIONS: Table = TableDefinition::new("operations");
/// Ids of operations, by who asked and the key that they gave.
const REPEATS: Table = TableDefinition::new("repeats");
/// By the id of the API key.
const KEYS: Table = TableDefinition::new("keys");
/// What was asked for, by a number that grows.
const AUDIT: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("audit");
/// Facts about the file itself.
const ABOUT: Table = TableDefinition::new("about");

/// The form of what stands in the file.
const FORMAT: &[u8] = b"1";
/// So many operations are kept that have ended.
const OPERATIONS_MAX: usize = 1000;
/// So many entries of the audit log are kept in the database.
const AUDIT_MAX: u64 = 100_000;

/// What came in the way.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another manager has it.
    #[error(
        "another manager uses the folder `{0}`\n  hint: stop that one first, or give this one a folder of its own: --data DIR"
    )]
    Held(String),
    /// It was written by another version.
    #[error(
        "the database is of the form {0}, and this version knows 1\n  hint: use the version that wrote it, or a later one"
    )]
    Form(String),
    /// The file cannot be read or written.
    #[error("the manager's database failed: {0}")]
    Failed(String),
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> StoreError {
                StoreError::Failed(error.to_string())
            }
        }

        impl<E> From<$error> for ChangeError<E> {
            fn from(error: $error) -> ChangeError<E> {
                ChangeError::Store(error.into())
            }
        })*
    };
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

/// Why a change did not happen: the store failed, or whoever wanted it changed their mind.
#[derive(Debug)]
pub enum ChangeError<E> {
    /// The store failed.
    Store(StoreError),
    /// It was refused.
    Refused(E),
}

impl<E> From<StoreError> for ChangeError<E> {
    fn from(error: StoreError) -> ChangeError<E> {
        ChangeError::Store(error)
    }
}

/// What was asked of the manager, and what came of it.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// When.
    pub at: Moment,
    /// Who: the id of the API key, or `anonymous`.
    pub who: String,
    /// From where.
    pub from: String,
    /// What: the method and the path.
    pub what: String,
    /// The job, if it was about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The id of the request.
    pub request: String,
}

/// The database.
#[derive(Debug)]
pub struct Store {
    db: Database,
}

impl Store {
    /// Opens the database in `folder`, or makes it.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        let db = Database::create(folder.join("manager.redb")).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Held(folder.display().to_string()),
            error => StoreError::Failed(error.to_string()),
        })?;
        let write = db.begin_write()?;
        {
            for table in [JOBS, HISTORIES, OPERATIONS, REPEATS, KEYS] {
                write.open_table(table)?;
            }
            write.open_table(AUDIT)?;
            let mut about = write.open_table(ABOUT)?;
            let known = about.get("form")?.map(|form| form.value().to_vec());
            match known {
                None => drop(about.insert("form", FORMAT)?),
                Some(form) if form == FORMAT => {}
                Some(form) => return Err(StoreError::Form(String::from_utf8_lossy(&form).into_owned())),
            }
        }
        write.commit()?;
        Ok(Store { db })
    }

    /// Returns a job.
    pub fn job(&self, name: &str) -> Result<Option<Job>, StoreError> {
        self.get(JOBS, name)
    }

    /// Returns all jobs, by name.
    pub fn jobs(&self) -> Result<Vec<Job>, StoreError> {
        self.all(JOBS)
    }

    /// Returns what happened to a job, but for the start that is under way.
    pub fn history(&self, name: &str) -> Result<History, StoreError> {
        Ok(self.get(HISTORIES, name)?.unwrap_or_default())
    }

    /// Writes a step of a job's life down, unless the job was changed since it was decided. Returns whether it was written.
    pub fn step(&self, before: &Job, step: &Step) -> Result<bool, StoreError> {
        let write = self.db.begin_write()?;
        if get_in::<Job>(&write, JOBS, &before.name)?.as_ref() != Some(before) {
            return Ok(false);
        }
        put_in(&write, JOBS, &before.name, &step.job)?;
        if !step.past.is_empty() {
            let mut history: History = get_in(&write, HISTORIES, &before.name)?.unwrap_or_default();
            history.add(step.past.clone());
            put_in(&write, HISTORIES, &before.name, &history)?;
        }
        if let Some((id, state, message)) = &step.ended {
            end_in(&write, id, *state, message.clone())?;
        }
        write.commit()?;
        Ok(true)
    }

    /// Changes a job, or makes it, together with the operation that this begins. `change` is given the job as it is.
    ///
    /// With the key of a request that was made before, nothing is changed, and the operation that it began is returned.
    pub fn change<E>(
        &self,
        name: &str,
        repeat: Option<&str>,
        change: impl FnOnce(Option<Job>) -> Result<(Job, Option<Operation>), E>,
    ) -> Result<(Job, Option<Operation>), ChangeError<E>> {
        let write = self.db.begin_write()?;
        let before = get_in::<Job>(&write, JOBS, name)?;
        if let (Some(repeat), Some(job)) = (repeat, &before)
            && let Some(id) = get_in::<String>(&write, REPEATS, repeat)?
        {
            return Ok((job.clone(), get_in(&write, OPERATIONS, &id)?));
        }
        let former = before.as_ref().and_then(|job| job.operation.clone());
        let (mut job, operation) = change(before).map_err(ChangeError::Refused)?;
        if let Some(operation) = &operation {
            if let Some(Underway { id, .. }) = former {
                end_in(&write, &id, OperationState::Failed, Some("something else was asked for meanwhile".to_owned()))?;
            }
            put_in(&write, OPERATIONS, &operation.id, operation)?;
            if let Some(repeat) = repeat {
                put_in(&write, REPEATS, repeat, &operation.id)?;
            }
            sweep(&write)?;
        } else {
            job.operation = former;
        }
        put_in(&write, JOBS, name, &job)?;
        write.commit()?;
        Ok((job, operation))
    }

    /// Forgets a job; the operation that was under way is done.
    pub fn forget(&self, job: &Job) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        write.open_table(JOBS)?.remove(job.name.as_str())?;
        write.open_table(HISTORIES)?.remove(job.name.as_str())?;
        if let Some(underway) = &job.operation {
            end_in(&write, &underway.id, OperationState::Succeeded, None)?;
        }
        Ok(write.commit()?)
    }

    /// Returns an operation.
    pub fn operation(&self, id: &str) -> Result<Option<Operation>, StoreError> {
        self.get(OPERATIONS, id)
    }

    /// Returns all API keys.
    pub fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.all(KEYS)
    }

    /// Returns an API key.
    pub fn key(&self, id: &str) -> Result<Option<Key>, StoreError> {
        self.get(KEYS, id)
    }

    /// Writes an API key down.
    pub fn put_key(&self, key: &Key) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        put_in(&write, KEYS, &key.id, key)?;
        Ok(write.commit()?)
    }

    /// Deletes an API key, and returns whether there was one.
    pub fn delete_key(&self, id: &str) -> Result<bool, StoreError> {
        let write = self.db.begin_write()?;
        let there = write.open_table(KEYS)?.remove(id)?.is_some();
        write.commit()?;
        Ok(there)
    }

    /// Writes down what was asked for. What is there is never changed, only the oldest is left out at last.
    pub fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        {
            let mut table = write.open_table(AUDIT)?;
            let last = table.last()?.map_or(0, |(number, _)| number.value());
            table.insert(last + 1, to_json(entry).as_slice())?;
            if last >= AUDIT_MAX {
                table.retain(|number, _| number + AUDIT_MAX > last)?;
            }
        }
        Ok(write.commit()?)
    }

    /// Returns the newest entries of the audit log, the newest first.
    pub fn audited(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let read = self.db.begin_read()?;
        let table = read.open_table(AUDIT)?;
        let mut found = Vec::new();
        for entry in table.iter()?.rev().take(limit) {
            found.push(from_json(entry?.1.value())?);
        }
        Ok(found)
    }

    fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>, StoreError> {
        let read = self.db.begin_read()?;
        let table = read.open_table(table)?;
        table.get(key)?.map(|value| from_json(value.value())).transpose()
    }

    fn all<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, StoreError> {
        let read = self.db.begin_read()?;
        let table = read.open_table(table)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            found.push(from_json(entry?.1.value())?);
        }
        Ok(found)
    }
}

fn get_in<T: DeserializeOwned>(write: &WriteTransaction, table: Table, key: &str) -> Result<Option<T>, StoreError> {
    let table = write.open_table(table)?;
    table.get(key)?.map(|value| from_json(value.value())).transpose()
}

fn put_in(write: &WriteTransaction, table: Table, key: &str, value: &impl Serialize) -> Result<(), StoreError> {
    write.open_table(table)?.insert(key, to_json(value).as_slice())?;
    Ok(())
}

fn end_in(
    write: &WriteTransaction,
    id: &str,
    state: OperationState,
    message: Option<String>,
) -> Result<(), StoreError> {
    match get_in::<Operation>(write, OPERATIONS, id)? {
        Some(operation) if operation.state == OperationState::Running => {
            let ended = Some(Moment::now());
            put_in(write, OPERATIONS, id, &Operation { state, message, ended, ..operation })
        }
        _ => Ok(()),
    }
}

/// Leaves out the oldest operations that have ended, and the keys of requests that began them.
fn sweep(write: &WriteTransaction) -> Result<(), StoreError> {
    let mut ended: Vec<(Moment, String)> = Vec::new();
    let mut table = write.open_table(OPERATIONS)?;
    for entry in table.iter()? {
        let operation: Operation = from_json(entry?.1.value())?;
        if let Some(at) = operation.ended {
            ended.push((at, operation.id));
        }
    }
    if ended.len() <= OPERATIONS_MAX {
        return Ok(());
    }
    ended.sort();
    for (_, id) in &ended[..ended.len() - OPERATIONS_MAX] {
        table.remove(id.as_str())?;
    }
    drop(table);
    let old: Vec<String> = ended[..ended.len() - OPERATIONS_MAX].iter().map(|(_, id)| id.clone()).collect();
    let mut repeats = write.open_table(REPEATS)?;
    repeats.retain(|_, id| from_json::<String>(id).is_ok_and(|id| !old.contains(&id)))?;
    Ok(())
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types are representable")
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Failed(format!("a record in it is damaged: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::phase::Phase;
    use crate::manager::record::Spec;

    fn job(name: &str) -> Job {
        let spec: Spec = serde_json::from_str(r#"{"file":"f","text":"t"}"#).unwrap();
        Job::new(name, spec, Moment(0))
    }

    fn operation(id: &str, job: &mut Job) -> Operation {
        job.operation = Some(Underway { id: id.to_owned(), goal: Phase::Running });
        let state = OperationState::Running;
        Operation {
            id: id.to_owned(),
            job: job.name.clone(),
            kind: "x".to_owned(),
            state,
            created: Moment(0),
            ended: None,
            message: None,
        }
    }

    fn begun(store: &Store, id: &str, repeat: Option<&str>) -> Option<Operation> {
        let changed = store.change::<()>("a", repeat, |known| {
            let mut job = known.unwrap_or_else(|| job("a"));
            let operation = operation(id, &mut job);
            Ok((job, Some(operation)))
        });
        changed.unwrap().1
    }

    #[test]
    fn what_is_written_is_there_after_a_restart_and_nobody_else_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        begun(&store, "1", None);
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Held(_))));
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.jobs().unwrap().len(), 1);
        assert_eq!(store.operation("1").unwrap().unwrap().state, OperationState::Running);
    }

    #[test]
    fn a_step_that_was_decided_on_another_record_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        begun(&store, "1", None);
        let before = store.job("a").unwrap().unwrap();
        begun(&store, "2", None);
        let ended = Some(("1".to_owned(), OperationState::Succeeded, None));
        let step = Step { job: Job { revision: 9, ..before.clone() }, ended, past: History::default() };
        assert!(!store.step(&before, &step).unwrap());
        assert_eq!(store.job("a").unwrap().unwrap().revision, 1);
        let now = store.job("a").unwrap().unwrap();
        let step = Step {
            job: Job { revision: 9, ..now.clone() },
            ended: Some(("2".to_owned(), OperationState::Succeeded, None)),
            past: History::default(),
        };
        assert!(store.step(&now, &step).unwrap());
        assert_eq!(store.operation("2").unwrap().unwrap().state, OperationState::Succeeded);
    }

    #[test]
    fn a_request_that_is_repeated_begins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(begun(&store, "1", Some("key")).unwrap().id, "1");
        assert_eq!(begun(&store, "2", Some("key")).unwrap().id, "1");
        assert_eq!(begun(&store, "3", Some("other")).unwrap().id, "3");
        let superseded = store.operation("1").unwrap().unwrap();
        assert_eq!(superseded.state, OperationState::Failed, "something else was asked for");
    }

    #[test]
    fn refused_changes_leave_no_trace_and_the_audit_log_only_grows() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let refused = store.change("a", None, |_| Err::<(Job, Option<Operation>), _>("no"));
        assert!(matches!(refused, Err(ChangeError::Refused("no"))) && store.jobs().unwrap().is_empty());
        let entry = |number: u16| AuditEntry {
            at: Moment(0),
            who: "w".to_owned(),
            from: "f".to_owned(),
            what: "x".to_owned(),
            job: None,
            status: number,
            request: "r".to_owned(),
        };
        (1..=3).for_each(|number| store.audit(&entry(number)).unwrap());
        let seen: Vec<u16> = store.audited(2).unwrap().iter().map(|entry| entry.status).collect();
        assert_eq!(seen, [3, 2]);
    }
}
