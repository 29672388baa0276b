//! The graph that the engine runs: what `jobs` makes of a checked plan, in terms of contracts only.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::operator::{Operator, Transform};
use crate::partitioner::Partitioner;
use crate::sink::{Encoder, Sink};
use crate::source::{Decoder, Source, SplitId, SplitSpec};
use crate::time::EventTime;

/// Makes a part of the graph anew, on the worker that uses it.
pub type Make<T> = Arc<dyn Fn() -> Box<T> + Send + Sync>;

/// A running job's graph. Nodes refer to each other by index; steps stand after what they read.
#[derive(Clone)]
pub struct Graph {
    /// The job's name.
    pub job: String,
    /// Shards, fixed when the job is created.
    pub shards: u16,
    /// Sources.
    pub sources: Vec<SourceNode>,
    /// Steps, in an order in which every step stands after those it reads.
    pub steps: Vec<StepNode>,
    /// Sinks.
    pub sinks: Vec<SinkNode>,
    /// Where ticks are cut and how far they may run ahead.
    pub ticks: TickSettings,
    /// The cut itself, on bounded input whose ticks somebody wants to choose. `None`: it follows from `ticks` and the data.
    pub cut: Option<GivenCut>,
}

/// How many records each split gives to each tick, from tick 1 on; nothing is read after the last. A function of the data like
/// any other bounded cut, as long as it is given alike at every start of the job.
pub type GivenCut = Arc<Vec<BTreeMap<SplitId, u64>>>;

/// How input is cut into ticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickSettings {
    /// Time after which a live tick is closed.
    pub interval: Duration,
    /// Records in a tick, over the whole job.
    pub max_rows: u64,
    /// Bytes of raw records in a tick, over the whole job.
    pub max_bytes: u64,
    /// Ticks that may be incomplete at once.
    pub in_flight: u64,
    /// How far a split's event time may be ahead of the slowest live one before it must wait for it.
    pub align: Duration,
}

/// An edge's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Edge {
    /// Rows of a source.
    Source(usize),
    /// Rows of a source that could not be decoded, as rows of [`bad_columns`].
    SourceBad(usize),
    /// Rows of a step.
    Step(usize),
    /// A step's late rows.
    StepLate(usize),
    /// Rows on which an expression of a step failed, as rows of [`bad_columns`].
    StepBad(usize),
    /// A side output that a step has of its own: the step, and the number of the output in [`StepNode::sides`].
    StepSide(usize, usize),
}

/// What happens to a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// It goes to `<source>.bad`; where nothing reads that, it is counted and sampled into the log.
    Divert,
    /// It is counted.
    Drop,
    /// It stops the job.
    Stop,
}

/// A source in the graph.
#[derive(Clone)]
pub struct SourceNode {
    /// Its name in the job file.
    pub name: String,
    /// Its splits are opened here.
    pub source: Arc<dyn Source>,
    /// Makes its decoder.
    pub decoder: Make<dyn Decoder>,
    /// Schema of its rows, hidden columns included.
    pub schema: SchemaRef,
    /// All its splits have fixed ends.
    pub bounded: bool,
    /// Watermark = greatest event time - this.
    pub max_disorder: Duration,
    /// A live split found empty for this long is idle.
    pub idle_after: Duration,
    /// On live input, rows further ahead of the recorded clock are bad.
    pub max_future: Duration,
    /// Event times that are accepted.
    pub event_times: RangeInclusive<EventTime>,
    /// What happens to bad rows.
    pub on_bad_row: OnBadRow,
    /// The splits, as resolved into the log before tick 1.
    pub splits: Vec<SplitNode>,
}

/// A split in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitNode {
    /// Its number.
    pub id: SplitId,
    /// What the source said of it.
    pub spec: SplitSpec,
}

/// A step in the graph.
#[derive(Clone)]
pub struct StepNode {
    /// Its name in the job file.
    pub name: String,
    /// What it reads.
    pub inputs: Vec<InputNode>,
    /// What it does.
    pub work: StepWork,
    /// Schema of its rows, hidden columns included.
    pub schema: SchemaRef,
    /// Schema of its late rows, if something reads them.
    pub late: Option<SchemaRef>,
    /// Whether something reads its bad rows.
    pub bad: bool,
    /// Schema of the rows of each side output of its own, if something reads them.
    pub sides: Vec<Option<SchemaRef>>,
    /// What its input watermark follows from: each source it reads, with the sum of the delays on the way.
    pub watermark: Vec<WatermarkPath>,
}

/// One way from a source to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkPath {
    /// The source.
    pub source: usize,
    /// The sum of the delays of the steps between.
    pub delay: Duration,
}

/// An input of a step.
#[derive(Clone, Debug)]
pub struct InputNode {
    /// Where its rows come from.
    pub from: Edge,
    /// Columns by which rows are routed to shards; `None`: rows stay on their worker. A routed batch has [`crate::schema::Hidden::Hash`].
    pub route: Option<Vec<usize>>,
}

/// The two kinds of steps.
#[derive(Clone)]
pub enum StepWork {
    /// Runs on arrival of each batch.
    Transform(Make<dyn Transform>),
    /// Runs once per tick, on the rows of the shards of its worker.
    Operator(Arc<dyn Fn(ShardRange) -> Box<dyn Operator> + Send + Sync>),
}

/// The shards of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRange {
    /// The worker.
    pub worker: usize,
    /// All workers of the job.
    pub workers: usize,
    /// All shards of the job.
    pub shards: u16,
}

/// A sink in the graph.
#[derive(Clone)]
pub struct SinkNode {
    /// Its name in the job file.
    pub name: String,
    /// Where its rows come from.
    pub from: Edge,
    /// Makes its encoder.
    pub encoder: Make<dyn Encoder>,
    /// Its lanes, fixed when the job was created.
    pub lanes: u32,
    /// Columns that place a row on a lane; `None`: the row's key hash, or its split where rows have no key.
    pub key: Option<Vec<usize>>,
    /// How they do.
    pub partitioner: Partitioner,
    /// The outside system.
    pub sink: Arc<dyn Sink>,
}

impl Graph {
    /// Returns whether all sources are bounded: the cut is then a function of the data alone.
    pub fn bounded(&self) -> bool {
        self.sources.iter().all(|source| source.bounded)
    }
}

/// Returns the columns of `<source>.bad` and `<step>.bad`: `source, split, position, code, reason, raw, raw_base64, raw_length`.
pub fn bad_columns() -> Vec<arrow::datatypes::Field> {
    use arrow::datatypes::{DataType, Field};
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    vec![
        text("source", false),
        text("split", false),
        Field::new("position", DataType::Int64, false),
        text("code", false),
        text("reason", false),
        text("raw", true),
        text("raw_base64", true),
        Field::new("raw_length", DataType::Int64, false),
    ]
}
