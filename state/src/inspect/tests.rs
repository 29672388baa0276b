//! What is seen from outside, whole and broken.

use std::path::Path;

use super::*;
use crate::tests::model::{inputs, run, start, store, tokens};

fn findings(dir: &Path) -> Vec<String> {
    verify(store(dir), "j").unwrap().findings
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
    assert_eq!(report.findings, Vec::<String>::new());
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
