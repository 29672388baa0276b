//! Upgrades: all or nothing at every write, from drained jobs only, and with no way back to what was before.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::journal::CheckpointParts;

use super::*;
use crate::folder::JobSpec;
use crate::inspect;
use crate::tests::faulty::{Fault, Faulty};
use crate::tests::model::{
    Rows, TABLE, entry, inputs, parts, read, restore, run, spec, start, store, table_spec, tokens,
};

const STEP: &str = "s";

fn changed() -> JobSpec {
    JobSpec { plan: "plan-2".into(), ..spec() }
}

fn open_changed(dir: &Path) -> JobState {
    JobState::open(store(dir), changed()).unwrap()
}

/// The model's table as it is, or with its value called otherwise and a column before it that was not there.
fn next(tick: Tick, rewrite: bool) -> Next {
    let (table, columns) = match rewrite {
        false => (table_spec(), None),
        true => {
            let mut fields: Vec<Field> = table_spec().schema.fields().iter().map(|it| it.as_ref().clone()).collect();
            fields[3] = Field::new("renamed", DataType::Utf8, true);
            fields.insert(3, Field::new("added", DataType::Float64, true));
            let table = TableSpec { schema: Arc::new(Schema::new(fields)), ..table_spec() };
            (table, Some(vec![Some("key".into()), None, Some("value".into())]))
        }
    };
    let floor = Floor { tick, watermark: EventTime(77) };
    Next {
        plan: "plan-2".into(),
        lanes: vec![SinkLanes { sink: "new".into(), lanes: 3 }, SinkLanes { sink: "out".into(), lanes: 2 }],
        inputs: Inputs { free_split: 9, ..inputs() },
        floors: [(STEP.to_string(), floor)].into(),
        parts: [("step s".to_string(), "migrated".to_string())].into(),
        before: Timeline { tick, ..Timeline::start(1, 0) },
        tokens: (0..2).map(|lane| LaneToken { sink: 1, lane, tick }).collect(),
        balance: BTreeMap::new(),
        tables: vec![Move { from: (STEP.into(), TABLE.into()), step: STEP.into(), table, columns }],
    }
}

fn on_lane_1(tick: Tick) -> Vec<LaneToken> {
    (0..2).map(|lane| LaneToken { sink: 1, lane, tick }).collect()
}

#[test]
fn a_drained_job_goes_on_as_another_plan() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6, 9]);
    let upgrading = open_changed(dir.path()).upgrade().unwrap();
    assert_eq!(upgrading.standing().drained().unwrap().tick, 9);
    upgrading.finish(next(9, false)).unwrap();

    let old = JobState::open(store(dir.path()), spec()).unwrap().start().unwrap_err();
    assert!(matches!(&old, StateError::PlanChanged { stored, given, .. } if stored == "plan-2" && given == "plan-1"));
    let started = open_changed(dir.path()).start().unwrap();
    assert_eq!((started.generation(), started.is_new()), (3, false));
    assert_eq!(started.lanes(), next(9, false).lanes);
    assert_eq!((started.inputs(), started.floors()), (Some(&next(9, false).inputs), next(9, false).floors));
    let (recovery, mut parts_of) = started.recover(&on_lane_1(9)).unwrap();
    assert!(recovery.warnings.is_empty(), "{:?}", recovery.warnings);
    assert_eq!(recovery.checkpoint.unwrap().parts.tick, 9);
    assert_eq!(restore(&*parts_of.states, 3), snapshots[&9]);
    // It goes on, and what the upgrade laid down holds for all that follows.
    parts_of.journal.append_ticks(&[entry(10, 0)]).unwrap();
    let at_ten = CheckpointParts { tokens: on_lane_1(10), ..parts(10, vec![]) };
    parts_of.journal.append_checkpoint(at_ten).unwrap();
    drop(parts_of);
    let started = open_changed(dir.path()).start().unwrap();
    assert_eq!((started.lanes(), started.floors()), (&next(9, false).lanes[..], next(9, false).floors));
    let (recovery, _) = started.recover(&on_lane_1(10)).unwrap();
    assert_eq!(recovery.checkpoint.unwrap().parts.tick, 10);
    let report = inspect::verify(store(dir.path()), "j").unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let overview = inspect::list(store(dir.path()), "j").unwrap();
    let upgrades: Vec<_> = overview.checkpoints.iter().map(|it| (it.tick, it.upgraded_from.as_deref())).collect();
    assert_eq!(upgrades[..3], [(10, None), (9, Some("plan-1")), (9, None)]);
    let lanes = inspect::show(store(dir.path()), "j", None).unwrap().unwrap().lanes;
    assert!(lanes.iter().all(|lane| lane.sink == "out"), "{lanes:?}");
}

