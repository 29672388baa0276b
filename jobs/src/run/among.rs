//! A job in several processes: how they come to run the same thing.
//!
//! ```text
//! process 0                                            each other process
//!   becomes the newest generation
//!   resolves input, opens its lanes   -- Begin ------->  connects, opens the folder and its lanes
//!   decides where to begin            <------ Opened --  (which fences older generations there)
//!   by the tokens of all lanes        -- Resume ------>  restores the shards of its workers
//!   runs                                                 runs
//! ```
//! The order is that of [`super`]: nobody opens a lane before the generation is in the log, and nobody begins before every token
//! is known. Only process 0 writes to the log; the others write state files, which its checkpoints name.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::engine::{self, Control, Identity, Observer, Others};
use riverrun_dataflow::journal::LaneToken;
use riverrun_dataflow::mesh::{Mesh, Place};
use riverrun_dataflow::sink::Promise;
use riverrun_dataflow::tick::{Floor, Tick, Timeline};
use riverrun_state::{Followed, Following, Inputs, Recovery, SinkLanes, Started};
use serde::{Deserialize, Serialize};

use super::{
    Claims, Ended, Nothing, Outcome, Own, RunError, RunOptions, Warnings, as_created, by_source, ended,
    goes_on_as_it_began, open_lanes,
};
use crate::connect::{Connected, Environment};
use crate::plan::{BUILD_ID, Plan};

/// What process 0 tells before lanes are opened.
#[derive(Serialize, Deserialize)]
struct Begin {
    followed: Followed,
    inputs: Inputs,
    lanes: Vec<SinkLanes>,
    claims: Claims,
}

/// The lanes that a process has opened, each with its token.
#[derive(Serialize, Deserialize)]
struct Opened {
    lanes: Vec<(u32, u32, Option<Tick>)>,
}

/// Where the job goes on.
#[derive(Serialize, Deserialize)]
pub(super) struct Resume {
    /// The log record of the checkpoint that is restored.
    pub checkpoint: Option<u64>,
    /// The job had come to its end before.
    pub finished: bool,
    /// The rest.
    pub recovery: engine::Recovery,
}

impl Resume {
    /// Returns where a job goes on; `start` is where it stands before its first tick.
    pub fn of(recovery: Recovery, floors: BTreeMap<String, Floor>, start: Timeline) -> Resume {
        let checkpoint = recovery.checkpoint.as_ref().map(|restored| restored.seq);
        let finished = recovery.finished;
        Resume { checkpoint, finished, recovery: engine::Recovery { floors, ..recovery.resume(start) } }
    }
}

/// Tells the other processes how the job begins, and returns the tokens of the lanes that they have opened.
pub(super) fn gather(
    mesh: &Mesh,
    started: &Started,
    inputs: &Inputs,
    claims: &Claims,
) -> Result<BTreeMap<(u32, u32), Option<Tick>>, RunError> {
    let (followed, lanes) = (started.followed(), started.lanes().to_vec());
    let begin = Begin { followed, inputs: inputs.clone(), lanes, claims: claims.clone() };
    mesh.others().for_each(|process| mesh.say(process, &begin));
    let mut tokens = BTreeMap::new();
    for process in mesh.others() {
        let opened: Opened = mesh.hear(process)?;
        tokens.extend(opened.lanes.into_iter().map(|(sink, lane, tick)| ((sink, lane), tick)));
    }
    Ok(tokens)
}

/// Adds the tokens of lanes that other processes hold to those of this one's. A lane that nobody has opened counts as one that never
/// committed; the checkpoint decides what that means.
pub(super) fn with_others(
    connected: &Connected,
    own: Vec<LaneToken>,
    others: &BTreeMap<(u32, u32), Option<Tick>>,
) -> Vec<LaneToken> {
    let mut tokens = own;
    for ((sink, lane), tick) in others {
        if connected.sinks.get(*sink as usize).is_some_and(|open| open.promise == Promise::ExactlyOnce) {
            tokens.push(LaneToken { sink: *sink, lane: *lane, tick: tick.unwrap_or(0) });
        }
    }
    tokens.sort_by_key(|token| (token.sink, token.lane));
    tokens
}

/// Tells the other processes where the job goes on.
pub(super) fn resume(mesh: &Mesh, resume: &Resume) {
    mesh.others().for_each(|process| mesh.say(process, resume));
}

/// Runs the part of a job that is a process's which does not lead.
pub(super) fn follow(
    plan: &Plan,
    environment: &Environment,
    options: &RunOptions,
    mesh: Arc<Mesh>,
    control: Arc<Control>,
    observer: Arc<Observer>,
) -> Result<Outcome, RunError> {
    let place = mesh.place();
    let mut connected = plan.connect(environment)?;
    let Begin { followed, inputs, lanes, claims } = mesh.hear(0)?;
    let following = Following::open(options.state.open()?, &followed)?;
    // Process 0 says what there is to be said.
    goes_on_as_it_began(plan, &mut connected, &inputs, &mut Warnings::unsaid())?;
    as_created(&mut connected, &lanes);
    let (lanes, _) = open_lanes(plan, &connected, &claims, &Own::of(place))?;
    let tokens = lanes.iter().map(|((sink, lane), (_, token))| (*sink, *lane, *token)).collect();
    mesh.say(0, &Opened { lanes: tokens });
    let Resume { checkpoint, finished, recovery } = mesh.hear(0)?;
    observer.identify(identity(plan, &followed, place));
    let job = engine::Job {
        graph: plan.graph(&connected, by_source(&inputs)),
        workers: place.workers,
        recovery,
        lanes,
        journal: Box::new(Nothing),
        state: following.states(checkpoint)?,
        commit_every: plan.settings().commit_every,
        checkpoint_every: plan.settings().checkpoint_every,
        control: control.clone(),
        observer: observer.clone(),
    };
    engine::run_among(job, Others { mesh, lanes: BTreeMap::new() })?;
    let snapshot = observer.snapshot();
    let ended = ended(finished, &snapshot, None)?;
    let (generation, warnings) = (followed.generation, Vec::new());
    Ok(Outcome { ended, snapshot, generation, warnings, grown: control.goes_on() && ended == Ended::Stopped })
}

fn identity(plan: &Plan, followed: &Followed, place: Place) -> Identity {
    Identity {
        incarnation: followed.incarnation.clone(),
        generation: followed.generation,
        plan: plan.hash().to_owned(),
        build: BUILD_ID.to_owned(),
        workers: place.all(),
    }
}
