//! The job that is simulated, and its input, both drawn from the seed.

use std::sync::Arc;

use riverrun_jobs::{Plan, check};

use crate::world::Dice;

/// Event time of the first rows, in milliseconds.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

/// A record of a split.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it can be read, in microseconds since the world began.
    pub arrives: u64,
    /// The record.
    pub text: String,
}

/// What is played.
pub struct Scene {
    /// The job.
    pub plan: Plan,
    /// Whether its input is bounded.
    pub bounded: bool,
    /// Whoever stops it drains it: it is finished before it has read everything.
    pub drains: bool,
    /// Lanes of each sink.
    pub lanes: Vec<u32>,
    /// Ticks that may be incomplete.
    pub in_flight: u64,
    /// The splits of the sources `clicks` and `orders`.
    pub splits: [Arc<Vec<Vec<Line>>>; 2],
}

impl Scene {
    /// Draws a scene.
    pub fn of(seed: u64) -> Scene {
        let mut dice = Dice::new(seed ^ 0x5ce0e);
        let bounded = !dice.once_in(3);
        let in_flight = 1 + dice.roll(4);
        let (rows, shards) = (2 + dice.roll(40), [1, 7, 16][dice.roll(3) as usize]);
        let commit = 10 + dice.roll(60);
        let checkpoint = 10 + dice.roll(80);
        let lanes = (0..4).map(|_| 1 + dice.roll(5) as u32).collect();
        let text = format!(
            "job: simulated
shards: {shards}
tick: {{ interval: 10ms, max_rows: {rows}, in_flight: {in_flight} }}
commit: {{ every: {commit}ms }}
checkpoint: {{ every: {checkpoint}ms }}
sources:
  clicks: {{ topic: clicks, schema: {{ user: string, item: int64, n: int64, ts: timestamp_ms }}, event_time: ts, max_disorder: 2s }}
  orders: {{ topic: orders, schema: {{ order_id: string, user: string, item: int64, price: int64, ts: timestamp_ms }}, event_time: ts, id: order_id, max_disorder: 2s }}
steps:
  shown: {{ select: {{ from: clicks, where: \"n > 2\", columns: [user, item, n] }} }}
  credited: {{ attribute: {{ conversions: orders, touches: shown, by: [user, item], window: 20s, dedupe_for: 60s }} }}
  counts: {{ window: {{ from: shown, tumble: 10s, by: [user], aggregates: {{ rows: \"count(*)\", total: \"sum(n)\" }}, lateness: 1s }} }}
sinks:
  bad: {{ from: clicks.bad, topic: bad, timestamps: epoch_ms }}
  counts: {{ from: counts, topic: counts, timestamps: epoch_ms }}
  credited: {{ from: credited, topic: credited, timestamps: epoch_ms }}
  late: {{ from: counts.late, topic: late, timestamps: epoch_ms }}
"
        );
        let (plan, _) = check("simulated.yaml", &text, &[]).unwrap_or_else(|report| {
            let messages: Vec<_> = report.faults().iter().map(|fault| fault.message.clone()).collect();
            panic!("the simulated job is at fault: {messages:?}\n{text}")
        });
        let splits = [clicks(&mut dice, bounded), orders(&mut dice, bounded)];
        Scene { plan, bounded, drains: !bounded && seed.is_multiple_of(2), lanes, in_flight, splits }
    }
}

/// Event time and arrival of row `row`: in disorder, some of it beyond what the source allows.
fn moment(dice: &mut Dice, row: u64, step: u64, bounded: bool) -> (i64, u64) {
    let back = if dice.once_in(12) { dice.roll(15_000) } else { dice.roll(2_500) } as i64;
    let arrives = if bounded { 0 } else { row * 1500 + dice.roll(6_000) };
    (EPOCH_MS + (row * step) as i64 - back, arrives)
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
