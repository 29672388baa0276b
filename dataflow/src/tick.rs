//! Ticks: the numbered slices into which all input is cut, and the record that is made when one closes.
//!
//! A tick record is all that an operator may know of the outside world. Replaying records replays decisions: which rows
//! belong together, how far time had come, what the clock said. See DESIGN, "recorded time".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::source::SplitId;
use crate::time::EventTime;

/// The number of a tick; the first is 1. It is timely's whole timestamp.
pub type Tick = u64;

/// What was read of one split in one tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitMark {
    /// Which split.
    pub split: SplitId,
    /// Position before the tick.
    pub from: u64,
    /// Position after the tick.
    pub to: u64,
    /// Raw records read, bad ones included.
    pub rows: u64,
    /// xxh3_64 of the raw bytes read in this tick; a re-read that gives another stops the job.
    pub xxh3: u64,
    /// Greatest event time accepted in this split so far; `MIN` before the first row.
    pub greatest: EventTime,
    /// The split was polled at its end and found empty for `idle_after`; it holds back no watermark.
    pub idle: bool,
    /// The split was polled at its end and found empty in this tick.
    pub at_end: bool,
    /// The split will never give another row.
    pub ended: bool,
}

/// The record of one closed tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickRecord {
    /// The tick.
    pub tick: Tick,
    /// The wall clock, once: microseconds since the epoch, never backwards. On bounded input the greatest accepted event time.
    pub now: i64,
    /// The watermark of each source, in the order of the graph's sources.
    pub watermarks: Vec<EventTime>,
    /// The splits that moved or changed their state in this tick, by split.
    pub splits: Vec<SplitMark>,
    /// No row will ever follow: everything is flushed in this tick.
    pub last: bool,
    /// Operators freeze their state after this tick for a checkpoint. Does not reach any output.
    pub checkpoint: bool,
}

/// Where a job stands after some tick: the fold of all tick records up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The tick; 0 before the first.
    pub tick: Tick,
    /// The recorded clock, in microseconds since the epoch.
    pub now: i64,
    /// The watermark of each source.
    pub watermarks: Vec<EventTime>,
    /// The newest mark of every split that was ever read.
    pub splits: BTreeMap<SplitId, SplitMark>,
    /// No tick follows.
    pub last: bool,
}

impl Timeline {
    /// Returns where a job of `sources` sources stands before its first tick. `now` is the clock when its input was resolved.
    pub fn start(sources: usize, now: i64) -> Timeline {
        Timeline { now, watermarks: vec![EventTime::MIN; sources], ..Timeline::default() }
    }

    /// Goes on by one tick.
    pub fn apply(&mut self, record: &TickRecord) {
        assert_eq!(record.tick, self.tick + 1, "tick records follow each other");
        self.tick = record.tick;
        self.now = record.now;
        self.watermarks.clone_from(&record.watermarks);
        self.splits.extend(record.splits.iter().map(|mark| (mark.split, mark.clone())));
        self.last |= record.last;
    }
}

/// How far a step had come when its job was upgraded. The watermark of its inputs follows from the plan, and another plan
/// must not turn it back: what was emitted would be emitted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The last tick before the upgrade.
    pub tick: Tick,
    /// The step's input watermark after that tick, and the least one in all ticks that follow.
    pub watermark: EventTime,
}

impl Floor {
    /// Returns the input watermark after `tick`, where the plan gives `watermark`.
    pub fn hold(floor: Option<Floor>, tick: Tick, watermark: EventTime) -> EventTime {
        match floor {
            // What the step had called late and what it had emitted was decided by this watermark.
            Some(floor) if floor.tick == tick => floor.watermark,
            Some(floor) => watermark.max(floor.watermark),
            None => watermark,
        }
    }
}

/// One tick as a step sees it.
#[derive(Clone, Copy, Debug)]
pub struct StepTick {
    /// The tick.
    pub tick: Tick,
    /// The record's clock, in microseconds since the epoch.
    pub now: i64,
    /// The step's input watermark before this tick, `W(t-1)`: a row is late iff its time is less than this minus the lateness.
    pub before: EventTime,
    /// The step's input watermark, `W(t)`: a timer `T` fires iff `T < watermark`.
    pub watermark: EventTime,
    /// No row will ever follow.
    pub last: bool,
}
