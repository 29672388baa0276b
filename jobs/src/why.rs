//! Why a row is there: the row as the job wrote it, and the input records that it rests on, read again where they were read.
//!
//! A row names its evidence in one of two ways. Signals and incidents carry `evidence`, the ids of events, and `evidence_at`, where each
//! was read: `split:position`, with the numbers of splits that the job's log has. An attributed or joined row carries the ids of the
//! rows it was made of, in the columns that sources name as `id`, those of the second input behind a prefix; such records are looked
//! for in all of their source: a duplicate is told, too.
//!
//! Nothing is locked and nothing is written; the job may be running.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use riverrun_connectors::format::{EncodeSpec, FormatSpec};
use riverrun_connectors::kafka::{KafkaSource, KafkaSourceConfig, Manners, OnLost, OnMissing};
use riverrun_connectors::start::Start;
use riverrun_connectors::topic::TopicSource;
use riverrun_dataflow::graph::SplitNode;
use riverrun_dataflow::source::{Chunk, Payload, ReadLimits, Source, SourceError, SplitId, SplitSpec};
use riverrun_state::record::Inputs;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::connect::{Connected, Environment, Topics};
use crate::plan::{Plan, PlannedSink};
use crate::run::RunError;
use crate::spec::SinkPlace;
use crate::spec::values::resolve;

/// Rows with the id that are shown at most; the newest of them.
pub const ROWS_MAX: usize = 100;

/// Records with one id that are shown at most.
const RECORDS_MAX: usize = 10;

/// The column in which `attribute` with `models` names the touch, whatever its source calls it.
pub(crate) const TOUCH_ID: &str = "touch_id";

/// How much is read at once.
const LIMITS: ReadLimits = ReadLimits::at_most(8192, 8 << 20);

/// How long a source is waited for that does not answer at once, and how often in a row.
const WAIT: Duration = Duration::from_millis(2);
const WAITS_MAX: u32 = 15_000;

/// What was found of an id.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Why {
    /// The rows that have it, sink by sink, in the order in which they were written.
    pub rows: Vec<Found>,
    /// What could not be looked into, and why.
    pub notes: Vec<String>,
}

/// A row that a sink was given.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The sink.
    pub sink: String,
    /// Where it stands: a topic's partition and offset, a file and its line.
    pub at: String,
    /// The column that has the id.
    pub column: String,
    /// The row.
    pub row: Map<String, Value>,
    /// The row as it stands there.
    #[serde(skip)]
    pub text: String,
    /// What it rests on, in the order in which the row names it.
    pub evidence: Vec<Piece>,
}

/// A record of the input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Piece {
    /// The column of the row that names it.
    pub named_by: String,
    /// Its id.
    pub id: String,
    /// Its source.
    pub source: Option<String>,
    /// Its split there.
    pub split: Option<String>,
    /// Its position there.
    pub position: Option<u64>,
    /// What it says: JSON as such, anything else as text. None if it was not found.
    pub record: Option<Value>,
    /// The record as it stands there.
    #[serde(skip)]
    pub text: String,
}

/// A record and where it is.
pub(crate) struct Record {
    pub position: u64,
    pub bytes: Vec<u8>,
}

/// Looks for `id` in what the job wrote, and reads again what those rows rest on. `inputs` is what the job's log says that it reads;
/// without it, splits are taken as a first run would number them now.
pub fn why(plan: &Plan, environment: &Environment, inputs: Option<&Inputs>, id: &str) -> Result<Why, RunError> {
    let connected = plan.connect_to_look(environment)?;
    let splits = match inputs {
        Some(inputs) => splits_of(plan, inputs),
        None => connected.splits()?,
    };
    let input = Input { plan, connected: &connected, splits };
    let mut why = Why::default();
    for sink in &plan.sinks {
        let mut rows = VecDeque::new();
        let mut take = |at: String, bytes: &[u8]| {
            if let Some((column, row)) = row_of(bytes, id) {
                let (text, evidence) = (text_of(bytes), Vec::new());
                // What names a user may name a million rows.
                if rows.len() == ROWS_MAX {
                    rows.pop_front();
                }
                rows.push_back(Found { sink: sink.name.clone(), at, column, row, text, evidence });
            }
        };
        if let Err(note) = each_row(plan.name(), sink, environment, &mut take) {
            why.notes.push(format!("sink `{}` was not looked into: {note}", sink.name));
        }
        why.rows.extend(rows);
    }
    why.rows.drain(..why.rows.len().saturating_sub(ROWS_MAX));
    for found in &mut why.rows {
        found.evidence = input.evidence(found, &mut why.notes)?;
    }
    why.notes.dedup();
    Ok(why)
}

