//! A lake as others see it: rows read by DuckDB and pyarrow, after kills, beside compactions, in a folder and in a bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::oracle::Model;
use crate::support::cloud::Cloud;
use crate::support::jobs::{self, Over};
use crate::support::process::Invocation;
use crate::support::proxy::Weather;
use crate::support::python::{fixture, python};
use crate::support::server::BUCKET;
use crate::support::{Dice, Place, Shop, Shopping};

/// So small that a run commits often: a file is hardly more than its own footer.
const SMALL: &str = "sinks.lake.lake.file_size=5KiB";

/// The attribution job, whose rows go to a lake as well.
fn filled(shopping: &Shopping, path: &str) -> Place {
    let place = Place::new();
    shopping.write(&place);
    let lake = format!("  lake: {{ from: attributed, lake: {{ path: \"{path}\" }} }}\n");
    let pace = "tick: { max_rows: 200 }\ncommit: { every: 10ms }\ncheckpoint: { every: 50ms }\n";
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last) + &lake + pace);
    place
}

fn shopping(seed: u64) -> Shopping {
    Shop { seed, rows: 3000, ..Shop::default() }.open()
}

/// The files that count, as `lake files -o json` tells them.
fn files(command: &Invocation) -> Vec<Value> {
    let listed = command.succeed();
    listed
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a line is a file"))
        .collect()
}

fn files_of(place: &Place) -> Vec<Value> {
    files(&place.riverrun(&["lake", "files", "lake", "-o", "json"]))
}

/// What is in the files, by their checksums: names tell who wrote them.
fn contents(files: &[Value]) -> Vec<(String, String)> {
    let text = |file: &Value, key: &str| file[key].as_str().expect("it is text").to_owned();
    let mut found: Vec<_> = files.iter().map(|file| (file["partition"].to_string(), text(file, "xxh3"))).collect();
    found.sort();
    found
}

fn rows(files: &[Value]) -> u64 {
    files.iter().map(|file| file["rows"].as_u64().expect("it is a number")).sum()
}

/// Holds the lake against `out.jsonl`, with readers that are not ours. Returns false if there are none.
fn others_agree(place: &Place) -> bool {
    let Some(python) = python("duckdb, pyarrow") else { return false };
    let files = place.riverrun(&["lake", "files", "lake"]).succeed();
    let files = String::from_utf8(files.stdout).expect("paths are text");
    let arguments = ["out.jsonl", "lake"].into_iter().chain(files.lines());
    let said = fixture(&python, "lake_readers.py", arguments, place.folder());
    let count = said.trim().parse::<usize>().expect("it says how many rows");
    assert_eq!(count, place.rows("out.jsonl").len());
    true
}

#[test]
fn others_read_what_a_lake_holds_before_and_after_a_compaction() {
    let place = filled(&shopping(1200), "lake");
    let finished = place.run("job.yaml").set(SMALL).workers(2).succeed();
    assert_eq!(finished.ended(), "finished");
    others_agree(&place);
    let small = files_of(&place);
    assert!(small.len() > 3, "{} files", small.len());
    let lake = |arguments: &[&str]| place.riverrun(&[&["lake"], arguments, &["lake", "-o", "json"]].concat());
    let listed = lake(&["ls"]).succeed().document();
    assert_eq!(
        (listed["layout"].as_str(), listed["partition_by"].as_str()),
        (Some("visible_after_commit"), Some("hour"))
    );
    let merged = lake(&["compact"]).succeed().document();
    assert_eq!(merged["before"].as_u64().map(|files| files > 1), Some(true), "{merged}");
    let large = files_of(&place);
    assert!(large.len() < small.len());
    assert_eq!(rows(&large), rows(&small));
    others_agree(&place);
    let verified = lake(&["verify"]).succeed().document();
    assert_eq!(verified["findings"], serde_json::json!({}));
    lake(&["sweep", "--keep", "0"]).succeed();
    others_agree(&place);
    // One file is lost.
    let path = place.path("lake").join(large[0]["path"].as_str().expect("it has a path"));
    std::fs::remove_file(path).expect("it is there");
    lake(&["verify"]).fail(1, &["not as they should be"]);
    place.riverrun(&["lake", "files", "nowhere"]).fail(3, &["there is no lake"]);
}

#[test]
fn kills_change_no_file_of_a_lake() {
    let shopping = shopping(1201);
    let calm = filled(&shopping, "lake");
    calm.run("job.yaml").set(SMALL).workers(1).succeed();
    let promised = contents(&files_of(&calm));
    let place = filled(&shopping, "lake");
    let mut dice = Dice::new(1201);
    for round in 0..6 {
        let mut running = place.run("job.yaml").set(SMALL).workers(1 + round % 3).start();
        if running.ends_within(Duration::from_millis(100 + dice.below(500))) {
            break;
        }
        running.kill();
    }
    let finished = place.run("job.yaml").set(SMALL).workers(2).succeed();
    assert!(["finished", "already_finished"].contains(&finished.ended().as_str()));
    assert!(contents(&files_of(&place)) == promised, "the files differ from those of a calm run");
    others_agree(&place);
    place.riverrun(&["lake", "verify", "lake"]).succeed();
}

