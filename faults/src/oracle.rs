//! What must come out, computed from the raw input in the plainest way, without a line of the product's code.
//!
//! Rows whose id begins with `late-` are an hour late, all others are on time: nothing lies between.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::job::{CREDIT_MS, GAP_MS, VISIT_MS, WINDOW_MS};

/// Rows by how often they come.
pub type Rows = HashMap<String, i64>;

/// What a run must have written when it has read all input.
#[derive(Debug, Default)]
pub struct Expected {
    /// Attributed orders.
    pub out: Rows,
    /// Counts per item and window.
    pub counts: Rows,
    /// Visits of users.
    pub visits: Rows,
    /// Records that are no clicks.
    pub bad: Rows,
    /// Orders that came too late.
    pub late_orders: Rows,
    /// Clicks that came too late for their window.
    pub late_clicks: Rows,
    /// Orders that came before.
    pub duplicates: u64,
    /// Clicks and impressions that came before.
    pub doubled_clicks: u64,
    /// Clicks, impressions left out, that came too late to be credited.
    pub late_touches: u64,
    /// Rows of clicks, good and bad.
    pub clicks_read: u64,
    /// Rows of orders.
    pub orders_read: u64,
}

struct Click {
    ts: i64,
    id: String,
    user: String,
    key: Option<(String, String)>,
    item: String,
    kind: String,
}

/// A click or impression of a user.
struct Event {
    ts: i64,
    id: String,
    item: String,
    is_click: bool,
}

/// Returns what follows from these lines; rows at or after `end` are there only to move time on.
pub fn expected<'a>(
    clicks: impl Iterator<Item = &'a [u8]>,
    orders: impl Iterator<Item = &'a [u8]>,
    end: i64,
) -> Expected {
    let mut all = Expected::default();
    let mut touches = Touches::new();
    let mut counts: HashMap<(i64, String), (u64, u64)> = HashMap::new();
    let mut users: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for line in clicks {
        all.clicks_read += 1;
        let Some((click, fields)) = click(line) else {
            *all.bad.entry(String::from_utf8_lossy(line).into_owned()).or_default() += 1;
            continue;
        };
        if click.ts >= end {
            continue;
        }
        if click.id.starts_with("late-") {
            all.late_touches += u64::from(click.kind == "click");
            *all.late_clicks.entry(late_click(&fields)).or_default() += 1;
            continue;
        }
        if seen.insert(click.id.clone()) {
            let (id, item) = (click.id.clone(), click.item.clone());
            let event = Event { ts: click.ts, id, item, is_click: click.kind == "click" };
            users.entry(click.user).or_default().push(event);
        } else {
            all.doubled_clicks += 1;
        }
        let count = counts.entry((click.ts - click.ts.rem_euclid(WINDOW_MS), click.item)).or_default();
        count.0 += u64::from(click.kind == "impression");
        count.1 += u64::from(click.kind == "click");
        if let (Some(key), "click") = (click.key, click.kind.as_str()) {
            touches.entry(key).or_default().push((click.ts, click.id));
        }
    }
    touches.values_mut().for_each(|touches| touches.sort());
    for ((start, item), (impressions, clicks)) in counts {
        all.counts.insert(counted(start, start + WINDOW_MS, &item, impressions, clicks), 1);
    }
    for (user, events) in users {
        visits(&user, events, &mut all.visits);
    }
    credit(orders, &touches, end, &mut all);
    all
}

/// Clicks by user and item, each in the order of time and id.
type Touches = HashMap<(String, String), Vec<(i64, String)>>;

/// Credits each order to the last click before it, if there is one.
fn credit<'a>(orders: impl Iterator<Item = &'a [u8]>, touches: &Touches, end: i64, all: &mut Expected) {
    let mut seen = HashSet::new();
    for line in orders {
        all.orders_read += 1;
        let order: Value = serde_json::from_slice(line).unwrap_or_default();
        let ts = order["ts"].as_i64().unwrap_or(i64::MAX);
        let id = text(&order["order_id"]);
        if ts >= end {
            continue;
        }
        if id.contains("late-") {
            *all.late_orders.entry(late_order(&order)).or_default() += 1;
        } else if seen.insert((id, text(&order["user_id"]), text(&order["item_id"]))) {
            let touch = key(&order).and_then(|key| {
                let touches = touches.get(&key)?;
                let after = touches.partition_point(|(at, _)| *at <= ts);
                touches[..after].last().filter(|(at, _)| *at >= ts - CREDIT_MS)
            });
            *all.out.entry(credited(&order, ts, touch)).or_default() += 1;
        } else {
            all.duplicates += 1;
        }
    }
}

/// Adds the visits that these events of a user make: clicks begin and prolong them, impressions are only counted.
fn visits(user: &str, mut events: Vec<Event>, rows: &mut Rows) {
    events.sort_by(|one, other| (one.ts, &one.id).cmp(&(other.ts, &other.id)));
    let mut open: Option<(i64, Vec<&Event>)> = None;
    let mut end = |(last, of): (i64, Vec<&Event>), why: &str| {
        let (first, items) = (of[0], of.iter().map(|event| &event.item).collect::<HashSet<_>>().len());
        let row = visited(user, (first.ts, last), why, [of.len() as i64, items as i64], &first.item);
        *rows.entry(row).or_default() += 1;
    };
    for event in &events {
        if let Some((last, of)) = open.take() {
            if event.ts > last + GAP_MS {
                end((last, of), "idle");
            } else if event.is_click && event.ts > of[0].ts + VISIT_MS {
                end((last, of), "max_duration");
            } else {
                open = Some((last, of));
            }
        }
        match &mut open {
            Some((last, of)) => {
                of.push(event);
                *last = if event.is_click { event.ts } else { *last };
            }
            None if event.is_click => open = Some((event.ts, vec![event])),
            None => {}
        }
    }
    open.into_iter().for_each(|visit| end(visit, "idle"));
}

