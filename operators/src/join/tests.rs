//! The step against a naive recomputation, killed and restarted at any tick, and claims about single rows.

use proptest::prelude::*;

use super::*;
use crate::tests::cluster::{Cluster, after};
use crate::tests::{
    Given, ITEM, Row, TestTick, USER, batch, is_passed, row, schema, shuffled, step_tick, texts, ticks,
};

const NAMES: [&str; 2] = ["order", "click"];

#[derive(Clone, Debug)]
struct Setup {
    keys: Vec<usize>,
    before_ms: i64,
    after_ms: i64,
    kind: JoinKind,
    max_per_key: usize,
    max_rows: usize,
    shards: u16,
}

impl Setup {
    fn new(kind: JoinKind) -> Setup {
        Setup { keys: vec![USER], before_ms: 10, after_ms: 20, kind, max_per_key: 1000, max_rows: 1000, shards: 8 }
    }

    fn plan(&self) -> Join {
        let span = |millis: i64| Duration::from_millis(millis as u64);
        let settings = JoinSettings {
            left_keys: self.keys.clone(),
            right_keys: self.keys.clone(),
            before: span(self.before_ms),
            after: span(self.after_ms),
            kind: self.kind,
            prefix: "r_".into(),
            max_per_key: self.max_per_key,
            max_rows: self.max_rows,
        };
        Join::new(settings, &schema(NAMES[0]), &schema(NAMES[1])).unwrap()
    }

    fn batch(&self, input: usize, rows: &[Row]) -> RecordBatch {
        batch(NAMES[input], rows, &self.keys)
    }

    fn key(&self, row: &Row) -> Option<(String, Option<i64>)> {
        let item = row.item.filter(|_| self.keys.contains(&ITEM));
        (self.keys.len() == 1 || item.is_some()).then_some(())?;
        Some((row.user.clone()?, item))
    }

    fn is_pair(&self, left: &Row, right: &Row) -> bool {
        let is_near = left.time - self.before_ms <= right.time && right.time <= left.time + self.after_ms;
        is_near && self.key(left).is_some() && self.key(left) == self.key(right)
    }

    /// A row of the result as [`texts`] shows it.
    fn text(&self, left: &Row, right: Option<&Row>) -> String {
        let split = |input: usize, row: &Row| -> (String, String) {
            let text = texts(&self.batch(input, std::slice::from_ref(row))).remove(0);
            let values: Vec<&str> = text.split('|').collect();
            (values[..3].join("|"), values[4..].join("|"))
        };
        let (visible, hidden) = split(0, left);
        let (theirs, time) = match right {
            Some(right) => (split(1, right).0, left.time.max(right.time)),
            None => ("-|-|-".to_owned(), left.time),
        };
        format!("{visible}|{theirs}|{}|{hidden}", time * 1000)
    }
}

fn setup() -> impl Strategy<Value = Setup> {
    let keys = prop::sample::select(vec![vec![USER], vec![USER, ITEM]]);
    let kind = prop::sample::select(vec![JoinKind::Inner, JoinKind::Left]);
    let most = prop::sample::select(vec![1, 2, 5, 1000]);
    (keys, 0i64..40, 0i64..40, kind, most, prop::sample::select(vec![1u16, 3, 128])).prop_map(
        |(keys, before_ms, after_ms, kind, max_per_key, shards)| Setup {
            keys,
            before_ms,
            after_ms,
            max_per_key,
            shards,
            ..Setup::new(kind)
        },
    )
}

/// What the rows should give, tick by tick: every row that was ever taken is looked at.
fn recompute(setup: &Setup, ticks: &[TestTick]) -> Vec<Given> {
    let mut taken: [Vec<Row>; 2] = Default::default();
    let mut waiting: Vec<(Row, bool)> = Vec::new();
    let spans = setup.plan().spans().map(|span| span.as_millis() as i64);
    let mut before = i64::MIN;
    let mut all = Vec::new();
    for tick in ticks {
        let mut now = Given::default();
        for input in 0..2 {
            let mut rows = tick.inputs[input].clone();
            rows.sort_by_key(|row| {
                let content = (row.name.clone(), row.user.clone(), row.item);
                (row.time, row.id.clone(), row.split, row.position, content)
            });
            for row in rows {
                now.counts.input += 1;
                let key = setup.key(&row);
                let still = |other: &&Row| !is_passed(other.time + spans[input], before);
                let of_key = taken[input].iter().filter(|other| key.is_some() && setup.key(other) == key);
                if is_passed(row.time, before) {
                    now.counts.late += 1;
                    let text = texts(&setup.batch(input, &[row]));
                    now.late.extend(text.into_iter().filter(|_| input == 0));
                    continue;
                }
                if key.is_some() && of_key.filter(still).count() >= setup.max_per_key {
                    now.counts.bad += 1;
                    now.bad.push(row.name);
                    continue;
                }
                now.counts.taken += 1;
                for other in &taken[1 - input] {
                    let (left, right) = if input == 0 { (&row, other) } else { (other, &row) };
                    if setup.is_pair(left, right) {
                        now.rows.push(setup.text(left, Some(right)));
                    }
                }
                taken[input].push(row.clone());
                if input == 0 {
                    waiting.push((row, false));
                }
            }
        }
        for (left, is_paired) in &mut waiting {
            *is_paired |= taken[1].iter().any(|right| setup.is_pair(left, right));
        }
        waiting.retain(|(left, is_paired)| {
            let is_over = tick.last || is_passed(left.time + setup.after_ms, tick.watermark);
            if is_over && !is_paired && setup.kind == JoinKind::Left {
                now.rows.push(setup.text(left, None));
            }
            !is_over
        });
        before = tick.watermark;
        now.sort();
        all.push(now);
    }
    all
}

