//! Savepoints stay whole whatever is collected, and go when they are deleted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::collect::Retention;
use crate::inspect;
use crate::job::Parts;
use crate::ledger::Ledger;
use crate::log::Writer;
use crate::states::{SharedLedger, States};
use crate::tests::faulty::Faulty;
use crate::tests::model::{Model, Rows, SHARDS, entry, inputs, parts, restore, start, store, tokens};

const ONE: Retention = Retention { checkpoints: 1, keep_for: Duration::ZERO, ..DEFAULT };
const DEFAULT: Retention =
    Retention { checkpoints: 3, keep_for: Duration::from_secs(3600), log: crate::collect::KeepLog::Needed };

fn running(dir: &Path, tick: Tick) -> Parts {
    let mut started = start(dir);
    started.retain(ONE);
    if started.inputs().is_none() {
        started.append_inputs(inputs()).unwrap();
    }
    started.recover(&tokens(tick)).unwrap().1
}

fn run(running: &mut Parts, model: &mut Model, ticks: std::ops::RangeInclusive<Tick>) {
    for tick in ticks {
        model.set((tick % 8) as u16, tick as i64 % 3, Some(Some(format!("v{tick}"))));
        running.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        let files = model.freeze(&*running.states, tick, 2);
        running.journal.append_checkpoint(parts(tick, files)).unwrap();
    }
}

pub(crate) fn rows_of(dir: &Path, savepoint: &Savepoint) -> Rows {
    let look = Look::at(store(dir), "j").unwrap();
    let writer = Writer { generation: 99, attempt: String::new(), build: String::new(), plan: String::new() };
    let ledger = SharedLedger::new(Ledger::of(&savepoint.checkpoint));
    restore(&States::new(look.folder, SHARDS, writer, ledger, None), 2)
}

pub(crate) fn files_of(dir: &Path, savepoint: &Savepoint) -> usize {
    let stored: BTreeSet<String> = store(dir).list("jobs/j/state").unwrap().into_iter().map(|file| file.path).collect();
    savepoint.checkpoint.files().filter(|file| stored.contains(&format!("jobs/j/{}", file.path))).count()
}

#[test]
fn a_savepoint_outlives_collection_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut model = Model::default();
    let mut job = running(dir, 0);
    run(&mut job, &mut model, 1..=6);
    let snapshot = model.rows.clone();
    let made = create(store(dir), "j", "before-sale", None).unwrap().unwrap();
    assert_eq!((made.name.as_str(), made.checkpoint.tick), ("before-sale", 6));
    run(&mut job, &mut model, 7..=120);
    drop(job);
    let mut job = running(dir, 120);
    run(&mut job, &mut model, 121..=124);
    assert_eq!(list(store(dir), "j").unwrap(), std::slice::from_ref(&made));
    assert_eq!(read(store(dir), "j", "before-sale").unwrap(), made);
    assert_eq!(rows_of(dir, &made), snapshot);
    let at = made.checkpoint.inputs.unwrap();
    Look::at(store(dir), "j").unwrap().reader.read_at(at).unwrap();
    let report = inspect::verify(store(dir), "j").unwrap();
    assert_eq!((report.savepoints, report.findings), (1, vec![]));
    assert!(inspect::list(store(dir), "j").unwrap().records.0 > made.header.seq, "its log record is collected");
}

#[test]
fn the_files_of_a_deleted_savepoint_go() {
    for restarted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut model = Model::default();
        let mut job = running(dir, 0);
        run(&mut job, &mut model, 1..=6);
        let made = create(store(dir), "j", "a", None).unwrap().unwrap();
        run(&mut job, &mut model, 7..=100);
        assert_eq!(files_of(dir, &made), made.checkpoint.files().count());
        if restarted {
            drop(job);
            job = running(dir, 100);
            run(&mut job, &mut model, 101..=104);
        }
        delete(store(dir), "j", "a").unwrap();
        run(&mut job, &mut model, if restarted { 105..=200 } else { 101..=200 });
        assert_eq!(files_of(dir, &made), 0, "restarted: {restarted}");
    }
}

#[test]
fn a_name_stands_for_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut model = Model::default();
    let mut job = running(dir, 0);
    assert_eq!(create(store(dir), "j", "a", None).unwrap(), None, "there is no checkpoint yet");
    run(&mut job, &mut model, 1..=1);
    let made = create(store(dir), "j", "a", None).unwrap();
    assert_eq!(create(store(dir), "j", "a", None).unwrap(), made);
    run(&mut job, &mut model, 2..=2);
    let error = create(store(dir), "j", "a", None).unwrap_err();
    assert!(matches!(&error, StateError::SavepointExists { tick: 1, .. }), "{error}");
    let other = create(store(dir), "j", "B_2.x", Some(2)).unwrap().unwrap();
    assert_eq!(other.checkpoint.tick, 2);
    assert_eq!(create(store(dir), "j", "c", Some(7)).unwrap(), None);
    for name in ["", ".a", "a/b", "..", "ä", &"a".repeat(101)] {
        let error = create(store(dir), "j", name, None).unwrap_err();
        assert!(matches!(&error, StateError::SavepointName { .. }), "{error}");
    }
    assert!(matches!(read(store(dir), "j", "z").unwrap_err(), StateError::NoSavepoint { .. }));
    assert!(matches!(delete(store(dir), "j", "z").unwrap_err(), StateError::NoSavepoint { .. }));
    assert!(matches!(create(store(dir), "k", "a", None).unwrap_err(), StateError::OtherJob { .. }));
}

