//! Restarts: from any checkpoint, after any damage, with any number of workers.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use riverrun_dataflow::journal::CheckpointParts;
use riverrun_dataflow::tick::Tick;

use super::*;
use crate::folder::Begin;
use crate::tests::model::{Model, Rows, SHARDS, entry, inputs, open, parts, restore, run, spec, start, store, tokens};

fn state_files(dir: &Path, tick: Tick) -> Vec<std::path::PathBuf> {
    let store = store(dir);
    let found = store.list("jobs/j/state").unwrap();
    let of_tick = found.into_iter().filter(|file| file.path.contains(&format!("/c{tick:012}/")));
    of_tick.map(|file| dir.join(file.path)).collect()
}

fn ticks_of(recovery: &Recovery) -> Vec<Tick> {
    recovery.entries.iter().map(|entry| entry.record.tick).collect()
}

fn base_of(recovery: &Recovery) -> Option<Tick> {
    recovery.checkpoint.as_ref().map(|it| it.parts.tick)
}

#[test]
fn a_new_job_begins_at_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let started = start(dir.path());
    assert_eq!((started.generation(), started.is_new(), started.inputs()), (1, true, None));
    drop(started);
    let started = start(dir.path());
    assert_eq!((started.generation(), started.is_new()), (2, true), "nothing was handed to a sink yet");
    let (recovery, parts) = started.recover(&tokens(0)).unwrap();
    assert!(recovery.checkpoint.is_none() && recovery.entries.is_empty() && recovery.warnings.is_empty());
    assert!(!recovery.finished);
    assert!(restore(&*parts.states, 3).is_empty());
}

#[test]
fn a_restart_goes_on_from_the_newest_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6]);
    let started = start(dir.path());
    assert_eq!((started.generation(), started.is_new()), (2, false));
    assert_eq!(started.inputs(), Some(&inputs()));
    let (recovery, parts) = started.recover(&tokens(9)).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (Some(6), vec![7, 8, 9]));
    assert!(recovery.warnings.is_empty());
    assert_eq!(restore(&*parts.states, 3), snapshots[&6]);
}

#[test]
fn ticks_of_several_generations_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[2]);
    for tick in 5..8 {
        let (recovery, mut parts) = start(dir.path()).recover(&tokens(2)).unwrap();
        assert_eq!(ticks_of(&recovery), (3..tick).collect::<Vec<_>>());
        parts.journal.append_ticks(&[entry(tick, 0)]).unwrap();
    }
}

#[test]
fn a_process_that_was_paused_learns_that_another_has_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[]);
    let first = start(dir.path());
    let succession = first.succession();
    assert!(succession.fenced().is_none());
    // As on a store that another host shares: the lock keeps nobody out.
    std::fs::remove_file(dir.path().join("jobs/j/LOCK")).unwrap();
    let second = start(dir.path());
    let fenced = succession.fenced().unwrap();
    assert!(matches!(&fenced, StateError::Fenced(by) if by.contains(&second.generation().to_string())), "{fenced}");
    assert!(second.succession().fenced().is_none());
}

#[test]
fn a_job_without_a_checkpoint_derives_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 4, &[]);
    let (recovery, _) = start(dir.path()).recover(&tokens(0)).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (None, vec![1, 2, 3, 4]));
}

#[test]
fn a_finished_job_says_so() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 3, &[]);
    let (_, mut running) = start(dir.path()).recover(&tokens(3)).unwrap();
    running.journal.append_checkpoint(CheckpointParts { finished: true, ..parts(3, vec![]) }).unwrap();
    drop(running);
    assert!(start(dir.path()).recover(&tokens(3)).unwrap().0.finished);
    // A sink that went back is not finished.
    assert!(!start(dir.path()).recover(&tokens(2)).unwrap().0.finished);
}

#[test]
fn broken_state_files_lead_to_the_checkpoint_before_and_are_named() {
    type Break = fn(&Path);
    let breaks: [Break; 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        },
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
    ];
    for breaking in breaks {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = run(dir.path(), 9, &[3, 6]);
        let victim = state_files(dir.path(), 6).remove(0);
        breaking(&victim);
        let (recovery, parts) = start(dir.path()).recover(&tokens(9)).unwrap();
        assert_eq!((base_of(&recovery), ticks_of(&recovery)), (Some(3), (4..=9).collect()));
        let [warning] = &recovery.warnings[..] else { panic!("{:?}", recovery.warnings) };
        let victim = victim.to_str().unwrap();
        assert!(
            warning
                .starts_with(&format!("the checkpoint at tick 6 (log record 10) cannot be used: state file {victim} "))
        );
        assert!(
            warning.ends_with("; going on from the one at tick 3 (log record 6), 6 ticks are derived again"),
            "{warning}"
        );
        assert_eq!(restore(&*parts.states, 1), snapshots[&3]);
    }
}

