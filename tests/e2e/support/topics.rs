//! Topics filled and read by a test, beside the binary that does the same.

use std::path::Path;

use riverrun_connectors::topic::{
    Begin, CreateOptions, Partitioning, Producer, ProducerOptions, Record, Tail, TailRecord, Topic,
};

/// Returns a producer of the topic `name`, which it makes if need be.
pub fn producer(folder: &Path, name: &str, partitions: u32) -> Producer {
    let options = CreateOptions { partitions, ..CreateOptions::default() };
    let topic = Topic::open_or_create(folder, name, &options).expect("the topic can be made");
    let group_wait = std::time::Duration::from_millis(50);
    let options = ProducerOptions { partitioning: Partitioning::RoundRobin, group_wait, ..ProducerOptions::default() };
    Producer::open(&topic, options).expect("nobody else writes it")
}

/// Appends lines, one record each, and makes them durable.
pub fn append<'a>(producer: &mut Producer, lines: impl IntoIterator<Item = &'a [u8]>) {
    lines.into_iter().for_each(|line| append_lazily(producer, line));
    producer.sync().expect("there is room");
}

/// Appends a line, which is durable after the next [`append`].
pub fn append_lazily(producer: &mut Producer, line: &[u8]) {
    // The time of a record is no part of any claim: one that is fixed makes topics comparable.
    let record = Record { timestamp: 1_767_225_600_000_000, key: None, value: line };
    producer.append(&record).expect("there is room");
}

/// Returns all records of a topic, in order within each partition; none if there is no such topic yet.
pub fn records(folder: &Path, name: &str) -> Vec<TailRecord> {
    let Ok(topic) = Topic::open(folder, name) else { return Vec::new() };
    let mut tail = Tail::open(&topic, None, Begin::Start).expect("the topic can be read");
    let mut all = Vec::new();
    while let Some(record) = tail.read().expect("the topic can be read") {
        all.push(record);
    }
    all.sort_by_key(|record| (record.partition, record.offset));
    all
}

/// Returns the rows of a topic.
pub fn rows(folder: &Path, name: &str) -> Vec<serde_json::Value> {
    let row = |record: TailRecord| serde_json::from_slice(&record.value).expect("a sink writes JSON");
    records(folder, name).into_iter().map(row).collect()
}

/// Returns how many records a topic has that count.
pub fn count(folder: &Path, name: &str) -> u64 {
    let Ok(topic) = Topic::open(folder, name) else { return 0 };
    topic.describe().map_or(0, |partitions| partitions.iter().map(|partition| partition.records).sum())
}
