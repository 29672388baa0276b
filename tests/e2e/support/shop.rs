//! A shop's traffic from a seed: few users and items, so that keys meet; rows out of order, tied, doubled, odd and broken.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Dice, Place};

/// When the traffic begins: 2026-01-01.
pub const START_MS: i64 = 1_767_225_600_000;
/// How much earlier than a row before it a row may be.
pub const DISORDER_MS: u64 = 5_000;

/// What the traffic is like.
#[derive(Clone, Copy, Debug)]
pub struct Shop {
    /// Everything random follows from this.
    pub seed: u64,
    /// Rows, of clicks and orders together.
    pub rows: usize,
    /// Milliseconds between two rows, on average.
    pub pace_ms: u64,
    /// Rows like those of a bad sender among the clicks.
    pub broken: bool,
    /// Users, one in so many rows.
    pub users: u64,
    /// How many ids clicks have: after so many, another click has the id of the first.
    pub ids: u64,
}

impl Default for Shop {
    fn default() -> Shop {
        Shop { seed: 1, rows: 3000, pace_ms: 2000, broken: true, users: 25, ids: 977 }
    }
}

/// The rows, as lines in the order in which they arrive.
#[derive(Clone, Debug, Default)]
pub struct Shopping {
    /// Clicks and impressions.
    pub clicks: Vec<Vec<u8>>,
    /// Orders.
    pub orders: Vec<Vec<u8>>,
    /// Those of the clicks that are no rows.
    pub broken: Vec<Vec<u8>>,
}

/// Names that a careless program would stumble over.
const ODD: &[&str] =
    &["", "ü ñ", "用户七", "\u{1F6D2}", "a\"b\\c", "tab\there", "line\nbreak", "nul\u{0}l", "null", "0x00"];

impl Shop {
    /// Returns the traffic of this seed.
    pub fn open(self) -> Shopping {
        let mut till = Till { dice: Dice::new(self.seed), shop: self, clicked: VecDeque::new(), number: 0 };
        let mut all = Shopping::default();
        let mut now = START_MS + 10_000;
        for _ in 0..self.rows {
            now += i64::try_from(till.dice.below(2 * self.pace_ms + 1)).unwrap();
            if let Some(line) = till.order_at_the_edge(now) {
                all.orders.push(line);
            }
            if till.dice.once_in(6) {
                let line = till.order(now);
                twice(&mut till.dice, &mut all.orders, line);
            } else {
                let line = till.event(now);
                twice(&mut till.dice, &mut all.clicks, line);
            }
            if self.broken && till.dice.once_in(40) {
                let line = till.broken();
                all.broken.push(line.clone());
                all.clicks.push(line);
            }
        }
        all
    }
}

/// Some rows arrive twice.
fn twice(dice: &mut Dice, rows: &mut Vec<Vec<u8>>, line: Vec<u8>) {
    if dice.once_in(25) {
        rows.push(line.clone());
    }
    rows.push(line);
}

/// Where rows are made.
struct Till {
    dice: Dice,
    shop: Shop,
    /// The last clicks.
    clicked: VecDeque<Clicked>,
    number: u64,
}

/// A click that was made.
#[derive(Clone)]
struct Clicked {
    /// When it was made, which is at or after its own time.
    made: i64,
    ts: i64,
    user: Value,
    item: Value,
}

impl Till {
    fn time(&mut self, now: i64) -> i64 {
        let late = i64::try_from(self.dice.below(DISORDER_MS)).unwrap();
        // Coarse times make ties.
        if self.dice.once_in(2) { now - late } else { ((now - late) / 1000 + 1) * 1000 }.min(now)
    }

    fn user(&mut self) -> Value {
        match self.dice.below(20) {
            0 => Value::Null,
            1 => json!(self.dice.one_of(ODD)),
            _ => json!(format!("u{}", self.dice.below(self.shop.users))),
        }
    }

    fn item(&mut self) -> Value {
        match self.dice.below(30) {
            0 => Value::Null,
            1 => json!(self.dice.one_of(ODD)),
            _ => json!(format!("item-{}", self.dice.below(12))),
        }
    }

    fn event(&mut self, now: i64) -> Vec<u8> {
        self.number += 1;
        let (ts, user, item) = (self.time(now), self.user(), self.item());
        let kind = match self.dice.below(20) {
            0 => Value::Null,
            1 => json!("scroll"),
            2..10 => json!("impression"),
            _ => json!("click"),
        };
        if kind == "click" {
            self.clicked.push_back(Clicked { made: now, ts, user: user.clone(), item: item.clone() });
            if self.clicked.len() > 1500 {
                self.clicked.pop_front();
            }
        }
        let id = if self.dice.once_in(30) { Value::Null } else { json!(format!("e{}", self.number % self.shop.ids)) };
        self.line(&[("event_id", id), ("user_id", user), ("item_id", item), ("event_type", kind), ("ts", json!(ts))])
    }

    fn order(&mut self, now: i64) -> Vec<u8> {
        let (user, item) = match self.dice.below(4) {
            0 => (self.user(), self.item()),
            _ if self.clicked.is_empty() => (self.user(), self.item()),
            _ => {
                let recent = self.clicked.make_contiguous();
                let Clicked { user, item, .. } = self.dice.one_of(recent).clone();
                (user, item)
            }
        };
        let ts = match self.clicked.back() {
            // The same millisecond as a click.
            Some(last) if self.dice.once_in(4) && now - last.ts < DISORDER_MS as i64 => last.ts,
            _ => self.time(now),
        };
        self.order_line(user, item, ts)
    }

