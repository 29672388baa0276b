//! `riverrun replay --from T --to T`: past input through a job, as a job of its own beside it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use riverrun_jobs::Plan;
use riverrun_jobs::rewind::{self, Live, Moment, Rewind, Throttle};
use riverrun_jobs::run::{Ended, Outcome, RunOptions};
use riverrun_state::record::Inputs;
use riverrun_state::{Location, inspect};
use serde::Serialize;

use crate::admin::Steering;
use crate::args::{Global, RangeArgs, ReplayArgs};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{self, Format, Stdout, grouped};
use crate::run::{Role, Stopping, failed, location, once};
use crate::savepoint::OnStop;
use crate::{supervised, upgrade};

/// Runs a job over its past.
pub fn replay(args: &ReplayArgs, global: &Global) -> Done {
    let stopping = Stopping::listen(global.quiet)?;
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let rewind = rewind(&asked(args)?, plan.name())?;
    let plan = plan.rewound(&rewind).map_err(|reason| Failure::new(Exit::Usage, reason))?;
    let environment = job::environment(&args.job, !args.then_live);
    let state = location(&args.state)?;
    let steering = Steering::of(&args.watch, &plan, &state, &stopping, Role::Leads)?;
    if !global.quiet {
        announce(&plan, &rewind);
    }
    let mut options = RunOptions {
        state: state.clone(),
        workers: job::workers(args.workers),
        fresh: args.fresh,
        append: args.append,
    };
    let throttle = Throttle { rows_per_second: args.rate, speed: args.speed };
    let (begun, live) = (now(), Arc::new(Mutex::new(None)));
    let outcome = loop {
        if !options.fresh {
            upgrade::grow(&plan, &environment, &state, global)?;
        }
        let on_live = told(plan.name(), live.clone(), begun, global.quiet);
        let outcome = once(&args.watch, &plan, &state, &stopping, steering.as_ref(), global, |control, observer| {
            rewind::run(&plan, &environment, &options, throttle, (control, observer), on_live)
        })?;
        // A drain that came too late for this life is for the next one.
        if !outcome.grown || stopping.is_asked() && !stopping.drains() {
            break outcome;
        }
        options.fresh = false;
    };
    if outcome.ended != Ended::Stopped {
        supervised::finished();
    }
    if let Some(name) = stopping.savepoint() {
        OnStop { state: &state, job: plan.name(), name: &name }.make(&outcome)?;
    }
    let went_live = *live.lock().unwrap_or_else(PoisonError::into_inner);
    let inputs = inputs(&state, plan.name(), global)?;
    let report = Report::of(&plan, &rewind, &outcome, &inputs, went_live, begun.elapsed());
    report.say(global);
    report.show(global)
}

#[expect(clippy::disallowed_methods, reason = "how long a replay took is shown to a person; no row sees it")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// A past as it is asked for, not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where topics begin.
    pub from: &'a str,
    /// Where they end.
    pub to: Option<&'a str>,
    /// They do not end.
    pub then_live: bool,
    /// What the replay is called.
    pub name: Option<&'a str>,
}

fn asked(args: &ReplayArgs) -> Result<Asked<'_>, Failure> {
    let RangeArgs { from, to } = &args.range;
    let from = from.as_deref().ok_or_else(nothing_asked)?;
    Ok(Asked { from, to: to.as_deref(), then_live: args.then_live, name: args.name.as_deref() })
}

/// Returns the failure of who does not say what is to be replayed.
pub fn nothing_asked() -> Failure {
    let message = "what is to be replayed is not said\n  hint: past input with --from T and --to T, or the ticks that the job recorded with --recorded --as NAME or --recorded --out DIR";
    Failure::new(Exit::Usage, message)
}

/// Returns the past that was asked for.
pub fn rewind(asked: &Asked<'_>, job: &str) -> Result<Rewind, Failure> {
    let Asked { from, to, then_live, name } = *asked;
    if then_live && to.is_some() {
        return Err(Failure::new(Exit::Usage, "--then-live goes on, and --to ends\n  hint: leave one of them out"));
    }
    let (from_at, to_at) = range(from, to)?;
    let asked = match then_live {
        true => format!("--from {from} --then-live"),
        false => format!("--from {from} --to {}", to.unwrap_or(LATEST)),
    };
    let name = name.map_or_else(|| rewind::default_name(job, &asked), str::to_owned);
    Ok(Rewind { name, from: from_at, to: (!then_live).then_some(to_at), asked })
}

/// Where a range ends if nobody says.
const LATEST: &str = "latest";

