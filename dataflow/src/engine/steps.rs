//! Steps on the dataflow: plumbing between streams and the contracts of [`crate::operator`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::EngineError;
use super::background::Background;
use super::build::{BatchStream, Build, PartStream, RecordStream, ReportStream, bad_schema};
use super::control::Control;
use super::decode::bad_batch;
use super::events::{BadRowSeen, LateRowsSeen, Restored, Sampler};
use super::message::{Part, Report};
use super::meter::act::{Act, ActKind};
use super::meter::{self, Meter, PartMeter};
use crate::balance::Counts;
use crate::batch::{Batch, SchemaId, register_schema};
use crate::fail_point;
use crate::graph::{Graph, ShardRange, StepNode};
use crate::journal::{FrozenPart, StateFile, StateStore};
use crate::operator::{Frozen, Operator, Outputs, TableSize, TableSpec, Transform};
use crate::tick::{Floor, StepTick, Tick, TickRecord};
use crate::time::EventTime;

/// The streams of a step.
pub struct StepStreams<'s> {
    pub rows: BatchStream<'s>,
    pub late: BatchStream<'s>,
    pub bad: BatchStream<'s>,
    /// The side outputs of its own that are read, by number.
    pub sides: Vec<(usize, BatchStream<'s>)>,
    pub reports: ReportStream<'s>,
    pub parts: Option<PartStream<'s>>,
}

/// The outputs of a step are its rows, late and bad rows and reports, then the sides from this number on, then the parts of its
/// checkpoints.
const FIRST_SIDE: usize = 4;

type Batches = OutputBuilder<Tick, NoopBuilder<Batch>>;
type Reports = OutputBuilder<Tick, CapacityContainerBuilder<Vec<Report>>>;

/// The output ports that transforms and operators have in common.
struct Ports {
    graph: Arc<Graph>,
    control: Arc<Control>,
    step: usize,
    rows: (Batches, SchemaId),
    late: (Batches, SchemaId),
    bad: (Batches, SchemaId),
    reports: Reports,
    /// The side outputs of its own that are read, by number.
    sides: Vec<(usize, (Batches, SchemaId))>,
    bad_sampler: Sampler,
    late_sampler: Sampler,
}

impl Ports {
    fn new<'s>(build: &Build<'s>, step: usize, builder: &mut OperatorBuilder<'s, Tick>) -> (Ports, StepStreams<'s>) {
        let node = &build.graph.steps[step];
        let (rows, rows_stream) = builder.new_output::<Batch>();
        let (late, late_stream) = builder.new_output::<Batch>();
        let (bad, bad_stream) = builder.new_output::<Batch>();
        let (reports, reports_stream) = builder.new_output::<Vec<Report>>();
        let rows_id = register_schema(&node.schema);
        let (mut sides, mut side_streams) = (Vec::new(), Vec::new());
        for (number, schema) in
            node.sides.iter().enumerate().filter_map(|(number, side)| Some((number, side.as_ref()?)))
        {
            let (rows, stream) = builder.new_output::<Batch>();
            sides.push((number, (OutputBuilder::from(rows), register_schema(schema))));
            side_streams.push((number, stream));
        }
        let ports = Ports {
            graph: build.graph.clone(),
            control: build.control.clone(),
            step,
            rows: (OutputBuilder::from(rows), rows_id),
            late: (OutputBuilder::from(late), node.late.as_ref().map_or(rows_id, register_schema)),
            bad: (OutputBuilder::from(bad), register_schema(&bad_schema())),
            reports: OutputBuilder::from(reports),
            sides,
            bad_sampler: Sampler::default(),
            late_sampler: Sampler::default(),
        };
        let streams = StepStreams {
            rows: rows_stream,
            late: late_stream,
            bad: bad_stream,
            sides: side_streams,
            reports: reports_stream,
            parts: None,
        };
        (ports, streams)
    }

    fn node(&self) -> &StepNode {
        &self.graph.steps[self.step]
    }

    /// Returns how many outputs there are.
    fn len(&self) -> usize {
        FIRST_SIDE + self.sides.len()
    }

    /// Sends what a step gave. `at` are the capabilities of rows, late, bad and reports, then those of the sides.
    fn send(&mut self, at: &[Capability<Tick>], mut outputs: Outputs) {
        outputs.counts.out = outputs.rows.iter().map(|rows| rows.num_rows() as u64).sum();
        let place = self.graph.sources.len() + self.step;
        if outputs.counts != Counts::default() {
            self.reports.activate().session(&at[3]).give(Report::Counts(place as u32, outputs.counts));
        }
        give(&mut self.rows, &at[0], outputs.rows);
        let late: u64 = outputs.counts.late;
        if late > 0 {
            let step = &self.graph.steps[self.step].name;
            self.late_sampler.see(late, || LateRowsSeen { step });
        }
        if self.node().late.is_some() {
            give(&mut self.late, &at[1], outputs.late);
        }
        for ((number, port), at) in self.sides.iter_mut().zip(&at[FIRST_SIDE..]) {
            give(port, at, outputs.sides.get_mut(*number).map(std::mem::take).unwrap_or_default());
        }
        if !outputs.bad.is_empty() {
            let name = &self.graph.steps[self.step].name;
            self.bad_sampler.see(outputs.bad.len() as u64, || BadRowSeen::of(&self.graph, &outputs.bad[0], name));
            if self.node().bad {
                match bad_batch(&self.graph, name, &outputs.bad) {
                    Ok(batch) => give(&mut self.bad, &at[2], vec![batch]),
                    Err(error) => self.control.fail(EngineError::Internal(format!("cannot keep bad rows: {error}"))),
                }
            }
        }
    }
}

