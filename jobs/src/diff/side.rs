//! One version of a job, run over the past with nothing but sorters in the places of its sinks: nothing outside is written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use riverrun_connectors::format::{EncodeSpec, Timestamps, encoder};
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::{self, Control, Lanes, Observer};
use riverrun_dataflow::graph::SplitNode;
use riverrun_dataflow::sink::{Claim, Lane, Promise, Sink, SinkError, TickRows, Token};
use riverrun_dataflow::source::{SplitId, SplitSpec};
use riverrun_dataflow::tick::{Tick, Timeline};

use super::sorter::{Sorted, Sorter};
use super::stream::{Reading, Stream};
use crate::connect::{Connected, Environment, OpenSink};
use crate::fault::{Fault, codes};
use crate::plan::{Plan, PlannedSink};
use crate::run::{Nothing, RunError};
use crate::spec::SourcePlace;

/// The splits of topics, by name: both versions read the same ones.
pub(super) type Topics = BTreeMap<String, Vec<SplitSpec>>;

/// What a version gave.
pub(super) struct Given {
    /// Its streams, sorted.
    pub sorted: Vec<Option<Sorted>>,
    /// Rows of each.
    pub rows: Vec<u64>,
    pub balance: BTreeMap<String, Counts>,
    /// The splits of its sources.
    pub splits: Vec<Vec<SplitNode>>,
    /// Somebody stopped it.
    pub is_stopped: bool,
}

/// What a version is run with.
pub(super) struct Running<'a> {
    pub environment: &'a Environment,
    pub workers: usize,
    /// Where what does not fit into memory goes.
    pub folder: &'a Path,
    /// Bytes of memory that a stream may take.
    pub memory: usize,
}

/// Runs `plan`, which is version `side`, and returns what it gave.
pub(super) fn run(
    plan: &Plan,
    side: usize,
    streams: &[Stream],
    topics: &mut Topics,
    running: &Running<'_>,
    (control, observer): (Arc<Control>, Arc<Observer>),
) -> Result<Given, RunError> {
    let collectors: Vec<Option<Arc<Collector>>> = streams
        .iter()
        .map(|stream| stream.places[side].map(|at| Collector::new(stream, &plan.sinks[at], running)).map(Arc::new))
        .collect();
    let by_name = |name: &str| {
        let own = streams.iter().zip(&collectors).find(|(stream, _)| stream.name == name);
        own.and_then(|(_, collector)| collector.clone()).expect("every sink is a stream")
    };
    let connected = plan.connect_to(running.environment, nowhere)?;
    let splits = splits(plan, &connected, topics)?;
    let graph = plan.graph(&connected, splits.clone());
    let lanes = plan.sinks.iter().enumerate().map(|(index, sink)| {
        let lane = Box::new(CollectingLane(by_name(&sink.name))) as Box<dyn Lane>;
        ((u32::try_from(index).expect("fewer sinks than u32"), 0), (lane, None))
    });
    let (lanes, sources) = (lanes.collect::<Lanes>(), graph.sources.len());
    let recovery = engine::Recovery { before: Timeline::start(sources, i64::MIN), ..engine::Recovery::default() };
    let job = engine::Job {
        graph,
        workers: running.workers,
        recovery,
        lanes,
        journal: Box::new(Nothing),
        state: Arc::new(Nothing),
        commit_every: Duration::ZERO,
        checkpoint_every: Duration::MAX,
        control,
        observer: observer.clone(),
    };
    engine::run(job)?;
    let snapshot = observer.snapshot();
    let mut given =
        Given { sorted: Vec::new(), rows: Vec::new(), balance: snapshot.balance, splits, is_stopped: !snapshot.last };
    for (stream, collector) in streams.iter().zip(collectors) {
        let taken = collector.map(|it| it.end()).transpose().map_err(|error| scratch_failed(&stream.name, &error))?;
        let (sorted, rows) = taken.unzip();
        given.sorted.push(sorted);
        given.rows.push(rows.unwrap_or(0));
    }
    Ok(given)
}

