//! Compares two sorted streams key by key, holding the rows of one key that differ, and no others.

use std::io;
use std::iter::Peekable;

use serde_json::value::RawValue;

use super::identity::{Form, Subject};
use super::sorter::{Entry, Sorted};
use super::stream::{Stream, Values};

/// Differing rows of one key and one side that are held to find which go together; beyond, they are paired as they come.
const HELD_MAX: usize = 256;

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row that only version A gives.
    OnlyA(String),
    /// A row that only version B gives.
    OnlyB(String),
    /// A row that both give, otherwise.
    Changed {
        /// As A gives it.
        a: String,
        /// As B gives it.
        b: String,
        /// The columns in which they differ, as indices.
        columns: Vec<usize>,
    },
}

/// How the streams of two versions differ, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that both give.
    pub same: u64,
    /// Rows that both give, otherwise.
    pub changed: u64,
    /// Rows that only A gives.
    pub only_a: u64,
    /// Rows that only B gives.
    pub only_b: u64,
    /// In how many rows each column differs.
    pub columns: Vec<u64>,
    /// What that means, where the stream is about orders: counted once an order and model.
    pub credits: Credits,
}

/// Orders that are credited otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    /// To another touch.
    pub moved: u64,
    /// To one, and before to none.
    pub gained: u64,
    /// To none any more.
    pub lost: u64,
}

impl Tally {
    /// Returns whether anything differs.
    pub fn differs(&self) -> bool {
        self.changed + self.only_a + self.only_b > 0
    }
}

/// Compares the rows of a stream; what differs is handed to `take`, in the order of keys.
pub(super) fn compare(
    stream: &Stream,
    sides: [Sorted; 2],
    take: &mut dyn FnMut(Change) -> io::Result<()>,
) -> io::Result<Tally> {
    let tally = Tally { columns: vec![0; stream.columns.len()], ..Tally::default() };
    let touch = touch_columns(stream);
    let mut comparison = Comparison { tally, touch, left: Default::default(), credits: Credits::default(), take };
    let [mut a, mut b] = sides.map(|sorted| Side { rows: sorted.peekable(), form: stream.form });
    while let Some(key) = least(a.key()?, b.key()?) {
        let (mut one, mut two) = (a.next(&key)?, b.next(&key)?);
        loop {
            match (one.take(), two.take()) {
                (None, None) => break,
                (Some((x, times)), Some((y, others))) if x == y => {
                    let both = times.min(others);
                    comparison.tally.same += both;
                    one = if times > both { Some((x, times - both)) } else { a.next(&key)? };
                    two = if others > both { Some((y, others - both)) } else { b.next(&key)? };
                }
                (Some(x), Some(y)) if x.0 < y.0 => {
                    comparison.leave(0, x)?;
                    (one, two) = (a.next(&key)?, Some(y));
                }
                (Some(x), None) => {
                    comparison.leave(0, x)?;
                    one = a.next(&key)?;
                }
                (x, Some(y)) => {
                    comparison.leave(1, y)?;
                    (one, two) = (x, b.next(&key)?);
                }
            }
        }
        comparison.end_key()?;
    }
    Ok(comparison.tally)
}

fn least(a: Option<Vec<u8>>, b: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A row and how often it stands. One that was taken back more often than given says so, so that it equals nothing else.
type Standing = ((Vec<u8>, IsBack), u64);
type IsBack = bool;

/// The rows of one version that stand at the end, by key and text.
struct Side {
    rows: Peekable<Sorted>,
    form: Form,
}

impl Side {
    /// Returns the key that comes next.
    fn key(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.rows.peek() {
            None => Ok(None),
            Some(Ok(entry)) => Ok(Some(entry.key.clone())),
            Some(Err(_)) => self.rows.next().transpose().map(|_| None),
        }
    }

    /// Returns the next row of `key` that stands.
    fn next(&mut self, key: &[u8]) -> io::Result<Option<Standing>> {
        while let Some(first) = self.next_if(|next| next.key == key)? {
            let last = match first.rank {
                i64::MIN => first,
                _ => self.last_of(first)?,
            };
            let mut count: i64 = if last.is_minus { -1 } else { 1 };
            while let Some(equal) =
                self.next_if(|next| (&next.key, next.rank, &next.row) == (&last.key, last.rank, &last.row))?
            {
                count += if equal.is_minus { -1 } else { 1 };
            }
            match count {
                0 => {}
                _ => return Ok(Some(((last.row, count < 0), count.unsigned_abs()))),
            }
        }
        Ok(None)
    }

    /// Returns the row of the highest revision of the key of `first`.
    fn last_of(&mut self, first: Entry) -> io::Result<Entry> {
        assert_eq!(self.form, Form::Revised, "only revised rows have a rank");
        let mut last = first;
        while let Some(next) = self.next_if(|next| next.key == last.key)? {
            last = next;
        }
        Ok(last)
    }

    fn next_if(&mut self, is_wanted: impl Fn(&Entry) -> bool) -> io::Result<Option<Entry>> {
        self.rows.next_if(|next| next.as_ref().map_or(true, &is_wanted)).transpose()
    }
}

/// What is under way.
struct Comparison<'t> {
    tally: Tally,
    /// The columns that say who is credited, where that is what a stream is about.
    touch: Option<Touch>,
    /// Rows of the key in hand that the other side does not have.
    left: [Vec<Vec<u8>>; 2],
    /// What became of the credits of the key in hand.
    credits: Credits,
    take: &'t mut dyn FnMut(Change) -> io::Result<()>,
}

