//! A job's folder: `job.json` with what was fixed when the job was created, and the lock that one process holds.
//!
//! `--fresh` puts a new incarnation in the place of the old one so that a crash never leaves a mixture that looks valid:
//! the new `job.json` is first written as `fresh.json`; then `job.json`, log, floor and state are deleted, but for savepoints, which go
//! over; then `job.json` is created and `fresh.json` deleted. Whoever finds a `fresh.json` completes what was begun. Besides, the
//! first record of a log is chained to its incarnation.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use riverrun_dataflow::fail_point::reach;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StateError;
use crate::log::{LogReader, incarnation_mark};
use crate::record::{Digest, written_now};
use crate::savepoint::keep;
use crate::store::{Created, Store};

/// The format version of the folder that this build writes, and the newest that it reads.
pub const FORMAT: u64 = 1;

/// A job to be opened.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Its name.
    pub job: String,
    /// Hash of its plan.
    pub plan: String,
    /// What names the output semantics of this build.
    pub build: String,
    /// Shards; fixed when the job is created.
    pub shards: u16,
    /// Lanes of each sink, in the order of the graph; fixed when the job is created.
    pub lanes: Vec<SinkLanes>,
    /// Whether to go on or start over.
    pub begin: Begin,
    /// Who opens it.
    pub holder: Holder,
}

/// The lanes of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLanes {
    /// The sink's name.
    pub sink: String,
    /// How many lanes it has.
    pub lanes: u32,
}

/// Whether a job goes on or starts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// From where it stopped, or from the beginning if there is nothing yet.
    Continue,
    /// As a new incarnation; what the old one left in the folder is deleted, but for its savepoints.
    Fresh,
}

/// A process that runs a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// How many workers it has.
    pub workers: usize,
}

/// `job.json`: what was fixed when the job was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFile {
    /// The format version of the folder.
    pub format: u64,
    /// The job.
    pub job: String,
    /// A random id; tokens of another incarnation count as none.
    pub incarnation: String,
    /// Shards.
    pub shards: u16,
    /// Lanes of each sink, in the order of the graph.
    pub lanes: Vec<SinkLanes>,
    /// How keys become hashes.
    pub hash: String,
    /// Hash of the plan that it began with; an upgrade puts another in its place.
    pub plan: String,
    /// The build that created it.
    pub build: String,
    /// When it was created.
    pub created: String,
    /// It was created by `--fresh`: outputs of the incarnation before are replaced.
    pub fresh: bool,
    /// The savepoint that it begins from: its first record, not yet in the log perhaps, lies ready in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// xxh3_64 of all of the above: shards and lanes place every key, so a flipped bit here must not go unnoticed.
    pub xxh3: Digest,
}

/// The folder of a job.
#[derive(Clone, Debug)]
pub struct Folder {
    store: Arc<Store>,
    job: String,
    path: String,
}

/// An open job folder: locked, and its `job.json` fits.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub folder: Folder,
    /// What is fixed.
    pub file: JobFile,
    /// Held for life.
    pub lock: Option<Lock>,
}

/// The exclusive lock on a job; released when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Holder {
    /// Returns this process, with `workers` workers.
    pub fn here(workers: usize) -> Holder {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = host.or_else(|| std::env::var("HOSTNAME").ok()).map(|host| host.trim().to_string());
        Holder { host: host.unwrap_or_else(|| "localhost".into()), pid: std::process::id(), workers }
    }
}

/// Returns an id unlike any other: 128 bits, seeded by the operating system.
pub fn random_id() -> String {
    let word = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", word(), word())
}

