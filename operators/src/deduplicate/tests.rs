//! The step against a naive recomputation, killed and restarted at any tick, and claims about single rows.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::tests::cluster::{Cluster, after};
use crate::tests::{
    Given, ITEM, NAME, Row, TestTick, USER, batch, is_passed, row, schema, shuffled, step_tick, texts, ticks,
};

const ID: usize = 4;

#[derive(Clone, Debug)]
struct Setup {
    keys: Vec<usize>,
    within_ms: u64,
    lateness_ms: u64,
    compare: bool,
    shards: u16,
}

impl Setup {
    fn plan(&self) -> Deduplicate {
        let settings = DeduplicateSettings {
            keys: self.keys.clone(),
            within: Duration::from_millis(self.within_ms),
            lateness: Duration::from_millis(self.lateness_ms),
            compare: if self.compare { vec![NAME] } else { Vec::new() },
            max_keys: 1000,
            sides: [true; 2],
        };
        Deduplicate::new(settings, &schema("name")).unwrap()
    }

    fn batch(&self, rows: &[Row]) -> RecordBatch {
        batch("name", rows, &self.keys)
    }

    fn key(&self, row: &Row) -> Option<Vec<String>> {
        let value = |column: &usize| match *column {
            USER => row.user.clone(),
            ITEM => row.item.map(|item| item.to_string()),
            _ => row.id.clone(),
        };
        self.keys.iter().map(value).collect()
    }
}

fn setup() -> impl Strategy<Value = Setup> {
    let keys = prop::sample::select(vec![vec![ID], vec![USER], vec![USER, ITEM]]);
    (keys, 1u64..80, 0u64..40, any::<bool>(), prop::sample::select(vec![1u16, 3, 128])).prop_map(
        |(keys, within_ms, lateness_ms, compare, shards)| Setup { keys, within_ms, lateness_ms, compare, shards },
    )
}

/// What the rows should give, tick by tick: every row that was ever accepted is looked at.
fn recompute(setup: &Setup, ticks: &[TestTick]) -> Vec<Given> {
    let mut accepted: Vec<Row> = Vec::new();
    let mut before = i64::MIN;
    let mut all = Vec::new();
    for tick in ticks {
        let mut now = Given::of(2);
        let mut rows = tick.inputs[0].clone();
        rows.sort_by_key(|row| {
            let content = (row.name.clone(), row.user.clone(), row.item);
            (row.time, row.id.clone(), row.split, row.position, content)
        });
        now.counts.input = rows.len() as u64;
        for row in rows {
            let text = texts(&setup.batch(std::slice::from_ref(&row)));
            if is_passed(row.time.saturating_add(setup.lateness_ms as i64), before) {
                now.counts.late += 1;
                now.late.extend(text);
                continue;
            }
            let key = setup.key(&row);
            let newest = accepted.iter().rev().find(|other| key.is_some() && setup.key(other) == key);
            match newest.filter(|first| row.time - first.time < setup.within_ms as i64) {
                None => {
                    now.counts.taken += 1;
                    now.rows.extend(text);
                    accepted.push(row);
                }
                Some(first) => {
                    now.counts.duplicate += 1;
                    let side = usize::from(setup.compare && first.name != row.name);
                    now.sides[side].extend(text);
                }
            }
        }
        before = tick.watermark;
        now.sort();
        all.push(now);
    }
    all
}

/// Takes the hashes out of conflicts.
fn without_hashes(mut given: Given) -> Given {
    for text in &mut given.sides[CONFLICTS] {
        let mut values: Vec<&str> = text.split('|').collect();
        values.drain(3..5);
        *text = values.join("|");
    }
    given.sort();
    given
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_tick_gives_what_a_naive_recomputation_gives_whenever_workers_are_killed(
        setup in setup(), ticks in ticks(1), after in after(), workers in 1usize..5, mut seed in any::<u64>(),
    ) {
        let wanted = recompute(&setup, &ticks);
        let plan = setup.plan();
        let make = |shards| Box::new(plan.on(shards)) as Box<dyn Operator>;
        let mut cluster = Cluster::new(&make, setup.shards, 2, workers);
        let whole = |rows: &[Row]| setup.batch(rows);
        let given = cluster.run(&ticks, after, &mut |input, tick| shuffled(&whole, &tick.inputs[input], &mut seed));
        for (number, (given, wanted)) in given.into_iter().zip(wanted).enumerate() {
            prop_assert_eq!(without_hashes(given), wanted, "tick {}", number + 1);
        }
        prop_assert_eq!(cluster.kept(), 0);
    }
}

/// One worker that is given rows tick by tick.
struct Runner {
    setup: Setup,
    state: DeduplicateState,
    tick: usize,
    before: i64,
}

impl Runner {
    fn new(setup: Setup) -> Runner {
        let state = setup.plan().on(ShardRange { worker: 0, workers: 1, shards: 8 });
        Runner { setup, state, tick: 0, before: i64::MIN }
    }

    fn try_step(&mut self, rows: &[Row], watermark: i64) -> Result<Outputs, StepError> {
        self.tick += 1;
        let now = TestTick { inputs: Vec::new(), watermark, last: false };
        let tick = step_tick(self.tick, self.before, &now);
        self.before = watermark;
        let mut out = Outputs::default();
        self.state.step(vec![vec![self.setup.batch(rows)]], &tick, &mut out)?;
        Ok(out)
    }

