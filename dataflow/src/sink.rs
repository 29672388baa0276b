//! The contract of a sink: rows and a token become durable in one act, or not at all.
//!
//! ```text
//! open(lane) -> token      fences older generations where the system can
//! commit(b) -> commit(b') -> ...      b < b'
//! take(b) -> take(b') -> ... -> take(b'', Now)      of a sink that gathers: a commit now and then, of all that was taken
//! ```
//! A token says: every row of every tick up to `tick` is in the outside system. After a crash the lane is opened again, the
//! ticks are derived again, and rows up to the token are compared with their digest and dropped.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::tick::Tick;

/// Encodes rows into the bytes that a sink writes. One per worker and sink.
pub trait Encoder: Send {
    /// Appends one encoded row per row of `rows`, which may hold hidden columns.
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRows) -> Result<(), SinkError>;
}

/// Encoded rows, back to back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedRows {
    /// Key and value of each row, one after the other.
    pub bytes: Vec<u8>,
    /// End of each row in `bytes`.
    pub ends: Vec<u32>,
    /// Length of each row's key at its beginning; empty if no row has a key.
    pub key_lengths: Vec<u32>,
    /// Length of what stands between each row's key and its value, see [`Surround`]; empty if no row has any.
    #[serde(default)]
    pub surround_lengths: Vec<u32>,
}

/// What a row has besides its key and its value, as it stands between the two: part of what is ordered and of the digest.
///
/// ```text
/// [1 if there is no value, else 0: u8]([name length u32][value length u32][name][value])*
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surround<'a>(&'a [u8]);

impl<'a> Surround<'a> {
    /// Appends what a row has besides key and value: whether it says that its key is gone, and headers.
    pub fn push<'h>(
        out: &mut Vec<u8>,
        is_tombstone: bool,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a header is below 4 GiB");
        out.push(u8::from(is_tombstone));
        for (name, value) in headers {
            out.extend_from_slice(&length(name.as_bytes()).to_le_bytes());
            out.extend_from_slice(&value.map_or(u32::MAX, length).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.unwrap_or_default());
        }
    }

    /// Returns whether the row says that its key is gone: it has no value.
    pub fn is_tombstone(&self) -> bool {
        self.0.first() == Some(&1)
    }

    /// Returns the headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.0.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (lengths, after) = rest.split_at_checked(8)?;
            let length = |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().expect("four bytes"));
            let (name, after) = after.split_at_checked(length(0) as usize)?;
            let size = if length(4) == u32::MAX { 0 } else { length(4) as usize };
            let (value, after) = after.split_at_checked(size)?;
            rest = after;
            Some((std::str::from_utf8(name).ok()?, (length(4) != u32::MAX).then_some(value)))
        })
    }
}

impl EncodedRows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns key and value of row `index` as one slice.
    pub fn row(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// Returns the key, if rows have keys, and the value of row `index`.
    pub fn key_value(&self, index: usize) -> (Option<&[u8]>, &[u8]) {
        let (key, rest) = self.key_rest(index);
        let surround = self.surround_lengths.get(index).map_or(0, |length| *length as usize);
        (key, &rest[surround..])
    }

    /// Returns what row `index` has besides key and value.
    pub fn surround(&self, index: usize) -> Surround<'_> {
        let surround = self.surround_lengths.get(index).map_or(0, |length| *length as usize);
        Surround(&self.key_rest(index).1[..surround])
    }

    fn key_rest(&self, index: usize) -> (Option<&[u8]>, &[u8]) {
        let row = self.row(index);
        match self.key_lengths.get(index) {
            Some(length) => {
                let (key, rest) = row.split_at(*length as usize);
                (Some(key), rest)
            }
            None => (None, row),
        }
    }

    /// Ends the row whose bytes were just appended.
    pub fn end_row(&mut self, key_length: Option<u32>) {
        self.ends.push(u32::try_from(self.bytes.len()).expect("a batch of encoded rows stays below 4 GiB"));
        self.key_lengths.extend(key_length);
    }

    /// Appends row `index` of `other`, whole.
    pub fn push_row(&mut self, other: &EncodedRows, index: usize) {
        self.bytes.extend_from_slice(other.row(index));
        self.end_row(other.key_lengths.get(index).copied());
        self.surround_lengths.extend(other.surround_lengths.get(index));
    }
}

