//! The meter: what each part of a running job is at, and how far it has come.
//!
//! Plain counters with one writer each, read by whoever shows them: on the hot path a store or two per batch and tick. Nothing in
//! here reaches an output: a meter may look at the clock because no step can look at the meter.

pub mod act;
pub mod histogram;
mod readings;
mod worker;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use act::{Act, ActKind};
use histogram::{Histogram, LONG, SHORT};
pub use readings::{ActReading, CheckpointReading, PartReading, Readings, SinkReading, TableReading, WorkerReading};
use worker::WorkerMeter;
pub use worker::{Laps, PartMeter, Wait};

use crate::graph::Graph;
use crate::operator::TableSize;
use crate::tick::Tick;

/// Ticks whose first reading is remembered, to tell how long rows take.
const TICKS_REMEMBERED: usize = 4096;

/// The parts of a job that a worker can be at, in the order in which a row passes them. Numbers are indices in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Puts the state of a step back.
    Restore(usize),
    /// Reads a source.
    Read(usize),
    /// Decodes the records of a source.
    Decode(usize),
    /// Makes tick records.
    Clock,
    /// Steps, or transforms.
    Step(usize),
    /// Encodes the rows of a sink.
    Encode(usize),
    /// Brings the rows of a sink into order.
    Merge(usize),
    /// Gathers what a tick amounts to.
    Ledger,
}

impl Part {
    /// Returns whether the worker waits for the outside while it is there.
    pub fn is_outside(self) -> bool {
        matches!(self, Part::Restore(_) | Part::Read(_))
    }
}

/// What is counted of a sink.
#[derive(Debug)]
struct SinkMeter {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Bytes held for a commit, by worker.
    pending: Box<[AtomicU64]>,
    /// The first tick whose rows wait for a commit, by worker.
    waiting: Box<[Opened]>,
    /// When the last commit ended, in microseconds since the epoch; 0: none did.
    committed: AtomicU64,
    latency: Histogram,
}

/// When the first row of a tick was read. Tick 0: of none.
#[derive(Debug, Default)]
struct Opened {
    tick: AtomicU64,
    micros: AtomicU64,
}

/// What is counted of checkpoints.
#[derive(Debug)]
struct CheckpointMeter {
    begun: Mutex<BTreeMap<Tick, Instant>>,
    last: Mutex<CheckpointReading>,
    total: Histogram,
    freeze: Histogram,
}

/// The rows that steps keep, by (step, worker).
type Sizes = BTreeMap<(usize, usize), Vec<(&'static str, TableSize)>>;

/// Measures a running job.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    parts: Vec<Part>,
    names: Vec<String>,
    /// The number of the first worker of this process.
    first: usize,
    workers: Vec<Arc<WorkerMeter>>,
    acts: Vec<Arc<Act>>,
    sinks: Vec<SinkMeter>,
    sink_names: Vec<String>,
    step_names: Vec<String>,
    opened: Box<[Opened]>,
    checkpoints: CheckpointMeter,
    sizes: Mutex<Sizes>,
    /// Ticks made durable by this process.
    appended: AtomicU64,
    /// When rows came out first and last, in microseconds since the epoch; 0: none did.
    out: (AtomicU64, AtomicU64),
    /// For how long nothing has moved, as the watchdog sees it, in milliseconds.
    still: AtomicU64,
    stalled: AtomicBool,
}

