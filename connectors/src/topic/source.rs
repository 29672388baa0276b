//! A topic as the source of a job: a split per partition, a position per record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_dataflow::source::{
    Chunk, Numbering, Payload, ReadLimits, Records, Source, SourceError, SplitReader, SplitSpec,
};

use super::Topic;
use super::error::TopicError;
use super::read::{Cursor, Visible};
use super::synced::SyncedFile;
use crate::start::Start;

/// Reads a topic. Splits are named by the partitions' numbers; a position is the offset of a record.
///
/// The bytes of a chunk hold the framed records (timestamp, key, value), so that all of a record is part of the checksum by
/// which a re-reading is compared; the ranges are those of the values.
#[derive(Clone, Debug)]
pub struct TopicSource {
    dir: PathBuf,
    name: String,
    start: Start,
}

impl TopicSource {
    /// Returns the source of the topic `name` in the folder `dir`. The topic must exist when splits are asked for.
    pub fn new(dir: impl AsRef<Path>, name: impl Into<String>) -> TopicSource {
        TopicSource { dir: dir.as_ref().to_path_buf(), name: name.into(), start: Start::Earliest }
    }

    /// Returns the source with another place to begin at.
    pub fn starting(self, start: Start) -> TopicSource {
        TopicSource { start, ..self }
    }

    /// Returns where a partition begins that now ends at `end`.
    fn begin(&self, topic: &Topic, partition: u32, end: u64) -> Result<u64, TopicError> {
        match &self.start {
            Start::Earliest => Ok(0),
            Start::Latest => Ok(end),
            Start::Time(millis) => {
                Cursor::open_at_time(topic, partition, millis.saturating_mul(1000)).map(|cursor| cursor.position())
            }
            Start::Offsets(offsets) => {
                let start = offsets.get(&partition).copied().unwrap_or(0);
                let what = topic.partition_name(partition);
                if start <= end { Ok(start) } else { Err(TopicError::OutOfRange { what, position: start, end }) }
            }
        }
    }
}

impl Source for TopicSource {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        let topic = Topic::open(&self.dir, &self.name)?;
        if let Start::Offsets(offsets) = &self.start
            && let Some(unknown) = offsets.keys().find(|partition| **partition >= topic.partitions())
        {
            let reason = format!("topic `{}` has no partition {unknown}, which `start` names", self.name);
            return Err(TopicError::Option(reason).into());
        }
        let split = |partition: u32| -> Result<SplitSpec, TopicError> {
            let mut synced = SyncedFile::open(&topic, partition)?;
            // Where it ends is asked only if somebody wants to know.
            let is_asked = bounded || self.start != Start::Earliest;
            let end = match is_asked {
                true => Some(Visible::find(&topic, partition, synced.as_mut())?.bound.next),
                false => None,
            };
            let start = self.begin(&topic, partition, end.unwrap_or(0))?;
            let end = end.filter(|_| bounded).map(|end| end.max(start));
            Ok(SplitSpec { name: partition.to_string(), start, end, identity: topic.id().into() })
        };
        let mut splits = (0..topic.partitions()).map(split).collect::<Result<Vec<_>, _>>()?;
        splits.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(splits)
    }

    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        let topic = Topic::open(&self.dir, &self.name)?;
        if !split.identity.is_empty() && split.identity != topic.id() {
            return Err(TopicError::Changed { what: format!("topic `{}`", self.name) }.into());
        }
        let partition = split.name.parse::<u32>().ok().filter(|p| *p < topic.partitions());
        let Some(partition) = partition else {
            let reason = format!("it has partitions 0 to {}, but not `{}`", topic.partitions() - 1, split.name);
            return Err(SourceError::Read { what: format!("topic `{}`", self.name), reason });
        };
        let cursor = Cursor::open(&topic, partition, position)?;
        if let Some(end) = split.end
            && end > cursor.end()
        {
            let what = topic.partition_name(partition);
            return Err(TopicError::OutOfRange { what, position: end, end: cursor.end() }.into());
        }
        Ok(Box::new(PartitionReader { cursor, end: split.end }))
    }
}

/// Reads a partition for a job.
#[derive(Debug)]
struct PartitionReader {
    cursor: Cursor,
    end: Option<u64>,
}

impl SplitReader for PartitionReader {
    fn read(&mut self, limits: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        let until = match (limits.until, self.end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let run = self.cursor.read(&ReadLimits { until, ..*limits })?;
        Ok(run.map(|run| Chunk {
            from: run.from,
            to: run.from + run.values.len() as u64,
            payload: Payload::Records(Records {
                bytes: Arc::new(run.bytes),
                ranges: run.values,
                numbering: Numbering::Ordinal,
            }),
        }))
    }

    fn ended(&self) -> bool {
        self.end.is_some_and(|end| self.cursor.position() >= end)
    }
}
