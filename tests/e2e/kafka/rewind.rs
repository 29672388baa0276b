//! Past input of real brokers: ranges by time and offset, in a namespace of their own; recorded ticks; on to live.

use riverrun_connectors::kafka::KafkaRecord;
use serde_json::Value;

use super::faults::in_turn_from_first;
use super::{job, renamed};
use crate::oracle::{self, Model, assert_same};
use crate::support::brokers::{Brokers, deal, shared};
use crate::support::jobs::{self, BUSY, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::process::Stop;
use crate::support::shop::START_MS;
use crate::support::{Place, Shop};

fn rows(brokers: &Brokers, topic: &str, count: usize) -> Vec<Value> {
    let row = |record: KafkaRecord| serde_json::from_slice(&record.value.expect("no tombstone")).expect("JSON");
    brokers.settled(topic, count).into_iter().map(row).collect()
}

#[test]
fn past_records_of_brokers_are_replayed_beside_the_job_and_recorded_ticks_to_the_byte() {
    let Some(brokers) = shared() else { return };
    let shopping = Shop { seed: 620, rows: 1200, broken: true, ..Shop::default() }.open();
    for (topic, rows) in [("past.clicks", &shopping.clicks), ("past.orders", &shopping.orders)] {
        deal(&mut brokers.producer(topic, 2), rows.iter().map(Vec::as_slice), &mut 0);
    }
    let place = Place::new();
    place.write("job.yaml", job("past"));
    let expected = oracle::attributed(
        &oracle::clicks(&in_turn_from_first(&shopping.clicks)),
        &oracle::orders(&in_turn_from_first(&shopping.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    let live = brokers.with(place.run("job.yaml")).args(BUSY).args(&["--until-end", "--set", "journal.keep=all"]);
    live.succeed();
    let written = brokers.settled("past.out", expected.len());

    // Recorded ticks, whole and in two parts.
    let recorded = |out: &str| {
        let replay = place.riverrun(&["replay", "job.yaml", "--recorded", "--out", out, "-o", "json"]);
        brokers.with(replay.args(BUSY))
    };
    let said = recorded("again").workers(3).succeed().document();
    let values: Vec<u8> =
        written.iter().flat_map(|row| [row.value.as_ref().unwrap(), b"\n".as_slice()].concat()).collect();
    assert!(place.read("again/out.jsonl") == values, "other bytes");
    let middle = (said["to"].as_u64().unwrap() / 2).to_string();
    let next = (said["to"].as_u64().unwrap() / 2 + 1).to_string();
    recorded("first").args(&["--to-tick", &middle]).succeed();
    recorded("rest").args(&["--from-tick", &next]).succeed();
    assert!([place.read("first/out.jsonl"), place.read("rest/out.jsonl")].concat() == values, "in two parts");

    // The whole past, as a job of its own: the same rows in the same order.
    let replay = |range: &[&str]| {
        let replay = place.riverrun(&["replay", "job.yaml", "-o", "json"]);
        brokers.with(replay.args(BUSY).args(range))
    };
    let whole = replay(&["--from", "earliest", "--to", "latest", "--as", "whole"]).workers(2).succeed();
    let found = brokers.settled("whole.past.out", expected.len());
    let values_of = |records: &[KafkaRecord]| records.iter().map(|record| record.value.clone()).collect::<Vec<_>>();
    assert!(values_of(&found) == values_of(&written), "other rows: {whole}");
    assert!(brokers.has("riverrun.progress.past-attribution_whole.out"));
    assert_eq!(brokers.settled("past.out", expected.len()).len(), written.len(), "the job's own topic is as it was");
    // By offsets.
    let part = replay(&["--from", "past.clicks:0=100", "--to", "past.clicks:1=200", "--as", "part"]).succeed();
    let clicks = (shopping.clicks.len() as u64).div_ceil(2) - 100 + 200;
    assert_eq!(part.counts("clicks").input, clicks, "{part}");
    // Two versions over the same records: another window credits other orders, or none.
    let shorter = oracle::attributed(
        &oracle::clicks(&in_turn_from_first(&shopping.clicks)),
        &oracle::orders(&in_turn_from_first(&shopping.orders)),
        60_000,
        DEDUPE_MS,
        Model::Last,
    );
    let differing = expected.iter().zip(&shorter).filter(|(a, b)| a != b).count();
    let set = ["diff", "job.yaml", "job.yaml", "--set-b", "steps.attributed.attribute.window=1m", "-o", "json"];
    let told = brokers.with(place.riverrun(&set)).finish();
    assert_eq!(told.code, Some(1), "{told}");
    let lines = crate::support::place::json_lines(&told.stdout);
    assert_eq!(lines.iter().filter(|line| line["stream"] == "out").count(), differing);
    assert!(differing > 0 && !brokers.has("diff.past.out"), "nothing is written");

    replay(&["--from", "past.clicks:0=100000", "--as", "beyond"]).fail(78, &["partition 0", "start is 100000"]);
}

#[test]
fn a_range_of_record_times_is_found_by_the_brokers() {
    let Some(brokers) = shared() else { return };
    let mut producer = brokers.producer("hours.numbers", 2);
    let lines: Vec<Vec<u8>> = (0..20).map(|n| format!(r#"{{"n":{n},"ts":{}}}"#, START_MS + n).into_bytes()).collect();
    deal(&mut producer, lines.iter().map(Vec::as_slice), &mut 0);
    let place = Place::new();
    place.write(
        "job.yaml",
        "job: hours\nsources:\n  numbers: { topic: hours.numbers, schema: { n: int64, ts: timestamp_ms }, event_time: ts }\n\
         sinks:\n  out: { from: numbers, topic: hours.out }\n",
    );
    let replay = |name: &str, range: &[&str]| {
        let command = place.riverrun(&["replay", "job.yaml", "-o", "json", "--as", name]).args(range);
        brokers.with(command).succeed()
    };
    // The sink gives records the time of their event: what is read from it has known times.
    brokers.with(place.run("job.yaml")).arg("--until-end").succeed();
    assert_eq!(replay("all", &["--from", "1h"]).counts("numbers").input, 20, "they were written just now");
    assert!(
        replay("none", &["--from", "7d", "--to", "1h"]).stderr.contains("nothing to read"),
        "before they were written"
    );
    place.write("second.yaml", "job: second\nsources:\n  numbers: { topic: hours.out, schema: { n: int64, ts: timestamp }, event_time: ts }\nsinks:\n  out: { from: numbers, topic: second.out }\n");
    let command = [
        "replay",
        "second.yaml",
        "-o",
        "json",
        "--from",
        "2026-01-01T00:00:00.005Z",
        "--to",
        "2026-01-01T00:00:00.012Z",
    ];
    let ranged = brokers.with(place.riverrun(&command)).succeed();
    assert_eq!(ranged.counts("numbers").input, 7, "{ranged}");
}

#[test]
fn a_replay_goes_live_on_brokers() {
    let Some(brokers) = shared() else { return };
    let shopping = Shop { seed: 621, rows: 1200, broken: false, ..Shop::default() }.open();
    let half = |rows: &[Vec<u8>]| rows.len() / 2;
    let mut producers = [("over.clicks", &shopping.clicks), ("over.orders", &shopping.orders)].map(|(topic, rows)| {
        let (mut producer, mut turn) = (brokers.producer(topic, 2), 0);
        deal(&mut producer, rows[..half(rows)].iter().map(Vec::as_slice), &mut turn);
        (producer, rows, turn)
    });
    let place = Place::new();
    place.write("job.yaml", renamed(&jobs::attribution(Over::Topics, Model::Last), "over"));
    let command =
        place.riverrun(&["replay", "job.yaml", "-o", "json", "--from", "earliest", "--then-live", "--as", "on"]);
    let command = brokers.with(command.args(BUSY));
    let mut running = command.start();
    running.until("the first rows", || !brokers.records("on.over.out").is_empty());
    running.kill();
    let mut running = command.start();
    for (producer, rows, turn) in &mut producers {
        deal(producer, rows[half(rows)..].iter().map(Vec::as_slice), turn);
        let id = if rows[0].windows(8).any(|bytes| bytes == b"order_id") { "order_id" } else { "event_id" };
        let ts = START_MS + 1000 * 3600 * 1000;
        let heralds: Vec<Vec<u8>> = (0..2)
            .map(|n| format!(r#"{{"{id}":"herald-{n}","user_id":"herald","item_id":"none","ts":{ts}}}"#).into_bytes())
            .collect();
        deal(producer, heralds.iter().map(Vec::as_slice), turn);
    }
    let expected = oracle::attributed(
        &oracle::clicks(&in_turn_from_first(&shopping.clicks)),
        &oracle::orders(&in_turn_from_first(&shopping.orders)),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    running.until("all rows", || brokers.records("on.over.out").len() >= expected.len());
    running.until_said("is live: it has caught up");
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert!(finished.stderr.contains("is live"), "{finished}");
    assert_eq!(finished.counts("attributed").late, 0, "{finished}");
    assert_same(&rows(brokers, "on.over.out", expected.len()), &expected, &["price"]);
}
