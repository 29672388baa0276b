//! Reading: which records of which splits belong to the tick in hand. One reader per worker.
//!
//! Three ways to cut, see DESIGN "Where the cut falls": a recorded tick reads exactly what its record says; on bounded input
//! the cut follows from earlier records; on live input from load and clock, and the record remembers it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::Xxh3Default;

use super::message::{Mark, RawChunk};
use super::meter::PartMeter;
use super::meter::act::Act;
use super::{EngineError, Recovery, Then};
use crate::graph::{GivenCut, Graph, SplitNode};
use crate::source::{COLUMNAR_ROW_BYTES, Chunk, Payload, ReadLimits, SourceError, SplitId, SplitReader};
use crate::tick::{SplitMark, Tick, TickRecord, Timeline};
use crate::time::{EventTime, micros_of};

/// Rows of one read: small enough that the rest of the worker gets its turn.
const READ_ROWS: u64 = 8 * 1024;
/// Bytes of one read.
const READ_BYTES: u64 = 1024 * 1024;
/// An idle job closes a tick this often.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// The tick records that a worker has seen, folded as far as reading needs them.
pub struct Timelines {
    folded: Timeline,
    ahead: VecDeque<TickRecord>,
}

impl Timelines {
    /// Returns the records known at the start: `recent` follow `before`.
    pub fn new(before: Timeline, recent: impl IntoIterator<Item = TickRecord>) -> Timelines {
        Timelines { folded: before, ahead: recent.into_iter().collect() }
    }

    /// Returns the tick of the record that comes next.
    pub fn next(&self) -> Tick {
        self.ahead.back().map_or(self.folded.tick, |record| record.tick) + 1
    }

    /// Takes in the next record.
    pub fn push(&mut self, record: TickRecord) {
        self.ahead.push_back(record);
    }

    /// Folds up to `tick`; at the start of a job, where there is no such tick, the beginning stands for it.
    fn fold_to(&mut self, tick: Tick) -> &Timeline {
        while self.folded.tick < tick {
            let record =
                self.ahead.pop_front().expect("a tick is opened only when the one in_flight before it is complete");
            self.folded.apply(&record);
        }
        &self.folded
    }

    /// Returns whether the last tick is among those seen.
    pub fn last_seen(&self) -> bool {
        self.folded.last || self.ahead.iter().any(|record| record.last)
    }
}

/// A split that this worker reads.
struct OwnSplit {
    source: usize,
    node: SplitNode,
    reader: Option<Box<dyn SplitReader>>,
    position: u64,
    /// What was read in the open tick.
    from: u64,
    rows: u64,
    hash: Xxh3Default,
    moved: bool,
    ended: bool,
    at_end: bool,
    /// The first and the last of the polls that found it empty, with none between that did not.
    empty: Option<(Instant, Instant)>,
    /// Flags of the last mark: a split is marked again when they change.
    marked: (bool, bool, bool),
    meter: Option<PartMeter>,
    /// Under way while a tick that must have records of this split waits for them.
    waiting: Option<Arc<Act>>,
}

/// What is left to read in the open tick.
enum Cut {
    Recorded { left: VecDeque<(usize, SplitMark)>, done: Vec<SplitMark> },
    Bounded(VecDeque<Quota>),
    Live { rows: u64, bytes: u64, readable: Vec<usize>, next: usize, empty: usize },
}

/// What one split gives to a bounded tick.
struct Quota {
    split: usize,
    rows: u64,
    bytes: u64,
}

/// The open tick.
struct Open {
    tick: Tick,
    cut: Cut,
    accept: Vec<std::ops::RangeInclusive<EventTime>>,
    since: Instant,
    rows: u64,
    /// If it is live, it is closed at once, without a row.
    hollow: bool,
}

/// What came of a turn at reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Records were read; there may be more.
    Read,
    /// There is nothing to read now.
    Nothing,
    /// The tick has all it may have.
    Full,
}

/// Reads the splits of one worker.
pub struct Reader {
    graph: Arc<Graph>,
    workers: usize,
    splits: Vec<OwnSplit>,
    timelines: Rc<RefCell<Timelines>>,
    recorded: BTreeMap<Tick, Vec<SplitMark>>,
    /// What follows the last recorded tick.
    then: Then,
    next: Tick,
    /// The newest tick that a former process recorded.
    former: Tick,
    open: Option<Open>,
}

