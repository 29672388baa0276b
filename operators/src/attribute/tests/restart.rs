//! Any number of workers, killed at any tick and restarted from a checkpoint with another number, give the same rows.

use std::collections::BTreeMap;

use arrow::array::UInt16Array;
use arrow::datatypes::UInt16Type;
use proptest::prelude::*;

use super::oracle::{recompute, setup, shuffled, ticks};
use super::*;

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

struct Cluster {
    setup: Setup,
    workers: Vec<AttributeState>,
}

impl Cluster {
    fn start(setup: &Setup, workers: usize, store: &Store) -> Cluster {
        let mut cluster = Cluster { setup: setup.clone(), workers: Vec::new() };
        for worker in 0..workers {
            let mut state = setup.attribute().on(ShardRange { worker, workers, shards: setup.shards });
            for table in 0..state.tables().len() {
                let owned = (0..setup.shards).filter(|shard| worker_of(*shard, setup.shards, workers) == worker);
                owned.flat_map(|shard| store.read(table, shard)).for_each(|rows| state.restore(table, &rows).unwrap());
            }
            cluster.workers.push(state);
        }
        cluster
    }

    fn step(&mut self, number: u64, before: i64, tick: &TestTick, seed: &mut u64) -> Given {
        let mut given = Given::default();
        let workers = self.workers.len();
        for worker in 0..workers {
            let owned = |rows: &[Row]| -> Vec<Row> {
                let shards = self.setup.shards_of(rows);
                let of = |shard: u16| worker_of(shard, self.setup.shards, workers) == worker;
                rows.iter().zip(shards).filter(|(_, shard)| of(*shard)).map(|(row, _)| row.clone()).collect()
            };
            let orders = shuffled(&self.setup, "order", &owned(&tick.orders), seed);
            let clicks = shuffled(&self.setup, "click", &owned(&tick.clicks), seed);
            let mut out = Outputs::default();
            self.workers[worker].step(vec![orders, clicks], &step_tick(number, before, tick), &mut out).unwrap();
            given.add(&out);
        }
        given
    }

    /// Writes a checkpoint, with about one shard in three in full.
    fn freeze(&mut self, store: &mut Store, seed: u64) {
        let workers = self.workers.len();
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let schemas: Vec<SchemaRef> = state.tables().into_iter().map(|table| table.schema).collect();
            let chosen =
                |table: usize, shard: u16| (seed >> ((usize::from(shard) * 7 + table * 3) % 61)).is_multiple_of(3);
            let rebase: Vec<Vec<u16>> = (0..schemas.len())
                .map(|table| {
                    let owned = (0..self.setup.shards).filter(|s| worker_of(*s, self.setup.shards, workers) == worker);
                    owned.filter(|shard| chosen(table, *shard)).collect()
                })
                .collect();
            for (table, frozen) in state.freeze(&rebase).unwrap().into_iter().enumerate() {
                let frozen = frozen.gather().unwrap();
                let files = store.tables.entry(table).or_default();
                let whole =
                    |batches: Vec<RecordBatch>| arrow::compute::concat_batches(&schemas[table], &batches).unwrap();
                assert!(frozen.delta.iter().all(|rows| rows.num_rows() > 0));
                files.push(File { base: None, rows: whole(frozen.delta) });
                files.push(File { base: Some(rebase[table].clone()), rows: whole(frozen.base) });
            }
        }
    }
}

/// What happens after a tick.
#[derive(Clone, Debug)]
enum After {
    Nothing,
    Checkpoint(u64),
    /// All workers die; so many start again from the newest checkpoint.
    Crash(usize),
}

