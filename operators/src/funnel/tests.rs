//! The step against a naive recomputation, killed and restarted at any tick, and claims about single rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::expression::Expressions;
use crate::tests::cluster::{Cluster, after};
use crate::tests::{
    Given, ITEM, Row, TestTick, USER, batch, is_passed, row, schema, shuffled, step_tick, texts, ticks,
};

const NAME: &str = "did";

/// Steps over the rows of the tests: their names are a or b, their items 0 or 1 or null.
const STEPS: [(&str, &str); 3] = [("first", "did = 'a'"), ("second", "item = 1"), ("third", "did = 'b'")];

#[derive(Clone, Debug)]
struct Setup {
    steps: usize,
    within_ms: i64,
    again_ms: i64,
    lateness_ms: i64,
    give: Give,
    keys_max: usize,
}

impl Setup {
    fn new(give: Give) -> Setup {
        Setup { steps: 3, within_ms: 30, again_ms: 30, lateness_ms: 0, give, keys_max: 1000 }
    }

    fn plan(&self) -> Funnel {
        let span = |millis: i64| Duration::from_millis(millis as u64);
        let (expressions, schema) = (Expressions::new(), schema(NAME));
        let step =
            |(name, sql): &(&str, &str)| ((*name).to_owned(), expressions.compile_predicate(sql, &schema).unwrap());
        let settings = FunnelSettings {
            by: vec![USER],
            steps: STEPS[..self.steps].iter().map(step).collect(),
            within: span(self.within_ms),
            again_after: span(self.again_ms),
            lateness: span(self.lateness_ms),
            carried: vec![ITEM],
            give: self.give,
            bounds: FunnelBounds { keys_max: self.keys_max, waiting_max: 1000 },
        };
        Funnel::new(settings, &schema).unwrap()
    }
}

fn rows(rows: &[Row]) -> RecordBatch {
    batch(NAME, rows, &[USER])
}

/// Which steps a row is of, by the conditions in plain words.
fn is_of(row: &Row, step: usize) -> bool {
    [row.name == "a", row.item == Some(1), row.name == "b"][step]
}

fn setup() -> impl Strategy<Value = Setup> {
    let give = prop::sample::select(vec![Give::Journeys, Give::Steps]);
    (1usize..4, 0i64..60, 0i64..80, 0i64..20, give).prop_map(|(steps, within_ms, again_ms, lateness_ms, give)| Setup {
        steps,
        within_ms,
        again_ms,
        lateness_ms,
        ..Setup::new(give)
    })
}

/// A journey of the recomputation: the rows that took its steps.
type Walk = Vec<Row>;

/// Returns all journeys of a key's rows, each with whether it is over at a time before which all rows are known.
fn walks(setup: &Setup, mut rows: Vec<Row>, now: i64) -> Vec<(Walk, bool)> {
    rows.retain(|row| is_passed(row.time, now));
    let first = |row: &Row| (0..setup.steps).find(|step| is_of(row, *step));
    rows.sort_by_key(|row| {
        let content = (row.name.clone(), row.user.clone(), row.item);
        (row.time, first(row), row.id.clone(), row.split, row.position, content)
    });
    let mut walks: Vec<(Walk, bool)> = Vec::new();
    let is_over = |walk: &Walk, now: i64| walk.len() == setup.steps || is_passed(walk[0].time + setup.within_ms, now);
    for row in rows {
        let may_enter =
            walks.last().is_none_or(|(walk, _)| is_over(walk, row.time) && row.time > walk[0].time + setup.again_ms);
        match walks.last_mut() {
            Some((walk, _)) if !is_over(walk, row.time) && is_of(&row, walk.len()) => walk.push(row),
            _ if may_enter && is_of(&row, 0) => walks.push((vec![row], false)),
            _ => {}
        }
    }
    walks.iter_mut().for_each(|(walk, over)| *over = is_over(walk, now));
    walks
}

/// Returns what is known of the rows on time: a text for each row that should have been given by now.
fn told(setup: &Setup, taken: &[Row], now: i64) -> Vec<String> {
    let mut by_user: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in taken {
        by_user.entry(row.user.clone().unwrap()).or_default().push(row.clone());
    }
    let mut texts = Vec::new();
    for (user, rows) in by_user {
        for (walk, over) in walks(setup, rows, now) {
            match setup.give {
                Give::Journeys if over => texts.push(journey_text(setup, &user, &walk)),
                Give::Journeys => {}
                Give::Steps => texts.extend((1..=walk.len()).map(|taken| step_text(&user, &walk[..taken]))),
            }
        }
    }
    texts.sort();
    texts
}

