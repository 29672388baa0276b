//! A topic as the source of a job: a split per partition, a position per record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use riverrun_dataflow::source::{
    Chunk, Numbering, Outlook, Payload, ReadLimits, Records, Source, SourceError, SplitReader, SplitSpec,
};

use super::error::TopicError;
use super::frame::{NO_TIME, Record, Times};
use super::read::{Cursor, Visible};
use super::synced::SyncedFile;
use super::{Topic, now_micros};
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
    end: Start,
}

impl TopicSource {
    /// Returns the source of the topic `name` in the folder `dir`. The topic must exist when splits are asked for.
    pub fn new(dir: impl AsRef<Path>, name: impl Into<String>) -> TopicSource {
        TopicSource { dir: dir.as_ref().to_path_buf(), name: name.into(), start: Start::Earliest, end: Start::Latest }
    }

    /// Returns the source with another place to begin at.
    pub fn starting(self, start: Start) -> TopicSource {
        TopicSource { start, ..self }
    }

    /// Returns the source with another place to end at when it is bounded: the first record that is not read any more.
    pub fn ending(self, end: Start) -> TopicSource {
        TopicSource { end, ..self }
    }

    /// Returns where `place`, the `word` of what is read, is in a partition that now ends at `end` and whose records have such
    /// times; `unnamed`, where offsets say nothing of it.
    fn place(
        topic: &Topic,
        (word, place): (&str, &Start),
        partition: u32,
        (end, times): (u64, Times),
        unnamed: u64,
    ) -> Result<u64, TopicError> {
        match place {
            Start::Earliest => Ok(0),
            Start::Latest => Ok(end),
            Start::Time(_) if end > 0 && times == Times::NONE => Err(TopicError::Option(format!(
                "the records of {} have no time, and the {word} is one\nhint: say `earliest`, `latest` or offsets",
                topic.partition_name(partition)
            ))),
            Start::Time(millis) => {
                Cursor::open_at_time(topic, partition, millis.saturating_mul(1000)).map(|cursor| cursor.position())
            }
            Start::Offsets(offsets) => {
                let offset = offsets.get(&partition).copied().unwrap_or(unnamed);
                let what = topic.partition_name(partition);
                let reason = || TopicError::Option(format!("{what} holds 0 to {end}, but the {word} is {offset}"));
                if offset <= end { Ok(offset) } else { Err(reason()) }
            }
        }
    }
}

impl Source for TopicSource {
    fn splits(&self, bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        let topic = Topic::open(&self.dir, &self.name)?;
        for (place, word) in [(&self.start, "start"), (&self.end, "end")] {
            if let Start::Offsets(offsets) = place
                && let Some(unknown) = offsets.keys().find(|partition| **partition >= topic.partitions())
            {
                let reason = format!("topic `{}` has no partition {unknown}, which the {word} names", self.name);
                return Err(TopicError::Option(reason).into());
            }
        }
        let split = |partition: u32| -> Result<SplitSpec, TopicError> {
            let mut synced = SyncedFile::open(&topic, partition)?;
            // Where it ends is asked only if somebody wants to know.
            let is_asked = bounded || self.start != Start::Earliest;
            let (next, times) = match is_asked {
                true => {
                    let bound = Visible::find(&topic, partition, synced.as_mut())?.bound;
                    (bound.next, bound.times)
                }
                false => (0, Times::NONE),
            };
            let start = Self::place(&topic, ("start", &self.start), partition, (next, times), 0)?;
            let end = match bounded {
                // More may have been written since: the end is what it was.
                true => {
                    let end = Self::place(&topic, ("end", &self.end), partition, (next, times), next)?;
                    Some(end.clamp(start, next.max(start)))
                }
                false => None,
            };
            Ok(SplitSpec { name: partition.to_string(), start, end, identity: topic.id().into() })
        };
        let mut splits = (0..topic.partitions()).map(split).collect::<Result<Vec<_>, _>>()?;
        splits.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(splits)
    }

    fn outlook(&self, read: &BTreeMap<String, u64>) -> BTreeMap<String, Outlook> {
        let Ok(topic) = Topic::open(&self.dir, &self.name) else { return BTreeMap::new() };
        let of = |(split, position): (&String, &u64)| {
            let behind = age_of_next(&topic, split.parse().ok()?, *position)?;
            Some((split.clone(), Outlook { behind: Some(behind), ..Outlook::default() }))
        };
        read.iter().filter_map(of).collect()
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

/// Returns how old the record at a position is, 0 if there is none yet; nothing if it has no time, or cannot be read, which the job
/// itself finds out.
fn age_of_next(topic: &Topic, partition: u32, position: u64) -> Option<Duration> {
    let mut cursor = Cursor::open(topic, partition, position).ok()?;
    let Some(run) = cursor.read(&ReadLimits::at_most(1, 1)).ok()? else {
        return Some(Duration::ZERO);
    };
    let (_, end) = *run.values.first()?;
    let time = Record::parse(run.bytes.get(..end as usize)?)?.timestamp;
    let age = |micros: i64| Duration::from_micros(u64::try_from(now_micros().saturating_sub(micros)).unwrap_or(0));
    (time != NO_TIME).then(|| age(time))
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
