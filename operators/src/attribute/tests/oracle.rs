//! The step against a naive recomputation, on random rows in random ticks.

use proptest::prelude::*;

use super::*;

/// What the rows should give, tick by tick: every touch ever taken is looked at for every conversion.
pub(super) fn recompute(setup: &Setup, ticks: &[TestTick]) -> Vec<Given> {
    let mut before = i64::MIN;
    let (mut clicks, mut waiting): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
    let mut accepted: Vec<Row> = Vec::new();
    let late = |row: &Row, watermark: i64| watermark == i64::MAX || row.time < watermark;
    let mut given = Vec::new();
    for tick in ticks {
        let mut now = Given::default();
        now.counts.input = (tick.orders.len() + tick.clicks.len()) as u64;
        for click in &tick.clicks {
            if late(click, before) {
                now.counts.late += 1;
            } else {
                now.counts.taken += 1;
                clicks.push(click.clone());
            }
        }
        let mut orders = tick.orders.clone();
        orders.sort_by_key(|order| place(setup, order));
        for order in orders {
            let close = |other: &Row| setup.dedupe_ms.is_some_and(|ms| order.time.abs_diff(other.time) <= ms);
            let same =
                |other: &Row| order.id.is_some() && other.id == order.id && key(setup, other) == key(setup, &order);
            if late(&order, before) {
                now.counts.late += 1;
                now.late.extend(texts(&setup.batch("order", &[order])));
            } else if accepted.iter().any(|other| same(other) && close(other)) {
                now.counts.duplicate += 1;
            } else {
                now.counts.taken += 1;
                accepted.push(order.clone());
                waiting.push(order);
            }
        }
        let (due, left) = waiting.into_iter().partition(|order| tick.last || late(order, tick.watermark));
        waiting = left;
        now.rows.extend(due.iter().map(|order| credit(setup, order, &clicks)));
        now.rows.sort();
        now.late.sort();
        before = tick.watermark;
        given.push(now);
    }
    given
}

type Place = (i64, Option<String>, u32, u64, String, Option<String>, Option<i64>);

/// Where a row stands in per-key order, given what the rows carry.
fn place(setup: &Setup, row: &Row) -> Place {
    let id = row.id.clone().filter(|_| setup.ids);
    let (split, position) = if setup.origin { (row.split, row.position) } else { (0, 0) };
    (row.time, id, split, position, row.name.clone(), row.user.clone(), row.item)
}

fn key(setup: &Setup, row: &Row) -> (Option<String>, Option<i64>) {
    (row.user.clone(), row.item.filter(|_| setup.keys == 2))
}

fn credit(setup: &Setup, order: &Row, clicks: &[Row]) -> String {
    let whole = order.user.is_some() && (setup.keys == 1 || order.item.is_some());
    let window = |click: &&Row| {
        click.time <= order.time
            && order.time.abs_diff(click.time) <= setup.window_ms
            && key(setup, click) == key(setup, order)
    };
    let mut found: Vec<&Row> = clicks.iter().filter(window).filter(|_| whole).collect();
    found.sort_by_key(|click| place(setup, click));
    let click = if setup.model == Model::LastTouch { found.last() } else { found.first() };
    let text = |row: &Row| texts(&setup.batch("order", std::slice::from_ref(row))).remove(0);
    let split = |text: String| -> (String, String) {
        let parts: Vec<&str> = text.split('|').collect();
        (parts[..3].join("|"), parts[3..].join("|"))
    };
    let (visible, hidden) = split(text(order));
    let model = setup.model.name();
    match click {
        None => format!("{visible}|-|-|-|false|{model}|-|-|{hidden}"),
        Some(click) => {
            let (touch, _) = split(text(click));
            format!("{visible}|{touch}|true|{model}|1000000|{}|{hidden}", order.time - click.time)
        }
    }
}

