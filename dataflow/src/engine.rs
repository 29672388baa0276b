//! The engine: runs a graph on timely, tick by tick, from where its recovery says.
//!
//! ```text
//!  reader --raw--> decode --rows--> steps --rows--> encode --> merge --> commit
//!     \               \               |                          |         |
//!      `----marks------`--> clock --records--> (all steps)       |         |
//!                             |                                  |         |
//!                             `----------> ledger <---reports----'         |
//!                                            `------durable--------------->|
//!                                         checkpoints <---covered----------'
//! ```
//! Clock, ledger and checkpoints do their work on worker 0. Progress tracking tells each part when a tick is complete.

mod background;
mod build;
mod clock;
mod control;
mod crossing;
mod decode;
mod events;
mod ledger;
pub(crate) mod message;
mod meter;
mod observer;
mod pace;
mod reader;
mod records;
mod route;
mod sinks;
mod steps;
mod watchdog;
mod worker;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use clock::{SystemClock, WallClock};
pub use control::Control;
pub use crossing::Doing;
use crossing::{Crossing, Speaker};
pub use meter::act::ActKind;
pub use meter::histogram::Durations;
pub use meter::{ActReading, CheckpointReading, PartReading, Readings, SinkReading, TableReading, WorkerReading};
pub use observer::{Identity, Observer, Positions, Snapshot, SplitReading, StepReading};
pub use pace::{Aside, Machine, Pace, Wait, Worked};
pub use route::routed_schema;
pub use sinks::{Lanes, holder};
pub use watchdog::{Stall, StallCause, Watchdog, WatchdogLimits};

use serde::{Deserialize, Serialize};
use timely::WorkerConfig;
use timely::communication::allocator::zero_copy::initialize::{CommsGuard, initialize_networking_from_sockets};
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Hooks, WorkerGuards};
use timely::worker::Worker;

use crate::balance::Counts;
use crate::caught;
use crate::graph::{Graph, StepNode};
use crate::journal::{Journal, JournalEntry, JournalError, StateStore};
use crate::mesh::{Mesh, MeshError};
use crate::operator::StepError;
use crate::sink::SinkError;
use crate::source::SourceError;
use crate::tick::{Floor, Tick, TickRecord, Timeline};
use crate::wire::WireError;

/// Where a job goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Where the job stood before the first of `recent`.
    pub before: Timeline,
    /// The last tick records up to the checkpoint's tick.
    pub recent: Vec<TickRecord>,
    /// The journal after the checkpoint: ticks to be derived again.
    pub entries: Vec<JournalEntry>,
    /// The balance at the checkpoint.
    pub balance: BTreeMap<String, Counts>,
    /// By step: how far it had come when the job was upgraded last.
    pub floors: BTreeMap<String, Floor>,
    /// What follows the last of `entries`.
    pub then: Then,
}

/// What a job does once the ticks of its journal are derived again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// It goes on with new ticks.
    #[default]
    GoOn,
    /// It ends: no tick is appended to the journal, the sinks have all rows of the recorded ticks. It may be stopped on the way and
    /// goes on from there: checkpoints are taken, the last of them at the end.
    Finish,
    /// It ends likewise, and no checkpoint is taken.
    End,
}

impl Recovery {
    /// Returns where the job stood at the checkpoint.
    pub fn after(&self) -> Timeline {
        let mut timeline = self.before.clone();
        self.recent.iter().for_each(|record| timeline.apply(record));
        timeline
    }
}

/// What is needed to run a job.
pub struct Job {
    /// What runs.
    pub graph: Graph,
    /// Worker threads of this process.
    pub workers: usize,
    /// Where it goes on.
    pub recovery: Recovery,
    /// The lanes of all sinks that workers of this process hold, opened, with the tick of their token.
    pub lanes: Lanes,
    /// The log; that of a process that does not lead is never written to.
    pub journal: Box<dyn Journal>,
    /// Where checkpoints are written and read.
    pub state: Arc<dyn StateStore>,
    /// Time between commits.
    pub commit_every: Duration,
    /// Least time between checkpoints.
    pub checkpoint_every: Duration,
    /// Steers the running job.
    pub control: Arc<Control>,
    /// Is told how it goes.
    pub observer: Arc<Observer>,
}

