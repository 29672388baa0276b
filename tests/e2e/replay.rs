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

/// The main job; attributed orders have keys, by which they are dealt out to the partitions of their topic.
fn job() -> String {
    jobs::attribution(Over::Topics, Model::Last).replace("topic: out,", "topic: out, key: [order_id],")
}

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
    place.write("job.yaml", job());
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

/// Replays in the namespace `name`.
fn repeat(place: &Place, name: &str) -> Invocation {
    let replay = place.riverrun(&["replay", "job.yaml", "--recorded", "--as", name, "-o", "json"]);
    replay.args(BUSY).args(&["--topics", "topics", "--set", "journal.keep=all"])
}

/// A record: its partition, key and value.
type Consumed = (u32, Option<Vec<u8>>, Vec<u8>);

/// The records of a topic of the job, or of the replay whose name `prefix` ends: by partition, in order, with their keys.
fn consumed(place: &Place, prefix: &str) -> Vec<Vec<Consumed>> {
    let of = |topic| {
        let records = topics::records(&place.path("topics"), &format!("{prefix}{topic}"));
        records.into_iter().map(|record| (record.partition, record.key, record.value)).collect()
    };
    ["out", "bad", "late"].map(of).to_vec()
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
    let told = replay(&place, "told").succeed();
    let keys = document(&place, "told")["files"][0]["left_out"]["keys"].as_u64().unwrap();
    assert!(keys > 0 && told.stderr.contains("the files of sink `out` hold values alone"), "{told}");
    assert!(told.stderr.contains("--as NAME"), "{told}");
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

#[test]
fn a_killed_live_job_is_repeated_in_a_namespace_to_the_byte_while_it_runs() {
    let place = killed_live_job(502);
    let expected = consumed(&place, "");
    assert!(expected.iter().all(|topic| !topic.is_empty()), "every topic has something to compare");
    assert!(expected[0].iter().all(|(_, key, _)| key.is_some()), "orders have keys");
    let own = ["topics/clicks", "topics/orders", "topics/out", "topics/bad", "topics/late"];
    let state = ".riverrun/state/jobs/attribution";
    let before: Vec<_> = own.iter().chain([&state]).map(|name| content(&place, name)).collect();
    for workers in [1, 2, 3] {
        let name = format!("w{workers}");
        let finished = repeat(&place, &name).workers(workers).succeed();
        assert_eq!(finished.ended(), "finished", "{finished}");
        assert!(consumed(&place, &format!("{name}.")) == expected, "{workers} workers: other records\n{finished}");
        let said = finished.document();
        assert_eq!((&said["job"], &said["of"]), (&format!("attribution@{name}").into(), &"attribution".into()));
        assert_eq!(said["ticks"]["from"], 1);
    }
    let after: Vec<_> = own.iter().chain([&state]).map(|name| content(&place, name)).collect();
    assert!(before == after, "the job or what it reads and writes was touched");
    let again = repeat(&place, "w1").succeed();
    assert_eq!(again.ended(), "already_finished", "{again}");

    // Beside a running job, and in two parts, the second from a checkpoint.
    let mut running = live(&place).start();
    let held = place.path(".riverrun/state/jobs/attribution/LOCK");
    running.until("its lock", || fs::read(&held).is_ok_and(|text| !text.is_empty()));
    let last = again.document()["ticks"]["to"].as_u64().unwrap();
    let (middle, next, last) = ((last / 2).to_string(), (last / 2 + 1).to_string(), last.to_string());
    repeat(&place, "first").args(&["--to-tick", &middle]).succeed();
    let rest = repeat(&place, "rest").args(&["--from-tick", &next, "--to-tick", &last]).workers(3).succeed();
    assert!(rest.stderr.contains(&format!("recorded ticks {next} to {last}")), "{rest}");
    let (first, rest) = (consumed(&place, "first."), consumed(&place, "rest."));
    // Which of them have rows of every topic is a matter of when it was killed.
    for part in [&first, &rest] {
        assert!(part.iter().any(|topic| !topic.is_empty()), "both have rows");
    }
    let both = first.into_iter().zip(rest).map(|(mut first, rest)| {
        first.extend(rest);
        first.sort_by_key(|(partition, ..)| *partition);
        first
    });
    assert!(both.collect::<Vec<_>>() == expected, "both parts together");
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0), "the job did not notice");
}

