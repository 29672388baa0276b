//! A shop's traffic from a seed: few users and items, so that keys meet; rows out of order, tied, doubled and broken.
//!
//! Ids count up in the order in which rows are written, `e<n>` and `o<n>`, so that what a topic holds can be held against it.

use std::collections::VecDeque;

use crate::dice::Dice;

/// How much earlier than a row before it a row may be, in milliseconds; less than the job's `max_disorder`.
pub const DISORDER_MS: u64 = 150;
/// When traffic that does not follow the wall clock begins: 2026-01-01.
pub const START_MS: i64 = 1_767_225_600_000;

/// Which rows a seed gives besides good ones.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// One click in so many is no row.
    pub broken: u64,
    /// One row in so many comes an hour late; 0: none.
    pub late: u64,
    /// One click in so many is [`HUGE_BYTES`] long; 0: none.
    pub huge: u64,
}

/// The bytes of a huge row.
pub const HUGE_BYTES: usize = 8 << 20;

/// What most runs are fed.
pub const USUAL: Mix = Mix { broken: 200, late: 0, huge: 0 };

/// Where a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Clicks and impressions.
    Clicks,
    /// Orders.
    Orders,
}

/// The traffic, row by row.
pub struct Traffic {
    dice: Dice,
    mix: Mix,
    clicked: VecDeque<(i64, String, u64)>,
    clicks: u64,
    orders: u64,
    /// A row that comes once more.
    again: Option<(Stream, Vec<u8>)>,
    written: u64,
}

/// Rows before the first late one: by then every split has been read further than a late row's time.
const SETTLED: u64 = 4000;

impl Traffic {
    /// Returns the traffic of `seed`.
    pub fn new(seed: u64, mix: Mix) -> Traffic {
        Traffic { dice: Dice::new(seed), mix, clicked: VecDeque::new(), clicks: 0, orders: 0, again: None, written: 0 }
    }

    /// Returns the next row, written at `now`.
    pub fn next(&mut self, now: i64) -> (Stream, Vec<u8>) {
        if let Some(row) = self.again.take() {
            return row;
        }
        self.written += 1;
        let row = match self.dice.below(6) {
            0 => (Stream::Orders, self.order(now)),
            _ => (Stream::Clicks, self.click(now)),
        };
        if row.1.len() < HUGE_BYTES && self.dice.once_in(40) {
            self.again = Some(row.clone());
        }
        row
    }

    fn time(&mut self, now: i64) -> i64 {
        let earlier = i64::try_from(self.dice.below(DISORDER_MS)).expect("it is small");
        // Coarse times make ties.
        if self.dice.once_in(2) { now - earlier } else { ((now - earlier) / 20 + 1) * 20 }.min(now)
    }

    fn user(&mut self) -> String {
        match self.dice.below(50) {
            0 => "null".to_owned(),
            1 => "\"用户 \\\"7\\\"\"".to_owned(),
            _ => format!("\"u{}\"", self.dice.below(200)),
        }
    }

    fn is_late(&mut self) -> bool {
        self.mix.late > 0 && self.written > SETTLED && self.dice.once_in(self.mix.late)
    }

    fn click(&mut self, now: i64) -> Vec<u8> {
        self.clicks += 1;
        let id = self.clicks;
        if self.dice.once_in(self.mix.broken) {
            return self.broken(now);
        }
        let (user, item) = (self.user(), self.dice.below(40));
        if self.is_late() {
            let ts = now - 3_600_000;
            return format!(
                r#"{{"event_id":"late-e{id}","user_id":{user},"item_id":"i{item}","event_type":"click","ts":{ts}}}"#
            )
            .into_bytes();
        }
        let ts = self.time(now);
        let kind = if self.dice.once_in(3) { "impression" } else { "click" };
        if kind == "click" {
            self.clicked.push_back((ts, user.clone(), item));
            if self.clicked.len() > 400 {
                self.clicked.pop_front();
            }
        }
        let mut line =
            format!(r#"{{"event_id":"e{id}","user_id":{user},"item_id":"i{item}","event_type":"{kind}","ts":{ts}"#);
        if self.mix.huge > 0 && self.dice.once_in(self.mix.huge) {
            line.push_str(r#","comment":""#);
            line.extend(std::iter::repeat_n('x', HUGE_BYTES));
            line.push('"');
        }
        line.push('}');
        line.into_bytes()
    }

    fn order(&mut self, now: i64) -> Vec<u8> {
        self.orders += 1;
        let id = self.orders;
        let (mut ts, user, item) = match self.clicked.get(self.dice.below(400) as usize).cloned() {
            // Now and then the same millisecond as the click.
            Some((clicked, user, item)) if now - clicked < DISORDER_MS as i64 && self.dice.once_in(2) => {
                (clicked, user, item)
            }
            Some((_, user, item)) => (self.time(now), user, item),
            None => (self.time(now), self.user(), self.dice.below(40)),
        };
        let name = if self.is_late() {
            ts = now - 3_600_000;
            "late-o"
        } else {
            "o"
        };
        let cents = self.dice.below(20_000);
        let price = format!("{}.{:02}", cents / 100, cents % 100);
        format!(r#"{{"order_id":"{name}{id}","user_id":{user},"item_id":"i{item}","price":{price},"ts":{ts}}}"#)
            .into_bytes()
    }

    fn broken(&mut self, now: i64) -> Vec<u8> {
        let id = self.clicks;
        let lines = [
            format!("GET /favicon.ico?{id} HTTP/1.1"),
            format!(r#"{{"event_id":"x{id}","user_id":"u1","item_id":"#),
            format!(r#"["event_id","x{id}"]"#),
            format!(r#"{{"event_id":"x{id}","ts":{now}}} and more"#),
            format!(r#"{{"event_id":"x{id}","user_id":"u1","ts":"yesterday"}}"#),
            format!(r#"{{"event_id":"x{id}","user_id":"u1"}}"#),
            format!(r#"{{"event_id":{id},"user_id":"u1","ts":{now}}}"#),
            format!(r#"{{"event_id":"x{id}","user_id":["u1"],"ts":{now}}}"#),
        ];
        self.dice.one_of(&lines).clone().into_bytes()
    }
}

/// The traffic of a seed as two files of clicks and two of orders.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The bytes of the files of clicks.
    pub clicks: [Vec<u8>; 2],
    /// The bytes of the files of orders.
    pub orders: [Vec<u8>; 2],
    /// All clicks, and all orders, in the order in which they came.
    pub whole: [Vec<u8>; 2],
}

impl Files {
    /// Returns `rows` rows, a millisecond apart.
    pub fn of(seed: u64, mix: Mix, rows: usize) -> Files {
        let mut traffic = Traffic::new(seed, mix);
        let mut files = Files::default();
        for number in 0..rows {
            let (stream, line) = traffic.next(START_MS + number as i64);
            let parts = match stream {
                Stream::Clicks => &mut files.clicks,
                Stream::Orders => &mut files.orders,
            };
            for into in [&mut parts[number % 2], &mut files.whole[stream as usize]] {
                into.extend_from_slice(&line);
                into.push(b'\n');
            }
        }
        files
    }
}
