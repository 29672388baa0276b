//! Producing: records from outside into a topic, acknowledged in groups.

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, Producer};

use super::address::Cluster;
use super::admin::ensure;
use super::client::{PATIENCE, Sees, Writer, await_word, hear, now};
use super::error::{KafkaFault, said};

/// Appends records to a topic, placed by key as other clients of Kafka place them. A record is acknowledged when
/// [`KafkaProducer::sync`] returns.
pub struct KafkaProducer {
    cluster: Cluster,
    topic: String,
    partitions: u32,
    client: Writer,
}

impl KafkaProducer {
    /// Opens a topic, which is made with `partitions` if there is none.
    pub fn open(cluster: &Cluster, topic: &str, partitions: u32) -> Result<KafkaProducer, KafkaFault> {
        let client = cluster.consumer("riverrun.topic", Sees::Committed, &[])?;
        let partitions = ensure(cluster, &client, topic, partitions, -1, &[])?;
        let mut config = cluster.config();
        config.set("enable.idempotence", "true");
        config.set("statistics.interval.ms", "0");
        // Who appends waits for groups of records. In the last millisecond of a linger librdkafka keeps a core busy.
        for (name, value) in [("linger.ms", "0"), ("request.timeout.ms", "10000")] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        // So do the clients of the Java world.
        config.set("partitioner", "murmur2_random");
        Ok(KafkaProducer {
            cluster: cluster.clone(),
            topic: topic.to_owned(),
            partitions,
            client: cluster.client(&config)?,
        })
    }

    /// Returns the number of partitions of the topic.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Appends a record to the partition that its key chooses.
    pub fn append(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<(), KafkaFault> {
        self.hand_over(None, key, value)
    }

    /// Appends a record to a partition.
    pub fn append_to(&mut self, partition: u32, key: Option<&[u8]>, value: &[u8]) -> Result<(), KafkaFault> {
        self.hand_over(i32::try_from(partition).ok(), key, value)
    }

    fn hand_over(&self, partition: Option<i32>, key: Option<&[u8]>, value: &[u8]) -> Result<(), KafkaFault> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).payload(value);
        (record.key, record.partition) = (key, partition);
        let begun = now();
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if begun.elapsed() > PATIENCE {
                        return Err(self.fault(said(&error)));
                    }
                    await_word(&self.client);
                    record = back;
                }
                Err((error, _)) => return Err(self.fault(said(&error))),
            }
        }
    }

    /// Takes what the client has to say meanwhile: who appends for long without [`KafkaProducer::sync`] calls it now and then.
    pub fn attend(&self) {
        hear(&self.client);
    }

    /// Waits until all that was appended is there.
    pub fn sync(&mut self) -> Result<(), KafkaFault> {
        let begun = now();
        hear(&self.client);
        while self.client.in_flight_count() > 0 {
            await_word(&self.client);
            if begun.elapsed() > PATIENCE {
                return Err(self.fault("no broker takes the records".to_owned()));
            }
        }
        self.client.context().undelivered().map_or(Ok(()), |error| Err(self.fault(said(&error))))
    }

    fn fault(&self, reason: String) -> KafkaFault {
        let what = format!("topic `{}` at {}", self.topic, self.cluster);
        KafkaFault::Topic { what, reason }
    }
}
