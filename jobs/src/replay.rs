//! Recorded replay: the ticks of a job's journal once more, into files, beside the job.
//!
//! ```text
//! claim the folder -> read the past -> connect sources, a file per lane -> engine, to the last recorded tick -> replay.json
//! ```
//! The job may be running: nothing of it is locked or written. Input is read at the recorded positions and compared with its
//! checksums; every lane's rows of every tick are compared with the digest in the journal. So a replay that comes to its end
//! has derived the bytes of the live run, whatever its number of workers, and only then is `replay.json` written.

mod files;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use riverrun_dataflow::engine::{self, Control, EngineError, Lanes, Observer, Then};
use riverrun_dataflow::journal::{CheckpointParts, Journal, JournalEntry, JournalError};
use riverrun_dataflow::sink::Promise;
use riverrun_dataflow::tick::{Tick, Timeline};
use riverrun_state::{Inputs, Past, Store, Wanted};
use serde::Serialize;

use crate::connect::{Connected, Environment, OpenSink};
use crate::plan::{BUILD_ID, Plan};
use crate::run::{RunError, balance_after, by_source, differing};
use files::{Files, Folder};

pub use files::{LaneFile, LeftOut};

/// What is replayed, and where to.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// Where the job's state is.
    pub state: Store,
    /// The folder for the files; made if it is not there, and it must be empty.
    pub out: PathBuf,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// The first tick whose rows are written; `None`: the first that can be.
    pub from: Option<Tick>,
    /// The last tick; `None`: the last that is recorded.
    pub to: Option<Tick>,
}

/// What was derived again. Does not depend on the number of workers.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The job.
    pub job: String,
    /// Its incarnation.
    pub incarnation: String,
    /// Hash of its plan.
    pub plan: String,
    /// The build.
    pub build: String,
    /// It began from the checkpoint at this tick; 0: from the beginning of the job.
    pub checkpoint: Tick,
    /// The first tick whose rows are in the files.
    pub from: Tick,
    /// The last one.
    pub to: Tick,
    /// The last one is the job's last: all is flushed.
    pub finished: bool,
    /// Ticks derived again, all with the digests that the journal has.
    pub ticks: u64,
    /// Records read again, all with the checksums that the journal has.
    pub records: u64,
    /// Rows in the files.
    pub rows: u64,
    /// The files, by sink and lane.
    pub files: Vec<LaneFile>,
}

/// How a replay ended.
#[derive(Clone, Debug)]
pub enum ReplayEnd {
    /// It came to its end.
    Whole(Replayed),
    /// It was stopped after this tick: the files end there.
    Stopped(Tick),
}

/// Derives recorded ticks of `plan` again, until the last one, `control` stops it, or something differs.
pub fn replay(
    plan: &Plan,
    environment: &Environment,
    options: &ReplayOptions,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Result<ReplayEnd, RunError> {
    let folder = Folder::claim(&options.out)?;
    let wanted = Wanted { job: plan.name(), plan: plan.hash(), build: BUILD_ID, from: options.from, to: options.to };
    let past = Past::read(options.state.clone(), &wanted)?;
    for warning in &past.warnings {
        tracing::warn!(target: "riverrun", "{warning}");
    }
    let files = Files::of(plan, &past.file, folder)?;
    let connected = connect(plan, environment, &files, &past.inputs)?;
    let mut replayed = Replayed::of(plan, &past, options.from);
    let before = past.base.as_ref().map(|base| base.parts.balance.clone()).unwrap_or_default();
    let balance = balance_after(before, &past.entries);
    // What a lane has by its token is compared with its digest and dropped: so are the ticks before the first wanted one.
    let token = (replayed.from > 1).then(|| replayed.from - 1);
    let lanes = files.open()?.into_iter().map(|(place, lane)| (place, (lane, token))).collect::<Lanes>();
    let graph = plan.graph(&connected, by_source(&past.inputs));
    let start = Timeline::start(graph.sources.len(), past.inputs.now);
    let job = engine::Job {
        graph,
        workers: options.workers,
        state: past.states.clone(),
        recovery: recovery(past, start),
        lanes,
        journal: Box::new(Closed),
        commit_every: Duration::ZERO,
        checkpoint_every: Duration::MAX,
        control,
        observer: observer.clone(),
    };
    engine::run(job).map_err(RunError::Replay)?;
    let snapshot = observer.snapshot();
    if snapshot.tick < replayed.to {
        return Ok(ReplayEnd::Stopped(snapshot.tick));
    }
    if let Some(name) = differing(&balance, &snapshot.balance) {
        let what = format!("the balance of `{name}`");
        return Err(RunError::Replay(EngineError::NotDeterministic { what, tick: replayed.to }));
    }
    replayed.files = files.written();
    replayed.rows = replayed.files.iter().map(|file| file.rows).sum();
    files.seal(&replayed)?;
    Ok(ReplayEnd::Whole(replayed))
}

impl Replayed {
    /// Returns what will have been derived again, as far as the past tells.
    fn of(plan: &Plan, past: &Past, from: Option<Tick>) -> Replayed {
        let checkpoint = past.base.as_ref().map_or(0, |base| base.parts.tick);
        let last = &past.entries.last().expect("a past has ticks").record;
        Replayed {
            job: plan.name().to_owned(),
            incarnation: past.file.incarnation.clone(),
            plan: plan.hash().to_owned(),
            build: BUILD_ID.to_owned(),
            checkpoint,
            from: from.unwrap_or(checkpoint + 1),
            to: last.tick,
            finished: last.last,
            ticks: past.entries.len() as u64,
            records: past.entries.iter().flat_map(|entry| &entry.record.splits).map(|mark| mark.rows).sum(),
            rows: 0,
            files: Vec::new(),
        }
    }
}

/// Opens the sources as the job has them, with files in the place of its sinks.
fn connect(plan: &Plan, environment: &Environment, files: &Files, inputs: &Inputs) -> Result<Connected, RunError> {
    let mut connected = plan.connect_to(environment, |planned| {
        let (sink, lanes) = files.sink(&planned.name);
        let promise = Promise::AtLeastOnce;
        Ok(OpenSink { name: planned.name.clone(), sink, encoder: planned.encoder_on(environment)?, lanes, promise })
    })?;
    for source in connected.sources.iter_mut().filter(|source| !source.fixed) {
        let mut own = inputs.splits.iter().filter(|split| split.source == source.name);
        source.bounded = own.all(|split| split.spec.end.is_some());
    }
    Ok(connected)
}

/// Returns where the engine begins, and that it ends with the past.
fn recovery(past: Past, start: Timeline) -> engine::Recovery {
    let Past { base, entries, floors, .. } = past;
    match base.map(|base| base.parts) {
        Some(CheckpointParts { before, recent, balance, .. }) => {
            engine::Recovery { before, recent, entries, balance, floors, then: Then::End }
        }
        None => engine::Recovery { before: start, entries, then: Then::End, ..engine::Recovery::default() },
    }
}

/// The journal of a job that makes no tick final: it is never asked.
struct Closed;

impl Journal for Closed {
    fn append_ticks(&mut self, entries: &[JournalEntry]) -> Result<(), JournalError> {
        unreachable!("{} ticks were cut where all are recorded", entries.len())
    }

    fn append_checkpoint(&mut self, parts: CheckpointParts) -> Result<(), JournalError> {
        unreachable!("a checkpoint was taken at tick {} where none is", parts.tick)
    }
}