#[test]
fn one_file_under_many_checkpoints_is_one_warning() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[2, 3, 4, 5, 6]);
    let victim = state_files(dir.path(), 3).remove(0);
    std::fs::write(&victim, b"rubbish").unwrap();
    let (recovery, _) = start(dir.path()).recover(&tokens(9)).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (Some(2), (3..=9).collect()));
    let [warning] = &recovery.warnings[..] else { panic!("{:?}", recovery.warnings) };
    assert!(warning.starts_with("4 checkpoints at ticks 3 to 6 (log records"), "{warning}");
    assert!(
        warning.ends_with("; going on from the one at tick 2 (log record 5), 7 ticks are derived again"),
        "{warning}"
    );
}

#[test]
fn without_any_state_the_journal_gives_it_all_again() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3, 6]);
    std::fs::remove_dir_all(dir.path().join("jobs/j/state")).unwrap();
    let (recovery, parts) = start(dir.path()).recover(&tokens(9)).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (None, (1..=9).collect()));
    assert_eq!(recovery.warnings.len(), 2);
    assert!(restore(&*parts.states, 1).is_empty());
}

#[test]
fn a_token_that_went_back_selects_an_older_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6]);
    let mut back = tokens(9);
    back[1].tick = 4;
    let (recovery, parts) = start(dir.path()).recover(&back).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (Some(3), (4..=9).collect()));
    assert!(recovery.warnings[0].contains("the sink went back"), "{:?}", recovery.warnings);
    assert_eq!(restore(&*parts.states, 2), snapshots[&3]);
}

#[test]
fn a_token_ahead_of_the_log_stops_the_job() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 9, &[3]);
    let error = start(dir.path()).recover(&tokens(10)).err().unwrap();
    assert!(matches!(&error, StateError::Damaged { reason, .. } if reason.contains("records at its end")), "{error}");
}

#[test]
fn another_build_may_only_go_on_from_a_drained_job() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 6, &[3]);
    let upgraded = || {
        let spec = JobSpec { build: "build-2".into(), ..spec() };
        JobState::open(store(dir.path()), spec).unwrap().start().unwrap()
    };
    let error = upgraded().recover(&tokens(6)).err().unwrap();
    assert!(matches!(&error, StateError::BuildChanged { first: 4, last: 6, .. }), "{error}");
    let (_, mut running) = start(dir.path()).recover(&tokens(6)).unwrap();
    running.journal.append_checkpoint(parts(6, vec![])).unwrap();
    drop(running);
    let (recovery, _) = upgraded().recover(&tokens(6)).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (Some(6), vec![]));
}

#[test]
fn starting_over_is_a_new_incarnation_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 6, &[3]);
    let old = open(dir.path()).file().incarnation.clone();
    let fresh = JobSpec { begin: Begin::Fresh, plan: "plan-2".into(), ..spec() };
    let started = JobState::open(store(dir.path()), fresh).unwrap().start().unwrap();
    assert_ne!(started.incarnation(), old);
    assert_eq!((started.generation(), started.is_new(), started.inputs()), (1, true, None));
    let (recovery, parts) = started.recover(&tokens(0)).unwrap();
    assert!(recovery.checkpoint.is_none() && recovery.entries.is_empty());
    assert!(restore(&*parts.states, 1).is_empty());
}

#[test]
#[should_panic(expected = "had rows in tick")]
fn a_checkpoint_that_a_lane_does_not_cover_is_never_published() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut running) = start(dir.path()).recover(&tokens(0)).unwrap();
    running.journal.append_ticks(&[entry(1, 1), entry(2, 1)]).unwrap();
    let _ = running.journal.append_checkpoint(CheckpointParts { tokens: tokens(1), ..parts(2, vec![]) });
}

#[test]
fn a_lane_without_rows_covers_a_checkpoint_and_stays_usable() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut running) = start(dir.path()).recover(&tokens(0)).unwrap();
    running.journal.append_ticks(&[entry(1, 1), entry(2, 0), entry(3, 1)]).unwrap();
    running.journal.append_checkpoint(CheckpointParts { tokens: tokens(1), ..parts(2, vec![]) }).unwrap();
    drop(running);
    let (recovery, _) = start(dir.path()).recover(&tokens(1)).unwrap();
    assert_eq!((base_of(&recovery), ticks_of(&recovery)), (Some(2), vec![3]));
}

#[test]
fn a_large_record_is_one_readable_object() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut running) = start(dir.path()).recover(&tokens(0)).unwrap();
    let entries: Vec<_> = (1..=5000).map(|tick| entry(tick, 1)).collect();
    running.journal.append_ticks(&entries).unwrap();
    drop(running);
    let (recovery, _) = start(dir.path()).recover(&tokens(0)).unwrap();
    assert_eq!(recovery.entries, entries);
}

