//! Whatever becomes of a job's incarnation, its savepoints stay what they were.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::collect::{KeepLog, Retention};
use crate::folder::{Begin, JobSpec};
use crate::inspect;
use crate::job::{JobState, Parts};
use crate::savepoint::tests::{files_of, rows_of};
use crate::savepoint::{create, delete, list, read};
use crate::seed::Seeding;
use crate::store::Store;
use crate::tests::faulty::{Fault, Faulty};
use crate::tests::model::{Model, Rows, entry, inputs, open, parts, run, spec, store, tokens};

const ONE: Retention = Retention { checkpoints: 1, keep_for: Duration::ZERO, log: KeepLog::Needed };

fn anew() -> JobSpec {
    JobSpec { begin: Begin::Fresh, ..spec() }
}

/// Begins the job anew and runs it through `ticks`, with a checkpoint after each: files of the names that the incarnation before gave
/// its own.
fn begun_anew(dir: &Path, ticks: std::ops::RangeInclusive<u64>) -> Parts {
    let mut started = JobState::open(store(dir), anew()).unwrap().start().unwrap();
    started.retain(ONE);
    started.append_inputs(inputs()).unwrap();
    let (_, mut running) = started.recover(&tokens(0)).unwrap();
    let mut model = Model::default();
    for tick in ticks {
        model.set((tick % 8) as u16, 100 + tick as i64 % 3, Some(Some(format!("other {tick}"))));
        running.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        let files = model.freeze(&*running.states, tick, 2);
        running.journal.append_checkpoint(parts(tick, files)).unwrap();
    }
    running
}

/// Savepoint `name` is the state after `tick`, whole, and a job can begin from it that has the shards it had then.
#[track_caller]
fn stands(dir: &Path, name: &str, tick: u64, rows: &Rows) {
    let savepoint = read(store(dir), "j", name).unwrap();
    assert_eq!(savepoint.checkpoint.tick, tick);
    assert_eq!(rows_of(dir, &savepoint), *rows);
    let seeding = Seeding::open(store(dir), anew(), name).unwrap().expect("it is there");
    let standing = seeding.standing();
    assert_eq!((standing.file.shards, standing.plan.as_str()), (spec().shards, "plan-1"));
    assert_eq!((&standing.inputs, &standing.lanes), (&Some(inputs()), &spec().lanes));
    assert_eq!(inspect::verify(store(dir), "j").unwrap().findings, vec![]);
}

#[test]
fn savepoints_go_over_to_every_later_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let snapshots = run(dir, 9, &[3, 6, 9]);
    create(store(dir), "j", "early", Some(3)).unwrap().unwrap();
    create(store(dir), "j", "late", Some(9)).unwrap().unwrap();
    // Twice: what went over once goes over again.
    for _ in 0..2 {
        drop(begun_anew(dir, 1..=100));
        stands(dir, "early", 3, &snapshots[&3]);
        stands(dir, "late", 9, &snapshots[&9]);
    }
    // The incarnation may have other shards; theirs are those that they had.
    drop(JobState::open(store(dir), JobSpec { shards: 2, ..anew() }).unwrap());
    stands(dir, "late", 9, &snapshots[&9]);
    // Deleted, they go like any other, and a name is free again.
    let early = read(store(dir), "j", "early").unwrap();
    delete(store(dir), "j", "early").unwrap();
    let mut running = begun_anew(dir, 1..=40);
    assert_eq!(files_of(dir, &early), 0, "its files were given up with the incarnation that came after it");
    let late = read(store(dir), "j", "late").unwrap();
    assert_eq!(files_of(dir, &late), late.checkpoint.files().count());
    delete(store(dir), "j", "late").unwrap();
    for tick in 41..=140 {
        running.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        running.journal.append_checkpoint(parts(tick, Vec::new())).unwrap();
    }
    assert_eq!((files_of(dir, &late), list(store(dir), "j").unwrap().len()), (0, 0));
}

