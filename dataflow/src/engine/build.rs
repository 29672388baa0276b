//! Builds a graph as a timely dataflow on one worker: sources, steps, sinks, and the clock and ledger that bind them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::operators::core::Concatenate;
use timely::dataflow::operators::{Input, Probe};
use timely::dataflow::{InputHandle, ProbeHandle, Scope, Stream};

use super::control::Control;
use super::ledger;
use super::message::{Mark, Part, Raw, Report};
use super::meter::Meter;
use super::reader::Timelines;
use super::{Observer, Setup, decode, records, route, sinks, steps};
use crate::batch::Batch;
use crate::graph::{Edge, Graph, StepWork, bad_columns};
use crate::journal::StateStore;
use crate::schema::{Hidden, with_hidden};
use crate::tick::{Floor, Tick, TickRecord, Timeline};

pub type BatchStream<'s> = Stream<'s, Tick, Batch>;
pub type RawStream<'s> = Stream<'s, Tick, Raw>;
pub type RecordStream<'s> = Stream<'s, Tick, Vec<TickRecord>>;
pub type ReportStream<'s> = Stream<'s, Tick, Vec<Report>>;
pub type PartStream<'s> = Stream<'s, Tick, Vec<Part>>;

/// What the builders of all parts need.
pub struct Build<'s> {
    pub scope: Scope<'s, Tick>,
    /// The workers of this process.
    pub own: Range<usize>,
    pub worker: usize,
    pub workers: usize,
    pub graph: Arc<Graph>,
    pub control: Arc<Control>,
    pub observer: Arc<Observer>,
    pub meter: Arc<Meter>,
    pub state: Arc<dyn StateStore>,
    /// Where the job stands: after the checkpoint's tick.
    pub start: Timeline,
    /// By step: how far it had come when the job was upgraded last.
    pub floors: BTreeMap<String, Floor>,
    pub commit_every: Duration,
    /// Passed by a tick when it is complete.
    pub probe: ProbeHandle<Tick>,
}

/// The ends of the dataflow that the worker holds.
pub struct Inputs {
    pub raw: InputHandle<Tick, NoopBuilder<Raw>>,
    pub marks: InputHandle<Tick, CapacityContainerBuilder<Vec<Mark>>>,
}

/// Builds the whole graph.
pub fn build<'s>(
    build: &Build<'s>,
    setup: &Setup,
    timelines: Rc<RefCell<Timelines>>,
) -> Result<Inputs, super::EngineError> {
    let scope = build.scope;
    let (raw, chunks) = scope.new_input_with_builder::<NoopBuilder<Raw>>();
    let (marks, read) = scope.new_input::<Vec<Mark>>();
    let mut edges: BTreeMap<Edge, BatchStream<'s>> = BTreeMap::new();
    let mut reports: Vec<ReportStream<'s>> = Vec::new();
    let mut parts: Vec<PartStream<'s>> = Vec::new();

    let decoded = decode::decode(build, route::spread(build, "spread chunks", chunks));
    for (index, outputs) in decoded.sources.into_iter().enumerate() {
        edges.insert(Edge::Source(index), outputs.rows);
        edges.insert(Edge::SourceBad(index), outputs.bad);
    }
    reports.push(decoded.reports);

    let shared = ledger::shared(build, setup)?;
    let own_records = records::clock(build, setup, scope.concatenate([read, decoded.marks]), shared.clone());
    let records = records::broadcast(build, own_records.clone(), timelines);

    for (index, step) in build.graph.steps.iter().enumerate() {
        let mut inputs = Vec::new();
        for (number, input) in step.inputs.iter().enumerate() {
            let rows = edges.get(&input.from).expect("steps stand after what they read").clone();
            inputs.push(match &input.route {
                None => rows,
                Some(key) => {
                    let schema = schema_of(&build.graph, input.from);
                    route::route(build, &format!("{}.{number}", step.name), rows, &schema, key)
                }
            });
        }
        let outputs = match &step.work {
            StepWork::Transform(make) => steps::transform(build, index, make(), inputs),
            StepWork::Operator(make) => steps::operator(build, index, make, inputs, records.clone())?,
        };
        edges.insert(Edge::Step(index), outputs.rows);
        edges.insert(Edge::StepLate(index), outputs.late);
        edges.insert(Edge::StepBad(index), outputs.bad);
        edges.extend(outputs.sides.into_iter().map(|(number, rows)| (Edge::StepSide(index, number), rows)));
        reports.push(outputs.reports);
        parts.extend(outputs.parts);
    }

    let mut merged = Vec::new();
    for (index, sink) in build.graph.sinks.iter().enumerate() {
        let rows = edges.get(&sink.from).expect("sinks read what there is").clone();
        let (rows, lanes) = sinks::merge(build, index, sinks::encode(build, index, rows));
        merged.push(rows);
        reports.push(lanes);
    }
    let durable = ledger::ledger(build, setup, own_records, scope.concatenate(reports), shared.clone());
    let covered: Vec<_> = merged
        .into_iter()
        .enumerate()
        .map(|(index, rows)| sinks::commit(build, setup, index, rows, durable.clone()))
        .collect::<Result<_, _>>()?;
    ledger::checkpoints(build, setup, scope.concatenate(parts), scope.concatenate(covered), shared);
    // A step that nothing reads still bounds how far the readers may run ahead.
    for rows in edges.into_values() {
        rows.probe_with(&build.probe);
    }
    Ok(Inputs { raw, marks })
}

/// Returns the schema of the rows on an edge.
pub fn schema_of(graph: &Graph, edge: Edge) -> arrow::datatypes::SchemaRef {
    match edge {
        Edge::Source(index) => graph.sources[index].schema.clone(),
        Edge::Step(index) => graph.steps[index].schema.clone(),
        Edge::StepLate(index) => graph.steps[index].late.clone().expect("late rows are read only where there are any"),
        Edge::StepSide(index, side) => {
            graph.steps[index].sides[side].clone().expect("side outputs are read only where there are any")
        }
        Edge::SourceBad(_) | Edge::StepBad(_) => bad_schema(),
    }
}

/// Returns the schema of bad rows on an edge: they have no event time and go to the lane of their split.
pub fn bad_schema() -> arrow::datatypes::SchemaRef {
    with_hidden(&bad_columns(), &[Hidden::Split])
}
