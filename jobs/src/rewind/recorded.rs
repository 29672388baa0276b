//! Recorded ticks of a job once more, as a job of its own: the bytes that the live run wrote, in a namespace of their own.
//!
//! ```text
//! plan.repeated(recorded) -> job `JOB@NAME` -> transcribe (a copy of the ticks, once) -> derive, may be killed and goes on
//! ```
//! A copy, for the job goes on and collects its ticks; and with it a run has nothing to be told: it finds recorded ticks, as any run
//! after a crash does, and derives them. Input is read at the recorded positions, and all bytes are compared with their digests.

use std::sync::Arc;

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_dataflow::tick::Tick;
use riverrun_state::transcript::{self, Copied, Kept};
use riverrun_state::{Begin, Holder, JobSpec, JobState, Past, Retention, Stretch, Wanted};

use super::throttle::Throttle;
use crate::connect::Environment;
use crate::plan::{BUILD_ID, Over, Plan};
use crate::run::{Ground, Outcome, RunError, RunOptions, run_on};

/// Ticks that a job recorded, to be derived again in a namespace of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What the namespace is called.
    pub name: String,
    /// The first tick whose rows are written; `None`: the first that can be.
    pub from: Option<Tick>,
    /// The last tick; `None`: the last that is recorded.
    pub to: Option<Tick>,
    /// Both as they were written.
    pub asked: String,
}

impl Plan {
    /// Returns the plan over the ticks that `recorded` names, in the namespace of its name.
    pub fn repeated(&self, recorded: &Recorded) -> Plan {
        let mut plan = self.in_namespace(&recorded.name);
        plan.past = Some(Over::Ticks(recorded.asked.clone()));
        plan
    }
}

/// Makes sure that `replay`, which is `plan` over recorded ticks, has its copy of them. The job of `plan` is not touched, and no longer
/// needed once this returns.
pub fn transcribe(plan: &Plan, replay: &Plan, recorded: &Recorded, options: &RunOptions) -> Result<(), RunError> {
    let kept = match options.fresh {
        true => Kept::Nothing,
        false => transcript::look(Arc::new(options.state.open()?), replay.name())?,
    };
    let (from, to) = match kept {
        Kept::Whole(_) => return Ok(()),
        Kept::Part(Stretch { from, to, .. }) => (Some(from), Some(to)),
        Kept::Nothing => (recorded.from, recorded.to),
    };
    let wanted = Wanted { job: plan.name(), plan: plan.hash(), build: BUILD_ID, from, to };
    let past = Past::read(options.state.open()?, &wanted)?;
    for warning in &past.warnings {
        tracing::warn!(target: "riverrun", "{warning}");
    }
    let spec = JobSpec {
        job: replay.name().to_owned(),
        plan: replay.hash().to_owned(),
        build: BUILD_ID.to_owned(),
        // As the job has had them: digests are of lanes, and state lies by shards.
        shards: past.file.shards,
        lanes: past.file.lanes.clone(),
        begin: if options.fresh { Begin::Fresh } else { Begin::Continue },
        holder: Holder::here(options.workers),
    };
    let copied = Copied { from: recorded.from, asked: &recorded.asked };
    Ok(JobState::open(options.state.open()?, spec)?.transcribe(&past, &copied)?)
}

/// Runs a replay that has its copy until all its ticks are derived, `control` stops it, or something differs.
pub fn derive(
    replay: &Plan,
    environment: &Environment,
    options: &RunOptions,
    throttle: Throttle,
    (control, observer): (Arc<Control>, Arc<Observer>),
) -> Result<Outcome, RunError> {
    let mut connected = replay.connect(environment)?;
    throttle.start(&control, observer.clone()).hold_back(&mut connected);
    let ground = Ground { connected, store: options.state.open()?, retention: Retention::default() };
    let options = RunOptions { fresh: false, ..options.clone() };
    run_on(replay, ground, &options, control, observer).map_err(|error| match error {
        RunError::Engine(error) => RunError::Replay(error),
        other => other,
    })
}
