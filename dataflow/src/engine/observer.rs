//! How a running job is doing: counts and positions, for progress lines, the final balance, and metrics.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::balance::Counts;
use crate::graph::Graph;
use crate::journal::JournalEntry;
use crate::tick::{Tick, Timeline};

/// Is told by the engine; asked by whoever shows it. Never blocks the engine for longer than a copy.
#[derive(Debug, Default)]
pub struct Observer {
    /// Records decoded since this process started.
    decoded: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    timeline: Timeline,
    repeated_to: Tick,
    balance: BTreeMap<String, Counts>,
    sinks: Vec<String>,
    written: BTreeMap<String, u64>,
    ends: BTreeMap<u32, (u64, Option<u64>)>,
}

/// A job at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Records decoded since this process started.
    pub decoded: u64,
    /// The newest complete tick.
    pub tick: Tick,
    /// Up to this tick the job derives what a former process had journalled.
    pub repeated_to: Tick,
    /// The recorded clock, in microseconds since the epoch.
    pub now: i64,
    /// The least watermark of all sources, in microseconds since the epoch.
    pub watermark: i64,
    /// The part of bounded input that is read, 0 to 1, if all ends are known.
    pub share: Option<f64>,
    /// The balance since the job began, by name of source or step.
    pub balance: BTreeMap<String, Counts>,
    /// Rows given to each sink by this process, rows derived again included.
    pub sinks: BTreeMap<String, u64>,
    /// The last tick is complete.
    pub last: bool,
}

impl Observer {
    pub(crate) fn start(
        &self,
        graph: &Graph,
        timeline: &Timeline,
        balance: &BTreeMap<String, Counts>,
        repeated_to: Tick,
    ) {
        let splits = graph.sources.iter().flat_map(|source| &source.splits);
        let mut state = self.state.lock().expect("the state is only copied and replaced");
        *state = State {
            timeline: timeline.clone(),
            repeated_to,
            balance: balance.clone(),
            sinks: graph.sinks.iter().map(|sink| sink.name.clone()).collect(),
            written: graph.sinks.iter().map(|sink| (sink.name.clone(), 0)).collect(),
            ends: splits.map(|split| (split.id, (split.spec.start, split.spec.end))).collect(),
        };
    }

    pub(crate) fn decoded(&self, rows: u64) {
        self.decoded.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn complete(&self, entry: &JournalEntry) {
        let mut state = self.state.lock().expect("the state is only copied and replaced");
        let State { timeline, balance, sinks, written, .. } = &mut *state;
        timeline.apply(&entry.record);
        for (name, counts) in &entry.balance {
            *balance.entry(name.clone()).or_default() += *counts;
        }
        for lane in &entry.lanes {
            *written.entry(sinks[lane.sink as usize].clone()).or_default() += lane.rows;
        }
    }

    /// Returns how the job is doing.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock().expect("the state is only copied and replaced");
        let read = |(split, (start, end)): (&u32, &(u64, Option<u64>))| {
            let to = state.timeline.splits.get(split).map_or(*start, |mark| mark.to);
            end.map(|end| (to - start, end - start))
        };
        let shares: Option<Vec<(u64, u64)>> = state.ends.iter().map(read).collect();
        let share = shares.filter(|all| !all.is_empty()).map(|all| {
            let (read, whole) = all.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
            if whole == 0 { 1.0 } else { read as f64 / whole as f64 }
        });
        Snapshot {
            decoded: self.decoded.load(Ordering::Relaxed),
            tick: state.timeline.tick,
            repeated_to: state.repeated_to,
            now: state.timeline.now,
            watermark: state.timeline.watermarks.iter().min().map_or(i64::MIN, |time| time.0),
            share,
            balance: state.balance.clone(),
            sinks: state.written.clone(),
            last: state.timeline.last,
        }
    }
}
