//! States that earlier builds left behind, kept for ever in `tests/fixtures/state`: every build restores each of them and finishes
//! its job to the bytes that the build which wrote it promised.
//!
//! `RIVERRUN_ADD_FIXTURES=v2 cargo test --workspace --test e2e fixtures` writes the states of this build as `v2`; what is there is never
//! written again. A fixture is a folder as a user would have it: `job.yaml`, `in/`, the outputs so far, `state/`, and in
//! `expected/` the outputs at the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::frustration::{busy, scrolling};
use crate::support::process::Stop;
use crate::support::{Place, Shop};

/// Ticks so small that a run can be stopped in its middle.
const SLOW: &[&str] = &["--state", "state", "--set", "commit.every=50ms", "--set", "checkpoint.every=200ms"];

/// A job of each kind of state: its name, what it reads, its steps. The state is that of the step `kept`.
pub const JOBS: &[(&str, Traffic, &str)] = &[
    ("window", Traffic::Shop, WINDOW),
    (
        "attribute-last",
        Traffic::Shop,
        "  kept: { attribute: { conversions: orders, touches: clicks, by: [user_id, item_id], window: 2h, model: last_touch } }",
    ),
    (
        "attribute-first",
        Traffic::Shop,
        "  kept: { attribute: { conversions: orders, touches: clicks, by: [user_id], window: 1h, model: first_touch, dedupe_for: 3h } }",
    ),
    ("attribute-models", Traffic::Corrected, MODELS),
    (
        "deduplicate",
        Traffic::Shop,
        "  kept: { deduplicate: { from: orders, within: 2h, compare: [price, user_id], lateness: 1m } }",
    ),
    (
        "join",
        Traffic::Shop,
        r#"  kept: { join: { left: orders, right: clicks, on: ["user_id = user_id"], within: { before: 1h, after: 10m }, kind: left } }"#,
    ),
    ("sessionize", Traffic::Shop, SESSIONS),
    (
        "sessionize-behaviour",
        Traffic::Behaviour,
        r#"  kept: { sessionize: { from: events, by: [anonymous_id], behaviour: true, gap: 5m, lateness: 1m, split: { user_switch: user_id }, aggregates: { events: "count(*)" } } }"#,
    ),
    (
        "sessionize-live",
        Traffic::Behaviour,
        "  kept: { sessionize: { from: events, by: [anonymous_id], behaviour: true, mode: live, gap: 5m, lateness: 1m } }",
    ),
    ("funnel", Traffic::Shop, FUNNEL),
    (
        "frustration",
        Traffic::Behaviour,
        "  kept: { frustration: { from: events, preset: ours, gap: 5m, scroll: { page_ends: true } } }",
    ),
    ("scroll-baseline", Traffic::Behaviour, BASELINE),
    ("incidents", Traffic::Behaviour, INCIDENTS),
    ("problems", Traffic::Behaviour, PROBLEMS),
];

/// Operators that keep nothing.
const STATELESS: &[&str] = &["select", "union"];

/// What a job reads.
#[derive(Clone, Copy)]
pub enum Traffic {
    /// Clicks and orders.
    Shop,
    /// The same, with corrections of orders.
    Corrected,
    /// Events of browsers.
    Behaviour,
}

const MODELS: &str = r#"  touches: { select: { from: clicks, columns: [event_id, user_id, "event_type as channel", ts] } }
  kept:
    attribute:
      conversions: orders
      touches: touches
      corrections: corrections
      by: [user_id]
      window: 2h
      models: [last_touch, linear, time_decay]
      lateness: 1m
      order: { id: order_id, value: price }
      touch: { channel: channel }
      correction: { order_id: order_id, kind: kind, amount: amount }"#;

const SESSIONS: &str = r#"  kept:
    sessionize:
      from: clicks
      by: [user_id]
      gap: 10m
      max_duration: 2h
      lateness: 1m
      aggregates:
        rows: "count(*)"
        items: "count(distinct item_id)"
        landing: "first(event_type)"
        last_item: "last(item_id)""#;

const FUNNEL: &str = r#"  kept:
    funnel:
      from: clicks
      by: [user_id]
      steps:
        seen: "event_type = 'impression'"
        clicked: "event_type = 'click'"
        scrolled: "event_type = 'scroll'"
      within: 30m
      columns: [item_id]"#;

const BASELINE: &str =
    "  watched: { frustration: { from: events, preset: ours, gap: 5m, scroll: { page_ends: true } } }
  kept: { scroll_baseline: { from: watched, views: 2 } }";

const INCIDENTS: &str = "  watched: { frustration: { from: events, preset: ours, gap: 5m } }
  kept: { incidents: { from: watched, scope: session, open: 3, span: 5m } }";

const PROBLEMS: &str = "  watched: { frustration: { from: events, preset: ours, gap: 5m } }
  incidents: { incidents: { from: watched, scope: session, open: 3, span: 5m } }
  kept: { problems: { from: incidents, window: 1h, hop: 5m, sessions: 1, persons: 1 } }";

/// Each kind of aggregate, over each kind of value that it keeps otherwise.
const WINDOW: &str = r#"  kept:
    window:
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

