//! Rows as the tests write them, one worker or several to run them on, and the claims about single steps.

mod claims;
mod golden;
mod oracle;
mod real;
mod restart;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, UInt32Array, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};

use super::*;

/// A conversion or a touch. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    time: i64,
    id: Option<String>,
    split: u32,
    position: u64,
    name: String,
    user: Option<String>,
    item: Option<i64>,
}

fn row(time: i64, name: &str) -> Row {
    Row {
        time,
        id: Some(name.into()),
        split: 0,
        position: 0,
        name: name.into(),
        user: Some("u1".into()),
        item: Some(1),
    }
}

/// What is fixed before the first row of a test.
#[derive(Clone, Debug)]
struct Setup {
    window_ms: u64,
    model: Model,
    dedupe_ms: Option<u64>,
    /// The sources name an id.
    ids: bool,
    /// Rows carry their split and position.
    origin: bool,
    /// Key columns: user, or user and item.
    keys: usize,
    /// Both inputs have the same columns.
    alike: bool,
    bounds: AttributeBounds,
    shards: u16,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            window_ms: 1000,
            model: Model::LastTouch,
            dedupe_ms: None,
            ids: true,
            origin: true,
            keys: 2,
            alike: false,
            bounds: AttributeBounds::default(),
            shards: 8,
        }
    }
}

impl Setup {
    fn hidden(&self) -> Vec<Hidden> {
        let mut hidden = vec![Hidden::Time, Hidden::Hash];
        hidden.extend(self.ids.then_some(Hidden::Id));
        hidden.extend([Hidden::Split, Hidden::Position].into_iter().filter(|_| self.origin));
        hidden
    }

    fn schema(&self, name: &str) -> SchemaRef {
        let columns = [
            Field::new(if self.alike { "name" } else { name }, DataType::Utf8, false),
            Field::new("user", DataType::Utf8, true),
            Field::new("item", DataType::Int64, true),
        ];
        with_hidden(&columns, &self.hidden())
    }

    fn key_columns(&self) -> Vec<usize> {
        [1, 2][..self.keys].to_vec()
    }

    fn attribute(&self) -> Attribute {
        let settings = AttributeSettings {
            conversion_keys: self.key_columns(),
            touch_keys: self.key_columns(),
            window: Duration::from_millis(self.window_ms),
            model: self.model,
            dedupe_for: self.dedupe_ms.map(Duration::from_millis),
            bounds: self.bounds,
        };
        Attribute::new(settings, &self.schema("order"), &self.schema("click")).unwrap()
    }

    fn batch(&self, name: &str, rows: &[Row]) -> RecordBatch {
        let schema = self.schema(name);
        let user: ArrayRef = Arc::new(rows.iter().map(|r| r.user.clone()).collect::<StringArray>());
        let item: ArrayRef = Arc::new(rows.iter().map(|r| r.item).collect::<Int64Array>());
        let keyed = RecordBatch::try_from_iter_with_nullable([("u", user.clone(), true), ("i", item.clone(), true)]);
        let keys = Keys::of(&keyed.unwrap(), &[0, 1][..self.keys]).unwrap();
        let column = |column: &str| -> ArrayRef {
            match column {
                "user" => user.clone(),
                "item" => item.clone(),
                "__time" => Arc::new(rows.iter().map(|r| micros(r.time)).collect::<Int64Array>()),
                "__id" => Arc::new(rows.iter().map(|r| r.id.clone()).collect::<StringArray>()),
                "__split" => Arc::new(rows.iter().map(|r| r.split).collect::<UInt32Array>()),
                "__position" => Arc::new(rows.iter().map(|r| r.position).collect::<UInt64Array>()),
                "__hash" => Arc::new(UInt64Array::from(keys.hashes.clone())),
                _ => Arc::new(rows.iter().map(|r| Some(r.name.clone())).collect::<StringArray>()),
            }
        };
        let arrays = schema.fields().iter().map(|f| column(f.name())).collect();
        RecordBatch::try_new(schema, arrays).unwrap()
    }

