//! A step on some workers: events as JSON objects in, rows as JSON objects out, with checkpoints and restarts between.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
    UInt64Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMillisecondType, UInt64Type};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};
use riverrun_dataflow::operator::{Operator, Outputs};
use riverrun_dataflow::schema::{Hidden, is_hidden, with_hidden};
use riverrun_dataflow::tick::StepTick;
use serde_json::{Map, Value, json};

use crate::events::{COLUMNS, EventType};
use crate::frustration::{self, Frustration, FrustrationBounds, FrustrationSettings, Sessions};
use crate::tests::stored::Stored;
use crate::watch::Watch;

pub(crate) const SHARDS: u16 = 8;
/// When the scripts of tests begin, in milliseconds.
pub(crate) const START: i64 = 1_700_000_000_000;

/// The columns of events as a plan would give them to the step.
pub(crate) fn event_schema() -> SchemaRef {
    let field = |name: &str, event_type: EventType| {
        let data_type = match event_type {
            EventType::Text => DataType::Utf8,
            EventType::Int => DataType::Int64,
            EventType::Float => DataType::Float64,
            EventType::Bool => DataType::Boolean,
            EventType::Time => return None,
        };
        Some(Field::new(name, data_type, true))
    };
    let all: Vec<Field> = COLUMNS.iter().filter_map(|column| field(column.name, column.column_type)).collect();
    let used = frustration::columns_used(&Schema::new(all.clone()));
    let fields: Vec<Field> = all.into_iter().filter(|field| used.contains(&field.name().as_str())).collect();
    with_hidden(&fields, &[Hidden::Time, Hidden::Split, Hidden::Position, Hidden::Hash])
}

/// Returns events as a batch; `at` is their time in ms after [`START`].
pub(crate) fn events(rows: &[Value]) -> RecordBatch {
    let schema = event_schema();
    let column = |field: &Arc<Field>| -> ArrayRef {
        let name = field.name().as_str();
        let values = || rows.iter().map(move |row| &row[name]);
        match (name, field.data_type()) {
            ("__time", _) => {
                let time = |row: &Value| (START + row["at"].as_i64().unwrap()) * 1000 + row["us"].as_i64().unwrap_or(0);
                Arc::new(rows.iter().map(time).collect::<Int64Array>())
            }
            ("__split", _) => Arc::new(UInt32Array::from(vec![3; rows.len()])),
            ("__position", _) => {
                Arc::new(rows.iter().map(|row| row["position"].as_u64().unwrap_or(0)).collect::<UInt64Array>())
            }
            ("__hash", _) => Arc::new(UInt64Array::from(vec![0; rows.len()])),
            (_, DataType::Int64) => Arc::new(values().map(Value::as_i64).collect::<Int64Array>()),
            (_, DataType::Float64) => Arc::new(values().map(Value::as_f64).collect::<Float64Array>()),
            (_, DataType::Boolean) => Arc::new(values().map(Value::as_bool).collect::<BooleanArray>()),
            _ => Arc::new(values().map(Value::as_str).collect::<StringArray>()),
        }
    };
    let batch = RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect()).unwrap();
    hashed(&batch, &frustration::signal_keys_in(&schema))
}

/// The same, for a step whose sessions are those of devices.
pub(crate) fn device_events(rows: &[Value]) -> RecordBatch {
    hashed(&events(rows), &["tenant_id", "anonymous_id"].map(str::to_owned))
}

/// Returns rows with the hash of their key.
pub(crate) fn hashed(batch: &RecordBatch, by: &[String]) -> RecordBatch {
    let by: Vec<usize> = by.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
    let hashes = Keys::of(batch, &by).unwrap().hashes;
    let mut columns = batch.columns().to_vec();
    *columns.last_mut().unwrap() = Arc::new(UInt64Array::from(hashes));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Returns the default settings, with these rules.
pub(crate) fn settings(rules: riverrun_behaviour::signals::Settings) -> FrustrationSettings {
    let schema = event_schema();
    FrustrationSettings {
        sessions: Sessions::Named,
        by: frustration::signal_keys_in(&schema).iter().map(|name| schema.index_of(name).unwrap()).collect(),
        rules,
        gap: std::time::Duration::from_secs(30 * 60),
        lateness: std::time::Duration::ZERO,
        goals: frustration::kinds(&["order_completed".to_owned()]),
        bounds: FrustrationBounds::default(),
    }
}

/// How far time comes with a tick, in ms after [`START`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    Ms(i64),
    End,
}

/// A step on some workers.
pub(crate) struct World<S> {
    make: Box<dyn Fn(ShardRange) -> S>,
    workers: Vec<S>,
    stored: Stored,
    before: EventTime,
    now: i64,
    pub counts: Counts,
}

impl World<Watch<Frustration>> {
    pub(crate) fn watching(settings: FrustrationSettings, workers: usize) -> Self {
        let step = Frustration::new(settings, &event_schema()).unwrap();
        World::new(workers, move |shards| Watch::new(step.clone(), shards))
    }
}

