//! Event time that three clocks tell, as a user runs it: corrected, held to its bounds, and an event time like any other.

use serde_json::{Value, json};

use crate::support::Place;

const DAY: i64 = 24 * 3600 * 1000;

const EVENTS: &str = r#"
job: told
sources:
  events:
    file: { path: in.jsonl }
    schema: "@behaviour-event"
steps:
  minutes: { window: { from: events, tumble: 1m, aggregates: { events: "count(*)" } } }
  too_old: { select: { from: events.bad, where: "code = 'too_old'", columns: [position, reason] } }
sinks:
  out: { from: events, file: { path: out.jsonl }, timestamps: epoch_ms }
  minutes: { from: minutes, file: { path: minutes.jsonl }, timestamps: epoch_ms }
  late: { from: minutes.late, file: { path: late.jsonl }, timestamps: epoch_ms }
  too_old: { from: too_old, file: { path: too_old.jsonl } }
tick: { max_rows: 1, in_flight: 1 }
"#;

/// G-E1, clocks that are ahead, old and lost events, and an order of arrival that is not that of time.
#[test]
fn g_e1_a_job_goes_by_the_corrected_time() {
    let place = Place::new();
    let received = 10 * DAY;
    let events = [
        json!({"event_id": "g-e1", "type": "click", "client_time": 1000, "sent_at": 5000, "received_at": 65_000}),
        json!({"event_id": "ahead", "type": "click", "client_time": received + 300_001, "received_at": received}),
        json!({"event_id": "old", "type": "click", "client_time": received - 3 * DAY - 1, "received_at": received}),
        json!({"event_id": "late", "type": "click", "client_time": 0, "sent_at": 3000, "received_at": 65_000}),
        json!({"event_id": "lost", "type": "click"}),
    ];
    place.write("in.jsonl", events.map(|event| format!("{event}\n")).concat()).write("job.yaml", EVENTS);
    let finished = place.run("job.yaml").workers(2).succeed();
    let counts = finished.counts("events");
    assert_eq!((counts.input, counts.taken, counts.bad), (5, 3, 2));
    let cells = |row: &Value| json!([row["event_id"], row["event_time"], row["clock_future"]]);
    assert_eq!(
        place.rows("out.jsonl").iter().map(cells).collect::<Vec<_>>(),
        [json!(["g-e1", 61_000, null]), json!(["ahead", received, true]), json!(["late", 62_000, null])]
    );
    let cells = |row: &Value| json!([row["window_start"], row["events"]]);
    assert_eq!(
        place.rows("minutes.jsonl").iter().map(cells).collect::<Vec<_>>(),
        [json!([60_000, 1]), json!([received, 1])]
    );
    assert_eq!(place.rows("late.jsonl").iter().map(|row| row["event_id"].clone()).collect::<Vec<_>>(), ["late"]);
    let old = place.rows("too_old.jsonl");
    assert!(old.len() == 1 && old[0]["reason"].as_str().unwrap().contains("`received_at`"), "{old:?}");
}

#[test]
fn clocks_may_have_other_names_and_stand_in_a_table() {
    let place = Place::new();
    place.write("in.csv", "id,seen,left,got\na,1000,5000,65000\nb,66000,,65000\nc,,,65000\nd,1,,90000000\n").write(
        "job.yaml",
        r#"
job: told
sources:
  hits:
    file: { path: in.csv }
    format: csv
    schema: { id: string, at: timestamp_ms, seen: timestamp_ms, left: timestamp_ms, got: timestamp_ms, fast: bool }
    event_time: at
    clocks: { client: seen, sent: left, received: got, flag: fast, max_ahead: 0s, max_past: 1d }
sinks:
  out: { from: hits, file: { path: out.jsonl }, timestamps: epoch_ms }
  bad: { from: hits.bad, file: { path: bad.jsonl } }
"#,
    );
    place.run("job.yaml").succeed();
    let cells = |row: &Value| json!([row["id"], row["at"], row["fast"]]);
    assert_eq!(
        place.rows("out.jsonl").iter().map(cells).collect::<Vec<_>>(),
        [json!(["a", 61_000, null]), json!(["b", 65_000, true]), json!(["c", 65_000, null])]
    );
    assert_eq!(place.rows("bad.jsonl").iter().map(|row| row["code"].clone()).collect::<Vec<_>>(), ["too_old"]);
}