impl Reader {
    /// Returns the reader of a worker of a job that stands at `now` and must first read the ticks of `recovery` again.
    pub fn new(
        graph: Arc<Graph>,
        (worker, workers): (usize, usize),
        now: &Timeline,
        recovery: &Recovery,
        timelines: Rc<RefCell<Timelines>>,
    ) -> Reader {
        let all =
            graph.sources.iter().enumerate().flat_map(|(s, node)| node.splits.iter().map(move |split| (s, split)));
        let splits = all
            .filter(|(_, split)| split.id as usize % workers == worker)
            .map(|(source, node)| {
                let mark = now.splits.get(&node.id);
                let position = mark.map_or(node.spec.start, |mark| mark.to);
                OwnSplit {
                    source,
                    node: node.clone(),
                    reader: None,
                    position,
                    from: position,
                    rows: 0,
                    hash: Xxh3Default::new(),
                    moved: false,
                    ended: mark.is_some_and(|mark| mark.ended),
                    at_end: mark.is_some_and(|mark| mark.at_end),
                    empty: None,
                    marked: mark.map_or((false, false, false), |mark| (mark.idle, mark.at_end, mark.ended)),
                    meter: None,
                    waiting: None,
                }
            })
            .collect();
        let entries = &recovery.entries;
        let former = entries.last().map_or(now.tick, |entry| entry.record.tick);
        // Only what this worker reads: a journal may be long.
        let own = |mark: &&SplitMark| mark.split as usize % workers == worker;
        let marks = |record: &TickRecord| record.splits.iter().filter(own).cloned().collect();
        let recorded = entries.iter().map(|entry| (entry.record.tick, marks(&entry.record))).collect();
        let then = recovery.then;
        Reader { graph, workers, splits, timelines, recorded, then, next: now.tick + 1, former, open: None }
    }

    /// Has readings measured by what `meter` and `waiting` give for a source.
    pub fn measured(&mut self, meter: impl Fn(usize) -> PartMeter, waiting: impl Fn(usize) -> Arc<Act>) {
        for split in &mut self.splits {
            split.meter = Some(meter(split.source));
            split.waiting = Some(waiting(split.source));
        }
    }

    /// Returns the tick that is open, or that would be opened next.
    pub fn tick(&self) -> Tick {
        self.open.as_ref().map_or(self.next, |open| open.tick)
    }

    /// Returns whether the next tick was promised by a former process: a job that is asked to stop derives it all the same, so
    /// that whoever comes next, another build perhaps, has nothing to repeat.
    pub fn must_repeat(&self) -> bool {
        self.then == Then::GoOn && self.next <= self.former
    }

    /// Returns whether a tick is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens the next tick. Returns false if there will never be another one to read.
    pub fn open(&mut self, now: Instant) -> bool {
        let tick = self.next;
        let timelines = self.timelines.clone();
        let mut timelines = timelines.borrow_mut();
        let seen = timelines.last_seen();
        let timeline = timelines.fold_to(tick.saturating_sub(self.graph.ticks.in_flight));
        // The recorded clock stood still while the job was away: what came meanwhile would be from the future, see `accepted`.
        // So the first live ticks of a process bring no rows, but the time.
        let hollow = timeline.tick <= self.former;
        let cut = if let Some(marks) = self.recorded.remove(&tick) {
            let own = |mark: SplitMark| Some((self.splits.iter().position(|s| s.node.id == mark.split)?, mark));
            Cut::Recorded { left: marks.into_iter().filter_map(own).collect(), done: Vec::new() }
        } else if seen || timeline.last || self.then != Then::GoOn {
            return false;
        } else if self.graph.bounded() {
            let quotas = match &self.graph.cut {
                Some(cut) => self.given_quotas(cut, tick),
                None => self.bounded_quotas(timeline),
            };
            let Some(quotas) = quotas else { return false };
            Cut::Bounded(quotas)
        } else {
            let readable = if hollow { Vec::new() } else { readable(&self.graph, timeline) };
            let own = |(i, split): (usize, &OwnSplit)| (!split.ended && readable.contains(&split.node.id)).then_some(i);
            let readable: Vec<usize> = self.splits.iter().enumerate().filter_map(own).collect();
            let share = |total: u64| (total / self.workers as u64).max(1);
            let (rows, bytes) = (share(self.graph.ticks.max_rows), share(self.graph.ticks.max_bytes));
            // Where the turn starts moves on, so that a full tick does not always favour the same split.
            let next = if readable.is_empty() { 0 } else { tick as usize % readable.len() };
            Cut::Live { rows, bytes, readable, next, empty: 0 }
        };
        let accept = self.graph.sources.iter().map(|source| accepted(source, timeline.now)).collect();
        self.open = Some(Open { tick, cut, accept, since: now, rows: 0, hollow });
        self.next = tick + 1;
        true
    }

