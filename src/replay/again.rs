//! `riverrun replay --recorded --as NAME`: what a job did before, once more, as a job of its own beside it.

use std::time::Instant;

use riverrun_jobs::Plan;
use riverrun_jobs::rewind::{self, Recorded, Throttle};
use riverrun_jobs::run::{Ended, Outcome, RunOptions};
use riverrun_state::{Inputs, Stretch};
use serde::Serialize;

use super::past::{Output, inputs, now, show};
use super::recorded::no_replay;
use crate::admin::Steering;
use crate::args::{Global, ReplayArgs};
use crate::exit::Done;
use crate::output::grouped;
use crate::run::{Role, Stopping, existing_state, location, once};
use crate::savepoint::OnStop;
use crate::{job, supervised};

/// Derives recorded ticks again in the namespace `name`.
pub fn replay(args: &ReplayArgs, name: &str, global: &Global) -> Done {
    let stopping = Stopping::listen(global.quiet)?;
    let live = job::plan(&args.job.job, &args.job.set, global)?;
    let recorded = asked(args, name);
    let plan = live.repeated(&recorded);
    let environment = job::environment(&args.job, false);
    existing_state(&args.state)?;
    let state = location(&args.state)?;
    let steering = Steering::of(&args.watch, &plan, &state, &stopping, Role::Leads)?;
    let options = RunOptions {
        state: state.clone(),
        workers: job::workers(args.workers),
        fresh: args.fresh,
        append: args.append,
    };
    let begun = now();
    rewind::transcribe(&live, &plan, &recorded, &options).map_err(|error| no_replay(error, global))?;
    let inputs = inputs(&state, plan.name(), global)?;
    if !global.quiet {
        announce(&plan, &recorded, &inputs);
    }
    let throttle = Throttle { rows_per_second: args.rate, speed: args.speed };
    let outcome = once(&args.watch, &plan, &state, &stopping, steering.as_ref(), global, |control, observer| {
        rewind::derive(&plan, &environment, &options, throttle, (control, observer))
    })?;
    if outcome.ended != Ended::Stopped {
        supervised::finished();
    }
    if let Some(name) = stopping.savepoint() {
        OnStop { state: &state, job: plan.name(), name: &name }.make(&outcome)?;
    }
    let report = Report::of((&live, &plan), &recorded, &outcome, &inputs, begun);
    report.say(global);
    show(&report, &outcome, global)
}

fn asked(args: &ReplayArgs, name: &str) -> Recorded {
    let (from, to) = (args.from_tick, args.to_tick);
    let bound = |option: &str, tick: Option<u64>| tick.map(|tick| format!(" {option} {tick}")).unwrap_or_default();
    let asked = format!("--recorded{}{}", bound("--from-tick", from), bound("--to-tick", to));
    Recorded { name: name.to_owned(), from, to, asked }
}

/// Returns the ticks that are derived again.
fn stretch(inputs: &Inputs) -> &Stretch {
    inputs.recorded.as_ref().expect("a replay of recorded ticks has its copy of them")
}

/// Says what will be derived, and where its rows go.
fn announce(plan: &Plan, recorded: &Recorded, inputs: &Inputs) {
    let Stretch { from, to, .. } = stretch(inputs);
    eprintln!("replay `{}`: job `{}`, recorded ticks {from} to {to}", recorded.name, plan.name());
    for (sink, place) in plan.outputs() {
        eprintln!("  {sink} goes to {place}");
    }
}

/// What the replay tells to programs.
#[derive(Serialize)]
struct Report<'a> {
    job: &'a str,
    replay: &'a str,
    /// The job that recorded the ticks.
    of: &'a str,
    /// What was asked for when the replay began.
    asked: &'a str,
    ticks: Ticks,
    outputs: Vec<Output<'a>>,
    seconds: f64,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// The ticks whose rows are written.
#[derive(Serialize)]
struct Ticks {
    from: u64,
    to: u64,
}

impl<'a> Report<'a> {
    fn of(
        (live, plan): (&'a Plan, &'a Plan),
        recorded: &'a Recorded,
        outcome: &'a Outcome,
        inputs: &'a Inputs,
        begun: Instant,
    ) -> Report<'a> {
        let Stretch { from, to, .. } = *stretch(inputs);
        Report {
            job: plan.name(),
            replay: &recorded.name,
            of: live.name(),
            asked: inputs.asked.as_deref().unwrap_or(&recorded.asked),
            ticks: Ticks { from, to },
            outputs: Output::of(plan),
            seconds: begun.elapsed().as_millis() as f64 / 1000.0,
            outcome,
        }
    }

    /// Says how it ended.
    fn say(&self, global: &Global) {
        if global.quiet {
            return;
        }
        let Report { job, of, ticks: Ticks { from, to }, seconds, .. } = self;
        match self.outcome.ended {
            Ended::Finished => eprintln!(
                "job `{job}` is finished: it wrote what `{of}` wrote in ticks {} to {}, byte for byte; {seconds:.1} s",
                grouped(*from),
                grouped(*to)
            ),
            Ended::AlreadyFinished => eprintln!(
                "job `{job}` (ticks {from} to {to}) was finished before; nothing was done\n  hint: --fresh begins anew, another --as is another replay"
            ),
            Ended::Stopped => eprintln!("job `{job}` stopped; the same command goes on from here"),
        }
    }
}
