//! Ages: how many rows are older than a limit, without a look at each.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_dataflow::EventTime;
use riverrun_dataflow::time::micros_of;

/// Counts rows by event time, coarsely, to know how many are older than a limit without looking at them.
pub(crate) struct Ages {
    pub(crate) span: Duration,
    /// A step is `2^shift` microseconds: between a 128th and a 64th of the span, and about a second at least.
    shift: u32,
    /// Rows by step.
    rows: BTreeMap<i64, usize>,
    /// All steps below this one are counted in `old`.
    limit: i64,
    old: usize,
}

impl Ages {
    /// Counts nothing yet; steps of time are a small part of `span`.
    pub(crate) fn new(span: Duration) -> Ages {
        let shift = (micros_of(span) / 64).max(1 << 20).ilog2();
        Ages { span, shift, rows: BTreeMap::new(), limit: i64::MIN, old: 0 }
    }

    /// Counts rows.
    pub(crate) fn add_all(&mut self, times: &[i64]) {
        for run in times.chunk_by(|a, b| a >> self.shift == b >> self.shift) {
            let step = run[0] >> self.shift;
            *self.rows.entry(step).or_default() += run.len();
            self.old += if step < self.limit { run.len() } else { 0 };
        }
    }

    /// Counts a row no more.
    pub(crate) fn remove(&mut self, time: i64) {
        let step = time >> self.shift;
        let rows = self.rows.get_mut(&step).expect("every kept row is counted");
        *rows -= 1;
        if *rows == 0 {
            self.rows.remove(&step);
        }
        self.old -= usize::from(step < self.limit);
    }

    /// Returns the number of rows in steps that are wholly older than `limit`, which never goes back.
    pub(crate) fn older_than(&mut self, limit: EventTime) -> usize {
        let limit = if limit == EventTime::MAX { i64::MAX } else { limit.0 >> self.shift };
        if limit > self.limit {
            self.old += self.rows.range(self.limit..limit).map(|(_, rows)| *rows).sum::<usize>();
            self.limit = limit;
        }
        self.old
    }
}