fn splits_of(plan: &Plan, inputs: &Inputs) -> Vec<Vec<SplitNode>> {
    let of = |source: &str| {
        let own = inputs.splits.iter().filter(|split| split.source == source);
        own.map(|split| SplitNode { id: split.id, spec: split.spec.clone() }).collect()
    };
    plan.sources.iter().map(|source| of(&source.name)).collect()
}

/// Returns the row in `bytes`, and which of its columns is `id`, if one is.
fn row_of(bytes: &[u8], id: &str) -> Option<(String, Map<String, Value>)> {
    if !contains(bytes, id) {
        return None;
    }
    let row: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    // The column that names the row, rather than one that names another.
    let named = |(name, value): &(&String, &Value)| name.ends_with("id") && is_text(value, id);
    let column = row.iter().find(named).map(|(name, _)| name.clone())?;
    Some((column, row))
}

fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Number(value) => value.to_string() == text,
        _ => false,
    }
}

/// Returns whether `text` stands somewhere in `bytes`, as JSON writes it if it has nothing to escape.
fn contains(bytes: &[u8], text: &str) -> bool {
    let escaped = serde_json::to_string(text).unwrap_or_default();
    let inner = escaped.trim_matches('"').as_bytes();
    !inner.is_empty() && bytes.windows(inner.len()).any(|window| window == inner)
}

/// Hands all rows that a sink was given to `take`, each with its place.
fn each_row(
    job: &str,
    sink: &PlannedSink,
    environment: &Environment,
    take: &mut dyn FnMut(String, &[u8]),
) -> Result<(), String> {
    if !matches!(sink.format, EncodeSpec::Json { .. }) {
        return Err("its rows are not JSON".to_owned());
    }
    match &sink.place {
        SinkPlace::Lake(_) => Err("its rows are not JSON".to_owned()),
        SinkPlace::Console => Err("what it printed is not kept".to_owned()),
        SinkPlace::File(path) => {
            let path = PathBuf::from(resolve(&path.value)?);
            let file = std::fs::File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            for (number, line) in (1..).zip(BufReader::new(file).split(b'\n')) {
                let line = line.map_err(|error| format!("{}: {error}", path.display()))?;
                take(format!("{}:{number}", path.display()), &line);
            }
            Ok(())
        }
        SinkPlace::Topic { name, .. } => {
            let source: Box<dyn Source> = match &environment.topics {
                Topics::Embedded(folder) => Box::new(TopicSource::new(folder, &name.value)),
                Topics::Kafka(cluster) => Box::new(KafkaSource::new(KafkaSourceConfig {
                    cluster: cluster.clone(),
                    topic: name.value.clone(),
                    job: job.to_owned(),
                    start: Start::Earliest,
                    end: Start::Latest,
                    manners: Manners {
                        on_lost: OnLost::Stop,
                        on_missing: OnMissing::Stop,
                        // What a sink wrote is read as it is.
                        allow_compacted: true,
                        mirror_offsets: false,
                        discover_every: Duration::MAX,
                    },
                })),
                Topics::Elsewhere { reason, .. } => return Err(reason.clone()),
            };
            let source = source.as_ref();
            for split in source.splits(true).map_err(|error| error.to_string())? {
                let mut each = |record: Record| {
                    take(format!("{} partition {} offset {}", name.value, split.name, record.position), &record.bytes);
                    false
                };
                each_record(source, &split, split.start, &mut each).map_err(|error| error.to_string())?;
            }
            Ok(())
        }
    }
}

