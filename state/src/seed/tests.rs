//! A new incarnation from a savepoint: the old one until it is whole, the new one from then on, wherever a crash falls.

use std::io::ErrorKind;
use std::path::Path;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::tick::Timeline;

use super::*;
use crate::error::StateError;
use crate::job::JobState;
use crate::tests::faulty::{Fault, Faulty};
use crate::tests::model::{TABLE, entry, inputs, parts, restore, run, spec, start, store, table_spec, tokens};
use crate::upgrade::Move;

/// Copies the record of the checkpoint at `tick`, as a savepoint does.
fn name(dir: &Path, tick: u64, name: &str) {
    let log = store(dir).list("jobs/j/log").unwrap();
    let text = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap();
    let wanted = |path: &&str| text(path).contains(&format!("\"type\":\"checkpoint\",\"tick\":{tick},"));
    let path = log.iter().map(|listed| listed.path.as_str()).find(wanted).unwrap();
    store(dir).put(&format!("jobs/j/savepoints/{name}.json"), text(path).into_bytes()).unwrap();
}

fn fresh() -> JobSpec {
    JobSpec { begin: Begin::Fresh, plan: "plan-2".into(), ..spec() }
}

fn go_on() -> JobSpec {
    JobSpec { plan: "plan-2".into(), ..spec() }
}

fn next(tick: u64) -> Next {
    Next {
        plan: "plan-2".into(),
        lanes: spec().lanes,
        inputs: inputs(),
        floors: Default::default(),
        parts: Default::default(),
        before: Timeline { tick, ..Timeline::start(1, 0) },
        tokens: Vec::new(),
        balance: [("x".to_string(), Counts::default())].into(),
        tables: vec![Move { from: ("s".into(), TABLE.into()), step: "s".into(), table: table_spec(), columns: None }],
    }
}

fn plant(store: Store) -> Result<(), StateError> {
    Seeding::open(store, fresh(), "before")?.expect("it was named").plant(next(6))
}

#[test]
fn a_new_incarnation_begins_with_the_state_of_a_savepoint() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6, 9]);
    name(dir.path(), 6, "before");
    let old = JobState::open(store(dir.path()), spec()).unwrap().file().incarnation.clone();
    plant(store(dir.path())).unwrap();
    for generation in [2, 3] {
        let started = JobState::open(store(dir.path()), go_on()).unwrap().start().unwrap();
        assert_ne!(started.incarnation(), old);
        // Nothing of it was handed to a sink: outputs are replaced, as with any fresh start.
        assert_eq!((started.generation(), started.is_new(), started.file().fresh), (generation, true, true));
        let (recovery, parts_of) = started.recover(&tokens(0)).unwrap();
        assert_eq!((recovery.checkpoint.unwrap().parts.tick, recovery.entries.len()), (6, 0));
        assert_eq!(restore(&*parts_of.states, 3), snapshots[&6]);
    }
    // It goes on, and what the old incarnation left is gone but for the savepoint, which can be used again.
    let started = JobState::open(store(dir.path()), go_on()).unwrap().start().unwrap();
    let (_, mut parts_of) = started.recover(&tokens(0)).unwrap();
    for tick in 7..9 {
        parts_of.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        parts_of.journal.append_checkpoint(parts(tick, vec![])).unwrap();
    }
    drop(parts_of);
    assert!(!JobState::open(store(dir.path()), go_on()).unwrap().start().unwrap().is_new());
    assert!(store(dir.path()).list("jobs/j/state/g000001").unwrap().is_empty());
    let report = crate::inspect::verify(store(dir.path()), "j").unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    plant(store(dir.path())).unwrap();
    let (_, parts_of) =
        JobState::open(store(dir.path()), go_on()).unwrap().start().unwrap().recover(&tokens(0)).unwrap();
    assert_eq!(restore(&*parts_of.states, 2), snapshots[&6]);
}

