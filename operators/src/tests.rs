//! Rows as tests of stateful steps write them, and workers to run the steps on.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::key::Keys;
use riverrun_dataflow::operator::Outputs;
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::{EventTime, StepTick};

pub(crate) mod cluster;
pub(crate) mod stored;

/// A row of any stream. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub time: i64,
    pub id: Option<String>,
    pub split: u32,
    pub position: u64,
    pub name: String,
    pub user: Option<String>,
    pub item: Option<i64>,
}

pub(crate) fn row(time: i64, name: &str) -> Row {
    let text = |text: &str| Some(text.to_owned());
    Row { time, id: text(name), split: 0, position: 0, name: name.into(), user: text("u1"), item: Some(1) }
}

/// The place of the columns `name`, `user`, `item`.
pub(crate) const NAME: usize = 0;
pub(crate) const USER: usize = 1;
pub(crate) const ITEM: usize = 2;

/// The columns of a row, the first of which is called `name`, then those that travel hidden.
pub(crate) fn schema(name: &str) -> SchemaRef {
    let columns = [
        Field::new(name, DataType::Utf8, false),
        Field::new("user", DataType::Utf8, true),
        Field::new("item", DataType::Int64, true),
    ];
    with_hidden(&columns, &Hidden::ALL)
}

/// Returns rows as a batch that was routed by the columns `keys`.
pub(crate) fn batch(name: &str, rows: &[Row], keys: &[usize]) -> RecordBatch {
    let names: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.name.clone())).collect::<StringArray>());
    let user: ArrayRef = Arc::new(rows.iter().map(|r| r.user.clone()).collect::<StringArray>());
    let item: ArrayRef = Arc::new(rows.iter().map(|r| r.item).collect::<Int64Array>());
    let mut columns = vec![
        names,
        user,
        item,
        Arc::new(rows.iter().map(|r| r.time.saturating_mul(1000)).collect::<Int64Array>()) as ArrayRef,
        Arc::new(rows.iter().map(|r| r.id.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.split).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|r| r.position).collect::<UInt64Array>()),
        Arc::new(UInt64Array::from(vec![0; rows.len()])),
    ];
    let unrouted = RecordBatch::try_new(schema(name), columns.clone()).unwrap();
    columns[7] = Arc::new(UInt64Array::from(Keys::of(&unrouted, keys).unwrap().hashes));
    RecordBatch::try_new(schema(name), columns).unwrap()
}

/// Few distinct values, so that ties, duplicates and equal rows are common.
pub(crate) fn any_row() -> impl Strategy<Value = Row> {
    let word = |words: Vec<&'static str>| prop::option::weighted(0.85, prop::sample::select(words));
    let user = word(vec!["u", "ü", "", "u1", "用户"]);
    let id = word(vec!["", "a", "b", "ä", "aa"]);
    let origin = (0u32..2, 0u64..4);
    (0i64..100, id, origin, "[ab]", user, prop::option::weighted(0.9, 0i64..2)).prop_map(
        |(time, id, (split, position), name, user, item)| Row {
            time,
            id: id.map(Into::into),
            split,
            position,
            name,
            user: user.map(Into::into),
            item,
        },
    )
}

/// The rows of one tick, by input, and the watermark after it, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestTick {
    pub inputs: Vec<Vec<Row>>,
    pub watermark: i64,
    pub last: bool,
}

/// Rows of so many inputs in ticks with time moving on at random: in order, in disorder, and late.
pub(crate) fn ticks(inputs: usize) -> impl Strategy<Value = Vec<TestTick>> {
    let tick = (prop::collection::vec((any_row(), 0..inputs), 0..25), 0i64..30, 0i64..40);
    prop::collection::vec(tick, 1..12).prop_map(move |cut| {
        let (mut base, mut watermark) = (0, i64::MIN);
        let mut ticks: Vec<TestTick> = Vec::new();
        for (rows, moved, lag) in cut {
            let shifted = |input: usize| -> Vec<Row> {
                let of_input = rows.iter().filter(|(_, of)| *of == input);
                of_input.map(|(row, _)| Row { time: row.time + base, ..row.clone() }).collect()
            };
            let inputs = (0..inputs).map(shifted).collect();
            base += moved;
            // Time does not begin until something has been read for a while.
            watermark = if lag > 35 { watermark } else { watermark.max(base + 40 - lag) };
            ticks.push(TestTick { inputs, watermark, last: false });
        }
        ticks.push(TestTick { inputs: vec![Vec::new(); inputs], watermark: i64::MAX, last: true });
        ticks
    })
}

/// What a tick gave, in an order that does not depend on arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub rows: Vec<String>,
    pub late: Vec<String>,
    pub bad: Vec<String>,
    pub sides: Vec<Vec<String>>,
    pub counts: Counts,
}

impl Given {
    /// Gave nothing yet, in none of `sides` side outputs.
    pub fn of(sides: usize) -> Given {
        Given { sides: vec![Vec::new(); sides], ..Given::default() }
    }

    pub fn add(&mut self, out: &Outputs) {
        self.rows.extend(out.rows.iter().flat_map(texts));
        self.late.extend(out.late.iter().flat_map(texts));
        self.bad.extend(out.bad.iter().map(|bad| format!("{} {}", bad.code, String::from_utf8_lossy(&bad.raw))));
        for (side, given) in self.sides.iter_mut().zip(&out.sides) {
            side.extend(given.iter().flat_map(texts));
        }
        self.counts += out.counts;
        self.sort();
    }

    pub fn sort(&mut self) {
        [&mut self.rows, &mut self.late, &mut self.bad].into_iter().chain(&mut self.sides).for_each(|it| it.sort());
    }
}

/// Returns each row as its values with `|` between, all but the key's hash; `-` stands for null.
pub(crate) fn texts(batch: &RecordBatch) -> Vec<String> {
    let value = |column: &ArrayRef, row: usize| {
        if column.is_null(row) { "-".to_string() } else { array_value_to_string(column, row).unwrap() }
    };
    let fields = batch.schema_ref().fields();
    let columns: Vec<&ArrayRef> =
        batch.columns().iter().zip(fields).filter(|(_, f)| f.name() != Hidden::Hash.name()).map(|(c, _)| c).collect();
    let text = |row: usize| columns.iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(text).collect()
}

/// Returns tick `number`, before which the watermark was `before`.
pub(crate) fn step_tick(number: usize, before: i64, now: &TestTick) -> StepTick {
    let time = |millis: i64| match millis {
        i64::MIN => EventTime::MIN,
        i64::MAX => EventTime::MAX,
        millis => EventTime::from_millis(millis),
    };
    StepTick { tick: number as u64, now: 0, before: time(before), watermark: time(now.watermark), last: now.last }
}

/// Says whether a watermark, in milliseconds, has passed a time.
pub(crate) fn is_passed(time: i64, watermark: i64) -> bool {
    watermark == i64::MAX || time < watermark
}

/// Cuts rows into batches at random and puts them in random order.
pub(crate) fn shuffled(whole: &dyn Fn(&[Row]) -> RecordBatch, rows: &[Row], seed: &mut u64) -> Vec<RecordBatch> {
    let mut next = |below: usize| {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 33) as usize % below
    };
    let mut rows = rows.to_vec();
    for i in (1..rows.len()).rev() {
        rows.swap(i, next(i + 1));
    }
    // One whole batch is read, and handed on in slices that share its memory.
    let whole = whole(&rows);
    let mut batches = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let width = 1 + next(rows.len() - start);
        batches.push(whole.slice(start, width));
        start += width;
    }
    batches
}
