//! The clock: makes the record of a tick out of the marks of all workers. Lives on worker 0.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::EngineError;
use super::message::Mark;
use crate::graph::Graph;
use crate::source::SplitId;
use crate::tick::{SplitMark, Tick, TickRecord, Timeline};
use crate::time::EventTime;

/// Tells the time, for `now(t)` of live input. The one door through which wall time enters a job.
pub trait WallClock: Send {
    /// Returns the wall clock, in microseconds since the epoch.
    fn now(&mut self) -> i64;
}

/// The system's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&mut self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}

/// What the clock knows of a source.
struct ClockSource {
    name: String,
    max_disorder: Duration,
    splits: Vec<SplitId>,
}

/// Folds marks into tick records.
pub struct Clock {
    sources: Vec<ClockSource>,
    bounded: bool,
    timeline: Timeline,
    /// Records that a former generation journalled and that are now derived again.
    recorded: VecDeque<TickRecord>,
    wall: Box<dyn WallClock>,
}

impl Clock {
    /// Returns the clock of a job that stands at `timeline` and must first repeat `recorded`.
    pub fn new(graph: &Graph, timeline: Timeline, recorded: VecDeque<TickRecord>, wall: Box<dyn WallClock>) -> Clock {
        let sources = graph
            .sources
            .iter()
            .map(|source| ClockSource {
                name: source.name.clone(),
                max_disorder: source.max_disorder,
                splits: source.splits.iter().map(|split| split.id).collect(),
            })
            .collect();
        Clock { sources, bounded: graph.bounded(), timeline, recorded, wall }
    }

    /// Closes the next tick, of which `marks` are all marks. Returns nothing after the last tick.
    pub fn close(&mut self, tick: Tick, marks: Vec<Mark>) -> Result<Option<TickRecord>, EngineError> {
        if self.timeline.last {
            return Ok(None);
        }
        let splits = self.fold_marks(marks);
        let record = match self.recorded.pop_front() {
            Some(recorded) => {
                assert_eq!(recorded.tick, tick, "the journal has no gaps");
                self.check_repeated(&recorded, &splits)?;
                TickRecord { checkpoint: false, ..recorded }
            }
            None => self.cut(tick, splits),
        };
        self.timeline.apply(&record);
        Ok(Some(record))
    }

    /// Merges the marks of readers and decoders into one per split that moved or changed.
    fn fold_marks(&self, marks: Vec<Mark>) -> Vec<SplitMark> {
        let mut splits: BTreeMap<SplitId, SplitMark> = BTreeMap::new();
        let mut greatest: BTreeMap<SplitId, EventTime> = BTreeMap::new();
        for mark in marks {
            match mark {
                Mark::Read(read) => {
                    splits.insert(read.split, read);
                }
                Mark::Decoded { split, greatest: time } => {
                    let known = greatest.entry(split).or_insert(EventTime::MIN);
                    *known = time.max(*known);
                }
            }
        }
        for (split, mark) in &mut splits {
            let before = self.timeline.splits.get(split).map_or(EventTime::MIN, |mark| mark.greatest);
            mark.greatest = greatest.get(split).copied().unwrap_or(EventTime::MIN).max(before);
        }
        splits.into_values().collect()
    }

    fn check_repeated(&self, recorded: &TickRecord, splits: &[SplitMark]) -> Result<(), EngineError> {
        if recorded.splits == splits {
            return Ok(());
        }
        let differs = recorded.splits.iter().find(|mark| !splits.contains(mark));
        let split =
            differs.or_else(|| splits.iter().find(|mark| !recorded.splits.contains(mark))).map(|mark| mark.split);
        let source = self.sources.iter().find(|source| split.is_some_and(|split| source.splits.contains(&split)));
        let what = source.map_or_else(|| "input".to_owned(), |source| format!("source `{}`", source.name));
        Err(EngineError::NotDeterministic { what, tick: recorded.tick })
    }

    /// Makes a new record.
    fn cut(&mut self, tick: Tick, splits: Vec<SplitMark>) -> TickRecord {
        let mut known = self.timeline.splits.clone();
        known.extend(splits.iter().map(|mark| (mark.split, mark.clone())));
        let wall = if self.bounded {
            // On bounded input even the clock is a function of the data.
            splits.iter().map(|mark| mark.greatest.0).max().unwrap_or(i64::MIN)
        } else {
            self.wall.now()
        };
        let watermarks = self.watermarks(&known);
        let last = !self.sources.is_empty() && watermarks.iter().all(|w| *w == EventTime::MAX);
        TickRecord { tick, now: wall.max(self.timeline.now), watermarks, splits, last, checkpoint: false }
    }

    /// Returns the watermark of every source: the minimum over its splits that are neither idle nor ended, never backwards.
    fn watermarks(&self, known: &BTreeMap<SplitId, SplitMark>) -> Vec<EventTime> {
        let own: Vec<Progress> = self.sources.iter().map(|source| source.progress(known)).collect();
        let others = own.iter().filter_map(|progress| progress.live()).min();
        own.iter()
            .zip(&self.timeline.watermarks)
            .map(|(progress, before)| {
                let now = match progress {
                    Progress::Ended => EventTime::MAX,
                    Progress::Live(time) => *time,
                    // A wholly idle source must not hold the others back, nor run ahead of them.
                    Progress::Idle => others.unwrap_or(*before),
                };
                now.max(*before)
            })
            .collect()
    }
}

