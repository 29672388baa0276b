//! The index of a sealed segment: where in the file an offset lies, and where timestamps first get past a point.
//!
//! It is sparse, written once when the segment is sealed, and only a help: where it is missing or damaged the segment is read
//! from its beginning.

use std::fs;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::frame::{Times, u64_at};
use super::segment::{Frame, SEGMENT_HEADER, SegmentName};

/// Bytes of segment between two entries.
const EVERY: u64 = 64 * 1024;
const ENTRY: usize = 24;
const MAGIC: [u8; 8] = *b"rrindex\x01";

/// A frame that can be found directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Offset of its first record.
    pub first: u64,
    /// Position of the frame.
    pub at: u64,
    /// Greatest timestamp of all records of the partition before it.
    pub greatest_before: i64,
}

/// The entries of one segment, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    greatest: Option<i64>,
}

impl Index {
    /// Returns the empty index of a segment before which the timestamps span `times`.
    pub fn after(times: Times) -> Index {
        Index { entries: Vec::new(), greatest: Some(times.greatest) }
    }

    /// Takes note of the next frame.
    pub fn note(&mut self, frame: &Frame) {
        if frame.header.records == 0 {
            return;
        }
        let greatest = self.greatest.unwrap_or(Times::NONE.greatest);
        if self.entries.last().is_none_or(|last| frame.at - last.at >= EVERY) {
            self.entries.push(Entry { first: frame.header.first, at: frame.at, greatest_before: greatest });
        }
        self.greatest = Some(greatest.max(frame.header.times.greatest));
    }

    /// Returns the position of a frame at or before the one that holds `offset`, and the offset there.
    pub fn before_offset(&self, offset: u64, base: u64) -> (u64, u64) {
        self.entry(self.entries.partition_point(|e| e.first <= offset), base)
    }

    /// Returns the position of a frame at or before the first that has a timestamp of `time` or greater.
    pub fn before_time(&self, time: i64, base: u64) -> (u64, u64) {
        self.entry(self.entries.partition_point(|e| e.greatest_before < time), base)
    }

    fn entry(&self, after: usize, base: u64) -> (u64, u64) {
        // Nothing is won by starting at the first entry, and from the beginning the whole segment is checked.
        match after.checked_sub(1).and_then(|i| self.entries.get(i)) {
            Some(entry) if after > 1 => (entry.at, entry.first),
            _ => (SEGMENT_HEADER, base),
        }
    }

    /// Returns the bytes of the index file of a sealed segment of `length` bytes.
    pub fn encode(&self, name: &SegmentName, length: u64) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.first.to_le_bytes());
            bytes.extend_from_slice(&entry.at.to_le_bytes());
            bytes.extend_from_slice(&entry.greatest_before.to_le_bytes());
        }
        let check = xxh3_64_with_seed(&bytes, name.seed);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Returns the index of a sealed segment of `length` bytes; the empty one if its file is not usable.
    pub fn load(name: &SegmentName, length: u64) -> Index {
        fs::read(name.index()).ok().and_then(|bytes| decode(&bytes, name, length)).unwrap_or_default()
    }
}

fn decode(bytes: &[u8], name: &SegmentName, length: u64) -> Option<Index> {
    let (content, check) = bytes.split_last_chunk::<8>()?;
    if xxh3_64_with_seed(content, name.seed) != u64::from_le_bytes(*check) {
        return None;
    }
    let entries = content.strip_prefix(&MAGIC)?.strip_prefix(&length.to_le_bytes())?;
    let entries = entries.chunks_exact(ENTRY).map(|e| Entry {
        first: u64_at(e, 0),
        at: u64_at(e, 8),
        greatest_before: u64_at(e, 16).cast_signed(),
    });
    Some(Index { entries: entries.collect(), greatest: None })
}
