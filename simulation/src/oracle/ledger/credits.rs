//! The ledger: the table that all events known by now make, worked out anew whenever it can be another one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{Calm, Row, SECOND, sorted};
use super::passed;

/// What a ledger has seen.
#[derive(Default)]
pub(super) struct Credits {
    /// Of each user: orders, touches, refunds, as far as they were on time and make sense.
    known: BTreeMap<String, [Vec<Row>; 3]>,
    /// Of each user: how much was known and visible when the tables were made, and the tables: rows, and paths.
    made: BTreeMap<String, (Known, [Table; 2])>,
}

type Known = [usize; 5];
type Table = BTreeMap<String, i64>;

const WHOLE: i64 = 1_000_000;
const WINDOW: i128 = 15 * SECOND;
const MODELS: [&str; 3] = ["last_touch", "linear", "position_based"];
const SINKS: [&str; 2] = ["credited", "paths"];

impl Credits {
    /// Takes in orders, touches and refunds; those before `limit` are late.
    pub(super) fn tick(&mut self, inputs: [&[Row]; 3], limit: i128, watermark: i128, calm: &mut Calm) {
        let counts = calm.counts("credited");
        for (input, rows) in inputs.into_iter().enumerate() {
            for row in rows {
                counts.input += 1;
                if passed(row.time, limit) {
                    counts.late += 1;
                } else if !makes_sense(input, row) {
                    counts.bad += 1;
                } else {
                    counts.taken += 1;
                    self.known.entry(row.key(&["user"])).or_default()[input].push(row.clone());
                }
            }
        }
        for (user, known) in &self.known {
            let visible = |input: usize| known[input].iter().filter(|row| passed(row.time, watermark)).count();
            let now = [known[0].len(), known[1].len(), known[2].len(), visible(0), visible(2)];
            let (before, tables) = self.made.entry(user.clone()).or_default();
            if *before == now {
                continue;
            }
            let after = tables_of(known, watermark);
            for ((sink, before), after) in SINKS.into_iter().zip(&*tables).zip(&after) {
                after.iter().for_each(|(row, times)| calm.change(sink, row.clone(), *times));
                before.iter().for_each(|(row, times)| calm.change(sink, row.clone(), -times));
            }
            (*before, *tables) = (now, after);
        }
    }
}

/// Says whether a row of an input has what a ledger needs. A touch of nobody is taken, and leads to nothing.
fn makes_sense(input: usize, row: &Row) -> bool {
    let amount = row.value["amount"].as_i64();
    match (input, row.value["kind"].as_str()) {
        (0, _) => true,
        (1, _) => row.id.is_some() || row.value["user"].is_null(),
        (_, Some("cancel")) => true,
        (_, Some("refund")) => amount > Some(0),
        (_, Some("update")) => amount.is_some(),
        _ => false,
    }
}

/// Returns the rows and the paths of all orders of one user that the watermark has passed.
fn tables_of(known: &[Vec<Row>; 3], watermark: i128) -> [Table; 2] {
    let [orders, touches, refunds] = known.each_ref().map(|rows| {
        let mut rows: Vec<&Row> = rows.iter().collect();
        rows.sort_by_key(|row| (row.time, rank(row), row.id.as_deref(), row.split, row.position));
        rows
    });
    let (mut rows, mut paths) = (Table::new(), Table::new());
    let mut first: BTreeMap<&str, &Row> = BTreeMap::new();
    for order in orders {
        first.entry(order.value["order_id"].as_str().unwrap_or_default()).or_insert(order);
    }
    for (order_id, order) in first.into_iter().filter(|(_, order)| passed(order.time, watermark)) {
        let path = path_of(order, &touches);
        let corrections: Vec<&Row> = refunds
            .iter()
            .filter(|refund| refund.value["order_id"] == order_id && passed(refund.time, watermark))
            .filter(|refund| refund.value["currency"].is_null() || refund.value["currency"] == order.value["currency"])
            .copied()
            .collect();
        for row in MODELS.iter().flat_map(|model| booked(model, order, &path, &corrections)) {
            *rows.entry(sorted(&row)).or_default() += 1;
        }
        let raw: Vec<&str> = path.iter().map(|touch| channel(touch)).collect();
        let (mut exposure, mut seen) = (raw.clone(), Vec::new());
        exposure.dedup();
        raw.iter().for_each(|channel| {
            if !seen.contains(channel) {
                seen.push(*channel)
            }
        });
        let row = json!({ "user": order.value["user"], "order_id": order_id, "raw": raw, "exposure": exposure,
            "first": seen });
        *paths.entry(sorted(&row)).or_default() += 1;
    }
    [rows, paths]
}

