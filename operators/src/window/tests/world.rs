//! The step on several workers with a store of checkpoints, and rows as plain structs.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
    UInt64Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};
use riverrun_dataflow::operator::{Operator, Outputs};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::tick::StepTick;

use crate::aggregate::Aggregate;
use crate::expression::Expressions;
use crate::tests::stored::Stored;
use crate::window::{Window, WindowSettings, WindowState};

pub(super) const SHARDS: u16 = 16;

pub(super) const AGGREGATES: &[(&str, &str)] = &[
    ("rows", "count(*)"),
    ("named", "count(s) filter (where n > 0)"),
    ("names", "count(distinct s)"),
    ("floats", "count(distinct f)"),
    ("sum_n", "sum(n)"),
    ("sum_f", "sum(f)"),
    ("sum_d", "sum(d)"),
    ("avg_n", "avg(n)"),
    ("avg_f", "avg(f) filter (where n > 0)"),
    ("avg_d", "avg(d)"),
    ("min_s", "min(s)"),
    ("max_f", "max(f)"),
    ("min_d", "min(d)"),
    ("first_s", "first(s)"),
    ("last_n", "last(n)"),
    ("last_f", "last(f) filter (where n is not null)"),
    ("high_f", "quantile(f, 0.9)"),
    ("half_n", "quantile(n, 0.5) filter (where n > 0)"),
    ("tens", "sum(10 / (n - 1)) filter (where n <> 1)"),
    ("fails", "count(*) filter (where 10 / n <> 5)"),
];

/// Compiled once for all cases.
static COMPILED: LazyLock<Vec<(String, Aggregate)>> = LazyLock::new(|| compile(AGGREGATES));

fn compile(aggregates: &[(&str, &str)]) -> Vec<(String, Aggregate)> {
    let e = Expressions::new();
    aggregates.iter().map(|(name, sql)| (name.to_string(), e.compile_aggregate(sql, &schema()).unwrap())).collect()
}

#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) k: Option<String>,
    pub(super) j: Option<i64>,
    pub(super) n: Option<i64>,
    pub(super) f: Option<f64>,
    pub(super) d: Option<i128>,
    pub(super) s: Option<String>,
    pub(super) time: i64,
    pub(super) id: Option<String>,
    pub(super) split: u32,
    pub(super) position: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) rows: Vec<Row>,
    /// `None`: the last tick.
    pub(super) watermark: Option<i64>,
}

/// In microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    pub(super) size: i64,
    pub(super) every: i64,
    pub(super) lateness: i64,
}

/// What came out in a tick, in one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) rows: Vec<String>,
    pub(super) late: Vec<String>,
    pub(super) bad: Vec<String>,
}

/// Any row: few keys, many ties, nulls, unicode, floats that do not add up the same in any order.
pub(super) fn row() -> impl Strategy<Value = Row> {
    let text = |words: &'static [&'static str]| {
        prop::option::weighted(0.8, prop::sample::select(words)).prop_map(|word| word.map(str::to_owned))
    };
    let float = prop::sample::select(vec![0.1, 0.2, 0.3, 1e16, -1e16, 1.5, 0.7, -0.0, 0.0]);
    let float = prop_oneof![30 => float, 1 => Just(f64::NAN), 1 => Just(-f64::NAN)];
    let decimal = prop::sample::select(vec![1i128, -1, 5, 33, -250, 999_999_999_999, -999_999_999_999]);
    // Most rows of a key are in few windows, and many of them at one time.
    let time = (-5i64..20, prop::sample::select(vec![0i64, 0, 0, 1, 7])).prop_map(|(step, by)| step * 20 + by);
    (
        (text(&["", "ключ"]), prop::option::of(Just(1i64)), prop::option::of(-2i64..4), prop::option::of(float)),
        (prop::option::of(decimal), text(&["x", "ä", "日本", ""]), time, text(&["i"]), 0u32..2, 0u64..2),
    )
        .prop_map(|((k, j, n, f), (d, s, time, id, split, position))| Row {
            k,
            j,
            n,
            f,
            d,
            s,
            time,
            id,
            split,
            position,
        })
}

pub(super) fn schema() -> SchemaRef {
    let columns = [
        Field::new("k", DataType::Utf8, true),
        Field::new("j", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(12, 2), true),
        Field::new("s", DataType::Utf8, true),
    ];
    with_hidden(&columns, &Hidden::ALL)
}

