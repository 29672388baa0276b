//! What one worker thread is at, and what it does with its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::operator::Pulse;
use crate::tick::Tick;

/// Returns the microseconds since `begun`.
#[expect(clippy::disallowed_methods, reason = "reaches no output")]
pub(super) fn micros_since(begun: Instant) -> u64 {
    u64::try_from(Instant::now().saturating_duration_since(begun).as_micros()).unwrap_or(u64::MAX)
}

/// A worker's counters. Written by its thread alone.
#[derive(Debug)]
pub(super) struct WorkerMeter {
    begun: Instant,
    /// Turns of its loop so far; it grows as long as the thread is not stuck.
    pub turns: AtomicU64,
    /// Pieces of work done so far: chunks, batches, ticks, parts of ticks. It grows as long as the job gets on.
    pub done: Arc<AtomicU64>,
    /// The part it is at, plus 1; 0: between parts, or asleep.
    pub at: AtomicUsize,
    /// The newest tick that has something of it, or that it has closed.
    pub begun_tick: AtomicU64,
    pub busy_nanos: AtomicU64,
    pub withheld_nanos: AtomicU64,
    pub idle_nanos: AtomicU64,
    pub parts: Box<[PartCounters]>,
}

/// What is counted of a part.
#[derive(Debug, Default)]
pub(super) struct PartCounters {
    pub busy_nanos: AtomicU64,
    /// The tick it does next; 0: it has none of its own.
    pub next: AtomicU64,
}

/// Adds to a counter that this thread alone writes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl WorkerMeter {
    pub fn new(begun: Instant, parts: usize) -> WorkerMeter {
        WorkerMeter {
            begun,
            turns: AtomicU64::new(0),
            done: Arc::default(),
            at: AtomicUsize::new(0),
            begun_tick: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            withheld_nanos: AtomicU64::new(0),
            idle_nanos: AtomicU64::new(0),
            parts: (0..parts).map(|_| PartCounters::default()).collect(),
        }
    }
}

/// One part of the job on one worker.
#[derive(Clone, Debug)]
pub struct PartMeter {
    worker: Arc<WorkerMeter>,
    index: usize,
}

impl PartMeter {
    pub(super) fn new(worker: Arc<WorkerMeter>, index: usize) -> PartMeter {
        PartMeter { worker, index }
    }

    /// The worker is at this part until the guard is dropped.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub fn enter(&self) -> Entered<'_> {
        self.worker.at.store(self.index + 1, Ordering::Relaxed);
        Entered { meter: self, since: Instant::now() }
    }

    /// The part has done a piece of work.
    pub fn got_on(&self) {
        add(&self.worker.done, 1);
    }

    /// Returns what is felt as pieces of work of this worker.
    pub fn pulse(&self) -> Pulse {
        Pulse::on(self.worker.done.clone())
    }

    /// The part has done all ticks before `next`.
    pub fn reached(&self, next: Tick) {
        self.worker.parts[self.index].next.store(next, Ordering::Relaxed);
    }
}

/// A worker at a part.
#[must_use]
pub struct Entered<'a> {
    meter: &'a PartMeter,
    since: Instant,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let worker = &self.meter.worker;
        add(&worker.parts[self.meter.index].busy_nanos, nanos(self.since.elapsed()));
        worker.at.store(0, Ordering::Relaxed);
    }
}

/// Why a worker would sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It has work.
    None,
    /// There is nothing to read.
    Idle,
    /// It may not read: too many ticks are incomplete, or a sink has too much to write.
    Withheld,
}

/// Measures a worker's turns: what is not spent asleep is busy.
#[derive(Debug)]
pub struct Laps {
    worker: Arc<WorkerMeter>,
    last: Instant,
}

impl Laps {
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub(super) fn new(worker: Arc<WorkerMeter>) -> Laps {
        // What came before, above all putting state back, was work.
        let last = Instant::now();
        add(&worker.busy_nanos, nanos(last.saturating_duration_since(worker.begun)));
        Laps { worker, last }
    }

    /// The worker has read something into a tick, or has closed it: from now on it should become complete.
    pub fn begun(&self, tick: Tick) {
        add(&self.worker.done, 1);
        self.worker.begun_tick.store(tick, Ordering::Relaxed);
    }

    /// Lets the worker step, or sleep for the reason given. Timely does not say which of the two it did, but a thread that
    /// sleeps takes no CPU time, and that is asked for only where it might have slept.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    pub fn turn(&mut self, wait: Wait, step_or_park: impl FnOnce()) {
        add(&self.worker.turns, 1);
        let mut asleep = Duration::ZERO;
        if wait == Wait::None {
            step_or_park();
        } else {
            let (from, cpu) = (Instant::now(), thread_cpu());
            step_or_park();
            asleep = from.elapsed().saturating_sub(thread_cpu().saturating_sub(cpu));
        }
        let now = Instant::now();
        add(&self.worker.busy_nanos, nanos(now.saturating_duration_since(self.last).saturating_sub(asleep)));
        let counter = if wait == Wait::Withheld { &self.worker.withheld_nanos } else { &self.worker.idle_nanos };
        add(counter, nanos(asleep));
        self.last = now;
    }
}

/// CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
