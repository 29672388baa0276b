//! Partitioners: rows lie where other clients of Kafka put the same keys, from any number of workers.

use std::collections::BTreeMap;

use riverrun_connectors::kafka::KafkaRecord;

use crate::support::Place;
use crate::support::brokers::{deal, shared};
use crate::support::jobs::BUSY;
use crate::support::python::{fixture, python};

const PARTITIONS: u32 = 7;
const JOB: &str = r#"
job: placed
sources:
  clicks: { topic: placed.clicks, schema: { user: string, n: int64, ts: timestamp_ms }, event_time: ts }
sinks:
  out: { from: clicks, topic: placed.out, key: [user], partitioner: murmur2, partitions: 7 }
"#;

/// Keys of every length, with bytes of every kind, and one of no bytes.
fn keys() -> Vec<String> {
    let odd = ["", "a", "ab", "abc", "用户七", "\u{1F6D2}", "ü ñ", "tab\there", "nul\u{0}l"].map(str::to_owned);
    odd.into_iter().chain((0..300).map(|number| format!("user-{}-{number}", "x".repeat(number % 9)))).collect()
}

#[test]
fn keys_lie_in_the_partitions_that_another_client_chooses_by_murmur2() {
    let Some(brokers) = shared() else { return };
    let Some(python) = python("confluent_kafka") else { return };
    let (keys, place) = (keys(), Place::new());
    place.write("keys.json", serde_json::to_vec(&keys).unwrap());
    drop(brokers.producer("placed.theirs", PARTITIONS));
    let address = brokers.address();
    let servers = address.trim_start_matches("kafka://");
    let said = fixture(&python, "partitions.py", [servers, "placed.theirs", "keys.json"], place.folder());
    let theirs: BTreeMap<String, u32> = serde_json::from_str(&said).unwrap();
    assert_eq!(theirs.len(), keys.len());

    let row = |(n, key): (usize, &String)| {
        serde_json::to_vec(&serde_json::json!({ "user": key, "n": n, "ts": 1_767_225_600_000_u64 + n as u64 })).unwrap()
    };
    let rows: Vec<Vec<u8>> = keys.iter().chain(&keys).enumerate().map(row).collect();
    deal(&mut brokers.producer("placed.clicks", 3), rows.iter().map(Vec::as_slice), &mut 0);
    place.write("job.yaml", JOB);
    let mut written: Vec<Vec<KafkaRecord>> = Vec::new();
    for workers in [1, 3] {
        let topic = format!("placed.out{workers}");
        let run = brokers.with(place.run("job.yaml")).args(BUSY).args(&["--until-end", "--state", &topic]);
        run.set(format!("sinks.out.topic={topic}")).workers(workers).succeed();
        let records = brokers.settled(&topic, rows.len());
        written.push(records.into_iter().map(|record| KafkaRecord { offset: 0, ..record }).collect());
    }
    assert!(written[0] == written[1], "the runs differ");
    let ours = written[0]
        .iter()
        .map(|record| (String::from_utf8(record.key.clone().expect("a key")).expect("a text"), record.partition));
    assert_eq!(written[0].len(), rows.len());
    assert_eq!(ours.collect::<BTreeMap<_, _>>(), theirs);

    // What a row has for a partition hangs on its key, so there must be one.
    place.write("keyless.yaml", JOB.replace("key: [user], ", ""));
    place.riverrun(&["check", "keyless.yaml"]).fail(78, &["J028", "names no `key`"]);
}
