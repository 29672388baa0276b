//! Live sessions: after all changes the table has the sessions of the mode `final`, whatever came when.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, UInt16Type, UInt64Type};
use proptest::prelude::*;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{shard_of, worker_of};
use riverrun_dataflow::operator::{Operator, Outputs};
use riverrun_dataflow::{EventTime, StepTick};

use super::world::{MS, Row, SHARDS, Settings, Tick, World, batch, schema, settings_of, text};
use crate::sessionize::{Mode, Sessionize, SessionizeSettings};

struct LiveWorld {
    plan: Sessionize,
    workers: Vec<Box<dyn Operator>>,
    before: EventTime,
    stored: Vec<RecordBatch>,
    /// The table: session by name, as `start | end | closed_by | k | j | events`, and its revision.
    table: BTreeMap<String, (String, i64)>,
    /// Names that became part of others.
    merged: Vec<(String, String)>,
}

impl LiveWorld {
    fn new(settings: Settings, workers: usize) -> LiveWorld {
        let settings = SessionizeSettings { mode: Mode::Live, aggregates: Vec::new(), ..settings_of(settings) };
        let plan = Sessionize::new(settings, &schema()).unwrap();
        let (stored, table, merged) = Default::default();
        let mut world = LiveWorld { plan, workers: Vec::new(), before: EventTime::MIN, stored, table, merged };
        world.start(workers);
        world
    }

    fn start(&mut self, workers: usize) {
        let range = |worker| ShardRange { worker, workers, shards: SHARDS };
        self.workers = (0..workers).map(|worker| self.plan.make(range(worker))).collect();
    }

    /// Steps, changes the table, and returns the changes in one order.
    fn step(&mut self, tick: &Tick) -> Vec<String> {
        let watermark = tick.watermark.map_or(EventTime::MAX, EventTime).max(self.before);
        let step = StepTick { tick: 1, now: 0, before: self.before, watermark, last: tick.watermark.is_none() };
        let all = batch(&tick.rows, None);
        let hashes = all.column(12).as_primitive::<UInt64Type>().values();
        let count = self.workers.len();
        let owners: Vec<usize> = hashes.iter().map(|hash| worker_of(shard_of(*hash, SHARDS), SHARDS, count)).collect();
        let mut given = Vec::new();
        for worker in 0..count {
            let own: BooleanArray = owners.iter().map(|owner| Some(*owner == worker)).collect();
            let own = filter_record_batch(&all, &own).unwrap();
            let mut out = Outputs::default();
            self.workers[worker].step(vec![vec![own]], &step, &mut out).unwrap();
            assert!(out.counts.balances(), "{:?}", out.counts);
            for rows in &out.rows {
                assert_eq!(rows.schema_ref(), self.plan.schema());
                self.apply(rows);
                given.extend((0..rows.num_rows()).map(|row| text(rows, row, rows.num_columns() - 2)));
            }
        }
        given.sort();
        self.before = watermark;
        given
    }

    fn apply(&mut self, rows: &RecordBatch) {
        let name = |row: usize| rows.column(2).as_string::<i32>().value(row).to_owned();
        let rev = |row: usize| rows.column(1).as_primitive::<Int64Type>().value(row);
        let said = |row: usize| text(&rows.project(&[3, 4, 5, 6, 7, 8]).unwrap(), row, 6);
        let is_joining = |row: &usize| rows.column(0).as_string::<i32>().value(*row) == "+";
        for row in (0..rows.num_rows()).filter(|row| !is_joining(row)) {
            let was = self.table.remove(&name(row));
            assert_eq!(was, Some((said(row), rev(row))), "what is taken back was given so");
            let into = rows.column(10).as_string::<i32>();
            if into.is_valid(row) {
                self.merged.push((name(row), into.value(row).to_owned()));
            }
        }
        for row in (0..rows.num_rows()).filter(is_joining) {
            let was = self.table.insert(name(row), (said(row), rev(row)));
            assert_eq!(was, None, "a name stands once");
        }
    }

    fn freeze(&mut self, rebase: &[u16]) {
        let others = |rows: &RecordBatch| -> BooleanArray {
            let shards = rows.column(0).as_primitive::<UInt16Type>().values().iter();
            shards.map(|shard| Some(!rebase.contains(shard))).collect()
        };
        self.stored = self.stored.iter().map(|rows| filter_record_batch(rows, &others(rows)).unwrap()).collect();
        for state in &mut self.workers {
            for frozen in state.freeze(&[rebase.to_vec()]).unwrap() {
                let frozen = frozen.gather().unwrap();
                self.stored.extend(frozen.base.into_iter().chain(frozen.delta));
            }
        }
    }

    fn restore(&mut self, workers: usize) {
        self.start(workers);
        for (worker, state) in self.workers.iter_mut().enumerate() {
            for rows in &self.stored {
                let shards = rows.column(0).as_primitive::<UInt16Type>().values().iter();
                let own: BooleanArray =
                    shards.map(|shard| Some(worker_of(*shard, SHARDS, workers) == worker)).collect();
                state.restore(0, &filter_record_batch(rows, &own).unwrap()).unwrap();
            }
        }
    }

