//! `attribute` with models side by side, as a user runs it: the money is right to the cent, whatever happens to the run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::oracle::cents;
use crate::support::jobs::BUSY;
use crate::support::process::Stop;
use crate::support::{Dice, Place};
use crate::tables;

const JOB: &str = r#"
job: ledger
sources:
  clicks:
    file: { path: "in/clicks-*.jsonl" }
    schema: { id: string, user: string, channel: string, ts: timestamp_ms }
    event_time: ts
    id: id
    max_disorder: 0s
  orders:
    file: { path: "in/orders.jsonl" }
    schema: { id: string, user: string, order: string, price: "decimal(12,2)", ts: timestamp_ms }
    event_time: ts
    id: id
    max_disorder: 0s
  corrections:
    file: { path: "in/corrections.jsonl" }
    schema: { id: string, user: string, order: string, kind: string, amount: "decimal(12,2)", ts: timestamp_ms }
    event_time: ts
    id: id
    max_disorder: 0s
steps:
  credited:
    attribute:
      conversions: orders
      touches: clicks
      corrections: corrections
      by: [user]
      window: 30m
      models: [last_touch, first_touch, linear, last_non_direct]
      lateness: 20m
      order: { id: order, value: price }
      touch: { channel: channel }
      correction: { order_id: order, kind: kind, amount: amount }
sinks:
  out: { from: credited, file: { path: out.jsonl }, timestamps: epoch_ms }
  notices: { from: credited.notices, file: { path: notices.jsonl } }
  paths: { from: credited.paths, file: { path: paths.jsonl } }
  late: { from: credited.late, file: { path: late.jsonl } }
"#;

const FILES: [&str; 4] = ["out.jsonl", "notices.jsonl", "paths.jsonl", "late.jsonl"];
const MODELS: [&str; 4] = ["last_touch", "first_touch", "linear", "last_non_direct"];
const START_MS: i64 = 1_767_225_600_000;
const WINDOW_MS: i64 = 30 * 60 * 1000;

/// A row of any of the three files.
#[derive(Clone)]
struct Row {
    id: String,
    user: String,
    ts: i64,
    /// The channel of a click.
    channel: Option<&'static str>,
    order: String,
    kind: &'static str,
    cents: i64,
}

/// Clicks, orders and corrections, each in the order in which they come.
#[derive(Default)]
struct Traffic {
    clicks: Vec<Row>,
    orders: Vec<Row>,
    corrections: Vec<Row>,
}

fn traffic(seed: u64) -> Traffic {
    let mut dice = Dice::new(seed);
    let mut all = Traffic::default();
    let mut now = START_MS;
    for number in 0..900 {
        now += i64::try_from(dice.below(40_000)).unwrap();
        // Coarse times make ties; disorder stays below what is allowed.
        let ts = (now - i64::try_from(dice.below(4_000)).unwrap()) / 500 * 500;
        let user = format!("u{}", dice.below(12));
        let row =
            Row { id: format!("e{number:04}"), user, ts, channel: None, order: String::new(), kind: "", cents: 0 };
        match dice.below(10) {
            0..=5 => {
                let channel = [None, Some("direct"), Some("email"), Some("ads")][dice.below(4) as usize];
                all.clicks.push(Row { channel, ..row });
            }
            6..=8 => {
                // Some orders are told again.
                let again =
                    (dice.once_in(12) && !all.orders.is_empty()).then(|| all.orders[all.orders.len() - 1].clone());
                let cents = i64::try_from(dice.below(20_000)).unwrap();
                let (order, user) = again.map_or((format!("o{number}"), row.user.clone()), |it| (it.order, it.user));
                all.orders.push(Row { order, user, cents, ..row });
            }
            _ if all.orders.len() > 3 => {
                let of = &all.orders[all.orders.len() - 1 - dice.below(3) as usize];
                let kind = ["refund", "refund", "cancel", "update"][dice.below(4) as usize];
                let cents = 1 + i64::try_from(dice.below(12_000)).unwrap();
                // A correction is told after its order, whose time may be a little later.
                let (order, user, ts) = (of.order.clone(), of.user.clone(), ts.max(of.ts + 1));
                all.corrections.push(Row { order, user, kind, cents, ts, ..row });
            }
            _ => {}
        }
    }
    // Some clicks come minutes late, within the lateness.
    for at in (0..all.clicks.len() - 12).step_by(13) {
        all.clicks[at..at + 12].rotate_left(1);
    }
    all
}

