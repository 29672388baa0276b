//! What lies on the disk is damaged, gone, somebody else's, or has no room: the run ends with what, where and what to do, or gets
//! by without it; what it writes is never wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::oracle::Model;
use crate::support::jobs::{self, BUSY, Over};
use crate::support::process::Invocation;
use crate::support::{Finished, Place, Shop, topics};

const SLOW: &[&str] = &["--set", "tick.max_rows=4", "--set", "commit.every=10ms", "--set", "checkpoint.every=10ms"];

fn filled(seed: u64) -> Place {
    let place = Place::new();
    Shop { seed, rows: 1200, ..Shop::default() }.open().write(&place);
    place.write("job.yaml", jobs::attribution(Over::Files, Model::Last));
    place
}

fn run(place: &Place) -> Invocation {
    place.run("job.yaml").args(SLOW)
}

/// A job that was killed when it had written some checkpoints, and what it must have written in the end.
fn killed(seed: u64) -> (Place, Vec<u8>) {
    let calm = filled(seed);
    run(&calm).succeed();
    // A slow disk may leave all of it to the end.
    for _ in 0..10 {
        let place = filled(seed);
        let mut running = run(&place).start();
        if running.is_caught("two checkpoints and a row", || checkpoints(&place).len() >= 2 && committed(&place) > 0) {
            running.kill();
            return (place, calm.read("out.jsonl"));
        }
    }
    panic!("ten jobs came to their end before they could be killed");
}

/// How many bytes of the output are committed, as its sidecar says.
fn committed(place: &Place) -> usize {
    let sidecar = fs::read(place.path("out.jsonl.riverrun.json")).ok();
    let sidecar: Option<Value> = sidecar.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    sidecar.and_then(|sidecar| sidecar["length"].as_u64()).unwrap_or(0) as usize
}

fn state(place: &Place) -> PathBuf {
    place.path(".riverrun/state/jobs/attribution")
}

/// The folders of checkpoints, oldest first.
fn checkpoints(place: &Place) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        paths.sort();
        paths
    };
    folders(&state(place).join("state")).iter().flat_map(|generation| folders(generation)).collect()
}

