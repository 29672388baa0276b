//! A topic as the source of a job: a split per partition, a position per offset.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use riverrun_dataflow::source::{Chunk, Outlook, ReadLimits, Source, SourceError, SplitReader, SplitSpec, Standing};

use super::address::Cluster;
use super::admin::settings;
use super::client::{CALL, LOOKING, Reader, Sees, Watched, offset_of, partition_name, raw_offset};
use super::ends::last_records;
use super::error::KafkaFault;
use super::events::{Gone, NotSeen};
use super::outlook::Outlooks;
use super::split::PartitionReader;
use crate::start::Start;

/// What librdkafka may fetch ahead of a job, by partition. The bound on memory: this much, and one answer of a broker.
const AHEAD_KIB: &str = "8192";
/// Settings of a reading client that a user may overrule.
pub(crate) const READING: &[(&str, &str)] = &[
    ("queued.max.messages.kbytes", AHEAD_KIB),
    ("queued.min.messages", "100000"),
    // A queue that was full is filled again at once: it is small.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "100"),
    // A broker answers when there is something, so this delays no record. But it answers the requests of a connection in order: for so long the
    // first fetch of a partition may wait behind that of others where nothing is new.
    ("fetch.wait.max.ms", "100"),
];

/// What happens when records that are still to be read are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// The job stops.
    #[default]
    Stop,
    /// The job goes on with the first record that there is.
    Skip,
}

/// What happens when a partition that is read is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// The job stops.
    #[default]
    Stop,
    /// The partition ends.
    End,
}

/// How a source meets what a cluster does with its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// What happens when records are gone.
    pub on_lost: OnLost,
    /// What happens when a partition is gone.
    pub on_missing: OnMissing,
    /// A topic is read whose records brokers replace.
    pub allow_compacted: bool,
    /// How far the job is is told to its group, for tools.
    pub mirror_offsets: bool,
    /// How often the cluster is asked for new partitions.
    pub discover_every: Duration,
}

/// What a source reads, and how.
#[derive(Clone, Debug)]
pub struct KafkaSourceConfig {
    /// The cluster.
    pub cluster: Cluster,
    /// The topic.
    pub topic: String,
    /// The job that reads it: what its clients call themselves.
    pub job: String,
    /// Where a new job begins.
    pub start: Start,
    /// Where it ends if it is bounded: the first record that is not read any more.
    pub end: Start,
    /// How it meets what the cluster does with the topic.
    pub manners: Manners,
}

/// Reads a topic of a cluster.
pub struct KafkaSource {
    config: KafkaSourceConfig,
    /// Reads all partitions. Made when the first one is opened.
    reading: Mutex<Option<Arc<Reader>>>,
    /// Is asked what partitions there are and where they end.
    asking: Mutex<Option<Arc<Reader>>>,
    /// Held by who asks or looks for ends, which takes the asking client for itself.
    looking: Mutex<()>,
    outlooks: Outlooks,
}

impl KafkaSource {
    /// Returns the source of a topic, which must exist when splits are asked for.
    pub fn new(config: KafkaSourceConfig) -> KafkaSource {
        let (reading, asking) = Default::default();
        KafkaSource { config, reading, asking, looking: Mutex::default(), outlooks: Outlooks::default() }
    }

    fn client(&self, of: &Mutex<Option<Arc<Reader>>>, watched: Watched) -> Result<Arc<Reader>, KafkaFault> {
        let mut of = of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*of {
            return Ok(client.clone());
        }
        let KafkaSourceConfig { cluster, job, .. } = &self.config;
        let extra = if watched == Watched::Yes { READING } else { LOOKING };
        let client = Arc::new(cluster.watched_consumer(&format!("riverrun.{job}"), Sees::Committed, watched, extra)?);
        Ok(of.insert(client).clone())
    }

    /// Returns the first offset and the one after the last of each partition.
    fn bounds(&self, client: &Reader) -> Result<BTreeMap<i32, (u64, u64)>, KafkaFault> {
        let KafkaSourceConfig { cluster, topic, .. } = &self.config;
        let partitions = i32::try_from(cluster.partitions(client, topic)?).expect("partitions are few");
        (0..partitions).map(|partition| Ok((partition, cluster.bounds(client, topic, partition)?))).collect()
    }

