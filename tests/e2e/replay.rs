//! What a job did is done once more from its journal, by any number of workers and beside the job: the same bytes, or a stop that
//! says what differs.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::live::{LATE, PARTITIONS, in_turn, produce, traffic};
use crate::oracle::{self, Model};
use crate::support::jobs::{self, BUSY, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::process::{Invocation, Stop};
use crate::support::{Dice, Place, Shop, topics};

/// Partitions of the topic of attributed orders.
const LANES: u32 = 3;

fn live(place: &Place) -> Invocation {
    place.run("job.yaml").args(&["--topics", "topics", "--set", "journal.keep=all"]).args(BUSY)
}

fn replay(place: &Place, out: &str) -> Invocation {
    let replay = place.riverrun(&["replay", "job.yaml", "--recorded", "--out", out, "-o", "json"]);
    replay.args(BUSY).args(&["--topics", "topics"])
}

/// What a lane's file must hold: the values of a partition, a line each.
fn values(place: &Place, topic: &str, partition: u32) -> Vec<u8> {
    let records = topics::records(&place.path("topics"), topic);
    let own = records.into_iter().filter(|record| record.partition == partition);
    own.flat_map(|record| [record.value, b"\n".to_vec()].concat()).collect()
}

/// What the job gave, by file of a replay.
fn given(place: &Place) -> Vec<(String, Vec<u8>)> {
    let lanes = (0..LANES).map(|lane| (format!("out/lane-{lane:04}.jsonl"), values(place, "out", lane)));
    let others = ["bad", "late"].map(|topic| (format!("{topic}.jsonl"), values(place, topic, 0)));
    lanes.chain(others).collect()
}

fn replayed(place: &Place, out: &str) -> Vec<(String, Vec<u8>)> {
    let names = given(place).into_iter().map(|(name, _)| name);
    names.map(|name| (name.clone(), place.read(&format!("{out}/{name}")))).collect()
}

fn assert_equal(found: &[(String, Vec<u8>)], expected: &[(String, Vec<u8>)], what: &str) {
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        assert!(found == expected, "{what}: {name} has {} bytes, {} were written", found.len(), expected.len());
    }
}

/// A live job over topics with late and bad rows, killed again and again, with other numbers of workers.
fn killed_live_job(seed: u64) -> Place {
    let written = traffic(seed, 2000);
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    drop(topics::producer(&place.path("topics"), "clicks", PARTITIONS));
    drop(topics::producer(&place.path("topics"), "orders", PARTITIONS));
    let create = ["topic", "create", "out", "-p", &LANES.to_string(), "--topics", "topics"];
    place.riverrun(&create).succeed();
    let (done, mut dice, mut kills) = (AtomicBool::new(false), Dice::new(seed), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| produce(&place.path("topics"), &written, &done));
        while !done.load(Ordering::Acquire) {
            let mut running = live(&place).workers([2, 1, 3][kills % 3]).start();
            let moment = Duration::from_millis(100) + dice.moment(Duration::from_millis(500));
            assert!(!running.ends_within(moment), "a live job ended by itself: {}", running.finish());
            running.kill();
            kills += 1;
        }
    });
    let (clicks, orders) = (in_turn(&written.regular.clicks), in_turn(&written.regular.orders));
    let (clicks, orders) = (oracle::clicks(&clicks), oracle::orders(&orders));
    let all = oracle::attributed(&clicks, &orders, WINDOW_MS, DEDUPE_MS, Model::Last).len() + LATE;
    let count = |topic: &str| topics::count(&place.path("topics"), topic) as usize;
    let mut running = live(&place).workers(2).start();
    running.until("all rows", || count("out") + count("late") >= all && count("bad") >= written.regular.broken.len());
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
    place
}

fn document(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&place.read(&format!("{out}/replay.json"))).unwrap()
}

