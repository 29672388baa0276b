//! What a meter shows at one moment, as plain data.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::act::ActKind;
use super::histogram::Durations;
use super::{Meter, Part};
use crate::tick::Tick;

/// All that a meter shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Readings {
    /// Since the job began to run in this process.
    pub seconds: f64,
    /// For how long nothing has moved although something should, as the watchdog sees it.
    pub still_seconds: f64,
    /// The watchdog has given up on the job.
    pub stalled: bool,
    /// Ticks made durable by this process.
    pub ticks_appended: u64,
    /// By worker.
    pub workers: Vec<WorkerReading>,
    /// By part and worker.
    pub parts: Vec<PartReading>,
    /// By kind, place and worker.
    pub acts: Vec<ActReading>,
    /// By sink.
    pub sinks: Vec<SinkReading>,
    /// By step, table and worker.
    pub tables: Vec<TableReading>,
    /// Checkpoints.
    pub checkpoints: CheckpointReading,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerReading {
    /// Its number among all workers of the job.
    pub worker: usize,
    /// Turns of its loop.
    pub turns: u64,
    /// Pieces of work done: chunks read, batches, parts of ticks.
    #[serde(skip)]
    pub done: u64,
    /// The newest tick into which it has read something, or which it has closed; 0 if there is none.
    pub begun: Tick,
    /// The part it is at; `None`: it is between parts, or asleep.
    #[serde(skip)]
    pub at: Option<Part>,
    /// That part, in words.
    #[serde(rename = "at")]
    pub at_name: Option<String>,
    /// Time spent working.
    pub busy_seconds: f64,
    /// Time spent asleep because it may not read.
    pub backpressured_seconds: f64,
    /// Time spent asleep because there is nothing to read.
    pub idle_seconds: f64,
}

/// A part on a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartReading {
    /// What is done there: `restore`, `read`, `decode`, `clock`, `step`, `encode`, `order`, `ledger`.
    pub stage: String,
    /// The part, in words.
    #[serde(rename = "part")]
    pub named: String,
    /// The source, step or sink.
    pub name: String,
    /// The worker.
    pub worker: usize,
    /// Time spent there.
    pub busy_seconds: f64,
    /// The tick it does next, if it does ticks one by one and has begun.
    pub next: Option<Tick>,
}

/// Acts on the outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActReading {
    /// What is done.
    pub kind: ActKind,
    /// The step or sink, or `log`.
    pub name: String,
    /// The worker.
    pub worker: usize,
    /// For how long the one under way has been.
    pub under_way_seconds: Option<f64>,
    /// How long those that ended took.
    pub durations: Durations,
}

/// A sink.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SinkReading {
    /// Its name.
    pub name: String,
    /// Rows committed by this process.
    pub rows: u64,
    /// Bytes committed by this process.
    pub bytes: u64,
    /// Bytes held for a commit.
    pub pending_bytes: u64,
    /// For how long the oldest of them has waited.
    pub pending_seconds: f64,
    /// When the last commit ended, in seconds since the epoch.
    pub committed: Option<f64>,
    /// From the first reading of a tick to its commit.
    pub latency: Durations,
}

/// The rows that a step keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableReading {
    /// The step.
    pub step: String,
    /// The table.
    pub table: String,
    /// The worker.
    pub worker: usize,
    /// Rows.
    pub rows: u64,
    /// Bytes in memory, about; `None` where the step does not know.
    pub bytes: Option<u64>,
}

/// Checkpoints of this process; the last one first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckpointReading {
    /// Its tick; 0: there was none yet.
    pub tick: Tick,
    /// Rows that had gone into sources and steps by then, since the job began.
    pub rows: u64,
    /// Files written for it.
    pub files: u64,
    /// Bytes written for it.
    pub bytes: u64,
    /// From freezing to its record.
    pub seconds: f64,
    /// When it was published, in seconds since the epoch.
    pub timestamp: f64,
    /// Bytes written for all of them.
    pub bytes_written: u64,
    /// Checkpoints that are being written.
    pub in_progress: u64,
    /// How long all of them took.
    pub total: Durations,
    /// How long freezing took, per step and worker.
    pub freeze: Durations,
}

impl Readings {
    /// Adds those of another process of the job.
    pub fn add(&mut self, other: &Readings) {
        self.workers.extend(other.workers.iter().cloned());
        self.parts.extend(other.parts.iter().cloned());
        self.acts.extend(other.acts.iter().cloned());
        self.tables.extend(other.tables.iter().cloned());
        self.checkpoints.freeze.add(&other.checkpoints.freeze);
        // Sinks are listed in the order of the job, the same everywhere.
        for (own, more) in self.sinks.iter_mut().zip(&other.sinks) {
            own.rows += more.rows;
            own.bytes += more.bytes;
            own.pending_bytes += more.pending_bytes;
            own.pending_seconds = own.pending_seconds.max(more.pending_seconds);
            own.committed = match (own.committed, more.committed) {
                (Some(own), Some(more)) => Some(own.max(more)),
                (own, more) => own.or(more),
            };
            own.latency.add(&more.latency);
        }
    }
}

impl Part {
    /// Returns what is done there, in a word.
    pub fn stage(self) -> &'static str {
        match self {
            Part::Restore(_) => "restore",
            Part::Read(_) => "read",
            Part::Decode(_) => "decode",
            Part::Clock => "clock",
            Part::Step(_) => "step",
            Part::Encode(_) => "encode",
            Part::Merge(_) => "order",
            Part::Ledger => "ledger",
        }
    }

    /// Returns the part in words, for a source, step or sink of this name.
    pub fn named(self, name: &str) -> String {
        match self {
            Part::Restore(_) => format!("restoring step `{name}`"),
            Part::Read(_) => format!("reading source `{name}`"),
            Part::Decode(_) => format!("decoding source `{name}`"),
            Part::Clock => "clock".to_owned(),
            Part::Step(_) => format!("step `{name}`"),
            Part::Encode(_) => format!("encoding for sink `{name}`"),
            Part::Merge(_) => format!("ordering for sink `{name}`"),
            Part::Ledger => "ledger".to_owned(),
        }
    }
}