    /// Returns where `place`, the `word` of what is read, is in each partition; `unnamed`, where offsets say nothing of one.
    fn places(
        &self,
        client: &Reader,
        bounds: &BTreeMap<i32, (u64, u64)>,
        (word, place): (&str, &Start),
        unnamed: impl Fn(&(u64, u64)) -> u64,
    ) -> Result<BTreeMap<i32, u64>, KafkaFault> {
        let topic = &self.config.topic;
        match place {
            Start::Earliest => Ok(bounds.iter().map(|(partition, (first, _))| (*partition, *first)).collect()),
            Start::Latest => Ok(bounds.iter().map(|(partition, (_, next))| (*partition, *next)).collect()),
            Start::Time(millis) => self.at_time(client, bounds, *millis),
            Start::Offsets(offsets) => {
                if let Some(unknown) = offsets.keys().find(|partition| **partition as usize >= bounds.len()) {
                    let reason = format!("it has partitions 0 to {}, but the {word} names {unknown}", bounds.len() - 1);
                    return Err(KafkaFault::Topic { what: format!("topic `{topic}`"), reason });
                }
                let of = |(partition, bound): (&i32, &(u64, u64))| {
                    let (first, next) = bound;
                    let asked = u32::try_from(*partition).ok().and_then(|partition| offsets.get(&partition));
                    let offset = asked.copied().unwrap_or_else(|| unnamed(bound));
                    if (*first..=*next).contains(&offset) {
                        return Ok((*partition, offset));
                    }
                    let what = partition_name(topic, *partition);
                    let reason = format!("it holds {first} to {next}, but the {word} is {offset}");
                    Err(KafkaFault::Topic { what, reason })
                };
                bounds.iter().map(of).collect()
            }
        }
    }

    /// Returns the first record of each partition that is of this time or later; its end, if there is none.
    fn at_time(
        &self,
        client: &Reader,
        bounds: &BTreeMap<i32, (u64, u64)>,
        millis: i64,
    ) -> Result<BTreeMap<i32, u64>, KafkaFault> {
        let KafkaSourceConfig { cluster, topic, .. } = &self.config;
        let found = cluster.patiently(&format!("topic `{topic}`"), client, || {
            let mut times = TopicPartitionList::new();
            for partition in bounds.keys() {
                times.add_partition_offset(topic, *partition, Offset::Offset(millis))?;
            }
            client.offsets_for_times(times, CALL)
        })?;
        let of = |(partition, (first, next)): (&i32, &(u64, u64))| {
            let start = match found.find_partition(topic, *partition).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset_of(offset).clamp(*first, *next),
                _ => *next,
            };
            (*partition, start)
        };
        Ok(bounds.iter().map(of).collect())
    }
}

impl Source for KafkaSource {
    fn splits(&self, is_bounded: bool) -> Result<Vec<SplitSpec>, SourceError> {
        let KafkaSourceConfig { cluster, topic, .. } = &self.config;
        let client = self.client(&self.asking, Watched::No)?;
        let looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.config.manners.allow_compacted && settings(cluster, &client, topic)?.is_compacted {
            return Err(KafkaFault::Compacted { topic: topic.clone() }.into());
        }
        let bounds = self.bounds(&client)?;
        let starts = self.places(&client, &bounds, ("start", &self.config.start), |(first, _)| *first)?;
        let ends = match is_bounded {
            true => {
                let ends = self.places(&client, &bounds, ("end", &self.config.end), |(_, next)| *next)?;
                let until = |(partition, (first, next)): (&i32, &(u64, u64))| {
                    (*partition, (*first, ends.get(partition).map_or(*next, |end| *end.min(next))))
                };
                last_records(cluster, &client, topic, &bounds.iter().map(until).collect())?
            }
            false => BTreeMap::new(),
        };
        drop(looking);
        let identity = client.client().fetch_cluster_id(CALL).unwrap_or_default();
        let split = |(partition, start): (&i32, &u64)| SplitSpec {
            name: partition.to_string(),
            start: *start,
            end: ends.get(partition).map(|end| *end.max(start)),
            identity: identity.clone(),
        };
        let mut splits: Vec<SplitSpec> = starts.iter().map(split).collect();
        splits.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(splits)
    }

    fn discover_every(&self) -> Option<Duration> {
        Some(self.config.manners.discover_every)
    }

