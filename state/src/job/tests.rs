use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::{Array, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt16Array};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, UInt16Type};
use proptest::prelude::*;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::journal::{CheckpointParts, FrozenPart, JournalEntry, LaneDigest, StateFile};
use riverrun_dataflow::key::worker_of;
use riverrun_dataflow::operator::{FrozenTable, TableSpec};
use riverrun_dataflow::source::SplitSpec;
use riverrun_dataflow::tick::{Tick, TickRecord, Timeline};

use super::*;
use crate::folder::Begin;
use crate::record::InputSplit;

const SHARDS: u16 = 8;
const TABLE: &str = "t";

fn spec() -> JobSpec {
    JobSpec {
        job: "j".into(),
        plan: "plan-1".into(),
        build: "build-1".into(),
        shards: SHARDS,
        lanes: BTreeMap::from([("out".into(), 2)]),
        begin: Begin::Continue,
        holder: Holder { host: "here".into(), pid: 7, workers: 1 },
    }
}

fn open(dir: &Path) -> JobState {
    JobState::open(Store::folder(dir).unwrap(), spec()).unwrap()
}

fn start(dir: &Path) -> Started {
    open(dir).start().unwrap()
}

fn entry(tick: Tick, lane_rows: u64) -> JournalEntry {
    let record =
        TickRecord { tick, now: 0, watermarks: vec![EventTime(0)], splits: vec![], last: false, checkpoint: false };
    let lanes = (0..2).filter(|_| lane_rows > 0).map(|lane| LaneDigest { sink: 0, lane, rows: lane_rows, xxh3: tick });
    JournalEntry { record, lanes: lanes.collect(), balance: BTreeMap::new() }
}

fn tokens(tick: Tick) -> Vec<LaneToken> {
    (0..2).map(|lane| LaneToken { sink: 0, lane, tick }).collect()
}

fn parts(tick: Tick, files: Vec<StateFile>) -> CheckpointParts {
    CheckpointParts {
        tick,
        before: Timeline { tick, ..Timeline::start(1, 0) },
        recent: vec![],
        files,
        tokens: tokens(tick),
        balance: BTreeMap::new(),
        finished: false,
        cpu_micros: 0,
    }
}

fn table_spec() -> TableSpec {
    let schema = Schema::new(vec![
        Field::new("shard", DataType::UInt16, false),
        Field::new("op", DataType::Int8, false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    TableSpec { name: TABLE, schema: Arc::new(schema), key_columns: 1 }
}

type Rows = BTreeMap<(u16, i64), Option<String>>;

fn batch(rows: &[(u16, i8, i64, Option<String>)]) -> RecordBatch {
    RecordBatch::try_new(
        table_spec().schema,
        vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<UInt16Array>()),
            Arc::new(rows.iter().map(|r| r.1).collect::<Int8Array>()),
            Arc::new(rows.iter().map(|r| r.2).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| r.3.clone()).collect::<StringArray>()),
        ],
    )
    .unwrap()
}

/// The table that an operator would keep, whole.
#[derive(Clone, Default)]
struct Model {
    rows: Rows,
    dirty: BTreeSet<(u16, i64)>,
}

impl Model {
    fn set(&mut self, shard: u16, key: i64, value: Option<Option<String>>) {
        match value {
            Some(value) => drop(self.rows.insert((shard, key), value)),
            None => drop(self.rows.remove(&(shard, key))),
        }
        self.dirty.insert((shard, key));
    }

