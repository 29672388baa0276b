//! Embedded topics: a durable, partitioned, append-only log in a folder.
//!
//! ```text
//! <dir>/<topic>/topic.json                 what the topic is: id, partitions, segment size
//! <dir>/<topic>/<partition>/<base>.log     a segment: checksummed frames of records, from offset <base> on
//! <dir>/<topic>/<partition>/<base>.idx     where offsets and times lie in a sealed segment; a help, can be missing
//! <dir>/<topic>/<partition>/synced         how far the last segment is durable; a help, can be missing
//! <dir>/<topic>/<partition>/writer         who writes, for the one that finds the partition taken
//! ```
//! **Promise.** A record that was acknowledged is there after any crash, once, at its offset, with the bytes it was given;
//! or reading stops with an error that names file and byte. Readers see records when they are durable, a sink's rows when
//! their commit is. What a reader has seen is never taken back.
//!
//! **Writers.** A partition has one writer at a time, which locks its folder: a [`Producer`], whose records count once they
//! are flushed, or a lane of a [`TopicSink`], which appends the rows of a commit and a token at once; without the token the
//! rows do not count and are cut by the next writer. Any number of processes read meanwhile ([`TopicSource`], [`Tail`]).
//!
//! **After a failed write or flush** a writer stops for good; opening the partition again finds out what is there.
//!
//! Network file systems, whose locks and flushes do not hold this promise, are not supported.

mod error;
mod frame;
mod index;
mod producer;
mod read;
mod segment;
mod settle;
mod sink;
mod source;
mod synced;
mod tail;
mod token;
mod writer;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use riverrun_dataflow::disk::{Disk, FileSystem, folder, folder_of, install};
use riverrun_dataflow::fail_point::reach;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use error::TopicError;
pub use frame::{NO_TIME, RECORD_MAX, Record};
pub use producer::{Partitioning, Placed, Producer, ProducerOptions};
pub use sink::TopicSink;
pub use source::TopicSource;
pub use tail::{Begin, Tail, TailRecord};

use frame::Times;
use segment::{Carried, SegmentName};
use synced::Bound;

/// The version of the format of `topic.json` and of everything beside it.
const FORMAT: u32 = 1;
const DESCRIPTION: &str = "topic.json";
const PARTITIONS_MAX: u32 = 4096;
const SEGMENT_BYTES_MIN: u64 = 1024;

/// What can be chosen when a topic is created.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Number of partitions, 1 to 4096; it never changes.
    pub partitions: u32,
    /// Size past which a segment is sealed and another one begun, 1 KiB or more.
    pub segment_bytes: u64,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions { partitions: 1, segment_bytes: 64 * 1024 * 1024 }
    }
}

/// A topic that exists.
#[derive(Clone, Debug)]
pub struct Topic {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    path: PathBuf,
    description: Description,
}

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    id: String,
    partitions: u32,
    segment_bytes: u64,
    created: i64,
    /// xxh3_64 of the fields above, in hexadecimal.
    check: String,
}

impl Description {
    fn checksum(&self) -> String {
        let Description { format, id, partitions, segment_bytes, created, .. } = self;
        format!("{:016x}", xxh3_64(format!("{format} {id} {partitions} {segment_bytes} {created}").as_bytes()))
    }
}

