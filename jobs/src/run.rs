//! Runs a checked plan in this process: state, sources, sinks and the engine brought together.
//!
//! ```text
//! connect -> open state -> become the newest generation -> resolve input once -> open lanes -> recover -> engine
//! ```
//! The order is the protocol's (RELIABILITY 6.2): the generation record fences whoever ran the job before; only then are the
//! sinks asked for their tokens; only then is it decided where to begin.

mod again;
mod among;
mod discovery;
mod error;
mod preview;
mod standing;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use riverrun_dataflow::engine::{self, Control, EngineError, Identity, Lanes, Observer, Others, Snapshot};
use riverrun_dataflow::graph::SplitNode;
use riverrun_dataflow::journal::LaneToken;
use riverrun_dataflow::mesh::{Mesh, Place};
use riverrun_dataflow::sink::{Claim, Promise, Token};
use riverrun_dataflow::tick::Timeline;
use riverrun_state::{
    Begin, Holder, InputSplit, Inputs, JobSpec, JobState, KeepLog, Location, Oldest, Retention, SinkLanes, Started,
    Store, Succession,
};
use serde::{Deserialize, Serialize};

use again::{Again, Repeating};
pub(crate) use again::{balance_after, differing};
use discovery::Discovery;
pub use error::RunError;
pub(crate) use preview::Nothing;
pub use preview::{PreviewRow, preview};
use standing::Standings;

use crate::connect::{Connected, Environment};
use crate::plan::{BUILD_ID, Over, Plan};
use crate::rewind;
use crate::spec::Keep;
use crate::upgrade::same_state;

/// How a job is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where state is kept.
    pub state: Location,
    /// Worker threads of each process; at least 1.
    pub workers: usize,
    /// Start over, as a new incarnation.
    pub fresh: bool,
    /// Add to outputs that the job does not own.
    pub append: bool,
}

/// How a run ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Why it ended.
    pub ended: Ended,
    /// Where the job stands.
    pub snapshot: Snapshot,
    /// Which generation of the job this process was.
    pub generation: u64,
    /// What was said aloud: checkpoints passed over, options without effect.
    pub warnings: Vec<String>,
    /// It stopped because there are splits that it does not read yet: see [`crate::upgrade::grow`].
    #[serde(skip)]
    pub grown: bool,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All input was read and everything is flushed.
    Finished,
    /// The job had come to its end before this run.
    AlreadyFinished,
    /// It was asked to stop and goes on from here next time.
    Stopped,
}

/// The exit code of a run that its storage failed.
const STORAGE: u8 = 74;

/// What a job stands on: its places, opened, and where its state lies.
pub struct Ground {
    /// The places it reads and writes.
    pub connected: Connected,
    /// Where its state lies.
    pub store: Store,
    /// Which checkpoints are kept, unless the job keeps all.
    pub retention: Retention,
}

