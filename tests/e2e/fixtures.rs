//! States that earlier builds left behind, kept for ever in `tests/fixtures/state`: every build restores each of them and finishes
//! its job to the bytes that the build which wrote it promised.
//!
//! `RIVERRUN_ADD_FIXTURES=v2 cargo test --workspace --test e2e fixtures` writes the states of this build as `v2`; what is there is never
//! written again. A fixture is a folder as a user would have it: `job.yaml`, `in/`, the outputs so far, `state/`, and in
//! `expected/` the outputs at the end.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::process::Stop;
use crate::support::{Place, Shop};

/// Ticks so small that a run can be stopped in its middle.
const SLOW: &[&str] = &["--state", "state", "--set", "commit.every=50ms", "--set", "checkpoint.every=200ms"];

/// A job of each kind of state.
const JOBS: &[(&str, &str)] = &[
    ("window", WINDOW),
    (
        "attribute-last",
        "attribute: { conversions: orders, touches: clicks, by: [user_id, item_id], window: 2h, model: last_touch }",
    ),
    (
        "attribute-first",
        "attribute: { conversions: orders, touches: clicks, by: [user_id], window: 1h, model: first_touch, dedupe_for: 3h }",
    ),
];

/// Each kind of aggregate, over each kind of value that it keeps otherwise.
const WINDOW: &str = r#"window:
      from: orders
      hop: { size: 40m, every: 20m }
      by: [item_id]
      lateness: 1m
      aggregates:
        rows: "count(*)"
        dear: "count(*) filter (where price > 50)"
        revenue: "sum(price)"
        mean: "avg(price)"
        float_sum: "sum(amount)"
        float_mean: "avg(amount)"
        int_sum: "sum(length(user_id))"
        least: "min(price)"
        most: "max(amount)"
        greatest_user: "max(user_id)"
        last_time: "max(ts)"
        buyers: "count(distinct user_id)"
        prices: "count(distinct price)"
        amounts: "count(distinct amount)"
        first_order: "first(order_id)"
        last_price: "last(price)"
        first_amount: "first(amount)"
        last_time_too: "last(ts)""#;

fn job(name: &str, step: &str) -> String {
    format!(
        r#"job: fixture-{name}
sources:
  clicks:
    file: {{ path: "in/clicks-*.jsonl" }}
    format: json
    schema: {{ event_id: string, user_id: string, item_id: string, event_type: string, ts: timestamp_ms }}
    event_time: ts
    id: event_id
    max_disorder: 5s
  orders:
    file: {{ path: "in/orders-*.jsonl" }}
    format: json
    schema: {{ order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", amount: {{ path: price, type: float64 }}, ts: timestamp_ms }}
    event_time: ts
    id: order_id
    max_disorder: 5s
steps:
  kept:
    {step}
sinks:
  out: {{ from: kept, file: {{ path: out.jsonl }} }}
  late: {{ from: kept.late, file: {{ path: late.jsonl }} }}
tick: {{ max_rows: 4 }}
"#
    )
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state")
}

/// The folders in `folder`, by name.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder stays").path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test can write");
    for entry in fs::read_dir(from).expect("it is there") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("the folder stays");
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false if name == "LOCK" => {}
            false => drop(fs::copy(&path, to.join(name)).expect("the test can write")),
        }
    }
}

/// The state of the newest checkpoint, in rows.
fn rows_kept(place: &Place, job: &str) -> u64 {
    let shown = place.riverrun(&["checkpoints", "show", job, "--state", "state", "-o", "json"]).succeed();
    shown.document()["steps"]["kept"]["rows"].as_u64().unwrap_or(0)
}

#[test]
fn every_state_that_was_ever_written_is_finished_to_the_promised_bytes() {
    if let Ok(version) = std::env::var("RIVERRUN_ADD_FIXTURES") {
        add(&version);
    }
    let all: Vec<PathBuf> = folders_in(&fixtures()).iter().flat_map(|version| folders_in(version)).collect();
    assert!(all.len() >= JOBS.len(), "the fixtures are gone: {all:?}");
    for (number, fixture) in all.iter().enumerate() {
        let place = Place::new();
        copy(fixture, place.folder());
        let name = format!("fixture-{}", fixture.file_name().and_then(|name| name.to_str()).expect("a plain name"));
        assert!(rows_kept(&place, &name) > 0, "{}: there is no state to restore", fixture.display());
        // A state that this build keeps otherwise goes the way that a user's would; nothing of it may be lost.
        let run = place.run("job.yaml").args(SLOW).arg("--upgrade").workers(1 + number % 3).succeed();
        assert_eq!(run.ended(), "finished", "{}: {run}", fixture.display());
        for output in ["out.jsonl", "late.jsonl"] {
            let (given, expected) = (place.read(output), place.read(&format!("expected/{output}")));
            assert!(given == expected, "{}: {output} differs", fixture.display());
        }
    }
}

/// Writes the states of this build, each stopped in the middle of its job.
fn add(version: &str) {
    for (seed, (name, step)) in (900..).zip(JOBS) {
        let to = fixtures().join(version).join(name);
        assert!(!to.exists(), "{} is there, and what is there is never written again", to.display());
        let place = Place::new();
        Shop { seed, rows: 320, pace_ms: 30_000, broken: false, users: 16 }.open().write(&place);
        place.write("job.yaml", job(name, step));
        let mut running = place.run("job.yaml").args(SLOW).workers(2).start();
        let path = place.path("out.jsonl");
        running.until("a row", || fs::metadata(&path).is_ok_and(|file| file.len() > 0));
        running.signal(Stop::Terminate);
        assert_eq!(running.finish().ended(), "stopped", "it was to be stopped in its middle");
        assert!(rows_kept(&place, &format!("fixture-{name}")) > 0, "{name} keeps nothing");
        copy(place.folder(), &to);
        place.run("job.yaml").args(SLOW).succeed();
        for output in ["out.jsonl", "late.jsonl"] {
            fs::create_dir_all(to.join("expected")).expect("the test can write");
            fs::copy(place.path(output), to.join("expected").join(output)).expect("the test can write");
        }
    }
}
