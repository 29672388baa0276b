//! A deduplication, and on it sessions, windows of sessions, a join, and a ledger with corrections.
//!
//! Splits of one source are apart in event time, and a live one may fall silent for longer than it takes to be idle: the
//! watermark stalls, then runs ahead of what that split still has.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Input, Line, moment};
use crate::world::Dice;

pub(super) const SINKS: usize = 11;

/// Returns sources, steps and sinks.
pub(super) fn job(dice: &mut Dice) -> String {
    let idle = ["10ms", "60ms", "30s"][dice.roll(3) as usize];
    let like = format!("format: json, event_time: ts, id: event_id, max_disorder: 2s, idle_after: {idle}");
    format!(
        "sources:
  clicks: {{ topic: clicks, {like}, schema: {{ event_id: string, user: string, item: int64, channel: string, campaign: string, n: int64, ts: timestamp_ms }} }}
  orders: {{ topic: orders, {like}, schema: {{ event_id: string, order_id: string, user: string, item: int64, price: int64, currency: string, ts: timestamp_ms }} }}
  refunds: {{ topic: refunds, {like}, schema: {{ event_id: string, order_id: string, user: string, kind: string, amount: int64, currency: string, ts: timestamp_ms }} }}
steps:
  once: {{ deduplicate: {{ from: clicks, by: [event_id], within: 20s, compare: [n], lateness: 3s }} }}
  visits:
    sessionize:
      {{ from: once, by: [user], gap: 3s, max_duration: 20s, lateness: 3s, extend_when: \"n > 2\", leave_when: \"n = 0\",
        aggregates: {{ events: \"count(*)\", total: \"sum(n)\", landing: \"first(item)\", items: \"count(distinct item)\" }} }}
  ended: {{ window: {{ from: visits, tumble: 10s, by: [user], aggregates: {{ visits: \"count(*)\", events: \"sum(events)\" }} }} }}
  near: {{ join: {{ left: orders, right: once, on: [user, item], within: {{ before: 5s, after: 3s }}, kind: left, prefix: click_ }} }}
  credited:
    attribute:
      {{ conversions: orders, touches: once, corrections: refunds, by: [user], window: 15s, lateness: 3s,
        models: [last_touch, linear, position_based],
        order: {{ id: order_id, value: price, currency: currency }}, touch: {{ channel: channel, campaign: campaign }},
        correction: {{ order_id: order_id, kind: kind, amount: amount, currency: currency }} }}
sinks:
  again: {{ from: once.duplicates, topic: again, timestamps: epoch_ms }}
  alone: {{ from: visits.sessionless, topic: alone, timestamps: epoch_ms }}
  bad: {{ from: clicks.bad, topic: bad, timestamps: epoch_ms }}
  credited: {{ from: credited, topic: credited, timestamps: epoch_ms }}
  ended: {{ from: ended, topic: ended, timestamps: epoch_ms }}
  late: {{ from: once.late, topic: late, timestamps: epoch_ms }}
  near: {{ from: near, topic: near, timestamps: epoch_ms }}
  near_late: {{ from: near.late, topic: near-late, timestamps: epoch_ms }}
  other: {{ from: once.conflicts, topic: other, timestamps: epoch_ms }}
  paths: {{ from: credited.paths, topic: paths, timestamps: epoch_ms }}
  visits: {{ from: visits, topic: visits, timestamps: epoch_ms }}
"
    )
}

pub(super) fn inputs(dice: &mut Dice, bounded: bool) -> Vec<Input> {
    let mut input = |name, rows, line: fn(&mut Dice, u64, u64) -> Value| {
        let splits = Arc::new(drawn(dice, bounded, rows, line));
        Input { name, id: Some("event_id"), splits }
    };
    vec![input("clicks", 90, click), input("orders", 40, order), input("refunds", 30, refund)]
}

/// Draws splits of up to `most` rows; `line` is given the number of the split and of the row.
fn drawn(dice: &mut Dice, bounded: bool, most: u64, line: impl Fn(&mut Dice, u64, u64) -> Value) -> Vec<Vec<Line>> {
    let count = 1 + dice.roll(3);
    let split = |dice: &mut Dice, number: u64| {
        let rows = dice.roll(most);
        // All sources go over the same span of event time, some of their splits behind the others.
        let (step, behind) = ((20_000 + dice.roll(30_000)) / most, dice.roll(4) * dice.roll(3_000));
        let (silent_from, silence) = match dice.once_in(3) {
            true => (dice.roll(rows + 1), dice.roll(150_000)),
            false => (rows, 0),
        };
        let mut lines: Vec<Line> = Vec::new();
        for row in 0..rows {
            let (ts, arrives) = moment(dice, row, step, bounded);
            let silent = if row < silent_from || bounded { 0 } else { silence };
            let text = match dice.once_in(25) {
                true => format!("{{\"broken\": {row}"),
                false => {
                    let mut record = line(dice, number, row);
                    record["ts"] = json!(ts - behind as i64);
                    record.to_string()
                }
            };
            let arrives = lines.last().map_or(0, |line| line.arrives).max(arrives + silent);
            lines.push(Line { arrives, text });
        }
        lines
    };
    (0..count).map(|number| split(dice, number)).collect()
}

/// Draws nothing once in `times`.
fn mostly(dice: &mut Dice, times: u64, value: impl Into<Value>) -> Value {
    if dice.once_in(times) { Value::Null } else { value.into() }
}

fn user(dice: &mut Dice) -> (Value, u64) {
    let user = dice.roll(5);
    (mostly(dice, 30, format!("u{user}")), user)
}

fn click(dice: &mut Dice, split: u64, row: u64) -> Value {
    let (user, _) = user(dice);
    let (item, n) = (dice.roll(3), dice.roll(9));
    let channel = ["search", "mail", "social"][dice.roll(3) as usize];
    let (channel, campaign) = (mostly(dice, 6, channel), format!("c{}", dice.roll(2)));
    let campaign = mostly(dice, 4, campaign);
    // Some come again, on their own split or another one; some of these say something else.
    let id = match dice.roll(8) {
        0 => format!("e{split}-{}", row / 2),
        1 => format!("e0-{row}"),
        _ => format!("e{split}-{row}"),
    };
    json!({ "event_id": mostly(dice, 30, id), "user": user, "item": item, "channel": channel, "campaign": campaign, "n": n })
}

/// The order ids of one user are few: some orders are told again, with other money.
fn order_id(dice: &mut Dice, user: u64) -> String {
    format!("o{user}-{}", dice.roll(14))
}

fn currency(dice: &mut Dice) -> &'static str {
    if dice.once_in(12) { "USD" } else { "EUR" }
}

fn order(dice: &mut Dice, split: u64, row: u64) -> Value {
    let (shown, user) = user(dice);
    let (order_id, item) = (order_id(dice, user), dice.roll(3));
    let (price, currency) = (dice.roll(900), currency(dice));
    json!({ "event_id": format!("b{split}-{row}"), "order_id": order_id, "user": shown, "item": item, "price": price,
        "currency": currency })
}

fn refund(dice: &mut Dice, split: u64, row: u64) -> Value {
    let (shown, user) = user(dice);
    let order_id = order_id(dice, user);
    let kind = ["refund", "refund", "refund", "update", "cancel", "gift"][dice.roll(6) as usize];
    let (amount, currency) = (dice.roll(500), currency(dice));
    json!({ "event_id": format!("r{split}-{row}"), "order_id": order_id, "user": shown, "kind": kind,
        "amount": mostly(dice, 20, amount), "currency": mostly(dice, 3, currency) })
}
