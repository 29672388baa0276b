//! Frames: the checksummed unit in which a segment grows, and the records inside.
//!
//! ```text
//! segment  [segment header][carried frame] frame*
//! frame    [header: 64 bytes][payload]
//! payload  of records: ([value length u32][key length u32][timestamp i64][key][value])*, else JSON
//! ```
//! Numbers are little endian. A header's checksum is seeded with its segment and its place, so that no bytes that were
//! written for another place pass for a frame here. Records are framed alike whatever the frame around them: the bytes of a
//! range of records do not depend on how they were grouped when they were written.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Length of a frame's header.
pub(crate) const HEADER: usize = 64;
/// Length of what stands before a record's key and value.
pub(crate) const RECORD_HEADER: usize = 16;
/// Greatest length of a record's key and value together.
pub const RECORD_MAX: usize = 64 * 1024 * 1024;
/// A frame is closed when another record would take its payload past this.
pub(crate) const PAYLOAD_GOAL: usize = 256 * 1024;
/// Greatest length of a payload: one record of the greatest length.
pub(crate) const PAYLOAD_MAX: usize = RECORD_MAX + RECORD_HEADER;
/// The first bytes of every frame.
pub(crate) const MAGIC: [u8; 4] = *b"rrF1";
/// The timestamp of a record that has none.
pub const NO_TIME: i64 = i64::MIN;
/// The key length that says that there is no key.
const NO_KEY: u32 = u32::MAX;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records that count as soon as they are durable.
    Plain = 1,
    /// Records that count when a token follows.
    Rows = 2,
    /// A token: everything before it counts.
    Token = 3,
    /// What a segment knows of the segments before it; its first frame.
    Carried = 4,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    /// Length of the payload.
    pub payload: u32,
    /// Number of records.
    pub records: u32,
    /// Offset of the first record, or of the next one if there is none.
    pub first: u64,
    /// Least and greatest timestamp of the records; `MAX` and `MIN` if none has one.
    pub times: Times,
    /// How much of the segment was known to be durable when this frame was made.
    pub synced: u64,
    /// xxh3_64 of the payload.
    pub xxh3: u64,
}

/// The span of some timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub least: i64,
    pub greatest: i64,
}

impl Times {
    /// The span of no timestamps.
    pub const NONE: Times = Times { least: i64::MAX, greatest: i64::MIN };

    /// Takes one more timestamp in.
    pub fn add(&mut self, time: i64) {
        if time != NO_TIME {
            self.least = self.least.min(time);
            self.greatest = self.greatest.max(time);
        }
    }

    /// Returns the span of both.
    pub fn and(self, other: Times) -> Times {
        Times { least: self.least.min(other.least), greatest: self.greatest.max(other.greatest) }
    }
}

impl Header {
    /// Returns the header's bytes at `at` in the segment of `seed`.
    pub fn encode(&self, seed: u64, at: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind as u8;
        bytes[8..12].copy_from_slice(&self.payload.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.records.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.times.least.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.times.greatest.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.synced.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.xxh3.to_le_bytes());
        let check = xxh3_64_with_seed(&bytes[..56], seed ^ at);
        bytes[56..64].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Returns the header that these bytes are at `at` in the segment of `seed`, if they are one.
    pub fn decode(bytes: &[u8], seed: u64, at: u64) -> Option<Header> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        if bytes[0..4] != MAGIC || xxh3_64_with_seed(&bytes[..56], seed ^ at) != u64_at(bytes, 56) {
            return None;
        }
        let kind = match bytes[4] {
            1 => Kind::Plain,
            2 => Kind::Rows,
            3 => Kind::Token,
            4 => Kind::Carried,
            _ => return None,
        };
        let header = Header {
            kind,
            payload: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            times: Times { least: u64_at(bytes, 24).cast_signed(), greatest: u64_at(bytes, 32).cast_signed() },
            synced: u64_at(bytes, 40),
            xxh3: u64_at(bytes, 48),
        };
        (header.payload as usize <= PAYLOAD_MAX).then_some(header)
    }

    /// Returns the offset after the frame's last record.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.records))
    }
}

/// Returns the checksum of a payload.
pub(crate) fn checksum(payload: &[u8]) -> u64 {
    xxh3_64(payload)
}

/// One record of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it happened, in microseconds since the epoch; [`NO_TIME`] if that is not known.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Returns the length it takes in a frame.
    pub(crate) fn framed(&self) -> usize {
        RECORD_HEADER + self.key.map_or(0, <[u8]>::len) + self.value.len()
    }

    /// Appends the framed record. Key and value together are no longer than [`RECORD_MAX`].
    pub(crate) fn push(&self, out: &mut Vec<u8>) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a record was checked against RECORD_MAX");
        let mut header = [0; RECORD_HEADER];
        header[0..4].copy_from_slice(&length(self.value).to_le_bytes());
        header[4..8].copy_from_slice(&self.key.map_or(NO_KEY, length).to_le_bytes());
        header[8..16].copy_from_slice(&self.timestamp.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.key.unwrap_or_default());
        out.extend_from_slice(self.value);
    }

    /// Returns the framed record at the beginning of `bytes`, or `None` if there is none whole.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (value, end) = value_of(bytes)?;
        let key_length = u32_at(bytes, 4);
        let timestamp = u64_at(bytes, 8).cast_signed();
        let key = (key_length != NO_KEY).then(|| &bytes[RECORD_HEADER..value]);
        Some(Record { timestamp, key, value: &bytes[value..end] })
    }
}

/// Returns where the value of the framed record at the beginning of `bytes` begins and ends.
#[inline]
pub(crate) fn value_of(bytes: &[u8]) -> Option<(usize, usize)> {
    if bytes.len() < RECORD_HEADER {
        return None;
    }
    let key_length = u32_at(bytes, 4);
    let value = RECORD_HEADER + if key_length == NO_KEY { 0 } else { key_length as usize };
    let end = value + u32_at(bytes, 0) as usize;
    (end <= bytes.len()).then_some((value, end))
}

/// Returns the number at `at`, which lies within `bytes`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Returns the number at `at`, which lies within `bytes`.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Rows,
            payload: 7,
            records: 2,
            first: 40,
            times: Times { least: -3, greatest: 9 },
            synced: 64,
            xxh3: 5,
        }
    }

    #[test]
    fn a_header_counts_only_where_it_was_written() {
        let bytes = header().encode(11, 4096);
        assert_eq!(Header::decode(&bytes, 11, 4096), Some(header()));
        assert_eq!(Header::decode(&bytes, 11, 4097), None, "another place");
        assert_eq!(Header::decode(&bytes, 12, 4096), None, "another segment");
        assert_eq!(Header::decode(&bytes[..63], 11, 4096), None, "not whole");
    }

    #[test]
    fn no_flipped_bit_of_a_header_goes_unseen() {
        let good = header().encode(1, 2);
        for bit in 0..HEADER * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad, 1, 2), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_comes_back_as_it_went_in() {
        for key in [None, Some(&b""[..]), Some(&b"k"[..])] {
            let record = Record { timestamp: -7, key, value: b"value" };
            let mut bytes = Vec::new();
            record.push(&mut bytes);
            assert_eq!(bytes.len(), record.framed());
            assert_eq!(Record::parse(&bytes), Some(record));
            for short in 0..bytes.len() {
                assert_eq!(Record::parse(&bytes[..short]), None);
            }
        }
    }
}