pub(super) fn setup() -> impl Strategy<Value = Setup> {
    let dedupe = prop::option::of(0u64..40);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 1usize..3);
    (0u64..50, flags, dedupe, prop::sample::select(vec![1u16, 3, 128])).prop_map(
        |(window_ms, flags, dedupe_ms, shards)| {
            let (first, ids, origin, keys) = flags;
            let model = if first { Model::FirstTouch } else { Model::LastTouch };
            let dedupe_ms = dedupe_ms.filter(|_| ids);
            Setup { window_ms, model, dedupe_ms, ids, origin, keys, shards, ..Setup::default() }
        },
    )
}

fn any_row() -> impl Strategy<Value = Row> {
    let word = |words: Vec<&'static str>| prop::option::weighted(0.85, prop::sample::select(words));
    let user = word(vec!["u", "ü", "", "u1", "用户"]);
    let id = word(vec!["", "a", "b", "ä", "aa"]);
    let origin = (0u32..2, 0u64..4);
    // Few distinct values, so that ties, duplicates and equal rows are common.
    (0i64..100, id, origin, "[ab]", user, prop::option::weighted(0.9, 0i64..2)).prop_map(
        |(time, id, (split, position), name, user, item)| Row {
            time,
            id: id.map(Into::into),
            split,
            position,
            name,
            user: user.map(Into::into),
            item,
        },
    )
}

/// Rows in ticks with time moving on at random: in order, in disorder, and late.
pub(super) fn ticks() -> impl Strategy<Value = Vec<TestTick>> {
    let tick = (prop::collection::vec((any_row(), any::<bool>()), 0..25), 0i64..30, 0i64..40);
    prop::collection::vec(tick, 1..12).prop_map(|cut| {
        let (mut base, mut watermark) = (0, i64::MIN);
        let mut ticks: Vec<TestTick> = Vec::new();
        for (rows, moved, lag) in cut {
            let shifted = |order: bool| -> Vec<Row> {
                let of_side = rows.iter().filter(|(_, is_order)| *is_order == order);
                of_side.map(|(row, _)| Row { time: row.time + base, ..row.clone() }).collect()
            };
            let (orders, clicks) = (shifted(true), shifted(false));
            base += moved;
            // Time does not begin until something has been read for a while.
            watermark = if lag > 35 { watermark } else { watermark.max(base + 40 - lag) };
            ticks.push(TestTick { orders, clicks, watermark, last: false });
        }
        ticks.push(TestTick { watermark: i64::MAX, last: true, ..TestTick::default() });
        ticks
    })
}

/// Cuts rows into batches at random and puts them in random order.
pub(super) fn shuffled(setup: &Setup, name: &str, rows: &[Row], seed: &mut u64) -> Vec<RecordBatch> {
    let mut next = |below: usize| {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 33) as usize % below
    };
    let mut rows = rows.to_vec();
    for i in (1..rows.len()).rev() {
        rows.swap(i, next(i + 1));
    }
    // One whole batch is read, and handed on in slices that share its memory.
    let whole = setup.batch(name, &rows);
    let mut batches = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let width = 1 + next(rows.len() - start);
        batches.push(whole.slice(start, width));
        start += width;
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_tick_gives_what_a_naive_recomputation_gives(setup in setup(), ticks in ticks(), mut seed in any::<u64>()) {
        let wanted = recompute(&setup, &ticks);
        let mut state = setup.worker();
        let mut before = i64::MIN;
        for (number, (tick, wanted)) in (1..).zip(ticks.iter().zip(&wanted)) {
            let orders = shuffled(&setup, "order", &tick.orders, &mut seed);
            let clicks = shuffled(&setup, "click", &tick.clicks, &mut seed);
            let mut out = Outputs::default();
            state.step(vec![orders, clicks], &step_tick(number, before, tick), &mut out).unwrap();
            let mut given = Given::default();
            given.add(&out);
            prop_assert!(given.counts.balances());
            prop_assert_eq!(&given, wanted, "tick {}", number);
            before = tick.watermark;
        }
        prop_assert_eq!(state.kept(), [0, 0, 0]);
        prop_assert!(state.due.is_empty());
    }
}
