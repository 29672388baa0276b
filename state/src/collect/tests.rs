//! What is collected, what is kept, and what a crash in between leaves.

use std::collections::BTreeMap;
use std::path::Path;

use riverrun_dataflow::journal::JournalError;
use riverrun_dataflow::tick::Tick;

use super::*;
use crate::job::{Parts, Started};
use crate::tests::model::{Model, Rows, entry, inputs, parts, restore, start, store, tokens};

const NOTHING_YOUNG: Retention = Retention { checkpoints: 3, keep_for: Duration::ZERO, log: KeepLog::Needed };

/// A job whose checkpoints are collected, run in several generations.
struct Job {
    dir: tempfile::TempDir,
    model: Model,
    tick: Tick,
    snapshots: BTreeMap<Tick, Rows>,
}

impl Job {
    fn new() -> Job {
        Job { dir: tempfile::tempdir().unwrap(), model: Model::default(), tick: 0, snapshots: BTreeMap::new() }
    }

    fn started(&self, retention: Retention) -> Started {
        let mut started = start(self.dir.path());
        started.retain(retention);
        if started.inputs().is_none() {
            started.append_inputs(inputs()).unwrap();
        }
        started
    }

    fn running(&self, retention: Retention) -> Parts {
        self.started(retention).recover(&tokens(self.tick)).unwrap().1
    }

    /// Runs `ticks` ticks with a checkpoint after each.
    fn run(&mut self, running: &mut Parts, ticks: Tick) {
        for _ in 0..ticks {
            self.tick += 1;
            let tick = self.tick;
            self.model.set((tick % 8) as u16, tick as i64 % 3, Some(Some(format!("v{tick}"))));
            running.journal.append_ticks(&[entry(tick, 1)]).unwrap();
            let files = self.model.freeze(&*running.states, tick, 2);
            running.journal.append_checkpoint(parts(tick, files)).unwrap();
            self.snapshots.insert(tick, self.model.rows.clone());
        }
    }

    fn count(&self, part: &str) -> usize {
        store(self.dir.path()).list(&format!("jobs/j/{part}")).unwrap().len()
    }
}

fn break_newest(dir: &Path, checkpoints: usize) {
    let store = store(dir);
    let mut ticks: Vec<String> = store.list("jobs/j/state").unwrap().into_iter().map(|file| file.path).collect();
    ticks.sort_by_key(|path| path.split('/').find(|part| part.starts_with('c')).map(str::to_owned));
    for path in ticks.iter().rev().take(checkpoints) {
        std::fs::write(dir.join(path), b"broken").unwrap();
    }
}

#[test]
fn old_checkpoints_go_and_the_job_goes_on() {
    let mut job = Job::new();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 200);
    assert!(job.count("log") < 150, "{} records left", job.count("log"));
    assert_eq!(job.count("floor"), 1);
    assert!(job.count("state") < 60, "{} files left", job.count("state"));
    drop(running);
    let report = crate::inspect::verify(store(job.dir.path()), "j").unwrap();
    assert_eq!(report.findings, vec![]);
    let started = job.started(NOTHING_YOUNG);
    assert_eq!(started.inputs(), Some(&inputs()), "the inputs record outlives the records around it");
    let (recovery, running) = started.recover(&tokens(200)).unwrap();
    assert_eq!(recovery.checkpoint.unwrap().parts.tick, 200);
    assert_eq!(restore(&*running.states, 3), job.model.rows);
}

#[test]
fn who_finds_its_files_swept_up_by_a_later_generation_is_fenced_and_others_have_a_broken_store() {
    for is_late in [false, true] {
        let mut job = Job::new();
        let mut old = job.running(NOTHING_YOUNG);
        job.run(&mut old, 2);
        let later = is_late.then(|| {
            // As on another host: its lock keeps nobody out.
            std::fs::remove_file(job.dir.path().join("jobs/j/LOCK")).unwrap();
            job.running(NOTHING_YOUNG)
        });
        std::fs::remove_dir_all(job.dir.path().join("jobs/j/state")).unwrap();
        std::fs::write(job.dir.path().join("jobs/j/state"), "in the way").unwrap();
        job.model.set(1, 1, Some(Some("v".to_owned())));
        let error = job.model.try_freeze(&*old.states, 3, 1).unwrap_err();
        match later {
            None => assert!(matches!(&error, JournalError::Storage { .. }), "{error}"),
            Some(_) => assert!(
                matches!(&error, JournalError::Fenced(why) if why.contains("generation 2 ") && why.contains("cannot write")),
                "{error}"
            ),
        }
    }
}

