//! Which part of a log can be derived again, and what stands in the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::collect::Retention;
use crate::tests::model::{Model, entry, inputs, parts, restore, run, start, store, tokens};

const WANTED: Wanted<'_> = Wanted { job: "j", plan: "plan-1", build: "build-1", from: None, to: None };

fn read(dir: &Path, wanted: &Wanted<'_>) -> Result<Past, StateError> {
    Past::read(store(dir), wanted)
}

/// Returns the tick of the base, and the ticks to be derived.
fn ticks(dir: &Path, from: Option<Tick>, to: Option<Tick>) -> (Tick, Vec<Tick>) {
    let past = read(dir, &Wanted { from, to, ..WANTED }).unwrap();
    let base = past.base.as_ref().map_or(0, |base| base.parts.tick);
    (base, past.entries.iter().map(|entry| entry.record.tick).collect())
}

fn refused(dir: &Path, wanted: &Wanted<'_>) -> StateError {
    read(dir, wanted).err().expect("it is refused")
}

#[test]
fn all_is_derived_from_the_beginning_or_from_the_checkpoint_before_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6]);
    assert_eq!(ticks(dir.path(), None, None), (0, (1..=9).collect()));
    assert_eq!(ticks(dir.path(), None, Some(4)), (0, (1..=4).collect()));
    assert_eq!(ticks(dir.path(), Some(7), None), (6, (7..=9).collect()));
    assert_eq!(ticks(dir.path(), Some(6), Some(8)), (3, (4..=8).collect()));
    assert_eq!(ticks(dir.path(), Some(3), Some(3)), (0, (1..=3).collect()));
    let past = read(dir.path(), &Wanted { from: Some(5), ..WANTED }).unwrap();
    assert_eq!(past.inputs, inputs());
    assert!(past.warnings.is_empty());
    for workers in [1, 3] {
        assert_eq!(restore(&*past.states, workers), snapshots[&3]);
    }
}

#[test]
fn reading_takes_nothing_from_a_running_job_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[2]);
    let running = start(dir.path()).recover(&tokens(4)).unwrap();
    let before: Vec<String> = store(dir.path()).list("jobs").unwrap().into_iter().map(|it| it.path).collect();
    assert_eq!(ticks(dir.path(), None, None).1, [1, 2, 3, 4]);
    let after: Vec<String> = store(dir.path()).list("jobs").unwrap().into_iter().map(|it| it.path).collect();
    assert_eq!(before, after);
    let (_, mut parts_of) = running;
    parts_of.journal.append_ticks(&[entry(5, 1)]).unwrap();
}

#[test]
fn what_was_not_recorded_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[2]);
    let error = refused(dir.path(), &Wanted { to: Some(5), ..WANTED });
    assert!(matches!(&error, StateError::NoPast { .. }) && error.to_string().contains("the last one is 4"), "{error}");
    let error = refused(dir.path(), &Wanted { from: Some(7), ..WANTED });
    assert!(error.to_string().contains("tick 7 was asked for"), "{error}");
    assert!(matches!(refused(dir.path(), &Wanted { job: "k", ..WANTED }), StateError::OtherJob { .. }));
    let empty = tempfile::tempdir().unwrap();
    drop(start(empty.path()));
    assert!(matches!(refused(empty.path(), &WANTED), StateError::NoPast { .. }));
}

#[test]
fn ticks_of_another_plan_or_build_are_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[2]);
    let plan = refused(dir.path(), &Wanted { plan: "plan-2", ..WANTED });
    assert!(plan.to_string().contains("the job file, --set and all"), "{plan}");
    let build = refused(dir.path(), &Wanted { build: "build-2", ..WANTED });
    assert!(build.to_string().contains("replay with the build that ran the job, build-1"), "{build}");
}

#[test]
fn a_checkpoint_that_is_broken_is_passed_over_aloud() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6]);
    let of_six = store(dir.path()).list("jobs/j/state").unwrap();
    let victim = of_six.into_iter().find(|file| file.path.contains("c000000000006")).unwrap();
    store(dir.path()).put(&victim.path, b"rubbish".to_vec()).unwrap();
    let past = read(dir.path(), &Wanted { from: Some(8), ..WANTED }).unwrap();
    assert_eq!(past.base.as_ref().unwrap().parts.tick, 3);
    assert!(past.warnings[0].contains("tick 6"), "{:?}", past.warnings);
    assert!(past.warnings[0].ends_with("; the replay begins after tick 3"), "{:?}", past.warnings);
    assert_eq!(restore(&*past.states, 2), snapshots[&3]);
}

#[test]
fn a_changed_record_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    let records = store(dir.path()).list("jobs/j/log").unwrap();
    for record in records {
        let whole = store(dir.path()).get(&record.path).unwrap().unwrap().to_vec();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        store(dir.path()).put(&record.path, changed).unwrap();
        let error = refused(dir.path(), &WANTED);
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        store(dir.path()).put(&record.path, whole).unwrap();
    }
}

#[test]
fn while_a_job_collects_a_past_is_whole_or_looked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut started = start(dir.path());
    started.append_inputs(inputs()).unwrap();
    started.retain(Retention { checkpoints: 2, keep_for: Duration::ZERO, ..Retention::default() });
    let (_, mut job) = started.recover(&tokens(0)).unwrap();
    let (done, snapshots) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut model = Model::default();
            for tick in 1..=150 {
                model.set((tick % 8) as u16, tick as i64 % 5, Some(Some(format!("v{tick}"))));
                job.journal.append_ticks(&[entry(tick, 1)]).unwrap();
                let files = model.freeze(&*job.states, tick, 1);
                snapshots.lock().unwrap().insert(tick, model.rows.clone());
                job.journal.append_checkpoint(parts(tick, files)).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let (mut seen, mut bases) = (0, 0);
        while !done.load(Ordering::SeqCst) {
            match read(dir.path(), &WANTED) {
                Ok(past) => {
                    let base = past.base.as_ref().map_or(0, |base| base.parts.tick);
                    let ticks = past.entries.iter().map(|entry| entry.record.tick);
                    assert!(ticks.eq(base + 1..base + 1 + past.entries.len() as u64));
                    let expected = snapshots.lock().unwrap().get(&base).cloned().unwrap_or_default();
                    assert_eq!(restore(&*past.states, 2), expected, "the state after tick {base}");
                    seen += 1;
                    bases = bases.max(base);
                }
                // After the last checkpoint there may be no tick yet; and a reader that is much too slow gives up.
                Err(StateError::NoPast { .. }) => {}
                Err(error) => {
                    assert!(error.to_string().contains("missing") || error.to_string().contains("collected"), "{error}")
                }
            }
        }
        assert!(seen > 0 && bases > 0, "{seen} pasts were whole, the newest from tick {bases}");
    });
}