fn after() -> impl Strategy<Value = Vec<After>> {
    let one = prop_oneof![
        2 => Just(After::Nothing),
        3 => any::<u64>().prop_map(After::Checkpoint),
        2 => (1usize..5).prop_map(After::Crash),
    ];
    prop::collection::vec(one, 40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn killed_workers_restarted_from_a_checkpoint_give_the_same_rows(
        setup in setup(), ticks in ticks(), after in after(), workers in 1usize..5, mut seed in any::<u64>(),
    ) {
        let wanted = recompute(&setup, &ticks);
        let mut store = Store::default();
        let mut checkpoint = (0, Store::default());
        let mut cluster = Cluster::start(&setup, workers, &store);
        let mut at = 0;
        let mut after = after.into_iter();
        while at < ticks.len() {
            let before = if at == 0 { i64::MIN } else { ticks[at - 1].watermark };
            let given = cluster.step(at as u64 + 1, before, &ticks[at], &mut seed);
            prop_assert_eq!(&given, &wanted[at], "tick {}", at + 1);
            at += 1;
            match after.next().unwrap_or(After::Nothing) {
                After::Nothing => {}
                After::Checkpoint(seed) => {
                    cluster.freeze(&mut store, seed);
                    checkpoint = (at, store.clone());
                }
                After::Crash(workers) => {
                    (at, store) = checkpoint.clone();
                    cluster = Cluster::start(&setup, workers, &store);
                }
            }
        }
        for worker in &cluster.workers {
            prop_assert_eq!(worker.kept(), [0, 0, 0]);
        }
    }
}

#[test]
fn a_checkpoint_writes_what_is_new_and_still_needed() {
    let setup = Setup { dedupe_ms: Some(10_000), ..Setup::default() };
    let mut runner = Runner::new(setup);
    let rows = |from: i64| -> Vec<Row> { (from..from + 100).map(|n| row(n * 10, &format!("{n}"))).collect() };
    let written = |state: &mut AttributeState, shards: &[u16]| -> Vec<(usize, usize)> {
        let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum();
        let frozen = state.freeze(&vec![shards.to_vec(); 3]).unwrap();
        let frozen: Vec<_> = frozen.into_iter().map(|table| table.gather().unwrap()).collect();
        frozen.iter().map(|table| (count(&table.delta), count(&table.base))).collect()
    };
    runner.step(&rows(0), &rows(0), 500);
    assert_eq!(written(&mut runner.state, &[]), [(100, 0), (50, 0), (100, 0)]);
    assert_eq!(written(&mut runner.state, &[]), [(0, 0); 3]);
    runner.step(&rows(100), &rows(100), 1500);
    assert_eq!(written(&mut runner.state, &[]), [(100, 0), (50, 0), (100, 0)]);
    // A shard in full is not among the changes; there is one key, so all rows are of one shard.
    runner.step(&rows(200), &rows(200), 1500);
    assert_eq!(written(&mut runner.state, &(0..8).collect::<Vec<_>>()), [(0, 300), (0, 150), (0, 300)]);
    // What came and went between two checkpoints is never written.
    runner.step(&rows(300), &rows(300), 100_000);
    assert_eq!(written(&mut runner.state, &[]), [(0, 0); 3]);
}

#[test]
fn stored_rows_that_cannot_be_this_workers_are_refused() {
    let setup = Setup::default();
    let mut runner = Runner::new(setup.clone());
    runner.step(&[row(10, "o")], &[row(10, "c")], 0);
    let rows = runner.state.freeze(&[vec![], vec![]]).unwrap().remove(0).gather().unwrap().delta[0].clone();
    let refused = |range: ShardRange, table: usize, rows: &RecordBatch| {
        let error = setup.attribute().on(range).restore(table, rows).unwrap_err();
        assert!(matches!(error, StepError::State(_)), "{error}");
        error.to_string()
    };
    let whole = ShardRange { worker: 0, workers: 1, shards: 8 };
    setup.attribute().on(whole).restore(0, &rows).unwrap();
    let owner = worker_of(setup.shards_of(&[row(10, "c")])[0], 8, 2);
    assert!(refused(ShardRange { worker: 1 - owner, workers: 2, shards: 8 }, 0, &rows).contains("was given to worker"));
    assert!(refused(whole, 2, &rows).contains("no table 2"));
    assert!(refused(whole, 0, &rows.project(&[0, 1]).unwrap()).contains("stored columns"));
    let mut columns = rows.columns().to_vec();
    columns[0] = Arc::new(UInt16Array::from(vec![7 - setup.shards_of(&[row(10, "c")])[0]]));
    assert!(
        refused(whole, 0, &RecordBatch::try_new(rows.schema(), columns).unwrap()).contains("stored as one of shard")
    );
}

#[test]
fn a_user_column_named_like_the_states_own_is_told_apart() {
    let columns = ["shard", "op", "shard_", "user"].map(|name| Field::new(name, DataType::Utf8, true));
    let schema = with_hidden(&columns, &[Hidden::Time]);
    let layout = Layout::new(&schema, (0..5).collect(), &[3]).unwrap();
    let names: Vec<String> = layout.state_schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["shard", "op", "shard_", "op_", "shard__", "user", "__time"]);
}