fn give(port: &mut (Batches, SchemaId), at: &Capability<Tick>, batches: Vec<RecordBatch>) {
    for rows in batches.into_iter().filter(|rows| rows.num_rows() > 0) {
        port.0.activate().session_with_builder(at).give_container(&mut Batch::new(rows, port.1));
    }
}

/// Puts a stateless step on its streams.
pub fn transform<'s>(
    build: &Build<'s>,
    step: usize,
    mut transform: Box<dyn Transform>,
    inputs: Vec<BatchStream<'s>>,
) -> StepStreams<'s> {
    let mut builder = OperatorBuilder::new(build.graph.steps[step].name.clone(), build.scope);
    let mut inputs: Vec<_> = inputs.into_iter().map(|stream| builder.new_input(stream, Pipeline)).collect();
    let (mut ports, streams) = Ports::new(build, step, &mut builder);
    let meter = build.meter.part(build.worker, meter::Part::Step(step));
    builder.build(move |_| {
        move |_| {
            for (number, input) in inputs.iter_mut().enumerate() {
                input.for_each(|time, batch| {
                    let Some(rows) = ports.control.received(batch.take()) else { return };
                    let _transforming = meter.enter();
                    let mut outputs = Outputs::default();
                    match transform.apply(number, rows, &mut outputs) {
                        Ok(()) => {
                            let at: Vec<_> = (0..ports.len()).map(|output| time.retain(output)).collect();
                            ports.send(&at, outputs);
                            meter.got_on();
                        }
                        Err(error) => ports.control.fail(EngineError::step(ports.node(), error)),
                    }
                });
            }
        }
    });
    streams
}

/// Returns the input watermark of a step.
fn input_watermark(node: &StepNode, watermarks: &[EventTime]) -> EventTime {
    let ways = node.watermark.iter().map(|way| watermarks[way.source].minus(way.delay));
    ways.min().unwrap_or(EventTime::MAX)
}

type Writer = Background<Request, Result<Written, EngineError>>;

/// The state of a step, frozen, to be written.
struct Request {
    tick: Tick,
    frozen: Vec<Frozen>,
    rebased: Vec<Vec<u16>>,
}

/// The files of a part of a checkpoint, and the CPU time of gathering and writing them.
struct Written {
    files: Vec<StateFile>,
    cpu_micros: u64,
}

/// What writes the checkpoint of a step, and the capabilities that keep the checkpoint open until that is done.
struct Freezer {
    control: Arc<Control>,
    state: Arc<dyn StateStore>,
    writer: Option<Writer>,
    shards: ShardRange,
    tables: Vec<TableSpec>,
    open: std::collections::VecDeque<(Capability<Tick>, u64)>,
    parts: OutputBuilder<Tick, CapacityContainerBuilder<Vec<Part>>>,
    step: usize,
    meter: Arc<Meter>,
}

