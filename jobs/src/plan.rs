//! The checked plan: names resolved, expressions typed, columns pruned, watermarks followed. Only a plan runs, and below
//! it nobody validates again.

mod assemble;
mod behaviour;
mod clocks;
mod deduplicate;
mod forward;
mod funnel;
mod hash;
mod join;
mod ledger;
mod names;
mod need;
mod operators;
mod select;
mod sessions;
mod shape;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use riverrun_connectors::format::{EncodeSpec, FormatSpec, RowSchema, SurroundSpec};
use riverrun_connectors::start::Start;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::{Edge, OnBadRow, StepWork, WatermarkPath};
use riverrun_dataflow::partitioner::Partitioner;
use riverrun_state::shape::Shape;

use crate::fault::{Fault, Report, Text, codes};
use crate::spec::{self, Settings, SinkPlace, SourcePlace};

pub(crate) use names::streams;
pub(crate) use stream::type_name;

/// Names what comes out of this build: the bytes that decoders, expressions, operators and encoders make of recorded input.
///
/// It stands in every record of a log. Ticks that are recorded and in no checkpoint are derived again only by a build of the
/// same id, for only there do the digests hold; another one refuses them, and the job is drained first by the build that it had.
/// So it is raised by hand, with whatever changes a byte of any output for the same state and input, a library among it, and
/// with nothing else: users have to drain their jobs for it. The id is no hash of the code, which would ask that of them at
/// every release. Ticks that were recorded under this id are kept in `tests/fixtures/ticks`, and who forgets to raise it meets
/// them in `tests/e2e/recorded.rs`, which says how to keep those of the next id.
pub const BUILD_ID: &str = "riverrun-1";

/// A job that was checked.
#[derive(Clone)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) settings: Settings,
    /// In the order of their names: so are their splits numbered.
    pub(crate) sources: Vec<PlannedSource>,
    /// Each after those it reads.
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) sinks: Vec<PlannedSink>,
    hash: String,
    shape: Shape,
    /// The texts it was made of: the places of faults that show only when it is connected.
    pub(crate) texts: Vec<Text>,
    /// The past that a replay runs over.
    pub(crate) past: Option<Over>,
}

/// A past, as it was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    /// Input from one moment to another.
    Input(String),
    /// Ticks that the job recorded.
    Ticks(String),
}

impl Over {
    /// Returns what was asked for, as it was written.
    pub fn asked(&self) -> &str {
        match self {
            Over::Input(asked) | Over::Ticks(asked) => asked,
        }
    }
}

/// A source that was checked.
#[derive(Clone)]
pub(crate) struct PlannedSource {
    pub name: String,
    pub place: SourcePlace,
    /// Where a topic ends if it is bounded.
    pub end: Start,
    pub format: FormatSpec,
    pub schema: Arc<RowSchema>,
    pub max_disorder: Duration,
    pub max_future: Duration,
    pub idle_after: Duration,
    pub event_times: std::ops::RangeInclusive<EventTime>,
    pub on_bad_row: OnBadRow,
}