impl<S: Operator> World<S> {
    pub(crate) fn new(workers: usize, make: impl Fn(ShardRange) -> S + 'static) -> World<S> {
        let mut world = World {
            make: Box::new(make),
            workers: Vec::new(),
            stored: Stored::default(),
            before: EventTime::MIN,
            now: 0,
            counts: Counts::default(),
        };
        world.start(workers);
        world
    }

    fn start(&mut self, workers: usize) {
        let range = |worker| ShardRange { worker, workers, shards: SHARDS };
        self.workers = (0..workers).map(|worker| (self.make)(range(worker))).collect();
    }

    /// Steps a tick with these batches, whose rows carry the hash of their key. Returns what all workers gave.
    pub(crate) fn step(&mut self, batches: &[RecordBatch], to: To) -> Outputs {
        let (watermark, last) = match to {
            To::Ms(ms) => (EventTime((START + ms) * 1000), false),
            To::End => (EventTime::MAX, true),
        };
        if let To::Ms(ms) = to {
            self.now = (START + ms) * 1000;
        }
        let tick = StepTick { tick: 1, now: self.now, before: self.before, watermark, last };
        let mut all = Outputs::default();
        let count = self.workers.len();
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let own = |batch: &RecordBatch| {
                let hashes = batch.column_by_name("__hash").unwrap().as_primitive::<UInt64Type>().values().clone();
                let is_own = |hash: &u64| Some(worker_of(shard_of(*hash, SHARDS), SHARDS, count) == worker);
                filter_record_batch(batch, &hashes.iter().map(is_own).collect()).unwrap()
            };
            let mut out = Outputs::default();
            state.step(vec![batches.iter().map(own).collect()], &tick, &mut out).unwrap();
            assert!(out.counts.balances(), "{:?}", out.counts);
            self.counts += out.counts;
            all.rows.append(&mut out.rows);
            all.late.append(&mut out.late);
        }
        // No row that comes out is behind the watermark.
        for batch in &all.rows {
            let times = batch.column_by_name("__time").unwrap().as_primitive::<Int64Type>().values().clone();
            assert!(times.iter().all(|time| *time >= self.before.0), "a row is behind the watermark");
        }
        self.before = watermark;
        all
    }

    /// Writes a checkpoint.
    pub(crate) fn freeze(&mut self, rebase: &[u16]) {
        self.stored.freeze(&mut self.workers, rebase);
    }

    /// Starts anew from the checkpoint, with so many workers.
    pub(crate) fn restore(&mut self, workers: usize) {
        self.start(workers);
        self.stored.restore(&mut self.workers, SHARDS);
    }

    /// Returns how many rows the tables have.
    pub(crate) fn kept(&self) -> u64 {
        self.workers.iter().flat_map(Operator::sizes).map(|size| size.rows).sum()
    }
}

/// Returns rows as objects, times in ms after [`START`], in one order.
pub(crate) fn objects(batches: &[RecordBatch]) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let schema = batch.schema();
            let visible = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| !is_hidden(field.name()));
            let mut object: Map<String, Value> =
                visible.map(|(field, column)| (field.name().clone(), cell(column, row))).collect();
            let time = batch.column_by_name("__time").unwrap().as_primitive::<Int64Type>().value(row);
            object.insert("told".to_owned(), json!(time.div_euclid(1000) - START));
            rows.push(Value::Object(object));
        }
    }
    rows.sort_by_key(|row| (row["told"].as_i64(), row["rev"].as_i64(), row.to_string()));
    rows
}

fn cell(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Timestamp(..) => json!(column.as_primitive::<TimestampMillisecondType>().value(row) - START),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|item| cell(&items, item)).collect()
        }
        other => panic!("no cells of {other}"),
    }
}

/// Returns the last row of each thing, by its id.
pub(crate) fn last(rows: &[Value], id: &str) -> Vec<Value> {
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows.iter().filter(|row| row[id].is_string()) {
        let known = last.entry(row[id].to_string()).or_insert_with(|| row.clone());
        if row["rev"].as_i64() >= known["rev"].as_i64() {
            *known = row.clone();
        }
    }
    let mut last: Vec<Value> = last.into_values().collect();
    last.sort_by_key(|row| (row["start_time"].as_i64(), row.to_string()));
    last
}

/// Reads a script: a line is `ms type column=value ...`; a text with blanks is written with `_`.
pub(crate) fn script(text: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (at, kind) = (words.next().unwrap().parse::<i64>().unwrap(), words.next().unwrap());
        let number = rows.len();
        let mut row = json!({
            "at": at, "type": kind, "event_id": format!("e{number:04}"), "position": number * 100,
            "tenant_id": "t1", "session_id": "s1", "tab_id": "w1", "page_key": "/", "user_id": "u1",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0",
        });
        if kind == "click" {
            row["x"] = json!(100);
            row["y"] = json!(100);
            row["target_traits"] = json!("interactive");
        }
        for word in words {
            let (name, value) = word.split_once('=').unwrap();
            row[name] = match (value.parse::<i64>(), value.parse::<bool>()) {
                // An id of a submit is a text that looks like a number.
                (Ok(number), _) if name != "submit_id" && name != "initiator" => json!(number),
                (_, Ok(flag)) => json!(flag),
                _ if value == "null" => Value::Null,
                _ => json!(value),
            };
        }
        rows.push(row);
    }
    rows
}
