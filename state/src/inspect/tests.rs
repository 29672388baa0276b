//! What is seen from outside, whole and broken.

use std::path::Path;

use super::*;
use crate::tests::model::{inputs, run, start, store, tokens};

fn findings(dir: &Path) -> Vec<String> {
    verify(store(dir), "j").unwrap().findings.iter().map(StateFinding::to_string).collect()
}

#[test]
fn the_list_says_what_is_there_while_the_job_runs() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    let running = start(dir.path());
    let overview = list(store(dir.path()), "j").unwrap();
    assert_eq!((overview.running, overview.generation, overview.last_tick), (Some(true), 2, 9));
    assert_eq!(overview.checkpoints.iter().map(|it| (it.tick, it.seq)).collect::<Vec<_>>(), [(6, 10), (3, 6)]);
    let newest = &overview.checkpoints[0];
    assert_eq!(newest.token, Some(6));
    assert_eq!(newest.steps["s"].files, newest.files);
    assert!(newest.bytes_new > 0 && newest.bytes_new <= newest.bytes);
    drop(running);
    assert_eq!(list(store(dir.path()), "j").unwrap().running, Some(false));
    assert!(serde_json::to_string(&overview).unwrap().contains("\"last_tick\":9"));
}

#[test]
fn a_checkpoint_shows_its_names() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    let detail = show(store(dir.path()), "j", None).unwrap().unwrap();
    assert_eq!(detail.summary.tick, 6);
    assert_eq!(detail.sources[0].source, inputs().sources[0]);
    assert_eq!(detail.lanes.iter().map(|lane| (lane.sink.as_str(), lane.tick)).collect::<Vec<_>>(), [("out", 6); 2]);
    assert_eq!(detail.tables[0].columns, ["shard: UInt16", "op: Int8", "key: Int64", "value: Utf8"]);
    assert_eq!(show(store(dir.path()), "j", Some(3)).unwrap().unwrap().summary.tick, 3);
    assert!(show(store(dir.path()), "j", Some(4)).unwrap().is_none());
    assert!(matches!(show(store(dir.path()), "k", None).unwrap_err(), StateError::OtherJob { .. }));
    assert!(!dir.path().join("jobs/k").exists(), "looking leaves no trace");
}

#[test]
fn what_is_whole_has_no_findings() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    drop(start(dir.path()).recover(&tokens(9)).unwrap());
    let report = verify(store(dir.path()), "j").unwrap();
    assert_eq!(report.findings, vec![]);
    assert_eq!((report.records, report.ticks, report.checkpoints), (14, 9, 2));
    assert!(report.files >= 2 && report.rows > 0 && report.bytes > 0);
}

#[test]
fn every_broken_file_is_a_finding_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    let objects = store(dir.path());
    let records = objects.list("jobs/j/log").unwrap();
    let live: Vec<_> = show(store(dir.path()), "j", None).unwrap().unwrap().tables[0].files.clone();
    let mut paths: Vec<String> = records.into_iter().map(|record| record.path).collect();
    paths.extend(live.into_iter().map(|file| format!("jobs/j/{}", file.path)));
    for path in paths {
        let whole = objects.get(&path).unwrap().unwrap().to_vec();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for broken in [&changed[..], &whole[..whole.len() - 1]] {
            objects.put(&path, broken.to_vec()).unwrap();
            let found = findings(dir.path());
            assert!(found.iter().any(|finding| finding.contains(&path)), "{path}: {found:?}");
        }
        objects.put(&path, whole).unwrap();
    }
    assert_eq!(findings(dir.path()), Vec::<String>::new());
}

#[test]
fn a_record_of_another_log_is_a_finding() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(dir.path(), 4, &[2]);
    run(other.path(), 4, &[2]);
    let record = "jobs/j/log/00000000000000000003.json";
    store(dir.path()).put(record, store(other.path()).get(record).unwrap().unwrap().to_vec()).unwrap();
    let found = findings(dir.path());
    assert!(found.iter().any(|finding| finding.contains("forked or edited")), "{found:?}");
}

/// Changes one bit of an object.
fn flip(dir: &Path, path: &str) {
    let mut bytes = store(dir).get(path).unwrap().unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store(dir).put(path, bytes).unwrap();
}

#[test]
fn the_newest_usable_checkpoint_is_the_one_from_which_a_start_goes_on() {
    let newest = |dir: &Path| verify(store(dir), "j").unwrap().newest_usable;
    let begun = |dir: &Path| {
        let started = crate::tests::model::open(dir).start().ok()?;
        started.recover(&tokens(9)).ok()?.0.checkpoint.map(|it| it.parts.tick)
    };
    let made = || {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), 9, &[3, 6, 8]);
        dir
    };
    let dir = made();
    assert_eq!((newest(dir.path()), begun(dir.path())), (Some(8), Some(8)));
    // A file of the checkpoint at 6 is one of that at 8 too.
    let dir = made();
    let files = store(dir.path()).list("jobs/j/state").unwrap();
    let file = files.into_iter().find(|file| file.path.contains("c000000000006")).unwrap().path;
    flip(dir.path(), &file);
    let report = verify(store(dir.path()), "j").unwrap();
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert!(finding.object.starts_with("state file ") && finding.object.ends_with(&file), "{finding:?}");
    assert_eq!(finding.reason, "its content does not match its checksum");
    assert_eq!((&finding.checkpoints[..], report.newest_usable), (&[6, 8][..], Some(3)));
    assert_eq!(begun(dir.path()), Some(3));
    // What is wrong with the log before a checkpoint does not touch it; what is wrong behind it does.
    let records = |dir: &Path| store(dir).list("jobs/j/log").unwrap().into_iter().map(|it| it.path).collect::<Vec<_>>();
    let dir = made();
    flip(dir.path(), &records(dir.path())[2]);
    assert_eq!((newest(dir.path()), begun(dir.path())), (Some(8), Some(8)));
    let dir = made();
    flip(dir.path(), records(dir.path()).last().unwrap());
    let report = verify(store(dir.path()), "j").unwrap();
    assert_eq!((&report.findings[0].checkpoints[..], report.newest_usable), (&[3, 6, 8][..], None));
    assert_eq!(begun(dir.path()), None);
}

#[test]
fn what_can_be_read_is_listed_and_the_rest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    assert_eq!(list(store(dir.path()), "j").unwrap().findings, vec![]);
    flip(dir.path(), "jobs/j/log/00000000000000000003.json");
    store(dir.path()).delete("jobs/j/log/00000000000000000006.json").unwrap();
    let overview = list(store(dir.path()), "j").unwrap();
    assert_eq!(overview.checkpoints.iter().map(|it| it.tick).collect::<Vec<_>>(), [6]);
    let objects: Vec<&str> = overview.findings.iter().map(|it| it.object.as_str()).collect();
    assert!(objects[0].ends_with("06.json") && objects[1].ends_with("03.json") && objects.len() == 2, "{objects:?}");
    assert_eq!(overview.findings[0].reason, "it is missing");
}

#[test]
fn a_job_without_its_description_did_run() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[2]);
    store(dir.path()).delete("jobs/j/job.json").unwrap();
    let error = list(store(dir.path()), "j").unwrap_err();
    assert!(matches!(&error, StateError::Damaged { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("but no job.json\n  hint: restore job.json from a backup"), "{said}");
}
