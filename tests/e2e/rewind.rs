//! Past input through a job, beside the job: ranges are what they are said to be, the job is not touched, and neither crashes nor the pace
//! change a byte.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use riverrun_connectors::topic::Record;
use serde_json::Value;

use crate::live::{PARTITIONS, in_turn, traffic};
use crate::oracle::{self, Model, assert_same};
use crate::support::jobs::{self, BUSY, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::process::{Invocation, Stop};
use crate::support::shop::{DISORDER_MS, START_MS};
use crate::support::{Dice, Place, Shop, topics};

const SINKS: [&str; 3] = ["out", "bad", "late"];

fn replay(place: &Place, range: &[&str]) -> Invocation {
    place.riverrun(&["replay", "job.yaml", "-o", "json", "--topics", "topics"]).args(BUSY).args(range)
}

/// What a sink's topic holds, record by record.
fn given(place: &Place, topic: &str) -> Vec<(u32, u64, Vec<u8>)> {
    let records = topics::records(&place.path("topics"), topic);
    records.into_iter().map(|record| (record.partition, record.offset, record.value)).collect()
}

fn all_given(place: &Place, prefix: &str) -> Vec<Vec<(u32, u64, Vec<u8>)>> {
    SINKS.map(|sink| given(place, &format!("{prefix}{sink}"))).to_vec()
}

/// The main job on topics with late and bad rows, as it ran over them once.
fn job_that_ran(seed: u64, rows: usize) -> Place {
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    let written = traffic(seed, rows);
    for (topic, rows) in [("clicks", written.all_clicks()), ("orders", written.all_orders())] {
        let mut producer = topics::producer(&place.path("topics"), topic, PARTITIONS);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    // The job's topic has several lanes, as has then that of a replay.
    place.riverrun(&["topic", "create", "out", "-p", "3", "--topics", "topics"]).succeed();
    place.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(BUSY).succeed();
    place
}

fn content(place: &Place, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    place.files_below(name).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_replay_is_a_job_of_its_own_that_gives_the_same_bytes_at_any_pace_and_touches_nothing() {
    let place = job_that_ran(600, 1500);
    let expected = all_given(&place, "");
    assert!(expected.iter().all(|rows| !rows.is_empty()), "there is something to compare");
    let live = ["topics/clicks", "topics/orders", "topics/out", "topics/bad", "topics/late"];
    let state = ".riverrun/state/jobs/attribution";
    let before: Vec<_> = live.iter().chain([&state]).map(|name| content(&place, name)).collect();

    let paces: [(&str, &[&str], usize); 4] =
        [("free", &[], 3), ("slow", &["--rate", "5k/s"], 2), ("timed", &["--speed", "9000x"], 1), ("again", &[], 1)];
    for (name, pace, workers) in paces {
        let range = ["--from", "earliest", "--to", "latest", "--as", name];
        let finished = replay(&place, &range).args(pace).workers(workers).succeed();
        assert_eq!(finished.ended(), "finished", "{finished}");
        assert!(all_given(&place, &format!("{name}.")) == expected, "{name}: other bytes");
        let said = finished.document();
        assert_eq!((&said["job"], &said["replay"]), (&Value::from(format!("attribution@{name}")), &Value::from(name)));
        let reaches = said["ranges"].as_array().unwrap().iter().map(|range| range["to"].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            reaches,
            topics::count(&place.path("topics"), "clicks") + topics::count(&place.path("topics"), "orders")
        );
    }
    let after: Vec<_> = live.iter().chain([&state]).map(|name| content(&place, name)).collect();
    assert!(before == after, "the job or what it reads and writes was touched");

    // Once more is nothing more; afresh it is refused what it wrote before, and adds to it only if told to.
    let again = replay(&place, &["--from", "earliest", "--to", "latest", "--as", "free"]).succeed();
    assert_eq!(again.ended(), "already_finished");
    assert!(again.stderr.contains("was finished before"), "{again}");
    let afresh = ["--from", "earliest", "--as", "free", "--fresh"];
    replay(&place, &afresh).fail(78, &["free.", "--append"]);
    replay(&place, &afresh).arg("--append").succeed();
    assert_eq!(given(&place, "free.out").len(), 2 * expected[0].len());

    // Nobody named it: it has a name that the same command has again.
    let unnamed = replay(&place, &["--from", "earliest"]).succeed();
    assert_eq!(replay(&place, &["--from", "earliest"]).succeed().ended(), "already_finished", "{unnamed}");
}

#[test]
fn a_replay_that_is_killed_again_and_again_gives_the_bytes_of_an_undisturbed_one() {
    let place = job_that_ran(601, 2000);
    let expected = all_given(&place, "");
    let (mut dice, mut kills) = (Dice::new(601), 0);
    let command = replay(&place, &["--from", "earliest", "--to", "latest", "--as", "hurt", "--rate", "3k/s"]);
    let given = || topics::count(&place.path("topics"), "hurt.out");
    // Each life is long enough to get on, and ends at some moment after that.
    for part in 1..5 {
        let mut running = command.start();
        running.until("more rows", || given() >= expected[0].len() as u64 * part / 6);
        if running.ends_within(dice.moment(Duration::from_millis(60))) {
            break;
        }
        running.kill();
        kills += 1;
    }
    command.succeed();
    assert!(kills >= 2, "it was killed {kills} times only");
    assert!(all_given(&place, "hurt.") == expected, "other bytes after {kills} kills");
}

#[test]
fn a_replay_goes_on_with_the_range_that_it_began_with() {
    let place = job_that_ran(602, 1500);
    let expected = all_given(&place, "");
    let range = ["--from", "earliest", "--to", "latest", "--as", "kept"];
    let mut running = replay(&place, &range).args(&["--rate", "800/s"]).start();
    running.until("the first rows", || topics::count(&place.path("topics"), "kept.out") > 0);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().ended(), "stopped");
    // More is written meanwhile, and other bounds are asked for.
    topics::append(&mut topics::producer(&place.path("topics"), "clicks", PARTITIONS), [b"{}".as_slice(); 3]);
    let resumed = replay(&place, &["--from", "2020-01-01", "--to", "latest", "--as", "kept"]).succeed();
    let says = ["--from earliest --to latest", "goes on with that range", "--from 2020-01-01", "--fresh"];
    assert!(says.iter().all(|part| resumed.stderr.contains(part)), "{resumed}");
    assert!(all_given(&place, "kept.") == expected, "other bytes");
    assert_eq!(resumed.document()["asked"], "--from earliest --to latest");
}

const NUMBERS: &str = r#"
job: numbers
sources:
  numbers: { topic: numbers, schema: { n: int64, ts: timestamp_ms }, event_time: ts, start: latest }
  others: { file: { path: others.jsonl }, schema: { n: int64, ts: timestamp_ms }, event_time: ts }
steps:
  all: { union: { from: [numbers, others] } }
sinks:
  out: { from: all, file: { path: "${env:WHERE}/out.v1.jsonl" } }
"#;

#[test]
fn ranges_are_times_of_records_ages_and_offsets_and_files_are_read_whole() {
    let place = Place::new();
    place
        .write("job.yaml", NUMBERS)
        .write("others.jsonl", "{\"n\":1000,\"ts\":1767225600000}\n")
        .write("made/.keep", "");
    let mut producer = topics::producer(&place.path("topics"), "numbers", PARTITIONS);
    // Record times are hours of 2026-01-01; event times are none of theirs.
    let hour = |hours: i64| (START_MS + hours * 3_600_000) * 1000;
    for n in 0..24 {
        let value = format!(r#"{{"n":{n},"ts":{START_MS}}}"#);
        producer.append(&Record { timestamp: hour(n), key: None, value: value.as_bytes() }).unwrap();
    }
    producer.sync().unwrap();
    let read = |name: &str, range: &[&str]| {
        let command = replay(&place, range).args(&["--as", name]).env("WHERE", "made").succeed();
        let rows = place.rows(&format!("made/out.v1@{name}.jsonl"));
        let mut numbers: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers.pop(), Some(1000), "the file is read whole: {command}");
        assert!(command.stderr.contains("`others`") && command.stderr.contains("read whole"), "{command}");
        numbers
    };
    // In turn, beginning with partition 1.
    let offsets = |first: [i64; 2], next: [i64; 2]| -> Vec<i64> {
        let own = |n: &i64| (first[(n % 2 != 1) as usize]..next[(n % 2 != 1) as usize]).contains(&(n / 2));
        (0..24).filter(own).collect()
    };
    assert_eq!(
        read("times", &["--from", "2026-01-01T06:00:00Z", "--to", "2026-01-01T18:00:00+00:00"]),
        Vec::from_iter(6..18)
    );
    assert_eq!(read("date", &["--from", "2026-01-01", "--to", "2026-01-02"]), Vec::from_iter(0..24));
    assert_eq!(read("odd", &["--from", "2026-01-01T05:30:00Z"]), Vec::from_iter(6..24));
    assert_eq!(read("age", &["--from", "1h"]), Vec::<i64>::new());
    assert_eq!(read("ages", &["--from", "99999d", "--to", "1s"]), Vec::from_iter(0..24));
    let range = ["--from", "numbers:0=2,1=3", "--to", "numbers:1=10"];
    assert_eq!(read("offsets", &range), offsets([2, 3], [12, 10]));
    assert_eq!(read("late", &["--from", "latest"]), Vec::<i64>::new());

    // What was imported has the time of the import.
    place.write("more.jsonl", "{\"n\":1,\"ts\":1767225600000}\n");
    place.riverrun(&["topic", "import", "more.jsonl", "--topic", "imported", "--topics", "topics"]).succeed();
    let imported = ["--set", "sources.numbers.topic=imported", "--as", "imported", "--from"];
    replay(&place, &imported).arg("2h").env("WHERE", "made").succeed();
    assert_eq!(place.rows("made/out.v1@imported.jsonl").len(), 2, "it, and the row of the file");

    let fails: [(&[&str], i32, &[&str]); 9] = [
        (&["--from", "numbers:0=99"], 78, &["partition 0", "0 to 12", "start is 99"]),
        (&["--from", "earliest", "--to", "numbers:7=1"], 78, &["no partition 7", "end"]),
        (&["--from", "nothing:0=1"], 2, &["reads no topic `nothing`", "numbers"]),
        (&["--from", "yesterday"], 2, &["--from `yesterday`", "earliest", "2026-01-31"]),
        (&["--from", "2026-01-02", "--to", "2026-01-01"], 2, &["is not before"]),
        (&["--from", "earliest", "--to", "latest", "--then-live"], 2, &["--then-live", "--to"]),
        (
            &["--from", "earliest", "--recorded", "--out", "x"],
            2,
            &["--recorded and --from exclude each other", "as a job of its own"],
        ),
        (&["--from", "earliest", "--out", "x"], 2, &["--out is an option of --recorded", "--as"]),
        (&[], 2, &["--from T", "--recorded --out DIR"]),
    ];
    for (range, code, says) in fails {
        replay(&place, range).env("WHERE", "made").fail(code, says);
    }
}

#[test]
fn a_replay_that_goes_on_live_has_no_late_row_whatever_the_density_and_gives_what_a_bounded_run_does() {
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    let shopping = Shop { seed: 603, rows: 4000, broken: false, ..Shop::default() }.open();
    let folder = place.path("topics");
    let mut clicks = topics::producer(&folder, "clicks", PARTITIONS);
    let mut orders = topics::producer(&folder, "orders", PARTITIONS);
    // One topic has a row for many of the other: read side by side, it would be hours ahead.
    let [past_clicks, past_orders] = [&shopping.clicks, &shopping.orders].map(|rows| rows.len() / 4 * 3);
    topics::append(&mut clicks, shopping.clicks[..past_clicks].iter().map(Vec::as_slice));
    topics::append(&mut orders, shopping.orders[..past_orders].iter().map(Vec::as_slice));
    replay(&place, &["--from", "earliest", "--to", "latest", "--as", "bounded"]).succeed();

    let command = replay(&place, &["--from", "earliest", "--then-live", "--as", "whole", "--rate", "20k/s"]);
    let mut running = command.start();
    running.until("the first rows", || topics::count(&folder, "whole.out") > 0);
    running.kill();
    let mut running = command.start();
    running.until("most rows", || topics::count(&folder, "whole.out") > past_orders as u64 / 2);
    // From here on it is live: the rest comes bit by bit.
    let (late_clicks, late_orders) = (&shopping.clicks[past_clicks..], &shopping.orders[past_orders..]);
    let part = |rows: &[Vec<u8>], step: usize| rows.len() * step / 8..rows.len() * (step + 1) / 8;
    for step in 0..8 {
        topics::append(&mut clicks, late_clicks[part(late_clicks, step)].iter().map(Vec::as_slice));
        topics::append(&mut orders, late_orders[part(late_orders, step)].iter().map(Vec::as_slice));
    }
    let heralds = |id: &str| (0..PARTITIONS).map(|n| herald(id, n)).collect::<Vec<_>>();
    topics::append(&mut clicks, heralds("event_id").iter().map(Vec::as_slice));
    topics::append(&mut orders, heralds("order_id").iter().map(Vec::as_slice));
    let [read_clicks, read_orders] = [&shopping.clicks, &shopping.orders].map(|rows| in_turn(rows));
    let (read_clicks, read_orders) = (oracle::clicks(&read_clicks), oracle::orders(&read_orders));
    let expected = oracle::attributed(&read_clicks, &read_orders, WINDOW_MS, DEDUPE_MS, Model::Last);
    running.until("all rows", || topics::count(&folder, "whole.out") >= expected.len() as u64);
    running.until_said("is live: it has caught up");
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.ended(), "stopped", "{finished}");
    assert!(finished.stderr.contains("is live: it has caught up"), "{finished}");
    assert!(finished.document()["live"]["tick"].as_u64().unwrap() > 0, "{finished}");
    assert_eq!(finished.counts("attributed").late, 0, "{finished}");
    assert_eq!(topics::count(&folder, "whole.late"), 0);
    let rows = topics::rows(&folder, "whole.out");
    assert_same(&rows, &expected, &["price"]);

    // As far as the bounded run could see, it gave the same rows: those of the time of which it had all clicks.
    let last: Value = serde_json::from_slice(&shopping.clicks[past_clicks - 1]).unwrap();
    let seen = last["ts"].as_i64().unwrap() - 2 * i64::try_from(DISORDER_MS).unwrap();
    let mut bounded = topics::rows(&folder, "bounded.out");
    bounded.retain(|row| row["ts"].as_i64().unwrap() < seen);
    assert!(bounded.len() > 500, "there is something to compare");
    bounded.retain(|row| !rows.contains(row));
    assert_eq!(bounded, Vec::<Value>::new(), "rows of the bounded run that the other one lacks");
}

/// A row hours after all others, which lets the watermark pass everything before it.
fn herald(id: &str, number: u32) -> Vec<u8> {
    let ts = START_MS + 1000 * 3600 * 1000;
    format!(r#"{{"{id}":"herald-{number}","user_id":"herald","item_id":"none","ts":{ts}}}"#).into_bytes()
}
