//! A select, a plain attribution, and windows.

use std::sync::Arc;

use super::{Input, Line, moment};
use crate::world::Dice;

pub(super) const SINKS: usize = 4;

pub(super) const JOB: &str = "sources:
  clicks: { topic: clicks, schema: { user: string, item: int64, n: int64, ts: timestamp_ms }, event_time: ts, max_disorder: 2s }
  orders: { topic: orders, schema: { order_id: string, user: string, item: int64, price: int64, ts: timestamp_ms }, event_time: ts, id: order_id, max_disorder: 2s }
steps:
  shown: { select: { from: clicks, where: \"n > 2\", columns: [user, item, n] } }
  credited: { attribute: { conversions: orders, touches: shown, by: [user, item], window: 20s, dedupe_for: 60s } }
  counts: { window: { from: shown, tumble: 10s, by: [user], aggregates: { rows: \"count(*)\", total: \"sum(n)\" }, lateness: 1s } }
sinks:
  bad: { from: clicks.bad, topic: bad, timestamps: epoch_ms }
  counts: { from: counts, topic: counts, timestamps: epoch_ms }
  credited: { from: credited, topic: credited, timestamps: epoch_ms }
  late: { from: counts.late, topic: late, timestamps: epoch_ms }
";

pub(super) fn inputs(dice: &mut Dice, bounded: bool) -> Vec<Input> {
    let clicks = clicks(dice, bounded);
    let orders = orders(dice, bounded);
    vec![
        Input { name: "clicks", id: None, splits: clicks },
        Input { name: "orders", id: Some("order_id"), splits: orders },
    ]
}

fn user(dice: &mut Dice) -> String {
    if dice.once_in(30) { "null".into() } else { format!("\"u{}\"", dice.roll(6)) }
}

fn drawn(dice: &mut Dice, bounded: bool, mut line: impl FnMut(&mut Dice, u64, i64) -> String) -> Arc<Vec<Vec<Line>>> {
    let count = 1 + dice.roll(4);
    let mut split = |dice: &mut Dice| {
        let (rows, step) = (dice.roll(90), 200 + dice.roll(600));
        let mut lines: Vec<Line> = Vec::new();
        for row in 0..rows {
            let (ts, arrives) = moment(dice, row, step, bounded);
            let text = if dice.once_in(25) { format!("{{\"broken\": {row}") } else { line(dice, row, ts) };
            let arrives = lines.last().map_or(0, |line| line.arrives).max(arrives);
            lines.push(Line { arrives, text });
        }
        lines
    };
    Arc::new((0..count).map(|_| split(dice)).collect())
}

fn clicks(dice: &mut Dice, bounded: bool) -> Arc<Vec<Vec<Line>>> {
    drawn(dice, bounded, |dice, _, ts| {
        let (user, item, n) = (user(dice), dice.roll(3), dice.roll(9));
        format!("{{\"user\":{user},\"item\":{item},\"ts\":{ts},\"n\":{n}}}")
    })
}

fn orders(dice: &mut Dice, bounded: bool) -> Arc<Vec<Vec<Line>>> {
    drawn(dice, bounded, |dice, row, ts| {
        let (user, item, price) = (user(dice), dice.roll(3), dice.roll(900));
        // Now and then an order comes again.
        let id = if dice.once_in(10) { row / 2 } else { row };
        format!("{{\"order_id\":\"o{id}\",\"user\":{user},\"item\":{item},\"ts\":{ts},\"price\":{price}}}")
    })
}
