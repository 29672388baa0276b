//! The models that credit channels: by what would be lost without one, and by what each adds to any set of others.
//!
//! Both are sums over closed paths, so they may be kept as rows come and go. Money is not in them: one dear order must not move
//! the credit of all others.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::weight::Weight;

/// The most different channels that are kept; a path's further ones count as [`OTHER`].
pub const CHANNELS_MAX: usize = 100;
/// What channels beyond the bound are called.
pub const OTHER: &str = "(other)";

/// How a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum End {
    /// With an order.
    Converted,
    /// With nothing.
    Null,
}

/// What a channel is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Credit {
    /// The channel.
    pub channel: String,
    /// The part of all orders that would be lost without it; the Shapley model has none.
    pub removal_effect: Option<f64>,
    /// The orders it is given. Those of all channels add up to the orders there were, where any channel had a part in them.
    pub conversions: f64,
}

/// A place in the graph of paths. Saved as a text, so that it may be the key of a saved map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
enum Node {
    Start,
    Channel(String),
    End(End),
}

impl From<Node> for String {
    fn from(node: Node) -> String {
        match node {
            Node::Start => "start".to_owned(),
            Node::End(End::Converted) => "converted".to_owned(),
            Node::End(End::Null) => "null".to_owned(),
            Node::Channel(channel) => format!(":{channel}"),
        }
    }
}

impl From<String> for Node {
    fn from(text: String) -> Node {
        match (text.strip_prefix(':'), text.as_str()) {
            (Some(channel), _) => Node::Channel(channel.to_owned()),
            (None, "converted") => Node::End(End::Converted),
            (None, "null") => Node::End(End::Null),
            (None, _) => Node::Start,
        }
    }
}

/// The graph of a day's paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    transitions: BTreeMap<Node, BTreeMap<Node, i64>>,
    conversions: i64,
}

/// Credit by removal: the graph of channels of the paths closed within some days.
///
/// Each path counts each of its transitions once, however often it makes it; a step from a channel to itself is none. Without a
/// channel, every step to it leads to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Markov {
    days: BTreeMap<i64, Day>,
    known: BTreeSet<String>,
}

impl Markov {
    /// Adds a path that was closed on `day`, or takes it away again.
    pub fn add(&mut self, day: i64, path: &[&str], end: End, weight: Weight) {
        let sign = sign(weight);
        let channels: Vec<Node> = path.iter().map(|channel| Node::Channel(known(&mut self.known, channel))).collect();
        let mut nodes = vec![Node::Start];
        nodes.extend(channels);
        nodes.push(Node::End(end));
        nodes.dedup();
        let steps: BTreeSet<(&Node, &Node)> = nodes.iter().zip(&nodes[1..]).collect();
        let day = self.days.entry(day).or_default();
        day.conversions += if end == End::Converted { sign } else { 0 };
        for (from, to) in steps {
            *day.transitions.entry(from.clone()).or_default().entry(to.clone()).or_default() += sign;
        }
    }

    /// Forgets the paths that were closed before `day`.
    pub fn forget(&mut self, day: i64) {
        self.days = self.days.split_off(&day);
    }

    /// Returns what each channel is given, by name.
    pub fn credits(&self) -> Vec<Credit> {
        let mut counts: BTreeMap<&Node, BTreeMap<&Node, i64>> = BTreeMap::new();
        for day in self.days.values() {
            for (from, to) in &day.transitions {
                let sums = counts.entry(from).or_default();
                to.iter().for_each(|(to, count)| *sums.entry(to).or_default() += count);
            }
        }
        let conversions: i64 = self.days.values().map(|day| day.conversions).sum();
        let nodes: Vec<&Node> = counts.keys().copied().filter(|node| **node != Node::Start).collect();
        let whole = conversion_rate(&counts, None);
        let effect = |node: &&Node| if whole > 0.0 { 1.0 - conversion_rate(&counts, Some(node)) / whole } else { 0.0 };
        let effects: Vec<f64> = nodes.iter().map(effect).collect();
        let sum: f64 = effects.iter().sum();
        let credit = |(node, effect): (&&Node, f64)| {
            let Node::Channel(channel) = node else { return None };
            let conversions = if sum > 0.0 { effect / sum * conversions as f64 } else { 0.0 };
            Some(Credit { channel: channel.clone(), removal_effect: Some(effect), conversions })
        };
        nodes.iter().zip(effects).filter_map(credit).collect()
    }
}