#[test]
fn compactions_under_load_are_not_seen() {
    let place = filled(&Shop { seed: 1202, rows: 12_000, ..Shop::default() }.open(), "lake");
    let mut running = place.run("job.yaml").set(SMALL).workers(2).start();
    let commits = place.path("lake/_commits");
    running.until("a commit", || std::fs::read_dir(&commits).is_ok_and(|found| found.count() > 2));
    let (mut merged, mut seen) = (0, 0);
    while !running.ends_within(Duration::ZERO) {
        let done = place.riverrun(&["lake", "compact", "lake", "-o", "json"]).succeed().document();
        merged += done["before"].as_u64().expect("it counts");
        let now = rows(&files_of(&place));
        assert!(now >= seen, "rows went away: {now} after {seen}");
        seen = now;
    }
    running.finish();
    assert!(merged > 4, "{merged} files were merged meanwhile");
    assert_eq!(rows(&files_of(&place)), place.rows("out.jsonl").len() as u64);
    others_agree(&place);
    place.riverrun(&["lake", "verify", "lake"]).succeed();
}

#[test]
fn a_lake_in_a_bucket_is_that_in_a_folder_whatever_the_network_does() {
    let Some(cloud) = Cloud::open(1203) else { return };
    let shopping = shopping(1203);
    let calm = filled(&shopping, "lake");
    calm.run("job.yaml").set(SMALL).workers(1).succeed();
    let promised = contents(&files_of(&calm));
    let path = format!("s3://{BUCKET}/a/lake");
    let place = filled(&shopping, &path);
    cloud.becomes(Weather { fault_one_in: 6, delay_ms_max: 10, ..Weather::default() });
    let run = cloud.reach(place.run("job.yaml").set(SMALL).workers(2));
    let mut running = run.start();
    if !running.ends_within(Duration::from_millis(2500)) {
        running.kill();
    }
    run.succeed();
    let lake = |command: &str| cloud.reach(place.riverrun(&["lake", command, &path, "-o", "json"]));
    assert!(contents(&files(&lake("files"))) == promised, "the files differ from those in a folder");
    let merged = lake("compact").succeed().document();
    assert!(merged["before"].as_u64() > merged["after"].as_u64(), "{merged}");
    assert_eq!(rows(&files(&lake("files"))), place.rows("out.jsonl").len() as u64);
    assert_eq!(lake("verify").succeed().document()["findings"], serde_json::json!({}));
    let found: BTreeMap<bool, usize> = cloud.objects("a/lake/").iter().fold(BTreeMap::new(), |mut found, object| {
        *found.entry(object.contains("/_staging/")).or_default() += 1;
        found
    });
    assert_eq!(found.get(&true), None, "nothing waits for its place");
}

#[test]
fn a_live_job_commits_a_lake_by_the_clock_and_when_it_is_stopped() {
    use crate::support::process::Stop;
    use crate::support::topics;
    let shopping = shopping(1204);
    let place = Place::new();
    let lake = "  lake: { from: attributed, lake: { path: lake, every: 100ms } }\n";
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last) + lake);
    let append = |half: usize| {
        for (topic, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
            let rows = rows.chunks(rows.len().div_ceil(2)).nth(half).expect("there are two halves");
            let mut producer = topics::producer(&place.path("topics"), topic, 1);
            topics::append(&mut producer, rows.iter().map(Vec::as_slice));
        }
    };
    append(0);
    let run = |every: &str| {
        let every = format!("sinks.lake.lake.every={every}");
        place.run("job.yaml").args(&["--topics", "topics"]).set(every).workers(2).start()
    };
    let out = || topics::rows(&place.path("topics"), "out").len() as u64;
    let mut running = run("100ms");
    let list = place.riverrun(&["lake", "files", "lake", "-o", "json"]);
    running.until("rows in the lake", || list.finish().stdout.contains(&b'{'));
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    let before = out();
    assert_eq!(rows(&files_of(&place)), before);
    // Nothing is due for a day but at the end of the job.
    append(1);
    let mut running = run("1d");
    running.until("more rows in the topic", || out() > before);
    running.signal(Stop::Interrupt);
    assert_eq!(running.finish().code, Some(0));
    assert!(out() > before);
    assert_eq!(rows(&files_of(&place)), out());
    place.riverrun(&["lake", "verify", "lake"]).succeed();
}