/// Hands the records of a split from `position` on to `take`, until it says that this is enough.
pub(crate) fn each_record(
    source: &dyn Source,
    split: &SplitSpec,
    position: u64,
    take: &mut dyn FnMut(Record) -> bool,
) -> Result<(), SourceError> {
    let mut reader = source.open(split, position)?;
    let mut waited = 0;
    loop {
        match reader.read(&LIMITS)? {
            Some(chunk) => {
                waited = 0;
                if (0..chunk.rows()).any(|index| take(record_of(&chunk, index))) {
                    return Ok(());
                }
            }
            None if reader.waits() && !reader.ended() && waited < WAITS_MAX => {
                waited += 1;
                std::thread::sleep(WAIT);
            }
            None => return Ok(()),
        }
    }
}

fn record_of(chunk: &Chunk, index: usize) -> Record {
    let position = chunk.position(index);
    let bytes = match &chunk.payload {
        Payload::Records(records) => {
            let (start, end) = records.ranges[index];
            records.bytes[start as usize..end as usize].to_vec()
        }
        Payload::Columns(batch) => json_of(batch, index),
    };
    Record { position, bytes }
}

/// Returns a row of a columnar file as a JSON object of texts.
fn json_of(batch: &arrow::array::RecordBatch, row: usize) -> Vec<u8> {
    let schema = batch.schema();
    let text = |index: usize| arrow::util::display::array_value_to_string(batch.column(index), row).unwrap_or_default();
    let values = (0..batch.num_columns()).map(|index| (schema.field(index).name().clone(), Value::from(text(index))));
    Value::Object(values.collect()).to_string().into_bytes()
}

/// What the job reads.
struct Input<'a> {
    plan: &'a Plan,
    connected: &'a Connected,
    splits: Vec<Vec<SplitNode>>,
}