/// Returns how likely a path is to end with an order, if every step to `removed` leads to nothing.
///
/// Solves p = A p + b over the channels, by elimination in a fixed order. The matrix is that of a chain that always ends, so no
/// pivot has to be looked for; the same counts give the same bits.
fn conversion_rate(counts: &BTreeMap<&Node, BTreeMap<&Node, i64>>, removed: Option<&Node>) -> f64 {
    let nodes: Vec<&Node> = counts.keys().copied().filter(|node| Some(*node) != removed).collect();
    let place: BTreeMap<&Node, usize> = nodes.iter().enumerate().map(|(at, node)| (*node, at)).collect();
    let Some(start) = place.get(&Node::Start) else { return 0.0 };
    let size = nodes.len();
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(size);
    for (at, node) in nodes.iter().enumerate() {
        let mut row = vec![0.0; size + 1];
        row[at] = 1.0;
        let total: i64 = counts[*node].values().sum();
        for (to, count) in counts[*node].iter().filter(|_| total > 0) {
            let rate = *count as f64 / total as f64;
            match (to, place.get(to)) {
                (Node::End(End::Converted), _) => row[size] += rate,
                (_, Some(to)) => row[*to] -= rate,
                _ => {}
            }
        }
        rows.push(row);
    }
    for pivot in 0..size {
        let (above, below) = rows.split_at_mut(pivot + 1);
        let by = &above[pivot];
        if by[pivot].abs() < 1e-12 {
            continue;
        }
        for row in below.iter_mut().filter(|row| row[pivot] != 0.0) {
            let factor = row[pivot] / by[pivot];
            row.iter_mut().zip(by).for_each(|(cell, by)| *cell -= factor * by);
        }
    }
    let mut rates = vec![0.0; size];
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|other| rows[at][other] * rates[other]).sum();
        rates[at] = if rows[at][at].abs() < 1e-12 { 0.0 } else { (rows[at][size] - known) / rows[at][at] };
    }
    rates[*start]
}

/// Credit by Shapley's value, where a set of channels is worth the orders whose channels are all in it.
///
/// That worth is a sum of unanimity games, so a channel's value is exactly the sum, over the orders it had a part in, of one
/// over the number of their channels: one addition per order and channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapley {
    /// Orders by channel and by the number of channels they have.
    orders: BTreeMap<String, BTreeMap<usize, i64>>,
    known: BTreeSet<String>,
}

impl Shapley {
    /// Adds the path of an order, or takes it away again.
    pub fn add(&mut self, path: &[&str], weight: Weight) {
        let channels: BTreeSet<String> = path.iter().map(|channel| known(&mut self.known, channel)).collect();
        let size = channels.len();
        for channel in channels {
            *self.orders.entry(channel).or_default().entry(size).or_default() += sign(weight);
        }
    }

    /// Returns what each channel is given, by name.
    pub fn credits(&self) -> Vec<Credit> {
        let value = |(channel, orders): (&String, &BTreeMap<usize, i64>)| {
            let conversions = orders.iter().map(|(size, count)| *count as f64 / *size as f64).sum();
            Credit { channel: channel.clone(), removal_effect: None, conversions }
        };
        self.orders.iter().map(value).collect()
    }
}

fn sign(weight: Weight) -> i64 {
    match weight {
        Weight::Insert => 1,
        Weight::Retract => -1,
    }
}

