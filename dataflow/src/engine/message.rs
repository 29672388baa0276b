//! What travels through the dataflow beside rows: raw records, marks, reports, encoded rows, commits.

use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::dataflow::channels::ContainerBytes;

use crate::balance::Counts;
use crate::journal::{LaneDigest, StateFile};
use crate::sink::{EncodedRows, TickRows};
use crate::source::{Chunk, Numbering, Payload, Records, SplitId};
use crate::tick::{SplitMark, Tick};
use crate::time::EventTime;
use crate::wire::{WireError, push_rows, push_schema, read_rows, take, take_schema, without_dictionaries, word};

/// What a reader or a decoder tells the clock of a split in a tick.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Mark {
    /// What was read. `greatest` is not known to the reader and is left at its minimum.
    Read(SplitMark),
    /// The greatest event time among the good rows of a chunk.
    Decoded {
        /// The split.
        split: SplitId,
        /// The greatest event time.
        greatest: EventTime,
    },
}

/// What workers tell the ledger of a tick.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// Rows at a source or step, by its place among sources, then steps.
    Counts(u32, Counts),
    /// Output of a lane, with its length in bytes.
    Lane(LaneDigest, u64),
}

/// The files that one worker wrote for one step of a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The files.
    pub files: Vec<StateFile>,
    /// CPU time of the pause in which the state was frozen.
    pub pause_micros: u64,
    /// CPU time of the pause and of writing.
    pub cpu_micros: u64,
}

/// Encoded rows on their way to their lane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Encoded {
    /// The lane.
    pub lane: u32,
    /// The rows.
    pub rows: EncodedRows,
    /// Event time of each row.
    pub times: Vec<i64>,
    /// xxh3_64 of each row.
    pub hashes: Vec<u64>,
}

/// The rows of a lane and tick in canonical order.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The lane.
    pub lane: u32,
    /// The rows.
    pub rows: TickRows,
}

/// How far a lane has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Covered {
    /// Index of the sink.
    pub sink: u32,
    /// The lane.
    pub lane: u32,
    /// All rows of all ticks up to this one are in the outside system.
    pub tick: Tick,
    /// The token that the outside system holds.
    pub token: Option<Tick>,
}

/// Raw records on their way to a decoder. A timely container of one chunk.
#[derive(Clone, Debug)]
pub struct Raw(Result<Option<RawChunk>, WireError>);

/// A chunk with all that its decoder must know.
#[derive(Clone, Debug)]
pub struct RawChunk {
    /// Index of the source.
    pub source: usize,
    /// The split.
    pub split: SplitId,
    /// Accepted event times.
    pub accept: RangeInclusive<EventTime>,
    /// The records.
    pub chunk: Chunk,
}

impl Default for Raw {
    fn default() -> Self {
        Raw(Ok(None))
    }
}

impl Accountable for Raw {
    fn record_count(&self) -> i64 {
        // What could not be read counts too: timely does not deliver what is empty.
        i64::from(!matches!(self.0, Ok(None)))
    }
}

/// The part of a [`RawChunk`] that is not bulk.
#[derive(Serialize, Deserialize)]
struct RawHeader {
    source: usize,
    split: SplitId,
    accept: (EventTime, EventTime),
    from: u64,
    to: u64,
    /// `None`: the payload is columns.
    numbering: Option<Numbering>,
    records: usize,
}

impl Raw {
    /// Returns the container of `chunk`.
    pub fn of(chunk: RawChunk) -> Raw {
        Raw(Ok(Some(chunk)))
    }

    /// Takes the chunk out; an error if it came from another process in a form that is none.
    pub fn take(&mut self) -> Result<Option<RawChunk>, WireError> {
        std::mem::replace(&mut self.0, Ok(None))
    }

