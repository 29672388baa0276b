//! The contract of a source: an outside system read as splits of numbered records, in an order that it can repeat.
//!
//! ```text
//! splits() -> open(split, position) -> read* -> (dropped)
//! ```
//! The engine asks for records at its own pace; a reader never pushes, and keeps no more than one read in memory.
//! Reading and decoding are apart: any worker may decode what another one read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::tick::Tick;
use crate::time::EventTime;

/// The number of a split, unique in its job and fixed when the split is first seen. Numbers follow (source, split name).
pub type SplitId = u32;

/// A part of a source that is read in order: a file, a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSpec {
    /// Its name: a file's path relative to the glob's root, a partition's number.
    pub name: String,
    /// The position to begin at.
    pub start: u64,
    /// Where it ends, if that is known and fixed: the end of a bounded split.
    pub end: Option<u64>,
    /// What must not change while the job lives, in the connector's own words (a file's size and the hash of its head).
    /// Checked by `open`; a split whose identity changed is refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
}

/// How much one read may bring.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Records at most; at least 1.
    pub rows: usize,
    /// Bytes of raw records at most, except that the first record is always given whole.
    pub bytes: usize,
    /// Never read to or past this position.
    pub until: Option<u64>,
    /// A recorded tick has these records: they were read before, and none of them can be skipped.
    pub recorded: bool,
}

impl ReadLimits {
    /// Returns the limits of a read of new records, wherever it ends.
    pub const fn at_most(rows: usize, bytes: usize) -> Self {
        Self { rows, bytes, until: None, recorded: false }
    }
}

/// What the outside knows of a split, for whoever watches the job. It reaches no row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// The age of the oldest record that is not read yet; 0 if all are.
    pub behind: Option<Duration>,
    /// For how long the records will still be there that a restart may need.
    pub headroom: Option<Duration>,
    /// Positions that were skipped because their records were gone.
    pub skipped: u64,
}

/// How far a job is with a source, by split.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What lies before these positions is in the newest checkpoint.
    pub done: BTreeMap<String, u64>,
    /// What lies behind these positions is not in the oldest checkpoint that is kept: a restart may read it again.
    pub needed: BTreeMap<String, u64>,
}

/// A source of one job, shared by all workers.
pub trait Source: Send + Sync {
    /// Returns the splits there are now, by name. `bounded`: with their present ends.
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError>;

    /// Returns where each split ends now, by name, as far as that is known. For whoever watches the job: it is asked often.
    fn ends(&self) -> Result<BTreeMap<String, u64>, SourceError> {
        let ends = self.splits(true)?.into_iter();
        Ok(ends.filter_map(|split| Some((split.name, split.end?))).collect())
    }

    /// Returns what is known of each split, by name; `read`: how far each is read. For whoever watches the job: it is asked often, and
    /// asks nobody outside.
    fn outlook(&self, _read: &BTreeMap<String, u64>) -> BTreeMap<String, Outlook> {
        BTreeMap::new()
    }

    /// Hears now and then how far the job is, beside it. Nothing of that is ever asked back.
    fn hear(&self, _standing: &Standing) {}

    /// Returns how often a running job should ask for splits that are new; `None`: there never are any.
    fn discover_every(&self) -> Option<Duration> {
        None
    }

    /// Returns the splits that came into being after `known` were found, from their beginning on.
    fn grown(&self, _known: &[SplitSpec]) -> Result<Vec<SplitSpec>, SourceError> {
        Ok(Vec::new())
    }

    /// Opens a split for reading from `position` on, after checking that it still is what it was.
    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError>;
}

/// Reads one split.
pub trait SplitReader: Send {
    /// Returns the next records, or `None` if there is none now. Does not wait.
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError>;

    /// Returns whether the last `read` gave nothing only because the outside system has not answered yet: there may be records.
    /// A split that waits is neither at its end nor idle, and bounded input goes on when it answers.
    fn waits(&self) -> bool {
        false
    }

    /// Returns whether it waits only because it is paced: nobody outside is slow.
    fn is_paced(&self) -> bool {
        false
    }

    /// Returns whether the split has ended: no further `read` will ever give a record.
    fn ended(&self) -> bool;
}

/// Raw records that follow each other in one split.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Position of the first record.
    pub from: u64,
    /// Position after the last record.
    pub to: u64,
    /// The records.
    pub payload: Payload,
}

/// What a row of columns counts for in limits of bytes, whatever its width: the cut of bounded input must not depend on how
/// a columnar file happens to be decoded.
pub const COLUMNAR_ROW_BYTES: usize = 64;

/// The form in which a source gives its records.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Bytes to be decoded.
    Records(Records),
    /// Columns, where the source is columnar (Parquet). Row `i` has the position `from + i`.
    Columns(RecordBatch),
}

/// Raw records in one buffer.
#[derive(Clone, Debug)]
pub struct Records {
    /// All bytes, delimiters included: two readings of the same range give the same bytes, however they are cut.
    pub bytes: Arc<Vec<u8>>,
    /// Start and end of each record in `bytes`.
    pub ranges: Vec<(u32, u32)>,
    /// How records are numbered.
    pub numbering: Numbering,
}

