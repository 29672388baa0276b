//! Reading topics and doing nothing with what comes: what librdkafka and the brokers take by themselves.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::address::Cluster;
use super::client::{CALL, PATIENCE, Sees, now};
use super::error::{KafkaFault, Verdict, verdict};
use super::source::READING;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Reads topics from their beginning to where they end, as a source does, and counts.
pub fn drain(cluster: &Cluster, topics: &[&str]) -> Result<Drained, KafkaFault> {
    let client = cluster.consumer("riverrun.drain", Sees::Committed, READING)?;
    let what = format!("topics {}", topics.join(", "));
    let fault = |error: KafkaError| cluster.fault(&what, client.context(), &error);
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..cluster.partitions(&client, topic)? {
            let partition = i32::try_from(partition).expect("partitions are few");
            list.add_partition_offset(topic, partition, Offset::Beginning).map_err(fault)?;
        }
    }
    let mut open = list.count();
    client.assign(&list).map_err(fault)?;
    let (mut drained, mut heard) = (Drained::default(), now());
    while open > 0 {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                drained.records += 1;
                drained.bytes += message.payload_len() as u64;
                heard = now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) if verdict(&error) == Verdict::Fatal => return Err(fault(error)),
            _ if heard.elapsed() > PATIENCE + CALL => {
                return Err(KafkaFault::Topic { what, reason: "it does not answer".to_owned() });
            }
            _ => {}
        }
    }
    Ok(drained)
}