fn state_files(place: &Place) -> Vec<PathBuf> {
    let files = place.files_below(".riverrun/state/jobs/attribution/state");
    files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

fn log_records(place: &Place) -> Vec<PathBuf> {
    // Beside the records lie those that a killed process had not finished.
    let mut records = place.files_below(".riverrun/state/jobs/attribution/log");
    records.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    records
}

/// Changes one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x04;
    fs::write(path, bytes).unwrap();
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Either it got by and wrote what it must, or it stopped and said what is damaged.
fn right_or_refused(finished: &Finished, place: &Place, bytes: &[u8], says: &[&str]) {
    match finished.code {
        Some(0) => assert!(place.read("out.jsonl") == bytes, "it wrote something else: {finished}"),
        Some(74) => {
            assert!(bytes.starts_with(&place.read("out.jsonl")), "it wrote something else: {finished}");
            says.iter().for_each(|part| assert!(finished.stderr.contains(part), "`{part}` is not said: {finished}"));
        }
        _ => panic!("neither: {finished}"),
    }
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over_loudly() {
    let (place, bytes) = killed(100);
    let newest = checkpoints(&place).pop().unwrap();
    for file in state_files(&place).iter().filter(|file| file.starts_with(&newest)) {
        flip(file);
    }
    let finished = run(&place).finish();
    right_or_refused(&finished, &place, &bytes, &["checkpoint"]);
    assert_eq!(finished.code, Some(0), "an older one is there: {finished}");
    // A checkpoint that was not published when the job was killed is none.
    let passed = finished.stderr.contains("cannot be used");
    assert_eq!(finished.stderr.contains("; going on from the one at tick"), passed, "{finished}");
}

#[test]
fn without_any_whole_checkpoint_a_job_stops_or_goes_back_to_its_first_tick() {
    let (place, bytes) = killed(101);
    state_files(&place).iter().for_each(|file| flip(file));
    right_or_refused(&run(&place).finish(), &place, &bytes, &["checkpoint", "--fresh"]);
    run(&place).arg("--fresh").succeed();
    assert!(place.read("out.jsonl") == bytes, "the way out works");
}

#[test]
fn a_missing_state_file_is_passed_over_or_named() {
    let (place, bytes) = killed(102);
    state_files(&place).iter().for_each(|file| fs::remove_file(file).unwrap());
    right_or_refused(&run(&place).finish(), &place, &bytes, &["checkpoint", "--fresh"]);
}

#[test]
fn a_damaged_log_record_stops_the_job_and_is_named() {
    let (place, bytes) = killed(103);
    let newest = log_records(&place).pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    flip(&newest);
    run(&place).fail(74, &["damaged", &name_of(&newest), "--fresh"]);
    assert!(bytes.starts_with(&place.read("out.jsonl")), "nothing wrong was written");
    fs::write(&newest, whole).unwrap();
    run(&place).succeed();
    assert!(place.read("out.jsonl") == bytes, "nothing was lost by the attempt");
}

/// What lies before the newest checkpoint is not needed to go on; what is needed is.
#[test]
fn a_damaged_older_log_record_is_named_whether_it_is_needed_or_not() {
    let (place, bytes) = killed(115);
    let records = log_records(&place);
    assert!(records.len() > 3);
    for record in [&records[0], &records[records.len() / 2]] {
        let whole = fs::read(record).unwrap();
        flip(record);
        let finished = run(&place).finish();
        right_or_refused(&finished, &place, &bytes, &[&name_of(record)]);
        fs::write(record, whole).unwrap();
    }
}

#[test]
fn a_missing_log_record_stops_the_job() {
    // A kill right after a checkpoint leaves no record that a restart needs.
    let killed = (104..124).map(killed).find_map(|(place, bytes)| Some((needed_record(&place)?, place, bytes)));
    let (record, place, bytes) = killed.expect("not every kill comes right after a checkpoint");
    fs::remove_file(record).unwrap();
    run(&place).fail(74, &["attribution", "--fresh"]);
    assert!(bytes.starts_with(&place.read("out.jsonl")));
}

/// Returns a record of ticks that were not saved yet, behind which there is another record.
fn needed_record(place: &Place) -> Option<PathBuf> {
    let records: Vec<(PathBuf, Value)> = log_records(place)
        .into_iter()
        .map(|path| {
            let record = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path, record)
        })
        .collect();
    let saved = records.iter().rfind(|(_, record)| record["type"] == "checkpoint")?.1["after"].as_u64()?;
    let last = records.last()?.1["seq"].as_u64()?;
    let is_needed = |record: &Value| {
        record["type"] == "ticks" && record["seq"].as_u64().is_some_and(|seq| saved < seq && seq < last)
    };
    records.into_iter().find(|(_, record)| is_needed(record)).map(|(path, _)| path)
}

#[test]
fn a_damaged_job_description_stops_the_job_and_is_named() {
    let (place, _) = killed(105);
    flip(&state(&place).join("job.json"));
    run(&place).fail(74, &["job.json"]);
}

#[test]
fn a_state_folder_of_another_job_is_refused() {
    let (place, _) = killed(106);
    fs::rename(state(&place), place.path(".riverrun/state/jobs/copy")).unwrap();
    place
        .write("copy.yaml", jobs::copy().replace("out.jsonl", "copied.jsonl").replace("bad.jsonl", "copied-bad.jsonl"));
    place.run("copy.yaml").fail(78, &["copy", "attribution"]);
    assert!(!place.path("copied.jsonl").exists(), "nothing was begun");
}

#[test]
fn a_damaged_topic_segment_stops_the_job_and_is_named() {
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    let shopping = Shop { seed: 107, ..Shop::default() }.open();
    let mut producer = topics::producer(&place.path("topics"), "clicks", 1);
    topics::append(&mut producer, shopping.clicks.iter().map(Vec::as_slice));
    drop(producer);
    let segments = place.files_below("topics/clicks/0");
    let segment = segments.iter().find(|path| path.extension().is_some_and(|extension| extension == "log")).unwrap();
    flip(segment);
    let run = place.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(BUSY);
    run.fail(74, &["clicks", &name_of(segment)]);
}

#[test]
fn a_topic_that_is_not_there_is_said_to_be_missing() {
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    let finished = place.run("job.yaml").args(&["--topics", "topics", "--until-end"]).finish();
    assert!(matches!(finished.code, Some(74 | 78)), "{finished}");
    assert!(finished.stderr.contains("clicks") && finished.stderr.contains("topic"), "{finished}");
}

#[test]
fn an_output_that_lost_committed_rows_stops_the_job_and_is_named() {
    let (place, bytes) = killed(108);
    let written = place.read("out.jsonl");
    // What lies behind the committed length was on its way when the job was killed, and may be lost.
    let committed = committed(&place);
    assert!(committed > 0 && committed <= written.len(), "something was committed");
    place.write("out.jsonl", &written[..committed / 2]);
    run(&place).fail(74, &["out.jsonl", "--fresh"]);
    let mut other = written.clone();
    let last = committed - 1;
    other[last] ^= 1;
    place.write("out.jsonl", &other);
    run(&place).fail(74, &["out.jsonl", "--fresh"]);
    place.write("out.jsonl", &written);
    run(&place).succeed();
    assert!(place.read("out.jsonl") == bytes, "restored, it goes on");
}

#[test]
fn a_damaged_sidecar_stops_the_job_and_is_named() {
    let (place, _) = killed(109);
    flip(&place.path("out.jsonl.riverrun.json"));
    run(&place).fail(74, &["out.jsonl.riverrun.json"]);
}

#[test]
fn a_state_folder_that_is_a_file_is_refused() {
    let place = filled(110);
    place.write("state", "not a folder");
    run(&place).args(&["--state", "state"]).fail(74, &["state"]);
    assert_eq!(place.read("state"), b"not a folder");
}

/// Whether a file system of one's own can be mounted here, in a mount namespace that goes with the process.
fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    let can = tried.is_ok_and(|tried| tried.status.success());
    if !can {
        eprintln!("SKIPPED: no file system can be mounted here (unshare -rm)");
    }
    can
}

