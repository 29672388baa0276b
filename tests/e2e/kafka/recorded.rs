//! Recorded ticks in a namespace of their own on real brokers: what another client reads there is what it reads of the job, to the byte.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Place;
use crate::support::process::Invocation;
use crate::support::registry::{Registry, shared};

/// Live sessions as a table and as a log, and the clicks as Avro: keys, headers, tombstones, numbers of schemas.
const JOB: &str = r#"
job: rec-sessions
sources:
  clicks:
    topic: rec.clicks
    schema: { user: { meta: key, type: string! }, trace: { header: trace, type: string }, n: int64, ts: timestamp_ms }
    event_time: ts
    id: n
    max_disorder: 20m
steps:
  visits: { sessionize: { from: clicks, by: [user], gap: 30m, mode: live } }
sinks:
  table: { from: visits, topic: rec.visits, partitions: 3, key: [session_id], op: tombstone, headers: { x-user: user } }
  log: { from: visits, topic: rec.log, partitions: 2, key: [session_id], op: header }
  clicked: { from: clicks, topic: rec.clicked, format: avro, key: [user], headers: { trace: trace } }
journal: { keep: all }
"#;
const TOPICS: [&str; 3] = ["rec.visits", "rec.log", "rec.clicked"];
const BUSY: &[&str] = &["--set", "tick.max_rows=5", "--set", "commit.every=10ms", "--set", "checkpoint.every=50ms"];

/// Clicks of thirty people, out of order, so that sessions change after they were given and merge.
fn clicks() -> Vec<Value> {
    let click = |n: u64| {
        let (user, minute) = (n * 7 % 30, n / 3 + n * 13 % 19);
        let ts = 1_767_225_600_000 + minute * 60_000;
        let value: String = format!(r#"{{"n":{n},"ts":{ts}}}"#).bytes().map(|byte| format!("{byte:02x}")).collect();
        json!({"value": value, "key": format!("user-{user}"), "headers": {"trace": format!("t{n}")}})
    };
    (0..600).map(click).collect()
}

/// What a topic holds for a client that shares no line with riverrun: keys, headers and values, by partition, in order.
fn consumed(registry: &Registry, prefix: &str) -> Vec<Vec<Value>> {
    let without_offset = |mut record: Value| {
        // Between the records of transactions lie their marks, as many as there were commits.
        record["place"] = record["place"][0].take();
        record
    };
    let of = |topic: &str| registry.read_raw(&format!("{prefix}{topic}")).into_iter().map(without_offset).collect();
    TOPICS.map(of).to_vec()
}

fn killed(command: &Invocation, times: u64) {
    for life in 0..times {
        let mut running = command.start();
        if running.ends_within(Duration::from_millis(900 + 400 * life)) {
            let finished = running.finish();
            assert_eq!(finished.code, Some(0), "life {life}: {finished}");
            return;
        }
        running.kill();
    }
}

#[test]
fn a_killed_job_on_brokers_is_repeated_to_the_byte_with_keys_headers_and_tombstones() {
    let Some(registry) = shared() else { return };
    registry.brokers.producer("rec.clicks", 1);
    registry.write_records("rec.clicks", &clicks());
    let place = Place::new();
    place.write("job.yaml", JOB);
    let live = registry.with(place.run("job.yaml")).args(BUSY).arg("--until-end");
    killed(&live, 3);
    live.succeed();
    let expected = consumed(registry, "");
    let tombstones = expected[0].iter().filter(|record| record["value"].is_null()).count();
    assert!(tombstones > 0 && tombstones < expected[0].len(), "{tombstones} tombstones of {}", expected[0].len());
    assert!(expected.iter().flatten().all(|record| record["key"].is_string()));
    assert!(expected.iter().flatten().all(|record| !record["headers"].as_object().unwrap().is_empty()));

    let repeat = |name: &str| {
        let replay = place.riverrun(&["replay", "job.yaml", "--recorded", "--as", name, "-o", "json"]);
        registry.with(replay).args(BUSY)
    };
    for workers in [1, 2, 3] {
        let name = format!("w{workers}");
        let command = repeat(&name).workers(workers);
        if workers > 1 {
            killed(&repeat(&name).workers(workers).args(&["--rate", "200/s"]), 2);
        }
        let finished = command.succeed();
        for (topic, (found, expected)) in
            TOPICS.iter().zip(consumed(registry, &format!("{name}.")).iter().zip(&expected))
        {
            assert!(found == expected, "{name}.{topic}: {} records, not {}: {finished}", found.len(), expected.len());
        }
    }
    let files = place.riverrun(&["replay", "job.yaml", "--recorded", "--out", "files"]);
    registry.with(files).args(BUSY).fail(78, &["sink `clicked` writes Avro", "--as NAME"]);
    assert!(registry.brokers.has("riverrun.progress.rec-sessions_w1.table"));
    assert!(consumed(registry, "") == expected, "the job's own topics are as they were");
    // What another library makes of the values.
    assert_eq!(registry.read("w1.rec.clicked"), registry.read("rec.clicked"));
}
