//! Whatever comes in: it becomes a counted, diverted bad row, or a clear error; the rows around it are untouched.

use std::fs;

use serde_json::{Value, json};

use crate::support::jobs::{self, Over};
use crate::support::process::Stop;
use crate::support::shop::{START_MS, lines};
use crate::support::{Finished, Place, Shop, topics};

fn good(number: usize) -> Vec<u8> {
    let ts = START_MS + 1000 * number as i64;
    format!(r#"{{"event_id":"e{number}","user_id":"u","item_id":"i","event_type":"click","ts":{ts}}}"#).into_bytes()
}

/// Copies `bad` rows among ten good ones, and checks that the good ones, and they alone, come through. Returns the bad rows.
fn diverted(bad: &[&[u8]]) -> (Finished, Vec<Value>) {
    let place = Place::new();
    let mut rows: Vec<Vec<u8>> = (0..10).map(good).collect();
    for (at, row) in bad.iter().enumerate() {
        rows.insert(at % 10 + 1, row.to_vec());
    }
    place.write("in/clicks-0.jsonl", lines(&rows)).write("job.yaml", jobs::copy());
    let finished = place.run("job.yaml").workers(2).succeed();
    let ids: Vec<Value> = place.rows("out.jsonl").iter().map(|row| row["event_id"].clone()).collect();
    let expected: Vec<Value> = (0..10).map(|number| json!(format!("e{number}"))).collect();
    assert_eq!(ids, expected, "good rows come through, in order of time");
    let found = place.rows("bad.jsonl");
    let counts = finished.counts("clicks");
    assert_eq!((counts.input, counts.taken, counts.bad), (10 + bad.len() as u64, 10, bad.len() as u64));
    assert_eq!(found.len(), bad.len(), "{found:?}");
    for row in &found {
        assert_eq!((&row["source"], &row["split"]), (&json!("clicks"), &json!("clicks-0.jsonl")), "{row}");
        assert!(row["position"].is_number(), "{row}");
        assert!(!row["code"].as_str().unwrap().is_empty() && !row["reason"].as_str().unwrap().is_empty(), "{row}");
    }
    (finished, found)
}

/// Checks that each of the rows is diverted as it is, for a reason that speaks of `about`.
fn diverted_as_they_are(bad: &[&str], about: &str) {
    let (_, found) = diverted(&bad.iter().map(|row| row.as_bytes()).collect::<Vec<_>>());
    let mut raw: Vec<&str> = found.iter().map(|row| row["raw"].as_str().unwrap()).collect();
    let mut expected = bad.to_vec();
    raw.sort_unstable();
    expected.sort_unstable();
    assert_eq!(raw, expected);
    for row in &found {
        assert_eq!(row["raw_length"], json!(row["raw"].as_str().unwrap().len()));
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains(about), "`{reason}` does not speak of {about}: {row}");
    }
}