/// Returns where a range begins and ends; ages are taken from the present moment, once.
pub fn range(from: &str, to: Option<&str>) -> Result<(Moment, Moment), Failure> {
    let now = wall_millis();
    let read = |option: &str, text: &str| {
        Moment::parse(text, now).map_err(|reason| Failure::new(Exit::Usage, format!("{option} `{text}` {reason}")))
    };
    let (from_at, to_at) = (read("--from", from)?, read("--to", to.unwrap_or(LATEST))?);
    if let (Moment::Time(first), Moment::Time(next)) = (&from_at, &to_at)
        && first >= next
    {
        let message = format!("--from {from} is not before --to {}", to.unwrap_or(LATEST));
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok((from_at, to_at))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an age is taken from the present once; the range stands in the log from then on"
)]
fn wall_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Says what will be run, and where its rows go.
fn announce(plan: &Plan, rewind: &Rewind) {
    eprintln!("replay `{}`: job `{}`, {}", rewind.name, plan.name(), rewind.asked);
    for (sink, place) in plan.outputs() {
        eprintln!("  {sink} goes to {place}");
    }
    for source in plan.timeless_sources() {
        eprintln!("note: source `{source}` is made of files: they have no record time and are read whole");
    }
}

/// Returns what says that a replay is live, and keeps when.
fn told(job: &str, kept: Arc<Mutex<Option<Live>>>, begun: Instant, quiet: bool) -> impl FnOnce(&Live) + Send + 'static {
    let job = job.to_owned();
    move |live: &Live| {
        let first = kept.lock().unwrap_or_else(PoisonError::into_inner).replace(*live).is_none();
        if first && !quiet {
            let records = grouped(live.records);
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!(
                "job `{job}` is live: it has caught up, {records} records in {seconds:.1} s (tick {})",
                live.tick
            );
        }
    }
}

/// Returns what the replay reads, as its log says.
pub(super) fn inputs(state: &Location, job: &str, global: &Global) -> Result<Inputs, Failure> {
    let inputs = state.open().and_then(|store| inspect::inputs(store, job));
    Ok(inputs.map_err(|error| failed(error.into(), global))?.unwrap_or_default())
}

/// What a replay tells to programs.
#[derive(Serialize)]
struct Report<'a> {
    job: &'a str,
    replay: &'a str,
    /// The range as it was asked for when the replay began.
    asked: String,
    ranges: Vec<Range<'a>>,
    outputs: Vec<Output<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveSince>,
    seconds: f64,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// What is read of a split.
#[derive(Serialize)]
struct Range<'a> {
    source: &'a str,
    split: &'a str,
    from: u64,
    /// None if it goes on.
    to: Option<u64>,
}

/// Where a sink writes.
#[derive(Serialize)]
pub(super) struct Output<'a> {
    sink: &'a str,
    place: String,
}

impl<'a> Output<'a> {
    /// Returns the outputs of a plan.
    pub(super) fn of(plan: &'a Plan) -> Vec<Output<'a>> {
        plan.outputs().into_iter().map(|(sink, place)| Output { sink, place }).collect()
    }
}

#[derive(Serialize)]
struct LiveSince {
    tick: u64,
    records: u64,
}

impl<'a> Report<'a> {
    fn of(
        plan: &'a Plan,
        rewind: &'a Rewind,
        outcome: &'a Outcome,
        inputs: &'a Inputs,
        live: Option<Live>,
        took: Duration,
    ) -> Report<'a> {
        let ranges = inputs.splits.iter().map(|split| Range {
            source: &split.source,
            split: &split.spec.name,
            from: split.spec.start,
            to: split.spec.end,
        });
        Report {
            job: plan.name(),
            replay: &rewind.name,
            asked: inputs.asked.clone().unwrap_or_else(|| rewind.asked.clone()),
            ranges: ranges.collect(),
            outputs: Output::of(plan),
            live: live.map(|Live { tick, records }| LiveSince { tick, records }),
            seconds: took.as_millis() as f64 / 1000.0,
            outcome,
        }
    }

    /// Says how it ended.
    fn say(&self, global: &Global) {
        if global.quiet {
            return;
        }
        let Report { job, seconds, .. } = self;
        match self.outcome.ended {
            Ended::Finished => {
                let records = self.outcome.snapshot.decoded;
                let rate = grouped((records as f64 / seconds.max(0.001)) as u64);
                eprintln!("job `{job}` is finished: {} records in {seconds:.1} s, {rate} records/s", grouped(records));
                if self.ranges.iter().all(|range| range.to == Some(range.from)) {
                    eprintln!("note: there was nothing to read: {} holds no record", self.asked);
                }
            }
            Ended::AlreadyFinished => {
                eprintln!(
                    "job `{job}` ({}) was finished before; nothing was done\n  hint: --fresh begins anew, another --as is another replay",
                    self.asked
                );
            }
            Ended::Stopped => eprintln!("job `{job}` stopped; the same command goes on from here"),
        }
    }

    /// Shows the balance.
    fn show(&self, global: &Global) -> Done {
        show(self, self.outcome, global)
    }
}

/// Shows a report to programs, or the balance to people.
pub(super) fn show(report: &impl Serialize, outcome: &Outcome, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(report)?,
        // The balance is said to people, on stderr: a console sink may have written data to stdout.
        Format::Table if !global.quiet => eprintln!("\n{}", output::balance(&outcome.snapshot.balance)),
        Format::Table => {}
    }
    stdout.flush()
}