#[test]
fn columns_are_taken_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6, 9]);
    open_changed(dir.path()).upgrade().unwrap().finish(next(9, true)).unwrap();
    let (_, parts_of) = open_changed(dir.path()).start().unwrap().recover(&on_lane_1(9)).unwrap();
    let mut rows = Rows::new();
    for batch in read(&*parts_of.states, STEP, 0, 1) {
        assert_eq!(batch.schema(), next(9, true).tables[0].table.schema);
        assert_eq!(batch.column_by_name("added").unwrap().null_count(), batch.num_rows());
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = [0, 1, 2, 4].map(|at| batch.column(at).clone()).to_vec();
        let batch = RecordBatch::try_new_with_options(table_spec().schema, columns, &options).unwrap();
        crate::tests::model::apply(&mut rows, &batch);
    }
    assert_eq!(rows, snapshots[&9]);
}

#[test]
fn a_job_that_is_not_drained_is_refused_before_anything_is_written() {
    for (last, checkpoints, expected) in
        [(9, &[3, 6][..], "ticks 7 to 9 come after it"), (4, &[], "ticks 1 to 4 are in its journal")]
    {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), last, checkpoints);
        let before = store(dir.path()).list("jobs/j/log").unwrap();
        let error = open_changed(dir.path()).upgrade().unwrap_err();
        assert!(matches!(&error, StateError::NotDrained { .. }) && error.to_string().contains(expected), "{error}");
        assert_eq!(store(dir.path()).list("jobs/j/log").unwrap().len(), before.len());
        drop(start(dir.path()));
    }
    // Nothing was ever done.
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path()));
    let error = open_changed(dir.path()).upgrade().unwrap_err();
    assert!(error.to_string().contains("--fresh loses nothing"), "{error}");
}

#[test]
fn no_checkpoint_before_an_upgrade_is_ever_chosen() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6, 9]);
    open_changed(dir.path()).upgrade().unwrap().finish(next(9, true)).unwrap();
    // A sink that went back, and a file that is gone, have older checkpoints only: those of another plan.
    let back = open_changed(dir.path()).start().unwrap().recover(&on_lane_1(6)).map(|_| ()).unwrap_err();
    assert!(matches!(&back, StateError::NoCheckpoint { .. }), "{back}");
    let moved = store(dir.path()).list("jobs/j/state/g000002").unwrap();
    assert!(!moved.is_empty(), "the files were written anew");
    std::fs::remove_file(dir.path().join(&moved[0].path)).unwrap();
    let gone = open_changed(dir.path()).start().unwrap().recover(&on_lane_1(9)).map(|_| ()).unwrap_err();
    assert!(matches!(&gone, StateError::NoCheckpoint { .. }), "{gone}");
}

#[test]
fn a_damaged_state_is_not_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6, 9]);
    let victim = store(dir.path()).list("jobs/j/state").unwrap().pop().unwrap();
    std::fs::write(dir.path().join(victim.path), b"x").unwrap();
    let error = open_changed(dir.path()).upgrade().unwrap().finish(next(9, false)).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    // The old plan still finds its way.
    drop(start(dir.path()).recover(&tokens(9)).unwrap());
}