#[test]
fn every_kept_checkpoint_can_be_restored() {
    for broken in 0..=2 {
        let mut job = Job::new();
        let mut running = job.running(NOTHING_YOUNG);
        job.run(&mut running, 120);
        drop(running);
        break_newest(job.dir.path(), broken);
        let (recovery, running) = job.started(NOTHING_YOUNG).recover(&tokens(120)).unwrap();
        let base = recovery.checkpoint.map(|it| it.parts.tick).unwrap();
        assert!((118..=120).contains(&base) && (broken == 0) == (base == 120), "{base} with {broken} broken");
        assert_eq!(restore(&*running.states, 1), job.snapshots[&base]);
    }
}

/// What is remembered of an hour of checkpoints is no more than the names of their files, however many checkpoints share them.
#[test]
fn a_file_of_many_checkpoints_is_kept_in_mind_once() {
    let mut job = Job::new();
    let mut running = job.running(Retention::default());
    job.run(&mut running, 100);
    drop(running);
    let look = crate::inspect::Look::at(store(job.dir.path()), "j").unwrap();
    let bounds = look.reader.bounds().unwrap();
    let mut all: Vec<String> = Vec::new();
    for record in look.reader.backwards(bounds) {
        all.extend(record.unwrap().body.checkpoint().into_iter().flat_map(Checkpoint::files).map(|file| file.path));
    }
    let distinct: BTreeSet<String> = all.iter().cloned().collect();
    assert!(all.len() > 3 * distinct.len(), "checkpoints share files: {} names of {}", all.len(), distinct.len());
    let mut collector = Collector::new(look.folder, look.reader, Retention::default(), 2, bounds, 0, Some(bounds.last));
    while collector.unseen.is_some() {
        collector.look_back().unwrap();
    }
    let kept: Vec<String> = collector.kept.iter().flat_map(|kept| kept.files.iter().cloned()).collect();
    assert_eq!(kept.len(), distinct.len(), "one is there twice");
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), distinct);
}

#[test]
fn checkpoints_that_were_passed_over_do_not_count() {
    let mut job = Job::new();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 120);
    drop(running);
    for (restart, base) in [(1, 119), (2, 119), (3, 119)] {
        break_newest(job.dir.path(), 1);
        let (recovery, mut running) = job.started(NOTHING_YOUNG).recover(&tokens(job.tick)).unwrap();
        assert_eq!(recovery.checkpoint.map(|it| it.parts.tick), Some(base), "restart {restart}");
        job.model.rows = restore(&*running.states, 1);
        assert_eq!(job.model.rows, job.snapshots[&base]);
        job.run(&mut running, 1);
    }
}

#[test]
fn young_checkpoints_stay_across_restarts() {
    let mut job = Job::new();
    for _ in 0..3 {
        let mut running = job.running(Retention::default());
        job.run(&mut running, 40);
    }
    assert_eq!(job.count("floor"), 0);
    assert_eq!(job.count("log"), 3 + 1 + 3 * 80);
    // What earlier runs kept is collected by a later run that keeps less.
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 4);
    assert!(job.count("log") <= 14, "{} records left", job.count("log"));
    drop(running);
    let (_, running) = job.started(NOTHING_YOUNG).recover(&tokens(job.tick)).unwrap();
    assert_eq!(restore(&*running.states, 2), job.model.rows);
}

#[test]
fn files_that_no_checkpoint_names_are_swept_by_a_later_generation() {
    let mut job = Job::new();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 3);
    job.model.freeze(&*running.states, 9, 2);
    let store = store(job.dir.path());
    store.put("jobs/j/state/g000000/c000000000001/w0000/s.t.delta.parquet", b"left by a crash".to_vec()).unwrap();
    store.put("jobs/j/state/g000009/c000000000009/w0000/s.t.delta.parquet", b"of a later one".to_vec()).unwrap();
    drop(running);
    let unfinished = ["state/g000000/c000000000002/w0000/s.t.base.parquet#1", "log/00000000000000000099.json#2"];
    for path in unfinished.map(|path| job.dir.path().join("jobs/j").join(path)) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"killed while writing").unwrap();
    }
    job.model = Model::default();
    let (_, mut running) = job.started(NOTHING_YOUNG).recover(&tokens(job.tick)).unwrap();
    job.model.rows = restore(&*running.states, 1);
    job.run(&mut running, 1);
    let left = store.list("jobs/j/state").unwrap();
    assert!(!left.iter().any(|file| file.path.contains("/g000000/")), "{left:?}");
    assert!(!job.dir.path().join("jobs/j/state/g000000").exists(), "unfinished files and empty folders go too");
    assert!(!job.dir.path().join("jobs/j").join(unfinished[1]).exists());
    assert!(
        left.iter().any(|file| file.path.contains("/g000009/")),
        "a later generation's files are not ours to judge"
    );
}

