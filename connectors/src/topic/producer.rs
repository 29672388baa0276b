//! Producing: records from outside into the partitions of a topic, acknowledged in groups.

use std::time::{Duration, Instant};

use riverrun_dataflow::key;

use super::error::TopicError;
use super::frame::{Kind, NO_TIME, Record};
use super::writer::Writer;
use super::{Topic, now_micros};

/// How a producer chooses the partition of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By the hash of the key; records without a key in turn.
    Key,
    /// In turn.
    RoundRobin,
    /// Always this one; the others are left to other producers.
    One(u32),
}

/// What can be chosen for a producer.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How partitions are chosen.
    pub partitioning: Partitioning,
    /// Bytes of one partition that may wait to be made durable.
    pub group_bytes: u64,
    /// How long a record may wait while others are appended; a pause is the caller's to fill with `sync`.
    pub group_wait: Duration,
    /// Who produces, for whoever finds a partition taken.
    pub holder: String,
}

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            partitioning: Partitioning::Key,
            group_bytes: 256 * 1024,
            group_wait: Duration::from_millis(1),
            holder: "a producer".into(),
        }
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The partition.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
}

/// Appends records to a topic. What was appended counts, and is acknowledged, once it is durable: when a group is full or
/// has waited long enough, or at [`Producer::sync`]. What is not synced when the producer is dropped may be lost.
#[derive(Debug)]
pub struct Producer {
    partitioning: Partitioning,
    group_bytes: u64,
    group_wait: Duration,
    /// The writer of each partition, in order; only one with [`Partitioning::One`].
    writers: Vec<Writer>,
    /// Number of the first writer's partition.
    first: u32,
    turn: usize,
    /// When the oldest record that is not durable was appended.
    waiting_since: Option<Instant>,
}

impl Producer {
    /// Takes the partitions of a topic for writing.
    pub fn open(topic: &Topic, options: ProducerOptions) -> Result<Producer, TopicError> {
        let partitions = match options.partitioning {
            Partitioning::One(one) if one < topic.partitions() => one..one + 1,
            Partitioning::One(one) => {
                return Err(TopicError::Option(format!(
                    "topic `{}` has no partition {one}: it has {}",
                    topic.name(),
                    topic.partitions()
                )));
            }
            _ => 0..topic.partitions(),
        };
        let first = partitions.start;
        let writers = partitions.map(|p| Writer::open(topic, p, &options.holder)).collect::<Result<Vec<_>, _>>()?;
        Ok(Producer {
            partitioning: options.partitioning,
            group_bytes: options.group_bytes,
            group_wait: options.group_wait,
            writers,
            first,
            turn: 0,
            waiting_since: None,
        })
    }

    /// Appends a record, with the present time if it has none, and returns where it will lie. It counts once it is durable.
    pub fn append(&mut self, record: &Record) -> Result<Placed, TopicError> {
        let chosen = self.choose(record.key);
        let timestamp = if record.timestamp == NO_TIME { now_micros() } else { record.timestamp };
        let writer = &mut self.writers[chosen];
        let offset = writer.append(Kind::Plain, &Record { timestamp, ..*record })?;
        let is_full = writer.waiting() >= self.group_bytes;
        let since = *self.waiting_since.get_or_insert_with(now);
        if is_full {
            writer.sync()?;
        }
        if since.elapsed() >= self.group_wait {
            self.sync()?;
        }
        Ok(Placed { partition: self.first + u32::try_from(chosen).expect("partitions are few"), offset })
    }

    /// Makes all that was appended durable: it is acknowledged when this returns.
    pub fn sync(&mut self) -> Result<(), TopicError> {
        self.waiting_since = None;
        self.writers.iter_mut().try_for_each(Writer::sync)
    }

    /// Returns the offset after the last acknowledged record of a partition that this producer writes.
    pub fn acknowledged(&self, partition: u32) -> Option<u64> {
        let index = usize::try_from(partition.checked_sub(self.first)?).ok()?;
        self.writers.get(index).map(Writer::acknowledged)
    }

    fn choose(&mut self, key: Option<&[u8]>) -> usize {
        match (self.partitioning, key) {
            (Partitioning::One(_), _) => 0,
            (Partitioning::Key, Some(key)) => {
                let writers = self.writers.len() as u64;
                usize::try_from(key::hash_of_text(key) % writers).expect("partitions are few")
            }
            _ => {
                self.turn = (self.turn + 1) % self.writers.len();
                self.turn
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a producer is no part of a job: how records are grouped reaches no output"
)]
fn now() -> Instant {
    Instant::now()
}