/// How the position of a record follows from its chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Numbering {
    /// Position = chunk's `from` + index of the record (topics).
    Ordinal,
    /// Position = chunk's `from` + the record's first byte in `bytes` (files).
    Offset,
    /// The position of each record, ascending: some numbers in between are no records (a Kafka partition, whose transactions
    /// and compaction leave gaps).
    Listed(Vec<u64>),
}

impl Chunk {
    /// Returns the number of records.
    pub fn rows(&self) -> usize {
        match &self.payload {
            Payload::Records(records) => records.ranges.len(),
            Payload::Columns(batch) => batch.num_rows(),
        }
    }

    /// Returns the position of record `index`.
    pub fn position(&self, index: usize) -> u64 {
        match &self.payload {
            Payload::Records(records) => match &records.numbering {
                Numbering::Ordinal => self.from + index as u64,
                Numbering::Offset => self.from + u64::from(records.ranges[index].0),
                Numbering::Listed(positions) => positions[index],
            },
            Payload::Columns(_) => self.from + index as u64,
        }
    }

    /// Returns the bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.payload {
            Payload::Records(records) => records.bytes.len(),
            Payload::Columns(batch) => batch.get_array_memory_size(),
        }
    }
}

/// Turns raw records into rows. One per worker and source; keeps nothing between chunks but buffers.
pub trait Decoder: Send {
    /// Decodes a chunk: good rows as batches of the source's schema (hidden columns included), bad rows apart.
    fn decode(&mut self, chunk: &Chunk, context: &DecodeContext, out: &mut Decoded);
}

/// What a decoder must know of the chunk in hand.
#[derive(Clone, Debug)]
pub struct DecodeContext {
    /// The split's number, for the hidden column.
    pub split: SplitId,
    /// The split's name.
    pub name: String,
    /// Event times that are accepted; a row outside is bad (`event_time_range`, `max_future`).
    pub accept: RangeInclusive<EventTime>,
}

/// What a decoder made of a chunk.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The good rows, in order of position.
    pub batches: Vec<RecordBatch>,
    /// The bad rows, in order of position.
    pub bad: Vec<BadRow>,
    /// Records that are no rows, and were to be left out.
    pub filtered: u64,
    /// The greatest event time among the good rows.
    pub greatest: Option<EventTime>,
}

/// A row that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// Its split.
    pub split: SplitId,
    /// Its position there.
    pub position: u64,
    /// A short, stable word for the kind of fault: `malformed`, `type`, `missing`, `event_time`, `utf8`, `too_long`, `unknown_schema`, `expression`.
    pub code: String,
    /// What is wrong, for a person.
    pub reason: String,
    /// The raw record, cut at [`BadRow::RAW_MAX`].
    pub raw: Vec<u8>,
    /// The length of the raw record before it was cut.
    pub raw_length: u64,
}

impl BadRow {
    /// Bytes of a raw record that are kept.
    pub const RAW_MAX: usize = 64 * 1024;
}

/// A source cannot go on. Always fatal to the job: rows are never skipped to go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The outside system failed.
    #[error("cannot read {what}: {reason}")]
    Read {
        /// What was read, named as the user knows it.
        what: String,
        /// What the system said.
        reason: String,
    },
    /// A split is not what it was when the job began.
    #[error(
        "{what} changed while the job was using it: {reason}\n  hint: put it back as it was, or start over with --fresh"
    )]
    Changed {
        /// The split, named as the user knows it.
        what: String,
        /// What changed.
        reason: String,
    },
    /// Records that are still to be read are gone: the outside system keeps them for less long than the job was away.
    #[error(
        "{what} has no record {wanted} any more: it holds {first} to {next}\n  hint: what lies between was deleted before the job read it; keep records for longer there, and start over with --fresh, or let the source go on without them: `on_lost: skip`"
    )]
    Lost {
        /// The split, named as the user knows it.
        what: String,
        /// The position that is to be read.
        wanted: u64,
        /// The first position that there is.
        first: u64,
        /// The position after the last one.
        next: u64,
    },
    /// Records that were read, and have to be read again to know what followed from them, are gone.
    #[error(
        "{what} has no record {wanted} any more: it holds {first} to {next}\n  the job read on from there in tick {tick}, was killed before a checkpoint had that, and has to read it again: rows that followed from it may be out already, so nothing is skipped\n  hint: go on from the newest checkpoint as a new incarnation, which names and counts what it skips: `riverrun checkpoints pin {job} NAME`, then run the job with `--fresh --append --from-savepoint NAME` and `on_lost: skip` for the source; rows that are out stay, and state lacks what followed from the records that are gone. Or start over with --fresh. Keep records for longer than checkpoints lie behind"
    )]
    Gone {
        /// The split, named as the user knows it.
        what: String,
        /// The position that is to be read.
        wanted: u64,
        /// The first position that there is.
        first: u64,
        /// The position after the last one.
        next: u64,
        /// The tick in which it was read at first.
        tick: Tick,
        /// The job.
        job: String,
    },
    /// Stored data is damaged.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// What is damaged.
        what: String,
        /// How that was seen.
        reason: String,
    },
}