    /// Returns what each own split gives to a bounded tick; `None` if the timeline shows all splits of the job ended.
    fn bounded_quotas(&self, timeline: &Timeline) -> Option<VecDeque<Quota>> {
        let readable = readable(&self.graph, timeline);
        let count = readable.len() as u64;
        if count == 0 {
            return None;
        }
        let rows = (self.graph.ticks.max_rows / count).max(1);
        let bytes = (self.graph.ticks.max_bytes / count).max(1);
        let own =
            |(split, own): (usize, &OwnSplit)| readable.contains(&own.node.id).then_some(Quota { split, rows, bytes });
        Some(self.splits.iter().enumerate().filter_map(own).collect())
    }

    /// Returns what each own split gives to a tick of a given cut; `None` after its last.
    fn given_quotas(&self, cut: &GivenCut, tick: Tick) -> Option<VecDeque<Quota>> {
        let given = usize::try_from(tick - 1).ok().and_then(|index| cut.get(index))?;
        let own = |(split, own): (usize, &OwnSplit)| {
            let rows = *given.get(&own.node.id)?;
            Some(Quota { split, rows, bytes: u64::MAX })
        };
        Some(self.splits.iter().enumerate().filter_map(own).collect())
    }

    /// Reads a little into the open tick and hands the chunk to `give`.
    pub fn turn(&mut self, now: Instant, give: impl FnOnce(RawChunk)) -> Result<Turn, EngineError> {
        let Some(open) = &mut self.open else { return Ok(Turn::Nothing) };
        match &mut open.cut {
            Cut::Recorded { left, done } => {
                let Some((split, mark)) = left.front() else { return Ok(Turn::Full) };
                let own = &mut self.splits[*split];
                if own.rows == mark.rows && own.position == mark.to {
                    done.push(own.finish_recorded(&self.graph, mark, open.tick)?);
                    left.pop_front();
                    return Ok(Turn::Read);
                }
                let limits = ReadLimits { recorded: true, ..limits(mark.rows - own.rows, READ_BYTES, Some(mark.to)) };
                match own.read(&self.graph, &limits).map_err(|error| gone_again(error, &self.graph.job, open.tick))? {
                    Some(chunk) if own.rows <= mark.rows => give(own.raw(chunk, &open.accept)),
                    None if own.must_wait() => return Ok(Turn::Nothing),
                    _ => return Err(own.changed(&self.graph, open.tick, "it gives other records than at first")),
                }
                Ok(Turn::Read)
            }
            Cut::Bounded(quotas) => {
                let Some(quota) = quotas.front_mut() else { return Ok(Turn::Full) };
                let own = &mut self.splits[quota.split];
                own.check_ended();
                if own.ended || quota.rows == 0 || quota.bytes == 0 {
                    quotas.pop_front();
                    return Ok(Turn::Read);
                }
                let limits = limits(quota.rows, quota.bytes, own.node.spec.end);
                match own.read(&self.graph, &limits)? {
                    Some(chunk) => {
                        quota.rows -= chunk.rows() as u64;
                        quota.bytes = quota.bytes.saturating_sub(chunk_bytes(&chunk));
                        give(own.raw(chunk, &open.accept));
                    }
                    None if own.check_ended() => {}
                    None if own.must_wait() => return Ok(Turn::Nothing),
                    None => return Err(own.changed(&self.graph, open.tick, "it ends before the end it had at first")),
                }
                Ok(Turn::Read)
            }
            Cut::Live { rows, bytes, readable, next, empty } => {
                if *rows == 0 || *bytes == 0 {
                    return Ok(Turn::Full);
                }
                if *empty >= readable.len() {
                    *empty = 0;
                    return Ok(Turn::Nothing);
                }
                let own = &mut self.splits[readable[*next % readable.len()]];
                *next += 1;
                *empty += 1;
                if own.check_ended() {
                    return Ok(Turn::Read);
                }
                let limits = limits(*rows, *bytes, own.node.spec.end);
                if let Some(chunk) = own.read(&self.graph, &limits)? {
                    *empty = 0;
                    *rows = rows.saturating_sub(chunk.rows() as u64);
                    *bytes = bytes.saturating_sub(chunk_bytes(&chunk));
                    open.rows += chunk.rows() as u64;
                    own.at_end = false;
                    own.empty = None;
                    give(own.raw(chunk, &open.accept));
                } else {
                    own.found_nothing(now);
                }
                Ok(Turn::Read)
            }
        }
    }

