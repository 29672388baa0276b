//! The step on several workers with a store of checkpoints, and rows as plain structs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use riverrun_dataflow::EventTime;
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::{Keys, shard_of, worker_of};
use riverrun_dataflow::operator::{Operator, Outputs, Pulse};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::tick::StepTick;

use crate::aggregate::Aggregate;
use crate::expression::{Expression, Expressions};
use crate::sessionize::{Interactions, Mode, Sessionize, SessionizeSettings, SessionizeState, Splits, zone_of};
use crate::tests::stored::Stored;

pub(super) const SHARDS: u16 = 16;
/// Microseconds of a millisecond, the unit in which rows and settings of these tests are written.
pub(super) const MS: i64 = 1000;

const AGGREGATES: &[(&str, &str)] = &[
    ("events", "count(*)"),
    ("sum_n", "sum(n)"),
    ("names", "count(distinct s)"),
    ("first_s", "first(s)"),
    ("last_n", "last(n)"),
    ("floats", "sum(f)"),
    ("tenth", "sum(10 / n)"),
];

type Compiled = (Vec<(String, Aggregate)>, Expression, Expression);

/// Compiled once for all cases: the aggregates, which rows are interactions, which move the end.
static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let e = Expressions::new();
    let aggregates =
        AGGREGATES.iter().map(|(name, sql)| (name.to_string(), e.compile_aggregate(sql, &schema()).unwrap()));
    let predicate = |sql: &str| e.compile_predicate(sql, &schema()).unwrap();
    (aggregates.collect(), predicate("kind <> 'passive' and kind <> 'leave'"), predicate("kind = 'leave'"))
});

/// In milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) gap: i64,
    pub(super) max_duration: i64,
    pub(super) lateness: i64,
    /// Some rows are passive.
    pub(super) passive: bool,
    /// Some of these move the end.
    pub(super) leave: bool,
    pub(super) user: bool,
    pub(super) campaign: bool,
    pub(super) referrer: bool,
    pub(super) midnight: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            gap: 10,
            max_duration: 1000,
            lateness: 0,
            passive: false,
            leave: false,
            user: false,
            campaign: false,
            referrer: false,
            midnight: false,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) k: Option<String>,
    pub(super) j: Option<i64>,
    pub(super) kind: Option<String>,
    pub(super) user: Option<String>,
    pub(super) campaign: Option<String>,
    pub(super) n: Option<i64>,
    pub(super) f: Option<f64>,
    pub(super) s: Option<String>,
    /// Microseconds.
    pub(super) time: i64,
    pub(super) id: Option<String>,
    pub(super) split: u32,
    pub(super) position: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) rows: Vec<Row>,
    /// Microseconds; `None`: the last tick.
    pub(super) watermark: Option<i64>,
}

/// What came out in a tick, in one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) rows: Vec<String>,
    pub(super) late: Vec<String>,
    pub(super) bad: Vec<String>,
    pub(super) sessionless: Vec<String>,
}

/// Any row: few keys, many ties, nulls, empty texts, a midnight in the middle.
pub(super) fn row() -> impl Strategy<Value = Row> {
    let text = |words: &'static [&'static str], weight: f64| {
        prop::option::weighted(weight, prop::sample::select(words)).prop_map(|word| word.map(str::to_owned))
    };
    let time = (-5i64..20, prop::sample::select(vec![0i64, 0, 0, 1, 7])).prop_map(|(step, by)| (step * 10 + by) * MS);
    let kind = text(&["click", "view", "passive", "leave"], 0.95);
    let float = prop::option::of(prop::sample::select(vec![0.1, 0.2, 0.3, 1e16, -1e16, 1.5]));
    (
        (text(&["", "ключ", "k"], 0.8), prop::option::of(Just(1i64)), kind, time),
        (text(&["u1", "u2", ""], 0.5), text(&["c1", "c2", ""], 0.4)),
        (prop::option::of(-2i64..9), float, text(&["x", "ä", ""], 0.8), text(&["i", "j"], 0.5), 0u32..2, 0u64..3),
    )
        .prop_map(|((k, j, kind, time), (user, campaign), (n, f, s, id, split, position))| Row {
            k,
            j,
            kind,
            user,
            campaign,
            n,
            f,
            s,
            time,
            id,
            split,
            position,
        })
}

pub(super) fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let columns = [
        text("k"),
        Field::new("j", DataType::Int64, true),
        text("kind"),
        text("user"),
        text("campaign"),
        Field::new("n", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        text("s"),
    ];
    with_hidden(&columns, &Hidden::ALL)
}