/// The other processes of a job that runs in several.
pub struct Others {
    /// The connections with them.
    pub mesh: Arc<Mesh>,
    /// The tick of the token of each lane that they hold.
    pub lanes: BTreeMap<(u32, u32), Option<Tick>>,
}

/// What the workers of a job share.
pub(crate) struct Setup {
    /// The workers of this process, of all workers of the job.
    own: Range<usize>,
    graph: Arc<Graph>,
    recovery: Recovery,
    lanes: Mutex<Lanes>,
    lanes_known: BTreeMap<(u32, u32), Option<Tick>>,
    journal: Mutex<Option<Box<dyn Journal>>>,
    state: Arc<dyn StateStore>,
    commit_every: Duration,
    checkpoint_every: Duration,
    control: Arc<Control>,
    observer: Arc<Observer>,
}

/// Runs a job until its input ends, it is stopped, or it fails. Blocks; worker threads are its own.
pub fn run(job: Job) -> Result<(), EngineError> {
    let own = 0..job.workers;
    let Some(setup) = prepare(job, own.clone(), BTreeMap::new()) else { return Ok(()) };
    let config = timely::Config::process(own.len());
    let guards = timely::execute(config, {
        let setup = setup.clone();
        move |worker| work(worker, &setup)
    });
    conclude(&setup.control, guards)
}

/// Runs the part of a job that is this process's, like [`run`].
pub fn run_among(job: Job, others: Others) -> Result<(), EngineError> {
    let Others { mesh, lanes } = others;
    let place = mesh.place();
    job.observer.in_mesh(mesh.meter().clone(), place.process);
    let crossing = Arc::new(Crossing::new(mesh.clone(), job.recovery.after().tick));
    let control = job.control.clone();
    let speaker = Speaker {
        control: control.clone(),
        crossing: crossing.clone(),
        observer: job.observer.clone(),
        state: job.state.clone(),
    };
    let Some(setup) = prepare(job, place.own(), lanes) else {
        mesh.end();
        return Ok(());
    };
    control.cross(crossing);
    mesh.attend(Arc::new(speaker));
    let ran = workers_among(&mesh).and_then(|(builders, guard)| {
        let guard: Box<dyn std::any::Any + Send> = Box::new(Comms { guard: Some(guard), control: control.clone() });
        let setup = setup.clone();
        let config = WorkerConfig::default();
        let guards = timely::execute::execute_from(builders, guard, config, move |worker| work(worker, &setup));
        conclude(&control, guards)
    });
    match &ran {
        Ok(()) => mesh.end(),
        // It was told when it happened, unless it happened before anybody listened.
        Err(error) => mesh.fail(place.process, &error.to_string()),
    }
    mesh.leave();
    ran
}

/// Makes ready what the workers share; nothing if there is nothing to do, as the checkpoint of the last tick covers all.
/// `elsewhere` are lanes that other processes hold, each with its token.
fn prepare(job: Job, own: Range<usize>, elsewhere: BTreeMap<(u32, u32), Option<Tick>>) -> Option<Arc<Setup>> {
    let start = job.recovery.after();
    let newest = job.recovery.entries.last().map_or(start.tick, |entry| entry.record.tick);
    job.control.follow(start.tick);
    job.control.repeats_until(newest);
    job.observer.start(&job.graph, own.clone(), &start, &job.recovery.balance, newest);
    let all_derived = job.recovery.then == Then::Finish && job.recovery.entries.is_empty();
    if start.last || all_derived {
        return None;
    }
    let mut lanes_known = elsewhere;
    lanes_known.extend(job.lanes.iter().map(|(place, (_, token))| (*place, *token)));
    Some(Arc::new(Setup {
        own,
        lanes_known,
        graph: Arc::new(job.graph),
        recovery: job.recovery,
        lanes: Mutex::new(job.lanes),
        journal: Mutex::new(Some(job.journal)),
        state: job.state,
        commit_every: job.commit_every,
        checkpoint_every: job.checkpoint_every,
        control: job.control,
        observer: job.observer,
    }))
}