pub(super) fn batch(rows: &[Row], hashes: Option<u64>) -> RecordBatch {
    let texts = |of: fn(&Row) -> &Option<String>| Arc::new(rows.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let decimals: Decimal128Array = rows.iter().map(|row| row.d).collect();
    let mut columns: Vec<ArrayRef> = vec![
        texts(|row| &row.k),
        Arc::new(rows.iter().map(|row| row.j).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.f).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(12, 2).unwrap()),
        texts(|row| &row.s),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.time))),
        texts(|row| &row.id),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.split))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.position))),
        Arc::new(UInt64Array::from(vec![0; rows.len()])),
    ];
    let unrouted = RecordBatch::try_new(schema(), columns.clone()).unwrap();
    let real = Keys::of(&unrouted, &[0, 1]).unwrap().hashes;
    let carried = real.into_iter().map(|hash| hashes.map_or(hash, |few| hash % few));
    columns[10] = Arc::new(UInt64Array::from_iter_values(carried));
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Returns the first `width` columns of a row as text.
pub(super) fn text(batch: &RecordBatch, row: usize, width: usize) -> String {
    let one = |column: &ArrayRef| match column.is_null(row) {
        true => "null".to_owned(),
        false => array_value_to_string(column, row).unwrap(),
    };
    batch.columns()[..width].iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) struct World {
    window: Window,
    workers: Vec<WindowState>,
    before: EventTime,
    /// Rows in a batch.
    pub(super) cut: usize,
    /// Rows carry the hashes of their keys, modulo this.
    pub(super) hashes: Option<u64>,
    /// What checkpoints wrote, oldest first.
    stored: Stored,
}

impl World {
    pub(super) fn new(spans: Spans, workers: usize, aggregates: &[(&str, &str)]) -> World {
        let micros = |micros: i64| Duration::from_micros(micros as u64);
        let settings = WindowSettings {
            by: vec![0, 1],
            aggregates: if aggregates == AGGREGATES { COMPILED.clone() } else { compile(aggregates) },
            size: micros(spans.size),
            every: micros(spans.every),
            lateness: micros(spans.lateness),
            unit: TimeUnit::Microsecond,
            groups_max: WindowSettings::GROUPS_MAX,
        };
        let window = Window::new(settings, &schema()).unwrap();
        let mut world = World {
            window,
            workers: Vec::new(),
            before: EventTime::MIN,
            cut: 100,
            hashes: None,
            stored: Stored::default(),
        };
        world.start(workers);
        world
    }

    fn start(&mut self, workers: usize) {
        let range = |worker| ShardRange { worker, workers, shards: SHARDS };
        self.workers = (0..workers).map(|worker| self.window.on(range(worker))).collect();
    }

    pub(super) fn groups(&self) -> usize {
        self.workers.iter().map(WindowState::groups).sum()
    }

    pub(super) fn step(&mut self, tick: &Tick) -> Came {
        let watermark = tick.watermark.map_or(EventTime::MAX, EventTime).max(self.before);
        let step = StepTick { tick: 1, now: 0, before: self.before, watermark, last: tick.watermark.is_none() };
        let all = batch(&tick.rows, self.hashes);
        let owners: Vec<usize> =
            hashes(&all).map(|h| worker_of(shard_of(h, SHARDS), SHARDS, self.workers.len())).collect();
        let mut came = Came::default();
        let cut = self.cut;
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let mask: BooleanArray = owners.iter().map(|owner| Some(*owner == worker)).collect();
            let own = filter_record_batch(&all, &mask).unwrap();
            let parts = (0..own.num_rows()).step_by(cut).map(|from| own.slice(from, cut.min(own.num_rows() - from)));
            let mut out = Outputs::default();
            state.step(vec![parts.collect()], &step, &mut out).unwrap();
            assert!(out.counts.balances() && out.counts.input == own.num_rows() as u64, "{:?}", out.counts);
            let late: usize = out.late.iter().map(RecordBatch::num_rows).sum();
            assert_eq!((out.counts.late, out.counts.bad), (late as u64, out.bad.len() as u64));
            came.take(&out, self.window.schema());
        }
        came.sort();
        self.before = watermark;
        came
    }

    /// Writes a checkpoint: all of the shards in `rebase`, changes of the others.
    pub(super) fn freeze(&mut self, rebase: &[u16]) {
        self.stored.freeze(&mut self.workers, rebase);
    }

    /// Starts anew from what was stored.
    pub(super) fn restore(&mut self, workers: usize) {
        self.start(workers);
        self.stored.restore(&mut self.workers, SHARDS);
    }

    pub(super) fn stored_rows(&self) -> usize {
        self.stored.rows(0)
    }
}

fn hashes(batch: &RecordBatch) -> impl Iterator<Item = u64> {
    batch.column(10).as_primitive::<arrow::datatypes::UInt64Type>().values().iter().copied()
}

impl Came {
    fn take(&mut self, out: &Outputs, schema: &SchemaRef) {
        for rows in &out.rows {
            assert_eq!(rows.schema_ref(), schema);
            let visible = rows.num_columns() - 2;
            self.rows.extend((0..rows.num_rows()).map(|row| text(rows, row, visible)));
            let ends = rows.column(1).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values();
            let times = rows.column(visible).as_primitive::<arrow::datatypes::Int64Type>().values();
            assert!(ends.iter().zip(times).all(|(end, time)| end - 1 == *time));
        }
        for rows in &out.late {
            assert_eq!(rows.schema(), super::world::schema());
            self.late.extend((0..rows.num_rows()).map(|row| text(rows, row, 10)));
        }
        self.bad.extend(out.bad.iter().map(|bad| format!("{} {} {}", bad.split, bad.position, bad.reason)));
    }

    pub(super) fn sort(&mut self) {
        self.rows.sort_unstable();
        self.late.sort_unstable();
        self.bad.sort_unstable();
    }
}