impl Folder {
    /// Returns the folder of `job`.
    pub fn of(store: Arc<Store>, job: &str) -> Result<Folder, StateError> {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '@' | '.');
        if job.is_empty() || job.len() > 128 || job.starts_with('.') || !job.chars().all(letters) {
            let reason = "a job's name is letters, digits and `-`".into();
            return Err(StateError::OtherJob { folder: store.name("jobs"), job: job.to_string(), reason });
        }
        Ok(Folder { path: format!("jobs/{job}"), job: job.to_string(), store })
    }

    /// Returns the store it lies in.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns its path in the store.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the job's name.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Returns the path in the store of what is called `relative` in this folder.
    pub fn inside(&self, relative: &str) -> String {
        format!("{}/{relative}", self.path)
    }

    /// Returns the reader of the log of the incarnation in `file`.
    pub fn log(&self, file: &JobFile) -> LogReader {
        LogReader::new(self.store.clone(), &self.path, &file.incarnation)
    }

    /// Reads `job.json`; `None` if the job was never created here.
    pub fn read(&self) -> Result<Option<JobFile>, StateError> {
        self.read_file("job.json")
    }

    /// Returns whether a new incarnation is about to take the place of the one that is there.
    pub(crate) fn begins_anew(&self) -> Result<bool, StateError> {
        self.read_file("fresh.json").map(|next| next.is_some())
    }

    /// Locks the folder and makes sure that it is the one of `spec`, creating the job if there is none. Whether the plan is the
    /// job's is seen in the log.
    pub fn open(store: Arc<Store>, spec: &JobSpec) -> Result<Opened, StateError> {
        let folder = Folder::of(store, &spec.job)?;
        let lock = folder.lock(&spec.holder)?;
        reach("job.locked");
        folder.store.try_out(&folder.inside("probe"), &random_id())?;
        let file = match spec.begin {
            Begin::Continue => folder.go_on(spec)?,
            Begin::Fresh => folder.start_over(spec)?,
        };
        Ok(Opened { folder, file, lock })
    }

    fn go_on(&self, spec: &JobSpec) -> Result<JobFile, StateError> {
        if let Some(next) = self.read_file("fresh.json")? {
            return self.replace(next);
        }
        match (self.read()?, self.leftover()?) {
            (Some(file), _) => Ok(file),
            (None, None) => self.create(spec),
            (None, Some(path)) => Err(self.other(headless(&path))),
        }
    }

    /// Returns why a job that has no `job.json` cannot be looked at.
    pub(crate) fn without_description(&self) -> Result<StateError, StateError> {
        if self.begins_anew()? {
            return Ok(self.other("its start with --fresh was cut short; the next `riverrun run` completes it".into()));
        }
        Ok(match self.leftover()? {
            Some(path) => StateError::damaged(format!("the state of job `{}`", self.job), headless(&path)),
            None => self.other("the job never ran with this state folder".into()),
        })
    }

    fn start_over(&self, spec: &JobSpec) -> Result<JobFile, StateError> {
        // A job.json that is damaged or too new stands in nobody's way here; another job's does.
        let known = match self.read() {
            Err(error @ (StateError::OtherJob { .. } | StateError::Storage { .. })) => return Err(error),
            Ok(None) => false,
            _ => true,
        };
        // A start with --fresh that was cut short would be completed by the next start, over what comes of this one.
        let unfinished = match self.read_file("fresh.json") {
            Err(error @ (StateError::OtherJob { .. } | StateError::Storage { .. })) => return Err(error),
            read => !matches!(read, Ok(None)),
        };
        if !known && !unfinished && self.leftover()?.is_none() {
            return self.create(spec);
        }
        self.succeed(JobFile::new(spec))
    }

    /// Returns a file of an incarnation, if there is one.
    fn leftover(&self) -> Result<Option<String>, StateError> {
        for part in ["log", "floor", "state"] {
            if let Some(found) = self.store.list(&self.inside(part))?.first() {
                return Ok(Some(found.path.clone()));
            }
        }
        Ok(None)
    }

    fn create(&self, spec: &JobSpec) -> Result<JobFile, StateError> {
        let file = JobFile::new(spec);
        reach("job.create");
        let created = self.store.create(&self.inside("job.json"), file.bytes())?;
        reach("job.created");
        match created {
            Created::Ours => Ok(file),
            Created::Taken(_) => {
                Err(StateError::Fenced(format!("another process created job `{}` at the same time", self.job)))
            }
        }
    }

    /// Puts the incarnation `next` in the place of the one that is there.
    pub(crate) fn succeed(&self, next: JobFile) -> Result<JobFile, StateError> {
        // As long as nothing is given up yet: one that cannot be kept ends it here.
        keep::stand_alone(self)?;
        reach("fresh.note");
        self.store.put(&self.inside("fresh.json"), next.bytes())?;
        reach("fresh.noted");
        self.replace(next)
    }

    /// Deletes the old incarnation, without its savepoints, and puts `next` in its place; may be repeated after a crash at any
    /// point.
    fn replace(&self, next: JobFile) -> Result<JobFile, StateError> {
        let seed = seed_of(&next);
        let done = self.read().ok().flatten().is_some_and(|file| file.incarnation == next.incarnation);
        let mark = incarnation_mark(&next.incarnation);
        if !done {
            if self.store.local().is_none() {
                // Before anything of its log is gone: who still runs the old incarnation learns of it at its next append.
                self.store.create(&self.inside(&mark), Vec::new())?;
            }
            if let Ok(Some(_)) = self.read() {
                // Some may have been made since.
                keep::stand_alone(self)?;
            }
            let kept = keep::kept(self)?;
            self.delete(&["job.json".to_string()])?;
            for part in ["log", "floor", "state", "savepoints"] {
                let listed = self.store.list(&self.inside(part))?;
                let prefix = format!("{}/", self.path);
                let paths: Vec<String> = listed
                    .iter()
                    .map(|object| object.path.strip_prefix(&prefix).unwrap_or(&object.path).to_string())
                    .filter(|path| !path.starts_with(&seed) && *path != mark && !kept.contains(path))
                    .collect();
                self.delete(&paths)?;
                // What is gone already may have been deleted by one who was killed before he could make that durable.
                self.store.settle(&self.inside(part))?;
            }
            reach("fresh.deleted");
            let created = self.store.create(&self.inside("job.json"), next.bytes())?;
            reach("fresh.created");
            if let Created::Taken(_) = created {
                return Err(StateError::Fenced(format!(
                    "another process began job `{}` afresh at the same time",
                    self.job
                )));
            }
        }
        self.delete(&["fresh.json".to_string()])?;
        Ok(next)
    }

    /// Deletes files and makes that durable, folder by folder.
    fn delete(&self, paths: &[String]) -> Result<(), StateError> {
        if self.store.local().is_none() {
            reach("fresh.delete");
            let inside: Vec<String> = paths.iter().map(|path| self.inside(path)).collect();
            return self.store.delete_all(&inside);
        }
        let mut folders: Vec<&str> = Vec::new();
        for path in paths {
            reach("fresh.delete");
            self.store.delete(&self.inside(path))?;
            folders.push(path.rsplit_once('/').map_or("", |(folder, _)| folder));
        }
        folders.sort_unstable();
        folders.dedup();
        folders.iter().try_for_each(|folder| self.store.settle(self.inside(folder).trim_end_matches('/')))
    }

    fn read_file(&self, name: &str) -> Result<Option<JobFile>, StateError> {
        let path = self.inside(name);
        let Some(bytes) = self.store.get(&path)? else { return Ok(None) };
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let what = self.store.name(&path);
        if let Ok(Version { format }) = serde_json::from_slice::<Version>(&bytes)
            && format > FORMAT
        {
            return Err(StateError::Newer { what, found: format, known: FORMAT });
        }
        let file: JobFile = serde_json::from_slice(&bytes).map_err(|e| {
            StateError::damaged(
                what.clone(),
                format!("{e}\n  hint: restore it from a backup, or remove the job's folder"),
            )
        })?;
        if file.job != self.job {
            return Err(self.other(format!("its {name} is that of job `{}`", file.job)));
        }
        if file.hash != HASH {
            return Err(self
                .other(format!("its {name} says that keys are placed by `{}`, this build knows `{HASH}`", file.hash)));
        }
        if file.digest() != file.xxh3 {
            let reason = "its checksum does not fit\n  hint: restore it from a backup, or remove the job's folder";
            return Err(StateError::damaged(what, reason));
        }
        Ok(Some(file))
    }

    fn other(&self, reason: String) -> StateError {
        StateError::OtherJob { folder: self.store.name(&self.path), job: self.job.clone(), reason }
    }

    pub(crate) fn lock(&self, holder: &Holder) -> Result<Option<Lock>, StateError> {
        let Some(root) = self.store.local() else { return Ok(None) };
        let folder = root.join(&self.path);
        let path = folder.join("LOCK");
        let what = path.display().to_string();
        let failed = |e: std::io::Error| StateError::storage("write", what.clone(), &e);
        // The objects make durable what is written in here, not the folders above.
        self.store.keep_folder(&self.path).map_err(failed)?;
        for part in ["state", keep::APART, "savepoints"] {
            self.store.settle(&self.inside(part))?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        if !take(&file).map_err(|e| StateError::storage("lock", what.clone(), &e))? {
            return Err(StateError::Held { job: self.job.clone(), holder: describe(&mut file), lock: what });
        }
        let text = serde_json::to_string(holder).expect("a holder is always JSON");
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Some(Lock { _file: file }))
    }
}

