//! Where the records of a partition end that can be read now: after the last record, not after what lies behind it.
//!
//! The end that a broker gives counts marks of transactions too. Whether a reader has passed them depends on the moment, and the
//! cut of bounded input must not: so the last record itself is looked for, once, when a job begins.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::address::Cluster;
use super::client::{CALL, PATIENCE, Pause, Reader, offset_of, partition_name, raw_offset};
use super::error::{KafkaFault, Verdict, verdict};

/// How many offsets before the end are looked at first; each time nothing is found, eight times as many.
const LOOK_BACK: u64 = 64;

/// Returns for each partition of `bounds`, which are its first offset and the one after its last, the offset after its last
/// record.
pub(crate) fn last_records(
    cluster: &Cluster,
    client: &Reader,
    topic: &str,
    bounds: &BTreeMap<i32, (u64, u64)>,
) -> Result<BTreeMap<i32, u64>, KafkaFault> {
    let mut ends: BTreeMap<i32, u64> = bounds.iter().map(|(partition, (first, _))| (*partition, *first)).collect();
    let mut left: BTreeMap<i32, (u64, u64)> = bounds
        .iter()
        .filter(|(_, (first, next))| first < next)
        .map(|(partition, bound)| (*partition, *bound))
        .collect();
    let mut back = LOOK_BACK;
    while !left.is_empty() {
        let begins = |(first, next): (u64, u64)| next.saturating_sub(back).max(first);
        let from = left.iter().map(|(partition, bound)| (*partition, begins(*bound))).collect();
        let found = last_between(cluster, client, topic, &from, &left)?;
        // Looked at from its very beginning, a partition has no record at all.
        left.retain(|partition, bound| !found.contains_key(partition) && from[partition] > bound.0);
        ends.extend(found);
        back = back.saturating_mul(8);
    }
    Ok(ends)
}

/// Reads partitions from `from` up to the ends in `bounds`, and returns the offset after the last record of those that have one.
fn last_between(
    cluster: &Cluster,
    client: &Reader,
    topic: &str,
    from: &BTreeMap<i32, u64>,
    bounds: &BTreeMap<i32, (u64, u64)>,
) -> Result<BTreeMap<i32, u64>, KafkaFault> {
    let mut list = TopicPartitionList::new();
    let fault = |error: &KafkaError| cluster.fault(&format!("topic `{topic}`"), client.context(), error);
    for (partition, offset) in from {
        list.add_partition_offset(topic, *partition, Offset::Offset(raw_offset(*offset))).map_err(|e| fault(&e))?;
    }
    client.assign(&list).map_err(|error| fault(&error))?;
    let mut found = BTreeMap::new();
    let mut open: Vec<i32> = from.keys().copied().collect();
    let mut pause = Pause::new();
    while !open.is_empty() {
        match client.poll(CALL) {
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), offset_of(message.offset()));
                if bounds.get(&partition).is_some_and(|(_, next)| offset < *next) {
                    found.insert(partition, offset + 1);
                } else {
                    // More was written meanwhile.
                    open.retain(|other| *other != partition);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|other| *other != partition),
            Some(Err(error)) if verdict(&error) == Verdict::Fatal => return Err(fault(&error)),
            Some(Err(_)) => {}
            None if pause.spent() > PATIENCE => {
                let what = partition_name(topic, open[0]);
                let reason = "its end cannot be read: the partition does not answer".to_owned();
                return Err(KafkaFault::Topic { what, reason });
            }
            None => pause.wait(&partition_name(topic, open[0]), "its end cannot be read"),
        }
    }
    client.unassign().map_err(|error| fault(&error))?;
    Ok(found)
}