/// Returns what stands in the place of a sink: its rows as JSON, whatever their format, and a lane of our own.
pub(super) fn nowhere(planned: &PlannedSink) -> Result<OpenSink, Fault> {
    let format = EncodeSpec::Json { timestamps: Timestamps::Rfc3339 };
    let encoder = encoder(&format, planned.schema.clone(), None).map_err(|error| {
        let message = format!("the rows of sink `{}` cannot be compared: {error}", planned.name);
        Fault::elsewhere(codes::NOT_ENCODABLE, message)
    })?;
    let sink = Arc::new(Collecting(planned.name.clone()));
    Ok(OpenSink { name: planned.name.clone(), sink, encoder, lanes: 1, promise: Promise::AtLeastOnce })
}

/// Returns the splits of all sources, those of topics as the other version has them.
fn splits(plan: &Plan, connected: &Connected, topics: &mut Topics) -> Result<Vec<Vec<SplitNode>>, RunError> {
    let mut next: SplitId = 0;
    let mut all = Vec::new();
    for (planned, open) in plan.sources.iter().zip(&connected.sources) {
        let topic = match &planned.place {
            SourcePlace::Topic { name, .. } => Some(&name.value),
            SourcePlace::File(_) => None,
        };
        let specs = match topic.and_then(|topic| topics.get(topic)) {
            Some(known) => known.clone(),
            None => {
                let mut found = open.source.splits(true)?;
                found.sort_by(|a, b| a.name.cmp(&b.name));
                topic.and_then(|topic| topics.insert(topic.clone(), found.clone()));
                found
            }
        };
        let numbered = specs.into_iter().zip(next..).map(|(spec, id)| SplitNode { id, spec }).collect::<Vec<_>>();
        next += SplitId::try_from(numbered.len()).expect("splits are few");
        all.push(numbered);
    }
    Ok(all)
}

pub(super) fn scratch_failed(stream: &str, error: &io::Error) -> RunError {
    RunError::sink(stream, scratch_error(error))
}

fn scratch_error(error: &io::Error) -> SinkError {
    SinkError::Write {
        what: "rows to be compared to a file in the scratch folder".to_owned(),
        reason: format!("{error}\nhint: name a folder with more room: --scratch DIR"),
    }
}

/// Takes the rows of a stream.
struct Collector {
    reading: Reading,
    taken: Mutex<Option<(Sorter, u64)>>,
}

impl Collector {
    fn new(stream: &Stream, sink: &PlannedSink, running: &Running<'_>) -> Collector {
        let sorter = Sorter::new(running.folder, running.memory);
        Collector { reading: stream.reading(sink), taken: Mutex::new(Some((sorter, 0))) }
    }

    fn take(&self, ticks: &[TickRows]) -> io::Result<()> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (sorter, rows) = taken.as_mut().ok_or_else(|| io::Error::other("it is closed"))?;
        for tick in ticks {
            for index in 0..tick.rows.len() {
                let (_, text) = tick.rows.key_value(index);
                let entry = self.reading.entry(text).ok_or_else(|| io::Error::other("a row is no JSON object"))?;
                sorter.push(entry)?;
            }
            *rows += tick.rows.len() as u64;
        }
        Ok(())
    }

    fn end(&self) -> io::Result<(Sorted, u64)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (sorter, rows) = taken.ok_or_else(|| io::Error::other("it was closed before"))?;
        Ok((sorter.sorted()?, rows))
    }
}

/// Stands in for a sink.
struct Collecting(String);

impl Sink for Collecting {
    fn lanes(&self) -> Result<u32, SinkError> {
        Ok(1)
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn open(&self, lane: u32, _: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
        unreachable!("lane {lane} of sink `{}` is opened before the engine runs", self.0)
    }
}

struct CollectingLane(Arc<Collector>);

impl Lane for CollectingLane {
    fn commit(&mut self, _: Tick, ticks: &[TickRows]) -> Result<(), SinkError> {
        self.0.take(ticks).map_err(|error| scratch_error(&error))
    }
}
