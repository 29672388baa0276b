//! Workers of a step that are killed at any tick and start again from a checkpoint, in another number.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{SchemaRef, UInt16Type, UInt64Type};
use proptest::prelude::*;
use riverrun_dataflow::StepTick;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{shard_of, worker_of};
use riverrun_dataflow::operator::{Operator, Outputs};
use riverrun_dataflow::schema::Hidden;

use super::{Given, TestTick, step_tick};

/// Makes the step of one worker.
pub(crate) type Make<'a> = &'a dyn Fn(ShardRange) -> Box<dyn Operator>;

/// The files of a checkpoint, as a store would keep them: per table, in the order of writing.
#[derive(Clone, Default)]
struct Store {
    tables: BTreeMap<usize, Vec<File>>,
}

#[derive(Clone)]
struct File {
    /// The shards it has in full; none for a file of changes.
    base: Option<Vec<u16>>,
    rows: RecordBatch,
}

impl Store {
    /// Returns the rows of a shard: its newest base, then the changes after it.
    fn read(&self, table: usize, shard: u16) -> Vec<RecordBatch> {
        let files = self.tables.get(&table).map_or(&[][..], Vec::as_slice);
        let newest = files.iter().rposition(|f| f.base.as_ref().is_some_and(|shards| shards.contains(&shard)));
        let files = files[newest.unwrap_or(0)..].iter();
        files.filter(|f| f.base.as_ref().is_none_or(|s| s.contains(&shard))).map(|f| of_shard(&f.rows, shard)).collect()
    }
}

fn of_shard(rows: &RecordBatch, shard: u16) -> RecordBatch {
    let shards = rows.column(0).as_primitive::<UInt16Type>();
    let mask: BooleanArray = shards.values().iter().map(|of| Some(*of == shard)).collect();
    filter_record_batch(rows, &mask).unwrap()
}

/// What happens after a tick.
#[derive(Clone, Debug)]
pub(crate) enum After {
    Nothing,
    Checkpoint(u64),
    /// All workers die; so many start again from the newest checkpoint.
    Crash(usize),
}

pub(crate) fn after() -> impl Strategy<Value = Vec<After>> {
    let one = prop_oneof![
        2 => Just(After::Nothing),
        3 => any::<u64>().prop_map(After::Checkpoint),
        2 => (1usize..5).prop_map(After::Crash),
    ];
    prop::collection::vec(one, 40)
}

/// The workers of a step with so many shards and side outputs.
pub(crate) struct Cluster<'a> {
    make: Make<'a>,
    shards: u16,
    sides: usize,
    workers: Vec<Box<dyn Operator>>,
    store: Store,
}

impl<'a> Cluster<'a> {
    pub fn new(make: Make<'a>, shards: u16, sides: usize, workers: usize) -> Cluster<'a> {
        let mut cluster = Cluster { make, shards, sides, workers: Vec::new(), store: Store::default() };
        cluster.start(workers);
        cluster
    }

    fn start(&mut self, workers: usize) {
        self.workers.clear();
        for worker in 0..workers {
            let mut state = (self.make)(ShardRange { worker, workers, shards: self.shards });
            for table in 0..state.tables().len() {
                let owned = (0..self.shards).filter(|shard| worker_of(*shard, self.shards, workers) == worker);
                let rows = owned.flat_map(|shard| self.store.read(table, shard));
                rows.for_each(|rows| state.restore(table, &rows).unwrap());
            }
            self.workers.push(state);
        }
    }

    /// Steps a tick, each worker with the rows of its shards.
    pub fn step(&mut self, inputs: &[Vec<RecordBatch>], tick: &StepTick) -> Given {
        let mut given = Given::of(self.sides);
        let (shards, workers) = (self.shards, self.workers.len());
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let owned = |batch: &RecordBatch| {
                let hashes = batch.column_by_name(Hidden::Hash.name()).unwrap().as_primitive::<UInt64Type>();
                let of = |hash: &u64| worker_of(shard_of(*hash, shards), shards, workers) == worker;
                let mask: BooleanArray = hashes.values().iter().map(|hash| Some(of(hash))).collect();
                filter_record_batch(batch, &mask).unwrap()
            };
            let inputs = inputs.iter().map(|batches| batches.iter().map(owned).collect()).collect();
            let mut out = Outputs::default();
            state.step(inputs, tick, &mut out).unwrap();
            assert!(out.counts.balances(), "{:?}", out.counts);
            given.add(&out);
        }
        given
    }

