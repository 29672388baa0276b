//! Any rows in any ticks, with restarts between them, give what plain maps give.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, StringArray, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};
use riverrun_dataflow::schema::with_hidden;
use serde::Deserialize;

use super::*;

const SHARDS: u16 = 8;

/// A machine with all that machines do: it adds up, ends at a zero, fires twice after its last row, and may have no time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Toy {
    last: i64,
    sum: i64,
    fired: u32,
}

impl Toy {
    fn feed(&mut self, time: i64, value: i64) -> Left {
        if value == 0 {
            *self = Toy::default();
            return Left::NOTHING;
        }
        self.last = self.last.max(time);
        self.sum += value;
        let due = (self.sum % 5 != 0).then_some(self.last + 10);
        Left { size: self.sum.unsigned_abs() as usize % 7 + 1, due }
    }

    fn wake(&mut self) -> Left {
        self.fired += 1;
        match self.fired {
            1 => Left { size: 1, due: Some(self.last + 20) },
            _ => Left::NOTHING,
        }
    }
}

type Key = (Option<String>, i64);

#[derive(Clone, Debug)]
struct Row {
    key: Key,
    time: i64,
    value: i64,
}

#[derive(Clone, Debug)]
struct Tick {
    rows: Vec<Row>,
    to: i64,
    /// 0: nothing; 1: a checkpoint; more: and a restart with so many workers.
    after: usize,
    rebase: Vec<u16>,
}

fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    let key = (prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "ключ"])), 0i64..3);
    let row = (key, -20i64..60, -3i64..5).prop_map(|((name, number), time, value)| Row {
        key: (name.map(str::to_owned), number),
        time,
        value,
    });
    let tick = (prop::collection::vec(row, 0..20), 0i64..15, 0usize..5, prop::collection::vec(0..SHARDS, 0..5));
    prop::collection::vec(tick, 1..9).prop_map(|ticks| {
        let mut to = -10;
        let one = |(rows, step, after, rebase)| {
            to += step;
            Tick { rows, to, after, rebase }
        };
        ticks.into_iter().map(one).collect()
    })
}

fn fields() -> Vec<Field> {
    vec![Field::new("name", DataType::Utf8, true), Field::new("number", DataType::Int64, true)]
}

fn batch(rows: &[Row], few: Option<u64>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key.0.clone()).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.key.1))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.time))),
        Arc::new(UInt64Array::from(vec![0; rows.len()])),
    ];
    let schema = with_hidden(&fields(), &[Hidden::Time, Hidden::Hash]);
    let plain = RecordBatch::try_new(schema.clone(), columns.clone()).unwrap();
    let hashes = Keys::of(&plain, &[0, 1]).unwrap().hashes.into_iter().map(|hash| few.map_or(hash, |few| hash % few));
    columns[3] = Arc::new(UInt64Array::from_iter_values(hashes));
    RecordBatch::try_new(schema, columns).unwrap()
}

fn hash_of(row: &Row, few: Option<u64>) -> u64 {
    batch(std::slice::from_ref(row), few).column(3).as_primitive::<UInt64Type>().value(0)
}

struct World {
    workers: Vec<KeyedState<Toy>>,
    few: Option<u64>,
    stored: Vec<RecordBatch>,
}

impl World {
    fn new(workers: usize, few: Option<u64>) -> World {
        let mut world = World { workers: Vec::new(), few, stored: Vec::new() };
        world.start(workers);
        world
    }

    fn start(&mut self, workers: usize) {
        let range = |worker| ShardRange { worker, workers, shards: SHARDS };
        self.workers = (0..workers).map(|worker| KeyedState::new("toys", fields(), range(worker))).collect();
    }