const SHOP: &str = r#"  clicks:
    file: { path: "in/clicks-*.jsonl" }
    format: json
    schema: { event_id: string, user_id: string, item_id: string, event_type: string, ts: timestamp_ms }
    event_time: ts
    id: event_id
    max_disorder: 5s
  orders:
    file: { path: "in/orders-*.jsonl" }
    format: json
    schema: { order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", amount: { path: price, type: float64 }, ts: timestamp_ms }
    event_time: ts
    id: order_id
    max_disorder: 5s
"#;

const CORRECTIONS: &str = r#"  corrections:
    file: { path: "in/corrections-*.jsonl" }
    format: json
    schema: { correction_id: string, user_id: string, order_id: string, kind: string, amount: "decimal(12,2)", ts: timestamp_ms }
    event_time: ts
    id: correction_id
    max_disorder: 5s
"#;

const EVENTS: &str = r#"  events:
    file: { path: "in/events-*.jsonl" }
    format: json
    schema: "@behaviour-event"
    max_disorder: 10s
"#;

/// Returns the job file of a job with these steps.
pub fn job(name: &str, traffic: Traffic, steps: &str) -> String {
    let sources = match traffic {
        Traffic::Shop => SHOP.to_owned(),
        Traffic::Corrected => format!("{SHOP}{CORRECTIONS}"),
        Traffic::Behaviour => EVENTS.to_owned(),
    };
    format!(
        "job: fixture-{name}
sources:
{sources}steps:
{steps}
sinks:
  out: {{ from: kept, file: {{ path: out.jsonl }} }}
  late: {{ from: kept.late, file: {{ path: late.jsonl }} }}
tick: {{ max_rows: 4 }}
"
    )
}

impl Traffic {
    /// Writes the input of a job to `in/`: about so many rows.
    pub fn write(self, place: &Place, seed: u64, rows: usize) {
        if let Traffic::Behaviour = self {
            let visits = rows / 25;
            let mut rows = [busy(seed, visits), scrolling(visits, 7 * 60_000)].concat();
            rows.sort_by_key(|row| row["event_time"].as_i64());
            place.write("in/events-0.jsonl", lines_of(&rows));
            return;
        }
        let shopping = Shop { seed, rows, pace_ms: 30_000, broken: false, users: 16, ids: 977 }.open();
        shopping.write(place);
        if let Traffic::Corrected = self {
            let orders = shopping.orders.iter().map(|line| serde_json::from_slice::<Value>(line).expect("a row"));
            let corrections: Vec<Value> =
                orders.step_by(4).enumerate().map(|(at, order)| corrected(at, &order)).collect();
            place.write("in/corrections-0.jsonl", lines_of(&corrections));
        }
    }
}

/// Some order, part of which is paid back ten minutes later.
fn corrected(number: usize, order: &Value) -> Value {
    let ts = order["ts"].as_i64().expect("orders have a time") + 600_000;
    json!({
        "correction_id": format!("c{number}"), "user_id": order["user_id"], "order_id": order["order_id"],
        "kind": "refund", "amount": 0.25, "ts": ts,
    })
}

fn lines_of(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state")
}

/// The folders in `folder`, by name.
pub fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder stays").path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

/// Copies a fixture, without the lock of whoever wrote it.
pub fn copy(from: &Path, to: &Path) {
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
    if let Ok(version) = std::env::var("RIVERRUN_ADD_FIXTURES")
        && version != "ticks"
    {
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

/// Who adds an operator, or another kind of state to one, adds a job above and its state with the command at the top of this file.
#[test]
fn every_kind_of_state_has_a_fixture() {
    let all: Vec<PathBuf> = folders_in(&fixtures()).iter().flat_map(|version| folders_in(version)).collect();
    for (name, ..) in JOBS {
        assert!(all.iter().any(|fixture| fixture.ends_with(name)), "there is no state of the job `{name}`");
    }
    let kept = |fixture: &PathBuf| {
        let text = fs::read_to_string(fixture.join("job.yaml")).expect("it is there");
        let (_, step) = text.split_once("  kept:").expect("the step is called so");
        let operator = step.trim_start_matches([' ', '\n', '{']).split(':').next();
        operator.expect("an operator follows").to_owned()
    };
    let found: BTreeSet<String> = all.iter().map(kept).collect();
    let schema = Place::new().riverrun(&["schema"]).succeed().document();
    let steps = schema["properties"]["steps"]["patternProperties"].as_object().expect("steps have names");
    let operators = steps.values().filter_map(|step| step["properties"].as_object()).flat_map(|it| it.keys());
    let keeping: BTreeSet<String> =
        operators.filter(|it| *it != "was" && !STATELESS.contains(&it.as_str())).cloned().collect();
    assert!(keeping.len() > 8, "the schema names the operators elsewhere: {keeping:?}");
    let missing: Vec<&String> = keeping.difference(&found).collect();
    assert!(missing.is_empty(), "states of these operators are kept by no fixture: {missing:?}");
}

/// Writes the states of this build, each stopped in the middle of its job.
fn add(version: &str) {
    for (seed, (name, traffic, steps)) in (900..).zip(JOBS) {
        let to = fixtures().join(version).join(name);
        assert!(!to.exists(), "{} is there, and what is there is never written again", to.display());
        let place = Place::new();
        traffic.write(&place, seed, 320);
        place.write("job.yaml", job(name, *traffic, steps));
        let mut running = place.run("job.yaml").args(SLOW).workers(2).start();
        running.catch_once_written(&place.path("out.jsonl"));
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
