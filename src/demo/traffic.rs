//! Traffic: what visitors of a shop do, as the rows that a tracker would send, in the order in which they would arrive.
//!
//! Sessions of a visitor, in each a few items seen, some clicked, some of those ordered a little later; besides these, orders
//! that no click led to. Around them, drawn from dice of their own: refunds, what some visitors do on the pages, which variant of an
//! experiment they are shown, and people who sign up for the product. Rows arrive up to `disorder` after they happened; a few come much later, twice, or broken. All of it
//! follows from the settings: the same settings give the same rows, byte for byte.
//!
//! Memory is bounded by the rows of about twenty minutes of traffic: an order may follow its click by that much.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;

use super::dice::{Dice, Zipf};
use super::signups::sign_up;
use super::visits::{Deed, Visitor, visit};

/// What the traffic is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything random follows from this.
    pub seed: u64,
    /// Visitors.
    pub users: u32,
    /// Items of the shop.
    pub items: u32,
    /// When it begins, in milliseconds since the epoch.
    pub start_ms: i64,
    /// Rows per second of event time, about.
    pub rate: u32,
    /// How much later than it happened a row arrives at most, in milliseconds; late rows excepted.
    pub disorder_ms: u64,
    /// Of a million rows, how many arrive one to three minutes late.
    pub late_ppm: u32,
    /// Of a million rows, how many arrive twice.
    pub duplicate_ppm: u32,
    /// Of a million rows, how many are followed by a broken one.
    pub broken_ppm: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 7,
            users: 20_000,
            items: 500,
            start_ms: 1_767_225_600_000, // 2026-01-01T00:00:00Z
            rate: 200,
            disorder_ms: 5_000,
            late_ppm: 5_000,
            duplicate_ppm: 5_000,
            broken_ppm: 2_000,
        }
    }
}

/// The topic a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Impressions and clicks: `raw.clicks.v1`.
    Clicks,
    /// Orders: `raw.orders.v1`.
    Orders,
    /// Refunds and cancellations: `raw.corrections.v1`.
    Corrections,
    /// What visitors do on the pages: `raw.events.v1`.
    Events,
    /// Which variant of an experiment visitors are shown: `raw.assignments.v1`.
    Assignments,
    /// What people do with the product: `raw.telemetry.v1`.
    Telemetry,
}

impl Stream {
    /// All.
    pub const ALL: [Stream; 6] =
        [Stream::Clicks, Stream::Orders, Stream::Corrections, Stream::Events, Stream::Assignments, Stream::Telemetry];

    /// Returns whether it is of the shop itself; the rate, and how many rows are asked for, count these rows.
    pub fn is_shop(self) -> bool {
        matches!(self, Stream::Clicks | Stream::Orders)
    }

    /// Returns the name of its topic.
    pub fn topic(self) -> &'static str {
        match self {
            Stream::Clicks => "raw.clicks.v1",
            Stream::Orders => "raw.orders.v1",
            Stream::Corrections => "raw.corrections.v1",
            Stream::Events => "raw.events.v1",
            Stream::Assignments => "raw.assignments.v1",
            Stream::Telemetry => "raw.telemetry.v1",
        }
    }

    /// Returns the name of its file.
    pub fn file(self) -> &'static str {
        match self {
            Stream::Clicks => "clicks.jsonl",
            Stream::Orders => "orders.jsonl",
            Stream::Corrections => "corrections.jsonl",
            Stream::Events => "events.jsonl",
            Stream::Assignments => "assignments.jsonl",
            Stream::Telemetry => "telemetry.jsonl",
        }
    }
}

/// What is said of a row besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Well-formed and in time.
    Good,
    /// Well-formed, and later than the disorder allows.
    Late,
    /// The same bytes as a row before.
    Duplicate,
    /// Not a row at all.
    Broken,
}

/// A row as it arrives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// When it arrives, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Decides between rows that arrive together; unique.
    number: u64,
    /// Where it belongs.
    pub stream: Stream,
    /// What it is.
    pub kind: Kind,
    /// The visitor, by whom topics are partitioned.
    pub user: u32,
    /// The row, without a line end.
    pub line: Vec<u8>,
}