/// Says that `path` is there and `job.json` is not.
fn headless(path: &str) -> String {
    format!("it has {path} but no job.json\n  hint: restore job.json from a backup, or start over with --fresh")
}

impl Lock {
    /// Returns whether a process runs the job in `folder` now; `None` where there are no locks.
    pub fn is_held(folder: &Folder) -> Option<bool> {
        let path = folder.store.local()?.join(&folder.path).join("LOCK");
        let file = File::open(path).ok()?;
        // A shared lock, given back at once, disturbs no one but a process that starts in this very moment.
        match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        }
    }
}

/// Locks `file` for this process alone. Someone who just looks whether it is locked holds a shared lock for a moment, and is
/// waited for.
fn take(file: &File) -> std::io::Result<bool> {
    for look in 0..LOOKS_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if file.try_lock_shared().is_err() {
            return Ok(false);
        }
        file.unlock()?;
        // Whoever looks may have been put to sleep by a busy machine in that very moment.
        match look < LOOKS_MAX / 2 {
            true => std::thread::yield_now(),
            false => std::thread::park_timeout(Duration::from_millis(1)),
        }
    }
    Ok(false)
}

fn describe(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read.ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok()) {
        Some(holder) => format!("process {} on {}", holder.pid, holder.host),
        None => "another process".into(),
    }
}