impl Input<'_> {
    /// Returns what a row rests on.
    fn evidence(&self, found: &Found, notes: &mut Vec<String>) -> Result<Vec<Piece>, RunError> {
        let texts = |column: &str| -> Option<Vec<&str>> {
            found.row.get(column)?.as_array().map(|list| list.iter().filter_map(Value::as_str).collect())
        };
        match (texts("evidence"), texts("evidence_at")) {
            (Some(ids), Some(places)) => {
                let pieces = ids.into_iter().zip(places).map(|(id, place)| self.piece_at(id, place, notes));
                Ok(pieces.collect())
            }
            _ => self.named(&found.row),
        }
    }

    /// Reads the event `id` again, at `split:position`.
    fn piece_at(&self, id: &str, place: &str, notes: &mut Vec<String>) -> Piece {
        let mut piece = Piece {
            named_by: "evidence".to_owned(),
            id: id.to_owned(),
            source: None,
            split: None,
            position: None,
            record: None,
            text: String::new(),
        };
        let numbers = place.split_once(':').and_then(|(split, at)| Some((split.parse().ok()?, at.parse().ok()?)));
        let Some((number, position)) = numbers else { return piece };
        let Some((source, split)) = self.split(number) else {
            notes.push(format!("event `{id}` was read from split {number}, which the job does not read any more"));
            return piece;
        };
        (piece.source, piece.split) = (Some(self.plan.sources[source].name.clone()), Some(split.name.clone()));
        piece.position = Some(position);
        let mut first = None;
        let read = each_record(&*self.connected.sources[source].source, split, position, &mut |record| {
            first = Some(record);
            true
        });
        match (read, first) {
            (Ok(()), Some(record)) if record.position == position => piece.set(&record.bytes),
            (Ok(()), _) => notes.push(format!("event `{id}` is not at position {position} of {} any more", split.name)),
            (Err(error), _) => notes.push(format!("event `{id}` cannot be read again: {error}")),
        }
        piece
    }

    fn split(&self, number: SplitId) -> Option<(usize, &SplitSpec)> {
        let all = self.splits.iter().enumerate().flat_map(|(at, nodes)| nodes.iter().map(move |node| (at, node)));
        all.filter(|(_, node)| node.id == number).map(|(at, node)| (at, &node.spec)).next()
    }

    /// Looks for the records that the columns of a row name: a column that is called like a source's id, or ends like it behind a
    /// prefix.
    fn named(&self, row: &Map<String, Value>) -> Result<Vec<Piece>, RunError> {
        let mut pieces: BTreeMap<usize, Vec<Piece>> = BTreeMap::new();
        for (at, source) in self.plan.sources.iter().enumerate() {
            let Some(id_column) = &source.schema.id else { continue };
            let behind = format!("_{id_column}");
            let names = |name: &str| name == id_column || name.ends_with(&behind) || name == TOUCH_ID;
            let named = row.iter().enumerate().filter(|(_, (name, _))| names(name));
            for (place, (name, value)) in named {
                let id = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => continue,
                };
                let found = self.find(at, name, &id)?;
                // Two sources may name their ids alike: where it was found counts.
                if found[0].record.is_some() || !pieces.contains_key(&place) {
                    pieces.insert(place, found);
                }
            }
        }
        Ok(pieces.into_values().flatten().collect())
    }

    /// Looks for the records with an id in all of a source; without any, a piece says so.
    fn find(&self, source: usize, named_by: &str, id: &str) -> Result<Vec<Piece>, RunError> {
        let (planned, open) = (&self.plan.sources[source], &self.connected.sources[source]);
        let nowhere = Piece {
            named_by: named_by.to_owned(),
            id: id.to_owned(),
            source: Some(planned.name.clone()),
            split: None,
            position: None,
            record: None,
            text: String::new(),
        };
        let mut pieces = Vec::new();
        for node in &self.splits[source] {
            each_record(&*open.source, &node.spec, node.spec.start, &mut |record| {
                let is_it = contains(&record.bytes, id)
                    && match planned.format {
                        FormatSpec::Json | FormatSpec::Parquet => {
                            serde_json::from_slice(&record.bytes).is_ok_and(|value: Value| has(&value, id))
                        }
                        FormatSpec::Csv(_) => {
                            String::from_utf8_lossy(&record.bytes).split([',', ';', '\t', '"']).any(|it| it == id)
                        }
                        // Text stands in them as it is; where it ends is not to be seen.
                        FormatSpec::Avro(_) | FormatSpec::Protobuf(..) => true,
                    };
                if is_it {
                    let (split, position) = (Some(node.spec.name.clone()), Some(record.position));
                    let mut piece = Piece { split, position, ..nowhere.clone() };
                    piece.set(&record.bytes);
                    pieces.push(piece);
                }
                pieces.len() == RECORDS_MAX
            })?;
        }
        pieces.truncate(RECORDS_MAX);
        Ok(if pieces.is_empty() { vec![nowhere] } else { pieces })
    }
}

/// Returns whether a value is `id`, or has it inside.
fn has(value: &Value, id: &str) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| has(value, id)),
        Value::Object(values) => values.values().any(|value| has(value, id)),
        value => is_text(value, id),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

impl Piece {
    fn set(&mut self, bytes: &[u8]) {
        self.text = text_of(bytes);
        self.record = Some(serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(self.text.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_by_a_column_that_names_it() {
        let found = |text: &str, id: &str| row_of(text.as_bytes(), id).map(|(column, _)| column);
        let row = r#"{"signal_id":"s1","kind":"k2","evidence":["e1"],"order_id":7}"#;
        assert_eq!(found(row, "s1").as_deref(), Some("signal_id"));
        assert_eq!(found(row, "7").as_deref(), Some("order_id"));
        assert_eq!(found(row, "k2"), None, "a column that names nothing");
        assert_eq!(found(row, "e1"), None, "what it rests on is another row");
        assert_eq!(found("{\"order_id\": \"a\\\"b\"}", "a\"b").as_deref(), Some("order_id"));
        assert_eq!(found("{\"order_id\": \"o1", "o1"), None, "a row that is being written");
    }

    #[test]
    fn an_id_is_a_whole_value() {
        let value = serde_json::json!({ "a": { "b": ["x", { "id": "o-1" }] }, "c": 12 });
        assert!(has(&value, "o-1") && has(&value, "12") && has(&value, "x"));
        assert!(!has(&value, "o-") && !has(&value, "1"));
    }
}
