//! Upgrades: a drained job goes on as another plan, with what of its state means the same there.
//!
//! ```text
//! look -> compare the shapes -> (shown; losses allowed by name) -> fence -> ask the sinks -> one record
//! ```
//! Ticks, incarnation and shards go on; so do the positions of sources and the lanes of sinks that are still there. A
//! source that is new begins at its beginning, a sink that is new with the first tick after the upgrade.

mod fate;
mod positions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use riverrun_dataflow::graph::{ShardRange, StepWork};
use riverrun_dataflow::journal::LaneToken;
use riverrun_dataflow::operator::TableSpec;
use riverrun_dataflow::sink::{Claim, Promise};
use riverrun_dataflow::source::SplitSpec;
use riverrun_dataflow::tick::{Floor, Tick, Timeline};
use riverrun_dataflow::time::EventTime;
use riverrun_state::record::Checkpoint;
use riverrun_state::seed::Seeding;
use riverrun_state::shape::{Shape, StepShape};
use riverrun_state::upgrade::{Move, Next, Standing};
use riverrun_state::{Begin, Holder, InputSplit, Inputs, JobSpec, JobState, Location, SinkLanes, savepoint};
use serde::Serialize;

pub use fate::{Fate, Fates, Kind, Part, fates};
pub use positions::{Moved, Position, Repeats, reposition};

use crate::connect::{Connected, Environment};
use crate::plan::{BUILD_ID, Plan};
use crate::run::{RunError, committed};

/// How a job is upgraded.
#[derive(Clone, Debug)]
pub struct UpgradeOptions {
    /// Where state is kept.
    pub state: Location,
    /// Names of the parts that may lose something; `all` for every one.
    pub allow: Vec<String>,
    /// The name under which its state is kept as it was.
    pub savepoint: Option<String>,
    /// Nothing is written.
    pub dry_run: bool,
}

/// What an upgrade does, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct UpgradeReport {
    /// The job.
    pub job: String,
    /// What came of it.
    pub status: Status,
    /// The plan that the job ran last.
    pub from_plan: String,
    /// The plan of the job file.
    pub to_plan: String,
    /// The build that ran it last.
    pub from_build: String,
    /// This build.
    pub to_build: String,
    /// The tick after which the new plan goes on; `None` if the job is not drained.
    pub tick: Option<Tick>,
    /// Why the job cannot be upgraded as it stands, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    /// What becomes of each part.
    pub parts: Vec<Part>,
    /// The parts that would lose something and were not allowed to.
    pub to_allow: Vec<String>,
    /// The savepoint that holds its state as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
}

/// What came of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The job never ran here.
    NeverRan,
    /// It is what the job file says.
    UpToDate,
    /// What would be done was shown.
    Planned,
    /// It was done.
    Upgraded,
    /// A new incarnation begins from a savepoint.
    Begun,
}

/// Upgrades the job to `plan`, or tells what that would do. What was decided is shown to `show` before anything is written.
pub fn upgrade(
    plan: &Plan,
    environment: &Environment,
    options: &UpgradeOptions,
    show: impl FnOnce(&UpgradeReport),
) -> Result<UpgradeReport, RunError> {
    let standing = match options.state.open_existing()? {
        Some(store) => Standing::look(Arc::new(store), plan.name())?,
        None => None,
    };
    let mut report = report(plan, standing.as_ref(), &options.allow)?;
    show(&report);
    let (Some(standing), Status::Planned, false) = (standing, report.status, options.dry_run) else {
        return Ok(report);
    };
    check(plan, &standing)?;
    report.allowed()?;
    let connected = plan.connect(environment)?;
    let spec = spec(plan, Begin::Continue);
    let upgrading = JobState::open(options.state.open()?, spec)?.upgrade()?;
    let sinks = Sinks::GoOn(upgrading.generation());
    let next = Transition::of(plan, &connected, upgrading.standing(), sinks)?.next()?;
    report.savepoint = options.savepoint.clone();
    if let Some(name) = &options.savepoint {
        keep(plan, options, name, check(plan, upgrading.standing())?.tick)?;
    }
    upgrading.finish(next)?;
    report.status = Status::Upgraded;
    Ok(report)
}

