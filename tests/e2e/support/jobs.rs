//! The jobs under test, as a person would write them.

use crate::oracle::Model;

/// Columns and times of clicks and orders; `topic` or `file` goes before.
const CLICKS: &str = r#"
    format: json
    schema: { event_id: string, user_id: string, item_id: string, event_type: string, ts: timestamp_ms }
    event_time: ts
    id: event_id
    max_disorder: 5s
    idle_after: 1h
"#;
const ORDERS: &str = r#"
    format: json
    schema: { order_id: string, user_id: string, item_id: string, price: "decimal(12,2)", ts: timestamp_ms }
    event_time: ts
    id: order_id
    max_disorder: 5s
    idle_after: 1h
"#;
/// How far before an order a click may be, in milliseconds.
pub const WINDOW_MS: i64 = 30 * 60 * 1000;
/// For how long a second order of the same id is a duplicate, in milliseconds.
pub const DEDUPE_MS: i64 = 24 * 3600 * 1000;

/// Where the job's rows come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// `in/clicks-*.jsonl` and `in/orders-*.jsonl`; `out.jsonl`, `bad.jsonl`, `late.jsonl`.
    Files,
    /// Topics `clicks` and `orders`; topics `out`, `bad`, `late`.
    Topics,
}

impl Over {
    fn source(self, name: &str) -> String {
        match self {
            Over::Files => format!("file: {{ path: \"in/{name}-*.jsonl\" }}"),
            Over::Topics => format!("topic: {name}"),
        }
    }

    fn sink(self, name: &str) -> String {
        match self {
            Over::Files => format!("file: {{ path: {name}.jsonl }}, timestamps: epoch_ms"),
            Over::Topics => format!("topic: {name}, timestamps: epoch_ms"),
        }
    }
}

/// Commits and checkpoints as often as can be, and ticks of few rows, so that a short run has many moments to be killed at.
pub const BUSY: &[&str] =
    &["--set", "tick.max_rows=200", "--set", "commit.every=10ms", "--set", "checkpoint.every=50ms"];

/// Returns the main job: each order with a click before it.
pub fn attribution(over: Over, model: Model) -> String {
    let (clicks, orders) = (over.source("clicks"), over.source("orders"));
    let (out, bad, late) = (over.sink("out"), over.sink("bad"), over.sink("late"));
    let model = model.name();
    format!(
        r#"
job: attribution
sources:
  clicks:
    {clicks}{CLICKS}
  orders:
    {orders}{ORDERS}
steps:
  item_clicks:
    select: {{ from: clicks, where: "event_type = 'click'", columns: [event_id, user_id, item_id, ts] }}
  attributed:
    attribute: {{ conversions: orders, touches: item_clicks, by: [user_id, item_id], window: 30m, model: {model} }}
sinks:
  out: {{ from: attributed, {out} }}
  bad: {{ from: clicks.bad, {bad} }}
  late: {{ from: attributed.late, {late} }}
"#
    )
}

/// Returns the second job: impressions and clicks of an item per minute.
pub fn minutes(over: Over) -> String {
    let (clicks, out, bad, late) = (over.source("clicks"), over.sink("out"), over.sink("bad"), over.sink("late"));
    format!(
        r#"
job: item-minutes
sources:
  clicks:
    {clicks}{CLICKS}
steps:
  minutes:
    window:
      from: clicks
      tumble: 1m
      by: [item_id]
      aggregates:
        impressions: "count(*) filter (where event_type = 'impression')"
        clicks: "count(*) filter (where event_type = 'click')"
sinks:
  out: {{ from: minutes, {out} }}
  bad: {{ from: clicks.bad, {bad} }}
  late: {{ from: minutes.late, {late} }}
"#
    )
}

/// Returns a job of sessions, in which only clicks are interactions; views that stand alone go to `alone`.
pub fn sessions(over: Over) -> String {
    let (clicks, out, bad, late) = (over.source("clicks"), over.sink("out"), over.sink("bad"), over.sink("late"));
    let alone = over.sink("alone");
    format!(
        r#"
job: sessions
sources:
  clicks:
    {clicks}{CLICKS}
steps:
  sessions:
    sessionize:
      from: clicks
      by: [user_id]
      gap: 5m
      max_duration: 20m
      lateness: 2s
      extend_when: "event_type = 'click'"
      aggregates:
        events: "count(*)"
        items: "count(distinct item_id)"
        landing: "first(item_id)"
sinks:
  out: {{ from: sessions, {out} }}
  bad: {{ from: clicks.bad, {bad} }}
  late: {{ from: sessions.late, {late} }}
  alone: {{ from: sessions.sessionless, {alone} }}
"#
    )
}

/// Returns a job with one aggregate of each kind over overlapping windows of orders, one window beginning every five minutes.
pub fn revenue() -> String {
    let (orders, out) = (Over::Files.source("orders"), Over::Files.sink("out"));
    format!(
        r#"
job: revenue
sources:
  orders:
    {orders}{ORDERS}
steps:
  revenue:
    window:
      from: orders
      hop: {{ size: 15m, every: 5m }}
      by: [item_id]
      aggregates:
        orders: "count(*)"
        revenue: "sum(price)"
        least: "min(price)"
        most: "max(price)"
        buyers: "count(distinct user_id)"
        first_order: "first(order_id)"
        last_order: "last(order_id)"
sinks:
  out: {{ from: revenue, {out} }}
"#
    )
}

/// Returns a job that copies `in/clicks-*.jsonl` to `out.jsonl` and what is bad to `bad.jsonl`.
pub fn copy() -> String {
    let (clicks, out, bad) = (Over::Files.source("clicks"), Over::Files.sink("out"), Over::Files.sink("bad"));
    format!(
        r#"
job: copy
sources:
  clicks:
    {clicks}{CLICKS}
steps:
  copied: {{ select: {{ from: clicks }} }}
sinks:
  out: {{ from: copied, {out} }}
  bad: {{ from: clicks.bad, {bad} }}
"#
    )
}
