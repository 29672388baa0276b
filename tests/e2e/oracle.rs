//! What must come out, computed from the raw input in the plainest way.
//!
//! Nothing is late here: the input of tests that use it is never further out of order than the jobs allow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Which click is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// The last one.
    Last,
    /// The first one.
    First,
}

impl Model {
    /// Returns the name in the job file.
    pub fn name(self) -> &'static str {
        match self {
            Model::Last => "last_touch",
            Model::First => "first_touch",
        }
    }
}

/// A row as it was read, in per-key order: time, id (none first), split, position.
#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    pub id: Option<String>,
    split: usize,
    position: usize,
    pub fields: Value,
}

impl Row {
    fn rank(&self) -> (i64, Option<&str>, usize, usize) {
        (self.time, self.id.as_deref(), self.split, self.position)
    }

    fn field(&self, name: &str) -> &Value {
        &self.fields[name]
    }
}

/// Reads files of rows with the columns `texts`, of which `id` is the id, and `ts`; what is no such row is left out.
pub fn read(files: &[Vec<Vec<u8>>], texts: &[&str], id: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (split, lines) in files.iter().enumerate() {
        for (position, line) in lines.iter().enumerate() {
            rows.extend(row(line, texts, id, split, position));
        }
    }
    rows.sort_by(|a, b| a.rank().cmp(&b.rank()));
    rows
}

fn row(line: &[u8], texts: &[&str], id: &str, split: usize, position: usize) -> Option<Row> {
    let fields: Value = serde_json::from_slice(line).ok()?;
    let well_typed = |name: &&str| matches!(fields[*name], Value::Null | Value::String(_));
    let time = fields.as_object()?.get("ts")?.as_i64()?;
    let believed = (0..=4_102_444_800_000).contains(&time);
    let id = fields[id].as_str().map(str::to_owned);
    (believed && texts.iter().all(well_typed)).then_some(Row { time, id, split, position, fields })
}

/// Reads clicks.
pub fn clicks(files: &[Vec<Vec<u8>>]) -> Vec<Row> {
    read(files, &["event_id", "user_id", "item_id", "event_type"], "event_id")
}

/// Reads orders.
pub fn orders(files: &[Vec<Vec<u8>>]) -> Vec<Row> {
    read(files, &["order_id", "user_id", "item_id"], "order_id")
}

/// Returns each order with a click on the same item by the same user in the `window_ms` before it, both ends included. A
/// second order of the same user, item and id within `dedupe_ms` is left out.
pub fn attributed(clicks: &[Row], orders: &[Row], window_ms: i64, dedupe_ms: i64, model: Model) -> Vec<Value> {
    let mut accepted: Vec<&Row> = Vec::new();
    for order in orders {
        // Times are compared first: most rows differ in them.
        let doubles = |other: &&Row| {
            order.time - other.time <= dedupe_ms
                && order.id.is_some()
                && order.id == other.id
                && order.field("user_id") == other.field("user_id")
                && order.field("item_id") == other.field("item_id")
        };
        if !accepted.iter().any(doubles) {
            accepted.push(order);
        }
    }
    accepted.iter().map(|order| credited(order, clicks, window_ms, model)).collect()
}

fn credited(order: &Row, clicks: &[Row], window_ms: i64, model: Model) -> Value {
    let same = |click: &Row, name: &str| !order.field(name).is_null() && click.field(name) == order.field(name);
    let mut touches = clicks.iter().filter(|click| {
        order.time - window_ms <= click.time
            && click.time <= order.time
            && same(click, "user_id")
            && same(click, "item_id")
            && click.field("event_type") == "click"
    });
    let touch = match model {
        Model::Last => touches.next_back(),
        Model::First => touches.next(),
    };
    let of = |name: &str| touch.map_or(Value::Null, |touch| touch.field(name).clone());
    json!({
        "order_id": order.field("order_id"),
        "user_id": order.field("user_id"),
        "item_id": order.field("item_id"),
        "price": cents(order.field("price")),
        "ts": order.time,
        "touch_event_id": of("event_id"),
        "touch_user_id": of("user_id"),
        "touch_item_id": of("item_id"),
        "touch_ts": of("ts"),
        "attributed": touch.is_some(),
        "model": model.name(),
        "weight_ppm": touch.map(|_| 1_000_000),
        "time_to_convert_ms": touch.map(|touch| order.time - touch.time),
    })
}