    /// An order exactly as long after its click as the window is long, or a millisecond more.
    fn order_at_the_edge(&mut self, now: i64) -> Option<Vec<u8>> {
        let after = super::jobs::WINDOW_MS + i64::from(self.dice.once_in(2));
        let (from, to) = (now - after - DISORDER_MS as i64, now - after);
        // A click is made at its time, or less than the disorder after it: others need not be looked at.
        let first = self.clicked.partition_point(|click| click.made <= from);
        let mut made_then = self.clicked.range(first..).take_while(|click| click.made < to + DISORDER_MS as i64);
        let found = made_then.find(|click| from < click.ts && click.ts <= to)?;
        let Clicked { ts, user, item, .. } = found.clone();
        self.dice.once_in(3).then(|| self.order_line(user, item, ts + after))
    }

    fn order_line(&mut self, user: Value, item: Value, ts: i64) -> Vec<u8> {
        self.number += 1;
        let id = if self.dice.once_in(30) { Value::Null } else { json!(format!("o{}", self.number)) };
        let cents = self.dice.below(20_000);
        let price = match self.dice.below(10) {
            0 => Value::Null,
            // Decimals may come as text.
            1 => json!(format!("{}.{:02}", cents / 100, cents % 100)),
            _ => serde_json::from_str(&format!("{}.{:02}", cents / 100, cents % 100)).expect("it is a number"),
        };
        self.line(&[("order_id", id), ("user_id", user), ("item_id", item), ("price", price), ("ts", json!(ts))])
    }

    /// Writes a row as one of many senders might: in any order, with fields nobody asked for, a null left out or written.
    fn line(&mut self, fields: &[(&str, Value)]) -> Vec<u8> {
        let mut written: Vec<String> = Vec::new();
        for (name, value) in fields {
            if value.is_null() && self.dice.once_in(2) {
                continue;
            }
            let mut value = value.to_string();
            if !value.is_ascii() && self.dice.once_in(2) {
                value = value.encode_utf16().map(escaped).collect();
            }
            written.push(format!("\"{name}\":{}{value}", if self.dice.once_in(10) { "  " } else { "" }));
        }
        if self.dice.once_in(5) {
            written.push(r#""extra":{"deep":[1,{"ts":7}],"user_id":"nobody"}"#.to_owned());
        }
        if self.dice.once_in(3) {
            written.reverse();
        }
        format!("{{{}}}", written.join(",")).into_bytes()
    }

    fn broken(&mut self) -> Vec<u8> {
        let ts = START_MS + 20_000;
        let lines: &[Vec<u8>] = &[
            b"GET /favicon.ico HTTP/1.1".to_vec(),
            br#"{"event_id":"x","user_id":"u1","item_id":"#.to_vec(),
            br#"["event_id","x"]"#.to_vec(),
            br#"null"#.to_vec(),
            format!(r#"{{"event_id":"x","ts":{ts}}} and more"#).into_bytes(),
            br#"{"event_id":"x","user_id":"u1","ts":"yesterday"}"#.to_vec(),
            br#"{"event_id":"x","user_id":"u1"}"#.to_vec(),
            br#"{"event_id":"x","user_id":"u1","ts":null}"#.to_vec(),
            format!(r#"{{"event_id":5,"user_id":"u1","ts":{ts}}}"#).into_bytes(),
            format!(r#"{{"event_id":"x","user_id":["u1"],"ts":{ts}}}"#).into_bytes(),
            br#"{"event_id":"x","ts":-62135596800000}"#.to_vec(),
            br#"{"event_id":"x","ts":253402300799000}"#.to_vec(),
            br#"{"event_id":"x","ts":99999999999999999999}"#.to_vec(),
            [br#"{"event_id":"x","user_id":""#.as_slice(), b"\xff\xfe", br#"","ts":1767225620000}"#].concat(),
        ];
        self.dice.one_of(lines).clone()
    }
}

/// Writes a UTF-16 unit as JSON may: as it is, or as an escape.
fn escaped(unit: u16) -> String {
    match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    }
}

impl Shopping {
    /// Writes the rows as files: two of clicks, two of orders, dealt out in turn. Returns what the oracle reads.
    pub fn write(&self, place: &Place) {
        for (name, rows) in [("clicks", &self.clicks), ("orders", &self.orders)] {
            for part in 0..2 {
                place.write(&format!("in/{name}-{part}.jsonl"), lines(rows.iter().skip(part).step_by(2)));
            }
        }
    }

    /// Returns the clicks as the files that [`Shopping::write`] writes.
    pub fn click_files(&self) -> Vec<Vec<Vec<u8>>> {
        parts(&self.clicks)
    }

    /// Returns the orders as the files that [`Shopping::write`] writes.
    pub fn order_files(&self) -> Vec<Vec<Vec<u8>>> {
        parts(&self.orders)
    }
}

fn parts(rows: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    (0..2).map(|part| rows.iter().skip(part).step_by(2).cloned().collect()).collect()
}

/// Returns rows as the lines of a file.
pub fn lines<'a>(rows: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend_from_slice(row);
        bytes.push(b'\n');
    }
    bytes
}
