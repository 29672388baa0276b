//! What the outside says of the partitions that a job reads, for whoever watches it: how old what is not read is, for how long what a
//! restart may need will be there; and what the outside hears: how far the job is, as offsets of a group that nobody reads.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use riverrun_dataflow::source::{Outlook, Standing};

use super::address::Cluster;
use super::admin::settings;
use super::client::{Reader, listen, now, now_millis, offset_of, partition_name, raw_offset};
use super::error::{KafkaFault, Verdict, verdict};
use super::events::{NotMirrored, SoonGone};

/// How often brokers are asked how old a record is: it reads one of each partition.
const ASKED_EVERY: Duration = Duration::from_secs(60);
/// How long a record is waited for.
const LOOKED_FOR: Duration = Duration::from_secs(5);
/// How long an answer is waited for that only tells whether there will be others.
const BRIEFLY: Duration = Duration::from_secs(2);

/// What is known of the partitions of a topic.
#[derive(Default)]
pub(crate) struct Outlooks {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    asked: Option<Instant>,
    headroom: BTreeMap<i32, Duration>,
    /// Said once, until it is well again.
    is_told: bool,
    /// What was told to the group.
    mirrored: BTreeMap<String, u64>,
    refused: bool,
}

impl Outlooks {
    fn known(&self) -> MutexGuard<'_, Known> {
        // What is in it is whole at any time.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known of each partition; `reading`: the client that reads them.
    pub fn all(&self, reading: Option<&Reader>) -> BTreeMap<String, Outlook> {
        let mut all: BTreeMap<i32, Outlook> = BTreeMap::new();
        for (partition, headroom) in &self.known().headroom {
            all.entry(*partition).or_default().headroom = Some(*headroom);
        }
        for (partition, read) in reading.map(|client| client.context().reading()).unwrap_or_default() {
            let outlook = all.entry(partition).or_default();
            outlook.skipped = read.skipped;
            let age = |ms: i64| Duration::from_millis(u64::try_from(now_millis().saturating_sub(ms)).unwrap_or(0));
            outlook.behind = if read.has_all { Some(Duration::ZERO) } else { read.time_ms.map(age) };
        }
        all.into_iter().map(|(partition, outlook)| (partition.to_string(), outlook)).collect()
    }

    /// Tells the group how far the job is. What a cluster does not allow is said once and left.
    pub fn mirror(&self, client: &Reader, topic: &str, standing: &Standing) {
        let mut known = self.known();
        if known.refused || known.mirrored == standing.done || standing.done.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (split, position) in &standing.done {
            let Ok(partition) = split.parse() else { continue };
            // A number that does not fit stands for none.
            list.add_partition_offset(topic, partition, Offset::Offset(raw_offset(*position))).ok();
        }
        match client.commit(&list, CommitMode::Async).and_then(|()| answer(client)) {
            Ok(true) => known.mirrored.clone_from(&standing.done),
            Err(error) if verdict(&error) == Verdict::Fatal => {
                NotMirrored { topic, reason: &error.to_string() }.log();
                known.refused = true;
            }
            // It is tried again with the next checkpoint.
            Ok(false) | Err(_) => {}
        }
    }

    /// Asks how old the records are that a restart may need, and says it aloud if they will be gone soon.
    pub fn look(&self, cluster: &Cluster, client: &Reader, topic: &str, standing: &Standing) -> Result<(), KafkaFault> {
        if self.known().asked.is_some_and(|asked| asked.elapsed() < ASKED_EVERY) {
            return Ok(());
        }
        self.known().asked = Some(now());
        // A cluster that is away is not waited for: the job may be about to end.
        if client.fetch_metadata(Some(topic), BRIEFLY).is_err() {
            return Ok(());
        }
        let Some(kept_ms) = settings(cluster, client, topic)?.retention_ms else {
            self.known().headroom.clear();
            return Ok(());
        };
        let kept = Duration::from_millis(u64::try_from(kept_ms).unwrap_or(0));
        let mut headroom = BTreeMap::new();
        for (split, position) in &standing.needed {
            let Ok(partition) = split.parse() else { continue };
            headroom.insert(partition, headroom_of(cluster, client, topic, (partition, *position), kept)?);
        }
        let least = headroom.iter().min_by_key(|(_, left)| **left).map(|(partition, left)| (*partition, *left));
        let mut known = self.known();
        known.headroom = headroom;
        let Some((partition, left)) = least else { return Ok(()) };
        let is_short = left < kept / 2;
        if is_short && !known.is_told {
            SoonGone { what: &partition_name(topic, partition), seconds: left.as_secs(), kept: kept.as_secs() }.log();
        }
        known.is_told = is_short;
        Ok(())
    }
}

/// Waits a little for the answer to a commit of offsets; returns whether one came. Nobody waits for a coordinator that is away: the job
/// may be about to end.
fn answer(client: &Reader) -> Result<bool, KafkaError> {
    let begun = now();
    while begun.elapsed() < BRIEFLY {
        listen(client);
        if let Some(answer) = client.context().committed() {
            return answer.map(|()| true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

/// Returns for how long the record at a position will be kept: all of the time if there is none yet.
fn headroom_of(
    cluster: &Cluster,
    client: &Reader,
    topic: &str,
    (partition, position): (i32, u64),
    kept: Duration,
) -> Result<Duration, KafkaFault> {
    let (first, next) = cluster.bounds(client, topic, partition)?;
    if position < first {
        return Ok(Duration::ZERO);
    }
    if position >= next {
        return Ok(kept);
    }
    let fault = |error: KafkaError| cluster.fault(&partition_name(topic, partition), client.context(), &error);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(raw_offset(position))).map_err(fault)?;
    client.assign(&list).map_err(fault)?;
    let time = first_time(client, position);
    client.unassign().map_err(fault)?;
    let age = |ms: i64| Duration::from_millis(u64::try_from(now_millis().saturating_sub(ms)).unwrap_or(0));
    Ok(time.map_or(kept, |ms| kept.saturating_sub(age(ms))))
}

/// Returns the time of the first record that comes, if one does: there may be none but marks of transactions.
fn first_time(client: &Reader, position: u64) -> Option<i64> {
    let begun = now();
    while begun.elapsed() < LOOKED_FOR {
        match client.poll(LOOKED_FOR) {
            Some(Ok(message)) if offset_of(message.offset()) >= position => return message.timestamp().to_millis(),
            Some(Err(KafkaError::PartitionEOF(_))) => return None,
            _ => {}
        }
    }
    None
}
