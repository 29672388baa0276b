//! Plans run: what a job file says is what comes out, whatever the number of workers, compared with plain counting.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_jobs::run::{Ended, RunOptions, run};
use riverrun_jobs::{Environment, RegistryPlace, Topics, check};
use serde_json::Value;

/// A select, a union, a window on it, a window chained to that by the same key, an attribution chained to it, side outputs.
const JOB: &str = r#"
job: chained
sources:
  views: { file: { path: "views*.jsonl" }, schema: { k: string, n: int64, note: json, ts: timestamp_ms }, event_time: ts, max_disorder: 10s }
  clicks: { file: { path: clicks.jsonl }, schema: { id: string, k: string, n: int64, ts: timestamp_ms }, event_time: ts, id: id, max_disorder: 10s }
steps:
  viewed: { select: { from: views, columns: [k, n] } }
  clicked: { select: { from: clicks, where: "100 / n > 0", columns: [k, n] } }
  both: { union: { from: [viewed, clicked] } }
  minutes: { window: { from: both, tumble: 1m, by: [k], aggregates: { rows: "count(*)", total: "sum(n)" } } }
  named: { select: { from: minutes, columns: ["k as key", rows, total, window_start] } }
  hours: { window: { from: named, tumble: 1h, by: [key], aggregates: { minutes: "count(*)", rows: "sum(rows)", total: "sum(total)" } } }
  credited: { attribute: { conversions: minutes, touches: clicks, by: [k], window: 5m } }
sinks:
  hours: { from: hours, file: { path: hours.jsonl } }
  credited: { from: credited, file: { path: credited.jsonl } }
  unread: { from: views.bad, file: { path: unread.jsonl } }
  failed: { from: clicked.bad, file: { path: failed.jsonl } }
  late: { from: minutes.late, file: { path: late.jsonl } }
"#;

const OUTPUTS: [&str; 5] = ["hours.jsonl", "credited.jsonl", "unread.jsonl", "failed.jsonl", "late.jsonl"];

/// A small generator: the same rows at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Counts and sums by key and hour, of rows that can be used.
type Expected = BTreeMap<(String, u64), (u64, u64)>;

/// Writes the inputs; returns what is expected of them, and how many rows are bad and how many fail.
fn write_inputs(folder: &Path) -> (Expected, usize, usize) {
    let mut dice = Dice(7);
    let (mut expected, mut bad, mut failed) = (Expected::new(), 0, 0);
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for row in 0..6000u64 {
        // Disorder stays below `max_disorder`, so that no row is late.
        let ts = 1_700_000_000_000 + row * 1500 + dice.roll(9000);
        let (key, n) = (format!("k{}", dice.roll(40)), dice.roll(120));
        let mut count = || {
            let sums = expected.entry((key.clone(), ts / 3_600_000 * 3_600_000)).or_default();
            *sums = (sums.0 + 1, sums.1 + n);
        };
        let (file, line) = match dice.roll(10) {
            0 => {
                bad += 1;
                ("views-a.jsonl", format!("{{\"k\":\"{key}\",\"n\":\"many\",\"ts\":{ts}}}"))
            }
            1..5 => {
                // 100 / 0 fails; 100 / n is 0 above 100.
                if n > 0 && n <= 100 {
                    count();
                }
                failed += usize::from(n == 0);
                ("clicks.jsonl", format!("{{\"id\":\"c{row}\",\"k\":\"{key}\",\"n\":{n},\"ts\":{ts}}}"))
            }
            side => {
                count();
                let file = if side % 2 == 0 { "views-a.jsonl" } else { "views-b.jsonl" };
                (file, format!("{{\"k\":\"{key}\",\"n\":{n},\"ts\":{ts},\"note\":{{\"x\":[1, 2]}}}}"))
            }
        };
        *files.entry(file).or_default() += &(line + "\n");
    }
    for (file, text) in files {
        fs::write(folder.join(file), text).unwrap();
    }
    (expected, bad, failed)
}

/// Runs the job on the inputs in `folder` with its outputs in a folder of their own; returns them.
fn outputs(folder: &Path, workers: usize) -> Vec<String> {
    let out = tempfile::tempdir().unwrap();
    let inside = |name: &str, at: &Path| at.join(name).to_str().unwrap().to_owned();
    let mut overrides = vec![
        format!("sources.views.file.path={}", inside("views*.jsonl", folder)),
        format!("sources.clicks.file.path={}", inside("clicks.jsonl", folder)),
        "tick.max_rows=700".to_owned(),
    ];
    for (sink, file) in ["hours", "credited", "unread", "failed", "late"].iter().zip(OUTPUTS) {
        overrides.push(format!("sinks.{sink}.file.path={}", inside(file, out.path())));
    }
    let (plan, _) = check("job.yaml", JOB, &overrides).unwrap_or_else(|report| panic!("{report}"));
    let environment =
        Environment { topics: Topics::parse("topics"), until_end: true, registry: RegistryPlace::Nowhere };
    let options = RunOptions { state: out.path().join("state").into(), workers, fresh: false, append: false };
    let outcome = run(&plan, &environment, &options, Control::new(), Arc::new(Observer::default())).unwrap();
    assert_eq!(outcome.ended, Ended::Finished);
    OUTPUTS.iter().map(|file| fs::read_to_string(out.path().join(file)).unwrap_or_default()).collect()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_job_of_chained_steps_gives_what_plain_counting_gives_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, bad, failed) = write_inputs(folder.path());
    let one = outputs(folder.path(), 1);
    let mut counted = Expected::new();
    for row in rows(&one[0]) {
        let start = chrono::DateTime::parse_from_rfc3339(row["window_start"].as_str().unwrap()).unwrap();
        let hour = u64::try_from(start.timestamp_millis()).unwrap();
        let sums = (row["rows"].as_u64().unwrap(), row["total"].as_u64().unwrap());
        assert!(counted.insert((row["key"].as_str().unwrap().to_owned(), hour), sums).is_none());
    }
    assert_eq!(counted, expected);
    assert_eq!(rows(&one[2]).len(), bad);
    assert_eq!(rows(&one[3]).len(), failed);
    assert_eq!(one[4], "");
    let credited = rows(&one[1]);
    assert!(
        credited.iter().any(|row| row["attributed"] == true) && credited.iter().any(|row| row["attributed"] == false)
    );
    for workers in [2, 4] {
        let more = outputs(folder.path(), workers);
        for (file, (one, more)) in OUTPUTS.iter().zip(one.iter().zip(&more)) {
            assert!(one == more, "{file} differs with {workers} workers");
        }
    }
}