    /// Returns what fired, worker by worker in the order of firing.
    fn step(&mut self, tick: &Tick) -> Vec<String> {
        let mut fired = Vec::new();
        let count = self.workers.len();
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let own = |row: &&Row| worker_of(shard_of(hash_of(row, self.few), SHARDS), SHARDS, count) == worker;
            let rows: Vec<Row> = tick.rows.iter().filter(own).cloned().collect();
            let slots = state.slots(&batch(&rows, self.few), &[0, 1]).unwrap();
            for (row, slot) in rows.iter().zip(slots) {
                state.update(slot, |toy| Ok::<_, StepError>(toy.feed(row.time, row.value))).unwrap();
            }
            let mut woken = Vec::new();
            state
                .fire(EventTime(tick.to), &Pulse::default(), |slot, toy| {
                    woken.push((slot, toy.clone()));
                    Ok::<_, StepError>(toy.wake())
                })
                .unwrap();
            let keys = state.keys(&woken.iter().map(|(slot, _)| *slot).collect::<Vec<_>>());
            fired.extend(woken.iter().enumerate().map(|(at, (_, toy))| show(&keys, at, toy)));
            state.tidy().unwrap();
        }
        fired
    }

    fn freeze(&mut self, rebase: &[u16]) {
        let others = |rows: &RecordBatch| -> BooleanArray {
            let shards = rows.column(0).as_primitive::<arrow::datatypes::UInt16Type>().values().iter();
            shards.map(|shard| Some(!rebase.contains(shard))).collect()
        };
        self.stored = self.stored.iter().map(|rows| filter_record_batch(rows, &others(rows)).unwrap()).collect();
        for state in &mut self.workers {
            let frozen = state.freeze(rebase).unwrap();
            assert!(frozen.delta.iter().all(|rows| others(rows).false_count() == 0));
            assert!(frozen.base.iter().all(|rows| others(rows).true_count() == 0));
            self.stored.extend(frozen.base.into_iter().chain(frozen.delta));
            let again = state.freeze(&[]).unwrap();
            assert!(again.delta.is_empty() && again.base.is_empty(), "nothing changed since");
        }
    }

    fn restore(&mut self, workers: usize) {
        self.start(workers);
        for (worker, state) in self.workers.iter_mut().enumerate() {
            for rows in &self.stored {
                let shards = rows.column(0).as_primitive::<arrow::datatypes::UInt16Type>().values().iter();
                let own = shards.map(|shard| Some(worker_of(*shard, SHARDS, workers) == worker));
                state.restore(&filter_record_batch(rows, &own.collect()).unwrap()).unwrap();
            }
        }
    }

    fn size(&self) -> (usize, usize) {
        (self.workers.iter().map(KeyedState::len).sum(), self.workers.iter().map(KeyedState::size).sum())
    }
}

fn show(keys: &[ArrayRef], at: usize, toy: &Toy) -> String {
    let name = if keys[0].is_null(at) { "null".to_owned() } else { array_value_to_string(&keys[0], at).unwrap() };
    format!("{name} {} {toy:?}", array_value_to_string(&keys[1], at).unwrap())
}

/// The same by plain maps.
#[derive(Default)]
struct Oracle {
    toys: BTreeMap<Key, (Toy, Left)>,
}

impl Oracle {
    fn step(&mut self, tick: &Tick, few: Option<u64>) -> Vec<String> {
        for row in &tick.rows {
            let (toy, left) = self.toys.entry(row.key.clone()).or_insert((Toy::default(), Left::NOTHING));
            *left = toy.feed(row.time, row.value);
        }
        let hash = |key: &Key| hash_of(&Row { key: key.clone(), time: 0, value: 0 }, few);
        let due = self.toys.iter().filter_map(|(key, (_, left))| Some((left.due?, hash(key), key.clone())));
        let mut due: Vec<(i64, u64, Key)> = due.filter(|(due, ..)| *due < tick.to).collect();
        due.sort();
        let mut fired = Vec::new();
        for (_, _, key) in due {
            let (toy, left) = self.toys.get_mut(&key).unwrap();
            fired.push(format!("{} {} {toy:?}", key.0.as_deref().unwrap_or("null"), key.1));
            *left = toy.wake();
        }
        self.toys.retain(|_, (_, left)| left.size > 0);
        fired
    }