#[test]
fn a_repetition_that_is_killed_goes_on_and_needs_nothing_of_the_job_any_more() {
    let place = killed_live_job(503);
    let expected = consumed(&place, "");
    let (mut dice, mut kills) = (Dice::new(503), 0);
    let command = repeat(&place, "hurt").args(&["--rate", "4k/s"]);
    let given = || topics::count(&place.path("topics"), "hurt.out");
    for part in 1..5 {
        let mut running = command.start();
        running.until("more rows", || given() >= expected[0].len() as u64 * part / 6);
        if part == 1 {
            let jobs = place.path(".riverrun/state/jobs");
            fs::rename(jobs.join("attribution"), jobs.join("../gone")).unwrap();
        }
        if running.ends_within(dice.moment(Duration::from_millis(60))) {
            break;
        }
        match part {
            2 => {
                running.signal(Stop::Terminate);
                assert_eq!(running.finish().ended(), "stopped");
            }
            _ => running.kill(),
        }
        kills += 1;
    }
    assert!(kills >= 2, "it was ended {kills} times only");
    let finished = command.workers(3).succeed();
    assert_eq!(finished.ended(), "finished", "{finished}");
    assert!(consumed(&place, "hurt.") == expected, "other records after {kills} kills");
}

#[test]
fn files_are_repeated_beside_those_of_the_job_and_what_stands_in_the_way_is_said() {
    let shopping = Shop { seed: 504, rows: 1500, ..Shop::default() }.open();
    let place = Place::new();
    shopping.write(&place);
    let csv = jobs::attribution(Over::Files, Model::First).replace("path: out.jsonl", "path: out.csv");
    place.write("job.yaml", csv.replace("timestamps: epoch_ms }\n  bad", "format: csv }\n  bad"));
    let repeat = |name: &str| place.riverrun(&["replay", "job.yaml", "--recorded", "--as", name]).args(BUSY);
    fs::create_dir_all(place.path(".riverrun/state")).unwrap();
    repeat("again").fail(3, &["attribution", "never"]);
    place.run("job.yaml").args(BUSY).succeed();
    repeat("again").workers(3).succeed();
    for (file, live) in
        [("out@again.csv", "out.csv"), ("bad@again.jsonl", "bad.jsonl"), ("late@again.jsonl", "late.jsonl")]
    {
        assert!(place.read(file) == place.read(live), "{file} differs");
    }

    // A name is one replay's.
    let past = |name: &str| place.riverrun(&["replay", "job.yaml", "--from", "earliest", "--as", name]).args(BUSY);
    past("again").fail(5, &["attribution@again", "recorded ticks, 1 to", "--as"]);
    past("anew").succeed();
    repeat("anew").fail(5, &["attribution@anew", "past input", "--as"]);
    // What is there and not its own is not touched; begun afresh it replaces its own files.
    place.write("out@taken.csv", "mine\n");
    repeat("taken").fail(78, &["out@taken.csv", "--append"]);
    assert_eq!(place.read("out@taken.csv"), b"mine\n");
    repeat("again").args(&["--fresh", "--to-tick", "2"]).succeed();
    assert!(place.read("out.csv").starts_with(&place.read("out@again.csv")));
    assert!(place.read("out.csv").len() > place.read("out@again.csv").len(), "two ticks are not all");
    let other = repeat("again").succeed();
    assert!(other.stderr.contains("--recorded --to-tick 2"), "it goes on with what it began with: {other}");

    repeat("none").args(&["--from-tick", "1000000"]).fail(3, &["1000000"]);
    let window = ["--set", "steps.attributed.attribute.window=1m"];
    repeat("other").args(&window).fail(78, &["the job file, --set and all"]);
    repeat("again").args(&window).fail(78, &["the plan of job `attribution@again` changed"]);
    repeat("again").args(&["--out", "x"]).fail(2, &["--as and --out exclude each other"]);
    repeat("again").args(&["--from", "2h"]).fail(2, &["--recorded and --from exclude each other"]);
    place.riverrun(&["replay", "job.yaml", "--recorded"]).fail(2, &["--as NAME", "--out DIR"]);
    place
        .riverrun(&["replay", "job.yaml", "--recorded", "--out", "x", "--rate", "1k/s"])
        .fail(2, &["--rate", "--as NAME"]);

    let input = "in/clicks-0.jsonl";
    let whole = place.read(input);
    place.write(input, [&whole[..], b"\n{}"].concat());
    repeat("changed").fail(78, &["clicks-0.jsonl", "is not what the job read", "--from-tick"]);
}
