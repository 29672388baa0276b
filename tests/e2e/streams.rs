//! `deduplicate` and `join` as a user runs them: right, the same with any number of workers, killed or not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oracle::{self, Row, assert_same, cents};
use crate::support::jobs::BUSY;
use crate::support::process::Stop;
use crate::support::{Place, Shop, Shopping};
use crate::tables;

/// Orders once each, with the clicks on the same item in the half hour before and the five minutes after.
const JOB: &str = r#"
job: streams
sources:
  clicks:
    file: { path: "in/clicks-*.jsonl" }
    schema: { event_id: string, user_id: string, item_id: string, event_type: string, ts: timestamp_ms }
    event_time: ts
    id: event_id
    max_disorder: 5s
  orders:
    file: { path: "in/orders-*.jsonl" }
    schema: { order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", ts: timestamp_ms }
    event_time: ts
    id: order_id
    max_disorder: 5s
steps:
  once: { deduplicate: { from: orders, within: 1h, compare: [item_id, price] } }
  named: { select: { from: clicks, columns: [event_id, user_id as buyer, item_id, event_type, ts] } }
  near:
    join:
      left: once
      right: named
      on: ["user_id = buyer", item_id]
      within: { before: 30m, after: 5m }
      kind: left
      prefix: click_
sinks:
  once: { from: once, file: { path: once.jsonl }, timestamps: epoch_ms }
  again: { from: once.duplicates, file: { path: again.jsonl }, timestamps: epoch_ms }
  other: { from: once.conflicts, file: { path: other.jsonl }, timestamps: epoch_ms }
  near: { from: near, file: { path: near.jsonl }, timestamps: epoch_ms }
  late: { from: near.late, file: { path: late.jsonl }, timestamps: epoch_ms }
"#;

const FILES: [&str; 5] = ["once.jsonl", "again.jsonl", "other.jsonl", "near.jsonl", "late.jsonl"];
const HOUR_MS: i64 = 3_600_000;

/// Traffic in which orders come again, also hours later, and some of them with another price.
fn shopping(seed: u64) -> Shopping {
    let mut shopping = Shop { seed, users: 60, ..Shop::default() }.open();
    let orders = shopping.orders.clone();
    for (number, line) in orders.iter().enumerate() {
        let Ok(mut order) = serde_json::from_slice::<Value>(line) else { continue };
        if number % 7 == 0 && order["price"].is_number() {
            order["price"] = json!(1.5);
            shopping.orders.insert(shopping.orders.len() - orders.len() + number + 1, order.to_string().into_bytes());
        }
    }
    shopping
}

fn place(shopping: &Shopping) -> Place {
    let place = Place::new();
    shopping.write(&place);
    place.write("job.yaml", JOB);
    place
}

/// The orders that are the first of their id within an hour, those that repeat them, and those that say something else.
fn once(orders: &[Row]) -> [Vec<&Row>; 3] {
    let mut accepted: BTreeMap<&str, &Row> = BTreeMap::new();
    let mut found: [Vec<&Row>; 3] = Default::default();
    for order in orders {
        let Some(id) = order.fields["order_id"].as_str() else {
            found[0].push(order);
            continue;
        };
        match accepted.get(id).filter(|first| order.time - first.time < HOUR_MS) {
            None => {
                accepted.insert(id, order);
                found[0].push(order);
            }
            Some(first) => {
                let is_same = first.fields["item_id"] == order.fields["item_id"]
                    && cents(&first.fields["price"]) == cents(&order.fields["price"]);
                found[if is_same { 1 } else { 2 }].push(order);
            }
        }
    }
    found
}

/// Each order with the clicks near it.
fn near(orders: &[&Row], clicks: &[Row]) -> Vec<Value> {
    let mut rows = Vec::new();
    for order in orders {
        let is_near = |click: &&Row| {
            let same = |one: &str, two: &str| !order.fields[one].is_null() && order.fields[one] == click.fields[two];
            let apart = click.time - order.time;
            (-HOUR_MS / 2..=HOUR_MS / 12).contains(&apart) && same("user_id", "user_id") && same("item_id", "item_id")
        };
        let found: Vec<&Row> = clicks.iter().filter(is_near).collect();
        let pair = |click: Option<&Row>| {
            let mut row = written(order);
            for (name, of) in [
                ("event_id", "event_id"),
                ("buyer", "user_id"),
                ("item_id", "item_id"),
                ("event_type", "event_type"),
                ("ts", "ts"),
            ] {
                row[format!("click_{name}")] = click.map_or(Value::Null, |click| click.fields[of].clone());
            }
            row
        };
        match found.is_empty() {
            true => rows.push(pair(None)),
            false => rows.extend(found.into_iter().map(|click| pair(Some(click)))),
        }
    }
    rows
}

/// An order as a sink writes it, with its price in cents.
fn written(order: &Row) -> Value {
    let mut row = json!({});
    for name in ["order_id", "user_id", "item_id", "ts"] {
        row[name] = order.fields[name].clone();
    }
    row["price"] = json!(cents(&order.fields["price"]));
    row
}

fn all_written(rows: &[&Row]) -> Vec<Value> {
    rows.iter().map(|row| written(row)).collect()
}

/// Takes the hashes out of conflicts; both are there and differ.
fn without_hashes(rows: Vec<Value>) -> Vec<Value> {
    let mut rows = rows;
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        let hashes = ["kept_hash", "refused_hash"].map(|name| row.remove(name).unwrap());
        assert!(hashes[0] != hashes[1] && hashes.iter().all(|hash| hash.as_str().unwrap().len() == 16), "{hashes:?}");
    }
    rows
}