/// Gives the state of a drained job a name before it becomes another one. Done again after a kill it is the same savepoint.
fn keep(plan: &Plan, options: &UpgradeOptions, name: &str, tick: Tick) -> Result<(), RunError> {
    match savepoint::create(options.state.open()?, plan.name(), name, Some(tick))? {
        Some(_) => Ok(()),
        None => Err(RunError::Upgrade(format!(
            "job `{}` is not upgraded: its checkpoint at tick {tick} cannot become savepoint `{name}`, it is gone\n  hint: somebody else has deleted it; run the job as it was, stop it, and upgrade then",
            plan.name()
        ))),
    }
}

/// Takes up the splits that came into being since the job found its input, and returns them as `source split`. A job that was not
/// stopped cleanly goes on with those that it has, and takes up the others later.
pub fn grow(plan: &Plan, environment: &Environment, state: &Location) -> Result<Vec<String>, RunError> {
    let Some(store) = state.open_existing()? else { return Ok(Vec::new()) };
    let Some(standing) = Standing::look(Arc::new(store), plan.name())? else { return Ok(Vec::new()) };
    let is_same = standing.plan == plan.hash() && standing.build == BUILD_ID;
    let Some(inputs) = standing.inputs.as_ref().filter(|_| is_same && check(plan, &standing).is_ok()) else {
        return Ok(Vec::new());
    };
    let connected = plan.connect(environment)?;
    let grown = grown(&connected, inputs)?;
    if !grown.is_empty() {
        let upgrading = JobState::open(state.open()?, spec(plan, Begin::Continue))?.upgrade()?;
        let sinks = Sinks::GoOn(upgrading.generation());
        let next = Transition::of(plan, &connected, upgrading.standing(), sinks)?.next()?;
        upgrading.finish(next)?;
    }
    Ok(grown.iter().map(|(source, spec)| format!("{source} {}", spec.name)).collect())
}

/// Returns the splits of live sources that are not among `inputs`, though others of their source are.
fn grown(connected: &Connected, inputs: &Inputs) -> Result<Vec<(String, SplitSpec)>, RunError> {
    let mut grown = Vec::new();
    for open in &connected.sources {
        let own = inputs.splits.iter().filter(|split| split.source == open.name);
        let known: Vec<SplitSpec> = own.map(|split| split.spec.clone()).collect();
        if open.fixed || known.is_empty() || known.iter().any(|spec| spec.end.is_some()) {
            continue;
        }
        grown.extend(open.source.grown(&known)?.into_iter().map(|spec| (open.name.clone(), spec)));
    }
    Ok(grown)
}

/// Puts a new incarnation in the place of the job, which begins from the savepoint `name` as `plan`: state and positions are those of the
/// savepoint, outputs begin anew. What was decided is shown to `show` before anything is written.
pub fn begin_from(
    plan: &Plan,
    environment: &Environment,
    options: &UpgradeOptions,
    name: &str,
    show: impl FnOnce(&UpgradeReport),
) -> Result<UpgradeReport, RunError> {
    let seeding = match options.state.open_existing()? {
        Some(store) => Seeding::open(store, spec(plan, Begin::Fresh), name)?,
        None => None,
    };
    let seeding = seeding.ok_or_else(|| {
        RunError::Upgrade(format!("job `{}` has no savepoint `{name}` in {}", plan.name(), options.state))
    })?;
    let standing = seeding.standing();
    let checkpoint = check(plan, standing)?;
    let mut report = UpgradeReport::of(plan, standing, Status::Planned);
    report.tick = Some(checkpoint.tick);
    let shape = standing.inputs.as_ref().and_then(|inputs| inputs.shape.as_ref()).expect("it was checked");
    report.compared(begun(compare(shape, plan, Some(checkpoint))).parts, &options.allow);
    show(&report);
    report.allowed()?;
    let connected = plan.connect(environment)?;
    let next = Transition::of(plan, &connected, standing, Sinks::BeginAnew)?.next()?;
    seeding.plant(next)?;
    report.status = Status::Begun;
    Ok(report)
}

