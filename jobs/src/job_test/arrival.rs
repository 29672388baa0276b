//! When rows arrive: as given, or shuffled within what a source allows, and into which ticks they are cut.
//!
//! As given, every row is a tick of its own. Rows of one source arrive in the order given; a row arrives when the greatest event
//! time given in its source up to it is reached, which puts the sources side by side. Shuffled, a row still arrives before the
//! watermark passes it, if it did as given. A row that did not, a late one, keeps what had arrived before it, in all sources: for
//! it the watermark is what it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::graph::GivenCut;

/// What must be known of a row to place it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its event time, in microseconds; none for a bad row and where the source has none.
    pub time: Option<i64>,
    /// Its id.
    pub id: Option<String>,
}

/// The rows of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceRows {
    /// The source's place among those that are given something: who comes first at the same time.
    pub rank: usize,
    /// How far event times may be out of order, in microseconds.
    pub max_disorder: i64,
    /// The rows, as given.
    pub rows: Vec<Facts>,
}

/// An order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// For each source the rows in the order of their arrival, by their number as given.
    pub orders: Vec<Vec<usize>>,
    /// How many rows each source gives to each tick.
    pub ticks: Vec<Vec<u64>>,
}

/// A row's number: its source, and its place among the rows given there.
type Row = (usize, usize);

/// A row in the order of arrival.
#[derive(Clone, Debug)]
struct Placed {
    row: Row,
    /// When it arrives: the greatest event time in its source up to it.
    arrives: i64,
    /// It comes after the watermark has passed it.
    late: bool,
}

fn in_order(sources: &[SourceRows]) -> Vec<Placed> {
    let mut all = Vec::new();
    for (source, given) in sources.iter().enumerate() {
        let mut greatest = i64::MIN;
        for (index, facts) in given.rows.iter().enumerate() {
            let watermark = if greatest == i64::MIN { i64::MIN } else { greatest.saturating_sub(given.max_disorder) };
            let late = facts.time.is_some_and(|time| time < watermark);
            greatest = greatest.max(facts.time.unwrap_or(i64::MIN));
            all.push(Placed { row: (source, index), arrives: greatest, late });
        }
    }
    // Stable, and ascending within a source: its rows stay in order.
    all.sort_by_key(|placed| (placed.arrives, sources[placed.row.0].rank));
    all
}

/// Returns the arrival as given: a tick for each row.
pub fn as_given(sources: &[SourceRows]) -> Arrival {
    let ticks = in_order(sources).into_iter().map(|placed| vec![placed.row]).collect();
    Arrival::of(sources.len(), ticks)
}

/// Returns another arrival, which follows from `seed`.
pub fn shuffled(sources: &[SourceRows], seed: u64) -> Arrival {
    let mut dice = Dice::new(seed);
    let mut ticks: Vec<Vec<Row>> = Vec::new();
    let mut segment: Vec<Placed> = Vec::new();
    let mut room = 0;
    let mut add = |row: Row, fresh: bool, dice: &mut Dice| {
        if room == 0 || fresh {
            ticks.push(Vec::new());
            room = 1 + dice.below(4);
        }
        room -= 1;
        ticks.last_mut().expect("just pushed").push(row);
    };
    for placed in in_order(sources) {
        if !placed.late {
            segment.push(placed);
            continue;
        }
        for row in mixed(sources, std::mem::take(&mut segment), &mut dice) {
            add(row, false, &mut dice);
        }
        add(placed.row, true, &mut dice);
    }
    for row in mixed(sources, segment, &mut dice) {
        add(row, false, &mut dice);
    }
    Arrival::of(sources.len(), ticks)
}

/// Mixes rows of which none is late.
fn mixed(sources: &[SourceRows], segment: Vec<Placed>, dice: &mut Dice) -> Vec<Row> {
    let mut by_source: Vec<Vec<(i64, Row)>> = vec![Vec::new(); sources.len()];
    for placed in segment {
        let given = &sources[placed.row.0];
        let time = given.rows[placed.row.1].time.unwrap_or(placed.arrives);
        // A row that is at most `max_disorder` behind its time is never behind the watermark.
        let span = u64::try_from(given.max_disorder).unwrap_or(0).saturating_add(1);
        let delay = i64::try_from(dice.below(span)).unwrap_or(0);
        by_source[placed.row.0].push((time.saturating_add(delay), placed.row));
    }
    for (source, rows) in by_source.iter_mut().enumerate() {
        keep_twins(&sources[source], rows);
        rows.sort_by_key(|(arrives, row)| (*arrives, row.1));
    }
    if dice.below(2) == 0 {
        let mut all: Vec<(i64, Row)> = by_source.into_iter().flatten().collect();
        all.sort_by_key(|(arrives, (source, _))| (*arrives, *source));
        return all.into_iter().map(|(_, row)| row).collect();
    }
    // Sources owe each other nothing: any of them may be far ahead.
    let mut queues: Vec<std::collections::VecDeque<Row>> =
        by_source.into_iter().map(|rows| rows.into_iter().map(|(_, row)| row).collect()).collect();
    let mut out = Vec::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        let at = usize::try_from(dice.below(queues.len() as u64)).unwrap_or(0);
        let run = 1 + dice.below(3);
        out.extend((0..run).filter_map(|_| queues[at].pop_front()));
    }
    out
}