/// Of events of one time a new total comes before what is given back.
fn rank(row: &Row) -> u8 {
    u8::from(row.value["kind"].as_str().is_some_and(|kind| kind != "update"))
}

fn channel(touch: &Row) -> &str {
    touch.value["channel"].as_str().unwrap_or("direct")
}

/// Returns the touches in the window of an order, without clicks that repeat one of the second before.
fn path_of<'r>(order: &Row, touches: &[&'r Row]) -> Vec<&'r Row> {
    let repeats = |at: usize, touch: &Row| {
        touches[..at]
            .iter()
            .any(|other| touch.time - other.time <= SECOND && touch.value["campaign"] == other.value["campaign"])
    };
    let is_in = |touch: &Row| (order.time - WINDOW..=order.time).contains(&touch.time);
    let is_nobodys = order.value["user"].is_null();
    let path = touches.iter().enumerate().filter(|(at, touch)| !is_nobodys && is_in(touch) && !repeats(*at, touch));
    path.map(|(_, touch)| *touch).collect()
}

/// Returns what each touch counts by a model.
fn weights(model: &str, count: usize) -> Vec<i64> {
    let last = count.saturating_sub(1);
    let weight = |at: usize| match model {
        "last_touch" => i64::from(at == last),
        "position_based" if count > 2 && (at == 0 || at == last) => 2 * (count as i64 - 2),
        _ => 1,
    };
    (0..count).map(weight).collect()
}

/// Divides an amount by weights to the last unit: what is left over goes to the largest fractions, of equal ones to the earlier.
/// Without weights nobody has it: all of it is the one part.
fn divided(amount: i64, weights: &[i64]) -> Vec<i64> {
    let all: i64 = weights.iter().sum();
    if all == 0 {
        return vec![amount];
    }
    let mut parts: Vec<i64> = weights.iter().map(|weight| amount * weight / all).collect();
    let mut by_fraction: Vec<usize> = (0..parts.len()).collect();
    by_fraction.sort_by_key(|at| -(amount * weights[*at] % all));
    let left = amount - parts.iter().sum::<i64>();
    by_fraction.into_iter().take(left as usize).for_each(|at| parts[at] += 1);
    parts
}

/// Returns the rows that an order and its corrections book by a model.
fn booked(model: &str, order: &Row, path: &[&Row], corrections: &[&Row]) -> Vec<Value> {
    let weights = weights(model, path.len());
    let parts = divided(WHOLE, &weights);
    let (mut total, mut back, mut is_void) = (order.value["price"].as_i64().unwrap_or_default(), 0, false);
    let net = |total: i64, back: i64| -> Vec<i64> {
        divided(total, &weights).into_iter().zip(divided(back, &weights)).map(|(is, gone)| is - gone).collect()
    };
    let mut rows = Vec::new();
    let mut book = |event: &Row, reason: &str, sign: i64, before: &[i64], after: &[i64]| {
        for (at, part) in parts.iter().enumerate() {
            let touch = path.get(at);
            let has_weight = touch.is_none() || weights[at] > 0;
            let change = after[at] - before[at];
            if !has_weight || (sign == 0 && change == 0) {
                continue;
            }
            let of = |name: &str| touch.map_or(Value::Null, |touch| touch.value[name].clone());
            rows.push(json!({ "user": order.value["user"], "order_id": order.value["order_id"], "model": model,
                "touch_id": of("event_id"), "touch_time": of("ts"), "campaign": of("campaign"), "product": null,
                "channel": touch.map_or("(none)", |touch| channel(touch)), "through": touch.map(|_| "click"),
                "weight_ppm": part, "conversions_ppm": sign * part, "amount": change,
                "currency": order.value["currency"], "reason": reason, "event_id": event.id,
                "order_time": order.value["ts"], "booked_time": (event.time.max(order.time) / 1000) as i64 }));
        }
    };
    book(order, "order", 1, &vec![0; parts.len()], &net(total, 0));
    for event in corrections {
        if is_void {
            break;
        }
        let before = net(total, back);
        let amount = event.value["amount"].as_i64().unwrap_or_default();
        let kind = event.value["kind"].as_str().unwrap_or_default();
        match kind {
            "refund" => back += amount.min(total - back),
            "update" => (total, back) = (amount, back.min(amount)),
            _ => (back, is_void) = (total, true),
        }
        book(event, kind, if is_void { -1 } else { 0 }, &before, &net(total, back));
    }
    rows
}