impl Topic {
    /// Opens the topic `name` in the folder `dir`.
    pub fn open(dir: &Path, name: &str) -> Result<Topic, TopicError> {
        check_name(name)?;
        let path = dir.join(name);
        let file = path.join(DESCRIPTION);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.is_dir() => {
                return Err(TopicError::Damaged {
                    what: format!("`{}`", path.display()),
                    reason: format!("it is no topic: there is no `{DESCRIPTION}` in it"),
                });
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing(dir, name)),
            Err(e) => return Err(TopicError::io("read", &file, &e)),
        };
        let damaged = |reason: String| TopicError::Damaged { what: format!("`{}`", file.display()), reason };
        let description: Description =
            serde_json::from_slice(&bytes).map_err(|e| damaged(format!("it does not describe a topic: {e}")))?;
        if description.check != description.checksum() {
            return Err(damaged("its checksum does not fit: it was edited or changed on disk".into()));
        }
        if description.format != FORMAT {
            return Err(damaged(format!("format {} is not known to this version", description.format)));
        }
        for partition in 0..description.partitions {
            if !path.join(partition.to_string()).is_dir() {
                return Err(TopicError::Damaged {
                    what: format!("topic `{name}`"),
                    reason: format!(
                        "partition {partition} is missing: there is no folder `{partition}` in `{}`",
                        path.display()
                    ),
                });
            }
        }
        Ok(Topic { place: Arc::new(Place { name: name.into(), path, description }) })
    }

    /// Creates the topic `name` in the folder `dir`, which is created too if need be.
    pub fn create(dir: &Path, name: &str, options: &CreateOptions) -> Result<Topic, TopicError> {
        check_name(name)?;
        check_options(options)?;
        Topic::create_on(&FileSystem, dir, name, options)
    }

    fn create_on(disk: &dyn Disk, dir: &Path, name: &str, options: &CreateOptions) -> Result<Topic, TopicError> {
        let path = dir.join(name);
        if path.exists() {
            return Err(exists(dir, name));
        }
        let mut description = Description {
            format: FORMAT,
            id: random_id(),
            partitions: options.partitions,
            segment_bytes: options.segment_bytes,
            created: now_micros(),
            check: String::new(),
        };
        description.check = description.checksum();
        // `~` is in no topic's name: a topic that is not whole yet is not listed.
        let staged = dir.join(format!("~{name}-{}", description.id));
        let topic = Topic { place: Arc::new(Place { name: name.into(), path: staged.clone(), description }) };
        let whole = topic.write_all(disk).inspect(|()| reach("topic.staged"));
        let created = whole.and_then(|()| match place(disk, &staged, &path) {
            Ok(()) => {
                reach("topic.placed");
                Ok(())
            }
            Err(e) if path.exists() => Err(if path.join(DESCRIPTION).exists() {
                exists(dir, name)
            } else {
                TopicError::io("create", &path, &e)
            }),
            Err(e) => Err(TopicError::io("create", &path, &e)),
        });
        if let Err(error) = created {
            // Best effort: what was staged is not a topic and hurts nobody.
            let _ = fs::remove_dir_all(&staged);
            return Err(error);
        }
        Topic::open(dir, name)
    }

    /// Opens the topic, creating it if it does not exist.
    pub fn open_or_create(dir: &Path, name: &str, options: &CreateOptions) -> Result<Topic, TopicError> {
        match Topic::open(dir, name) {
            Err(TopicError::Missing { .. }) => {}
            opened => return opened,
        }
        match Topic::create(dir, name, options) {
            // Another worker or process was faster.
            Err(TopicError::Exists { .. }) => Topic::open(dir, name),
            created => created,
        }
    }

    /// Returns the topics in the folder `dir` by name; those that cannot be opened with the reason.
    pub fn list(dir: &Path) -> Result<Vec<Listed>, TopicError> {
        let failed = |error: &io::Error| TopicError::io("list", dir, error);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(&e)),
        };
        let mut topics = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed(&e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if check_name(&name).is_ok() && entry.path().is_dir() {
                let topic = Topic::open(dir, &name);
                topics.push(Listed { name, topic });
            }
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Returns the topic's name.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Returns the id that it was given when it was created; a topic created anew has another.
    pub fn id(&self) -> &str {
        &self.place.description.id
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> u32 {
        self.place.description.partitions
    }

    /// Returns the size past which segments are sealed.
    pub fn segment_bytes(&self) -> u64 {
        self.place.description.segment_bytes
    }

    /// Returns when it was created, in microseconds since the epoch.
    pub fn created(&self) -> i64 {
        self.place.description.created
    }

    /// Returns what each partition holds now.
    pub fn describe(&self) -> Result<Vec<PartitionInfo>, TopicError> {
        (0..self.partitions()).map(|partition| read::describe(self, partition)).collect()
    }

    pub(crate) fn partition_dir(&self, partition: u32) -> PathBuf {
        self.place.path.join(partition.to_string())
    }

    pub(crate) fn partition_name(&self, partition: u32) -> String {
        format!("topic `{}` partition {partition}", self.name())
    }

    fn write_all(&self, disk: &dyn Disk) -> Result<(), TopicError> {
        let failed = |path: &Path, error: &io::Error| TopicError::io("create", path, error);
        let path = &self.place.path;
        folder(disk, path).map_err(|e| failed(path, &e))?;
        for partition in 0..self.partitions() {
            let dir = self.partition_dir(partition);
            folder(disk, &dir).map_err(|e| failed(&dir, &e))?;
            let segment = SegmentName::of(self, partition, 0);
            let beginning = segment.beginning(&Carried::EMPTY);
            let bound = Bound { base: 0, length: beginning.len() as u64, next: 0, times: Times::NONE };
            for (file, bytes) in
                [(segment.path, beginning), (dir.join(synced::NAME), synced::beginning(self, partition, &bound))]
            {
                put(disk, &file, &bytes).map_err(|e| failed(&file, &e))?;
            }
        }
        let file = path.join(DESCRIPTION);
        let mut bytes = serde_json::to_vec_pretty(&self.place.description).expect("a description is plain data");
        bytes.push(b'\n');
        put(disk, &file, &bytes).map_err(|e| failed(&file, &e))
    }
}

/// Puts a whole file of a topic in place, durably and at once.
fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    install(disk, &path.with_extension("tmp"), path, bytes)
}