/// Runs `plan` until its input ends, `control` stops it, or it fails.
pub fn run(
    plan: &Plan,
    environment: &Environment,
    options: &RunOptions,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Result<Outcome, RunError> {
    let connected = plan.connect(environment)?;
    let ground = Ground { connected, store: options.state.open()?, retention: Retention::default() };
    run_on(plan, ground, options, control, observer)
}

/// Runs the part of `plan` that is this process's, like [`run`]; the other processes of `mesh` run the others.
pub fn run_among(
    plan: &Plan,
    environment: &Environment,
    options: &RunOptions,
    mesh: Arc<Mesh>,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Result<Outcome, RunError> {
    let process = mesh.place().process;
    let ran = match process {
        0 => plan.connect(environment).map_err(RunError::from).and_then(|connected| {
            let ground = Ground { connected, store: options.state.open()?, retention: Retention::default() };
            lead(plan, ground, options, Some(mesh.clone()), control, observer)
        }),
        _ => among::follow(plan, environment, options, mesh.clone(), control, observer),
    };
    if let Err(error) = &ran {
        // Once the engine runs it has said so itself: the first reason counts.
        mesh.fail(process, &error.to_string());
    }
    ran
}

/// Runs `plan` like [`run`], on places and a store that are given.
pub fn run_on(
    plan: &Plan,
    ground: Ground,
    options: &RunOptions,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Result<Outcome, RunError> {
    lead(plan, ground, options, None, control, observer)
}

/// Runs `plan` in the process that writes its log, alone or with the other processes of `mesh`.
fn lead(
    plan: &Plan,
    ground: Ground,
    options: &RunOptions,
    mesh: Option<Arc<Mesh>>,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Result<Outcome, RunError> {
    let Ground { mut connected, store, retention } = ground;
    let own = mesh.as_ref().map_or(Own::all(options.workers), |mesh| Own::of(mesh.place()));
    let mut started = open(plan, &connected, store, retention, (options.fresh, own.of))?;
    let mut warnings = Warnings::default();
    if started.inputs().is_none() {
        assert!(!matches!(plan.past, Some(Over::Ticks(_))), "recorded ticks are copied before they are run");
        let (shape, asked) = (Some(plan.shape().clone()), plan.past.as_ref().map(|past| past.asked().to_owned()));
        let inputs = Inputs { shape, asked, ..resolve(&connected, &control)? };
        started.append_inputs(inputs)?;
    }
    let inputs = started.inputs().cloned().expect("resolved just now or before");
    can_be_read(plan, &inputs)?;
    let again = Again::of(plan, &inputs)?;
    goes_on_as_it_began(plan, &mut connected, &inputs, &mut warnings)?;
    as_created(&mut connected, started.lanes());
    let claims = Claims::of(&started, options);
    // The first lane of every sink is opened here: what it takes to have the others is done once, before anybody opens them.
    let (mut lanes, mut tokens) = open_lanes(plan, &connected, &claims, &own)?;
    again.iter().for_each(|again| again.begin_late(&mut lanes, &mut tokens));
    let elsewhere = mesh.as_ref().map(|mesh| among::gather(mesh, &started, &inputs, &claims)).transpose()?;
    let tokens = among::with_others(&connected, tokens, elsewhere.as_ref().unwrap_or(&BTreeMap::new()));
    let (generation, floors, succession) = (started.generation(), started.floors(), started.succession());
    let oldest = started.oldest();
    observer.identify(identity(plan, &started, own.of));
    let (recovery, parts) = started.recover(&tokens)?;
    recovery.warnings.iter().for_each(|warning| warnings.say(warning.clone()));
    let graph = plan.graph(&connected, by_source(&inputs));
    let mut resume = among::Resume::of(recovery, floors, Timeline::start(graph.sources.len(), inputs.now));
    let again = again.map(|again| again.begin(&mut resume));
    mesh.iter().for_each(|mesh| among::resume(mesh, &resume));
    let finished = resume.finished;
    let job = engine::Job {
        graph,
        workers: options.workers,
        recovery: resume.recovery,
        lanes,
        journal: parts.journal,
        state: parts.states,
        commit_every: plan.settings().commit_every,
        checkpoint_every: plan.settings().checkpoint_every,
        control: control.clone(),
        observer: observer.clone(),
    };
    let (discovery, standing) = beside(&connected, (&inputs, oldest), &control, &observer)?;
    let ran = match mesh {
        None => engine::run(job),
        Some(mesh) => engine::run_among(job, Others { mesh, lanes: elsewhere.unwrap_or_default() }),
    };
    ran.map_err(|error| why(error, &succession))?;
    standing.finish();
    let snapshot = observer.snapshot();
    let ended = ended(finished, &snapshot, again.as_ref())?;
    let grown = discovery.end() && ended == Ended::Stopped;
    Ok(Outcome { ended, snapshot, generation, warnings: warnings.0, grown })
}

/// The workers of this process, of all workers of the job.
struct Own {
    workers: Range<usize>,
    of: usize,
}

impl Own {
    fn all(workers: usize) -> Own {
        Own { workers: 0..workers, of: workers }
    }

    fn of(place: Place) -> Own {
        Own { workers: place.own(), of: place.all() }
    }
}

/// Starts what goes on beside the job, for as long as it runs.
fn beside(
    connected: &Connected,
    (inputs, oldest): (&Inputs, Oldest),
    control: &Arc<Control>,
    observer: &Arc<Observer>,
) -> Result<(Discovery, Standings), EngineError> {
    let failed = |error| EngineError::Internal(format!("cannot start a thread: {error}"));
    let discovery = Discovery::start(connected, inputs, control).map_err(failed)?;
    Ok((discovery, Standings::start(connected, (inputs, oldest), observer).map_err(failed)?))
}

/// Has a job go on with what it began with, and says what was asked for otherwise. What it reads is resolved once: whether topics end
/// is decided when it begins, not at every restart. Who asks for an end that will not come is not left waiting for it.
fn goes_on_as_it_began(
    plan: &Plan,
    connected: &mut Connected,
    inputs: &Inputs,
    warnings: &mut Warnings,
) -> Result<(), RunError> {
    if let (Some(began), Some(asked)) = (&inputs.asked, plan.past.as_ref().map(Over::asked))
        && began != asked
    {
        warnings.say(rewind::bounds_differ(plan.name(), began, asked));
    }
    for source in connected.sources.iter_mut().filter(|source| !source.fixed) {
        let mut own = inputs.splits.iter().filter(|split| split.source == source.name);
        let bounded = own.all(|split| split.spec.end.is_some());
        if bounded != source.bounded {
            match (plan.past.is_some(), bounded) {
                (true, _) => {}
                (false, true) => warnings.say(ends_all_the_same(plan.name(), &source.name)),
                (false, false) => {
                    return Err(RunError::Endless { job: plan.name().to_owned(), source_name: source.name.clone() });
                }
            }
            source.bounded = bounded;
        }
    }
    Ok(())
}

/// Gives sinks the lanes that they had when the job was created: lanes outlive rescaling and new partitions.
fn as_created(connected: &mut Connected, lanes: &[SinkLanes]) {
    for sink in &mut connected.sinks {
        if let Some(created) = lanes.iter().find(|created| created.sink == sink.name) {
            sink.lanes = created.lanes;
        }
    }
}

/// Returns why a run ended: `finished` says that the job was before it began. One that derives ticks `again` has its own end.
fn ended(finished: bool, snapshot: &Snapshot, again: Option<&Repeating>) -> Result<Ended, RunError> {
    let last = again.map_or(Ok(snapshot.last), |again| again.is_through(snapshot))?;
    Ok(match (finished, last) {
        (true, _) => Ended::AlreadyFinished,
        (false, true) => Ended::Finished,
        (false, false) => Ended::Stopped,
    })
}

/// Returns which run of which job this is.
fn identity(plan: &Plan, started: &Started, workers: usize) -> Identity {
    Identity {
        incarnation: started.incarnation().to_owned(),
        generation: started.generation(),
        plan: plan.hash().to_owned(),
        build: BUILD_ID.to_owned(),
        workers,
    }
}

/// Says why the engine failed: what a later generation has cleared away is no failure of the storage.
fn why(error: EngineError, succession: &Succession) -> RunError {
    let failed = RunError::from(error);
    let fenced = if failed.exit_code() == STORAGE { succession.fenced() } else { None };
    fenced.map_or(failed, RunError::from)
}

/// What must be said aloud: at once, for a live job may run for months, and again in the outcome.
#[derive(Default)]
struct Warnings(Vec<String>, Unsaid);

/// Whether warnings are for somebody else to say.
#[derive(Default, PartialEq, Eq)]
enum Unsaid {
    #[default]
    No,
    Yes,
}

impl Warnings {
    /// Returns warnings that another process says.
    fn unsaid() -> Warnings {
        Warnings(Vec::new(), Unsaid::Yes)
    }

    fn say(&mut self, warning: String) {
        if self.1 == Unsaid::No {
            tracing::warn!(target: "riverrun", "{warning}");
        }
        self.0.push(warning);
    }
}

/// Opens the job's state and becomes its newest generation.
fn open(
    plan: &Plan,
    connected: &Connected,
    store: Store,
    retention: Retention,
    (fresh, workers): (bool, usize),
) -> Result<Started, RunError> {
    let spec = JobSpec {
        job: plan.name().to_owned(),
        plan: plan.hash().to_owned(),
        build: BUILD_ID.to_owned(),
        shards: plan.settings().shards,
        lanes: connected.sinks.iter().map(|sink| SinkLanes { sink: sink.name.clone(), lanes: sink.lanes }).collect(),
        begin: if fresh { Begin::Fresh } else { Begin::Continue },
        holder: Holder::here(workers),
    };
    let mut started = JobState::open(store, spec)?.start()?;
    started.retain(match plan.settings().journal_keep {
        Keep::All => Retention { log: KeepLog::All, ..retention },
        Keep::Needed => retention,
    });
    Ok(started)
}

/// Fails if a build that keeps state otherwise wrote the job's.
fn can_be_read(plan: &Plan, inputs: &Inputs) -> Result<(), RunError> {
    match inputs.shape.as_ref().is_none_or(|shape| same_state(shape, plan.shape())) {
        true => Ok(()),
        false => Err(RunError::Upgrade(format!(
            "the state of job `{}` was written by a build that keeps it otherwise than {BUILD_ID}\n  hint: drain the job with the build it had, then upgrade it with this one: `riverrun upgrade JOB`",
            plan.name()
        ))),
    }
}

/// Finds the splits of all sources, numbered in the order of (source, split name).
fn resolve(connected: &Connected, control: &Control) -> Result<Inputs, RunError> {
    let sources: Vec<String> = connected.sources.iter().map(|source| source.name.clone()).collect();
    let found = connected.splits()?;
    let named =
        sources.iter().zip(found).flat_map(|(source, splits)| splits.into_iter().map(move |node| (source, node)));
    let splits =
        named.map(|(source, node)| InputSplit { id: node.id, source: source.clone(), spec: node.spec }).collect();
    // On bounded input even the clock is a function of the data.
    let now = if connected.bounded() { i64::MIN } else { control.pace().wall() };
    Ok(Inputs { now, sources, splits, ..Inputs::default() })
}

/// Returns the splits of each source.
pub(crate) fn by_source(inputs: &Inputs) -> Vec<Vec<SplitNode>> {
    let of = |name: &String| {
        let own = inputs.splits.iter().filter(|split| split.source == *name);
        own.map(|split| SplitNode { id: split.id, spec: split.spec.clone() }).collect()
    };
    inputs.sources.iter().map(of).collect()
}

fn ends_all_the_same(job: &str, source: &str) -> String {
    format!(
        "source `{source}` of job `{job}` was begun with --until-end: it ends where the topic ended then; start over with --fresh to change that"
    )
}

/// On whose behalf lanes are opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    incarnation: String,
    generation: u64,
    fresh: bool,
    append: bool,
}

impl Claims {
    fn of(started: &Started, options: &RunOptions) -> Claims {
        Claims {
            incarnation: started.incarnation().to_owned(),
            generation: started.generation(),
            fresh: started.is_new() && started.file().fresh,
            append: options.append,
        }
    }

    fn on(&self, job: &str, sink: &str) -> Claim {
        let Claims { incarnation, generation, fresh, append } = self.clone();
        Claim { job: job.to_owned(), incarnation, sink: sink.to_owned(), generation, fresh, append }
    }
}

/// Opens the lanes of the workers `own`, which fences older generations there, and returns them with the tokens of the exactly-once
/// ones.
fn open_lanes(
    plan: &Plan,
    connected: &Connected,
    claims: &Claims,
    own: &Own,
) -> Result<(Lanes, Vec<LaneToken>), RunError> {
    let mut lanes = Lanes::new();
    let mut tokens = Vec::new();
    for (index, sink) in connected.sinks.iter().enumerate() {
        let claim = claims.on(plan.name(), &sink.name);
        let index = u32::try_from(index).expect("fewer sinks than u32");
        for lane in (0..sink.lanes).filter(|lane| own.workers.contains(&engine::holder(*lane, sink.lanes, own.of))) {
            let (opened, token) = sink.sink.open(lane, &claim).map_err(|error| RunError::sink(&sink.name, error))?;
            let tick = committed(token, &claim);
            lanes.insert((index, lane), (opened, tick));
            if sink.promise == Promise::ExactlyOnce {
                tokens.push(LaneToken { sink: index, lane, tick: tick.unwrap_or(0) });
            }
        }
    }
    Ok((lanes, tokens))
}

/// Returns the tick of a token; one of another incarnation counts as none.
pub(crate) fn committed(token: Option<Token>, claim: &Claim) -> Option<u64> {
    token.filter(|token| token.incarnation == claim.incarnation).map(|token| token.tick)
}
