//! The step against the ledger itself, fed in order and told the time once: any arrival within the lateness, any cut into ticks, any
//! number of workers and any restart end in the same table.

use proptest::prelude::*;
use riverrun_behaviour::weight::Weight;

use super::*;
use crate::tests::cluster::{After, Cluster, after};

const USERS: [&str; 3] = ["u1", "u2", "ü"];
const LATENESS: i64 = 40;

/// A row and its input: 0 conversions, 1 touches, 2 corrections.
type Event = (usize, Row);

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (0u8..10, 0i64..8, 0usize..3, 0usize..3, 0i64..60, 0usize..3);
    prop::collection::vec(one, 1..40).prop_map(|all| {
        let mut time = 1_000;
        let event =
            |(nth, (what, apart, user, order_of, cents, word)): (usize, (u8, i64, usize, usize, i64, usize))| {
                time += apart;
                let id = format!("e{nth:02}");
                // An order and its corrections are of one key.
                let order_id = format!("{}-{order_of}", USERS[user]);
                let (input, row) = match what {
                    0..=4 => {
                        let kind = [None, Some("landing"), Some("view")][word].map(str::to_owned);
                        let product = [None, Some("A"), Some("hidden")][order_of].map(str::to_owned);
                        (1, Row { kind, product, ..touch(&id, ["email", "ads", "direct"][word], time) })
                    }
                    5..=7 => (0, Row { order_id: Some(order_id), amount: Some(cents), ..row(&id, time) }),
                    8 => (2, refund(&id, &order_id, time, cents + 1)),
                    _ => (2, correction(["update", "cancel", "update"][word], &id, &order_id, time, Some(cents))),
                };
                (input, Row { user: Some(USERS[user].to_owned()), ..row })
            };
        all.into_iter().enumerate().map(event).collect()
    })
}

fn settings_of(eager: bool, one: bool, views: bool) -> AttributionSettings {
    with_rules(|rules| {
        rules.windows = Windows { click_ms: 50, view_ms: views.then_some(30), half_life_ms: None };
        rules.lateness_ms = LATENESS;
        rules.emission = if eager { Emission::Eager } else { Emission::Final };
        rules.count_mode = if one { CountMode::One } else { CountMode::Every };
        rules.dup_click_ms = 2;
    })
}

/// The table at the end, by the rules alone.
fn expected(settings: &AttributionSettings, events: &[Event]) -> BTreeMap<String, i64> {
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    for user in USERS {
        let mut ledger = Ledger::default();
        let mut out = Output::default();
        for (input, row) in events.iter().filter(|(_, row)| row.user.as_deref() == Some(user)) {
            let batch = batch(std::slice::from_ref(row));
            match read::events(settings, *input, &batch, |_| false).unwrap().remove(0) {
                Ok(Some(read::Event::Touch(touch))) => drop(ledger.push_touch(*touch, &mut out)),
                Ok(Some(read::Event::Order(order))) => drop(ledger.push_order(*order, &mut out)),
                _ => {}
            }
        }
        ledger.advance(&settings.rules, i64::MAX, &mut out);
        for (weight, row) in out.rows {
            assert_eq!(weight, Weight::Insert);
            let touch = row.touch.as_ref().map_or("-", |touch| touch.touch_id.as_str());
            let (order, model, amount) = (&row.order_id, model_name(row.model), row.amount_minor);
            let what =
                format!("{order} {model} {touch} {amount} {} {} {}", row.event_id, row.weight_ppm, row.conversions_ppm);
            *table.entry(what).or_default() += 1;
        }
    }
    table
}

/// What a reader makes of the rows of a tick as texts, without their `op`.
fn add(table: &mut BTreeMap<String, i64>, rows: &[String]) {
    for text in rows {
        let (op, row) = text.split_once('|').unwrap();
        *table.entry(row.to_owned()).or_default() += if op == "+" { 1 } else { -1 };
    }
    table.retain(|_, count| *count != 0);
    assert!(table.values().all(|count| *count > 0), "what was not given was taken back: {table:?}");
}