    fn kept(&self) -> u64 {
        self.workers.iter().map(|worker| worker.sizes()[0].rows).sum()
    }
}

/// Ticks in which every row has an id of its own, and none fails.
fn ticks() -> impl Strategy<Value = Vec<Tick>> {
    super::ticks().prop_map(|mut ticks| {
        let mut number = 0;
        for row in ticks.iter_mut().flat_map(|tick| &mut tick.rows) {
            number += 1;
            row.id = Some(format!("{number:04}"));
            row.n = Some(1);
        }
        ticks
    })
}

/// What the mode `final` gives, as the table says it.
fn settled(ticks: &[Tick], settings: Settings) -> Vec<String> {
    let mut world = World::new(settings, 1);
    let rows = ticks.iter().flat_map(|tick| world.step(tick).rows);
    let said = |row: String| row.split(" | ").skip(1).take(6).collect::<Vec<_>>().join(" | ");
    let mut rows: Vec<String> = rows.map(said).collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    /// Whatever came late, and wherever the run was stopped and restored, the table ends as the mode `final` has it.
    #[test]
    fn after_all_changes_the_table_is_that_of_the_mode_final(
        ticks in ticks(),
        settings in super::settings(),
        acts in prop::collection::vec((0usize..4, 1usize..4, prop::collection::vec(0u16..SHARDS, 0..6)), 9),
    ) {
        let mut calm = LiveWorld::new(settings, 1);
        let mut world = LiveWorld::new(settings, 2);
        for (number, (tick, (act, workers, rebase))) in ticks.iter().zip(acts).enumerate() {
            prop_assert_eq!(world.step(tick), calm.step(tick), "tick {}", number);
            if act > 0 {
                world.freeze(&rebase);
            }
            if act > 1 {
                world.restore(workers);
            }
        }
        let mut table: Vec<String> = world.table.values().map(|(said, _)| said.clone()).collect();
        table.sort();
        prop_assert_eq!(table, settled(&ticks, settings));
        prop_assert_eq!(world.kept(), 0);
    }

    /// The order of rows within a tick reaches nothing that comes out.
    #[test]
    fn arrival_order_reaches_no_change(ticks in ticks(), settings in super::settings()) {
        let (mut there, mut back) = (LiveWorld::new(settings, 1), LiveWorld::new(settings, 1));
        for tick in &ticks {
            let turned: Vec<Row> = tick.rows.iter().rev().cloned().collect();
            prop_assert_eq!(there.step(tick), back.step(&Tick { rows: turned, watermark: tick.watermark }));
        }
    }
}

/// G-S3: a late row that bridges two sessions makes them one, under the name of the earlier.
#[test]
fn g_s3_a_late_row_bridges_two_sessions() {
    let mut world = LiveWorld::new(Settings { gap: 5, lateness: 100, ..Settings::default() }, 1);
    let rows = |times: &[i64]| {
        let one = |time: &i64| Row { id: Some(format!("e{time}")), time: time * MS, ..Row::default() };
        times.iter().map(one).collect::<Vec<Row>>()
    };
    let said = |world: &LiveWorld| {
        let events = |(said, rev): &(String, i64)| format!("{} {rev}", said.rsplit(" | ").next().unwrap());
        world.table.values().map(events).collect::<std::collections::BTreeSet<String>>()
    };
    world.step(&Tick { rows: rows(&[10, 12, 20]), watermark: Some(20 * MS) });
    assert_eq!(said(&world), ["1 0".to_owned(), "2 0".to_owned()].into());
    let names: Vec<String> = world.table.keys().cloned().collect();
    let changes = world.step(&Tick { rows: rows(&[16]), watermark: Some(20 * MS) });
    assert_eq!(changes.iter().filter(|row| row.starts_with('-')).count(), 2, "{changes:?}");
    assert_eq!(said(&world), ["4 1".to_owned()].into());
    let (gone, into) = world.merged[0].clone();
    assert!(names.contains(&gone) && names.contains(&into) && world.table.contains_key(&into));
}

#[test]
fn a_session_that_goes_on_has_no_reason_yet() {
    let mut world = LiveWorld::new(Settings { gap: 5, ..Settings::default() }, 1);
    let row = Row { id: Some("e".to_owned()), time: 10 * MS, ..Row::default() };
    let given = world.step(&Tick { rows: vec![row], watermark: Some(10 * MS) });
    assert!(given.len() == 1 && given[0].contains(" | null | null | null | 1 | 1 | null"), "{given:?}");
    assert!(world.step(&Tick { rows: Vec::new(), watermark: Some(15 * MS) }).is_empty());
    let given = world.step(&Tick { rows: Vec::new(), watermark: Some(16 * MS) });
    assert!(given.len() == 2 && given.iter().any(|row| row.starts_with('+') && row.contains("idle")), "{given:?}");
    assert_eq!(world.kept(), 0, "nothing can change it any more");
}