#[derive(Clone, Debug)]
enum Act {
    Set(u16, i64, Option<Option<String>>),
    Freeze { workers: usize, publish: bool },
    Restart { workers: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let value = proptest::option::weighted(0.7, proptest::option::weighted(0.9, "[a-zä]{0,12}"));
    prop_oneof![
        12 => (0..SHARDS, 0..12i64, value).prop_map(|(shard, key, value)| Act::Set(shard, key, value)),
        3 => (1..4usize, any::<bool>()).prop_map(|(workers, publish)| Act::Freeze { workers, publish }),
        1 => (1..6usize).prop_map(|workers| Act::Restart { workers }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Upserts and deletes, checkpoints published or not, restarts with any number of workers: what is restored is what a
    /// plain map held when the last published checkpoint was frozen.
    #[test]
    fn what_is_restored_is_what_was_there(acts in proptest::collection::vec(act(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut published = (0, Rows::new());
        let (_, mut running) = start(dir.path()).recover(&tokens(0)).unwrap();
        let mut tick = 0;
        for act in acts {
            match act {
                Act::Set(shard, key, value) => model.set(shard, key, value),
                Act::Freeze { workers, publish } => {
                    tick += 1;
                    running.journal.append_ticks(&[entry(tick, 1)]).unwrap();
                    let files = model.freeze(&*running.states, tick, workers);
                    if publish {
                        running.journal.append_checkpoint(parts(tick, files)).unwrap();
                        published = (tick, model.rows.clone());
                    }
                }
                Act::Restart { workers } => {
                    drop(running);
                    let (recovery, parts) = start(dir.path()).recover(&tokens(tick)).unwrap();
                    prop_assert_eq!(base_of(&recovery).unwrap_or(0), published.0);
                    prop_assert_eq!(ticks_of(&recovery), (published.0 + 1..=tick).collect::<Vec<_>>());
                    let rows = restore(&*parts.states, workers);
                    prop_assert_eq!(&rows, &published.1);
                    model = Model { rows, dirty: BTreeSet::new() };
                    running = parts;
                }
            }
        }
    }
}

/// Without locks a start must overtake a process that appends while the start looks at the log.
#[test]
fn a_start_overtakes_a_process_that_commits_all_the_time() {
    let objects: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let open = || JobState::open(Store::over(objects.clone(), None), spec()).unwrap();
    let mut first = open().start().unwrap();
    first.append_inputs(inputs()).unwrap();
    let (_, mut parts) = first.recover(&[]).unwrap();
    // Enough for a second look at the whole log to take much longer than an append.
    for tick in 1..=300 {
        parts.journal.append_ticks(&[entry(tick, 0)]).unwrap();
    }
    let running = std::thread::spawn(move || {
        (301..).find_map(|tick| {
            // The pace of its commits, many times faster than reading the log.
            std::thread::park_timeout(std::time::Duration::from_millis(2));
            parts.journal.append_ticks(&[entry(tick, 0)]).err().map(|error| (tick, error))
        })
    });
    let second = open().start().unwrap();
    let (tick, error) = running.join().unwrap().unwrap();
    assert!(error.to_string().contains("generation 2"), "{error}");
    assert_eq!((second.generation(), second.is_new(), second.inputs()), (2, false, Some(&inputs())));
    let (recovery, _) = second.recover(&[]).unwrap();
    assert_eq!(ticks_of(&recovery), (1..tick).collect::<Vec<_>>(), "everything that was appended before counts");
}

/// Without locks nobody keeps a job from being begun anew while it runs.
#[test]
fn who_runs_a_job_that_is_begun_anew_ends_and_leaves_nothing_behind() {
    let objects: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let store = || Store::over(objects.clone(), None);
    let begin = |begin| {
        let mut started = JobState::open(store(), JobSpec { begin, ..spec() }).unwrap().start().unwrap();
        if started.inputs().is_none() {
            started.append_inputs(inputs()).unwrap();
        }
        started.recover(&[]).unwrap()
    };
    let (_, mut old) = begin(Begin::Continue);
    for tick in 1..=20 {
        old.journal.append_ticks(&[entry(tick, 0)]).unwrap();
    }
    let (_, mut new) = begin(Begin::Fresh);
    new.journal.append_ticks(&[entry(1, 0)]).unwrap();
    let log = || store().list("jobs/j/log").unwrap().len();
    assert_eq!(log(), 3, "generation, inputs, a tick");
    for _ in 0..2 {
        let error = old.journal.append_ticks(&[entry(21, 0)]).unwrap_err();
        assert!(error.to_string().contains("begun anew"), "{error}");
    }
    assert_eq!(log(), 3, "its record is gone");
    for tick in 2..=30 {
        new.journal.append_ticks(&[entry(tick, 0)]).unwrap();
    }
    let (recovery, _) = begin(Begin::Continue);
    assert_eq!(ticks_of(&recovery), (1..=30).collect::<Vec<_>>());
    // And once more: the mark of the incarnation before does not fence the next one.
    let (_, mut next) = begin(Begin::Fresh);
    next.journal.append_ticks(&[entry(1, 0)]).unwrap();
    assert!(new.journal.append_ticks(&[entry(31, 0)]).is_err());
}