    fn size(&self) -> (usize, usize) {
        (self.toys.len(), self.toys.values().map(|(_, left)| left.size).sum())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Machines fire when plain maps say so, in the order that is promised, also where keys share a hash.
    #[test]
    fn machines_fire_as_plain_maps_do(ticks in ticks(), few in prop::option::of(1u64..3)) {
        let mut world = World::new(1, few);
        let mut oracle = Oracle::default();
        for tick in &ticks {
            prop_assert_eq!(world.step(tick), oracle.step(tick, few));
            prop_assert_eq!(world.size(), oracle.size());
        }
    }

    /// Stopped after any tick and restored from bases and deltas with another number of workers, they go on as if nothing were.
    #[test]
    fn restored_machines_go_on(ticks in ticks(), workers in 1usize..4) {
        let mut world = World::new(workers, None);
        let mut oracle = Oracle::default();
        for tick in &ticks {
            let (mut given, mut wanted) = (world.step(tick), oracle.step(tick, None));
            given.sort();
            wanted.sort();
            prop_assert_eq!(given, wanted);
            if tick.after > 0 {
                world.freeze(&tick.rebase);
            }
            if tick.after > 1 {
                world.restore(tick.after - 1);
            }
            prop_assert_eq!(world.size(), oracle.size());
        }
    }

    /// The order of the rows of different keys reaches nothing.
    #[test]
    fn the_order_in_which_keys_come_reaches_nothing(ticks in ticks()) {
        let (mut there, mut back) = (World::new(1, None), World::new(1, None));
        for tick in &ticks {
            let mut turned = tick.clone();
            turned.rows.sort_by(|a, b| b.key.cmp(&a.key));
            prop_assert_eq!(there.step(tick), back.step(&turned));
        }
    }
}

fn row(name: &str, time: i64, value: i64) -> Row {
    Row { key: (Some(name.to_owned()), 0), time, value }
}

fn tick(rows: &[Row], to: i64) -> Tick {
    Tick { rows: rows.to_vec(), to, after: 0, rebase: Vec::new() }
}

#[test]
fn a_checkpoint_costs_what_changed() {
    let mut world = World::new(1, None);
    let many: Vec<Row> = (0..500).map(|n| row(&format!("k{n}"), 0, 1)).collect();
    world.step(&tick(&many, 0));
    world.freeze(&[]);
    let stored = |world: &World| world.stored.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(stored(&world), 500);
    // One changed, one was stored and is gone, one came and went in between.
    world.step(&tick(&[row("k1", 3, 1), row("k2", 3, 0), row("brief", 3, 1)], 0));
    world.step(&tick(&[row("brief", 3, 0)], 0));
    world.freeze(&[]);
    assert_eq!(stored(&world), 502);
    world.restore(2);
    assert_eq!(world.size().0, 499);
}

#[test]
fn at_the_end_all_that_have_a_time_fire() {
    let mut world = World::new(1, None);
    assert_eq!(world.step(&tick(&[row("a", 1 << 60, 1), row("b", 0, 5)], i64::MAX)).len(), 1, "b has no time");
}

#[test]
fn state_that_cannot_be_read_is_refused() {
    let mut world = World::new(1, None);
    world.step(&tick(&[row("a", 0, 1)], 0));
    world.freeze(&[]);
    let stored = world.stored[0].clone();
    let restore = |rows: &RecordBatch, workers: usize| {
        let refused = |worker| {
            let range = ShardRange { worker, workers, shards: SHARDS };
            KeyedState::<Toy>::new("toys", fields(), range).restore(rows).err().map(|error| error.to_string())
        };
        (0..workers).filter_map(refused).collect::<Vec<String>>()
    };
    assert!(restore(&stored, 1).is_empty());
    assert!(restore(&stored, 2)[0].contains("was given to worker"));
    assert!(restore(&stored.project(&[0, 1]).unwrap(), 1)[0].contains("expected"));
    let mut columns = stored.columns().to_vec();
    *columns.last_mut().unwrap() = Arc::new(StringArray::from(vec!["{\"last\":\"x\"}"]));
    let broken = RecordBatch::try_new(stored.schema(), columns).unwrap();
    assert!(restore(&broken, 1)[0].contains("what was kept of a key"));
}

/// However many are due at once, the step is seen to get on.
#[test]
fn machines_that_are_woken_by_the_thousand_are_signs_of_life() {
    let mut state: KeyedState<Toy> =
        KeyedState::new("toys", fields(), ShardRange { worker: 0, workers: 1, shards: SHARDS });
    let rows: Vec<Row> = (0..2000).map(|key| Row { key: (None, key), time: 1, value: 3 }).collect();
    let slots = state.slots(&batch(&rows, None), &[0, 1]).unwrap();
    for (row, slot) in rows.iter().zip(slots) {
        state.update(slot, |toy| Ok::<_, StepError>(toy.feed(row.time, row.value))).unwrap();
    }
    let beats = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let wake = |_: Slot, toy: &mut Toy| Ok::<_, StepError>(toy.wake());
    state.fire(EventTime::MAX, &Pulse::on(beats.clone()), wake).unwrap();
    assert_eq!(beats.load(std::sync::atomic::Ordering::SeqCst), 2000_u64.div_ceil(WAKES_A_BEAT as u64));
}