    fn shards_of(&self, rows: &[Row]) -> Vec<u16> {
        let keys = Keys::of(&self.batch("any", rows), &self.key_columns()).unwrap();
        keys.hashes.iter().map(|hash| shard_of(*hash, self.shards)).collect()
    }

    fn worker(&self) -> AttributeState {
        self.attribute().on(ShardRange { worker: 0, workers: 1, shards: self.shards })
    }
}

/// Milliseconds as microseconds; the limits stand for the limits.
fn micros(millis: i64) -> i64 {
    millis.saturating_mul(1000)
}

/// The rows of one tick, and the watermark after it, in milliseconds.
#[derive(Clone, Debug, Default)]
struct TestTick {
    orders: Vec<Row>,
    clicks: Vec<Row>,
    watermark: i64,
    last: bool,
}

/// What a tick gave, in an order that does not depend on arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Given {
    rows: Vec<String>,
    late: Vec<String>,
    counts: Counts,
}

impl Given {
    fn add(&mut self, out: &Outputs) {
        self.rows.extend(out.rows.iter().flat_map(texts));
        self.late.extend(out.late.iter().flat_map(texts));
        self.rows.sort();
        self.late.sort();
        self.counts += out.counts;
    }
}

/// Returns each row as its values with `|` between; `-` stands for null.
fn texts(batch: &RecordBatch) -> Vec<String> {
    let value = |column: &ArrayRef, row: usize| {
        if column.is_null(row) { "-".to_string() } else { array_value_to_string(column, row).unwrap() }
    };
    let text = |row: usize| batch.columns().iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(text).collect()
}

fn step_tick(tick: u64, before: i64, now: &TestTick) -> StepTick {
    let time = |millis: i64| match millis {
        i64::MIN => EventTime::MIN,
        i64::MAX => EventTime::MAX,
        millis => EventTime::from_millis(millis),
    };
    StepTick { tick, now: 0, before: time(before), watermark: time(now.watermark), last: now.last }
}

/// Runs ticks on one worker, each input as one batch.
struct Runner {
    setup: Setup,
    state: AttributeState,
    tick: u64,
    before: i64,
}

impl Runner {
    fn new(setup: Setup) -> Runner {
        let state = setup.worker();
        Runner { setup, state, tick: 0, before: i64::MIN }
    }

    fn try_step(&mut self, now: &TestTick) -> Result<Outputs, StepError> {
        self.tick += 1;
        let tick = step_tick(self.tick, self.before, now);
        self.before = now.watermark;
        let inputs = vec![vec![self.setup.batch("order", &now.orders)], vec![self.setup.batch("click", &now.clicks)]];
        let mut out = Outputs::default();
        self.state.step(inputs, &tick, &mut out)?;
        assert!(out.counts.balances(), "{:?}", out.counts);
        Ok(out)
    }

    fn step(&mut self, orders: &[Row], clicks: &[Row], watermark: i64) -> Given {
        let now = TestTick { orders: orders.to_vec(), clicks: clicks.to_vec(), watermark, last: false };
        let mut given = Given::default();
        given.add(&self.try_step(&now).unwrap());
        given
    }

    /// Steps a tick and returns its rows as `order<-click`, `-` for none.
    fn pairs(&mut self, orders: &[Row], clicks: &[Row], watermark: i64) -> Vec<String> {
        self.step(orders, clicks, watermark).rows.iter().map(|text| pair(text)).collect()
    }
}

fn pair(text: &str) -> String {
    let values: Vec<&str> = text.split('|').collect();
    format!("{}<-{}", values[0], values[3])
}

/// Runs one tick that is the last.
fn run_once(setup: Setup, orders: &[Row], clicks: &[Row]) -> Given {
    let mut given = Given::default();
    let now = TestTick { orders: orders.to_vec(), clicks: clicks.to_vec(), watermark: i64::MAX, last: true };
    let mut runner = Runner::new(setup);
    given.add(&runner.try_step(&now).unwrap());
    assert_eq!(runner.state.kept(), [0, 0, 0], "nothing is kept after the last tick");
    given
}