#[test]
fn a_savepoint_that_cannot_be_read_is_not_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let snapshots = run(dir, 6, &[3, 6]);
    create(store(dir), "j", "a", Some(6)).unwrap().unwrap();
    let refused = |path: &str| {
        let whole = store(dir).get(path).unwrap().unwrap();
        store(dir).put(path, whole[..whole.len() / 2].to_vec()).unwrap();
        let error = JobState::open(store(dir), anew()).unwrap_err().to_string();
        assert!(
            error.contains(path) && error.contains("checkpoints unpin j a") && !error.contains("--fresh"),
            "{error}"
        );
        store(dir).put(path, whole.to_vec()).unwrap();
        // Nothing was begun: it is all there.
        assert!(store(dir).get("jobs/j/fresh.json").unwrap().is_none());
        stands(dir, "a", 6, &snapshots[&6]);
        drop(open(dir));
    };
    let inputs = read(store(dir), "j", "a").unwrap().checkpoint.inputs.unwrap();
    refused("jobs/j/savepoints/a.json");
    refused(&format!("jobs/j/log/{:020}.json", inputs.seq));
    refused("jobs/j/job.json");
    // Given up, it stands in nobody's way.
    store(dir).put("jobs/j/savepoints/a.json", b"nothing".to_vec()).unwrap();
    delete(store(dir), "j", "a").unwrap();
    drop(JobState::open(store(dir), anew()).unwrap());
}

#[test]
fn a_savepoint_whose_inputs_are_gone_is_found_by_verification() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    drop(begun_anew(dir, 1..=3));
    let made = create(store(dir), "j", "a", None).unwrap().unwrap();
    let path = format!("jobs/j/log/{:020}.json", made.checkpoint.inputs.unwrap().seq);
    let whole = store(dir).get(&path).unwrap().unwrap();
    store(dir).delete(&path).unwrap();
    let findings = inspect::verify(store(dir), "j").unwrap().findings;
    assert!(findings.iter().any(|it| it.object == "savepoint `a`" && it.reason.contains(&path)), "{findings:?}");
    // Another record in its place is none that it was made with.
    let other = store(dir).get(&format!("jobs/j/log/{:020}.json", made.header.seq)).unwrap().unwrap();
    store(dir).put(&path, other.to_vec()).unwrap();
    let findings = inspect::verify(store(dir), "j").unwrap().findings;
    assert!(findings.iter().any(|it| it.object == "savepoint `a`"), "{findings:?}");
    store(dir).put(&path, whole.to_vec()).unwrap();
    assert_eq!(inspect::verify(store(dir), "j").unwrap().findings, vec![]);
}

#[test]
fn a_crash_at_any_write_of_a_fresh_start_loses_no_savepoint() {
    let mut seen = std::collections::BTreeMap::new();
    for kind in [Fault::Before as fn(ErrorKind) -> Fault, Fault::After] {
        for crash in 0..24 {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            let snapshots = run(dir, 9, &[3, 6, 9]);
            create(store(dir), "j", "early", Some(3)).unwrap().unwrap();
            create(store(dir), "j", "late", Some(9)).unwrap().unwrap();
            let old = open(dir).file().incarnation.clone();
            let faulty = Arc::new(Faulty::over(store(dir).objects()));
            faulty.next((0..crash).map(|_| Fault::None).chain([kind(ErrorKind::Other)]));
            drop(JobState::open(Store::over(faulty, Some(dir.into())), anew()));
            // Whoever comes next asks for nothing.
            let now = open(dir).file().incarnation.clone();
            *seen.entry(if now == old { "old" } else { "new" }).or_insert(0) += 1;
            stands(dir, "early", 3, &snapshots[&3]);
            stands(dir, "late", 9, &snapshots[&9]);
            drop(begun_anew(dir, 1..=10));
            stands(dir, "early", 3, &snapshots[&3]);
            stands(dir, "late", 9, &snapshots[&9]);
        }
    }
    assert!(seen["old"] > 3 && seen["new"] > 3, "{seen:?}");
}