#[test]
fn malformed_json_is_diverted() {
    let deep = format!(r#"{{"ts":{START_MS},"extra":{}}}"#, "[".repeat(100_000));
    let (_, found) = diverted(&[
        b"{",
        b"}",
        b"nonsense",
        b"[]",
        b"\"text\"",
        b"7",
        b"true",
        b"null",
        b"{}{}",
        b"{\"ts\":}",
        b"{\"a\":1,}",
        b"\0",
        b"{'ts':1}",
        deep.as_bytes(),
    ]);
    assert!(found.iter().all(|row| row["reason"].as_str().is_some_and(|reason| reason.len() < 500)));
}

#[test]
fn a_field_that_nobody_asked_for_may_be_as_deep_as_it_likes() {
    let place = Place::new();
    let deep = format!(r#"{{"extra":{}{},"ts":{START_MS}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    place.write("in/clicks-0.jsonl", lines(&[good(0), deep.into_bytes()])).write("job.yaml", jobs::copy());
    let counts = place.run("job.yaml").succeed().counts("clicks");
    assert_eq!((counts.taken, counts.bad), (2, 0));
}

#[test]
fn wrong_types_are_diverted() {
    let ts = START_MS;
    diverted_as_they_are(
        &[
            &format!(r#"{{"user_id":7,"ts":{ts}}}"#),
            &format!(r#"{{"user_id":true,"ts":{ts}}}"#),
            &format!(r#"{{"user_id":["u"],"ts":{ts}}}"#),
            &format!(r#"{{"user_id":{{"id":"u"}},"ts":{ts}}}"#),
        ],
        "user_id",
    );
    diverted_as_they_are(
        &[
            r#"{"user_id":"u","ts":"2026-01-01T00:00:00Z"}"#,
            r#"{"user_id":"u","ts":true}"#,
            r#"{"user_id":"u","ts":{}}"#,
            r#"{"user_id":"u","ts":99999999999999999999999}"#,
            r#"{"user_id":"u","ts":1e400}"#,
        ],
        "ts",
    );
}

#[test]
fn missing_columns_are_diverted_where_they_are_required() {
    diverted_as_they_are(&[r#"{"user_id":"u"}"#, r#"{"user_id":"u","ts":null}"#, "{}"], "ts");
    let place = Place::new();
    place.write("job.yaml", jobs::copy().replace("user_id: string", "user_id: string!"));
    let ts = START_MS;
    let (without, null) = (format!(r#"{{"event_id":"a","ts":{ts}}}"#), format!(r#"{{"user_id":null,"ts":{ts}}}"#));
    place.write("in/clicks-0.jsonl", lines(&[good(0), without.into_bytes(), null.into_bytes(), good(1)]));
    let finished = place.run("job.yaml").succeed();
    let counts = finished.counts("clicks");
    assert_eq!((counts.taken, counts.bad), (2, 2));
    assert!(place.rows("bad.jsonl").iter().all(|row| row["reason"].as_str().unwrap().contains("user_id")));
    assert_eq!(place.rows("out.jsonl").len(), 2);
}

#[test]
fn columns_that_may_be_missing_are_null() {
    let place = Place::new();
    place.write("job.yaml", jobs::copy());
    place.write("in/clicks-0.jsonl", format!("{{\"ts\":{START_MS}}}\n"));
    place.run("job.yaml").succeed();
    let expected = json!({"event_id": null, "user_id": null, "item_id": null, "event_type": null, "ts": START_MS});
    assert_eq!(place.rows("out.jsonl"), [expected]);
}

#[test]
fn absurd_times_are_diverted_and_move_no_watermark() {
    diverted_as_they_are(
        &[
            r#"{"event_id":"year 1","ts":-62135596800000}"#,
            r#"{"event_id":"year 9999","ts":253402300799000}"#,
            r#"{"event_id":"end of i64","ts":9223372036854775807}"#,
            r#"{"event_id":"begin of i64","ts":-9223372036854775808}"#,
            r#"{"event_id":"1969","ts":-1}"#,
        ],
        "",
    );
    // Had one of them moved the watermark, all rows after it would be late.
    let place = Place::new();
    let mut rows: Vec<Vec<u8>> = (0..200).map(good).collect();
    rows.insert(3, br#"{"event_id":"year 9999","ts":253402300799000}"#.to_vec());
    place.write("in/clicks-0.jsonl", lines(&rows)).write("job.yaml", jobs::minutes(Over::Files));
    let finished = place.run("job.yaml").set("tick.max_rows=5").succeed();
    let counts = finished.counts("minutes");
    assert_eq!((counts.taken, counts.late), (200, 0));
}

#[test]
fn a_row_far_ahead_of_a_live_clock_is_diverted_and_moves_no_watermark() {
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    let mut producer = topics::producer(&place.path("topics"), "clicks", 1);
    // In the range of believable times, but many years ahead of any clock.
    let ahead = br#"{"event_id":"2099","item_id":"i","event_type":"click","ts":4070908800000}"#;
    topics::append(&mut producer, [&good(0)[..], ahead, &good(1)]);
    let run = place.run("job.yaml").args(&["--topics", "topics"]).set("commit.every=10ms");
    let mut running = run.start();
    running.until("the bad row", || topics::count(&place.path("topics"), "bad") == 1);
    topics::append(&mut producer, [&good(2)[..], &good(200)]);
    running.until("the minute", || topics::count(&place.path("topics"), "out") == 1);
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    let counts = finished.counts("minutes");
    assert_eq!((counts.taken, counts.late), (4, 0));
    let bad = &topics::rows(&place.path("topics"), "bad")[0];
    assert_eq!(bad["raw"], json!(String::from_utf8_lossy(ahead)));
    assert_eq!(topics::rows(&place.path("topics"), "out")[0]["clicks"], 3);
    // The same topic, bounded, is a replay of the past: there is no clock to be ahead of.
    let run = place.run("job.yaml").args(&["--topics", "topics", "--until-end", "--state", "other"]);
    let finished =
        run.set("sinks.out.topic=out-2").set("sinks.bad.topic=bad-2").set("sinks.late.topic=late-2").succeed();
    assert_eq!(finished.counts("clicks").bad, 0);
}

#[test]
fn a_line_of_ten_megabytes_is_cut_where_it_is_diverted_and_whole_where_it_is_a_row() {
    let long = vec![b'x'; 10 << 20];
    let (_, found) = diverted(&[&long]);
    assert_eq!(found[0]["raw_length"], json!(10 << 20));
    assert_eq!(found[0]["raw"].as_str().unwrap().len(), 64 << 10);
    let place = Place::new();
    let name = "n".repeat(10 << 20);
    let row = format!(r#"{{"event_id":"big","user_id":"{name}","ts":{START_MS}}}"#).into_bytes();
    place.write("in/clicks-0.jsonl", lines(&[good(1), row, good(2)])).write("job.yaml", jobs::copy());
    place.run("job.yaml").succeed();
    let rows = place.rows("out.jsonl");
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().any(|row| row["user_id"] == name.as_str()));
}

#[test]
fn text_that_is_not_utf8_is_diverted_byte_by_byte() {
    let row = [br#"{"user_id":"caf"#.as_slice(), b"\xe9", br#"","ts":1767225600000}"#].concat();
    let (_, found) = diverted(&[&row, b"\xff\xfe\x00"]);
    let encoded: Vec<&str> = found.iter().map(|row| row["raw_base64"].as_str().unwrap()).collect();
    assert!(encoded.contains(&"//4A"), "{found:?}");
    assert!(found.iter().all(|row| row["raw"].is_null()));
}

#[test]
fn nothing_in_a_file_is_no_row() {
    for text in ["", "\n", "\n\n\r\n", "\u{feff}"] {
        let place = Place::new();
        place.write("in/clicks-0.jsonl", text).write("job.yaml", jobs::copy());
        let finished = place.run("job.yaml").succeed();
        assert_eq!(finished.ended(), "finished");
        assert_eq!(finished.document()["snapshot"]["decoded"], 0, "{text:?}");
        assert_eq!(place.read("out.jsonl"), b"");
    }
}

#[test]
fn a_path_that_matches_nothing_is_an_error_that_names_it() {
    let place = Place::new();
    place.write("job.yaml", jobs::copy());
    let finished = place.run("job.yaml").finish();
    assert!(matches!(finished.code, Some(74 | 78)), "{finished}");
    assert!(finished.stderr.contains("in/clicks-*.jsonl"), "{finished}");
}

#[test]
fn a_job_that_may_not_have_bad_rows_stops_at_the_first_and_shows_it() {
    let place = Place::new();
    let job = jobs::copy()
        .replace("id: event_id", "id: event_id\n    on_bad_row: stop")
        .replace("from: clicks.bad", "from: copied");
    place.write("job.yaml", job);
    place.write("in/clicks-0.jsonl", lines(&[good(0), b"nonsense".to_vec(), good(1)]));
    place.run("job.yaml").fail(1, &["clicks", "clicks-0.jsonl"]);
}

/// A copy job that was killed on its way; `in/clicks-0.jsonl` has many rows, of which few were read.
fn interrupted() -> Place {
    let place = Place::new();
    let rows: Vec<Vec<u8>> = (0..20_000).map(good).collect();
    place.write("in/clicks-0.jsonl", lines(&rows)).write("job.yaml", jobs::copy());
    let mut running = slow(&place).start();
    running.catch_once_written(&place.path("out.jsonl"));
    running.kill();
    place
}

fn slow(place: &Place) -> crate::support::process::Invocation {
    place.run("job.yaml").set("tick.max_rows=1").set("commit.every=10ms").set("checkpoint.every=50ms")
}

#[test]
fn a_file_that_changed_under_a_job_stops_it_by_name() {
    let place = interrupted();
    let whole = place.read("in/clicks-0.jsonl");
    let written = place.read("out.jsonl");
    let grown = [whole.clone(), good(5)].concat();
    let mut changed = whole.clone();
    changed[40] ^= 1;
    for other in [&grown[..], &whole[..whole.len() / 2], &changed, b""] {
        place.write("in/clicks-0.jsonl", other);
        slow(&place).fail(78, &["in/clicks-0.jsonl", "--fresh"]);
        assert!(written.starts_with(&place.read("out.jsonl")), "nothing was added");
    }
    // Put back as it was, it is read on.
    place.write("in/clicks-0.jsonl", &whole);
    let before = place.read("out.jsonl").len() as u64;
    let mut running = slow(&place).start();
    let path = place.path("out.jsonl");
    running.catch("more rows", || fs::metadata(&path).is_ok_and(|file| file.len() > before));
    running.kill();
}

#[test]
fn a_file_that_vanished_under_a_job_stops_it_by_name() {
    let place = interrupted();
    fs::remove_file(place.path("in/clicks-0.jsonl")).unwrap();
    slow(&place).fail(78, &["in/clicks-0.jsonl", "--fresh"]);
}

#[test]
fn a_file_whose_recorded_rows_changed_stops_the_job() {
    // Only rows that were read since the last checkpoint are read again; without a checkpoint that is all of them.
    let place = Place::new();
    let rows: Vec<Vec<u8>> = (0..20_000).map(good).collect();
    place.write("in/clicks-0.jsonl", lines(&rows)).write("job.yaml", jobs::copy());
    let run = || place.run("job.yaml").set("tick.max_rows=100").set("tick.max_bytes=1MiB").set("commit.every=10ms");
    let mut running = run().start();
    running.catch("enough rows", || fs::metadata(place.path("out.jsonl")).is_ok_and(|file| file.len() > 200_000));
    running.kill();
    // Past the first 64 KiB, of the same size: the identity cannot see it, the checksum of what was read must.
    let mut changed = place.read("in/clicks-0.jsonl");
    let at = 100_000 + changed[100_000..].iter().position(|byte| *byte == b'u').unwrap() + 10;
    changed[at] ^= 1;
    place.write("in/clicks-0.jsonl", &changed);
    run().fail(78, &["`clicks`", "clicks-0.jsonl", "--fresh"]);
}

#[test]
fn compressed_input_that_is_cut_off_stops_the_job_and_is_named() {
    let place = Place::new();
    let shopping = Shop { seed: 90, ..Shop::default() }.open();
    shopping.write(&place);
    let packed = std::process::Command::new("gzip").arg(place.path("in/clicks-0.jsonl")).status();
    if !packed.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no gzip here");
        return;
    }
    place.write("job.yaml", jobs::copy().replace("clicks-*.jsonl", "clicks-0.jsonl.gz"));
    let whole = place.read("in/clicks-0.jsonl.gz");
    place.run("job.yaml").succeed();
    place.write("in/clicks-0.jsonl.gz", &whole[..whole.len() / 2]);
    place.run("job.yaml").arg("--fresh").fail(74, &["clicks-0.jsonl.gz"]);
    place.write("in/clicks-0.jsonl.gz", b"no gzip at all");
    place.run("job.yaml").arg("--fresh").fail(74, &["clicks-0.jsonl.gz"]);
}

/// A page of it says that its values are numbers of a dictionary, and there is none: its reader panics at that.
#[test]
fn a_parquet_file_that_contradicts_itself_stops_the_job_and_is_named() {
    let place = Place::new();
    place.write("in/clicks-0.parquet", include_bytes!("../fixtures/files/no-dictionary.parquet"));
    let job = jobs::copy().replace("clicks-*.jsonl", "clicks-0.parquet");
    place.write("job.yaml", job.replace("format: json", "format: parquet"));
    let failed = place.run("job.yaml").fail(74, &["clicks-0.parquet", "is damaged", "contradicts itself"]);
    assert!(!failed.stderr.contains("fault in riverrun"), "{failed}");
}