    /// `[header length u64][header][start and end of each record, u32][bytes]`, or
    /// `[header length u64][header][schema][rows]`, as [`crate::wire`] has them.
    fn encode(&self) -> Vec<u8> {
        let Ok(Some(raw)) = &self.0 else { return Vec::new() };
        let numbering = match &raw.chunk.payload {
            Payload::Records(records) => Some(records.numbering.clone()),
            Payload::Columns(_) => None,
        };
        let header = RawHeader {
            source: raw.source,
            split: raw.split,
            accept: (*raw.accept.start(), *raw.accept.end()),
            from: raw.chunk.from,
            to: raw.chunk.to,
            numbering,
            records: raw.chunk.rows(),
        };
        let header = serde_json::to_vec(&header).expect("a header is plain data");
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(&header);
        match &raw.chunk.payload {
            Payload::Records(records) => {
                for (start, end) in &records.ranges {
                    out.extend_from_slice(&start.to_le_bytes());
                    out.extend_from_slice(&end.to_le_bytes());
                }
                out.extend_from_slice(&records.bytes);
            }
            Payload::Columns(batch) => {
                let batch = without_dictionaries(batch).expect("a dictionary gives its values");
                push_schema(&batch.schema(), &mut out);
                push_rows(&batch, &mut out);
            }
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Result<RawChunk, WireError> {
        let length = word(&mut bytes)?;
        let header = take(&mut bytes, length)?;
        let header: RawHeader = serde_json::from_slice(header).map_err(|error| WireError(error.to_string()))?;
        let payload = match header.numbering.clone() {
            Some(numbering) => Payload::Records(records(bytes, &header, numbering)?),
            None => {
                let schema = take_schema(&mut bytes)?;
                Payload::Columns(read_rows(bytes, schema)?)
            }
        };
        let chunk = Chunk { from: header.from, to: header.to, payload };
        // Whatever numbers its records, the last one has a position.
        let last = header.from.checked_add(chunk.bytes().max(chunk.rows()) as u64);
        if header.from > header.to || last.is_none() || chunk.rows() != header.records {
            return Err(WireError(format!("it has {} records from {} to {}", chunk.rows(), header.from, header.to)));
        }
        let accept = header.accept.0..=header.accept.1;
        Ok(RawChunk { source: header.source, split: header.split, accept, chunk })
    }
}

/// Reads records that lie one after the other behind their places.
fn records(mut bytes: &[u8], header: &RawHeader, numbering: Numbering) -> Result<Records, WireError> {
    let places = take(&mut bytes, (header.records as u64).saturating_mul(8))?;
    let word = |four: &[u8]| u32::from_le_bytes(four.try_into().expect("four bytes"));
    let ranges: Vec<(u32, u32)> = places.chunks_exact(8).map(|place| (word(&place[..4]), word(&place[4..]))).collect();
    if let Numbering::Listed(positions) = &numbering {
        let (first, last) = (positions.first(), positions.last());
        let inside = first.is_none_or(|first| *first >= header.from) && last.is_none_or(|last| *last < header.to);
        if positions.len() != ranges.len() || !inside || !positions.is_sorted_by(|a, b| a < b) {
            return Err(WireError(format!("the positions of its {} records are none", ranges.len())));
        }
    }
    match ranges.iter().find(|(from, to)| from > to || *to as usize > bytes.len()) {
        Some((from, to)) => Err(WireError(format!("a record lies at {from} to {to} of {} bytes", bytes.len()))),
        None => Ok(Records { bytes: Arc::new(bytes.to_vec()), ranges, numbering }),
    }
}

impl ContainerBytes for Raw {
    fn from_bytes(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Raw::default();
        }
        // The true length stands in front: timely wants multiples of eight.
        let mut rest = &bytes[..];
        let whole = word(&mut rest).and_then(|length| take(&mut rest, length));
        Raw(whole.and_then(Raw::decode).map(Some))
    }

    fn length_in_bytes(&self) -> usize {
        if !matches!(self.0, Ok(Some(_))) { 0 } else { (8 + self.encode().len()).next_multiple_of(8) }
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        if !matches!(self.0, Ok(Some(_))) {
            return;
        }
        let body = self.encode();
        let padding = (8 + body.len()).next_multiple_of(8) - 8 - body.len();
        writer
            .write_all(&(body.len() as u64).to_le_bytes())
            .and_then(|()| writer.write_all(&body))
            .and_then(|()| writer.write_all(&[0; 8][..padding]))
            .expect("timely's buffers do not fail");
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int32Type;
    use timely::bytes::arc::BytesMut;

    use super::*;

    fn over_the_wire(raw: &Raw) -> RawChunk {
        let mut bytes = Vec::new();
        raw.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), raw.length_in_bytes());
        Raw::from_bytes(BytesMut::from(bytes).freeze()).take().unwrap().unwrap()
    }