/// Returns the fates of a job whose sinks all begin anew.
fn begun(mut fates: Fates) -> Fates {
    fates.parts.retain(|part| part.kind != Kind::Sink || part.fate != Fate::Gone);
    for part in fates.parts.iter_mut().filter(|part| part.kind == Kind::Sink) {
        let notes = vec!["it begins anew, with what comes after the savepoint".to_owned()];
        *part = Part { fate: Fate::New, notes, loses: false, ..part.clone() };
    }
    fates
}

fn spec(plan: &Plan, begin: Begin) -> JobSpec {
    JobSpec {
        job: plan.name().to_owned(),
        plan: plan.hash().to_owned(),
        build: BUILD_ID.to_owned(),
        shards: plan.settings().shards,
        lanes: Vec::new(),
        begin,
        holder: Holder::here(0),
    }
}

impl UpgradeReport {
    fn of(plan: &Plan, standing: &Standing, status: Status) -> UpgradeReport {
        UpgradeReport {
            job: plan.name().to_owned(),
            status,
            from_plan: standing.plan.clone(),
            to_plan: plan.hash().to_owned(),
            from_build: standing.build.clone(),
            to_build: BUILD_ID.to_owned(),
            tick: None,
            obstacle: None,
            parts: Vec::new(),
            to_allow: Vec::new(),
            savepoint: None,
        }
    }

    /// Takes in what becomes of each part, where `allow` names those that may lose something.
    fn compared(&mut self, parts: Vec<Part>, allow: &[String]) {
        let allowed = |part: &Part| allow.iter().any(|name| *name == part.name || name == "all");
        let lost = parts.iter().filter(|part| part.loses && !allowed(part)).map(|part| part.name.clone());
        self.to_allow = lost.collect::<BTreeSet<_>>().into_iter().collect();
        self.parts = parts;
    }

    /// Fails if something would be lost that was not allowed to.
    fn allowed(&self) -> Result<(), RunError> {
        let Some(part) = self.to_allow.first() else { return Ok(()) };
        Err(RunError::Upgrade(format!(
            "the upgrade of job `{}` would lose something of {}: {}\n  hint: allow it by name, `--allow-reset {part}`, or change the job file so that nothing is lost",
            self.job,
            if self.to_allow.len() == 1 { "one part" } else { "several parts" },
            self.to_allow.join(", "),
        )))
    }
}

fn report(plan: &Plan, standing: Option<&Standing>, allow: &[String]) -> Result<UpgradeReport, RunError> {
    let Some(standing) = standing else {
        let (parts, to_allow) = Default::default();
        return Ok(UpgradeReport {
            job: plan.name().to_owned(),
            status: Status::NeverRan,
            from_plan: String::new(),
            to_plan: plan.hash().to_owned(),
            from_build: String::new(),
            to_build: BUILD_ID.to_owned(),
            tick: None,
            obstacle: None,
            parts,
            to_allow,
            savepoint: None,
        });
    };
    let shape = standing.inputs.as_ref().and_then(|inputs| inputs.shape.as_ref());
    if standing.plan == plan.hash() && shape.is_none_or(|shape| same_state(shape, plan.shape())) {
        return Ok(UpgradeReport::of(plan, standing, Status::UpToDate));
    }
    let mut report = UpgradeReport::of(plan, standing, Status::Planned);
    let checked = check(plan, standing);
    report.tick = checked.as_ref().ok().map(|checkpoint| checkpoint.tick);
    report.obstacle = checked.err().map(|error| error.to_string());
    if let Some(shape) = shape {
        report.compared(compare(shape, plan, standing.checkpoint.as_ref()).parts, allow);
    }
    Ok(report)
}