impl Comparison<'_> {
    fn leave(&mut self, side: usize, ((row, is_back), times): Standing) -> io::Result<()> {
        let row = if is_back { [b"-".as_slice(), &row].concat() } else { row };
        for _ in 0..times {
            self.left[side].push(row.clone());
            if self.left[side].len() >= HELD_MAX {
                self.pair_off()?;
            }
        }
        Ok(())
    }

    /// Ends a key: its rows that are left over go together as far as there are two.
    fn end_key(&mut self) -> io::Result<()> {
        self.pair_off()?;
        let (all, key) = (&mut self.tally.credits, std::mem::take(&mut self.credits));
        // An order whose credit is divided has several rows; it is one order all the same.
        all.moved += u64::from(key.moved > 0);
        all.gained += u64::from(key.gained > 0 && key.moved == 0);
        all.lost += u64::from(key.lost > 0 && key.moved == 0 && key.gained == 0);
        Ok(())
    }

    fn pair_off(&mut self) -> io::Result<()> {
        let [mut a, mut b] = std::mem::take(&mut self.left);
        if a.is_empty() || b.is_empty() {
            a.into_iter().try_for_each(|row| self.only(0, row))?;
            return b.into_iter().try_for_each(|row| self.only(1, row));
        }
        // Those that are most alike go together.
        for row in a.drain(..) {
            let alike = |other: &Vec<u8>| differing(&row, other).len();
            let best = b.iter().enumerate().min_by_key(|(at, other)| (alike(other), *at)).map(|(at, _)| at);
            match best {
                Some(at) => {
                    let other = b.remove(at);
                    self.changed(row, other)?;
                }
                None => self.only(0, row)?,
            }
        }
        b.into_iter().try_for_each(|row| self.only(1, row))
    }

    fn only(&mut self, side: usize, row: Vec<u8>) -> io::Result<()> {
        let row = text(row);
        if side == 0 {
            self.tally.only_a += 1;
            return (self.take)(Change::OnlyA(row));
        }
        self.tally.only_b += 1;
        (self.take)(Change::OnlyB(row))
    }

    fn changed(&mut self, a: Vec<u8>, b: Vec<u8>) -> io::Result<()> {
        let columns = differing(&a, &b);
        columns.iter().for_each(|column| self.tally.columns[*column] += 1);
        self.tally.changed += 1;
        if let Some(touch) = &self.touch {
            match touch.moves(&a, &b, &columns) {
                Some((false, true)) => self.credits.gained += 1,
                Some((true, false)) => self.credits.lost += 1,
                Some(_) => self.credits.moved += 1,
                None => {}
            }
        }
        (self.take)(Change::Changed { a: text(a), b: text(b), columns })
    }
}

fn text(row: Vec<u8>) -> String {
    String::from_utf8(row).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Returns the values of a row as they are written.
pub(super) fn values(row: &[u8]) -> Vec<&str> {
    let row = row.strip_prefix(b"-").unwrap_or(row);
    let Ok(Values(values)) = serde_json::from_slice(row) else { return Vec::new() };
    values.into_iter().map(RawValue::get).collect()
}

/// Returns the columns in which two rows differ.
fn differing(a: &[u8], b: &[u8]) -> Vec<usize> {
    let (a, b) = (values(a), values(b));
    (0..a.len().max(b.len())).filter(|at| a.get(*at) != b.get(*at)).collect()
}

/// The columns that say to whom an order is credited.
struct Touch {
    /// Those that tell the touch.
    columns: Vec<usize>,
    /// The one that says whether there is one: null, or false.
    there: usize,
}

fn touch_columns(stream: &Stream) -> Option<Touch> {
    if stream.subject != Subject::Credits {
        return None;
    }
    let at = |name: &str| stream.columns.iter().position(|column| column == name);
    let there = at("touch_id").or_else(|| at("attributed"))?;
    let is_touch = |(at, name): (usize, &String)| (at == there || name.starts_with("touch_")).then_some(at);
    let columns = stream.columns.iter().enumerate().filter_map(is_touch).collect();
    Some(Touch { columns, there })
}

impl Touch {
    /// Returns whether the order was credited, and is, if that is what changed.
    fn moves(&self, a: &[u8], b: &[u8], changed: &[usize]) -> Option<(bool, bool)> {
        changed.iter().any(|column| self.columns.contains(column)).then(|| {
            let credited = |row: &[u8]| {
                let values = values(row);
                !matches!(values.get(self.there).copied(), None | Some("null" | "false"))
            };
            (credited(a), credited(b))
        })
    }
}

#[cfg(test)]
mod tests;