    fn raw(payload: Payload) -> Raw {
        let chunk = Chunk { from: 5, to: 12, payload };
        Raw::of(RawChunk { source: 1, split: 7, accept: EventTime(0)..=EventTime(9), chunk })
    }

    #[test]
    fn records_survive_the_wire() {
        let records = Records {
            bytes: Arc::new(b"ab\ncde\n".to_vec()),
            ranges: vec![(0, 2), (3, 6)],
            numbering: Numbering::Offset,
        };
        let back = over_the_wire(&raw(Payload::Records(records)));
        assert_eq!((back.source, back.split, back.accept.clone()), (1, 7, EventTime(0)..=EventTime(9)));
        assert_eq!((back.chunk.rows(), back.chunk.position(1)), (2, 8));
        let Payload::Records(records) = back.chunk.payload else { panic!("records stay records") };
        assert_eq!(records.bytes.as_slice(), b"ab\ncde\n");
    }

    #[test]
    fn positions_with_gaps_survive_the_wire_if_they_can_be_true() {
        let listed = |positions: &[u64]| {
            let numbering = Numbering::Listed(positions.to_vec());
            let records = Records { bytes: Arc::new(b"abcde".to_vec()), ranges: vec![(0, 2), (2, 5)], numbering };
            raw(Payload::Records(records))
        };
        let back = over_the_wire(&listed(&[5, 11]));
        assert_eq!((back.chunk.position(0), back.chunk.position(1)), (5, 11));
        for wrong in [&[5][..], &[11, 5], &[5, 5], &[4, 11], &[5, 12]] {
            assert!(Raw::decode(&listed(wrong).encode()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn columns_survive_the_wire() {
        let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
        let back = over_the_wire(&raw(Payload::Columns(batch.clone())));
        let Payload::Columns(columns) = back.chunk.payload else { panic!("columns stay columns") };
        assert_eq!(columns, batch);
    }

    #[test]
    fn a_column_with_a_dictionary_arrives_as_its_values() {
        let values: DictionaryArray<Int32Type> = [Some("x"), None, Some("y"), Some("x")].into_iter().collect();
        let batch = RecordBatch::try_from_iter_with_nullable([("a", Arc::new(values) as _, true)]).unwrap();
        let back = over_the_wire(&raw(Payload::Columns(batch)));
        let Payload::Columns(columns) = back.chunk.payload else { panic!("columns stay columns") };
        let plain = arrow::array::StringArray::from(vec![Some("x"), None, Some("y"), Some("x")]);
        assert_eq!(columns.column(0).as_ref(), &plain as &dyn arrow::array::Array);
    }

    #[test]
    fn what_is_no_message_is_an_error_that_is_delivered() {
        for bytes in [&b"x"[..], &[0xff; 8], &[3, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', b' ', 0, 0, 0, 0, 0]] {
            let mut raw = Raw::from_bytes(BytesMut::from(bytes.to_vec()).freeze());
            assert_eq!(raw.record_count(), 1);
            assert!(raw.take().unwrap_err().to_string().contains("another process"));
        }
    }
}