impl Traffic {
    fn place(&self) -> Place {
        let place = Place::new();
        let money = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        let lines = |rows: Vec<Value>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
        let clicks = |half: usize| {
            let its = self.clicks.iter().skip(half).step_by(2);
            lines(
                its.map(|row| json!({"id": row.id, "user": row.user, "channel": row.channel, "ts": row.ts})).collect(),
            )
        };
        place.write("in/clicks-0.jsonl", clicks(0)).write("in/clicks-1.jsonl", clicks(1));
        let order = |row: &Row| json!({"id": row.id, "user": row.user, "order": row.order, "price": money(row.cents), "ts": row.ts});
        place.write("in/orders.jsonl", lines(self.orders.iter().map(order).collect()));
        let correction = |row: &Row| json!({"id": row.id, "user": row.user, "order": row.order, "kind": row.kind, "amount": money(row.cents), "ts": row.ts});
        place.write("in/corrections.jsonl", lines(self.corrections.iter().map(correction).collect()));
        place.write("job.yaml", JOB);
        place
    }

    /// Net cents by order, model and touch (`-` for nobody), worked out the plain way.
    fn net(&self) -> BTreeMap<(String, String, String), i64> {
        let in_order = |rows: &[Row]| {
            let mut rows = rows.to_vec();
            rows.sort_by(|a, b| (a.ts, &a.id).cmp(&(b.ts, &b.id)));
            rows
        };
        let (clicks, corrections) = (in_order(&self.clicks), in_order(&self.corrections));
        let mut net: BTreeMap<(String, String, String), i64> = BTreeMap::new();
        let mut known: Vec<String> = Vec::new();
        for order in in_order(&self.orders) {
            if known.contains(&order.order) {
                continue;
            }
            known.push(order.order.clone());
            let (mut total, mut back, mut is_void) = (order.cents, 0, false);
            for correction in corrections.iter().filter(|it| it.order == order.order) {
                match correction.kind {
                    "refund" => back = total.min(back + correction.cents),
                    "update" => (total, back) = (correction.cents, back.min(correction.cents)),
                    _ => (back, is_void) = (total, true),
                }
                if is_void {
                    break;
                }
            }
            let is_near = |click: &&Row| click.user == order.user && (0..=WINDOW_MS).contains(&(order.ts - click.ts));
            let path: Vec<&Row> = clicks.iter().filter(is_near).collect();
            let is_direct = |click: &&Row| click.channel.is_none_or(|channel| channel == "direct");
            for model in MODELS {
                let winner = match model {
                    "first_touch" => path.first(),
                    "last_non_direct" => path.iter().rev().find(|click| !is_direct(click)).or(path.last()),
                    _ => path.last(),
                };
                let given: Vec<&str> = match (model, winner) {
                    ("linear", Some(_)) => path.iter().map(|click| click.id.as_str()).collect(),
                    (_, winner) => vec![winner.map_or("-", |click| click.id.as_str())],
                };
                let count = given.len() as i64;
                for (at, touch) in given.into_iter().enumerate() {
                    // The cents that are left over go to the first ones.
                    let part = |cents: i64| cents / count + i64::from((at as i64) < cents % count);
                    net.insert((order.order.clone(), model.to_owned(), touch.to_owned()), part(total) - part(back));
                }
            }
        }
        net
    }
}

/// What is given and not taken back.
fn table(rows: &[Value]) -> Vec<Value> {
    let mut count: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows {
        let mut row = row.clone();
        let op = row.as_object_mut().unwrap().remove("op").unwrap();
        *count.entry(row.to_string()).or_default() += if op == "+" { 1 } else { -1 };
    }
    assert!(count.values().all(|count| *count == 0 || *count == 1), "what was not given was taken back");
    let there = count.into_iter().filter(|(_, count)| *count == 1);
    there.map(|(row, _)| serde_json::from_str(&row).unwrap()).collect()
}