/// A step that was checked.
#[derive(Clone)]
pub(crate) struct PlannedStep {
    pub name: String,
    /// The name that it had before.
    pub was: Option<String>,
    /// The operator's name in the job file.
    pub operator: &'static str,
    pub inputs: Vec<PlannedInput>,
    pub work: StepWork,
    /// Schema of its rows, hidden columns included.
    pub schema: SchemaRef,
    /// Schema of its late rows, if something reads them.
    pub late: Option<SchemaRef>,
    /// Whether something reads its bad rows.
    pub bad: bool,
    /// The side outputs of its own.
    pub sides: Vec<PlannedSide>,
    /// How far its output watermark is behind its input watermark.
    pub delay: Duration,
    pub watermark: Vec<WatermarkPath>,
    /// What it does, in a few words, for `explain`.
    pub does: Vec<(&'static str, String)>,
    /// What it keeps and how much of it, for `explain`; empty for a stateless step.
    pub keeps: Vec<String>,
}

/// A side output that a step has of its own.
#[derive(Clone)]
pub(crate) struct PlannedSide {
    /// Its name after the step's: `duplicates`.
    pub name: &'static str,
    /// Schema of its rows, hidden columns included, if something reads them.
    pub schema: Option<SchemaRef>,
}

/// An input of a step.
#[derive(Clone)]
pub(crate) struct PlannedInput {
    pub from: Edge,
    /// The columns by which its rows are routed, and their names.
    pub route: Option<Vec<usize>>,
    pub keys: Vec<String>,
}

/// A sink that was checked.
#[derive(Clone)]
pub(crate) struct PlannedSink {
    pub name: String,
    pub from: Edge,
    pub place: SinkPlace,
    pub format: EncodeSpec,
    /// Schema of the rows it is given, hidden columns included.
    pub schema: SchemaRef,
    /// The columns that are the record's key.
    pub key: Option<Vec<usize>>,
    /// How it chooses the lane of a row.
    pub partitioner: Partitioner,
    /// What is written around it.
    pub surround: SurroundSpec,
    /// The topic that has as many partitions as one gets that has to be made.
    pub like: Option<String>,
}

/// Reads the job file at `path`, or reports why it cannot be read.
pub fn read_file(path: &std::path::Path) -> Result<String, Report> {
    let reason = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(error)) => format!("byte {} is no UTF-8", error.utf8_error().valid_up_to()),
        Err(error) => error.to_string(),
    };
    let mut report = Report::default();
    let message = format!("the job file `{}` cannot be read", path.display());
    report.push(Fault::elsewhere(codes::UNREADABLE, message).note(reason));
    Err(report)
}

/// Checks a job: the text of its file, called `name` in faults, with overrides as given to `--set`.
///
/// Returns the plan with a report of warnings, or a report that has errors.
pub fn check(name: &str, text: &str, overrides: &[String]) -> Result<(Plan, Report), Report> {
    let (spec, report) = spec::read(name, text, overrides);
    match spec {
        Some(spec) => check_spec(&spec, report),
        None => Err(report),
    }
}

/// Checks a job that was read; `report` has the faults of reading.
pub(crate) fn check_spec(spec: &spec::JobSpec, mut report: Report) -> Result<(Plan, Report), Report> {
    let texts = report.texts().to_vec();
    let mut faults = Vec::new();
    let names = names::Names::resolve(spec, &mut faults);
    let mut forward = forward::Forward::new(spec, &texts);
    forward.run(&names);
    faults.append(&mut forward.faults);
    let used = names.used();
    if faults.is_empty() && report.is_empty() {
        names::warn_unused(spec, &used, &mut faults);
    }
    report.extend(faults);
    if report.errors() > 0 {
        return Err(report);
    }
    let needs = need::needs(spec, &names, &forward.streams, &forward.uses, &used);
    let plan = assemble::assemble(spec, &names, &forward, &used, &needs);
    Ok((plan, report))
}

impl Plan {
    /// Returns the job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the job is for, if its author says.
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// Returns the job-wide knobs.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns a hash of all that decides what the job writes: two plans with the same hash write the same bytes. Where topics
    /// live, how often is committed or checkpointed, and descriptions are no part of it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns what an upgrade must know of the plan.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the names of the sources in the order of the graph.
    pub fn source_names(&self) -> Vec<&str> {
        self.sources.iter().map(|source| source.name.as_str()).collect()
    }

    /// Returns the names of the steps in the order of the graph.
    pub fn step_names(&self) -> Vec<&str> {
        self.steps.iter().map(|step| step.name.as_str()).collect()
    }

    /// Returns the names of the sinks in the order of the graph.
    pub fn sink_names(&self) -> Vec<&str> {
        self.sinks.iter().map(|sink| sink.name.as_str()).collect()
    }

    /// Returns the name of what an edge begins at, as a job file writes it.
    pub fn edge_name(&self, edge: Edge) -> String {
        match edge {
            Edge::Source(index) => self.sources[index].name.clone(),
            Edge::SourceBad(index) => format!("{}.bad", self.sources[index].name),
            Edge::Step(index) => self.steps[index].name.clone(),
            Edge::StepLate(index) => format!("{}.late", self.steps[index].name),
            Edge::StepBad(index) => format!("{}.bad", self.steps[index].name),
            Edge::StepSide(index, side) => {
                let step = &self.steps[index];
                format!("{}.{}", step.name, step.sides[side].name)
            }
        }
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({} {})", self.name, self.hash)
    }
}

#[cfg(test)]
mod tests;
