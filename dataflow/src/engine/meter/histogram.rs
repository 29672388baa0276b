//! How long things take, as counts by length.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper ends of the buckets for what takes milliseconds to a minute, in seconds.
pub const SHORT: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
/// Upper ends of the buckets for what may take half an hour, in seconds.
pub const LONG: &[f64] = &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Counts of durations. May be told by several threads.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last holds what is longer than all of them.
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

impl Histogram {
    /// Returns a histogram with nothing in it.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, micros: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns what was counted.
    pub fn read(&self) -> Durations {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, own) in self.bounds.iter().zip(&self.counts) {
            count += own.load(Ordering::Relaxed);
            buckets.push((*bound, count));
        }
        count += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        Durations { buckets, count, seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

/// A histogram as it was read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// For each upper end in seconds, how many took at most that long.
    pub buckets: Vec<(f64, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub seconds: f64,
}

impl Durations {
    /// Adds those of another histogram with the same buckets.
    pub fn add(&mut self, other: &Durations) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, more)| own.1 += more.1);
        }
        self.count += other.count;
        self.seconds += other.seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_its_bucket_and_all_above() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 101, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut read = histogram.read();
        assert_eq!(read, Durations { buckets: vec![(0.1, 2), (1.0, 3)], count: 4, seconds: 5.251 });
        read.add(&histogram.read());
        assert_eq!((read.buckets[1].1, read.count), (6, 8));
    }
}
