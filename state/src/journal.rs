//! The journal as the engine writes to it: ticks are made final, checkpoints are published.
//!
//! What may not happen is asserted here, where it would become permanent: ticks follow each other without a gap, a
//! checkpoint is covered by the log and by every lane.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use riverrun_dataflow::journal::{CheckpointParts, Journal, JournalEntry, JournalError};
use riverrun_dataflow::tick::Tick;

use crate::collect::Collector;
use crate::folder::Lock;
use crate::log::Log;
use crate::record::{Body, Checkpoint, InputsAt, Ticks};
use crate::states::SharedLedger;

/// The journal of a running job.
#[derive(Debug)]
pub struct JobJournal {
    log: Log,
    ledger: SharedLedger,
    inputs: Option<InputsAt>,
    /// The last tick in the log.
    last: Tick,
    tail: Tail,
    collector: Collector,
    _lock: Option<Arc<Lock>>,
}

/// What is known of the ticks after the newest checkpoint.
#[derive(Debug, Default)]
pub struct Tail {
    /// Number and last tick of each ticks record, ascending.
    records: VecDeque<(u64, Tick)>,
    /// Ticks in which a lane had rows, ascending, by (sink, lane).
    lanes: BTreeMap<(u32, u32), VecDeque<Tick>>,
}

impl Tail {
    /// Enters the record `seq`, which made `entries` final.
    pub fn enter(&mut self, seq: u64, entries: &[JournalEntry]) {
        let Some(last) = entries.last() else { return };
        self.records.push_back((seq, last.record.tick));
        for entry in entries {
            for lane in entry.lanes.iter().filter(|lane| lane.rows > 0) {
                self.lanes.entry((lane.sink, lane.lane)).or_default().push_back(entry.record.tick);
            }
        }
    }

    /// Returns the first tick in `(from, to]` in which the lane had rows.
    fn rows_in(&self, lane: (u32, u32), from: Tick, to: Tick) -> Option<Tick> {
        self.lanes.get(&lane)?.iter().copied().find(|tick| (from + 1..=to).contains(tick))
    }

    /// Forgets the ticks up to `tick`; returns the number of the first record with a later one.
    fn forget(&mut self, tick: Tick) -> Option<u64> {
        self.records.retain(|(_, last)| *last > tick);
        for ticks in self.lanes.values_mut() {
            ticks.retain(|with_rows| *with_rows > tick);
        }
        self.records.front().map(|(seq, _)| *seq)
    }
}

impl JobJournal {
    /// Returns the journal that goes on after tick `last`.
    pub fn new(
        log: Log,
        ledger: SharedLedger,
        inputs: Option<InputsAt>,
        last: Tick,
        tail: Tail,
        collector: Collector,
        lock: Option<Arc<Lock>>,
    ) -> JobJournal {
        JobJournal { log, ledger, inputs, last, tail, collector, _lock: lock }
    }

    fn assert_covered(&self, parts: &CheckpointParts) {
        let tick = parts.tick;
        assert!(tick <= self.last, "a checkpoint at tick {tick}, but the log ends at {}", self.last);
        for token in &parts.tokens {
            let rows = self.tail.rows_in((token.sink, token.lane), token.tick, tick);
            assert!(
                rows.is_none(),
                "a checkpoint at tick {tick}, but lane {} of sink {} is at {} and had rows in tick {rows:?}",
                token.lane,
                token.sink,
                token.tick
            );
        }
    }
}

impl Journal for JobJournal {
    fn append_ticks(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        let Some(first) = entries.first() else { return Ok(()) };
        for (next, entry) in (self.last + 1..).zip(entries) {
            assert_eq!(entry.record.tick, next, "ticks are made final one after the other");
        }
        let last = self.last + entries.len() as u64;
        let ticks = Ticks { first: first.record.tick, last, entries: entries.to_vec() };
        let at = self.log.append(&Body::Ticks(ticks))?;
        self.tail.enter(at.seq, entries);
        self.last = last;
        Ok(())
    }

    fn append_checkpoint(&mut self, parts: CheckpointParts) -> Result<(), JournalError> {
        self.assert_covered(&parts);
        let after = self.tail.forget(parts.tick);
        let tables = self.ledger.lock().publish(parts.tick, &parts.files);
        let after = after.unwrap_or(self.log.last() + 1);
        let body = Body::Checkpoint(Box::new(Checkpoint::of(parts, tables, after, self.inputs)));
        let at = self.log.append(&body)?;
        if let Body::Checkpoint(checkpoint) = body {
            self.collector.published(at.seq, &checkpoint, &self.ledger);
        }
        Ok(())
    }
}