/// Moves a whole, durable folder into place, durably; fails if there is a topic.
fn place(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    // A rename replaces an empty folder, which no topic is, and refuses any other.
    disk.rename(from, to)?;
    disk.sync_folder(folder_of(to))
}

/// A topic as it was found in its folder.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The topic, or why it cannot be opened.
    pub topic: Result<Topic, TopicError>,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The partition.
    pub partition: u32,
    /// Records that count; also the offset of the next one.
    pub records: u64,
    /// Bytes of all its segments.
    pub bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Least timestamp, in microseconds since the epoch.
    pub first: Option<i64>,
    /// Greatest timestamp.
    pub last: Option<i64>,
}

/// Checks that `name` can be a topic's.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".." {
        return Ok(());
    }
    Err(TopicError::Name(name.into()))
}

fn check_options(options: &CreateOptions) -> Result<(), TopicError> {
    if !(1..=PARTITIONS_MAX).contains(&options.partitions) {
        return Err(TopicError::Option(format!(
            "a topic has 1 to {PARTITIONS_MAX} partitions, not {}",
            options.partitions
        )));
    }
    if options.segment_bytes < SEGMENT_BYTES_MIN {
        return Err(TopicError::Option(format!(
            "a segment has at least {SEGMENT_BYTES_MIN} bytes, not {}",
            options.segment_bytes
        )));
    }
    Ok(())
}

fn missing(dir: &Path, name: &str) -> TopicError {
    TopicError::Missing { topic: name.into(), dir: dir.display().to_string() }
}

fn exists(dir: &Path, name: &str) -> TopicError {
    TopicError::Exists { topic: name.into(), dir: dir.display().to_string() }
}

/// Returns 128 random bits: the standard library seeds its hashers from the system's.
fn random_id() -> String {
    let half = || RandomState::new().hash_one((now_micros(), std::process::id()));
    format!("{:016x}{:016x}", half(), half())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a record that was produced without one is part of the record"
)]
fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