const MOUNTS: &[&str] = &["unshare", "-rm", "sh"];

#[test]
fn a_read_only_state_folder_is_refused_with_a_way_out() {
    if !can_mount() {
        return;
    }
    let place = filled(111);
    fs::create_dir(place.path("state")).unwrap();
    let script = r#"mount -t tmpfs -o ro none state && exec "$@""#;
    run(&place).args(&["--state", "state"]).within(MOUNTS, script).fail(74, &["state", "--state"]);
    assert!(!place.path("out.jsonl").exists() || place.read("out.jsonl").is_empty());
}

#[test]
fn a_disk_full_of_state_stops_the_job_which_goes_on_when_there_is_room() {
    if !can_mount() {
        return;
    }
    let calm = filled(112);
    run(&calm).succeed();
    let place = filled(112);
    fs::create_dir(place.path("state")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=256k none state
        "$@"; code=$?
        mount -o remount,size=64m state
        echo "the first run ended with $code" >&2
        exec "$@""#;
    let finished = run(&place).args(&["--state", "state", "-w", "1"]).within(MOUNTS, script).finish();
    assert!(finished.stderr.contains("the first run ended with 74"), "{finished}");
    assert!(finished.stderr.contains("disk is full"), "{finished}");
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(place.read("out.jsonl") == calm.read("out.jsonl"));
}

#[test]
fn a_disk_full_of_output_stops_the_job_which_goes_on_when_there_is_room() {
    if !can_mount() {
        return;
    }
    let calm = filled(113);
    run(&calm).succeed();
    let place = filled(113);
    fs::create_dir(place.path("full")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=64k none full
        "$@"; code=$?
        mount -o remount,size=64m full
        echo "the first run ended with $code" >&2
        "$@"; code=$?
        cp full/out.jsonl out.jsonl
        exit $code"#;
    let run = run(&place).set("sinks.out.file.path=full/out.jsonl");
    let finished = run.within(MOUNTS, script).finish();
    assert!(finished.stderr.contains("the first run ended with 74"), "{finished}");
    assert!(finished.stderr.contains("full/out.jsonl"), "{finished}");
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(place.read("out.jsonl") == calm.read("out.jsonl"));
}

/// Where nothing can be mounted, a limit on the size of files does for a full disk.
#[test]
fn an_output_that_may_not_grow_stops_the_job_which_goes_on_when_it_may() {
    let (_, bytes) = {
        let calm = filled(114);
        run(&calm).succeed();
        let bytes = calm.read("out.jsonl");
        (calm, bytes)
    };
    let place = filled(114);
    // Ignored, the signal becomes an error of the write. Units are blocks of 512 or 1024 bytes.
    let script = r#"trap "" XFSZ; ulimit -f 24; exec "$@""#;
    let limited = run(&place).within(&["sh"], script).finish();
    assert_eq!(limited.code, Some(74), "{limited}");
    assert!(limited.stderr.contains(".jsonl") || limited.stderr.contains("state"), "{limited}");
    assert!(bytes.starts_with(&place.read("out.jsonl")[..committed(&place)]));
    run(&place).succeed();
    assert!(place.read("out.jsonl") == bytes);
}