impl Freezer {
    /// Freezes the state after `tick` and hands it to the writer.
    fn freeze(&mut self, name: &str, operator: &mut dyn Operator, at: Capability<Tick>) -> Result<(), EngineError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let pace = self.control.pace().clone();
        let (begun, from) = (pace.cpu_micros(), pace.now());
        let names: Vec<&'static str> = self.tables.iter().map(|table| table.name).collect();
        let rebased = self.state.rebase(name, &names, self.shards.worker, self.shards.workers);
        let frozen = operator.freeze(&rebased).map_err(|error| EngineError::Step { step: name.to_owned(), error })?;
        writer.request(Request { tick: *at.time(), frozen, rebased });
        self.open.push_back((at, pace.cpu_micros() - begun));
        let took = pace.now().saturating_duration_since(from);
        self.meter.frozen(self.step, self.shards.worker, took, sizes_of(&self.tables, operator));
        Ok(())
    }

    /// Announces what has been written.
    fn poll(&mut self) -> Result<(), EngineError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        while let Some(written) = writer.reply().map_err(|_| EngineError::Panic("checkpoint writer".into()))? {
            let (at, pause_micros) = self.open.pop_front().expect("every answer was asked for");
            let Written { files, cpu_micros } = written?;
            let cpu_micros = pause_micros + cpu_micros;
            self.parts.activate().session(&at).give(Part { files, pause_micros, cpu_micros });
        }
        Ok(())
    }
}

/// Puts a stateful step on its streams.
pub fn operator<'s>(
    build: &Build<'s>,
    step: usize,
    make: &Arc<dyn Fn(ShardRange) -> Box<dyn Operator> + Send + Sync>,
    inputs: Vec<BatchStream<'s>>,
    records: RecordStream<'s>,
) -> Result<StepStreams<'s>, EngineError> {
    let node = &build.graph.steps[step];
    let shards = ShardRange { worker: build.worker, workers: build.workers, shards: build.graph.shards };
    let mut operator = make(shards);
    let tables = operator.tables();
    restore(build, step, operator.as_mut(), &tables)?;

    let mut builder = OperatorBuilder::new(node.name.clone(), build.scope);
    let width = inputs.len();
    let mut inputs: Vec<_> = inputs.into_iter().map(|stream| builder.new_input(stream, Pipeline)).collect();
    let mut records = builder.new_input(records, Pipeline);
    let (ports, mut streams) = Ports::new(build, step, &mut builder);
    let (parts, parts_stream) = builder.new_output::<Vec<Part>>();
    streams.parts = Some(parts_stream);
    let writer = match tables.is_empty() {
        true => None,
        false => Some(start_writer(build, step, &tables, builder.operator_info().address.to_vec())?),
    };
    let freezer = Freezer {
        control: build.control.clone(),
        state: build.state.clone(),
        writer,
        shards,
        tables,
        open: Default::default(),
        parts: OutputBuilder::from(parts),
        step,
        meter: build.meter.clone(),
    };
    let first = build.start.tick + 1;
    let floor = build.floors.get(&node.name).copied();
    let mut stepping = Stepping {
        control: build.control.clone(),
        floor,
        before: Floor::hold(floor, build.start.tick, input_watermark(node, &build.start.watermarks)),
        tick: first,
        width,
        waiting: BTreeMap::new(),
        due: BTreeMap::new(),
        operator,
        ports,
        freezer,
        meter: build.meter.part(build.worker, meter::Part::Step(step)),
    };
    stepping.meter.reached(first);
    builder.build(move |capabilities| {
        let mut held: Vec<Capability<Tick>> = capabilities.iter().map(|c| c.delayed(&first)).collect();
        drop(capabilities);
        move |frontiers| {
            for (number, input) in inputs.iter_mut().enumerate() {
                input.for_each(|time, batch| {
                    let rows = stepping.control.received(batch.take());
                    stepping.take(*time.time(), number, rows);
                });
            }
            records.for_each(|_, records| stepping.due.extend(records.drain(..).map(|record| (record.tick, record))));
            let complete = |tick: Tick| !frontiers.iter().any(|frontier| frontier.less_equal(&tick));
            if let Err(error) = stepping.turn(complete, &mut held) {
                stepping.control.fail(error);
            }
        }
    });
    Ok(streams)
}

/// A stateful step at work.
struct Stepping {
    control: Arc<Control>,
    operator: Box<dyn Operator>,
    ports: Ports,
    freezer: Freezer,
    floor: Option<Floor>,
    /// The input watermark after the last tick that was stepped.
    before: EventTime,
    /// The tick to be stepped next.
    tick: Tick,
    width: usize,
    waiting: BTreeMap<Tick, Vec<Vec<RecordBatch>>>,
    due: BTreeMap<Tick, TickRecord>,
    meter: PartMeter,
}

impl Stepping {
    fn take(&mut self, tick: Tick, input: usize, rows: Option<RecordBatch>) {
        let waiting = self.waiting.entry(tick).or_insert_with(|| vec![Vec::new(); self.width]);
        waiting[input].extend(rows);
    }