/// Leaves of bad rows the name only.
fn with_names(mut given: Given) -> Given {
    for text in &mut given.bad {
        let json = text.strip_prefix("crowded ").expect("crowded rows are the only bad ones");
        *text = json.split('"').nth(3).unwrap().to_owned();
    }
    given.sort();
    given
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_tick_gives_what_a_naive_recomputation_gives_whenever_workers_are_killed(
        setup in setup(), ticks in ticks(2), after in after(), workers in 1usize..5, mut seed in any::<u64>(),
    ) {
        let wanted = recompute(&setup, &ticks);
        let plan = setup.plan();
        let make = |shards| Box::new(plan.on(shards)) as Box<dyn Operator>;
        let mut cluster = Cluster::new(&make, setup.shards, 0, workers);
        let given = cluster.run(&ticks, after, &mut |input, tick| {
            shuffled(&|rows: &[Row]| setup.batch(input, rows), &tick.inputs[input], &mut seed)
        });
        for (number, (given, wanted)) in given.into_iter().zip(wanted).enumerate() {
            prop_assert_eq!(with_names(given), wanted, "tick {}", number + 1);
        }
        prop_assert_eq!(cluster.kept(), 0);
    }
}

/// One worker that is given rows tick by tick.
struct Runner {
    setup: Setup,
    state: JoinState,
    tick: usize,
    before: i64,
}

impl Runner {
    fn new(setup: Setup) -> Runner {
        let state = setup.plan().on(ShardRange { worker: 0, workers: 1, shards: 8 });
        Runner { setup, state, tick: 0, before: i64::MIN }
    }

    fn try_step(&mut self, left: &[Row], right: &[Row], watermark: i64) -> Result<Outputs, StepError> {
        self.tick += 1;
        let now = TestTick { inputs: Vec::new(), watermark, last: false };
        let tick = step_tick(self.tick, self.before, &now);
        self.before = watermark;
        let mut out = Outputs::default();
        let inputs = vec![vec![self.setup.batch(0, left)], vec![self.setup.batch(1, right)]];
        self.state.step(inputs, &tick, &mut out)?;
        Ok(out)
    }

    /// Steps a tick and returns its rows as `left-right`, `-` for none.
    fn step(&mut self, left: &[Row], right: &[Row], watermark: i64) -> Vec<String> {
        let out = self.try_step(left, right, watermark).unwrap();
        let pair = |text: String| {
            let values: Vec<&str> = text.split('|').collect();
            format!("{}+{}", values[0], values[3])
        };
        out.rows.iter().flat_map(texts).map(pair).collect()
    }
}

#[test]
fn both_ends_of_the_window_are_closed() {
    let mut runner = Runner::new(Setup::new(JoinKind::Inner));
    let right = [row(89, "a"), row(90, "b"), row(120, "c"), row(121, "d")];
    assert_eq!(runner.step(&[row(100, "l")], &right, 0), ["l+b", "l+c"]);
}

#[test]
fn a_left_row_without_a_pair_is_given_when_its_window_is_passed() {
    let mut runner = Runner::new(Setup::new(JoinKind::Left));
    assert!(runner.step(&[row(100, "l")], &[row(89, "r")], 120).is_empty());
    assert_eq!(runner.step(&[], &[], 121), ["l+-"]);
    assert!(runner.step(&[], &[], 500).is_empty(), "once");
}

#[test]
fn a_pair_that_was_given_long_ago_still_counts_as_one() {
    let mut runner = Runner::new(Setup::new(JoinKind::Left));
    assert_eq!(runner.step(&[row(100, "l")], &[row(90, "r")], 100), ["l+r"]);
    // The right row could not match a left row any more.
    assert!(runner.step(&[], &[], 115).is_empty());
    assert!(runner.step(&[], &[], 200).is_empty());
    // Ages are counted in steps of a second or more.
    assert!(runner.step(&[], &[], 10_000).is_empty());
    assert_eq!(runner.state.kept(), [0, 0]);
}

#[test]
fn a_crowded_key_refuses_rows_and_keeps_its_others() {
    let setup = Setup { max_per_key: 2, ..Setup::new(JoinKind::Inner) };
    let mut runner = Runner::new(setup);
    let out = runner.try_step(&[], &[row(3, "c"), row(1, "a"), row(2, "b")], 0).unwrap();
    assert_eq!((out.counts.taken, out.counts.bad), (2, 1));
    assert_eq!((out.bad[0].code.as_str(), out.bad[0].position), ("crowded", 0));
    assert!(out.bad[0].reason.contains("max_per_key"), "{}", out.bad[0].reason);
    assert_eq!(runner.step(&[row(2, "l")], &[], 0), ["l+a", "l+b"]);
    let other = Row { user: Some("u2".into()), ..row(2, "x") };
    assert_eq!(runner.try_step(&[], &[other], 0).unwrap().counts.taken, 1);
}

#[test]
fn too_many_rows_stop_the_job() {
    let mut runner = Runner::new(Setup { max_rows: 10, ..Setup::new(JoinKind::Inner) });
    let rows: Vec<Row> = (0..6).map(|n| row(n, "x")).collect();
    let error = runner.try_step(&rows, &rows, 0).unwrap_err();
    assert!(matches!(error, StepError::Bound(_)) && error.to_string().contains("max_rows"), "{error}");
}
