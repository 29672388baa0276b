//! The board: what the demo's jobs have written, added up per item and shown in the terminal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use riverrun_connectors::topic::{Begin, Tail, Topic, TopicError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::exit::Failure;
use crate::output::{grouped, table};
use crate::topic::failed;

/// The topic of the job `attribution`.
const ATTRIBUTED: &str = "attributed.events.v1";
/// The topic of the job `item-minutes`.
const MINUTES: &str = "item.minutes.v1";

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
    pub revenue_cents: u64,
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
        let cents = self.revenue_cents;
        vec![
            name.to_owned(),
            grouped(self.impressions),
            grouped(self.clicks),
            percent(self.clicks, self.impressions),
            grouped(self.orders),
            grouped(self.attributed),
            format!("{}.{:02}", grouped(cents / 100), cents % 100),
            percent(self.attributed, self.clicks),
        ]
    }
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
    attributed: Option<Tail>,
    minutes: Option<Tail>,
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
        let total = Sums::default();
        Board { topics: topics.to_owned(), attributed: None, minutes: None, items: BTreeMap::new(), total }
    }

    /// Adds what the jobs wrote since the last time.
    pub fn update(&mut self) -> Result<(), Failure> {
        open(&self.topics, ATTRIBUTED, &mut self.attributed)?;
        open(&self.topics, MINUTES, &mut self.minutes)?;
        let mut found = Vec::new();
        read(&mut self.attributed, |value| {
            let row: Attributed = serde_json::from_slice(value).ok()?;
            let cents = row.price.and_then(|price| cents(price.get())).unwrap_or(0);
            let credited = u64::from(row.attributed);
            let sums = Sums { orders: 1, attributed: credited, revenue_cents: credited * cents, ..Sums::default() };
            found.push((row.item_id, sums));
            Some(())
        })?;
        read(&mut self.minutes, |value| {
            let row: Minute = serde_json::from_slice(value).ok()?;
            found.push((row.item_id, Sums { impressions: row.impressions, clicks: row.clicks, ..Sums::default() }));
            Some(())
        })?;
        for (item, sums) in found {
            self.items.entry(item).or_default().add(&sums);
            self.total.add(&sums);
        }
        Ok(())
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

    /// Returns the board as a table.
    pub fn table(&self, count: usize) -> comfy_table::Table {
        let mut rows: Vec<Vec<String>> = self.best(count).into_iter().map(|(item, sums)| sums.row(item)).collect();
        rows.push(self.total.row("all items"));
        let header = ["item", "shown", "clicks", "ctr", "orders", "attributed", "revenue", "conversion"];
        table(&header, &[1, 2, 3, 4, 5, 6, 7], rows)
    }
}

/// Opens a topic once a job has made it.
fn open(topics: &Path, name: &str, tail: &mut Option<Tail>) -> Result<(), Failure> {
    if tail.is_some() {
        return Ok(());
    }
    match Topic::open(topics, name) {
        Ok(topic) => *tail = Some(Tail::open(&topic, None, Begin::Start).map_err(failed)?),
        Err(TopicError::Missing { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(())
}

fn read(tail: &mut Option<Tail>, mut take: impl FnMut(&[u8]) -> Option<()>) -> Result<(), Failure> {
    let Some(tail) = tail else { return Ok(()) };
    while let Some(record) = tail.read().map_err(failed)? {
        // A row that another program wrote to the topic is none of ours.
        let _ = take(&record.value);
    }
    Ok(())
}

/// Returns a price in cents: digits, a point, two digits.
fn cents(price: &str) -> Option<u64> {
    let (whole, part) = price.split_once('.').unwrap_or((price, "0"));
    let part = format!("{part:0<2}");
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part.get(..2)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_cents_without_rounding() {
        assert_eq!(cents("19.99"), Some(1999));
        assert_eq!(cents("0.1"), Some(10));
        assert_eq!(cents("7"), Some(700));
        assert_eq!(cents("null"), None);
    }

    #[test]
    fn a_share_of_nothing_is_unknown() {
        assert_eq!(percent(1, 0), "-");
        assert_eq!(percent(1, 8), "12.5 %");
    }
}