/// The rows of one lane and tick, in canonical order: (event time, xxh3 of the bytes, bytes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickRows {
    /// The tick.
    pub tick: Tick,
    /// The rows, ordered.
    pub rows: EncodedRows,
    /// Event time of each row, in microseconds; `i64::MIN` where a row has none.
    pub times: Vec<i64>,
}

/// What a sink remembers of the last commit of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The job's incarnation; a token of another incarnation counts as none.
    pub incarnation: String,
    /// The generation that committed.
    pub generation: u64,
    /// Every row of every tick up to this one is in the outside system.
    pub tick: Tick,
}

/// Who opens a lane.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job's name.
    pub job: String,
    /// The job's incarnation.
    pub incarnation: String,
    /// The sink's name.
    pub sink: String,
    /// The generation that opens it; a lane held by a later one refuses.
    pub generation: u64,
    /// The job begins anew because the user said so, and nothing of this incarnation was ever written: what the incarnation
    /// before wrote is replaced.
    pub fresh: bool,
    /// `--append`: an output that the job does not own is added to, not refused.
    pub append: bool,
}

/// What a sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Rows and token in one act; gates checkpoints.
    ExactlyOnce,
    /// No token; gates nothing, may repeat rows after a crash.
    AtLeastOnce,
}

/// A sink of one job.
pub trait Sink: Send + Sync {
    /// Returns the number of lanes, fixed when the job is created.
    fn lanes(&self) -> Result<u32, SinkError>;

    /// Returns what the sink promises.
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    /// Returns how long a lane may gather rows before it must commit them; `None`: it commits whatever it is given at once. Rows that
    /// were gathered and not committed are derived again after a crash, like those that never came.
    fn gathers(&self) -> Option<Duration> {
        None
    }

    /// Opens a lane and returns it with its token, if this incarnation ever committed there. What was written after the token
    /// by a process that died is removed or made invisible.
    fn open(&self, lane: u32, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError>;
}

/// One lane of a sink, held by one thread.
pub trait Lane: Send {
    /// Makes `ticks` (ascending, empty ones left out) and the token for `upto` durable in one atomic act. Blocks.
    fn commit(&mut self, upto: Tick, ticks: &[TickRows]) -> Result<(), SinkError>;

    /// Takes `ticks`, and commits them now or later: what a lane of a sink does that [gathers](Sink::gathers). A lane that was
    /// given rows which it did not commit yet is called again even if there are none for it.
    fn take(&mut self, upto: Tick, ticks: &[TickRows], _: Urgency) -> Result<Reached, SinkError> {
        self.commit(upto, ticks)?;
        Ok(Reached { token: Some(upto), covers: upto })
    }

    /// Returns whether a commit mostly waits for answers from outside: lanes of such a sink are committed side by side.
    fn waits_outside(&self) -> bool {
        false
    }
}

/// Whether a lane may gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Rows may be committed later, together with others.
    Later,
    /// All rows that the lane was given are committed when the call returns.
    Now,
}

/// How far a lane has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The token that the outside system holds.
    pub token: Option<Tick>,
    /// Every row that the lane was given of every tick up to this one is in the outside system.
    pub covers: Tick,
}

/// A sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The job or its surroundings must be changed first (exit 78).
    #[error("{0}")]
    Refused(String),
    /// Another process holds the output, or a later generation wrote to it (exit 75).
    #[error("{0}")]
    Fenced(String),
    /// The outside system failed (exit 74).
    #[error("cannot write {what}: {reason}")]
    Write {
        /// What was written, named as the user knows it.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// What the sink stored is damaged (exit 74).
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// What is damaged.
        what: String,
        /// How that was seen.
        reason: String,
    },
}