    fn outlook(&self, _read: &BTreeMap<String, u64>) -> BTreeMap<String, Outlook> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.outlooks.all(reading.as_deref())
    }

    fn hear(&self, standing: &Standing) {
        let KafkaSourceConfig { cluster, topic, manners, .. } = &self.config;
        let told = self.client(&self.asking, Watched::No).and_then(|client| {
            if manners.mirror_offsets {
                self.outlooks.mirror(&client, topic, standing);
            }
            let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            self.outlooks.look(cluster, &client, topic, standing)
        });
        if let Err(fault) = told {
            // It only watches: the job itself reads the topic, or says why not.
            NotSeen { topic, reason: &fault.to_string() }.log();
        }
    }

    fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, SourceError> {
        let KafkaSourceConfig { cluster, topic, .. } = &self.config;
        let client = self.client(&self.asking, Watched::No)?;
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let partitions = match cluster.partitions(&client, topic) {
            Err(KafkaFault::Missing { .. }) if self.config.manners.on_missing == OnMissing::End => {
                return Ok(Vec::new());
            }
            partitions => i32::try_from(partitions?).expect("partitions are few"),
        };
        let identity = known.first().map(|split| split.identity.clone()).unwrap_or_default();
        let mut grown = Vec::new();
        for partition in 0..partitions {
            let name = partition.to_string();
            if known.iter().all(|split| split.name != name) {
                // From its first record on, wherever the others began: nothing of it was there before.
                let (start, _) = cluster.bounds(&client, topic, partition)?;
                grown.push(SplitSpec { name, start, end: None, identity: identity.clone() });
            }
        }
        grown.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(grown)
    }

    fn ends(&self) -> Result<BTreeMap<String, u64>, SourceError> {
        // What the reading client knows costs nothing, and is there when the cluster is not.
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = reading.as_ref().map(|client| client.context().ends()).unwrap_or_default();
        Ok(ends.into_iter().map(|(partition, end)| (partition.to_string(), end)).collect())
    }

    fn open(&self, split: &SplitSpec, position: u64) -> Result<Box<dyn SplitReader>, SourceError> {
        let KafkaSourceConfig { cluster, topic, manners, .. } = &self.config;
        // Not the client that reads: what it asks waits behind what it fetches.
        let asking = self.client(&self.asking, Watched::No)?;
        let looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let partitions = match cluster.partitions(&asking, topic) {
            Err(KafkaFault::Missing { .. }) if manners.on_missing == OnMissing::End => {
                Gone(&format!("topic `{topic}`")).log();
                return Ok(Box::new(NothingLeft));
            }
            partitions => partitions?,
        };
        let partition = split.name.parse::<u32>().ok().filter(|partition| *partition < partitions);
        let Some(partition) = partition.and_then(|partition| i32::try_from(partition).ok()) else {
            let reason = format!("it had a partition {} before, and has {partitions} now", split.name);
            return Err(KafkaFault::Changed { what: format!("topic `{topic}`"), reason }.into());
        };
        let what = partition_name(topic, partition);
        let identity = asking.client().fetch_cluster_id(CALL).unwrap_or_default();
        if !split.identity.is_empty() && !identity.is_empty() && split.identity != identity {
            let reason = format!("{cluster} is another cluster (`{identity}`, before `{}`)", split.identity);
            return Err(KafkaFault::Changed { what, reason }.into());
        }
        let bounds = cluster.bounds(&asking, topic, partition)?;
        drop(looking);
        if split.end.is_some_and(|end| end > bounds.1) {
            let reason = format!("it was to be read up to {}, but now it ends at {}", split.end.unwrap_or(0), bounds.1);
            return Err(KafkaFault::Changed { what, reason }.into());
        }
        // Whether what is gone may be skipped is known when it is read.
        let gap = (position < bounds.0 && manners.on_lost == OnLost::Skip).then_some(bounds);
        let begin = if gap.is_some() { bounds.0 } else { manners.on_lost.begin(&what, position, bounds)? };
        let client = self.client(&self.reading, Watched::Yes)?;
        let fault = |error: &KafkaError| cluster.fault(&what, client.context(), error);
        // Before it is assigned: no record of it comes by the client's own queue.
        let Some(queue) = client.split_partition_queue(topic, partition) else {
            return Err(SourceError::Read { what, reason: "librdkafka has no queue for it".into() });
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(raw_offset(begin)))
            .map_err(|error| fault(&error))?;
        client.incremental_assign(&list).map_err(|error| fault(&error))?;
        Ok(Box::new(PartitionReader {
            cluster: cluster.clone(),
            topic: topic.clone(),
            partition,
            client,
            queue,
            position,
            end: split.end,
            on_lost: manners.on_lost,
            gap,
            skipped_to: 0,
            on_missing: manners.on_missing,
            gone: false,
            time_ms: None,
            held: None,
            at_end: false,
        }))
    }
}

/// A partition that was deleted while nobody read it.
struct NothingLeft;

impl SplitReader for NothingLeft {
    fn read(&mut self, _: &ReadLimits) -> Result<Option<Chunk>, SourceError> {
        Ok(None)
    }

    fn ended(&self) -> bool {
        true
    }
}
