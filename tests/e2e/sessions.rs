//! Sessions: real data against known and recomputed figures, the bundled job on events, what an upgrade makes of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::real_data::{data, unpacked};
use crate::support::jobs::{self, BUSY, Over};
use crate::support::{Place, Shop, topics};

const GAP_MS: i64 = 30 * 60_000;

/// A data set, and the figures that are known of it.
struct Known {
    set: &'static str,
    file: &'static str,
    key: &'static str,
    key_type: &'static str,
    max_disorder: &'static str,
    sessions: usize,
    keys: usize,
}

const KNOWN: [Known; 3] = [
    Known {
        set: "otto",
        file: "events.jsonl.gz",
        key: "user_id",
        key_type: "int64",
        max_disorder: "0s",
        sessions: 104,
        keys: 11,
    },
    // Lines of one hour are not in the order of time, up to 59 s apart.
    Known {
        set: "web-access-log",
        file: "requests.jsonl.gz",
        key: "client_id",
        key_type: "string",
        max_disorder: "60s",
        sessions: 1486,
        keys: 890,
    },
    Known {
        set: "wiki-edits",
        file: "edits.jsonl.gz",
        key: "user_id",
        key_type: "string",
        max_disorder: "0s",
        sessions: 7930,
        keys: 5251,
    },
];

fn job(path: &str, format: &str, known: &Known, where_: &str) -> String {
    let Known { key, key_type, max_disorder, .. } = known;
    format!(
        r#"
job: real
sources:
  rows:
    file: {{ path: "{path}" }}
    format: {format}
    schema: {{ {key}: {key_type}, ts_ms: timestamp_ms }}
    event_time: ts_ms
    max_disorder: {max_disorder}
steps:
  some: {{ select: {{ from: rows{where_} }} }}
  sessions:
    sessionize: {{ from: some, by: [{key}], gap: 30m, aggregates: {{ events: "count(*)" }} }}
sinks:
  out: {{ from: sessions, file: {{ path: out.jsonl }}, timestamps: epoch_ms }}
"#
    )
}

#[test]
fn sessions_of_real_data_are_those_that_are_known() {
    for known in &KNOWN {
        let Some(folder) = data(known.set) else { return };
        let path = folder.join(known.file);
        let place = Place::new();
        place.write("job.yaml", job(&path.display().to_string(), "json", known, ""));
        // Several ticks: sessions stay open from one to the next.
        place.run("job.yaml").set("tick.max_rows=500").workers(2).succeed();
        let mut given: Vec<(String, i64, i64, i64)> =
            place.rows("out.jsonl").iter().map(|row| of(row, known)).collect();
        given.sort();
        let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for row in unpacked(&path) {
            times.entry(row[known.key].to_string()).or_default().push(row["ts_ms"].as_i64().unwrap());
        }
        let mut wanted = Vec::new();
        for (key, mut times) in times {
            times.sort_unstable();
            for session in times.chunk_by(|a, b| b - a <= GAP_MS) {
                wanted.push((key.clone(), session[0], session[session.len() - 1], session.len() as i64));
            }
        }
        wanted.sort();
        let keys: std::collections::BTreeSet<&String> = given.iter().map(|(key, ..)| key).collect();
        assert_eq!((given.len(), keys.len()), (known.sessions, known.keys), "{}", known.set);
        assert!(given == wanted, "{}: sessions differ from a recomputation", known.set);
    }
}

/// Returns key, start, end and number of events of a session.
fn of(row: &Value, known: &Known) -> (String, i64, i64, i64) {
    let number = |name: &str| row[name].as_i64().unwrap();
    assert_eq!((row["closed_by"].as_str(), row["session_id"].as_str().map(str::len)), (Some("idle"), Some(32)));
    (row[known.key].to_string(), number("session_start"), number("session_end"), number("events"))
}

#[test]
fn sessions_of_customers_leave_out_the_lines_of_nobody() {
    let Some(folder) = data("online-retail") else { return };
    let known = Known {
        set: "online-retail",
        file: "order_lines.parquet",
        key: "customer_id",
        key_type: "int64",
        max_disorder: "0s",
        sessions: 5212,
        keys: 2189,
    };
    let path = folder.join(known.file).display().to_string();
    let place = Place::new();
    place.write("job.yaml", job(&path, "parquet", &known, ", where: customer_id is not null"));
    let finished = place.run("job.yaml").workers(2).succeed();
    let given: Vec<_> = place.rows("out.jsonl").iter().map(|row| of(row, &known)).collect();
    let keys: std::collections::BTreeSet<&String> = given.iter().map(|(key, ..)| key).collect();
    assert_eq!((given.len(), keys.len()), (known.sessions, known.keys));
    let lines: i64 = given.iter().map(|(.., events)| events).sum();
    assert_eq!(lines as u64, finished.counts("some").taken);
}

/// An event as a browser sends it.
fn event(id: &str, kind: &str, seconds: i64, more: &Value) -> Vec<u8> {
    let mut event = json!({
        "event_id": id, "tenant_id": "t1", "type": kind, "event_time": 1_767_225_600_000i64 + seconds * 1000,
        "tab_id": "w1", "anonymous_id": "dev-1", "user_agent": "Mozilla/5.0 Firefox/130.0",
    });
    for (name, value) in more.as_object().expect("more is an object") {
        event[name] = value.clone();
    }
    serde_json::to_vec(&event).expect("it is JSON")
}

