//! The board: what the demo's jobs have written, added up per item and shown in the terminal.

mod behaviour;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use riverrun_connectors::topic::{Begin, Tail, Topic, TopicError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::exit::Failure;
use crate::output::{grouped, table};
use crate::topic::failed;
use behaviour::Behaviour;

/// The topic of the job `attribution`.
const ATTRIBUTED: &str = "attributed.events.v1";
/// The topic of the job `item-minutes`.
const MINUTES: &str = "item.minutes.v1";
/// The topics of the other jobs.
const BEHAVIOUR: [&str; 7] = [
    "attributed.credits.v1",
    "sessions.v1",
    "frustration.signals.v1",
    "frustration.incidents.v1",
    "conversion.hourly.v1",
    "telemetry.progress.v1",
    "ab-test.users.v1",
];

/// What is known of an item, or of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Times it was shown, in minutes that are closed.
    pub impressions: u64,
    /// Times it was clicked, in minutes that are closed.
    pub clicks: u64,
    /// Orders.
    pub orders: u64,
    /// Orders that a click led to.
    pub attributed: u64,
    /// What those orders cost, in cents.
    pub revenue_cents: i64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.impressions += other.impressions;
        self.clicks += other.clicks;
        self.orders += other.orders;
        self.attributed += other.attributed;
        self.revenue_cents += other.revenue_cents;
    }

    fn row(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            grouped(self.impressions),
            grouped(self.clicks),
            percent(self.clicks, self.impressions),
            grouped(self.orders),
            grouped(self.attributed),
            money(self.revenue_cents),
            percent(self.attributed, self.clicks),
        ]
    }
}

/// Returns an amount for people.
fn money(cents: i64) -> String {
    let (sign, cents) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
    format!("{sign}{}.{:02}", grouped(cents / 100), cents % 100)
}

/// Returns a share in percent; nothing is known of a share of nothing.
fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

/// Adds up what the jobs write.
pub struct Board {
    topics: PathBuf,
    tails: BTreeMap<&'static str, Tail>,
    behaviour: Behaviour,
    items: BTreeMap<String, Sums>,
    total: Sums,
}

/// A row of the job `attribution`, as far as the board reads it.
#[derive(Deserialize)]
struct Attributed<'a> {
    item_id: String,
    attributed: bool,
    #[serde(borrow)]
    price: Option<&'a RawValue>,
}

/// A row of the job `item-minutes`, as far as the board reads it.
#[derive(Deserialize)]
struct Minute {
    item_id: String,
    impressions: u64,
    clicks: u64,
}

impl Board {
    /// Returns a board of the results in the folder `topics`.
    pub fn new(topics: &Path) -> Board {
        Board {
            topics: topics.to_owned(),
            tails: BTreeMap::new(),
            behaviour: Behaviour::default(),
            items: BTreeMap::new(),
            total: Sums::default(),
        }
    }

    /// Adds what the jobs wrote since the last time.
    pub fn update(&mut self) -> Result<(), Failure> {
        for topic in [ATTRIBUTED, MINUTES].into_iter().chain(BEHAVIOUR) {
            self.open(topic)?;
            let Some(mut tail) = self.tails.remove(topic) else { continue };
            while let Some(record) = tail.read().map_err(failed)? {
                // A row that another program wrote to the topic is none of ours.
                let _ = self.add(topic, &record.value);
            }
            self.tails.insert(topic, tail);
        }
        Ok(())
    }

    /// Opens a topic once a job has made it.
    fn open(&mut self, topic: &'static str) -> Result<(), Failure> {
        if self.tails.contains_key(topic) {
            return Ok(());
        }
        match Topic::open(&self.topics, topic) {
            Ok(found) => drop(self.tails.insert(topic, Tail::open(&found, None, Begin::Start).map_err(failed)?)),
            Err(TopicError::Missing { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }

    fn add(&mut self, topic: &str, value: &[u8]) -> Option<()> {
        let (item, sums) = match topic {
            ATTRIBUTED => {
                let row: Attributed = serde_json::from_slice(value).ok()?;
                let cents = row.price.and_then(|price| cents(price.get())).unwrap_or(0);
                let credited = u64::from(row.attributed);
                let revenue_cents = if row.attributed { cents } else { 0 };
                (row.item_id, Sums { orders: 1, attributed: credited, revenue_cents, ..Sums::default() })
            }
            MINUTES => {
                let row: Minute = serde_json::from_slice(value).ok()?;
                (row.item_id, Sums { impressions: row.impressions, clicks: row.clicks, ..Sums::default() })
            }
            other => return self.behaviour.add(other, value),
        };
        self.items.entry(item).or_default().add(&sums);
        self.total.add(&sums);
        Some(())
    }

    /// Returns the sums of the behaviour jobs.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Returns the sums of all items.
    pub fn total(&self) -> &Sums {
        &self.total
    }

    /// Returns the items with the greatest revenue, at most `count`.
    pub fn best(&self, count: usize) -> Vec<(&str, &Sums)> {
        let mut all: Vec<(&str, &Sums)> = self.items.iter().map(|(item, sums)| (item.as_str(), sums)).collect();
        all.sort_by_key(|(item, sums)| (std::cmp::Reverse((sums.revenue_cents, sums.impressions)), *item));
        all.truncate(count);
        all
    }

    /// Returns the board as it is shown: at most `count` items, and what the behaviour jobs found.
    pub fn text(&self, count: usize) -> String {
        let items = self.table(count).to_string();
        let items = items.lines().map(str::trim_end).map(str::to_owned);
        let lines: Vec<String> = items.chain([String::new()]).chain(self.behaviour.lines()).collect();
        lines.join("\n")
    }

    /// Returns the board as one line.
    pub fn line(&self) -> String {
        let Sums { orders, attributed, revenue_cents, .. } = self.total;
        let orders = format!("{} orders, {} credited", grouped(orders), grouped(attributed));
        format!("{orders}, revenue {}; {}", money(revenue_cents), self.behaviour.line())
    }

    fn table(&self, count: usize) -> comfy_table::Table {
        let mut rows: Vec<Vec<String>> = self.best(count).into_iter().map(|(item, sums)| sums.row(item)).collect();
        rows.push(self.total.row("all items"));
        let header = ["item", "shown", "clicks", "ctr", "orders", "credited", "revenue", "conv."];
        table(&header, &[1, 2, 3, 4, 5, 6, 7], rows)
    }
}

/// Returns an amount in cents: perhaps a sign, digits, a point, two digits.
fn cents(amount: &str) -> Option<i64> {
    let (sign, digits) = amount.strip_prefix('-').map_or((1, amount), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let part = format!("{part:0<2}");
    let cents = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part.get(..2)?.parse().ok()?)?;
    Some(sign * cents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_cents_without_rounding() {
        assert_eq!(cents("19.99"), Some(1999));
        assert_eq!(cents("0.1"), Some(10));
        assert_eq!(cents("7"), Some(700));
        assert_eq!((cents("-0.05"), cents("-12.50")), (Some(-5), Some(-1250)));
        assert_eq!((money(-5).as_str(), money(123_456).as_str()), ("-0.05", "1 234.56"));
        assert_eq!(cents("null"), None);
    }

    #[test]
    fn a_share_of_nothing_is_unknown() {
        assert_eq!(percent(1, 0), "-");
        assert_eq!(percent(1, 8), "12.5 %");
    }
}