pub(super) fn batch(rows: &[Row], hashes: Option<u64>) -> RecordBatch {
    let texts = |of: fn(&Row) -> &Option<String>| Arc::new(rows.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let mut columns: Vec<ArrayRef> = vec![
        texts(|row| &row.k),
        Arc::new(rows.iter().map(|row| row.j).collect::<Int64Array>()),
        texts(|row| &row.kind),
        texts(|row| &row.user),
        texts(|row| &row.campaign),
        Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.f).collect::<arrow::array::Float64Array>()),
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
    columns[12] = Arc::new(UInt64Array::from_iter_values(carried));
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Returns the first `width` columns of a row as text.
pub(super) fn text(batch: &RecordBatch, row: usize, width: usize) -> String {
    let one = |column: &ArrayRef| match column.is_null(row) {
        true => "null".to_owned(),
        false => array_value_to_string(column, row).unwrap(),
    };
    batch.columns()[..width].iter().map(one).collect::<Vec<_>>().join(" | ")
}

/// Returns how many events a row of sessions counts.
pub(super) fn events_of(row: &str) -> usize {
    row.split(" | ").nth(6).unwrap().parse().unwrap()
}

pub(super) fn settings_of(settings: Settings) -> SessionizeSettings {
    let millis = |millis: i64| Duration::from_millis(millis as u64);
    let (aggregates, interactions, leaves) = COMPILED.clone();
    SessionizeSettings {
        mode: Mode::Final,
        by: vec![0, 1],
        tenant: None,
        gap: millis(settings.gap),
        max_duration: millis(settings.max_duration),
        lateness: millis(settings.lateness),
        interactions: if settings.passive { Interactions::Where(interactions) } else { Interactions::All },
        leaves: settings.leave.then_some(leaves),
        splits: Splits {
            user_switch: settings.user.then_some(3),
            campaign: settings.campaign.then_some(4),
            referrer: settings.referrer.then_some(7),
            midnight: settings.midnight.then(|| zone_of("-00:00").unwrap()),
        },
        events: None,
        aggregates,
        unit: TimeUnit::Microsecond,
        sessions_max: SessionizeSettings::SESSIONS_MAX,
        waiting_max: SessionizeSettings::WAITING_MAX,
    }
}

pub(super) struct World {
    step: Sessionize,
    workers: Vec<SessionizeState>,
    before: EventTime,
    /// Rows in a batch.
    pub(super) cut: usize,
    /// Rows carry the hashes of their keys, modulo this.
    pub(super) hashes: Option<u64>,
    stored: Stored,
}

impl World {
    pub(super) fn new(settings: Settings, workers: usize) -> World {
        World::of(Sessionize::new(settings_of(settings), &schema()).unwrap(), workers)
    }

    pub(super) fn of(step: Sessionize, workers: usize) -> World {
        let (before, stored) = (EventTime::MIN, Stored::default());
        let mut world = World { step, workers: Vec::new(), before, cut: 100, hashes: None, stored };
        world.start(workers);
        world
    }

    fn start(&mut self, workers: usize) {
        let range = |worker| ShardRange { worker, workers, shards: SHARDS };
        self.workers = (0..workers).map(|worker| self.step.on(range(worker))).collect();
    }

    /// Returns how many sessions are open, and how many rows wait.
    pub(super) fn kept(&self) -> [usize; 2] {
        let all = self.workers.iter().map(SessionizeState::kept);
        all.fold([0, 0], |sum, kept| [sum[0] + kept[0], sum[1] + kept[1]])
    }

    pub(super) fn step(&mut self, tick: &Tick) -> Came {
        let watermark = tick.watermark.map_or(EventTime::MAX, EventTime).max(self.before);
        let step = StepTick { tick: 1, now: 0, before: self.before, watermark, last: tick.watermark.is_none() };
        let all = batch(&tick.rows, self.hashes);
        let hashes = all.column(12).as_primitive::<arrow::datatypes::UInt64Type>().values();
        let owners: Vec<usize> =
            hashes.iter().map(|hash| worker_of(shard_of(*hash, SHARDS), SHARDS, self.workers.len())).collect();
        let mut came = Came::default();
        let cut = self.cut;
        for (worker, state) in self.workers.iter_mut().enumerate() {
            let mask: BooleanArray = owners.iter().map(|owner| Some(*owner == worker)).collect();
            let own = filter_record_batch(&all, &mask).unwrap();
            let parts = (0..own.num_rows()).step_by(cut).map(|from| own.slice(from, cut.min(own.num_rows() - from)));
            let beats = Arc::new(AtomicU64::new(0));
            let mut out = Outputs { pulse: Pulse::on(beats.clone()), ..Outputs::default() };
            state.step(vec![parts.collect()], &step, &mut out).unwrap();
            // However many sessions end in one tick, each batch of them is a sign of life.
            assert!(beats.load(Ordering::Relaxed) >= out.rows.len() as u64);
            assert!(out.counts.balances() && out.counts.input == own.num_rows() as u64, "{:?}", out.counts);
            let late: usize = out.late.iter().map(RecordBatch::num_rows).sum();
            assert_eq!((out.counts.late, out.counts.bad), (late as u64, out.bad.len() as u64));
            came.take(&out, self.step.schema());
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

    pub(super) fn stored_rows(&self, table: usize) -> usize {
        self.stored.rows(table)
    }
}

impl Came {
    fn take(&mut self, out: &Outputs, schema: &SchemaRef) {
        for rows in &out.rows {
            assert_eq!(rows.schema_ref(), schema);
            let visible = rows.num_columns() - 2;
            self.rows.extend((0..rows.num_rows()).map(|row| text(rows, row, visible)));
            let ends = rows.column(2).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values();
            let times = rows.column(visible).as_primitive::<arrow::datatypes::Int64Type>().values();
            assert_eq!(ends, times);
        }
        for rows in &out.late {
            assert_eq!(rows.schema(), super::world::schema());
            self.late.extend((0..rows.num_rows()).map(|row| text(rows, row, 12)));
        }
        self.bad.extend(out.bad.iter().map(|bad| format!("{} {} {}", bad.split, bad.position, bad.reason)));
        for rows in out.sides.iter().flatten() {
            self.sessionless.extend((0..rows.num_rows()).map(|row| text(rows, row, 12)));
        }
    }

    pub(super) fn sort(&mut self) {
        self.rows.sort_unstable();
        self.late.sort_unstable();
        self.bad.sort_unstable();
        self.sessionless.sort_unstable();
    }
}