/// The rows, without end. Take as many as are wanted.
pub struct Traffic {
    settings: Settings,
    dice: Dice,
    /// What is around the shop is drawn from these: the shop's own rows do not depend on it.
    around: Dice,
    users: Zipf,
    items: Zipf,
    /// Rows that were thought of and have not arrived, the next one first.
    waiting: BinaryHeap<Reverse<Arrival>>,
    /// When the next session begins, in microseconds after the start. No row of a session not yet begun arrives before this.
    next_session_us: u64,
    rows: u64,
    events: u64,
    orders: u64,
    corrections: u64,
    visits: u64,
    people: u64,
}

/// Rows of an average session, measured; `rate` holds to within a few percent.
const ROWS_PER_SESSION: u64 = 8;
/// Of a million impressions, how many are clicked: less, the further down the rank of the item.
const CLICK_PPM: u32 = 160_000;
/// Of a million clicks, how many lead to an order.
const ORDER_PPM: u32 = 250_000;
/// Of a million sessions, how many also order an item that was never clicked.
const STRAY_ORDER_PPM: u32 = 20_000;
/// Of a million orders, how many are given back in part, how many wholly, and how many are cancelled.
const REFUND_PPM: [(&str, u32); 3] = [("part", 20_000), ("all", 15_000), ("cancel", 5_000)];
/// Of a million sessions, how many are watched on the pages, and how many are in the experiment.
const WATCHED_PPM: u32 = 250_000;
const EXPERIMENT_PPM: u32 = 250_000;
/// Of a million visitors shown an experiment, how many are shown the other variant: an assignment that does not stick.
const UNSTUCK_PPM: u32 = 1_000;
/// Of a million sessions, how many there are people who sign up.
const SIGN_UP_PPM: u32 = 60_000;
/// Where visitors come from, as shares of a hundred.
const CHANNELS: [(&str, u64); 4] = [("search", 40), ("email", 20), ("social", 15), ("direct", 25)];
/// An order follows its click by at most this.
const ORDER_DELAY_MS_MAX: u64 = 20 * 60 * 1000;

impl Traffic {
    /// Returns the traffic of `settings`.
    pub fn new(settings: Settings) -> Traffic {
        Traffic {
            dice: Dice::new(settings.seed),
            around: Dice::new(!settings.seed),
            users: Zipf::new(settings.users),
            items: Zipf::new(settings.items),
            waiting: BinaryHeap::new(),
            next_session_us: 0,
            rows: 0,
            events: 0,
            orders: 0,
            corrections: 0,
            visits: 0,
            people: 0,
            settings,
        }
    }