    /// Writes a checkpoint, with about one shard in three in full.
    fn freeze(&mut self, seed: u64) {
        let (shards, workers) = (self.shards, self.workers.len());
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let schemas: Vec<SchemaRef> = state.tables().into_iter().map(|table| table.schema).collect();
            let chosen =
                |table: usize, shard: u16| (seed >> ((usize::from(shard) * 7 + table * 3) % 61)).is_multiple_of(3);
            let rebase: Vec<Vec<u16>> = (0..schemas.len())
                .map(|table| {
                    let owned = (0..shards).filter(|s| worker_of(*s, shards, workers) == worker);
                    owned.filter(|shard| chosen(table, *shard)).collect()
                })
                .collect();
            for (table, frozen) in state.freeze(&rebase).unwrap().into_iter().enumerate() {
                let frozen = frozen.gather().unwrap();
                let files = self.store.tables.entry(table).or_default();
                let whole = |batches: Vec<RecordBatch>| concat_batches(&schemas[table], &batches).unwrap();
                assert!(frozen.delta.iter().all(|rows| rows.num_rows() > 0));
                files.push(File { base: None, rows: whole(frozen.delta) });
                files.push(File { base: Some(rebase[table].clone()), rows: whole(frozen.base) });
            }
        }
    }

    /// Runs ticks of test rows, see [`Cluster::run_all`]; `batches` cuts the rows of an input of a tick.
    pub fn run(
        &mut self,
        ticks: &[TestTick],
        after: Vec<After>,
        batches: &mut dyn FnMut(usize, &TestTick) -> Vec<RecordBatch>,
    ) -> Vec<Given> {
        self.run_all(ticks.len(), after, &mut |at| {
            let before = if at == 0 { i64::MIN } else { ticks[at - 1].watermark };
            let inputs = (0..ticks[at].inputs.len()).map(|input| batches(input, &ticks[at])).collect();
            (inputs, step_tick(at + 1, before, &ticks[at]))
        })
    }

    /// Runs so many ticks, with what happens after each, and returns what each gave; `tick` gives the rows of a tick by input, in
    /// another order each time it is asked. A tick that is stepped again must give what it gave.
    pub fn run_all(
        &mut self,
        ticks: usize,
        after: Vec<After>,
        tick: &mut dyn FnMut(usize) -> (Vec<Vec<RecordBatch>>, StepTick),
    ) -> Vec<Given> {
        let mut all: Vec<Given> = Vec::new();
        let mut checkpoint = (0, Store::default());
        let mut at = 0;
        let mut after = after.into_iter();
        while at < ticks {
            let (inputs, now) = tick(at);
            let given = self.step(&inputs, &now);
            match all.get(at) {
                Some(gave) => assert_eq!(*gave, given, "tick {} again", at + 1),
                None => all.push(given),
            }
            at += 1;
            match after.next().unwrap_or(After::Nothing) {
                After::Nothing => {}
                After::Checkpoint(seed) => {
                    self.freeze(seed);
                    checkpoint = (at, self.store.clone());
                }
                After::Crash(workers) => {
                    (at, self.store) = checkpoint.clone();
                    self.start(workers);
                }
            }
        }
        all
    }

    /// Returns how many rows all workers keep.
    pub fn kept(&self) -> u64 {
        self.workers.iter().flat_map(|worker| worker.sizes()).map(|size| size.rows).sum()
    }
}
