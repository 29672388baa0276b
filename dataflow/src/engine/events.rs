//! What the engine logs, one type per event.

use std::fmt;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::decode::split_name;
use crate::graph::Graph;
use crate::source::BadRow;
use crate::tick::Tick;

/// Decides which of many like events are logged: the first three, then each time their number has grown tenfold.
#[derive(Debug, Default)]
pub struct Sampler {
    seen: u64,
    next: u64,
}

impl Sampler {
    /// Counts `more` events and logs one of them if it is due.
    pub fn see<E: Sampled>(&mut self, more: u64, event: impl FnOnce() -> E) {
        self.seen += more;
        if self.seen > self.next {
            event().log(self.seen);
            self.next = if self.seen < 3 { self.seen } else { self.seen.saturating_mul(10) };
        }
    }
}

/// An event of which only samples are logged.
pub trait Sampled {
    /// Logs the event; `seen` of its kind were seen so far.
    fn log(self, seen: u64);
}

/// A row could not be used.
pub struct BadRowSeen {
    name: String,
    split: String,
    position: u64,
    code: String,
    reason: String,
}

impl BadRowSeen {
    /// Returns the event for a bad row of source or step `name`.
    pub fn of(graph: &Graph, row: &BadRow, name: &str) -> BadRowSeen {
        BadRowSeen {
            name: name.to_owned(),
            split: split_name(graph, row.split).unwrap_or_default(),
            position: row.position,
            code: row.code.clone(),
            reason: row.reason.clone(),
        }
    }
}

impl Sampled for BadRowSeen {
    fn log(self, seen: u64) {
        let BadRowSeen { name, split, position, code, reason } = self;
        warn!(target: "riverrun", name, split, position, code, reason, seen, "bad row");
    }
}

/// A step was given rows after their time.
pub struct LateRowsSeen<'a> {
    /// The step.
    pub step: &'a str,
}

impl Sampled for LateRowsSeen<'_> {
    fn log(self, seen: u64) {
        warn!(target: "riverrun", step = self.step, seen, "late rows");
    }
}

/// A stretch of the journal was derived again and is what it was.
pub struct Repeated {
    /// The first tick.
    pub from: Tick,
    /// The last tick.
    pub to: Tick,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ticks {} to {}", self.from, self.to)
    }
}

impl Repeated {
    /// Logs the event.
    pub fn log(&self) {
        info!(target: "riverrun", from = self.from, to = self.to, "derived recorded ticks again");
    }
}

/// A worker put the state of a step back.
pub struct Restored<'a> {
    /// The step.
    pub step: &'a str,
    /// The worker.
    pub worker: usize,
    /// Rows that were read; one that changed since its shard was written in full counts each time.
    pub rows: u64,
    /// CPU time that it took.
    pub cpu: Duration,
}

impl Restored<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let Restored { step, worker, rows, cpu } = self;
        let cpu_micros = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        info!(target: "riverrun", step, worker, rows, cpu_micros, "restored");
    }
}

/// The job waits for something outside, longer than the watchdog likes.
pub struct OutsideIsSlow<'a> {
    /// What it waits for.
    pub what: &'a str,
    /// For how long.
    pub age: Duration,
}

impl OutsideIsSlow<'_> {
    /// Logs the event.
    pub fn log(&self) {
        let seconds = self.age.as_secs();
        warn!(target: "riverrun", what = self.what, seconds, "still under way; the job waits for it");
    }
}

/// A checkpoint was published.
pub struct Checkpointed {
    /// Its tick.
    pub tick: Tick,
    /// Files written for it.
    pub files: usize,
    /// Bytes written for it.
    pub bytes: u64,
}

impl Checkpointed {
    /// Logs the event.
    pub fn log(&self) {
        debug!(target: "riverrun", tick = self.tick, files = self.files, bytes = self.bytes, "checkpoint");
    }
}
