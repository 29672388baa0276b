//! A job with one table, run by hand against a plain map.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt16Array};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, UInt16Type};
use object_store::local::LocalFileSystem;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::journal::{
    CheckpointParts, FrozenPart, JournalEntry, JournalError, LaneDigest, LaneToken, StateFile, StateStore,
};
use riverrun_dataflow::key::worker_of;
use riverrun_dataflow::operator::{FrozenTable, TableSpec};
use riverrun_dataflow::source::SplitSpec;
use riverrun_dataflow::tick::{Tick, TickRecord, Timeline};

use crate::folder::{Begin, Holder, JobSpec, SinkLanes};
use crate::job::{JobState, Started};
use crate::record::{InputSplit, Inputs};
use crate::store::Store;

pub const SHARDS: u16 = 8;
pub const TABLE: &str = "t";

pub fn spec() -> JobSpec {
    JobSpec {
        job: "j".into(),
        plan: "plan-1".into(),
        build: "build-1".into(),
        shards: SHARDS,
        lanes: vec![SinkLanes { sink: "out".into(), lanes: 2 }],
        begin: Begin::Continue,
        holder: Holder { host: "here".into(), pid: 7, workers: 1 },
    }
}

/// A local folder that is not flushed: these tests are about what is written, not about when it is on the disk.
pub fn store(dir: &Path) -> Store {
    let local = LocalFileSystem::new_with_prefix(dir).unwrap().with_automatic_cleanup(true);
    Store::over(Arc::new(local), Some(dir.to_path_buf()))
}

pub fn open(dir: &Path) -> JobState {
    JobState::open(store(dir), spec()).unwrap()
}

pub fn start(dir: &Path) -> Started {
    open(dir).start().unwrap()
}

pub fn entry(tick: Tick, lane_rows: u64) -> JournalEntry {
    let record =
        TickRecord { tick, now: 0, watermarks: vec![EventTime(0)], splits: vec![], last: false, checkpoint: false };
    let lanes = (0..2).filter(|_| lane_rows > 0).map(|lane| LaneDigest { sink: 0, lane, rows: lane_rows, xxh3: tick });
    JournalEntry { record, lanes: lanes.collect(), balance: BTreeMap::new() }
}

pub fn tokens(tick: Tick) -> Vec<LaneToken> {
    (0..2).map(|lane| LaneToken { sink: 0, lane, tick }).collect()
}

pub fn parts(tick: Tick, files: Vec<StateFile>) -> CheckpointParts {
    CheckpointParts {
        tick,
        before: Timeline { tick, ..Timeline::start(1, 0) },
        recent: vec![],
        files,
        tokens: tokens(tick),
        balance: BTreeMap::new(),
        finished: false,
        pause_micros: 0,
        cpu_micros: 0,
    }
}

pub fn table_spec() -> TableSpec {
    let schema = Schema::new(vec![
        Field::new("shard", DataType::UInt16, false),
        Field::new("op", DataType::Int8, false),
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    TableSpec { name: TABLE, schema: Arc::new(schema), key_columns: 1 }
}

pub type Rows = BTreeMap<(u16, i64), Option<String>>;

pub fn batch(rows: &[(u16, i8, i64, Option<String>)]) -> RecordBatch {
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
pub struct Model {
    pub rows: Rows,
    pub dirty: BTreeSet<(u16, i64)>,
}

impl Model {
    pub fn set(&mut self, shard: u16, key: i64, value: Option<Option<String>>) {
        match value {
            Some(value) => drop(self.rows.insert((shard, key), value)),
            None => drop(self.rows.remove(&(shard, key))),
        }
        self.dirty.insert((shard, key));
    }

    /// Freezes as `workers` workers, each into two batches in no order.
    pub fn freeze(&mut self, states: &dyn StateStore, tick: Tick, workers: usize) -> Vec<StateFile> {
        self.try_freeze(states, tick, workers).unwrap()
    }

    pub fn try_freeze(
        &mut self,
        states: &dyn StateStore,
        tick: Tick,
        workers: usize,
    ) -> Result<Vec<StateFile>, JournalError> {
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
            files.extend(states.write(part)?);
        }
        Ok(files)
    }
}

/// What one of `workers` workers restores of a step's table.
pub fn read(states: &dyn StateStore, step: &str, worker: usize, workers: usize) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut take = |rows| {
        batches.push(rows);
        ControlFlow::Continue(())
    };
    states.read(step, TABLE, worker, workers, &mut take).unwrap();
    batches
}

/// What `workers` workers restore, in the order in which they are given it.
pub fn restore(states: &dyn StateStore, workers: usize) -> Rows {
    let mut rows = Rows::new();
    for worker in 0..workers {
        for batch in read(states, "s", worker, workers) {
            let shards = batch.column(0).as_primitive::<UInt16Type>();
            let owned = |shard: &u16| worker_of(*shard, SHARDS, workers) == worker;
            assert!(shards.values().iter().all(owned), "a worker gets its shards only");
            apply(&mut rows, &batch);
        }
    }
    rows
}

/// Puts rows of the table back into `rows`.
pub fn apply(rows: &mut Rows, batch: &RecordBatch) {
    let shards = batch.column(0).as_primitive::<UInt16Type>();
    let ops = batch.column(1).as_primitive::<Int8Type>();
    let keys = batch.column(2).as_primitive::<Int64Type>();
    let values = batch.column(3).as_string::<i32>();
    for row in 0..batch.num_rows() {
        let place = (shards.value(row), keys.value(row));
        match ops.value(row) {
            1 => drop(rows.insert(place, values.is_valid(row).then(|| values.value(row).to_string()))),
            _ => drop(rows.remove(&place)),
        }
    }
}

/// A job that ran ticks 1 to `ticks`, with a checkpoint after each of `at`; returns the rows at each checkpoint.
pub fn run(dir: &Path, ticks: Tick, at: &[Tick]) -> BTreeMap<Tick, Rows> {
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

pub fn inputs() -> Inputs {
    let spec = SplitSpec { name: "0".into(), start: 3, end: Some(9), identity: "x".into() };
    let splits = vec![InputSplit { id: 0, source: "clicks".into(), spec }];
    Inputs { now: 7, sources: vec!["clicks".into()], splits, free_split: 0, shape: None, asked: None, recorded: None }
}
