//! A deduplication, and on it sessions, windows of sessions, a join, and a ledger.
//!
//! Every row that was on time is kept for good, and what a step has given by now is worked out from all of them, tick by tick:
//! what it gives in a tick is what is there now and was not before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use self::credits::Credits;
use super::{Calm, Cut, MAX, Row, SECOND, Steps, minus, sorted};

mod credits;

/// What the steps have seen.
#[derive(Default)]
pub(super) struct Ledger {
    accepted: Vec<Row>,
    /// Rows that sessions are made of.
    visited: Vec<Row>,
    /// Sessions and rows without one that were given, as often as they were.
    given: [BTreeMap<String, usize>; 2],
    /// Sessions that windows count.
    ended: Vec<Visit>,
    windows: BTreeSet<(i128, String)>,
    left: Vec<Row>,
    right: Vec<Row>,
    /// Places of left rows that have a pair, or were given without.
    paired: BTreeSet<(u32, u64)>,
    credits: Credits,
}

/// A session.
#[derive(Clone)]
struct Visit {
    start: i128,
    /// The last interaction.
    last: i128,
    /// What moved its end after that.
    left: i128,
    closed_by: &'static str,
    rows: Vec<Row>,
}

const GAP: i128 = 3 * SECOND;
const LONGEST: i128 = 20 * SECOND;
const LATENESS: i128 = 3 * SECOND;

/// Says whether a watermark has passed a time.
fn passed(time: i128, watermark: i128) -> bool {
    watermark == MAX || time < watermark
}

impl Steps for Ledger {
    fn tick(&mut self, cut: &Cut, calm: &mut Calm) {
        let [clicks, orders, refunds] = [&cut.rows[0], &cut.rows[1], &cut.rows[2]];
        let once = self.once(clicks, cut.before[0], calm);
        let visits = self.visits(&once, cut.before[0], cut.watermarks[0], calm);
        self.windows(visits, cut.watermarks[0], calm);
        let both = |of: &[i128]| of[0].min(of[1]);
        self.near(orders, &once, [both(&cut.before), both(&cut.watermarks)], calm);
        let all = |of: &[i128]| both(of).min(of[2]);
        self.credits.tick([orders, &once, refunds], minus(all(&cut.before), LATENESS), all(&cut.watermarks), calm);
    }

    fn home(&self, sink: &str) -> Option<&'static str> {
        ["visits", "ended", "credited", "paths"].contains(&sink).then_some("user")
    }

    fn changes(&self) -> Option<&'static str> {
        Some("credited")
    }
}

impl Ledger {
    /// Lets the first of each event through.
    fn once(&mut self, clicks: &[Row], before: i128, calm: &mut Calm) -> Vec<Row> {
        let mut clicks = clicks.to_vec();
        clicks.sort_by(|one, other| one.place().cmp(&other.place()));
        let mut first = Vec::new();
        for click in clicks {
            let is_late = passed(click.time, minus(before, LATENESS));
            let twin = self
                .accepted
                .iter()
                .rev()
                .find(|other| click.id.is_some() && other.id == click.id && click.time < other.time + 20 * SECOND);
            let counts = calm.counts("once");
            counts.input += 1;
            if is_late {
                counts.late += 1;
                calm.put("late", &click.value);
            } else if let Some(twin) = twin {
                counts.duplicate += 1;
                let is_same = twin.value["n"] == click.value["n"];
                calm.put(if is_same { "again" } else { "other" }, &click.value);
            } else {
                (counts.taken, counts.out) = (counts.taken + 1, counts.out + 1);
                self.accepted.push(click.clone());
                first.push(click);
            }
        }
        first
    }

    /// Makes sessions of what can no longer change; returns those that were not given before.
    fn visits(&mut self, once: &[Row], before: i128, watermark: i128, calm: &mut Calm) -> Vec<Visit> {
        let on_time = once.iter().filter(|row| !passed(row.time, minus(before, LATENESS)));
        let came = self.visited.len();
        self.visited.extend(on_time.cloned());
        let counts = calm.counts("visits");
        counts.input += once.len() as u64;
        counts.taken += (self.visited.len() - came) as u64;
        counts.late += (once.len() + came - self.visited.len()) as u64;
        let (visits, alone) = sessions(&self.visited, minus(watermark, LATENESS));
        let [visits_given, alone_given] = &mut self.given;
        let mut new = Vec::new();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for visit in visits {
            let row = sorted(&visit.row());
            *seen.entry(row.clone()).or_default() += 1;
            if seen[&row] > visits_given.get(&row).copied().unwrap_or_default() {
                calm.put("visits", &visit.row());
                calm.counts("visits").out += 1;
                new.push(visit);
            }
        }
        *visits_given = seen;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for row in alone {
            let text = sorted(&row.value);
            *seen.entry(text.clone()).or_default() += 1;
            if seen[&text] > alone_given.get(&text).copied().unwrap_or_default() {
                calm.put("alone", &row.value);
            }
        }
        *alone_given = seen;
        new
    }

