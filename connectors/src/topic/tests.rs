//! What a topic promises, held against models, crashes and damage.

mod crash;
mod damage;
mod faults;
mod follow;
mod lanes;
mod model;
mod places;

use std::path::Path;

use riverrun_dataflow::source::{Chunk, Payload, ReadLimits, Source, SplitReader, SplitSpec};

use super::frame::{Kind, Record};
use super::writer::Writer;
use super::{CreateOptions, Tail, TailRecord, Topic, TopicError, TopicSource};

/// A record as a test remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl Row {
    fn record(&self) -> Record<'_> {
        Record { timestamp: self.timestamp, key: self.key.as_deref(), value: &self.value }
    }
}

/// Row `n` of a sequence in which every row is another.
fn row(n: u64) -> Row {
    let key = (!n.is_multiple_of(3)).then(|| format!("k{}", n % 5).into_bytes());
    let value = format!("row {n} {}", "x".repeat((n * 7 % 41) as usize)).into_bytes();
    Row { timestamp: (n * 37 % 101) as i64 * 1000, key, value }
}

fn create(dir: &Path, segment_bytes: u64) -> Topic {
    Topic::create(dir, "t", &CreateOptions { partitions: 1, segment_bytes }).unwrap()
}

fn writer(topic: &Topic) -> Writer {
    Writer::open(topic, 0, "a test").unwrap()
}

fn append(writer: &mut Writer, rows: impl IntoIterator<Item = u64>) {
    for n in rows {
        assert_eq!(writer.append(Kind::Plain, &row(n).record()).unwrap(), n);
    }
}

/// All rows that a fresh reader sees in partition 0.
fn rows_of(topic: &Topic) -> Result<Vec<Row>, TopicError> {
    let mut tail = Tail::open(topic, Some(0), super::Begin::Start)?;
    let mut rows = Vec::new();
    while let Some(TailRecord { offset, timestamp, key, value, .. }) = tail.read()? {
        assert_eq!(offset, rows.len() as u64);
        rows.push(Row { timestamp: timestamp.unwrap_or(super::NO_TIME), key, value });
    }
    Ok(rows)
}

fn open(dir: &Path, position: u64, end: Option<u64>) -> Box<dyn SplitReader> {
    let source = TopicSource::new(dir, "t");
    let split = SplitSpec { end, ..source.splits(false).unwrap().remove(0) };
    source.open(&split, position).unwrap()
}

fn limits(rows: usize) -> ReadLimits {
    ReadLimits::at_most(rows, usize::MAX)
}

/// The bytes of a chunk and its values.
fn content(chunk: &Chunk) -> (Vec<u8>, Vec<Vec<u8>>) {
    let Payload::Records(records) = &chunk.payload else { panic!("topics hold bytes") };
    let value = |(from, to): &(u32, u32)| records.bytes[*from as usize..*to as usize].to_vec();
    (records.bytes.to_vec(), records.ranges.iter().map(value).collect())
}
