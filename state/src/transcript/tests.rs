//! A copy holds what the past holds, whole or not at all, and a run begins with it.

use std::path::Path;
use std::time::Duration;

use riverrun_dataflow::tick::Tick;

use super::*;
use crate::collect::Retention;
use crate::folder::JobSpec;
use crate::past::Wanted;
use crate::recovery::Recovery;
use crate::tests::model::{entry, inputs, parts, restore, run, spec, start, store, tokens};

const REPLAY: &str = "j@again";

fn past(dir: &Path, from: Option<Tick>, to: Option<Tick>) -> Past {
    let wanted = Wanted { job: "j", plan: "plan-1", build: "build-1", from, to };
    Past::read(store(dir), &wanted).unwrap()
}

fn open(dir: &Path) -> JobState {
    JobState::open(store(dir), JobSpec { job: REPLAY.into(), ..spec() }).unwrap()
}

fn copy(dir: &Path, from: Option<Tick>, to: Option<Tick>) -> Result<(), StateError> {
    open(dir).transcribe(&past(dir, from, to), &Copied { from, asked: "--recorded" })
}

fn kept(dir: &Path) -> Kept {
    look(Arc::new(store(dir)), REPLAY).unwrap()
}

/// Returns the tick of the checkpoint from which a run begins, and the ticks that it derives.
fn ticks(recovery: &Recovery) -> (Tick, Vec<Tick>) {
    let base = recovery.checkpoint.as_ref().map_or(0, |base| base.parts.tick);
    (base, recovery.entries.iter().map(|entry| entry.record.tick).collect())
}

#[test]
fn a_run_begins_with_the_ticks_and_the_state_that_were_copied() {
    for (from, to, base, last) in [(None, None, 0, 9), (Some(5), None, 3, 9), (Some(7), Some(8), 6, 8)] {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = run(dir.path(), 9, &[3, 6]);
        assert_eq!(kept(dir.path()), Kept::Nothing);
        copy(dir.path(), from, to).unwrap();
        let Kept::Whole(stretch) = kept(dir.path()) else { panic!("it is whole") };
        assert_eq!((stretch.from, stretch.to), (from.unwrap_or(1), last));
        // Nothing of the other job is needed any more.
        std::fs::remove_dir_all(dir.path().join("jobs/j")).unwrap();

        let started = open(dir.path()).start().unwrap();
        assert!(started.is_new(), "no sink was given anything");
        let read = started.inputs().unwrap();
        assert_eq!((&read.splits, read.now, &read.recorded), (&inputs().splits, inputs().now, &Some(stretch)));
        let (recovery, parts_of) = started.recover(&tokens(0)).unwrap();
        assert_eq!(ticks(&recovery), (base, (base + 1..=last).collect()));
        assert_eq!(recovery.entries.last(), Some(&entry(last, 1)), "with its digests");
        for workers in [1, 3] {
            assert_eq!(restore(&*parts_of.states, workers), snapshots.get(&base).cloned().unwrap_or_default());
        }
        drop(parts_of);
        assert!(!open(dir.path()).start().unwrap().is_new(), "somebody ran it");
    }
}

#[test]
fn a_run_goes_on_from_its_own_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    copy(dir.path(), Some(5), None).unwrap();
    let (_, mut running) = open(dir.path()).start().unwrap().recover(&tokens(4)).unwrap();
    running.journal.append_checkpoint(parts(7, vec![])).unwrap();
    drop(running);
    let started = open(dir.path()).start().unwrap();
    assert!(!started.is_new());
    assert_eq!(ticks(&started.recover(&tokens(7)).unwrap().0), (7, vec![8, 9]));
    assert!(matches!(kept(dir.path()), Kept::Whole(_)), "a copy whose ticks are derived is whole");
}

#[test]
fn a_copy_that_was_cut_short_is_completed_or_refused() {
    for cut in 1..=5 {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), 9, &[3, 6]);
        copy(dir.path(), Some(5), None).unwrap();
        let records = store(dir.path()).list(&format!("jobs/{REPLAY}/log")).unwrap();
        // A generation, an upgrade, and ticks 4 to 9 by two.
        assert_eq!(records.len(), 5);
        records.iter().rev().take(cut).for_each(|record| store(dir.path()).delete(&record.path).unwrap());
        match cut {
            1..4 => assert!(matches!(kept(dir.path()), Kept::Part(stretch) if stretch.to == 9), "{cut}"),
            _ => assert_eq!(kept(dir.path()), Kept::Nothing, "{cut}"),
        }
        if (1..4).contains(&cut) {
            let error = copy(dir.path(), Some(5), Some(8)).unwrap_err();
            assert!(error.to_string().contains("cut short"), "{error}");
        }
        copy(dir.path(), Some(5), None).unwrap();
        assert!(matches!(kept(dir.path()), Kept::Whole(_)), "{cut}");
        let started = open(dir.path()).start().unwrap();
        assert_eq!(ticks(&started.recover(&tokens(0)).unwrap().0), (3, (4..=9).collect()), "{cut}");
    }
}

#[test]
fn ticks_that_were_collected_meanwhile_are_told_and_nothing_is_made_up() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    copy(dir.path(), Some(5), None).unwrap();
    let records = store(dir.path()).list(&format!("jobs/{REPLAY}/log")).unwrap();
    store(dir.path()).delete(&records.last().unwrap().path).unwrap();
    // The job goes on, and keeps its last checkpoint alone.
    let mut started = start(dir.path());
    started.retain(Retention { checkpoints: 1, keep_for: Duration::ZERO, ..Retention::default() });
    let (_, mut job) = started.recover(&tokens(9)).unwrap();
    for tick in 10..=90 {
        job.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        job.journal.append_checkpoint(parts(tick, vec![])).unwrap();
    }
    let Kept::Part(Stretch { from, to, .. }) = kept(dir.path()) else { panic!("it was cut short") };
    let wanted = Wanted { job: "j", plan: "plan-1", build: "build-1", from: Some(from), to: Some(to) };
    let error = Past::read(store(dir.path()), &wanted).err().expect("they are gone");
    assert!(matches!(error, StateError::NoPast { .. }), "{error}");
}

#[test]
fn a_copy_begun_afresh_is_none_until_it_is_laid_down() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    copy(dir.path(), None, None).unwrap();
    // As whoever begins anew and dies leaves it: the next incarnation is named, and the old one still there.
    let other = tempfile::tempdir().unwrap();
    drop(open(other.path()));
    let of = |dir: &Path, name: &str| dir.join("jobs").join(REPLAY).join(name);
    std::fs::copy(of(other.path(), "job.json"), of(dir.path(), "fresh.json")).unwrap();
    assert_eq!(kept(dir.path()), Kept::Nothing);
    copy(dir.path(), Some(5), None).unwrap();
    assert!(matches!(kept(dir.path()), Kept::Whole(stretch) if stretch.from == 5));
}

#[test]
fn a_job_that_reads_anything_else_is_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3]);
    let mut other = open(dir.path()).start().unwrap();
    other.append_inputs(Inputs { asked: Some("--from 2h".into()), ..inputs() }).unwrap();
    drop(other);
    let error = look(Arc::new(store(dir.path())), REPLAY).unwrap_err();
    assert!(matches!(&error, StateError::OtherReplay { .. }) && error.to_string().contains("--from 2h"), "{error}");
    let error = copy(dir.path(), None, None).unwrap_err();
    assert!(matches!(error, StateError::OtherReplay { .. }), "{error}");
}
