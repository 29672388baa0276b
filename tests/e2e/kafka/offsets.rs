//! A suspended job between topics of Kafka goes on from other offsets of a partition.

use serde_json::{Value, json};

use super::renamed;
use crate::manager::offsets::COPY;
use crate::manager::{Managed, kill};
use crate::support::Place;
use crate::support::brokers::{deal, shared};
use crate::support::shop::START_MS;

#[test]
fn a_suspended_job_goes_on_from_other_offsets_and_a_restart_repeats_it() {
    let Some(brokers) = shared() else { return };
    let mut producer = brokers.producer("moved.clicks", 1);
    let mut append = |numbers: std::ops::Range<i64>| {
        let rows: Vec<String> =
            numbers.map(|number| json!({ "event_id": number, "ts": START_MS + number }).to_string()).collect();
        deal(&mut producer, rows.iter().map(|row| row.as_bytes()), &mut 0);
    };
    // One record is one offset here.
    append(0..100);
    let numbers = || -> Vec<i64> {
        let rows = brokers.rows("moved.out");
        let mut found: Vec<i64> = rows.iter().map(|row| row["event_id"].as_i64().unwrap()).collect();
        found.sort_unstable();
        found
    };
    let written = || brokers.records("moved.out").len();
    let place = Place::new();
    place.write("job.yaml", renamed(COPY, "moved"));
    let managed = Managed::at(place, &["--allow-host", "127.0.0.1"]);
    let job = "moved-copy";
    let submit = managed.cli(&["submit", "job.yaml", "--topics", &brokers.address()]);
    submit.args(&["--set", "commit.every=20ms"]).succeed();
    managed.until(job, "all rows", |_| written() == 100);
    managed.cli(&["stop", job]).succeed();
    append(100..200);

    let set = |arguments: &[&str]| managed.cli(&["offsets", "set", job]).args(arguments);
    let next = || -> Value {
        let shown = managed.cli(&["offsets", "show", job]).succeed().document();
        shown["splits"][0]["position"].clone()
    };
    assert_eq!(next(), json!(100));
    set(&["clicks:7=1"]).fail(3, &["clicks:0"]);
    // Beyond the end nothing can be read: the job rests as it was.
    set(&["clicks:0=1000"]).fail(1, &["ends at"]);
    assert_eq!(next(), json!(100));
    set(&["clicks:0=150"]).succeed();
    assert_eq!(next(), json!(150));
    managed.cli(&["resume", job]).succeed();
    managed.until(job, "the rest", |_| written() == 150);
    // Killed: what it goes on with stands in its log.
    kill(managed.one_alive());
    append(200..220);
    managed.until(job, "more rows", |_| written() == 170);
    assert_eq!(numbers(), (0..100).chain(150..220).collect::<Vec<_>>());

    // Back, which is said: those rows come once more, and the transactions before do not mind.
    managed.cli(&["stop", job]).succeed();
    set(&["clicks:0=210"]).fail(5, &["--repeat"]);
    set(&["clicks:0=210", "--repeat"]).succeed();
    managed.cli(&["resume", job]).succeed();
    managed.until(job, "rows again", |_| written() == 180);
    let twice = (210..220).flat_map(|number| [number, number]);
    assert_eq!(numbers(), (0..100).chain(150..210).chain(twice).collect::<Vec<_>>());
    managed.cli(&["stop", job]).succeed();
    managed.cli(&["checkpoints", "verify", job]).succeed();
}