/// Has rows with the same event time and id arrive in the order given: among them position decides, which is part of the row.
fn keep_twins(given: &SourceRows, rows: &mut [(i64, Row)]) {
    let mut twins: BTreeMap<(Option<i64>, Option<&str>), Vec<usize>> = BTreeMap::new();
    for (at, (_, (_, index))) in rows.iter().enumerate() {
        let facts = &given.rows[*index];
        if facts.time.is_some() {
            twins.entry((facts.time, facts.id.as_deref())).or_default().push(at);
        }
    }
    for group in twins.values().filter(|group| group.len() > 1) {
        let mut times: Vec<i64> = group.iter().map(|at| rows[*at].0).collect();
        times.sort_unstable();
        group.iter().zip(times).for_each(|(at, time)| rows[*at].0 = time);
    }
}

impl Arrival {
    fn of(sources: usize, ticks: Vec<Vec<Row>>) -> Arrival {
        let mut orders = vec![Vec::new(); sources];
        let mut counts = Vec::new();
        for tick in &ticks {
            let mut count = vec![0; sources];
            for (source, index) in tick {
                orders[*source].push(*index);
                count[*source] += 1;
            }
            counts.push(count);
        }
        if counts.is_empty() {
            // Without a row there is still a tick: the one in which all input ends.
            counts.push(vec![0; sources]);
        }
        Arrival { orders, ticks: counts }
    }

    /// Returns the cut for the engine; sources have one split each, which has the source's number.
    pub fn cut(&self) -> GivenCut {
        let tick = |counts: &Vec<u64>| (0..).zip(counts.iter().copied()).filter(|(_, rows)| *rows > 0).collect();
        Arc::new(self.ticks.iter().map(tick).collect())
    }

    /// Returns at which position each source stands before a tick in which it is read.
    pub fn positions_before(&self, tick: usize) -> Vec<Option<u64>> {
        let Some(now) = tick.checked_sub(1).and_then(|index| self.ticks.get(index)) else {
            return vec![None; self.orders.len()];
        };
        let before = |source: usize| self.ticks[..tick - 1].iter().map(|counts| counts[source]).sum::<u64>();
        now.iter().enumerate().map(|(source, rows)| (*rows > 0).then(|| before(source))).collect()
    }
}

/// Chance that follows from a seed (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// Returns the dice of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two sources; in one of them some come far too late, some are bad, some are twins.
    fn sources(seed: u64) -> Vec<SourceRows> {
        let mut dice = Dice::new(seed);
        let mut source = |rank: usize, max_disorder: i64| {
            let mut rows = Vec::new();
            for step in 0..40 {
                let time = match dice.below(8) {
                    0 => None,
                    1 => Some(step * 10 - 200),
                    _ => Some(step * 10 - i64::try_from(dice.below(30)).unwrap()),
                };
                rows.push(Facts { time, id: (dice.below(2) == 0).then(|| "twin".to_owned()) });
            }
            SourceRows { rank, max_disorder, rows }
        };
        vec![source(1, 25), source(0, 0)]
    }

    /// For each row: whether it is late, and if it is, the watermarks that it meets.
    fn fates(sources: &[SourceRows], arrival: &Arrival) -> BTreeMap<Row, Option<Vec<i64>>> {
        let mut greatest = vec![i64::MIN; sources.len()];
        let mut next = vec![0; sources.len()];
        let mut fates = BTreeMap::new();
        for tick in &arrival.ticks {
            let watermarks: Vec<i64> =
                greatest.iter().zip(sources).map(|(time, source)| time.saturating_sub(source.max_disorder)).collect();
            for (source, count) in tick.iter().enumerate() {
                for _ in 0..*count {
                    let index = arrival.orders[source][next[source]];
                    next[source] += 1;
                    let time = sources[source].rows[index].time;
                    let late = time.is_some_and(|time| time < watermarks[source]);
                    fates.insert((source, index), late.then(|| watermarks.clone()));
                    greatest[source] = greatest[source].max(time.unwrap_or(i64::MIN));
                }
            }
        }
        fates
    }

    #[test]
    fn whatever_the_order_the_same_rows_are_late_by_as_much() {
        for seed in 0..200 {
            let sources = sources(seed);
            let given = as_given(&sources);
            let fates_given = fates(&sources, &given);
            assert!(fates_given.values().any(Option::is_some));
            let other = shuffled(&sources, seed);
            assert_eq!(fates(&sources, &other), fates_given, "seed {seed}");
            assert_ne!(other, given, "seed {seed}");
            assert_eq!(other, shuffled(&sources, seed), "the same seed gives the same order");
        }
    }

    #[test]
    fn as_given_rows_keep_their_order_and_sources_go_side_by_side() {
        let facts = |time| Facts { time: Some(time), id: None };
        let clicks = SourceRows { rank: 0, max_disorder: 0, rows: vec![facts(10), facts(5), facts(30)] };
        let orders = SourceRows { rank: 1, max_disorder: 0, rows: vec![facts(10), facts(20)] };
        let arrival = as_given(&[clicks, orders]);
        assert_eq!(arrival.orders, [vec![0, 1, 2], vec![0, 1]]);
        assert_eq!(arrival.ticks, [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]);
        assert_eq!(arrival.positions_before(4), [None, Some(1)]);
        assert_eq!(as_given(&[SourceRows::default()]).ticks, [[0]]);
    }

    #[test]
    fn twins_keep_their_order() {
        for seed in 0..50 {
            let sources = sources(seed);
            let other = shuffled(&sources, seed);
            for (source, order) in other.orders.iter().enumerate() {
                let facts = |index: &usize| &sources[source].rows[*index];
                for (at, late) in order.iter().enumerate() {
                    let twin = |early: &&usize| facts(early) == facts(late) && facts(late).time.is_some();
                    assert!(order[..at].iter().filter(twin).all(|early| early < late), "seed {seed}");
                }
            }
        }
    }
}