/// Returns the checkpoint from which the job can be upgraded, or why it cannot.
fn check<'s>(plan: &Plan, standing: &'s Standing) -> Result<&'s Checkpoint, RunError> {
    let refused = |reason: &str| RunError::Upgrade(format!("job `{}` cannot be upgraded: {reason}", plan.name()));
    let checkpoint = standing.drained()?;
    if checkpoint.finished {
        return Err(refused(
            "it is finished, nothing is left to go on with\n  hint: --fresh runs the new job file over all of its input",
        ));
    }
    if standing.file.shards != plan.settings().shards {
        return Err(refused(&format!(
            "it has {} shards, which are fixed when a job is created, and the job file says {}\n  hint: leave `shards` as it was, or start over with --fresh",
            standing.file.shards,
            plan.settings().shards
        )));
    }
    if standing.inputs.as_ref().is_none_or(|inputs| inputs.shape.is_none()) {
        return Err(refused(
            "it was begun by a version that did not write down what an upgrade needs to know\n  hint: start over with --fresh",
        ));
    }
    Ok(checkpoint)
}

fn compare(old: &Shape, plan: &Plan, checkpoint: Option<&Checkpoint>) -> Fates {
    let tables = checkpoint.map(|checkpoint| checkpoint.tables.as_slice()).unwrap_or_default();
    let rows = |step: &str| {
        let files = tables.iter().filter(|table| table.step == step).flat_map(|table| &table.files);
        files.map(|file| file.rows).sum()
    };
    let was = plan.steps.iter().filter_map(|step| Some((step.name.clone(), step.was.clone()?))).collect();
    fates(old, plan.shape(), &was, &rows)
}

/// Returns whether the state of one shape can be read as that of another without an upgrade.
pub(crate) fn same_state(a: &Shape, b: &Shape) -> bool {
    let state = |shape: &Shape| {
        let of = |step: &StepShape| {
            let columns = step.tables.iter().flat_map(|table| {
                table.columns.iter().map(|column| (table.name.clone(), column.name.clone(), column.data_type.clone()))
            });
            (step.name.clone(), step.meaning.clone(), columns.collect::<Vec<_>>())
        };
        shape.steps.iter().filter(|step| !step.tables.is_empty()).map(of).collect::<Vec<_>>()
    };
    state(a) == state(b)
}

/// What becomes of the sinks of both plans.
#[derive(Clone, Copy)]
enum Sinks {
    /// They go on; this generation asks them how far they are.
    GoOn(u64),
    /// All begin anew.
    BeginAnew,
}

/// From one plan to another.
struct Transition<'a> {
    plan: &'a Plan,
    connected: &'a Connected,
    standing: &'a Standing,
    sinks: Sinks,
    checkpoint: &'a Checkpoint,
    inputs: &'a Inputs,
    old: &'a Shape,
    fates: Fates,
    /// Where the old plan stood.
    after: Timeline,
}

