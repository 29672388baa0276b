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
    /// CPU time of freezing and writing.
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
#[derive(Clone, Debug, Default)]
pub struct Raw(pub Option<RawChunk>);

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

impl Accountable for Raw {
    fn record_count(&self) -> i64 {
        i64::from(self.0.is_some())
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
    /// `[header length u64][header][start and end of each record, u32][bytes]`, or columns as an Arrow IPC stream.
    fn encode(&self) -> Vec<u8> {
        let Some(raw) = &self.0 else { return Vec::new() };
        let numbering = match &raw.chunk.payload {
            Payload::Records(records) => Some(records.numbering),
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
                let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut out, &batch.schema())
                    .expect("columns of a source are encodable");
                writer.write(batch).and_then(|()| writer.finish()).expect("writing to memory does not fail");
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Raw {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"))).expect("fits memory");
        let header: RawHeader =
            serde_json::from_slice(&bytes[8..8 + length]).expect("peers of one build agree on the wire");
        let body = 8 + length;
        let payload = match header.numbering {
            Some(numbering) => {
                let ranges = (0..header.records).map(|i| (word(body + 8 * i), word(body + 8 * i + 4))).collect();
                let bytes = Arc::new(bytes[body + 8 * header.records..].to_vec());
                Payload::Records(Records { bytes, ranges, numbering })
            }
            None => Payload::Columns(
                arrow::ipc::reader::StreamReader::try_new(&bytes[body..], None)
                    .and_then(|mut reader| reader.next().expect("one batch was written"))
                    .expect("peers of one build agree on the wire"),
            ),
        };
        let chunk = Chunk { from: header.from, to: header.to, payload };
        let accept = header.accept.0..=header.accept.1;
        Raw(Some(RawChunk { source: header.source, split: header.split, accept, chunk }))
    }
}

impl ContainerBytes for Raw {
    fn from_bytes(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Raw::default();
        }
        // The true length stands in front: timely wants multiples of eight.
        let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"))).expect("fits memory");
        Raw::decode(&bytes[8..8 + length])
    }

    fn length_in_bytes(&self) -> usize {
        if self.0.is_none() { 0 } else { (8 + self.encode().len()).next_multiple_of(8) }
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        if self.0.is_none() {
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
    use arrow::array::{Int64Array, RecordBatch};
    use timely::bytes::arc::BytesMut;

    use super::*;

    fn over_the_wire(raw: &Raw) -> RawChunk {
        let mut bytes = Vec::new();
        raw.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), raw.length_in_bytes());
        Raw::from_bytes(BytesMut::from(bytes).freeze()).0.unwrap()
    }

    fn raw(payload: Payload) -> Raw {
        let chunk = Chunk { from: 5, to: 12, payload };
        Raw(Some(RawChunk { source: 1, split: 7, accept: EventTime(0)..=EventTime(9), chunk }))
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
    fn columns_survive_the_wire() {
        let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
        let back = over_the_wire(&raw(Payload::Columns(batch.clone())));
        let Payload::Columns(columns) = back.chunk.payload else { panic!("columns stay columns") };
        assert_eq!(columns, batch);
    }
}