    /// Returns whether the open tick is cut by load and clock.
    pub fn is_live(&self) -> bool {
        self.open.as_ref().is_some_and(|open| matches!(open.cut, Cut::Live { .. }))
    }

    /// Returns whether a live tick should be closed now: it has rows and is old enough, others wait, or it is very old.
    pub fn due(&self, now: Instant, ahead: Tick) -> bool {
        let Some(open) = &self.open else { return false };
        let age = now.saturating_duration_since(open.since);
        open.hollow || ahead > open.tick || (open.rows > 0 && age >= self.graph.ticks.interval) || age >= IDLE_TICK
    }

    /// No split gives another row.
    pub fn end(&mut self) {
        self.splits.iter_mut().for_each(|split| split.ended = true);
    }

    /// Closes the open tick and returns its marks.
    pub fn close(&mut self) -> Vec<Mark> {
        let open = self.open.take().expect("only an open tick is closed");
        match open.cut {
            Cut::Recorded { left, done } => {
                assert!(left.is_empty(), "a recorded tick is closed only when it is read");
                done.into_iter().map(Mark::Read).collect()
            }
            _ => {
                let graph = self.graph.clone();
                let idle_after = |source: usize| graph.sources[source].idle_after;
                self.splits.iter_mut().filter_map(|own| own.mark(idle_after(own.source))).map(Mark::Read).collect()
            }
        }
    }
}

/// Records that are gone and were read before are another thing than those that nobody has read: nothing can be skipped.
fn gone_again(error: EngineError, job: &str, tick: Tick) -> EngineError {
    match error {
        EngineError::Source { source, error: SourceError::Lost { what, wanted, first, next } } => {
            let job = job.to_owned();
            EngineError::Source { source, error: SourceError::Gone { what, wanted, first, next, tick, job } }
        }
        other => other,
    }
}

impl OwnSplit {
    /// Reads the next records, opening the split if need be.
    fn read(&mut self, graph: &Graph, limits: &ReadLimits) -> Result<Option<Chunk>, EngineError> {
        let source = &graph.sources[self.source];
        let _reading = self.meter.as_ref().map(PartMeter::enter);
        let named = |error: SourceError| EngineError::Source { source: source.name.clone(), error };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(source.source.open(&self.node.spec, self.position).map_err(named)?),
        };
        let Some(chunk) = reader.read(limits).map_err(named)? else { return Ok(None) };
        assert_eq!(chunk.from, self.position, "a source gives records without a gap");
        self.position = chunk.to;
        self.rows += chunk.rows() as u64;
        self.moved = true;
        self.answered();
        hash_into(&mut self.hash, &chunk)?;
        Ok(Some(chunk))
    }

    fn raw(&self, chunk: Chunk, accept: &[std::ops::RangeInclusive<EventTime>]) -> RawChunk {
        RawChunk { source: self.source, split: self.node.id, accept: accept[self.source].clone(), chunk }
    }

    /// Takes note of a poll on live input that gave nothing.
    fn found_nothing(&mut self, now: Instant) {
        if self.waits() {
            self.at_end = false;
            self.empty = None;
        } else if !self.check_ended() {
            self.at_end = true;
            self.empty = Some((self.empty.map_or(now, |(first, _)| first), now));
        }
    }

    /// Returns whether the outside system has not answered yet.
    fn waits(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.waits())
    }

    /// Returns whether a tick that must have records of this split has to wait for them, and has that noted.
    fn must_wait(&self) -> bool {
        let waits = self.waits();
        if let Some(act) = &self.waiting {
            match self.reader.as_ref().is_some_and(|reader| reader.is_paced()) {
                true => act.begins_anew(),
                false => act.goes_on(waits),
            }
        }
        waits
    }

    /// Takes note that the outside system answered.
    fn answered(&self) {
        if let Some(act) = &self.waiting {
            act.goes_on(false);
        }
    }

    fn check_ended(&mut self) -> bool {
        self.ended |= self.node.spec.end.is_some_and(|end| self.position >= end)
            || self.reader.as_ref().is_some_and(|reader| reader.ended());
        if self.ended {
            // What it holds or reads ahead is of no use to anybody.
            self.reader = None;
        }
        self.ended
    }

    /// Compares what was read again with what the record says, and returns the mark to repeat.
    fn finish_recorded(&mut self, graph: &Graph, mark: &SplitMark, tick: Tick) -> Result<SplitMark, EngineError> {
        if self.from != mark.from || (self.moved && self.hash.digest() != mark.xxh3) {
            return Err(self.changed(graph, tick, "its bytes differ from those read at first"));
        }
        self.ended = mark.ended;
        self.at_end = mark.at_end;
        self.start_tick((mark.idle, mark.at_end, mark.ended));
        Ok(SplitMark { greatest: EventTime::MIN, ..mark.clone() })
    }

    fn start_tick(&mut self, marked: (bool, bool, bool)) {
        self.marked = marked;
        self.from = self.position;
        self.rows = 0;
        self.hash.reset();
        self.moved = false;
    }

    fn changed(&self, graph: &Graph, tick: Tick, reason: &str) -> EngineError {
        let source = &graph.sources[self.source].name;
        let what = format!("split `{}`", self.node.spec.name);
        let reason = format!("{reason} (tick {tick}, position {})", self.position);
        EngineError::Source { source: source.clone(), error: SourceError::Changed { what, reason } }
    }

    /// Returns the mark of the tick that is being closed, if there is something to say.
    fn mark(&mut self, idle_after: Duration) -> Option<SplitMark> {
        self.check_ended();
        // What counts is what was polled: a split that could not be read for a while is not idle.
        let idle = self.empty.is_some_and(|(first, last)| last.saturating_duration_since(first) >= idle_after);
        let flags = (idle, self.at_end, self.ended);
        if !self.moved && flags == self.marked {
            return None;
        }
        let mark = SplitMark {
            split: self.node.id,
            from: self.from,
            to: self.position,
            rows: self.rows,
            xxh3: if self.moved { self.hash.digest() } else { 0 },
            greatest: EventTime::MIN,
            idle,
            at_end: self.at_end,
            ended: self.ended,
        };
        self.start_tick(flags);
        Some(mark)
    }
}