/// Returns the channel, or what stands for it once too many are known.
fn known(known: &mut BTreeSet<String>, channel: &str) -> String {
    if !known.contains(channel) {
        if known.len() >= CHANNELS_MAX {
            return OTHER.to_owned();
        }
        known.insert(channel.to_owned());
    }
    channel.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[track_caller]
    fn check(credits: &[Credit], expected: &[(&str, f64)]) {
        assert_eq!(credits.len(), expected.len(), "{credits:?}");
        for (credit, (channel, conversions)) in credits.iter().zip(expected) {
            assert_eq!(credit.channel, *channel);
            assert!(near(credit.conversions, *conversions), "{credit:?}, not {conversions}");
        }
    }

    fn g_b14() -> Markov {
        let mut markov = Markov::default();
        markov.add(0, &["C1", "C2", "C3"], End::Converted, Weight::Insert);
        markov.add(0, &["C1"], End::Null, Weight::Insert);
        markov.add(0, &["C2", "C3"], End::Null, Weight::Insert);
        markov
    }

    /// G-B14
    #[test]
    fn g_b14_a_channel_is_worth_what_would_be_lost_without_it() {
        let credits = g_b14().credits();
        check(&credits, &[("C1", 0.2), ("C2", 0.4), ("C3", 0.4)]);
        let effects: Vec<f64> = credits.iter().filter_map(|credit| credit.removal_effect).collect();
        assert!(near(effects[0], 0.5) && near(effects[1], 1.0) && near(effects[2], 1.0), "{effects:?}");
    }

    #[test]
    fn cycles_and_repetitions_are_counted_once_per_path() {
        let (mut once, mut often) = (g_b14(), g_b14());
        once.add(0, &["C2", "C1"], End::Null, Weight::Insert);
        often.add(0, &["C2", "C2", "C1"], End::Null, Weight::Insert);
        assert_eq!(once, often, "a step to itself is none");
        once.add(1, &["C1", "C2", "C1", "C3"], End::Converted, Weight::Insert);
        often.add(1, &["C1", "C2", "C1", "C2", "C1", "C3"], End::Converted, Weight::Insert);
        assert_eq!(once, often);
        let sum: f64 = once.credits().iter().map(|credit| credit.conversions).sum();
        assert!(near(sum, 2.0), "{sum}");
    }

    #[test]
    fn a_path_may_be_taken_away_and_old_days_are_forgotten() {
        let mut markov = g_b14();
        markov.add(5, &["C3"], End::Converted, Weight::Insert);
        markov.add(5, &["C3"], End::Converted, Weight::Retract);
        check(&markov.credits(), &[("C1", 0.2), ("C2", 0.4), ("C3", 0.4)]);
        markov.add(6, &["C9"], End::Converted, Weight::Insert);
        markov.forget(6);
        check(&markov.credits(), &[("C9", 1.0)]);
        let saved = serde_json::to_string(&markov).unwrap();
        assert_eq!(serde_json::from_str::<Markov>(&saved).unwrap(), markov);
        assert!(Markov::default().credits().is_empty());
    }

    fn g_b15() -> Shapley {
        let mut shapley = Shapley::default();
        let paths: [(&[&str], usize); 3] =
            [(&["email"], 3), (&["email", "search", "email"], 4), (&["display", "email", "search"], 3)];
        for (path, times) in paths {
            (0..times).for_each(|_| shapley.add(path, Weight::Insert));
        }
        shapley
    }

    /// G-B15
    #[test]
    fn g_b15_a_channel_is_worth_its_part_of_each_order() {
        check(&g_b15().credits(), &[("display", 1.0), ("email", 6.0), ("search", 3.0)]);
    }

    #[test]
    fn the_value_is_shapley_s() {
        // By the definition: the mean, over all orders in which channels may join, of what one adds when it joins.
        let orders: [(&[&str], f64); 3] = [(&["a"], 2.0), (&["a", "b"], 5.0), (&["b", "c"], 1.0)];
        let mut shapley = Shapley::default();
        for (path, times) in orders {
            (0..times as usize).for_each(|_| shapley.add(path, Weight::Insert));
        }
        let worth = |set: &[&str]| -> f64 {
            let inside = |path: &[&str]| path.iter().all(|channel| set.contains(channel));
            orders.iter().filter(|(path, _)| inside(path)).map(|(_, times)| times).sum()
        };
        let joins =
            [["a", "b", "c"], ["a", "c", "b"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"], ["c", "b", "a"]];
        for credit in shapley.credits() {
            let added = |order: &[&str; 3]| {
                let at = order.iter().position(|channel| *channel == credit.channel).unwrap();
                worth(&order[..=at]) - worth(&order[..at])
            };
            let mean = joins.iter().map(added).sum::<f64>() / 6.0;
            assert!(near(credit.conversions, mean), "{credit:?}, not {mean}");
        }
    }

    #[test]
    fn an_order_may_be_taken_away() {
        let mut shapley = g_b15();
        shapley.add(&["email"], Weight::Retract);
        check(&shapley.credits(), &[("display", 1.0), ("email", 5.0), ("search", 3.0)]);
    }

    #[test]
    fn channels_beyond_the_bound_are_one() {
        let mut shapley = Shapley::default();
        let names: Vec<String> = (0..CHANNELS_MAX + 10).map(|n| format!("c{n}")).collect();
        names.iter().for_each(|name| shapley.add(&[name], Weight::Insert));
        let credits = shapley.credits();
        assert_eq!(credits.len(), CHANNELS_MAX + 1);
        assert!(credits.iter().any(|credit| credit.channel == OTHER && near(credit.conversions, 10.0)));
    }
}
