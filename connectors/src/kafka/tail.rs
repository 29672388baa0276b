//! Looking into a topic: the records of all partitions from some point on, by time, as far as they are there.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::address::Cluster;
use super::admin::describe;
use super::client::{CALL, PATIENCE, Reader, Sees, now, offset_of, raw_offset};
use super::ends::last_records;
use super::error::{KafkaFault, Verdict, verdict};

/// Records that are read ahead of a partition.
const AHEAD: usize = 1024;

/// Where a [`KafkaTail`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// At the first record.
    Start,
    /// After the last record.
    End,
    /// So many records before the end, of all partitions together.
    Last(u64),
}

/// A record and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The partition.
    pub partition: u32,
    /// The offset there.
    pub offset: u64,
    /// The timestamp, in milliseconds since the epoch, if it has one.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Gives the records of a topic, those of one partition in order, partitions merged by timestamp as far as records are there.
pub struct KafkaTail {
    cluster: Cluster,
    client: Reader,
    topic: String,
    partitions: BTreeMap<i32, Ahead>,
}

/// A partition and what was read ahead of it.
struct Ahead {
    records: VecDeque<KafkaRecord>,
    /// Up to where there was something when the tail was opened.
    end: u64,
    /// The next offset that is expected.
    next: u64,
    paused: bool,
}

impl KafkaTail {
    /// Opens a topic, or only one partition of it.
    pub fn open(
        cluster: &Cluster,
        topic: &str,
        partition: Option<u32>,
        from: TailFrom,
    ) -> Result<KafkaTail, KafkaFault> {
        let client = cluster.consumer("riverrun.topic", Sees::Committed, &[])?;
        let info = describe(cluster, &client, topic)?;
        let bounds: BTreeMap<i32, (u64, u64)> = (0..).zip(info.partitions.iter().copied()).collect();
        let wanted = partition.map(|one| i32::try_from(one).unwrap_or(i32::MAX));
        if let Some(one) = wanted.filter(|one| !bounds.contains_key(one)) {
            let reason = format!("has no partition {one}: it has {}", bounds.len());
            return Err(KafkaFault::Changed { what: format!("topic `{topic}`"), reason });
        }
        let bounds: BTreeMap<i32, (u64, u64)> =
            bounds.into_iter().filter(|(partition, _)| wanted.is_none_or(|wanted| wanted == *partition)).collect();
        let ends = last_records(cluster, &client, topic, &bounds)?;
        let begin = |partition: &i32| {
            let ((first, next), end) = (bounds[partition], ends[partition]);
            match from {
                TailFrom::Start => first,
                TailFrom::End => next,
                // Offsets that are no records make it a few more; they are left out below.
                TailFrom::Last(rows) => end.saturating_sub(rows.saturating_mul(4)).max(first),
            }
        };
        let ahead = |partition: &i32| Ahead {
            records: VecDeque::new(),
            end: ends[partition],
            next: begin(partition),
            paused: false,
        };
        let partitions: BTreeMap<i32, Ahead> = bounds.keys().map(|partition| (*partition, ahead(partition))).collect();
        let mut list = TopicPartitionList::new();
        let fault = |error: &KafkaError| cluster.fault(&format!("topic `{topic}`"), client.context(), error);
        for (partition, ahead) in &partitions {
            let offset = Offset::Offset(raw_offset(ahead.next));
            list.add_partition_offset(topic, *partition, offset).map_err(|error| fault(&error))?;
        }
        client.assign(&list).map_err(|error| fault(&error))?;
        let mut tail = KafkaTail { cluster: cluster.clone(), client, topic: topic.to_owned(), partitions };
        if let TailFrom::Last(rows) = from {
            tail.keep_last(usize::try_from(rows).unwrap_or(usize::MAX))?;
        }
        Ok(tail)
    }

    /// Reads all up to the end and keeps so many of the last.
    fn keep_last(&mut self, rows: usize) -> Result<(), KafkaFault> {
        let mut last = VecDeque::new();
        while let Some(record) = self.read()? {
            last.push_back(record);
            if last.len() > rows {
                last.pop_front();
            }
        }
        for record in last {
            let partition = i32::try_from(record.partition).expect("partitions are few");
            if let Some(ahead) = self.partitions.get_mut(&partition) {
                ahead.records.push_back(record);
            }
        }
        Ok(())
    }

    /// Returns the next record, or `None` if there is none now; later there may be.
    pub fn read(&mut self) -> Result<Option<KafkaRecord>, KafkaFault> {
        // Before the end that was there at first, a partition is waited for: so records come by time, not by chance.
        let mut begun = now();
        while self.partitions.values().any(|ahead| ahead.records.is_empty() && ahead.next < ahead.end) {
            if self.fetch(CALL)? {
                begun = now();
            } else if begun.elapsed() > PATIENCE {
                let reason = "it does not answer".to_owned();
                return Err(KafkaFault::Topic { what: format!("topic `{}`", self.topic), reason });
            }
        }
        while self.partitions.values().all(|ahead| ahead.records.is_empty()) && self.fetch(Duration::ZERO)? {}
        let first = |ahead: &&mut Ahead| ahead.records.front().and_then(|record| record.timestamp_ms);
        let next = self.partitions.values_mut().filter(|ahead| !ahead.records.is_empty()).min_by_key(first);
        let record = next.and_then(|ahead| ahead.records.pop_front());
        self.resume()?;
        Ok(record)
    }

    /// Takes in one record; false if there was none.
    fn fetch(&mut self, wait: Duration) -> Result<bool, KafkaFault> {
        let message = match self.client.poll(wait) {
            None => return Ok(false),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if let Some(ahead) = self.partitions.get_mut(&partition) {
                    ahead.next = ahead.next.max(ahead.end);
                }
                return Ok(true);
            }
            Some(Err(error)) if verdict(&error) == Verdict::Fatal => {
                return Err(self.cluster.fault(&format!("topic `{}`", self.topic), self.client.context(), &error));
            }
            Some(Err(_)) => return Ok(true),
            Some(Ok(message)) => message,
        };
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let record = KafkaRecord {
            partition: u32::try_from(message.partition()).unwrap_or_default(),
            offset: offset_of(message.offset()),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
        };
        let partition = message.partition();
        let Some(ahead) = self.partitions.get_mut(&partition) else { return Ok(true) };
        ahead.next = record.offset + 1;
        ahead.records.push_back(record);
        if ahead.records.len() >= AHEAD && !ahead.paused {
            ahead.paused = true;
            self.steer(partition, Reader::pause)?;
        }
        Ok(true)
    }

    /// Lets partitions go on that were held back.
    fn resume(&mut self) -> Result<(), KafkaFault> {
        let empty = |(partition, ahead): (&i32, &mut Ahead)| {
            (ahead.paused && ahead.records.is_empty()).then(|| {
                ahead.paused = false;
                *partition
            })
        };
        let drained: Vec<i32> = self.partitions.iter_mut().filter_map(empty).collect();
        drained.into_iter().try_for_each(|partition| self.steer(partition, Reader::resume))
    }

    fn steer(
        &self,
        partition: i32,
        act: impl Fn(&Reader, &TopicPartitionList) -> Result<(), KafkaError>,
    ) -> Result<(), KafkaFault> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        act(&self.client, &list)
            .map_err(|error| self.cluster.fault(&format!("topic `{}`", self.topic), self.client.context(), &error))
    }
}
