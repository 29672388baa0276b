//! Acts on the outside: how long one is under way, how long they take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, LONG, SHORT};
use super::worker::micros_since;

/// What is done to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActKind {
    /// Ticks are appended to the log.
    Append,
    /// A checkpoint's record is appended to the log.
    Publish,
    /// Files of a checkpoint are written for a step.
    Write,
    /// Lanes of a sink commit.
    Commit,
    /// A tick waits for records of a source that does not answer.
    Read,
}

/// Acts of one kind at one place. One thread does them, one after the other.
#[derive(Debug)]
pub struct Act {
    /// What is done.
    pub kind: ActKind,
    /// The step or sink, or `log`.
    pub name: String,
    /// Index of the step or sink.
    pub place: usize,
    /// The worker whose act it is.
    pub worker: usize,
    begun: Instant,
    /// When the one under way began, in microseconds of the meter, plus 1; 0: none is.
    since: AtomicU64,
    durations: Histogram,
}

impl Act {
    pub(super) fn new(kind: ActKind, name: &str, place: usize, worker: usize, begun: Instant) -> Act {
        let bounds = if matches!(kind, ActKind::Write | ActKind::Publish) { LONG } else { SHORT };
        let (since, durations) = (AtomicU64::new(0), Histogram::new(bounds));
        Act { kind, name: name.to_owned(), place, worker, begun, since, durations }
    }

    /// Begins an act, which ends when the guard is dropped.
    pub fn begin(&self) -> Acting<'_> {
        self.since.store(micros_since(self.begun) + 1, Ordering::Relaxed);
        Acting(self)
    }

    /// Says whether one is under way, where nobody does it in one go.
    pub fn goes_on(&self, under_way: bool) {
        match (self.age(), under_way) {
            (None, true) => self.since.store(micros_since(self.begun) + 1, Ordering::Relaxed),
            (Some(took), false) => {
                self.durations.observe(took);
                self.since.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// One is under way, and has not been for long: whoever waits knows why.
    pub fn begins_anew(&self) {
        self.since.store(micros_since(self.begun) + 1, Ordering::Relaxed);
    }

    /// Returns for how long the one under way has been, if one is.
    pub fn age(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(micros_since(self.begun).saturating_sub(since)))
    }

    /// Returns how long those that ended took.
    pub fn durations(&self) -> super::histogram::Durations {
        self.durations.read()
    }
}

/// An act under way.
#[must_use]
pub struct Acting<'a>(&'a Act);

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        if let Some(took) = self.0.age() {
            self.0.durations.observe(took);
        }
        self.0.since.store(0, Ordering::Relaxed);
    }
}
