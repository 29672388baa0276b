//! What comes out is right: it equals a naive recomputation over random input.

use crate::oracle::{self, Model, assert_same};
use crate::support::jobs::{self, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::{Place, Shop, Shopping};

/// Input from a seed, in a folder with the job.
fn place(shopping: &Shopping, job: &str) -> Place {
    let place = Place::new();
    shopping.write(&place);
    place.write("job.yaml", job);
    place
}

fn attribution_is_right(seed: u64, model: Model, shop: Shop) {
    let shopping = Shop { seed, ..shop }.open();
    let place = place(&shopping, &jobs::attribution(Over::Files, model));
    let finished = place.run("job.yaml").set("tick.max_rows=500").workers(2).succeed();

    let clicks = oracle::clicks(&shopping.click_files());
    let orders = oracle::orders(&shopping.order_files());
    let expected = oracle::attributed(&clicks, &orders, WINDOW_MS, DEDUPE_MS, model);
    let attributed = expected.iter().filter(|row| row["attributed"] == true).count();
    assert!(attributed > 20 && attributed < expected.len(), "seed {seed} shows both kinds of orders");
    println!("seed {seed}: {} orders, {attributed} attributed", expected.len());
    assert_same(&place.rows("out.jsonl"), &expected, &["price"]);

    let source = finished.counts("clicks");
    assert_eq!(source.input, shopping.clicks.len() as u64);
    assert_eq!(source.bad, shopping.broken.len() as u64);
    assert_eq!(place.rows("bad.jsonl").len(), shopping.broken.len());
    let step = finished.counts("attributed");
    assert_eq!(step.late, 0);
    assert_eq!(step.duplicate, (orders.len() - expected.len()) as u64);
    assert_eq!(step.out, expected.len() as u64);
    assert_eq!(finished.counts("item_clicks").input, source.taken);
}

#[test]
fn last_touch_equals_a_naive_recomputation() {
    for seed in 10..13 {
        attribution_is_right(seed, Model::Last, Shop::default());
    }
}

#[test]
fn first_touch_equals_a_naive_recomputation() {
    for seed in 20..23 {
        attribution_is_right(seed, Model::First, Shop::default());
    }
}

#[test]
fn many_touches_of_few_keys_equal_a_naive_recomputation() {
    attribution_is_right(30, Model::Last, Shop { pace_ms: 300, users: 3, ..Shop::default() });
    attribution_is_right(31, Model::First, Shop { pace_ms: 300, users: 3, ..Shop::default() });
}

#[test]
fn windows_equal_a_naive_recomputation() {
    for seed in 40..43 {
        let shopping = Shop { seed, ..Shop::default() }.open();
        let place = place(&shopping, &jobs::minutes(Over::Files));
        let finished = place.run("job.yaml").set("tick.max_rows=500").workers(2).succeed();
        let clicks = oracle::clicks(&shopping.click_files());
        assert_same(&place.rows("out.jsonl"), &oracle::minutes(&clicks), &[]);
        let step = finished.counts("minutes");
        assert_eq!((step.input, step.taken, step.late), (clicks.len() as u64, clicks.len() as u64, 0));
    }
}

#[test]
fn aggregates_over_overlapping_windows_equal_a_naive_recomputation() {
    for seed in 50..52 {
        let shopping = Shop { seed, ..Shop::default() }.open();
        let place = place(&shopping, &jobs::revenue());
        place.run("job.yaml").set("tick.max_rows=300").workers(2).succeed();
        let expected = oracle::revenue(&oracle::orders(&shopping.order_files()));
        assert!(expected.len() > 100);
        assert_same(&place.rows("out.jsonl"), &expected, &["revenue", "least", "most"]);
    }
}

/// Rows later than `max_disorder` allows are late or on time as ticks fall; but each is one of the two, and is seen.
#[test]
fn late_rows_are_counted_and_diverted_not_lost() {
    let mut shopping = Shop { seed: 60, broken: false, ..Shop::default() }.open();
    let very_late = |id: usize| {
        format!(
            r#"{{"order_id":"late-{id}","user_id":"u1","item_id":"item-1","price":1.00,"ts":{}}}"#,
            1_767_225_600_000_i64
        )
    };
    let orders = shopping.orders.len();
    for id in 0..20 {
        shopping.orders.insert(orders / 2 + id, very_late(id).into_bytes());
    }
    let place = place(&shopping, &jobs::attribution(Over::Files, Model::Last));
    let finished = place.run("job.yaml").set("tick.max_rows=100").succeed();
    let step = finished.counts("attributed");
    let late = place.rows("late.jsonl");
    assert_eq!(late.len(), 20, "a row hours late, in the middle of the input, is late");
    assert_eq!(step.late, 20);
    assert!(late.iter().all(|row| row["order_id"].as_str().is_some_and(|id| id.starts_with("late-"))));

    shopping.orders.retain(|line| !line.starts_with(br#"{"order_id":"late-"#));
    let without = oracle::attributed(
        &oracle::clicks(&shopping.click_files()),
        &oracle::orders(&shopping.order_files()),
        WINDOW_MS,
        DEDUPE_MS,
        Model::Last,
    );
    assert_same(&place.rows("out.jsonl"), &without, &["price"]);
}