/// Returns the splits that may be read after `timeline`: not ended, and not ahead of the slowest live one by more than `align`.
fn readable(graph: &Graph, timeline: &Timeline) -> Vec<SplitId> {
    let bounded = graph.bounded();
    let ids = || graph.sources.iter().flat_map(|source| source.splits.iter().map(|split| split.id));
    let mark = |id: &SplitId| timeline.splits.get(id);
    let greatest = |id: &SplitId| mark(id).map_or(EventTime::MIN, |mark| mark.greatest);
    let open = |id: &SplitId| !mark(id).is_some_and(|mark| mark.ended);
    // On live input a split that has nothing to give does not hold the others back.
    let live = |id: &SplitId| open(id) && (bounded || !mark(id).is_some_and(|mark| mark.at_end));
    let slowest = ids().filter(live).map(|id| greatest(&id)).min().unwrap_or(EventTime::MAX);
    let limit = slowest.plus(graph.ticks.align);
    ids().filter(|id| open(id) && greatest(id) <= limit).collect()
}

/// Returns the event times that a source's rows may have in a tick for which the recorded clock shows `now`.
fn accepted(source: &crate::graph::SourceNode, now: i64) -> std::ops::RangeInclusive<EventTime> {
    let (first, last) = (*source.event_times.start(), *source.event_times.end());
    if source.bounded {
        return first..=last;
    }
    first..=last.min(EventTime(now.saturating_add(micros_of(source.max_future))))
}

fn limits(rows: u64, bytes: u64, until: Option<u64>) -> ReadLimits {
    let least = |value: u64, limit: u64| usize::try_from(value.min(limit)).expect("the limits fit memory").max(1);
    ReadLimits { rows: least(rows, READ_ROWS), bytes: least(bytes, READ_BYTES), until, recorded: false }
}

/// Bytes that a chunk takes of a tick: a function of its records alone, so that the bounded cut is one too.
fn chunk_bytes(chunk: &Chunk) -> u64 {
    match &chunk.payload {
        Payload::Records(records) => records.bytes.len() as u64,
        Payload::Columns(batch) => (batch.num_rows() * COLUMNAR_ROW_BYTES) as u64,
    }
}

/// Adds a chunk to the checksum of a tick. However a range is cut into chunks, the checksum is the same.
fn hash_into(hash: &mut Xxh3Default, chunk: &Chunk) -> Result<(), EngineError> {
    match &chunk.payload {
        Payload::Records(records) => hash.update(&records.bytes),
        Payload::Columns(batch) => {
            let fields = batch.schema().fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
            let rows = RowConverter::new(fields).and_then(|converter| converter.convert_columns(batch.columns()));
            for row in &rows.map_err(|error| EngineError::Internal(format!("cannot checksum columns: {error}")))? {
                hash.update(&(row.as_ref().len() as u64).to_le_bytes());
                hash.update(row.as_ref());
            }
        }
    }
    Ok(())
}