/// Of each order all models give the same in all; the weights of its own rows are a million.
fn check_sums(table: &BTreeMap<String, i64>) {
    let mut sums: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for (row, count) in table {
        let values: Vec<&str> = row.split('|').collect();
        let (order, model, reason) = (values[1], values[2], values[13]);
        let cents: i64 = values[11].replace('.', "").parse().unwrap();
        let ppm: i64 = values[9].parse().unwrap();
        let sum = sums.entry((order, model)).or_default();
        sum.0 += cents * count;
        sum.1 += if reason == "order" { ppm * count } else { 0 };
    }
    let net: BTreeMap<&str, i64> = sums.iter().map(|((order, _), (cents, _))| (*order, *cents)).collect();
    for ((order, model), (cents, ppm)) in &sums {
        assert_eq!((*cents, *ppm), (net[order], 1_000_000), "{order} {model}");
    }
}

/// The same rows in the words of [`expected`].
fn told(table: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let one = |(row, count): (&String, &i64)| {
        let v: Vec<&str> = row.split('|').collect();
        let cents: i64 = v[11].replace('.', "").parse().unwrap();
        (format!("{} {} {} {cents} {} {} {}", v[1], v[2], v[3], v[14], v[9], v[10]), *count)
    };
    table.iter().map(one).collect()
}

/// Rows by tick, with the watermark after each: every row comes within the lateness.
fn arrive(events: &[Event], delays: &[i64], cut: usize) -> Vec<(Vec<Event>, i64)> {
    let mut arrivals: Vec<(i64, &Event)> =
        events.iter().zip(delays).map(|(event, delay)| (event.1.time + delay, event)).collect();
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut ticks: Vec<(Vec<Event>, i64)> = Vec::new();
    for part in arrivals.chunks(cut) {
        let watermark = part.last().map_or(0, |(arrival, _)| *arrival);
        ticks.push((part.iter().map(|(_, event)| (*event).clone()).collect(), watermark));
    }
    ticks.push((Vec::new(), i64::MAX));
    ticks
}

fn shuffle<T>(rows: &mut [T], seed: &mut u64) {
    for i in (1..rows.len()).rev() {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        rows.swap(i, (*seed >> 33) as usize % (i + 1));
    }
}

/// Runs the ticks; returns the table at the end, and the notices.
fn run(
    plan: &Attribution,
    ticks: &[(Vec<Event>, i64)],
    after: Vec<After>,
    workers: usize,
    seed: &mut u64,
) -> (BTreeMap<String, i64>, Vec<String>) {
    let time = |millis: i64| if millis == i64::MAX { EventTime::MAX } else { EventTime::from_millis(millis) };
    let make = |shards| Box::new(plan.on(shards)) as Box<dyn Operator>;
    let mut cluster = Cluster::new(&make, 16, 2, workers);
    let given = cluster.run_all(ticks.len(), after, &mut |at| {
        let (events, watermark) = &ticks[at];
        let mut events = events.clone();
        shuffle(&mut events, seed);
        let of = |input: usize| -> Vec<Row> {
            events.iter().filter(|(of, _)| *of == input).map(|(_, row)| row.clone()).collect()
        };
        let inputs = (0..3).map(|input| of(input).chunks(3).map(batch).collect()).collect();
        let before = if at == 0 { EventTime::MIN } else { time(ticks[at - 1].1) };
        let last = *watermark == i64::MAX;
        (inputs, StepTick { tick: at as u64 + 1, now: 0, before, watermark: time(*watermark), last })
    });
    let mut table = BTreeMap::new();
    let mut notices = Vec::new();
    for given in given {
        add(&mut table, &given.rows);
        check_sums(&table);
        assert!(given.late.is_empty());
        notices.extend(given.sides[NOTICES].clone());
    }
    assert_eq!(cluster.kept(), 0);
    notices.sort();
    (table, notices)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_arrival_any_cut_and_any_restart_end_in_the_same_table(
        events in events(),
        delays in prop::collection::vec(0..LATENESS, 40),
        (eager, one, views) in any::<(bool, bool, bool)>(),
        (cut, workers) in (1usize..12, 1usize..4),
        after in after(),
        mut seed in any::<u64>(),
    ) {
        let settings = settings_of(eager, one, views);
        let plan = plan(settings.clone());
        let wanted = expected(&settings, &events);
        let calm = arrive(&events, &[0; 40], 1000);
        let (table, notices) = run(&plan, &calm, Vec::new(), 1, &mut seed);
        prop_assert_eq!(&told(&table), &wanted);
        let (other, others) = run(&plan, &arrive(&events, &delays, cut), after, workers, &mut seed);
        prop_assert_eq!(&told(&other), &wanted);
        prop_assert_eq!(&other, &table, "another order of arrival");
        prop_assert_eq!(others, notices, "another order of arrival");
    }
}