/// How often someone who only looks at the lock is waited for.
const LOOKS_MAX: usize = 1000;

/// How keys become hashes; fixed with the folder's format.
const HASH: &str = "xxh3_64";

impl JobFile {
    /// Returns a new incarnation that begins from a savepoint.
    pub(crate) fn seeded(spec: &JobSpec, savepoint: String) -> JobFile {
        let mut file = JobFile { savepoint: Some(savepoint), ..JobFile::new(spec) };
        file.xxh3 = file.digest();
        file
    }

    fn new(spec: &JobSpec) -> JobFile {
        let mut file = JobFile {
            format: FORMAT,
            job: spec.job.clone(),
            incarnation: random_id(),
            shards: spec.shards,
            lanes: spec.lanes.clone(),
            hash: HASH.into(),
            plan: spec.plan.clone(),
            build: spec.build.clone(),
            created: written_now(),
            fresh: spec.begin == Begin::Fresh,
            savepoint: None,
            xxh3: Digest(0),
        };
        file.xxh3 = file.digest();
        file
    }

    fn digest(&self) -> Digest {
        let unsealed = JobFile { xxh3: Digest(0), ..self.clone() };
        Digest(xxh3_64(&serde_json::to_vec(&unsealed).expect("job.json is always JSON")))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("job.json is always JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// Returns where, in the job's folder, lies what an incarnation begins with.
pub(crate) fn seed_of(file: &JobFile) -> String {
    format!("{}{}/", keep::APART, file.incarnation)
}

/// Returns the names of the jobs that have a folder in `store`.
pub fn jobs(store: &Store) -> Result<Vec<String>, StateError> {
    let Some(root) = store.local() else {
        let listed = store.list("jobs")?;
        let names = listed.iter().filter(|object| object.name == "job.json");
        return Ok(names.filter_map(|object| Some(object.path.split('/').nth_back(1)?.to_string())).collect());
    };
    let entries = match std::fs::read_dir(root.join("jobs")) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StateError::storage("list", store.name("jobs"), &e)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path: &std::path::PathBuf| Path::new(path).join("job.json").exists())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_string()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