#[test]
fn a_generation_s_own_folder_is_not_swept_away_under_its_first_file() {
    let ours = "jobs/j/state/g000009";
    for path in ["jobs/j/state/g000008", "jobs/j/state/g000008/c000000000001/w0000/s.t.base.parquet#1"] {
        assert!(super::is_before(path, ours), "{path}");
    }
    for path in ["jobs/j/state/g000009", "jobs/j/state/g000009/c000000000001", "jobs/j/state/g000010", "jobs/j"] {
        assert!(!super::is_before(path, ours), "{path}");
    }
}

#[test]
fn records_left_by_a_crash_below_the_floor_are_neither_read_nor_kept() {
    let mut job = Job::new();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 100);
    drop(running);
    let store = store(job.dir.path());
    let below = "jobs/j/log/00000000000000000003.json";
    store.put(below, b"half deleted".to_vec()).unwrap();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 1);
    assert_eq!(store.get(below).unwrap(), None);
}

#[test]
fn an_old_record_that_is_gone_or_damaged_does_not_end_collection() {
    for is_gone in [true, false] {
        let mut job = Job::new();
        let keep_all = Retention { keep_for: Duration::from_secs(3600), ..NOTHING_YOUNG };
        let mut running = job.running(keep_all);
        job.run(&mut running, 100);
        drop(running);
        let record = job.dir.path().join(format!("jobs/j/log/{:020}.json", 30));
        match is_gone {
            true => std::fs::remove_file(&record).unwrap(),
            false => std::fs::write(&record, b"broken").unwrap(),
        }
        // An hour later, so to speak.
        let mut running = job.running(NOTHING_YOUNG);
        job.run(&mut running, 100);
        assert!(job.count("log") < 150, "{} records left", job.count("log"));
        assert!(job.count("state") < 60, "{} files left", job.count("state"));
        drop(running);
        let report = crate::inspect::verify(store(job.dir.path()), "j").unwrap();
        assert_eq!(report.findings, vec![], "the hole is below the floor");
        let (recovery, running) = job.started(NOTHING_YOUNG).recover(&tokens(200)).unwrap();
        assert_eq!(recovery.checkpoint.unwrap().parts.tick, 200);
        assert_eq!(restore(&*running.states, 3), job.model.rows);
    }
}

#[test]
fn a_floor_that_names_no_checkpoint_which_is_there_is_named() {
    let mut job = Job::new();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 200);
    drop(running);
    let floor = store(job.dir.path()).list("jobs/j/floor").unwrap().pop().unwrap();
    std::fs::write(job.dir.path().join(&floor.path), "9999\n").unwrap();
    let error = job.started(NOTHING_YOUNG).recover(&tokens(200)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(&floor.name), "the mark is what is damaged: {error}");
}

#[test]
fn a_log_that_lost_all_after_its_floor_is_damage() {
    let mut job = Job::new();
    let mut running = job.running(NOTHING_YOUNG);
    job.run(&mut running, 100);
    drop(running);
    std::fs::remove_dir_all(job.dir.path().join("jobs/j/log")).unwrap();
    let error = crate::tests::model::open(job.dir.path()).start().unwrap_err();
    assert!(matches!(&error, StateError::Damaged { reason, .. } if reason.contains("all later ones")), "{error}");
}

#[test]
fn all_of_the_log_is_kept_if_so_wished_but_not_the_files_of_all_checkpoints() {
    let everything = Retention { log: KeepLog::All, ..NOTHING_YOUNG };
    let mut job = Job::new();
    let mut running = job.running(everything);
    job.run(&mut running, 100);
    drop(running);
    let mut running = job.running(everything);
    job.run(&mut running, 100);
    drop(running);
    assert_eq!(job.count("log"), 1 + 2 + 400, "every record is there");
    assert!(job.count("state") < 60, "{} files left", job.count("state"));
    assert_eq!(job.count("floor"), 1);
    let report = crate::inspect::verify(store(job.dir.path()), "j").unwrap();
    assert_eq!(report.findings, vec![]);
    // With every kept checkpoint broken it all begins again, and what was collected is nothing to warn of.
    break_newest(job.dir.path(), job.count("state"));
    let (recovery, _) = job.started(everything).recover(&tokens(200)).unwrap();
    assert!(recovery.checkpoint.is_none());
    assert_eq!(recovery.entries.len(), 200);
    assert!(recovery.warnings.len() < 70, "{:?}", recovery.warnings);
    // A later run that needs less keeps less.
    let mut running = job.running(NOTHING_YOUNG);
    job.model = Model::default();
    job.tick = 200;
    job.run(&mut running, 5);
    assert!(job.count("log") < 20, "{} records left", job.count("log"));
}

mod failing;
