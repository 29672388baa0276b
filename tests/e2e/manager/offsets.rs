//! A suspended job goes on from other positions of its topics: what is skipped never comes, what is read again is said to be.

use serde_json::{Value, json};

use super::Managed;
use crate::support::shop::START_MS;
use crate::support::{Place, topics};

/// A job that gives every row out.
pub const COPY: &str = r#"
job: copy
sources:
  clicks:
    topic: clicks
    format: json
    schema: { event_id: int64, ts: timestamp_ms }
    event_time: ts
sinks:
  out: { from: clicks, topic: out }
"#;

/// Appends rows with these numbers to the topic, which has one partition.
fn append(place: &Place, numbers: std::ops::Range<i64>) {
    let mut producer = topics::producer(&place.path("topics"), "clicks", 1);
    let rows: Vec<String> =
        numbers.map(|number| json!({ "event_id": number, "ts": START_MS + number }).to_string()).collect();
    topics::append(&mut producer, rows.iter().map(|row| row.as_bytes()));
}

/// The numbers of the rows that came out, in order.
fn numbers(place: &Place) -> Vec<i64> {
    let rows = topics::rows(&place.path("topics"), "out");
    let mut found: Vec<i64> = rows.iter().map(|row| row["event_id"].as_i64().unwrap()).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_suspended_job_goes_on_where_it_is_told_to_and_a_restart_repeats_it() {
    let place = Place::new();
    place.write("job.yaml", COPY);
    append(&place, 0..100);
    let (job, managed) = ("copy", Managed::at(place, &[]));
    managed.cli(&["submit", "job.yaml", "--set", "commit.every=20ms"]).succeed();
    managed.until(job, "all rows", |_| numbers(&managed.place).len() == 100);
    let set = |arguments: &[&str]| managed.cli(&["offsets", "set", job]).args(arguments);
    set(&["clicks:0=120"]).fail(5, &["while it is suspended"]);
    managed.cli(&["stop", job]).succeed();
    append(&managed.place, 100..200);
    let next = || -> Value {
        let shown = managed.cli(&["offsets", "show", job]).succeed().document();
        shown["splits"][0]["position"].clone()
    };
    let end = next();
    // Embedded topics count bytes or records: what follows is in units of what a hundred rows take.
    let per_hundred = end.as_u64().unwrap();
    for (wrong, code, says) in
        [("clicks:7=1", 3, "clicks:0"), ("orders:0=1", 3, "clicks:0"), ("clicks:0=0", 5, "read again")]
    {
        set(&[wrong]).fail(code, &[says]);
    }
    managed.cli(&["offsets", "set", job, "nonsense"]).fail(2, &["SOURCE:SPLIT=POSITION"]);
    // Beyond its end nothing can be read: whoever does it says so, and the job rests as it was.
    let far = format!("clicks:0={}", per_hundred * 1000);
    set(&[&far]).fail(1, &["ends at"]);
    assert_eq!((managed.status(job)["job"]["phase"].clone(), next()), (json!("suspended"), end.clone()));

    // On: fifty rows are skipped.
    let on = position_after(&managed, 150);
    set(&[&format!("clicks:0={on}")]).succeed();
    assert_eq!((managed.status(job)["job"]["phase"].clone(), next()), (json!("suspended"), json!(on)));
    managed.cli(&["resume", job]).succeed();
    managed.until(job, "the rest", |_| numbers(&managed.place).len() == 150);
    let expected: Vec<i64> = (0..100).chain(150..200).collect();
    assert_eq!(numbers(&managed.place), expected);
    // Killed: what it goes on with stands in its log.
    super::kill(managed.one_alive());
    append(&managed.place, 200..220);
    managed.until(job, "more rows", |_| numbers(&managed.place).len() == 170);
    let expected: Vec<i64> = (0..100).chain(150..220).collect();
    assert_eq!(numbers(&managed.place), expected);

    // Back, which is said: those rows come once more.
    managed.cli(&["stop", job]).succeed();
    let back = format!("clicks:0={}", position_after(&managed, 210));
    set(&[&back]).fail(5, &["--repeat"]);
    set(&[&back, "--repeat"]).succeed();
    managed.cli(&["resume", job]).succeed();
    managed.until(job, "rows again", |_| numbers(&managed.place).len() == 180);
    let expected: Vec<i64> = (0..100).chain(150..210).chain((210..220).flat_map(|number| [number, number])).collect();
    assert_eq!(numbers(&managed.place), expected);
    managed.cli(&["stop", job]).succeed();
    managed.cli(&["checkpoints", "verify", job]).succeed();
    let told = managed.cli(&["exceptions", job]).succeed().document();
    assert!(told["exceptions"].to_string().contains("ends at"), "what failed is told: {told:#}");
}

/// Returns the position of the row with this number.
fn position_after(managed: &Managed, number: usize) -> u64 {
    topics::records(&managed.place.path("topics"), "clicks")[number].offset
}

#[test]
fn a_job_of_files_keeps_its_places_and_says_what_to_do_instead() {
    let place = Place::new();
    place.write(
        "job.yaml",
        COPY.replace("topic: clicks", "file: { path: in.jsonl }").replace("topic: out", "file: { path: out.jsonl }"),
    );
    place.write("in.jsonl", format!("{}\n", json!({ "event_id": 1, "ts": START_MS })));
    place.run("job.yaml").succeed();
    place.riverrun(&["upgrade", "job.yaml", "--offset", "clicks:in.jsonl=0"]).fail(78, &["finished"]);
    place
        .riverrun(&["upgrade", "job.yaml", "--offset", "clicks:0=0", "--state", "none"])
        .fail(78, &["never ran", "start"]);
}