fn net_of(rows: &[Value]) -> BTreeMap<(String, String, String), i64> {
    let mut net: BTreeMap<(String, String, String), i64> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        *net.entry((text("order_id"), text("model"), text("touch_id"))).or_default() += cents(&row["amount"]).unwrap();
    }
    net
}

#[test]
fn each_model_credits_the_net_revenue_to_the_cent() {
    for seed in [8_000, 8_001, 8_002] {
        let traffic = traffic(seed);
        let place = traffic.place();
        // Ticks so short that clicks come in a later one than the order that they led to.
        let finished = place.run("job.yaml").set("tick.max_rows=8").workers(2).succeed();
        let given = place.rows("out.jsonl");
        let expected = traffic.net();
        assert!(expected.len() > 800 && expected.keys().any(|(.., touch)| touch == "-"), "seed {seed}");
        assert_eq!(net_of(&table(&given)), expected, "seed {seed}");
        assert!(given.iter().any(|row| row["op"] == "-"), "seed {seed}: a late click corrects something");
        let counts = finished.counts("credited");
        assert_eq!((counts.late, counts.bad), (0, 0));
        let told: Vec<Value> = place.rows("notices.jsonl");
        let again = told.iter().filter(|row| row["notice"] == "duplicate_order" || row["notice"] == "conflict").count();
        let orders: std::collections::BTreeSet<&str> = traffic.orders.iter().map(|row| row.order.as_str()).collect();
        assert_eq!(again, traffic.orders.len() - orders.len(), "seed {seed}");
    }
}

#[test]
fn another_cut_into_ticks_ends_in_the_same_table() {
    let traffic = traffic(8_100);
    let tables = [7, 60, 100_000].map(|rows| {
        let place = traffic.place();
        place.run("job.yaml").set(format!("tick.max_rows={rows}")).workers(3).succeed();
        (table(&place.rows("out.jsonl")), table(&place.rows("paths.jsonl")))
    });
    assert!(!tables[0].0.is_empty() && tables[0] == tables[1] && tables[0] == tables[2]);
}

#[test]
fn a_ledger_gives_the_same_bytes_with_any_number_of_workers_and_after_restarts() {
    let traffic = traffic(8_200);
    let calm = traffic.place();
    let slow = ["--set", "tick.max_rows=40"];
    calm.run("job.yaml").args(BUSY).args(&slow).workers(1).succeed();
    for (workers, stop) in [(2, Some(Stop::Terminate)), (3, None)] {
        let place = traffic.place();
        let mut running = place.run("job.yaml").args(BUSY).args(&slow).workers(workers).start();
        running.catch_once_written(&place.path("out.jsonl"));
        match stop {
            Some(stop) => {
                running.signal(stop);
                running.finish();
            }
            None => running.kill(),
        }
        place.run("job.yaml").args(BUSY).args(&slow).workers(4 - workers).succeed();
        for file in FILES {
            assert!(place.read(file) == calm.read(file), "{file} differs after {workers} workers");
        }
    }
}

#[test]
fn the_ledgers_can_be_queried_and_their_bounds_are_explained() {
    let place = traffic(8_300).place();
    let explained = place.riverrun(&["explain", "job.yaml"]).succeed();
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    for says in ["touches: 50m of event time", "orders: 90d", "at most 10000 a key"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    // It ends with its first checkpoint: at its end it would have nothing to keep any more.
    let run = place.run("job.yaml").args(BUSY).args(&["--set", "tick.max_rows=40"]).workers(2);
    let killed = run.env("RIVERRUN_FAIL_POINT", "log.checkpoint.appended:1").finish();
    assert_eq!(killed.code, None, "it was to be ended there: {killed}");
    let Some(duckdb) = tables::duckdb() else { return };
    let sql = r#"select count(*) as keys, sum(size) as kept, sum(json_array_length(state, '$.touches')) as touches from credited_ledgers"#;
    let answer = tables::query(&place, &duckdb, &[sql]).succeed().document();
    assert!(answer[0]["keys"].as_u64().is_some_and(|keys| keys > 0), "{answer}");
}