#[test]
fn orders_once_each_with_the_clicks_near_them_equal_a_naive_recomputation() {
    for seed in [7_000, 7_001] {
        let shopping = shopping(seed);
        let place = place(&shopping);
        // Who was first is decided tick by tick; in a single tick it is a question of order alone.
        let finished = place.run("job.yaml").workers(2).succeed();
        let clicks = oracle::clicks(&shopping.click_files());
        let orders = oracle::orders(&shopping.order_files());
        let [first, again, other] = once(&orders);
        assert!(again.len() > 5 && other.len() > 5, "seed {seed}: {} repeat, {} differ", again.len(), other.len());
        let counts = finished.counts("once");
        assert_eq!(counts.duplicate, (again.len() + other.len()) as u64, "seed {seed}");
        assert_eq!(counts.late, 0);
        assert_same(&place.rows("once.jsonl"), &all_written(&first), &["price"]);
        assert_same(&place.rows("again.jsonl"), &all_written(&again), &["price"]);
        assert_same(&without_hashes(place.rows("other.jsonl")), &all_written(&other), &["price"]);
        let expected = near(&first, &clicks);
        let alone = expected.iter().filter(|row| row["click_ts"].is_null()).count();
        assert!(alone > 20 && expected.len() > 2 * alone, "seed {seed}: {alone} of {} alone", expected.len());
        assert_same(&place.rows("near.jsonl"), &expected, &["price"]);
    }
}

#[test]
fn they_give_the_same_bytes_with_any_number_of_workers_and_after_restarts() {
    let shopping = shopping(7_100);
    let calm = place(&shopping);
    calm.run("job.yaml").args(BUSY).workers(1).succeed();
    for workers in [2, 4] {
        let place = place(&shopping);
        let mut running = place.run("job.yaml").args(BUSY).workers(workers).start();
        let out = place.path("near.jsonl");
        running.until("a row", || std::fs::metadata(&out).is_ok_and(|file| file.len() > 0));
        match workers {
            2 => {
                running.signal(Stop::Terminate);
                running.finish();
            }
            _ => running.kill(),
        }
        place.run("job.yaml").args(BUSY).workers(5 - workers.min(4)).succeed();
        for file in FILES {
            assert!(place.read(file) == calm.read(file), "{file} differs after {workers} workers");
        }
    }
}

#[test]
fn their_state_can_be_queried_and_their_bounds_are_explained() {
    let place = place(&shopping(7_200));
    let explained = place.riverrun(&["explain", "job.yaml"]).succeed();
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    for says in [
        "keys: some 40 bytes",
        "left rows: 5m of event time",
        "right rows: 35m of event time",
        "at most 10000 of a key",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    // It ends with its first checkpoint: at its end it would have nothing to keep any more.
    let run = place.run("job.yaml").args(BUSY).workers(2).env("RIVERRUN_FAIL_POINT", "log.checkpoint.appended:1");
    let killed = run.finish();
    assert_eq!(killed.code, None, "it was to be ended there: {killed}");
    let Some(duckdb) = tables::duckdb() else { return };
    let sql = "select count(*) as keys, count(body_hash) as bodies, count(distinct hash) as hashes from once_keys";
    let answer = tables::query(&place, &duckdb, &[sql]).succeed().document();
    let row = &answer[0];
    assert!(row["keys"].as_u64().is_some_and(|keys| keys > 0) && row["keys"] == row["bodies"], "{answer}");
}