impl<'a> Transition<'a> {
    fn of(
        plan: &'a Plan,
        connected: &'a Connected,
        standing: &'a Standing,
        sinks: Sinks,
    ) -> Result<Transition<'a>, RunError> {
        // Looked at again: this is what our generation follows.
        let checkpoint = check(plan, standing)?;
        let inputs = standing.inputs.as_ref().expect("it was checked");
        let old = inputs.shape.as_ref().expect("it was checked");
        let fates = compare(old, plan, Some(checkpoint));
        let after = checkpoint.clone().into_parts().after();
        Ok(Transition { plan, connected, standing, sinks, checkpoint, inputs, old, fates, after })
    }

    fn fate(&self, kind: Kind, name: &str) -> Fate {
        let part = self.fates.parts.iter().find(|part| part.kind == kind && part.name == name);
        part.map_or(Fate::New, |part| part.fate)
    }

    fn next(&self) -> Result<Next, RunError> {
        let (lanes, tokens) = self.lanes()?;
        let inputs = self.inputs()?;
        let steps = &self.plan.shape().steps;
        // Counts go on under the name that a part has now.
        let now = |name: &String| {
            let renamed = self.fates.former.iter().find(|(_, was)| *was == name).map(|(now, _)| now);
            let now = renamed.unwrap_or(name);
            let goes_on = match (self.old.step(name), self.plan.shape().step(now)) {
                (Some(old), Some(new)) => old.operator == new.operator,
                (None, None) => self.fate(Kind::Source, name) == Fate::Kept,
                _ => false,
            };
            goes_on.then(|| now.clone())
        };
        // A new incarnation has read nothing yet.
        let goes_on = matches!(self.sinks, Sinks::GoOn(_));
        let balance = self.checkpoint.balance.iter().filter(|_| goes_on);
        let parts = self.fates.parts.iter().map(|part| {
            let word = |value| serde_json::to_value(value).ok().and_then(|it| it.as_str().map(str::to_owned));
            let kind = match part.kind {
                Kind::Source => "source",
                Kind::Step => "step",
                Kind::Sink => "sink",
            };
            (format!("{kind} {}", part.name), word(part.fate).unwrap_or_default())
        });
        Ok(Next {
            plan: self.plan.hash().to_owned(),
            lanes,
            before: self.timeline(&inputs),
            floors: steps.iter().filter_map(|step| Some((step.name.clone(), self.floor(step)?))).collect(),
            parts: parts.collect(),
            tokens,
            balance: balance.filter_map(|(name, counts)| Some((now(name)?, *counts))).collect(),
            tables: self.tables(),
            inputs,
        })
    }

    /// Returns what the new plan reads: splits of kept sources as they are, all others from their beginning under numbers that
    /// no split ever had.
    fn inputs(&self) -> Result<Inputs, RunError> {
        let mut free =
            self.inputs.splits.iter().map(|split| split.id + 1).max().unwrap_or(0).max(self.inputs.free_split);
        let grown = grown(self.connected, self.inputs)?;
        let mut splits = Vec::new();
        for source in &self.connected.sources {
            if self.fate(Kind::Source, &source.name) == Fate::Kept {
                splits.extend(self.inputs.splits.iter().filter(|split| split.source == source.name).cloned());
                for (_, spec) in grown.iter().filter(|(name, _)| *name == source.name) {
                    splits.push(InputSplit { id: free, source: source.name.clone(), spec: spec.clone() });
                    free += 1;
                }
                continue;
            }
            let mut found = source.source.splits(source.bounded)?;
            found.sort_by(|a, b| a.name.cmp(&b.name));
            for spec in found {
                splits.push(InputSplit { id: free, source: source.name.clone(), spec });
                free += 1;
            }
        }
        let sources = self.connected.sources.iter().map(|source| source.name.clone()).collect();
        let shape = Some(self.plan.shape().clone());
        let (now, asked) = (self.inputs.now, self.inputs.asked.clone());
        Ok(Inputs { now, sources, splits, free_split: free, shape, asked, recorded: None })
    }

    /// Returns where the new plan stands: the tick and the clock go on, and what is known of kept sources.
    fn timeline(&self, inputs: &Inputs) -> Timeline {
        let watermark = |name: &String| match self.fate(Kind::Source, name) {
            Fate::Kept => self.watermark(name),
            _ => EventTime::MIN,
        };
        let kept = |id: &u32| inputs.splits.iter().any(|split| split.id == *id);
        Timeline {
            tick: self.after.tick,
            now: self.after.now,
            watermarks: inputs.sources.iter().map(watermark).collect(),
            splits: self.after.splits.iter().filter(|(id, _)| kept(id)).map(|(id, mark)| (*id, mark.clone())).collect(),
            last: false,
        }
    }

    /// Returns the watermark of a source of the old plan.
    fn watermark(&self, source: &str) -> EventTime {
        let at = self.inputs.sources.iter().position(|name| name == source);
        at.and_then(|at| self.after.watermarks.get(at)).copied().unwrap_or(EventTime::MIN)
    }

    /// Returns how far a step had come. A step that takes late rows longer than before must not take those of windows that it
    /// emitted: its watermark waits until they are as late as they were.
    fn floor(&self, new: &StepShape) -> Option<Floor> {
        let former = self.fates.former(&new.name);
        let old = self.old.step(former).filter(|old| old.operator == new.operator && !old.tables.is_empty())?;
        let micros = |span: i64| std::time::Duration::from_micros(span.max(0).unsigned_abs());
        let ways = old.watermark.iter().map(|(source, delay)| self.watermark(source).minus(micros(*delay)));
        let watermark = ways.min().unwrap_or(EventTime::MAX);
        let tick = self.after.tick;
        let held = Floor::hold(self.standing.floors.get(former).copied(), tick, watermark);
        Some(Floor { tick, watermark: held.plus(micros(new.lateness - old.lateness)) })
    }

    /// Returns the lanes of all sinks, and the tokens of those that go on, which are asked now: an older one than the
    /// checkpoint knows means that the sink was put back, and no plan but the old one can give what it lacks.
    fn lanes(&self) -> Result<(Vec<SinkLanes>, Vec<LaneToken>), RunError> {
        let before = &self.standing.lanes;
        let mut lanes = Vec::new();
        let mut tokens = Vec::new();
        for (index, sink) in self.connected.sinks.iter().enumerate() {
            let kept = before.iter().position(|it| it.sink == sink.name);
            let kept = kept.filter(|_| self.fate(Kind::Sink, &sink.name) == Fate::Kept);
            let (Some(old), Sinks::GoOn(generation)) = (kept, self.sinks) else {
                lanes.push(SinkLanes { sink: sink.name.clone(), lanes: sink.lanes });
                continue;
            };
            lanes.push(before[old].clone());
            if sink.promise != Promise::ExactlyOnce {
                continue;
            }
            for lane in 0..before[old].lanes {
                let tick = self.ask(index, lane, generation)?;
                let stored = self.checkpoint.tokens.iter().find(|it| (it.sink as usize, it.lane) == (old, lane));
                let least = stored.map_or(0, |stored| stored.tick.min(self.checkpoint.tick));
                if tick < least {
                    return Err(RunError::Upgrade(format!(
                        "job `{}` cannot be upgraded: lane {lane} of sink `{}` is at tick {tick} now and was at {least}: the sink went back\n  hint: run the job as it was, which repairs the sink, and stop it; then upgrade",
                        self.plan.name(),
                        sink.name
                    )));
                }
                tokens.push(LaneToken { sink: u32::try_from(index).expect("fewer sinks than u32"), lane, tick });
            }
        }
        Ok((lanes, tokens))
    }

    /// Asks a sink for the committed tick of a lane, which fences older generations there.
    fn ask(&self, sink: usize, lane: u32, generation: u64) -> Result<Tick, RunError> {
        let open = &self.connected.sinks[sink];
        let claim = Claim {
            job: self.plan.name().to_owned(),
            incarnation: self.standing.file.incarnation.clone(),
            sink: open.name.clone(),
            generation,
            fresh: false,
            append: false,
        };
        let (_, token) = open.sink.open(lane, &claim).map_err(|error| RunError::sink(&open.name, error))?;
        Ok(committed(token, &claim).unwrap_or(0))
    }

    fn tables(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for step in &self.plan.steps {
            let StepWork::Operator(make) = &step.work else { continue };
            let all = ShardRange { worker: 0, workers: 1, shards: self.plan.settings().shards };
            let specs: BTreeMap<&str, TableSpec> =
                make(all).tables().into_iter().map(|table| (table.name, table)).collect();
            for fate in self.fates.tables.get(&step.name).into_iter().flatten() {
                moves.push(Move {
                    from: (self.fates.former(&step.name).to_owned(), fate.table.clone()),
                    step: step.name.clone(),
                    table: specs[fate.table.as_str()].clone(),
                    columns: fate.columns.clone(),
                });
            }
        }
        moves
    }
}
