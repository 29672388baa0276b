//! How far a partition is durable: the bound up to which readers read, kept in a small file beside the segments.
//!
//! The writer stores the bound after each flush of the segment, so whatever state of this file a crash leaves names a part
//! of the segment that is durable. Readers follow a partition by reading these few bytes. The file is a help, not the truth:
//! where it is missing or old, the segment itself is read ([`super::settle`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use riverrun_dataflow::disk::{Disk, Opening};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Topic;
use super::error::TopicError;
use super::frame::{Times, u64_at};

/// The file's name.
pub(crate) const NAME: &str = "synced";
/// Two slots are written in turn: a torn write leaves the other one.
const SLOT: usize = 64;
const SLOTS: usize = 2;

/// A point in a partition at which everything before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The segment.
    pub base: u64,
    /// The position in the segment.
    pub length: u64,
    /// Offset of the next record.
    pub next: u64,
    /// Span of the timestamps of all records before.
    pub times: Times,
}

impl Bound {
    /// Returns whether `other` is further on.
    pub fn is_before(&self, other: &Bound) -> bool {
        (self.base, self.length) < (other.base, other.length)
    }
}

/// The file that holds the bound.
#[derive(Debug)]
pub(crate) struct SyncedFile {
    path: PathBuf,
    file: File,
    /// What seeds the checksums, so that the file of another partition does not pass for this one's.
    seed: u64,
    sequence: u64,
}

impl SyncedFile {
    /// Opens the file for reading, if there is one.
    pub fn open(topic: &Topic, partition: u32) -> Result<Option<SyncedFile>, TopicError> {
        let path = topic.partition_dir(partition).join(NAME);
        match File::open(&path) {
            Ok(file) => Ok(Some(SyncedFile { path, file, seed: seed(topic, partition), sequence: 0 })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(TopicError::io("open", &path, &e)),
        }
    }

    /// Opens the file for writing; creates it if it is missing.
    pub fn open_to_write(disk: &dyn Disk, topic: &Topic, partition: u32) -> Result<SyncedFile, TopicError> {
        let path = topic.partition_dir(partition).join(NAME);
        match disk.open(&path, Opening::Keep) {
            Ok(file) => Ok(SyncedFile { path, file, seed: seed(topic, partition), sequence: 0 }),
            Err(e) => Err(TopicError::io("open", &path, &e)),
        }
    }

    /// Returns the newest bound that was stored whole.
    pub fn load(&mut self) -> Result<Option<Bound>, TopicError> {
        let mut bytes = [0; SLOT * SLOTS];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TopicError::io("read", &self.path, &e)),
            }
        }
        let newest =
            bytes.chunks_exact(SLOT).filter_map(|slot| decode(slot, self.seed)).max_by_key(|(sequence, _)| *sequence);
        self.sequence = newest.map_or(self.sequence, |(sequence, _)| sequence);
        Ok(newest.map(|(_, bound)| bound))
    }

    /// Stores the bound of what is durable.
    pub fn store(&mut self, disk: &dyn Disk, bound: &Bound) -> Result<(), TopicError> {
        self.sequence += 1;
        let slot = (self.sequence % SLOTS as u64) * SLOT as u64;
        disk.write(&self.file, &self.path, &encode(self.sequence, bound, self.seed), slot)
            .map_err(|e| TopicError::io("write", &self.path, &e))
    }

    /// Returns whether the file was deleted, and the topic with it.
    pub fn is_gone(&self) -> bool {
        self.file.metadata().is_ok_and(|m| m.nlink() == 0)
    }
}

fn seed(topic: &Topic, partition: u32) -> u64 {
    xxh3_64(format!("{} {partition}", topic.id()).as_bytes())
}

fn encode(sequence: u64, bound: &Bound, seed: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let words = [
        sequence,
        bound.base,
        bound.length,
        bound.next,
        bound.times.least.cast_unsigned(),
        bound.times.greatest.cast_unsigned(),
    ];
    for (index, word) in words.into_iter().enumerate() {
        slot[index * 8..index * 8 + 8].copy_from_slice(&word.to_le_bytes());
    }
    let check = xxh3_64_with_seed(&slot[..SLOT - 8], seed);
    slot[SLOT - 8..].copy_from_slice(&check.to_le_bytes());
    slot
}

fn decode(slot: &[u8], seed: u64) -> Option<(u64, Bound)> {
    if xxh3_64_with_seed(&slot[..SLOT - 8], seed) != u64_at(slot, SLOT - 8) {
        return None;
    }
    let times = Times { least: u64_at(slot, 32).cast_signed(), greatest: u64_at(slot, 40).cast_signed() };
    let bound = Bound { base: u64_at(slot, 8), length: u64_at(slot, 16), next: u64_at(slot, 24), times };
    Some((u64_at(slot, 0), bound))
}

/// Returns the bytes of a file that holds `bound`.
pub(crate) fn beginning(topic: &Topic, partition: u32, bound: &Bound) -> Vec<u8> {
    let mut bytes = vec![0; SLOT * SLOTS];
    bytes[SLOT..2 * SLOT].copy_from_slice(&encode(1, bound, seed(topic, partition)));
    bytes
}