fn number(number: Option<i64>) -> String {
    number.map_or("-".into(), |number| number.to_string())
}

fn moment(row: &Row) -> String {
    format!("1970-01-01T00:00:00{}", if row.time == 0 { String::new() } else { format!(".{:03}", row.time) })
}

fn origin(row: &Row) -> String {
    format!("{}:{}", row.split, row.position)
}

fn id_of(row: &Row) -> String {
    row.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| origin(row))
}

fn named(walk: &[Row]) -> String {
    let texts = |of: fn(&Row) -> String| walk.iter().map(of).collect::<Vec<_>>().join(", ");
    format!("[{}]|[{}]", texts(id_of), texts(origin))
}

fn journey_text(setup: &Setup, user: &str, walk: &[Row]) -> String {
    let reached = walk.len();
    let mut cells = vec![user.to_owned(), number(walk[0].item), reached.to_string(), STEPS[reached - 1].0.to_owned()];
    cells.push((reached == setup.steps).to_string());
    for step in 0..setup.steps {
        let row = walk.get(step);
        cells.push(row.map_or("-".into(), moment));
        if step > 0 {
            cells.push(number(row.map(|row| row.time - walk[step - 1].time)));
        }
    }
    cells.push(number(walk.get(setup.steps - 1).map(|row| row.time - walk[0].time)));
    format!("{}|{}|{}", cells.join("|"), named(walk), walk[0].time * 1000)
}

fn step_text(user: &str, walk: &[Row]) -> String {
    let (first, last) = (&walk[0], &walk[walk.len() - 1]);
    let before = walk.len().checked_sub(2).map(|before| &walk[before]);
    let cells = [
        user.to_owned(),
        number(first.item),
        STEPS[walk.len() - 1].0.to_owned(),
        walk.len().to_string(),
        moment(first),
        moment(last),
        number(before.map(|before| last.time - before.time)),
        (last.time - first.time).to_string(),
    ];
    let hidden = format!("{}|{}|{}|{}", last.time * 1000, id_of(last), last.split, last.position);
    format!("{}|{}|{hidden}", cells.join("|"), named(std::slice::from_ref(last)))
}