/// All that lies below a folder, with its content.
fn content(place: &Place, name: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    place.files_below(name).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_killed_live_job_is_replayed_by_any_number_of_workers_to_the_byte() {
    let place = killed_live_job(500);
    let expected = given(&place);
    assert!(expected.iter().all(|(_, bytes)| !bytes.is_empty()), "every lane has something to compare");
    let (state, topics) = (content(&place, ".riverrun/state"), content(&place, "topics"));
    for workers in [1, 2, 5] {
        let out = format!("replay-{workers}");
        let said = replay(&place, &out).workers(workers).succeed().document();
        assert_equal(&replayed(&place, &out), &expected, &format!("{workers} workers"));
        assert_eq!((said["checkpoint"].as_u64(), said["from"].as_u64()), (Some(0), Some(1)));
        assert_eq!(said["ticks"], said["to"]);
        assert_eq!(document(&place, &out), document(&place, "replay-1"), "what is said does not depend on workers");
    }
    assert!(content(&place, ".riverrun/state") == state, "the state was touched");
    assert!(content(&place, "topics") == topics, "the topics were touched");

    // Beside a running job, and in two parts that together are the whole.
    let mut running = live(&place).start();
    let held = place.path(".riverrun/state/jobs/attribution/LOCK");
    running.until("its lock", || fs::read(&held).is_ok_and(|text| !text.is_empty()));
    let last = document(&place, "replay-1")["to"].as_u64().unwrap();
    let middle = last / 2;
    replay(&place, "first").arg("--to-tick").arg(middle.to_string()).succeed();
    let rest = replay(&place, "rest").args(&["--from-tick", &(middle + 1).to_string(), "--to-tick", &last.to_string()]);
    let said = rest.workers(2).succeed().document();
    assert!(said["checkpoint"].as_u64().unwrap() > 0, "the second part begins from a checkpoint: {said}");
    assert!(said["ticks"].as_u64().unwrap() < last);
    let parts = replayed(&place, "first").into_iter().zip(replayed(&place, "rest"));
    let whole: Vec<_> = parts.map(|((name, first), (_, rest))| (name, [first, rest].concat())).collect();
    assert_equal(&whole, &expected, "both parts");
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0), "the job did not notice");

    // A folder is one replay's own.
    replay(&place, "first").fail(5, &["`first` is not empty", "--out"]);
    replay(&place, "none").args(&["--from-tick", "1000000"]).fail(3, &["1000000"]);
    replay(&place, "other")
        .args(&["--set", "sources.clicks.max_disorder=6s"])
        .fail(78, &["the job file, --set and all"]);
    place.riverrun(&["replay", "job.yaml", "--recorded", "--out", "x", "--state", "nowhere"]).fail(3, &["nowhere"]);

    // The journal and the input must be what they were.
    tampered(&place, &place.path(".riverrun/state/jobs/attribution/log"), 74, "log record");
    tampered(&place, &place.path("topics/clicks"), 74, "source `clicks`");
}

/// Changes a byte in the middle of the largest file below `folder`: a replay must say so.
fn tampered(place: &Place, folder: &Path, code: i32, says: &str) {
    let files = place.files_below(folder.strip_prefix(place.folder()).unwrap().to_str().unwrap());
    let largest = files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(&largest).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 0x04;
    fs::write(&largest, changed).unwrap();
    let out = format!("tampered-{}", folder.file_name().unwrap().to_string_lossy());
    replay(place, &out).fail(code, &[says]);
    assert!(!place.path(&format!("{out}/replay.json")).exists(), "a replay that failed is not sealed");
    fs::write(&largest, whole).unwrap();
}

#[test]
fn files_are_replayed_with_their_headers_and_changed_input_is_named() {
    let shopping = Shop { seed: 501, rows: 1500, ..Shop::default() }.open();
    let place = Place::new();
    shopping.write(&place);
    let csv = jobs::attribution(Over::Files, Model::First).replace("path: out.jsonl", "path: out.csv");
    place.write("job.yaml", csv.replace("timestamps: epoch_ms }\n  bad", "format: csv }\n  bad"));
    place.run("job.yaml").args(BUSY).succeed();
    let replay = |out: &str| place.riverrun(&["replay", "job.yaml", "--recorded", "--out", out]).args(BUSY);
    replay("again").workers(3).succeed();
    for file in ["out.csv", "bad.jsonl", "late.jsonl"] {
        assert!(place.read(&format!("again/{file}")) == place.read(file), "{file} differs");
    }
    assert!(place.read("out.csv").starts_with(b"order_id,"), "there is a header");
    assert_eq!(document(&place, "again")["finished"], true);

    let input = "in/clicks-0.jsonl";
    let whole = place.read(input);
    place.write(input, [&whole[..], b"\n{}"].concat());
    replay("changed").fail(78, &["clicks-0.jsonl", "is not what the job read", "--from-tick"]);
    fs::remove_file(place.path(input)).unwrap();
    replay("gone").fail(78, &["clicks-0.jsonl"]);
}