/// Returns an amount in cents, whether it was written as a number or as text.
pub fn cents(amount: &Value) -> Option<i64> {
    let amount = match amount {
        Value::Null => return None,
        Value::String(text) => text.parse::<f64>().expect("the test wrote a number"),
        number => number.as_f64().expect("the test wrote a number"),
    };
    Some((amount * 100.0).round() as i64)
}

/// Returns impressions and clicks per item and minute.
pub fn minutes(clicks: &[Row]) -> Vec<Value> {
    let mut counts: BTreeMap<(i64, String), (u64, u64)> = BTreeMap::new();
    for row in clicks {
        let count =
            counts.entry((row.time - row.time.rem_euclid(60_000), row.field("item_id").to_string())).or_default();
        count.0 += u64::from(row.field("event_type") == "impression");
        count.1 += u64::from(row.field("event_type") == "click");
    }
    let row = |((start, item), (impressions, clicks)): ((i64, String), (u64, u64))| {
        json!({
            "window_start": start,
            "window_end": start + 60_000,
            "item_id": serde_json::from_str::<Value>(&item).expect("it was JSON"),
            "impressions": impressions,
            "clicks": clicks,
        })
    };
    counts.into_iter().map(row).collect()
}

/// Returns what [`crate::support::jobs::revenue`] counts: windows of 15 minutes, one beginning every 5.
pub fn revenue(orders: &[Row]) -> Vec<Value> {
    const EVERY: i64 = 300_000;
    let mut windows: BTreeMap<(i64, String), Vec<&Row>> = BTreeMap::new();
    for order in orders {
        let newest = order.time - order.time.rem_euclid(EVERY);
        for start in [newest, newest - EVERY, newest - 2 * EVERY] {
            windows.entry((start, order.field("item_id").to_string())).or_default().push(order);
        }
    }
    let row = |((start, item), rows): ((i64, String), Vec<&Row>)| {
        let prices: Vec<i64> = rows.iter().filter_map(|row| cents(row.field("price"))).collect();
        let buyers: BTreeSet<&str> = rows.iter().filter_map(|row| row.field("user_id").as_str()).collect();
        json!({
            "window_start": start,
            "window_end": start + 3 * EVERY,
            "item_id": serde_json::from_str::<Value>(&item).expect("it was JSON"),
            "orders": rows.len(),
            "revenue": (!prices.is_empty()).then(|| prices.iter().sum::<i64>()),
            "least": prices.iter().min(),
            "most": prices.iter().max(),
            "buyers": buyers.len(),
            "first_order": rows[0].field("order_id"),
            "last_order": rows[rows.len() - 1].field("order_id"),
        })
    };
    windows.into_iter().map(row).collect()
}

/// Fails unless both hold the same rows, whatever their order; `amounts` are columns that hold money.
pub fn assert_same(given: &[Value], expected: &[Value], amounts: &[&str]) {
    let text = |row: &Value| {
        let members = row.as_object().expect("a row is an object").iter();
        let members: BTreeMap<&String, &Value> = members.collect();
        serde_json::to_string(&members).expect("it was JSON")
    };
    let in_cents = |row: &Value| {
        let mut row = row.clone();
        for name in amounts {
            row[*name] = json!(cents(&row[*name]));
        }
        text(&row)
    };
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    expected.iter().for_each(|row| *counts.entry(text(row)).or_default() -= 1);
    given.iter().for_each(|row| *counts.entry(in_cents(row)).or_default() += 1);
    let wrong: Vec<(String, i64)> = counts.into_iter().filter(|(_, count)| *count != 0).collect();
    let some: Vec<String> = wrong.iter().take(20).map(|(row, count)| format!("{count:+} {row}")).collect();
    assert!(
        wrong.is_empty(),
        "{} rows given, {} expected; + is too many, - is missing:\n{}",
        given.len(),
        expected.len(),
        some.join("\n")
    );
}