/// What the rows should give, tick by tick: after each tick everything is worked out anew from all rows that were on time.
fn recompute(setup: &Setup, ticks: &[TestTick]) -> Vec<Given> {
    let (mut taken, mut given): (Vec<Row>, Vec<String>) = Default::default();
    let late_at = |watermark: i64| match watermark {
        i64::MIN | i64::MAX => watermark,
        watermark => watermark - setup.lateness_ms,
    };
    let mut before = i64::MIN;
    let mut all = Vec::new();
    for tick in ticks {
        let mut now = Given::default();
        for row in &tick.inputs[0] {
            now.counts.input += 1;
            if is_passed(row.time, late_at(before)) {
                now.counts.late += 1;
                now.late.extend(texts(&rows(std::slice::from_ref(row))));
            } else if row.user.is_none() || !(0..setup.steps).any(|step| is_of(row, step)) {
                now.counts.filtered += 1;
            } else {
                now.counts.taken += 1;
                taken.push(row.clone());
            }
        }
        before = tick.watermark;
        let until = if tick.last { i64::MAX } else { late_at(tick.watermark) };
        let mut should = told(setup, &taken, until);
        now.rows = should.clone();
        for known in &given {
            let at = now.rows.iter().position(|text| text == known).expect("what was given stays as it was");
            now.rows.remove(at);
        }
        std::mem::swap(&mut given, &mut should);
        now.sort();
        all.push(now);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_tick_gives_what_a_naive_recomputation_gives_whenever_workers_are_killed(
        setup in setup(), ticks in ticks(1), after in after(), workers in 1usize..5, mut seed in any::<u64>(),
    ) {
        let wanted = recompute(&setup, &ticks);
        let plan = setup.plan();
        let make = |shards| Box::new(plan.on(shards)) as Box<dyn Operator>;
        let mut cluster = Cluster::new(&make, 8, 0, workers);
        let given = cluster.run(&ticks, after, &mut |input, tick| shuffled(&rows, &tick.inputs[input], &mut seed));
        for (number, (given, wanted)) in given.into_iter().zip(wanted).enumerate() {
            prop_assert_eq!(given, wanted, "tick {}", number + 1);
        }
        prop_assert_eq!(cluster.kept(), 0);
    }

    /// The same rows in one tick, or in as many as there are rows, give the same rows in the end.
    #[test]
    fn the_cut_into_ticks_reaches_no_row(setup in setup(), ticks in ticks(1)) {
        let all: Vec<Row> = ticks.iter().flat_map(|tick| tick.inputs[0].clone()).collect();
        let run = |ticks: Vec<TestTick>| {
            let plan = setup.plan();
            let make = |shards| Box::new(plan.on(shards)) as Box<dyn Operator>;
            let mut cluster = Cluster::new(&make, 8, 0, 1);
            let given = cluster.run(&ticks, Vec::new(), &mut |input, tick| vec![rows(&tick.inputs[input])]);
            let mut texts: Vec<String> = given.into_iter().flat_map(|given| given.rows).collect();
            texts.sort();
            texts
        };
        let tick = |rows: &[Row]| TestTick { inputs: vec![rows.to_vec()], watermark: i64::MIN, last: false };
        let end = || TestTick { inputs: vec![Vec::new()], watermark: i64::MAX, last: true };
        let single = run(vec![tick(&all), end()]);
        let many = run(all.chunks(1).map(tick).chain([end()]).collect());
        prop_assert_eq!(single, many);
    }
}

/// Steps rows in one tick with this watermark after it.
fn step(setup: &Setup, rows_in: &[Row], watermark: i64) -> Result<Outputs, StepError> {
    let mut state = setup.plan().on(ShardRange { worker: 0, workers: 1, shards: 8 });
    let now = TestTick { inputs: Vec::new(), watermark, last: false };
    let mut out = Outputs::default();
    state.step(vec![vec![rows(rows_in)]], &step_tick(1, i64::MIN, &now), &mut out)?;
    Ok(out)
}

/// Rows that do a step each: `a` the first, `2` the second, `b` the third.
fn does(time: i64, what: &str) -> Row {
    match what {
        "2" => Row { item: Some(1), ..row(time, "c") },
        name => Row { item: Some(0), ..row(time, name) },
    }
}

#[test]
fn who_went_all_the_way_is_told_before_the_time_is_over() {
    let rows = [does(0, "a"), does(5, "2"), does(9, "b")];
    assert_eq!(step(&Setup::new(Give::Journeys), &rows, 9).unwrap().rows.len(), 0, "an earlier row may still come");
    let out = step(&Setup::new(Give::Journeys), &rows, 10).unwrap();
    let wanted = "u1|0|3|third|true|1970-01-01T00:00:00|1970-01-01T00:00:00.005|5|1970-01-01T00:00:00.009|4|9|[a, c, b]|[0:0, 0:0, 0:0]|0";
    assert_eq!(texts(&out.rows[0]), [wanted]);
}

#[test]
fn of_two_things_in_one_moment_the_earlier_step_comes_first() {
    let rows = [Row { id: Some("0".into()), ..does(0, "2") }, Row { id: Some("9".into()), ..does(0, "a") }];
    let out = step(&Setup::new(Give::Steps), &rows, 1).unwrap();
    assert_eq!(texts(&out.rows[0]).len(), 2);
}

#[test]
fn a_row_that_a_step_made_is_no_evidence() {
    let made = Row { id: None, split: u32::MAX, ..does(0, "a") };
    let out = step(&Setup::new(Give::Journeys), &[made, does(5, "2")], 100).unwrap();
    assert!(texts(&out.rows[0])[0].contains("|[c]|[0:0]|"), "{:?}", texts(&out.rows[0]));
}

#[test]
fn a_row_on_which_a_condition_fails_is_bad() {
    let mut setup = Setup::new(Give::Journeys).plan();
    let schema = schema(NAME);
    setup.settings.steps[1].1 = Expressions::new().compile_predicate("1 / item = 1", &schema).unwrap();
    let mut state = setup.on(ShardRange { worker: 0, workers: 1, shards: 8 });
    let now = TestTick { inputs: Vec::new(), watermark: 0, last: false };
    let mut out = Outputs::default();
    let given = rows(&[does(0, "a"), does(1, "2")]);
    state.step(vec![vec![given]], &step_tick(1, i64::MIN, &now), &mut out).unwrap();
    assert_eq!((out.counts.input, out.counts.bad, out.counts.taken), (2, 1, 1));
    assert_eq!(out.bad[0].code, "expression");
}

#[test]
fn too_many_keys_stop_the_job() {
    let setup = Setup { keys_max: 2, ..Setup::new(Give::Journeys) };
    let of = |user: &str| Row { user: Some(user.into()), ..does(0, "a") };
    assert!(step(&setup, &[of("1"), of("2")], 1).is_ok());
    let error = step(&setup, &[of("1"), of("2"), of("3")], 1).unwrap_err();
    assert!(matches!(error, StepError::Bound(_)) && error.to_string().contains("max_keys"), "{error}");
}