/// Does the work of one worker.
fn work(worker: &mut Worker, setup: &Setup) {
    let pace = setup.control.pace();
    pace.enter(worker.index());
    // A panic in one worker must end the job: the others would wait for it for ever.
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| worker::run(worker, setup)));
    if let Err(panic) = ran {
        setup.control.fail(EngineError::Panic(caught::panic_message(panic.as_ref())));
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
    pace.leave(worker.index());
}

/// Waits for the workers, and returns how the job ended.
fn conclude(control: &Control, guards: Result<WorkerGuards<()>, String>) -> Result<(), EngineError> {
    let guards = guards.map_err(|error| EngineError::Internal(format!("cannot start workers: {error}")))?;
    for worker in guards.join() {
        if let Err(panic) = worker {
            control.fail(EngineError::Panic(panic));
        }
    }
    match control.take_error() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Returns what workers are made of that reach the workers of other processes.
fn workers_among(mesh: &Mesh) -> Result<(Vec<AllocatorBuilder>, CommsGuard), EngineError> {
    let place = mesh.place();
    let sockets = mesh.take_data().ok_or_else(|| EngineError::Internal("a mesh carries one job".to_owned()))?;
    let hooks = Hooks::default();
    let local = ProcessBuilder::new_typed_vector(place.workers, hooks.refill.clone(), hooks.spill.clone());
    let networking = initialize_networking_from_sockets(local, sockets, place.process, place.workers, hooks);
    let (builders, guard) = networking.map_err(EngineError::thread)?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), guard))
}

/// The threads that carry batches between processes. They end when the other processes do, which a job that has failed does not
/// wait for.
struct Comms {
    guard: Option<CommsGuard>,
    control: Arc<Control>,
}

impl Drop for Comms {
    fn drop(&mut self) {
        if self.control.failed() {
            std::mem::forget(self.guard.take());
        }
    }
}

/// A running job failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A source failed, or gives other rows than at first.
    #[error("source `{source}`: {error}")]
    Source {
        /// The source's name.
        r#source: String,
        /// What happened.
        error: SourceError,
    },
    /// A bad row at a source with `on_bad_row: stop`.
    #[error("source `{source}`, split `{split}`, position {position}: {reason}")]
    BadRow {
        /// The source's name.
        r#source: String,
        /// The split's name.
        split: String,
        /// The row's position.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A step failed.
    #[error("step `{step}`: {error}")]
    Step {
        /// The step's name.
        step: String,
        /// What happened.
        error: StepError,
    },
    /// A sink failed.
    #[error("sink `{sink}`: {error}")]
    Sink {
        /// The sink's name.
        sink: String,
        /// What happened.
        error: SinkError,
    },
    /// The log or the state store failed.
    #[error(transparent)]
    Journal(JournalError),
    /// A recorded tick, derived again, gave other rows than at first.
    #[error("not deterministic: {what}, tick {tick} gave other rows when it was derived again")]
    NotDeterministic {
        /// Where it was seen.
        what: String,
        /// The tick.
        tick: Tick,
    },
    /// The watchdog found that the job stands still.
    #[error("{0}")]
    Stalled(Box<Stall>),
    /// Another process sent what is no message of this job.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The other processes of the job are lost.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A thread panicked.
    #[error("a thread panicked: {0}")]
    Panic(String),
    /// Anything else that should not be.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    fn step(node: &StepNode, error: StepError) -> EngineError {
        EngineError::Step { step: node.name.clone(), error }
    }

    fn thread(error: std::io::Error) -> EngineError {
        EngineError::Internal(format!("cannot start a thread: {error}"))
    }
}

#[cfg(test)]
mod tests;