#[test]
fn a_checkpoint_with_a_broken_file_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut model = Model::default();
    let mut job = running(dir, 0);
    run(&mut job, &mut model, 1..=2);
    let file = store(dir).list("jobs/j/state").unwrap().pop().unwrap();
    store(dir).put(&file.path, b"broken".to_vec()).unwrap();
    let error = create(store(dir), "j", "a", None).unwrap_err();
    assert!(error.to_string().contains(&file.path), "{error}");
    assert_eq!(list(store(dir), "j").unwrap(), []);
}

#[test]
fn while_a_savepoint_is_damaged_nothing_is_collected() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut model = Model::default();
    let mut job = running(dir, 0);
    run(&mut job, &mut model, 1..=4);
    let made = create(store(dir), "j", "a", None).unwrap().unwrap();
    let whole = store(dir).get("jobs/j/savepoints/a.json").unwrap().unwrap();
    store(dir).put("jobs/j/savepoints/a.json", whole[..whole.len() / 2].to_vec()).unwrap();
    run(&mut job, &mut model, 5..=100);
    assert_eq!(files_of(dir, &made), made.checkpoint.files().count());
    let findings = inspect::verify(store(dir), "j").unwrap().findings;
    assert!(findings.iter().any(|finding| finding.object.ends_with("savepoints/a.json")), "{findings:?}");
    assert!(read(store(dir), "j", "a").is_err());
    // Repaired, it is as before, and collection goes on.
    store(dir).put("jobs/j/savepoints/a.json", whole.to_vec()).unwrap();
    run(&mut job, &mut model, 101..=102);
    assert_eq!(files_of(dir, &made), made.checkpoint.files().count());
    assert!(store(dir).list("jobs/j/log").unwrap().len() < 140);
    assert_eq!(inspect::verify(store(dir), "j").unwrap().findings, vec![]);
}

#[test]
fn a_checkpoint_that_is_collected_while_it_is_named_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut model = Model::default();
    let mut job = running(dir, 0);
    run(&mut job, &mut model, 1..=2);
    let seq = inspect::list(store(dir), "j").unwrap().checkpoints[0].seq;
    let reader = Look::at(store(dir), "j").unwrap().reader;
    let faulty = Faulty::over(store(dir).objects());
    // The collector marked it just before the savepoint was there, so it did not see one.
    faulty.echo("savepoints/", &reader.oldest_path(seq + 1));
    let error = create(Store::over(Arc::new(faulty), None), "j", "a", None).unwrap_err();
    assert!(matches!(&error, StateError::Storage { reason, .. } if reason.contains("collected faster")), "{error}");
    assert_eq!(list(store(dir), "j").unwrap(), [], "what is not whole has no name");
}

#[test]
fn savepoints_that_are_made_during_collection_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Arc::new(dir.path().to_path_buf());
    let mut model = Model::default();
    let mut job = running(&dir, 0);
    run(&mut job, &mut model, 1..=1);
    let (over, round) = (AtomicBool::new(false), AtomicUsize::new(0));
    let made = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..2)
            .map(|maker| {
                let (dir, over, round) = (dir.clone(), &over, &round);
                scope.spawn(move || {
                    let mut made = 0;
                    while !over.load(Ordering::Relaxed) {
                        // A few in each round, so that every collection meets some.
                        if made > 2 * round.load(Ordering::Relaxed) {
                            std::thread::yield_now();
                            continue;
                        }
                        made += match create(store(&dir), "j", &format!("{maker}-{made}"), None) {
                            Ok(found) => usize::from(found.is_some()),
                            Err(StateError::Storage { .. }) => 0,
                            Err(error) => panic!("{error}"),
                        };
                    }
                    made
                })
            })
            .collect();
        // Every restart collects at once, so that the floor rises often.
        for restart in 0..8 {
            round.store(restart as usize, Ordering::Relaxed);
            run(&mut job, &mut model, restart * 6 + 2..=restart * 6 + 7);
            drop(job);
            job = running(&dir, restart * 6 + 7);
        }
        over.store(true, Ordering::Relaxed);
        makers.into_iter().map(|maker| maker.join().unwrap()).sum::<usize>()
    });
    let report = inspect::verify(store(&dir), "j").unwrap();
    assert_eq!((report.savepoints as usize, report.findings), (made, vec![]));
}