    /// Steps a tick; returns how many rows went through, and how many were duplicates.
    fn step(&mut self, rows: &[Row], watermark: i64) -> (u64, u64) {
        let out = self.try_step(rows, watermark).unwrap();
        (out.counts.taken, out.counts.duplicate)
    }
}

const HOUR: i64 = 3_600_000;

fn by_id(within_ms: i64) -> Setup {
    Setup { keys: vec![ID], within_ms: within_ms as u64, lateness_ms: 0, compare: true, shards: 8 }
}

/// G-E2
#[test]
fn g_e2_a_repeat_counts_again_after_the_horizon() {
    let ten = 10 * HOUR;
    for (within, second) in [(24 * HOUR, (1, 0)), (36 * 24 * HOUR, (0, 1))] {
        let mut runner = Runner::new(by_id(within));
        assert_eq!(runner.step(&[row(ten, "e")], ten), (1, 0));
        assert_eq!(runner.step(&[row(ten + 24 * HOUR - 1000, "e")], ten), (0, 1), "a duplicate");
        assert_eq!(
            runner.step(&[row(ten + 24 * HOUR + 1000, "e")], ten),
            second,
            "{within} after the first, not the duplicate"
        );
    }
}

#[test]
fn rows_that_all_go_through_are_not_copied() {
    let mut runner = Runner::new(by_id(HOUR));
    let rows: Vec<Row> = (0..100).map(|n| row(n, &format!("{n}"))).collect();
    let given = runner.try_step(&rows, 0).unwrap().rows;
    let times = |batch: &RecordBatch| batch.column(3).as_primitive::<Int64Type>().values().as_ptr();
    let whole = runner.setup.batch(&rows);
    let mut out = Outputs::default();
    let now = TestTick { inputs: Vec::new(), watermark: 0, last: false };
    runner.state = runner.setup.plan().on(ShardRange { worker: 0, workers: 1, shards: 8 });
    runner.state.step(vec![vec![whole.clone()]], &step_tick(1, i64::MIN, &now), &mut out).unwrap();
    assert_eq!(given[0].num_rows(), 100);
    assert_eq!(times(&out.rows[0]), times(&whole));
}

#[test]
fn a_conflict_names_both_bodies() {
    let mut runner = Runner::new(by_id(HOUR));
    let other = Row { name: "other".into(), ..row(5, "e") };
    let out = runner.try_step(&[row(4, "e"), row(6, "e"), other.clone()], 0).unwrap();
    assert_eq!((out.sides[DUPLICATES][0].num_rows(), out.sides[CONFLICTS][0].num_rows()), (1, 1));
    let text = texts(&out.sides[CONFLICTS][0]).remove(0);
    let values: Vec<&str> = text.split('|').collect();
    assert_eq!(values[0], "other");
    assert!(values[3] != values[4] && values[3..5].iter().all(|hash| hash.len() == 16), "{text}");
    // The same two bodies have the same hashes in a later tick.
    let again = runner.try_step(&[Row { time: 9, ..other }], 0).unwrap();
    assert_eq!(texts(&again.sides[CONFLICTS][0])[0].split('|').collect::<Vec<_>>()[3..5], values[3..5]);
}

#[test]
fn a_key_takes_few_bytes_and_leaves_when_nothing_can_repeat_it() {
    let mut runner =
        Runner::new(Setup { keys: vec![ID], within_ms: 1000, lateness_ms: 500, compare: false, shards: 8 });
    let rows: Vec<Row> = (0..1000).map(|n| row(0, &format!("{n}"))).collect();
    runner.step(&rows, 0);
    assert!(runner.state.bytes() < 1000 * 150, "{}", runner.state.bytes());
    runner.step(&[], 1500);
    assert_eq!(runner.state.kept(), 1000, "a row of time 1000 could come with the lateness");
    runner.step(&[], 3_000_000);
    assert_eq!(runner.state.kept(), 0);
}

#[test]
fn too_many_keys_stop_the_job() {
    let mut runner = Runner::new(by_id(HOUR));
    let rows: Vec<Row> = (0..1001).map(|n| row(n, &format!("{n}"))).collect();
    let error = runner.try_step(&rows, 0).unwrap_err();
    assert!(matches!(error, StepError::Bound(_)) && error.to_string().contains("max_keys"), "{error}");
}

#[test]
fn a_checkpoint_writes_what_is_new() {
    let mut runner = Runner::new(by_id(HOUR));
    let rows = |from: i64| -> Vec<Row> { (from..from + 100).map(|n| row(n, &format!("{n}"))).collect() };
    let written = |runner: &mut Runner, shards: &[u16]| {
        let count = |batches: &[RecordBatch]| -> usize { batches.iter().map(RecordBatch::num_rows).sum() };
        let frozen = runner.state.freeze(&[shards.to_vec()]).unwrap().remove(0).gather().unwrap();
        (count(&frozen.delta), count(&frozen.base))
    };
    runner.step(&rows(0), 0);
    assert_eq!(written(&mut runner, &[]), (100, 0));
    runner.step(&rows(50), 0);
    assert_eq!(written(&mut runner, &[]), (50, 0));
    assert_eq!(written(&mut runner, &(0..8).collect::<Vec<_>>()), (0, 150));
}