fn click(line: &[u8]) -> Option<(Click, Value)> {
    let fields: Value = serde_json::from_slice(line).ok()?;
    let well_typed = |name: &str| matches!(fields[name], Value::Null | Value::String(_));
    let ts = fields.as_object()?.get("ts")?.as_i64()?;
    if !["event_id", "user_id", "item_id", "event_type"].into_iter().all(well_typed) {
        return None;
    }
    let id = fields["event_id"].as_str().unwrap_or_default().to_owned();
    let kind = fields["event_type"].as_str().unwrap_or_default().to_owned();
    let [user, item] = ["user_id", "item_id"].map(|name| text(&fields[name]));
    Some((Click { ts, id, user, key: key(&fields), item, kind }, fields))
}

/// The user and item of a row, if it has both.
fn key(row: &Value) -> Option<(String, String)> {
    Some((row["user_id"].as_str()?.to_owned(), row["item_id"].as_str()?.to_owned()))
}

fn text(value: &Value) -> String {
    value.to_string()
}

/// An amount in cents.
fn cents(amount: &Value) -> i64 {
    amount.as_f64().map_or(-1, |amount| (amount * 100.0).round() as i64)
}

fn credited(order: &Value, ts: i64, touch: Option<&(i64, String)>) -> String {
    let (user, item) = (text(&order["user_id"]), text(&order["item_id"]));
    let touched = match touch {
        Some((at, id)) => format!("\"{id}\" {user} {item} {at} true 1000000 {}", ts - at),
        None => "null null null null false null null".to_owned(),
    };
    format!("{} {user} {item} {} {ts} {touched} \"last_touch\"", text(&order["order_id"]), cents(&order["price"]))
}

fn counted(start: i64, end: i64, item: &str, impressions: u64, clicks: u64) -> String {
    format!("{start} {end} {item} {impressions} {clicks}")
}

fn visited(user: &str, (start, end): (i64, i64), closed_by: &str, [events, items]: [i64; 2], landing: &str) -> String {
    format!("{user} {start} {end} {closed_by} {events} {items} {landing}")
}

fn late_order(row: &Value) -> String {
    let names = ["order_id", "user_id", "item_id", "ts"];
    format!("{} {}", names.map(|name| text(&row[name])).join(" "), cents(&row["price"]))
}

fn late_click(row: &Value) -> String {
    ["event_id", "user_id", "item_id", "event_type", "ts"].map(|name| text(&row[name])).join(" ")
}

/// Reads a row of the sink of attributed orders: its time, and what it says.
pub fn read_out(row: &Value) -> (i64, String) {
    let names = ["user_id", "item_id", "event_id"].map(|name| format!("touch_{name}"));
    let [user, item, id] = names.map(|name| text(&row[name.as_str()]));
    let touched = format!(
        "{id} {user} {item} {} {} {} {}",
        row["touch_ts"], row["attributed"], row["weight_ppm"], row["time_to_convert_ms"]
    );
    let own = format!("{} {} {}", text(&row["order_id"]), text(&row["user_id"]), text(&row["item_id"]));
    let says = format!("{own} {} {} {touched} {}", cents(&row["price"]), row["ts"], row["model"]);
    (row["ts"].as_i64().unwrap_or_default(), says)
}

/// Reads a row of the sink of counts.
pub fn read_counts(row: &Value) -> (i64, String) {
    let number = |name: &str| row[name].as_i64().unwrap_or(-1);
    let count = |name: &str| row[name].as_u64().unwrap_or(u64::MAX);
    let (start, end) = (number("window_start"), number("window_end"));
    (end, counted(start, end, &text(&row["item_id"]), count("impressions"), count("clicks")))
}

/// Reads a row of the sink of visits; its time stands still: one that its greatest length has ended is known sooner than one that
/// fell silent before.
pub fn read_visits(row: &Value) -> (i64, String) {
    let number = |name: &str| row[name].as_i64().unwrap_or(-1);
    let (span, counts) = ((number("session_start"), number("session_end")), ["events", "items"].map(number));
    let closed_by = row["closed_by"].as_str().unwrap_or_default();
    (0, visited(&text(&row["user_id"]), span, closed_by, counts, &text(&row["landing"])))
}

/// Reads a row of the sink of bad rows; its time stands still.
pub fn read_bad(row: &Value) -> (i64, String) {
    (0, row["raw"].as_str().unwrap_or("not UTF-8").to_owned())
}

/// Reads a row of the sink of late orders.
pub fn read_late_order(row: &Value) -> (i64, String) {
    (0, late_order(row))
}

/// Reads a row of the sink of late clicks.
pub fn read_late_click(row: &Value) -> (i64, String) {
    (0, late_click(row))
}