    /// Freezes as `workers` workers, each into two batches in no order.
    fn freeze(&mut self, states: &dyn StateStore, tick: Tick, workers: usize) -> Vec<StateFile> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut files = Vec::new();
        for worker in 0..workers {
            let rebased = states.rebase("s", &[TABLE], worker, workers).remove(0);
            let owned = |shard: u16| worker_of(shard, SHARDS, workers) == worker;
            assert!(rebased.iter().all(|shard| owned(*shard)));
            let changed = dirty.iter().rev().filter(|(shard, _)| owned(*shard) && !rebased.contains(shard));
            let delta: Vec<_> = changed
                .map(|(shard, key)| match self.rows.get(&(*shard, *key)) {
                    Some(value) => (*shard, 1, *key, value.clone()),
                    None => (*shard, 0, *key, None),
                })
                .collect();
            let all = self.rows.iter().rev().filter(|((shard, _), _)| rebased.contains(shard));
            let base: Vec<_> = all.map(|((shard, key), value)| (*shard, 1, *key, value.clone())).collect();
            let halves = |rows: &[(u16, i8, i64, Option<String>)]| {
                let (left, right) = rows.split_at(rows.len() / 2);
                if rows.is_empty() { vec![] } else { vec![batch(right), batch(left)] }
            };
            let frozen = vec![FrozenTable { delta: halves(&delta), base: halves(&base) }];
            let tables = vec![table_spec()];
            let part = FrozenPart { tick, step: "s".into(), worker, tables, frozen, rebased: vec![rebased] };
            files.extend(states.write(part).unwrap());
        }
        files
    }
}

/// What `workers` workers restore, in the order in which they are given it.
fn restore(states: &dyn StateStore, workers: usize) -> Rows {
    let mut rows = Rows::new();
    for worker in 0..workers {
        for batch in states.read("s", TABLE, worker, workers).unwrap() {
            let shards = batch.column(0).as_primitive::<UInt16Type>();
            let ops = batch.column(1).as_primitive::<Int8Type>();
            let keys = batch.column(2).as_primitive::<Int64Type>();
            let values = batch.column(3).as_string::<i32>();
            for row in 0..batch.num_rows() {
                assert_eq!(worker_of(shards.value(row), SHARDS, workers), worker, "a worker gets its shards only");
                let place = (shards.value(row), keys.value(row));
                match ops.value(row) {
                    1 => drop(rows.insert(place, values.is_valid(row).then(|| values.value(row).to_string()))),
                    _ => drop(rows.remove(&place)),
                }
            }
        }
    }
    rows
}

/// A job that ran ticks 1 to `ticks`, with a checkpoint after each of `at`; returns the rows at each checkpoint.
fn run(dir: &Path, ticks: Tick, at: &[Tick]) -> BTreeMap<Tick, Rows> {
    let mut started = start(dir);
    started.append_inputs(inputs()).unwrap();
    let (_, mut parts_of) = started.recover(&[]).unwrap();
    let mut model = Model::default();
    let mut snapshots = BTreeMap::new();
    for tick in 1..=ticks {
        model.set((tick % 8) as u16, tick as i64 % 5, Some(Some(format!("v{tick}"))));
        parts_of.journal.append_ticks(&[entry(tick, 1)]).unwrap();
        if at.contains(&tick) {
            let files = model.freeze(&*parts_of.states, tick, 2);
            parts_of.journal.append_checkpoint(parts(tick, files)).unwrap();
            snapshots.insert(tick, model.rows.clone());
        }
    }
    snapshots
}

fn inputs() -> Inputs {
    let spec = SplitSpec { name: "0".into(), start: 3, end: Some(9), identity: "x".into() };
    Inputs { now: 7, sources: vec!["clicks".into()], splits: vec![InputSplit { id: 0, source: "clicks".into(), spec }] }
}

fn state_files(dir: &Path, tick: Tick) -> Vec<std::path::PathBuf> {
    let store = Store::folder(dir).unwrap();
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
        assert!(recovery.warnings[0].contains(victim.to_str().unwrap()), "{:?}", recovery.warnings);
        assert_eq!(restore(&*parts.states, 1), snapshots[&3]);
    }
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
        JobState::open(Store::folder(dir.path()).unwrap(), spec).unwrap().start().unwrap()
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
    let started = JobState::open(Store::folder(dir.path()).unwrap(), fresh).unwrap().start().unwrap();
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
