//! Looking into a topic: the records of all partitions from some point on, by time.

use std::collections::VecDeque;

use riverrun_dataflow::source::ReadLimits;

use super::Topic;
use super::error::TopicError;
use super::frame::{NO_TIME, Record};
use super::read::Cursor;

/// Records that are read ahead of a partition.
const READ_ROWS: usize = 1024;
const READ_BYTES: usize = 1024 * 1024;

/// Where a [`Tail`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the first record.
    Start,
    /// After the last record.
    End,
    /// At this offset of each partition, or at its end if it is shorter.
    Offset(u64),
    /// So many records before the end, of all partitions together.
    Last(u64),
    /// At the first record of each partition with this timestamp, in microseconds since the epoch, or a greater one.
    Time(i64),
}

/// A record and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailRecord {
    /// The partition.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
    /// The timestamp, in microseconds since the epoch, if it has one.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Vec<u8>,
}

/// Gives the records of a topic, those of one partition in order, partitions merged by timestamp as far as records are there.
#[derive(Debug)]
pub struct Tail {
    partitions: Vec<Ahead>,
}

/// A partition and what was read ahead of it.
#[derive(Debug)]
struct Ahead {
    partition: u32,
    cursor: Cursor,
    records: VecDeque<TailRecord>,
}

impl Tail {
    /// Opens a topic, or only one partition of it.
    pub fn open(topic: &Topic, partition: Option<u32>, begin: Begin) -> Result<Tail, TopicError> {
        let partitions = match partition {
            None => 0..topic.partitions(),
            Some(one) if one < topic.partitions() => one..one + 1,
            Some(one) => {
                return Err(TopicError::Option(format!(
                    "topic `{}` has no partition {one}: it has {}",
                    topic.name(),
                    topic.partitions()
                )));
            }
        };
        let ends = match begin {
            Begin::Start | Begin::Time(_) => Vec::new(),
            _ => topic.describe()?.iter().map(|info| info.records).collect(),
        };
        let open = |partition: u32| {
            let end = ends.get(partition as usize).copied().unwrap_or_default();
            let cursor = match begin {
                Begin::Start => Cursor::open(topic, partition, 0),
                Begin::End => Cursor::open(topic, partition, end),
                Begin::Offset(offset) => Cursor::open(topic, partition, offset.min(end)),
                Begin::Last(rows) => Cursor::open(topic, partition, end.saturating_sub(rows)),
                Begin::Time(time) => Cursor::open_at_time(topic, partition, time),
            }?;
            Ok(Ahead { partition, cursor, records: VecDeque::new() })
        };
        let partitions = partitions.clone().map(open).collect::<Result<Vec<_>, TopicError>>()?;
        let mut tail = Tail { partitions };
        if let Begin::Last(rows) = begin {
            let there: u64 = tail.partitions.iter().map(|p| p.cursor.end() - p.cursor.position()).sum();
            for _ in rows..there {
                tail.read()?;
            }
        }
        Ok(tail)
    }

    /// Returns the next record, or `None` if there is none now; later there may be.
    pub fn read(&mut self) -> Result<Option<TailRecord>, TopicError> {
        for ahead in &mut self.partitions {
            if ahead.records.is_empty() {
                ahead.fill()?;
            }
        }
        let first = |ahead: &&mut Ahead| ahead.records.front().and_then(|r| r.timestamp).unwrap_or(NO_TIME);
        let next = self.partitions.iter_mut().filter(|ahead| !ahead.records.is_empty()).min_by_key(first);
        Ok(next.and_then(|ahead| ahead.records.pop_front()))
    }
}

impl Ahead {
    fn fill(&mut self) -> Result<(), TopicError> {
        let limits = ReadLimits::at_most(READ_ROWS, READ_BYTES);
        let Some(run) = self.cursor.read(&limits)? else { return Ok(()) };
        let mut rest = &run.bytes[..];
        let mut offset = run.from;
        while let Some(record) = Record::parse(rest) {
            self.records.push_back(TailRecord {
                partition: self.partition,
                offset,
                timestamp: (record.timestamp != NO_TIME).then_some(record.timestamp),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.to_vec(),
            });
            rest = &rest[record.framed()..];
            offset += 1;
        }
        Ok(())
    }
}