    /// Counts the sessions that ended in ten seconds. None of them is late: the watermark behind the sessions waits for them.
    fn windows(&mut self, visits: Vec<Visit>, watermark: i128, calm: &mut Calm) {
        let size = 10 * SECOND;
        let window = |visit: &Visit| (visit.end().div_euclid(size) * size, visit.rows[0].key(&["user"]));
        let counts = calm.counts("ended");
        (counts.input, counts.taken) = (counts.input + visits.len() as u64, counts.taken + visits.len() as u64);
        self.ended.extend(visits);
        let open: BTreeSet<_> = self.ended.iter().map(window).filter(|key| !self.windows.contains(key)).collect();
        for key in open.into_iter().filter(|(start, _)| passed(start + size - 1, minus(watermark, LATENESS + GAP))) {
            let visits: Vec<&Visit> = self.ended.iter().filter(|visit| window(visit) == key).collect();
            let events: usize = visits.iter().map(|visit| visit.rows.len()).sum();
            let value = json!({ "window_start": key.0 / 1000, "window_end": (key.0 + size) / 1000,
                "user": visits[0].rows[0].value["user"], "visits": visits.len(), "events": events });
            calm.put("ended", &value);
            calm.counts("ended").out += 1;
            self.windows.insert(key);
        }
    }

    /// Pairs orders with clicks from five seconds before to three after them.
    fn near(&mut self, orders: &[Row], once: &[Row], [before, watermark]: [i128; 2], calm: &mut Calm) {
        let key = ["user", "item"];
        let counts = calm.counts("near");
        counts.input += (orders.len() + once.len()) as u64;
        let late = |row: &&Row| passed(row.time, before);
        counts.late += orders.iter().chain(once).filter(late).count() as u64;
        counts.taken += orders.iter().chain(once).filter(|row| !late(row)).count() as u64;
        orders.iter().filter(late).for_each(|order| calm.put("near_late", &order.value));
        let (lefts, rights) = (self.left.len(), self.right.len());
        self.left.extend(orders.iter().filter(|row| !late(row)).cloned());
        self.right.extend(once.iter().filter(|row| !late(row)).cloned());
        for (l, left) in self.left.iter().enumerate() {
            for (r, right) in self.right.iter().enumerate() {
                let is_near = (left.time - 5 * SECOND..=left.time + 3 * SECOND).contains(&right.time);
                let is_pair = !left.has_null(&key) && left.key(&key) == right.key(&key) && is_near;
                if is_pair && (l >= lefts || r >= rights) {
                    calm.put("near", &beside(left, Some(right)));
                    calm.counts("near").out += 1;
                    self.paired.insert((left.split, left.position));
                }
            }
        }
        for left in self.left.iter().filter(|left| passed(left.time + 3 * SECOND, watermark)) {
            if self.paired.insert((left.split, left.position)) {
                calm.put("near", &beside(left, None));
                calm.counts("near").out += 1;
            }
        }
    }
}

/// The columns of both, those of the click with a prefix.
fn beside(order: &Row, click: Option<&Row>) -> Value {
    let mut row = order.value.clone();
    for name in ["event_id", "user", "item", "channel", "campaign", "n", "ts"] {
        row[format!("click_{name}")] = click.map_or(Value::Null, |click| click.value[name].clone());
    }
    row
}

impl Visit {
    fn end(&self) -> i128 {
        self.last.max(self.left)
    }

    fn row(&self) -> Value {
        let numbers = |name: &'static str| self.rows.iter().filter_map(move |row| row.value[name].as_i64());
        json!({ "session_start": self.start / 1000, "session_end": self.end() / 1000, "closed_by": self.closed_by,
            "user": self.rows[0].value["user"], "events": self.rows.len(), "total": numbers("n").sum::<i64>(),
            "landing": numbers("item").next(), "items": numbers("item").collect::<BTreeSet<_>>().len() })
    }
}

/// Returns the sessions that have ended of all rows before `limit`, and the rows for which none was open.
fn sessions(rows: &[Row], limit: i128) -> (Vec<Visit>, Vec<Row>) {
    let mut rows: Vec<&Row> = rows.iter().filter(|row| passed(row.time, limit)).collect();
    rows.sort_by(|one, other| one.place().cmp(&other.place()));
    let (mut ended, mut alone) = (Vec::new(), Vec::new());
    let mut open: BTreeMap<String, Visit> = BTreeMap::new();
    for row in rows {
        let (user, n) = (row.key(&["user"]), row.value["n"].as_i64());
        let is_interaction = n > Some(2);
        if let Some(visit) = open.get(&user) {
            let reason = match row.time {
                time if time > visit.last + GAP => Some("idle"),
                time if is_interaction && time > visit.start + LONGEST => Some("max_duration"),
                _ => None,
            };
            if let Some(closed_by) = reason {
                ended.extend(open.remove(&user).map(|visit| Visit { closed_by, ..visit }));
            }
        }
        match open.get_mut(&user) {
            None if !is_interaction => alone.push(row.clone()),
            None => {
                let (start, rows) = (row.time, vec![row.clone()]);
                open.insert(user, Visit { start, last: start, left: start, closed_by: "idle", rows });
            }
            Some(visit) => {
                visit.rows.push(row.clone());
                if is_interaction {
                    visit.last = row.time;
                } else if n == Some(0) {
                    visit.left = row.time;
                }
            }
        }
    }
    ended.extend(open.into_values().filter(|visit| passed(visit.last + GAP, limit)));
    (ended, alone)
}