impl ActKind {
    /// Returns the act in a word.
    pub fn name(self) -> &'static str {
        match self {
            ActKind::Append => "append",
            ActKind::Publish => "publish",
            ActKind::Write => "write",
            ActKind::Commit => "commit",
            ActKind::Read => "read",
        }
    }

    /// Returns the act in words, for a step or sink of this name.
    pub fn named(self, name: &str) -> String {
        match self {
            ActKind::Append => "appending ticks to the log".to_owned(),
            ActKind::Publish => "appending a checkpoint to the log".to_owned(),
            ActKind::Write => format!("writing state of step `{name}`"),
            ActKind::Commit => format!("committing to sink `{name}`"),
            ActKind::Read => format!("waiting for records of source `{name}`"),
        }
    }
}

impl Meter {
    /// Returns what the meter shows now.
    pub fn read_all(&self) -> Readings {
        Readings {
            seconds: self.micros() as f64 / 1e6,
            still_seconds: self.still.load(Ordering::Relaxed) as f64 / 1e3,
            stalled: self.stalled.load(Ordering::Relaxed),
            ticks_appended: self.appended.load(Ordering::Relaxed),
            workers: self.read_workers(),
            parts: self.read_parts(),
            acts: self.read_acts(),
            sinks: self.read_sinks(),
            tables: self.read_tables(),
            checkpoints: self.read_checkpoints(),
        }
    }

    /// Returns what the workers are at.
    pub fn read_workers(&self) -> Vec<WorkerReading> {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let read = |(number, worker): (usize, &std::sync::Arc<super::WorkerMeter>)| {
            let at = worker.at.load(Ordering::Relaxed).checked_sub(1);
            WorkerReading {
                worker: number,
                turns: worker.turns.load(Ordering::Relaxed),
                done: worker.done.load(Ordering::Relaxed),
                begun: worker.begun_tick.load(Ordering::Relaxed),
                at: at.map(|index| self.parts[index]),
                at_name: at.map(|index| self.parts[index].named(&self.names[index])),
                busy_seconds: seconds(worker.busy_nanos.load(Ordering::Relaxed)),
                backpressured_seconds: seconds(worker.withheld_nanos.load(Ordering::Relaxed)),
                idle_seconds: seconds(worker.idle_nanos.load(Ordering::Relaxed)),
            }
        };
        (self.first..).zip(&self.workers).map(read).collect()
    }

    /// Returns how far each part has come.
    pub fn read_parts(&self) -> Vec<PartReading> {
        let mut readings = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            for (worker, meter) in (self.first..).zip(&self.workers) {
                let counters = &meter.parts[index];
                let next = counters.next.load(Ordering::Relaxed);
                readings.push(PartReading {
                    stage: part.stage().to_owned(),
                    named: part.named(&self.names[index]),
                    name: self.names[index].clone(),
                    worker,
                    busy_seconds: counters.busy_nanos.load(Ordering::Relaxed) as f64 / 1e9,
                    next: (next > 0).then_some(next),
                });
            }
        }
        readings
    }

    /// Returns what is being done to the outside.
    pub fn read_acts(&self) -> Vec<ActReading> {
        let read = |act: &std::sync::Arc<super::Act>| ActReading {
            kind: act.kind,
            name: act.name.clone(),
            worker: act.worker,
            under_way_seconds: act.age().map(|age| age.as_secs_f64()),
            durations: act.durations(),
        };
        self.acts.iter().map(read).collect()
    }

    fn read_sinks(&self) -> Vec<SinkReading> {
        let now = self.micros();
        let mut readings = Vec::new();
        for (sink, name) in self.sinks.iter().zip(&self.sink_names) {
            let committed = sink.committed.load(Ordering::Relaxed);
            let waiting = sink.waiting.iter().filter(|waiting| waiting.tick.load(Ordering::Acquire) > 0);
            let oldest = waiting.map(|waiting| waiting.micros.load(Ordering::Relaxed)).min();
            let oldest = oldest.map_or(Duration::ZERO, |since| Duration::from_micros(now.saturating_sub(since)));
            readings.push(SinkReading {
                name: name.clone(),
                rows: sink.rows.load(Ordering::Relaxed),
                bytes: sink.bytes.load(Ordering::Relaxed),
                pending_bytes: sink.pending.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum(),
                pending_seconds: oldest.as_secs_f64(),
                committed: (committed > 0).then_some(committed as f64 / 1e6),
                latency: sink.latency.read(),
            });
        }
        readings
    }

    fn read_tables(&self) -> Vec<TableReading> {
        let sizes = self.sizes.lock().expect("sizes are only copied and replaced");
        let mut readings = Vec::new();
        for ((step, worker), tables) in sizes.iter() {
            for (table, size) in tables {
                let step = self.step_names[*step].clone();
                let table = (*table).to_owned();
                readings.push(TableReading { step, table, worker: *worker, rows: size.rows, bytes: size.bytes });
            }
        }
        readings
    }

    fn read_checkpoints(&self) -> CheckpointReading {
        let last = self.checkpoints.last.lock().expect("only copied and replaced").clone();
        let in_progress = self.checkpoints.begun.lock().expect("only inserted and removed").len() as u64;
        let (total, freeze) = (self.checkpoints.total.read(), self.checkpoints.freeze.read());
        CheckpointReading { in_progress, total, freeze, ..last }
    }
}