    /// Steps all ticks that are complete and have their record, in order. `held` are the capabilities of
    /// all outputs; that of the parts is the last.
    fn turn(&mut self, complete: impl Fn(Tick) -> bool, held: &mut [Capability<Tick>]) -> Result<(), EngineError> {
        while !self.control.failed() && complete(self.tick) {
            let Some(record) = self.due.remove(&self.tick) else { break };
            let meter = self.meter.clone();
            let stepping = meter.enter();
            self.step(&record, held)?;
            if let (true, Some(parts)) = (record.checkpoint, held.last()) {
                let name = &self.ports.graph.steps[self.ports.step].name;
                self.freezer.freeze(name, self.operator.as_mut(), parts.clone())?;
            }
            drop(stepping);
            self.meter.got_on();
            self.tick += 1;
            self.meter.reached(self.tick);
            held.iter_mut().for_each(|capability| capability.downgrade(&self.tick));
        }
        self.freezer.poll()
    }

    fn step(&mut self, record: &TickRecord, held: &[Capability<Tick>]) -> Result<(), EngineError> {
        let watermark = input_watermark(self.ports.node(), &record.watermarks);
        let watermark = Floor::hold(self.floor, record.tick, watermark);
        let tick = StepTick { tick: record.tick, now: record.now, before: self.before, watermark, last: record.last };
        let rows = self.waiting.remove(&record.tick).unwrap_or_else(|| vec![Vec::new(); self.width]);
        let mut outputs = Outputs { pulse: self.meter.pulse(), ..Outputs::default() };
        fail_point::reach("step.tick");
        let stepped = self.operator.step(rows, &tick, &mut outputs);
        stepped.map_err(|error| EngineError::step(self.ports.node(), error))?;
        self.ports.send(held, outputs);
        self.before = watermark;
        Ok(())
    }
}

/// Puts the state of a checkpoint back, of the worker's shards.
fn restore(
    build: &Build<'_>,
    step: usize,
    operator: &mut dyn Operator,
    tables: &[TableSpec],
) -> Result<(), EngineError> {
    if build.start.tick == 0 {
        return Ok(());
    }
    let node = &build.graph.steps[step];
    let meter = build.meter.part(build.worker, meter::Part::Restore(step));
    let _restoring = meter.enter();
    let begun = build.control.pace().cpu_micros();
    let mut restored = 0;
    for (index, table) in tables.iter().enumerate() {
        let mut refused = None;
        let mut take = |rows: RecordBatch| {
            restored += rows.num_rows() as u64;
            match operator.restore(index, &rows) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    refused = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let read = build.state.read(&node.name, table.name, build.worker, build.workers, &mut take);
        read.map_err(EngineError::Journal)?;
        if let Some(error) = refused {
            return Err(EngineError::step(node, error));
        }
    }
    if !tables.is_empty() {
        let cpu = Duration::from_micros(build.control.pace().cpu_micros() - begun);
        Restored { step: &node.name, worker: build.worker, rows: restored, cpu }.log();
    }
    build.meter.sized(step, build.worker, sizes_of(tables, operator));
    Ok(())
}

fn sizes_of(tables: &[TableSpec], operator: &dyn Operator) -> Vec<(&'static str, TableSize)> {
    tables.iter().map(|table| table.name).zip(operator.sizes()).collect()
}

fn start_writer(
    build: &Build<'_>,
    step: usize,
    tables: &[TableSpec],
    address: Vec<usize>,
) -> Result<Writer, EngineError> {
    let node = &build.graph.steps[step];
    let act: Arc<Act> = build.meter.act(ActKind::Write, step, build.worker);
    let activator = build.scope.worker().sync_activator_for(address);
    let (state, pace) = (build.state.clone(), build.control.pace().clone());
    let (name, worker, tables) = (node.name.clone(), build.worker, tables.to_vec());
    let work = move |Request { tick, frozen, rebased }| {
        let _writing = act.begin();
        let begun = pace.cpu_micros();
        let frozen = frozen.into_iter().map(Frozen::gather).collect::<Result<_, _>>();
        let frozen = frozen.map_err(|error| EngineError::Step { step: name.clone(), error })?;
        let part = FrozenPart { tick, step: name.clone(), worker, tables: tables.clone(), frozen, rebased };
        let files = state.write(part).map_err(EngineError::Journal)?;
        Ok(Written { files, cpu_micros: pace.cpu_micros() - begun })
    };
    // The dataflow may be gone by then, which is no news to anybody.
    let wake = move || {
        activator.activate().ok();
    };
    let name = format!("checkpoint {}", node.name);
    Background::start(build.control.pace().as_ref(), &name, work, wake).map_err(EngineError::thread)
}