#[test]
fn the_bundled_job_makes_visits_of_events() {
    let place = Place::new();
    let none = json!({});
    let page = |page: &str| json!({ "page_key": page });
    let mut events = vec![
        // Polling starts no visit.
        event("e0", "network_request", 0, &none),
        event("e1", "page_view", 10, &json!({ "page_key": "/home", "campaign": { "name": "spring" } })),
        event("e2", "click", 15, &none),
        event("e3", "page_view", 20, &page("/cart")),
        event("e4", "page_view", 21, &json!({ "page_key": "/ahead", "nav_type": "prerender" })),
        event("e5", "order_completed", 40, &json!({ "order_id": "o1", "user_id": "ann" })),
        event("e6", "order_completed", 41, &json!({ "order_id": "o1", "user_id": "ann" })),
        event("e7", "page_leave", 60, &none),
        // Another account on the same device.
        event("e8", "page_view", 70, &json!({ "page_key": "/home", "user_id": "bob" })),
        // Nobody's.
        event("e9", "click", 70, &json!({ "anonymous_id": null })),
    ];
    let clicks = (0..20).map(|n| event(&format!("m{n:02}"), "click", 100 + n, &json!({ "anonymous_id": "robot" })));
    events.extend(clicks);
    let mut producer = topics::producer(&place.path("topics"), "raw.events.v1", 2);
    topics::append(&mut producer, events.iter().map(Vec::as_slice));
    drop(producer);
    place.run("sessions").args(&["--topics", "topics", "--until-end"]).workers(2).succeed();
    let mut visits = topics::rows(&place.path("topics"), "sessions.v1");
    visits.sort_by_key(|visit| visit["session_start"].to_string());
    let said = |visit: &Value, names: &[&str]| names.iter().map(|name| visit[*name].clone()).collect::<Vec<_>>();
    let columns = ["events", "page_views", "entry_page", "exit_page", "campaign", "orders", "closed_by", "engaged"];
    assert_eq!(
        said(&visits[0], &columns),
        [
            json!(7),
            json!(2),
            json!("/home"),
            json!("/cart"),
            json!("spring"),
            json!(1),
            json!("user_switch"),
            json!(true)
        ]
    );
    assert_eq!((visits[0]["duration_ms"].as_i64(), visits[0]["is_bot"].as_bool()), (Some(50_000), Some(false)));
    assert_eq!(said(&visits[1], &["events", "engaged", "closed_by"]), [json!(1), json!(false), json!("idle")]);
    assert_eq!(said(&visits[2], &["events", "is_bot", "bot_reason"]), [json!(20), json!(true), json!("metronome")]);
    assert_eq!(visits.len(), 3);
    let journeys = topics::rows(&place.path("topics"), "journeys.v1");
    let mut ways: Vec<String> = journeys
        .iter()
        .map(|way| format!("{} {} {} {}", way["entry_page"], way["exit_page"], way["visits"], way["bounced"]))
        .collect();
    ways.sort();
    assert_eq!(ways, [r#""/home" "/cart" 1 0"#, r#""/home" "/home" 1 1"#], "programs are left out");
}

#[test]
fn rows_without_a_session_and_late_ones_are_streams_of_their_own() {
    let place = Place::new();
    let shopping = Shop { seed: 9, ..Shop::default() }.open();
    shopping.write(&place);
    place.write("job.yaml", jobs::sessions(Over::Files));
    let finished = place.run("job.yaml").args(BUSY).workers(2).succeed();
    let (sessions, alone) = (place.rows("out.jsonl"), place.rows("alone.jsonl"));
    let (late, counts) = (place.rows("late.jsonl"), finished.counts("sessions"));
    let inside: i64 = sessions.iter().map(|row| row["events"].as_i64().unwrap()).sum();
    assert_eq!(inside as u64 + alone.len() as u64, counts.taken, "each row is in a session, or alone");
    assert_eq!(late.len() as u64, counts.late);
    assert!(alone.iter().all(|row| row["event_type"] != "click") && !alone.is_empty() && !sessions.is_empty());
}

/// The changes of a live job, whatever the order in which they stand in a topic, leave what the mode `final` gives.
#[test]
fn live_sessions_end_as_the_final_ones() {
    let shopping = Shop { seed: 11, rows: 3000, ..Shop::default() }.open();
    let run = |job: String| {
        let place = Place::new();
        shopping.write(&place);
        place.write("job.yaml", job);
        place.run("job.yaml").args(BUSY).workers(2).succeed();
        place.rows("out.jsonl")
    };
    let count = r#"aggregates: { events: "count(*)" }"#;
    let job = |more: &str| {
        let steps = format!("sessionize: {{ from: clicks, by: [user_id], gap: 5m, lateness: 2s, {more} }}");
        let text = jobs::sessions(Over::Files);
        let (before, after) = (text.find("    sessionize:").unwrap(), text.find("sinks:").unwrap());
        let sinks = text[after..].lines().filter(|line| !line.trim_start().starts_with("alone"));
        format!("{}    {steps}\n{}\n", &text[..before], sinks.collect::<Vec<_>>().join("\n"))
    };
    let said = |row: &Value| {
        let columns = ["user_id", "session_start", "session_end", "closed_by", "events"];
        columns.map(|name| row[name].to_string()).join(" ")
    };
    let (settled, changes) = (run(job(count)), run(job("mode: live")));
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    for change in &changes {
        *table.entry(said(change)).or_default() += if change["op"] == "+" { 1 } else { -1 };
    }
    table.retain(|_, weight| *weight != 0);
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    settled.iter().for_each(|row| *wanted.entry(said(row)).or_default() += 1);
    assert_eq!(table, wanted);
    assert!(changes.len() > settled.len(), "some were corrected");
}