#[test]
fn a_crash_at_any_write_leaves_the_old_job_or_the_new_one_whole() {
    type Kind = fn(ErrorKind) -> Fault;
    let kinds: [Kind; 2] = [Fault::Before, Fault::After];
    let mut seen = BTreeSet::new();
    for kind in kinds {
        for crash in 0..14 {
            let dir = tempfile::tempdir().unwrap();
            let snapshots = run(dir.path(), 9, &[3, 6, 9]);
            let faulty = Arc::new(Faulty::over(store(dir.path()).objects()));
            let failing = Store::over(faulty.clone(), Some(dir.path().into()));
            faulty.next((0..crash).map(|_| Fault::None).chain([kind(ErrorKind::Other)]));
            let upgraded = JobState::open(failing, changed())
                .and_then(JobState::upgrade)
                .and_then(|upgrading| upgrading.finish(next(9, true)));
            // The next to come tries the old plan, then the new one: exactly one of them is the job.
            match JobState::open(store(dir.path()), spec()).unwrap().start() {
                Ok(started) => {
                    assert!(upgraded.is_err(), "an upgrade was told and is not there");
                    let (recovery, parts_of) = started.recover(&tokens(9)).unwrap();
                    assert!(recovery.warnings.is_empty() && recovery.entries.is_empty());
                    assert_eq!(restore(&*parts_of.states, 2), snapshots[&9]);
                    drop(parts_of);
                    // And it can be upgraded still.
                    open_changed(dir.path()).upgrade().unwrap().finish(next(9, true)).unwrap();
                    seen.insert("old");
                }
                Err(StateError::PlanChanged { stored, .. }) => {
                    assert_eq!(stored, "plan-2");
                    seen.insert(if upgraded.is_ok() { "new, told" } else { "new, not told" });
                }
                Err(other) => panic!("{other}"),
            }
            let (recovery, parts_of) = open_changed(dir.path()).start().unwrap().recover(&on_lane_1(9)).unwrap();
            assert_eq!((recovery.checkpoint.unwrap().parts.tick, recovery.entries.len()), (9, 0));
            assert!(!read(&*parts_of.states, STEP, 0, 1).is_empty());
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["new, not told", "new, told", "old"]);
}

#[test]
fn whoever_ran_the_job_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[9]);
    // On a store without locks the old process may still be there.
    let unlocked = || Store::over(store(dir.path()).objects(), None);
    let (_, mut old) = JobState::open(unlocked(), spec()).unwrap().start().unwrap().recover(&tokens(9)).unwrap();
    JobState::open(unlocked(), changed()).unwrap().upgrade().unwrap().finish(next(9, false)).unwrap();
    let error = old.journal.append_ticks(&[entry(10, 0)]).unwrap_err();
    assert!(matches!(error, riverrun_dataflow::journal::JournalError::Fenced(_)), "{error}");
}

#[test]
fn checkpoints_before_an_upgrade_are_collected_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6, 9]);
    open_changed(dir.path()).upgrade().unwrap().finish(next(9, true)).unwrap();
    let mut started = open_changed(dir.path()).start().unwrap();
    started.retain(crate::Retention {
        checkpoints: 1,
        keep_for: std::time::Duration::ZERO,
        ..crate::Retention::default()
    });
    let (_, mut parts_of) = started.recover(&on_lane_1(9)).unwrap();
    for tick in 10..14 {
        parts_of.journal.append_ticks(&[entry(tick, 0)]).unwrap();
        let at = CheckpointParts { tokens: on_lane_1(tick), ..parts(tick, vec![]) };
        parts_of.journal.append_checkpoint(at).unwrap();
    }
    drop(parts_of);
    let left = store(dir.path()).list("jobs/j/state/g000001").unwrap();
    assert!(left.is_empty(), "files that no checkpoint of this plan needs: {left:?}");
    // The record of the upgrade stays: it says what the job reads and writes.
    let started = open_changed(dir.path()).start().unwrap();
    assert_eq!(started.lanes(), next(9, true).lanes);
    assert_eq!(started.recover(&on_lane_1(13)).unwrap().0.checkpoint.unwrap().parts.tick, 13);
    let report = inspect::verify(store(dir.path()), "j").unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn a_drained_job_goes_on_with_another_build_and_no_other_one_does() {
    let build_2 = |dir: &Path| JobState::open(store(dir), JobSpec { build: "build-2".into(), ..spec() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 9]);
    let (recovery, mut parts_of) = build_2(dir.path()).start().unwrap().recover(&tokens(9)).unwrap();
    assert_eq!(recovery.checkpoint.unwrap().parts.tick, 9);
    parts_of.journal.append_ticks(&[entry(10, 0)]).unwrap();
    drop(parts_of);
    // Now it is the first build that would have to repeat what the second one derived.
    let error = start(dir.path()).recover(&tokens(9)).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, StateError::BuildChanged { stored, given, first: 10, last: 10, .. }
        if stored == "build-2" && given == "build-1"),
        "{error}"
    );
    assert!(error.to_string().contains("run the job with build build-2 until it stops cleanly"), "{error}");
    // The same holds for an upgrade, whatever the plan.
    let error = open_changed(dir.path()).upgrade().unwrap_err();
    assert!(matches!(error, StateError::NotDrained { .. }), "{error}");
}