/// How far a source has come.
enum Progress {
    Live(EventTime),
    Idle,
    Ended,
}

impl Progress {
    fn live(&self) -> Option<EventTime> {
        match self {
            Progress::Live(time) => Some(*time),
            _ => None,
        }
    }
}

impl ClockSource {
    fn progress(&self, known: &BTreeMap<SplitId, SplitMark>) -> Progress {
        let mut ended = true;
        let mut least: Option<EventTime> = None;
        for split in &self.splits {
            let mark = known.get(split);
            if mark.is_some_and(|mark| mark.ended) {
                continue;
            }
            ended = false;
            if mark.is_some_and(|mark| mark.idle) {
                continue;
            }
            let time = mark.map_or(EventTime::MIN, |mark| mark.greatest.minus(self.max_disorder));
            least = Some(least.map_or(time, |least| least.min(time)));
        }
        match least {
            _ if ended => Progress::Ended,
            Some(time) => Progress::Live(time),
            None => Progress::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(i64);
    impl WallClock for Fixed {
        fn now(&mut self) -> i64 {
            self.0 -= 1;
            self.0
        }
    }

    fn clock(bounded: bool, sources: &[&[SplitId]]) -> Clock {
        let named = |splits: &&[SplitId]| ClockSource {
            name: "s".into(),
            max_disorder: Duration::from_micros(5),
            splits: splits.to_vec(),
        };
        Clock {
            sources: sources.iter().map(named).collect(),
            bounded,
            timeline: Timeline::start(sources.len(), 0),
            recorded: VecDeque::new(),
            wall: Box::new(Fixed(1000)),
        }
    }

    fn read(split: SplitId, rows: u64) -> SplitMark {
        let (from, to, xxh3) = (0, rows, 0);
        SplitMark { split, from, to, rows, xxh3, greatest: EventTime::MIN, idle: false, at_end: false, ended: false }
    }

    fn at(split: SplitId, time: i64) -> [Mark; 2] {
        [Mark::Read(read(split, 1)), Mark::Decoded { split, greatest: EventTime(time) }]
    }

    #[test]
    fn the_slowest_live_split_holds_the_watermark() {
        let mut clock = clock(false, &[&[0, 1]]);
        let first = clock.close(1, at(0, 100).to_vec()).unwrap().unwrap();
        assert_eq!(first.watermarks, [EventTime::MIN], "split 1 has no row yet");
        let second = clock.close(2, at(1, 50).to_vec()).unwrap().unwrap();
        assert_eq!(second.watermarks, [EventTime(45)]);
        let idle = Mark::Read(SplitMark { idle: true, at_end: true, ..read(1, 0) });
        let third = clock.close(3, vec![idle]).unwrap().unwrap();
        assert_eq!(third.watermarks, [EventTime(95)]);
        let back = clock.close(4, at(1, 60).to_vec()).unwrap().unwrap();
        assert_eq!(back.watermarks, [EventTime(95)], "never backwards");
    }

    #[test]
    fn an_idle_source_follows_the_others_but_not_their_end() {
        let mut clock = clock(false, &[&[0], &[1]]);
        let idle = Mark::Read(SplitMark { idle: true, at_end: true, ..read(1, 0) });
        let mut marks = at(0, 100).to_vec();
        marks.push(idle);
        assert_eq!(clock.close(1, marks).unwrap().unwrap().watermarks, [EventTime(95), EventTime(95)]);
        let ended = Mark::Read(SplitMark { ended: true, ..read(0, 0) });
        assert_eq!(clock.close(2, vec![ended]).unwrap().unwrap().watermarks, [EventTime::MAX, EventTime(95)]);
    }

    #[test]
    fn the_clock_never_goes_back_and_bounded_time_is_data_time() {
        let mut live = clock(false, &[&[0]]);
        let first = live.close(1, vec![]).unwrap().unwrap().now;
        assert_eq!(live.close(2, vec![]).unwrap().unwrap().now, first, "the wall clock went back");
        let mut bounded = clock(true, &[&[0]]);
        assert_eq!(bounded.close(1, at(0, 77).to_vec()).unwrap().unwrap().now, 77);
    }

    #[test]
    fn nothing_follows_the_last_tick() {
        let mut clock = clock(true, &[&[0]]);
        let ended = Mark::Read(SplitMark { ended: true, ..read(0, 0) });
        assert!(clock.close(1, vec![ended]).unwrap().unwrap().last);
        assert!(clock.close(2, vec![]).unwrap().is_none());
    }

    #[test]
    fn a_repeated_tick_that_decodes_differently_stops_the_job() {
        let mut first = clock(true, &[&[0]]);
        let record = first.close(1, at(0, 77).to_vec()).unwrap().unwrap();
        let mut again = clock(true, &[&[0]]);
        again.recorded.push_back(record.clone());
        assert_eq!(again.close(1, at(0, 77).to_vec()).unwrap().unwrap(), record);
        let mut other = clock(true, &[&[0]]);
        other.recorded.push_back(record);
        assert!(matches!(other.close(1, at(0, 78).to_vec()), Err(EngineError::NotDeterministic { tick: 1, .. })));
    }
}