    /// Adds the rows of one session.
    fn begin_session(&mut self) {
        let begin_ms = self.settings.start_ms + i64::try_from(self.next_session_us / 1000).expect("a run is finite");
        let user = self.users.draw(&mut self.dice);
        let channel = self.channel();
        let mut deeds = Vec::new();
        let mut ts = begin_ms;
        let mut item = 0;
        for _ in 0..=self.dice.below(12) {
            item = self.items.draw(&mut self.dice);
            self.event("impression", user, item, ts, "");
            let interest = CLICK_PPM - CLICK_PPM / 2 * item.min(100) / 100;
            if self.dice.chance(interest) {
                let clicked = ts + 300 + self.span(8_000);
                self.event("click", user, item, clicked, &format!(r#","channel":"{channel}""#));
                deeds.push((clicked, Deed::Click));
                ts = clicked;
                if self.dice.chance(ORDER_PPM) {
                    let after = 2_000 + self.dice.mostly_small(ORDER_DELAY_MS_MAX - 2_000);
                    let at = clicked + i64::try_from(after).expect("minutes");
                    deeds.push((at, self.order(user, item, at)));
                }
            }
            ts += 500 + self.span(12_000);
        }
        if self.dice.chance(STRAY_ORDER_PPM) {
            let other = (item + 1 + self.items.draw(&mut self.dice)) % self.settings.items.max(1);
            self.order(user, other, ts);
        }
        self.around_session(user, begin_ms, channel, deeds);
        let mean_us = ROWS_PER_SESSION * 1_000_000 / u64::from(self.settings.rate.max(1));
        self.next_session_us += self.dice.below(2 * mean_us + 1);
    }

    fn span(&mut self, bound_ms: u64) -> i64 {
        i64::try_from(self.dice.below(bound_ms)).expect("seconds")
    }

    /// Adds what is around a session: its visit of the pages, the experiment, a sign-up.
    fn around_session(&mut self, user: u32, begin_ms: i64, channel: &str, mut deeds: Vec<(i64, Deed)>) {
        if self.around.chance(WATCHED_PPM) {
            self.visits += 1;
            deeds.sort_by_key(|(at, _)| *at);
            let who = Visitor { user, visit: self.visits, begin_ms };
            for (ts, line) in visit(&mut self.around, who, &deeds) {
                self.arrive_around(Stream::Events, user, ts, line);
            }
        }
        if self.around.chance(EXPERIMENT_PPM) {
            let is_other = self.around.chance(UNSTUCK_PPM);
            let variant = if user.is_multiple_of(2) != is_other { "new" } else { "old" };
            let number = self.rows;
            let line = format!(
                r#"{{"assignment_id":"a{number}","experiment":"checkout","variant":"{variant}","user_id":"u{user}","ts":{begin_ms}}}"#
            );
            self.arrive_around(Stream::Assignments, user, begin_ms, line.into_bytes());
        }
        if self.around.chance(SIGN_UP_PPM) {
            self.people += 1;
            for (ts, line) in sign_up(&mut self.around, self.people, channel, begin_ms) {
                self.arrive_around(Stream::Telemetry, user, ts, line);
            }
        }
    }

    /// Draws where a visitor comes from.
    fn channel(&mut self) -> &'static str {
        let mut left = self.around.below(100);
        let found = CHANNELS.iter().find(|(_, share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        });
        found.map_or("direct", |(channel, _)| channel)
    }

    fn event(&mut self, kind: &str, user: u32, item: u32, ts: i64, more: &str) {
        self.events += 1;
        let mut line = Vec::with_capacity(128);
        write!(
            line,
            r#"{{"event_id":"e{}","user_id":"u{user}","item_id":"{}","event_type":"{kind}","ts":{ts}{more}}}"#,
            self.events,
            name_of(item)
        )
        .expect("memory takes it");
        self.arrive(Stream::Clicks, user, ts, line);
    }

    fn order(&mut self, user: u32, item: u32, ts: i64) -> Deed {
        self.orders += 1;
        // The price belongs to the item, so that revenue can be checked by hand.
        let cents = 199 + u64::from(item) * 7_919 % 19_900;
        let mut line = Vec::with_capacity(128);
        write!(
            line,
            r#"{{"order_id":"o{}","user_id":"u{user}","item_id":"{}","price":{}.{:02},"ts":{ts}}}"#,
            self.orders,
            name_of(item),
            cents / 100,
            cents % 100
        )
        .expect("memory takes it");
        self.arrive(Stream::Orders, user, ts, line);
        self.correction(user, cents, ts);
        Deed::Order(self.orders, cents)
    }

    /// Some of what was ordered last is given back a few minutes later.
    fn correction(&mut self, user: u32, cents: u64, ordered: i64) {
        let drawn = self.around.below(1_000_000);
        let mut sum = 0;
        let found = REFUND_PPM.iter().find(|(_, share)| {
            sum += u64::from(*share);
            drawn < sum
        });
        let Some((how, _)) = found else { return };
        let (kind, back) = match *how {
            "part" => ("refund", cents / 2),
            "all" => ("refund", cents),
            other => (other, cents),
        };
        self.corrections += 1;
        let ts = ordered + i64::try_from(10_000 + self.around.mostly_small(300_000)).expect("minutes");
        let line = format!(
            r#"{{"event_id":"r{}","order_id":"o{}","user_id":"u{user}","kind":"{kind}","amount":{}.{:02},"ts":{ts}}}"#,
            self.corrections,
            self.orders,
            back / 100,
            back % 100
        );
        self.arrive_around(Stream::Corrections, user, ts, line.into_bytes());
    }

    /// Lets a row arrive: some time after it happened, perhaps late, twice, or with a broken one behind it.
    fn arrive(&mut self, stream: Stream, user: u32, ts: i64, line: Vec<u8>) {
        let late = self.dice.chance(self.settings.late_ppm);
        let mut at_ms = ts + i64::try_from(self.dice.mostly_small(self.settings.disorder_ms + 1)).expect("seconds");
        if late {
            at_ms += 60_000 + self.span(120_000);
        }
        if self.dice.chance(self.settings.duplicate_ppm) {
            let again = at_ms + self.span(2_000);
            self.wait(Kind::Duplicate, stream, user, again, line.clone());
        }
        if self.dice.chance(self.settings.broken_ppm) {
            let broken = self.broken(&line);
            self.wait(Kind::Broken, stream, user, at_ms, broken);
        }
        self.wait(if late { Kind::Late } else { Kind::Good }, stream, user, at_ms, line);
    }

    /// Lets a row of what is around the shop arrive: soon after it happened, perhaps twice.
    fn arrive_around(&mut self, stream: Stream, user: u32, ts: i64, line: Vec<u8>) {
        let delay = self.around.mostly_small(self.settings.disorder_ms + 1);
        let at_ms = ts + i64::try_from(delay).expect("seconds");
        if self.around.chance(self.settings.duplicate_ppm) {
            self.wait(Kind::Duplicate, stream, user, at_ms, line.clone());
        }
        self.wait(Kind::Good, stream, user, at_ms, line);
    }

    fn wait(&mut self, kind: Kind, stream: Stream, user: u32, at_ms: i64, line: Vec<u8>) {
        self.rows += 1;
        self.waiting.push(Reverse(Arrival { at_ms, number: self.rows, stream, kind, user, line }));
    }

    /// Returns what a bad sender makes of a row: every variant is one that the schema of its topic refuses.
    fn broken(&mut self, line: &[u8]) -> Vec<u8> {
        match self.dice.below(6) {
            0 => line[..line.len() / 2].to_vec(),
            1 => b"GET /favicon.ico HTTP/1.1".to_vec(),
            2 => b"{\"event_id\":\"x\",\"order_id\":\"x\",\"user_id\":\"u0\",\"item_id\":\"item-0000\"}".to_vec(),
            3 => b"{\"event_id\":\"x\",\"order_id\":\"x\",\"user_id\":\"u0\",\"ts\":\"yesterday\"}".to_vec(),
            4 => b"{\"event_id\":\"x\",\"order_id\":\"x\",\"user_id\":\"\xff\xfe\",\"ts\":1767225600000}".to_vec(),
            _ => b"{\"event_id\":\"x\",\"order_id\":\"x\",\"user_id\":\"u0\",\"ts\":-62135596800000}".to_vec(),
        }
    }
}

/// Returns an item's name.
fn name_of(item: u32) -> String {
    format!("item-{item:04}")
}

impl Iterator for Traffic {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let horizon_ms =
                self.settings.start_ms + i64::try_from(self.next_session_us / 1000).expect("a run is finite");
            match self.waiting.peek() {
                Some(Reverse(next)) if next.at_ms < horizon_ms => {
                    return self.waiting.pop().map(|Reverse(arrival)| arrival);
                }
                _ => self.begin_session(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn rows(seed: u64, count: usize) -> Vec<Arrival> {
        let all = Traffic::new(Settings { seed, ..Settings::default() });
        all.filter(|row| row.stream.is_shop()).take(count).collect()
    }

    fn rows_of(stream: Stream, count: usize) -> Vec<serde_json::Value> {
        let all = Traffic::new(Settings::default()).filter(|row| row.stream == stream && row.kind == Kind::Good);
        all.take(count).map(|row| serde_json::from_slice(&row.line).unwrap()).collect()
    }

    #[test]
    fn a_seed_gives_the_same_rows() {
        assert_eq!(rows(7, 5_000), rows(7, 5_000));
        assert_ne!(rows(7, 100), rows(8, 100));
        // What was written once must be writable again: the rows of seed 7 are part of what scripts rely on.
        let text: Vec<u8> = rows(7, 20_000).into_iter().flat_map(|row| row.line).collect();
        let sum = text
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        assert_eq!(sum, SUM_OF_SEED_7, "the traffic of seed 7 changed");
    }

    const SUM_OF_SEED_7: u64 = 5_708_905_039_507_499_552;

    #[test]
    fn rows_arrive_in_order_and_rows_in_time_within_the_disorder() {
        let all = rows(1, 50_000);
        assert!(all.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms));
        for row in all.iter().filter(|row| row.kind == Kind::Good) {
            let row_json: serde_json::Value = serde_json::from_slice(&row.line).unwrap();
            let delay = row.at_ms - row_json["ts"].as_i64().unwrap();
            assert!((0..=5_000).contains(&delay), "{delay}");
        }
    }

    #[test]
    fn the_rate_is_about_what_was_asked_for() {
        let all = rows(2, 200_000);
        // The first twenty minutes lack the orders of clicks before them; they are few.
        let seconds = (all[all.len() - 1].at_ms - all[0].at_ms) as f64 / 1000.0;
        let rate = all.len() as f64 / seconds;
        assert!((180.0..220.0).contains(&rate), "{rate}");
    }

    #[test]
    fn all_kinds_of_rows_occur_and_most_orders_follow_a_click() {
        let all = rows(3, 200_000);
        let mut kinds = BTreeMap::new();
        for row in &all {
            *kinds.entry((row.stream, row.kind)).or_insert(0_u32) += 1;
        }
        assert_eq!(kinds.len(), 8, "{kinds:?}");
        let orders = all.iter().filter(|row| row.stream == Stream::Orders).count();
        assert!(orders * 100 > all.len() && orders * 20 < all.len(), "{orders} orders");
    }

    #[test]
    fn what_is_around_the_shop_fits_to_it() {
        let orders: BTreeMap<String, serde_json::Value> = rows_of(Stream::Orders, 4_000)
            .into_iter()
            .map(|row| (row["order_id"].as_str().unwrap().to_owned(), row))
            .collect();
        let corrections = rows_of(Stream::Corrections, 50);
        let known = corrections.iter().filter_map(|row| Some((row, orders.get(row["order_id"].as_str()?)?)));
        let fits = known.filter(|(row, order)| {
            let (back, price) = (row["amount"].as_f64().unwrap(), order["price"].as_f64().unwrap());
            assert!(back <= price && row["user_id"] == order["user_id"] && row["ts"].as_i64() > order["ts"].as_i64());
            true
        });
        assert!(fits.count() > 40);
        let seen: std::collections::BTreeSet<String> =
            rows_of(Stream::Events, 20_000).iter().map(|row| row["type"].as_str().unwrap().to_owned()).collect();
        let wanted = ["click", "js_error", "order_completed", "page_leave", "page_view"];
        assert!(seen.iter().map(String::as_str).eq(wanted), "{seen:?}");
        let ahead = rows_of(Stream::Telemetry, 2_000);
        let count = |what: &str| ahead.iter().filter(|row| row["event"] == what).count();
        assert!(count("user_signed_up") > count("workflow_created") && count("workflow_deployed") > 100);
        assert!(rows_of(Stream::Assignments, 500).iter().any(|row| row["variant"] == "new"));
    }

    #[test]
    fn broken_rows_are_no_rows_of_the_schema() {
        for row in rows(4, 100_000).into_iter().filter(|row| row.kind == Kind::Broken) {
            let Ok(value) = serde_json::from_slice::<serde_json::Value>(&row.line) else { continue };
            let ts = value["ts"].as_i64().unwrap_or(i64::MIN);
            assert!(ts < 0, "{}", String::from_utf8_lossy(&row.line));
        }
    }
}
