//! What comes out is right: it equals a naive recomputation over random input.

use crate::oracle::{self, Model, assert_same};
use crate::support::jobs::{self, DEDUPE_MS, Over, WINDOW_MS};
use crate::support::{Place, Shop, Shopping};

/// Seeds from `first` on: three, or as many as RIVERRUN_SEEDS says.
fn seeds(first: u64) -> std::ops::Range<u64> {
    let count = std::env::var("RIVERRUN_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    first..first + count
}

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
    for seed in seeds(1_000) {
        attribution_is_right(seed, Model::Last, Shop::default());
    }
}

#[test]
fn first_touch_equals_a_naive_recomputation() {
    for seed in seeds(2_000) {
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
    for seed in seeds(4_000) {
        let shopping = Shop { seed, ..Shop::default() }.open();
        let place = place(&shopping, &jobs::minutes(Over::Files));
        let finished = place.run("job.yaml").set("tick.max_rows=500").workers(2).succeed();
        let clicks = oracle::clicks(&shopping.click_files());
        assert_same(&place.rows("out.jsonl"), &oracle::minutes(&clicks), &[]);
        let step = finished.counts("minutes");
        assert_eq!((step.input, step.taken, step.late), (clicks.len() as u64, clicks.len() as u64, 0));
    }
}

/// What the watermark does not wait for, the window may.
#[test]
fn rows_within_the_lateness_of_a_window_are_counted() {
    let shopping = Shop { seed: 61, ..Shop::default() }.open();
    let job = jobs::minutes(Over::Files)
        .replace("max_disorder: 5s", "max_disorder: 0s")
        .replace("tumble: 1m", "tumble: 1m\n      lateness: 5s");
    let place = place(&shopping, &job);
    let finished = place.run("job.yaml").set("tick.max_rows=10").workers(2).succeed();
    let clicks = oracle::clicks(&shopping.click_files());
    assert_same(&place.rows("out.jsonl"), &oracle::minutes(&clicks), &[]);
    assert_eq!(finished.counts("minutes").late, 0);
    // Without it, in the same ticks, some come too late.
    let job = job.replace("lateness: 5s", "lateness: 0s");
    place.write("job.yaml", job);
    let finished = place.run("job.yaml").set("tick.max_rows=10").arg("--fresh").succeed();
    let counts = finished.counts("minutes");
    assert!(counts.late > 0 && counts.input == clicks.len() as u64, "{counts:?}");
    assert_eq!(place.rows("late.jsonl").len() as u64, counts.late);
}

#[test]
fn aggregates_over_overlapping_windows_equal_a_naive_recomputation() {
    for seed in seeds(5_000) {
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