#[test]
fn what_begins_from_a_savepoint_takes_nothing_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6, 9]);
    name(dir.path(), 6, "before");
    let other = crate::savepoint::create(store(dir.path()), "j", "other", Some(3)).unwrap().unwrap();
    // A changed job that resets the table and reads something else.
    let split = |mut inputs: crate::record::Inputs| {
        inputs.splits[0].source = "others".into();
        inputs
    };
    let without = Next { tables: Vec::new(), inputs: split(inputs()), ..next(6) };
    Seeding::open(store(dir.path()), fresh(), "before").unwrap().unwrap().plant(without).unwrap();
    let started = JobState::open(store(dir.path()), go_on()).unwrap().start().unwrap();
    let (_, parts_of) = started.recover(&tokens(0)).unwrap();
    assert_eq!(restore(&*parts_of.states, 2), Default::default(), "the changed job begins without it");
    drop(parts_of);
    // The former one finds all of it: state, and what had been read.
    let seeding = Seeding::open(store(dir.path()), fresh(), "before").unwrap().unwrap();
    let standing = seeding.standing();
    assert_eq!((standing.plan.as_str(), &standing.inputs, standing.last), ("plan-1", &Some(inputs()), 6));
    seeding.plant(next(6)).unwrap();
    let started = JobState::open(store(dir.path()), go_on()).unwrap().start().unwrap();
    let (_, parts_of) = started.recover(&tokens(0)).unwrap();
    assert_eq!(restore(&*parts_of.states, 2), snapshots[&6]);
    assert_eq!(crate::savepoint::tests::rows_of(dir.path(), &other_now(dir.path(), &other)), snapshots[&3]);
}

/// The savepoint `other` as it is now.
fn other_now(dir: &Path, other: &crate::savepoint::Savepoint) -> crate::savepoint::Savepoint {
    let now = crate::savepoint::read(store(dir), "j", &other.name).unwrap();
    assert_eq!((now.checkpoint.tick, &now.header.at), (other.checkpoint.tick, &other.header.at));
    now
}

#[test]
fn a_savepoint_that_is_not_there_begins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6, 9]);
    for missing in ["before", "../job", "a/b"] {
        assert!(Seeding::open(store(dir.path()), fresh(), missing).unwrap().is_none(), "{missing}");
    }
    assert_eq!(start(dir.path()).recover(&tokens(9)).unwrap().0.checkpoint.unwrap().parts.tick, 9);
}

#[test]
fn a_crash_at_any_write_leaves_the_old_incarnation_or_the_new_one_whole() {
    let mut seen = std::collections::BTreeMap::new();
    for kind in [Fault::Before as fn(ErrorKind) -> Fault, Fault::After] {
        for crash in 0..24 {
            let dir = tempfile::tempdir().unwrap();
            let snapshots = run(dir.path(), 9, &[3, 6, 9]);
            name(dir.path(), 6, "before");
            let old = JobState::open(store(dir.path()), spec()).unwrap().file().incarnation.clone();
            let faulty = Arc::new(Faulty::over(store(dir.path()).objects()));
            faulty.next((0..crash).map(|_| Fault::None).chain([kind(ErrorKind::Other)]));
            let failing = || Store::over(faulty.clone(), Some(dir.path().into()));
            let done = plant(failing()).and_then(|()| {
                let started = JobState::open(failing(), go_on())?.start()?;
                started.recover(&tokens(0)).map(|_| ())
            });
            // Whoever comes next does not ask for a savepoint.
            match JobState::open(store(dir.path()), go_on()).unwrap().start() {
                Ok(started) => {
                    assert_ne!(started.incarnation(), old);
                    assert!(started.is_new());
                    let (recovery, parts_of) = started.recover(&tokens(0)).unwrap();
                    assert_eq!(recovery.checkpoint.unwrap().parts.tick, 6);
                    assert_eq!(restore(&*parts_of.states, 2), snapshots[&6]);
                    *seen.entry("new").or_insert(0) += 1;
                }
                Err(StateError::PlanChanged { .. }) => {
                    assert!(done.is_err());
                    let (recovery, parts_of) = start(dir.path()).recover(&tokens(9)).unwrap();
                    assert_eq!(recovery.checkpoint.unwrap().parts.tick, 9);
                    assert_eq!(restore(&*parts_of.states, 2), snapshots[&9]);
                    drop(parts_of);
                    plant(store(dir.path())).unwrap();
                    *seen.entry("old").or_insert(0) += 1;
                }
                Err(other) => panic!("crash {crash}: {other}"),
            }
        }
    }
    assert!(seen["old"] > 3 && seen["new"] > 3, "{seen:?}");
}