impl Meter {
    /// Returns the meter of a job that is about to run, and of those of its workers that are this process's.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub fn new(graph: &Graph, workers: Range<usize>) -> Meter {
        let begun = Instant::now();
        let sources = || 0..graph.sources.len();
        let (steps, sinks) = (|| 0..graph.steps.len(), || 0..graph.sinks.len());
        let mut parts: Vec<Part> = steps().map(Part::Restore).collect();
        parts.extend(sources().map(Part::Read).chain(sources().map(Part::Decode)));
        parts.push(Part::Clock);
        parts.extend(steps().map(Part::Step));
        parts.extend(sinks().map(Part::Encode).chain(sinks().map(Part::Merge)));
        parts.push(Part::Ledger);
        let names = parts.iter().map(|part| name_of(graph, *part)).collect();
        let zeros = || workers.clone().map(|_| AtomicU64::new(0)).collect();
        let sink = |_| SinkMeter {
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            pending: zeros(),
            waiting: workers.clone().map(|_| Opened::default()).collect(),
            committed: AtomicU64::new(0),
            latency: Histogram::new(SHORT),
        };
        Meter {
            begun,
            first: workers.start,
            workers: workers.clone().map(|_| Arc::new(WorkerMeter::new(begun, parts.len()))).collect(),
            parts,
            names,
            acts: acts(graph, workers.clone(), begun),
            sinks: sinks().map(sink).collect(),
            sink_names: graph.sinks.iter().map(|sink| sink.name.clone()).collect(),
            step_names: graph.steps.iter().map(|step| step.name.clone()).collect(),
            opened: (0..TICKS_REMEMBERED).map(|_| Opened::default()).collect(),
            checkpoints: CheckpointMeter {
                begun: Mutex::default(),
                last: Mutex::default(),
                total: Histogram::new(LONG),
                freeze: Histogram::new(LONG),
            },
            sizes: Mutex::default(),
            appended: AtomicU64::new(0),
            out: Default::default(),
            still: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
        }
    }

    /// Returns the meter of a part on a worker.
    pub fn part(&self, worker: usize, part: Part) -> PartMeter {
        let index = self.parts.iter().position(|known| *known == part).expect("the meter knows all parts of the graph");
        PartMeter::new(self.workers[worker - self.first].clone(), index)
    }

    /// Returns what measures a worker's turns.
    pub fn laps(&self, worker: usize) -> Laps {
        Laps::new(self.workers[worker - self.first].clone())
    }

    /// Returns the act of a kind at a place: index of the step or sink, and worker; zeros for the log's.
    pub fn act(&self, kind: ActKind, place: usize, worker: usize) -> Arc<Act> {
        let found = self.acts.iter().find(|act| (act.kind, act.place, act.worker) == (kind, place, worker));
        found.expect("the meter knows all acts of the graph").clone()
    }

    fn micros(&self) -> u64 {
        worker::micros_since(self.begun)
    }

    /// A worker has read rows into a tick.
    pub fn read(&self, tick: Tick) {
        let slot = &self.opened[tick as usize % TICKS_REMEMBERED];
        if slot.tick.load(Ordering::Relaxed) != tick {
            slot.micros.store(self.micros(), Ordering::Relaxed);
            slot.tick.store(tick, Ordering::Release);
        }
    }

    /// Returns how long ago the first row of a tick was read, if it had any and is not long ago.
    pub fn since_read(&self, tick: Tick) -> Option<Duration> {
        let slot = &self.opened[tick as usize % TICKS_REMEMBERED];
        let known = tick > 0 && slot.tick.load(Ordering::Acquire) == tick;
        known.then(|| Duration::from_micros(self.micros().saturating_sub(slot.micros.load(Ordering::Relaxed))))
    }

    /// A worker holds `bytes` of rows for a sink that are not committed, the oldest of them of this tick.
    pub fn pending(&self, sink: usize, worker: usize, bytes: usize, oldest: Option<Tick>) {
        let (meter, worker) = (&self.sinks[sink], worker - self.first);
        meter.pending[worker].store(bytes as u64, Ordering::Relaxed);
        let waiting = &meter.waiting[worker];
        let oldest = oldest.unwrap_or(0);
        if waiting.tick.load(Ordering::Relaxed) != oldest {
            let age = self.since_read(oldest).unwrap_or(Duration::ZERO);
            let since = self.micros().saturating_sub(u64::try_from(age.as_micros()).unwrap_or(0));
            waiting.micros.store(since, Ordering::Relaxed);
            waiting.tick.store(oldest, Ordering::Release);
        }
    }

    /// A lane has committed: the rows and bytes of each of these ticks.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub fn committed(&self, sink: usize, ticks: impl Iterator<Item = (Tick, usize, usize)>) {
        let meter = &self.sinks[sink];
        let mut came_out = false;
        for (tick, rows, bytes) in ticks {
            came_out |= rows > 0;
            meter.rows.fetch_add(rows as u64, Ordering::Relaxed);
            meter.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if let Some(took) = self.since_read(tick) {
                meter.latency.observe(took);
            }
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        meter.committed.store(now, Ordering::Relaxed);
        if came_out {
            // Only the first of all workers counts: the others find it written.
            let _ = self.out.0.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            self.out.1.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Returns when rows came out of this process first and last, in microseconds since the epoch.
    pub fn rows_out(&self) -> Option<(u64, u64)> {
        let first = self.out.0.load(Ordering::Relaxed);
        (first > 0).then(|| (first, self.out.1.load(Ordering::Relaxed).max(first)))
    }

    /// So many ticks are in the journal now that were not.
    pub fn appended(&self, ticks: usize) {
        self.appended.fetch_add(ticks as u64, Ordering::Relaxed);
    }

    /// A step was frozen for a checkpoint; these are the rows it keeps.
    pub fn frozen(&self, step: usize, worker: usize, took: Duration, sizes: Vec<(&'static str, TableSize)>) {
        self.checkpoints.freeze.observe(took);
        self.sized(step, worker, sizes);
    }

    /// A step keeps so many rows.
    pub fn sized(&self, step: usize, worker: usize, sizes: Vec<(&'static str, TableSize)>) {
        self.sizes.lock().expect("sizes are only copied and replaced").insert((step, worker), sizes);
    }

    /// Returns how many rows the newest checkpoint has saved; `None` before the first one.
    pub fn rows_saved(&self) -> Option<u64> {
        let last = self.checkpoints.last.lock().expect("only copied and replaced");
        (last.tick > 0).then_some(last.rows)
    }

    /// A tick will be a checkpoint.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub fn checkpoint_begun(&self, tick: Tick) {
        self.checkpoints.begun.lock().expect("only inserted and removed").insert(tick, Instant::now());
    }

    /// A checkpoint is published.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub fn checkpoint_published(&self, tick: Tick, files: usize, bytes: u64, rows: u64) {
        let begun = self.checkpoints.begun.lock().expect("only inserted and removed").remove(&tick);
        let took = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        self.checkpoints.total.observe(took);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut last = self.checkpoints.last.lock().expect("only copied and replaced");
        let written = last.bytes_written + bytes;
        let timestamp = now.as_secs_f64();
        *last = CheckpointReading {
            tick,
            rows,
            files: files as u64,
            bytes,
            seconds: took.as_secs_f64(),
            timestamp,
            bytes_written: written,
            ..CheckpointReading::default()
        };
    }

    /// The watchdog has looked: nothing has moved for so long.
    pub fn still(&self, still: Duration, stalled: bool) {
        self.still.store(u64::try_from(still.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.stalled.store(stalled, Ordering::Relaxed);
    }
}

fn name_of(graph: &Graph, part: Part) -> String {
    match part {
        Part::Restore(step) | Part::Step(step) => graph.steps[step].name.clone(),
        Part::Read(source) | Part::Decode(source) => graph.sources[source].name.clone(),
        Part::Encode(sink) | Part::Merge(sink) => graph.sinks[sink].name.clone(),
        Part::Clock => "clock".to_owned(),
        Part::Ledger => "ledger".to_owned(),
    }
}

/// All that a job does to the outside: its sources, its log, its state files, its sinks.
fn acts(graph: &Graph, workers: Range<usize>, begun: Instant) -> Vec<Arc<Act>> {
    let act = |kind, name: &str, place, worker| Arc::new(Act::new(kind, name, place, worker, begun));
    let mut acts = vec![act(ActKind::Append, "log", 0, 0), act(ActKind::Publish, "log", 0, 0)];
    for worker in workers {
        acts.extend(graph.sources.iter().enumerate().map(|(i, source)| act(ActKind::Read, &source.name, i, worker)));
        acts.extend(graph.steps.iter().enumerate().map(|(i, step)| act(ActKind::Write, &step.name, i, worker)));
        acts.extend(graph.sinks.iter().enumerate().map(|(i, sink)| act(ActKind::Commit, &sink.name, i, worker)));
    }
    acts
}
