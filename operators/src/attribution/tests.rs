//! The step against the golden examples of attribution, rows in and rows out.

mod golden;
mod properties;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, ListArray, StringArray, StructArray,
    UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Decimal128Type, Int64Type};
use riverrun_behaviour::attribution::ledger::{CountMode, Emission, ItemScope};
use riverrun_behaviour::attribution::{Model, Windows};
use riverrun_dataflow::schema::with_hidden;

use super::*;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// Milliseconds of a time of day.
fn at(hour: i64, minute: i64, second: i64) -> i64 {
    (hour * 60 + minute) * MINUTE + second * SECOND
}

/// A row of any of the three inputs; each has the columns that it needs. Times are in milliseconds, money in cents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    time: i64,
    id: Option<String>,
    user: Option<String>,
    person: Option<String>,
    device: Option<String>,
    click_id: Option<String>,
    kind: Option<String>,
    channel: Option<String>,
    campaign: Option<String>,
    product: Option<String>,
    order_id: Option<String>,
    amount: Option<i64>,
    lines: Vec<(String, i64)>,
}

fn row(id: &str, time: i64) -> Row {
    let text = |text: &str| Some(text.to_owned());
    Row {
        time,
        id: text(id),
        user: text("u1"),
        person: None,
        device: None,
        click_id: None,
        kind: None,
        channel: None,
        campaign: None,
        product: None,
        order_id: None,
        amount: None,
        lines: Vec::new(),
    }
}

fn touch(id: &str, channel: &str, time: i64) -> Row {
    Row { channel: Some(channel.to_owned()), campaign: Some(id.to_owned()), ..row(id, time) }
}

fn view(id: &str, time: i64) -> Row {
    Row { kind: Some("view".to_owned()), ..touch(id, "display", time) }
}

fn order(id: &str, time: i64, cents: i64) -> Row {
    Row { order_id: Some(id.to_owned()), amount: Some(cents), ..row(&format!("{id}-made"), time) }
}

fn correction(kind: &str, id: &str, order_id: &str, time: i64, cents: Option<i64>) -> Row {
    Row { order_id: Some(order_id.to_owned()), kind: Some(kind.to_owned()), amount: cents, ..row(id, time) }
}

fn refund(id: &str, order_id: &str, time: i64, cents: i64) -> Row {
    correction("refund", id, order_id, time, Some(cents))
}

const USER: usize = 0;

fn line_fields() -> arrow::datatypes::Fields {
    vec![Field::new("product", DataType::Utf8, true), Field::new("price", DataType::Decimal128(12, 2), true)].into()
}

/// The columns of all inputs are the same, so that late rows of each are given.
fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let item = Field::new_list_field(DataType::Struct(line_fields()), true);
    let columns = vec![
        text("user"),
        text("person"),
        text("device"),
        text("click_id"),
        text("kind"),
        text("channel"),
        text("campaign"),
        text("product"),
        text("order_id"),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("lines", DataType::List(Arc::new(item)), true),
        Field::new("viewable", DataType::Boolean, true),
    ];
    with_hidden(&columns, &Hidden::ALL)
}

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |of: fn(&Row) -> &Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(|row| of(row).clone()).collect::<StringArray>())
    };
    let money = |cents: Vec<Option<i64>>| {
        let amounts: Decimal128Array = cents.into_iter().map(|cents| cents.map(i128::from)).collect();
        amounts.with_precision_and_scale(12, 2).unwrap()
    };
    let all: Vec<&(String, i64)> = rows.iter().flat_map(|row| &row.lines).collect();
    let products: StringArray =
        all.iter().map(|(product, _)| Some(product.clone()).filter(|it| !it.is_empty())).collect();
    let prices = money(all.iter().map(|(_, cents)| Some(*cents)).collect());
    let items = StructArray::new(line_fields(), vec![Arc::new(products), Arc::new(prices)], None);
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.lines.len()));
    let item = Arc::new(Field::new_list_field(DataType::Struct(line_fields()), true));
    let seen = |row: &Row| {
        Some(!row.kind.as_deref().is_some_and(|kind| kind == "view" && row.product.as_deref() == Some("hidden")))
    };
    let mut columns: Vec<ArrayRef> = vec![
        text(|row| &row.user),
        text(|row| &row.person),
        text(|row| &row.device),
        text(|row| &row.click_id),
        text(|row| &row.kind),
        text(|row| &row.channel),
        text(|row| &row.campaign),
        text(|row| &row.product),
        text(|row| &row.order_id),
        Arc::new(money(rows.iter().map(|row| row.amount).collect())),
        Arc::new(ListArray::new(item, offsets, Arc::new(items), None)),
        Arc::new(rows.iter().map(seen).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.time * 1000).collect::<Int64Array>()),
        text(|row| &row.id),
        Arc::new(UInt32Array::from(vec![0; rows.len()])),
        Arc::new(UInt64Array::from_iter_values(0..rows.len() as u64)),
    ];
    let users = RecordBatch::try_from_iter_with_nullable([("user", columns[USER].clone(), true)]).unwrap();
    columns.push(Arc::new(UInt64Array::from(Keys::of(&users, &[0]).unwrap().hashes)));
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// All models, and settings of which a test changes one.
fn settings() -> AttributionSettings {
    let rules = Settings { models: Model::ALL.to_vec(), ..Settings::default() };
    AttributionSettings {
        rules,
        keys: vec![vec![USER]; 3],
        conversion: ConversionColumns { order_id: Some(8), value: Some(9), ..ConversionColumns::default() },
        touch: TouchColumns {
            kind: Some(4),
            viewable: Some(11),
            channel: Some(5),
            campaign: Some(6),
            product: Some(7),
            ..TouchColumns::default()
        },
        correction: Some(CorrectionColumns { order_id: 8, kind: 4, amount: Some(9), currency: None }),
        amount: DataType::Decimal128(12, 2),
        max_kept: 1000,
        sides: [true; 2],
    }
}

fn with_rules(change: impl FnOnce(&mut Settings)) -> AttributionSettings {
    let mut settings = settings();
    change(&mut settings.rules);
    settings
}

fn plan(settings: AttributionSettings) -> Attribution {
    Attribution::new(settings, &vec![schema(); 3]).unwrap()
}

/// A row that was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Gave {
    order_id: String,
    model: String,
    touch_id: String,
    channel: String,
    through: String,
    weight_ppm: i64,
    conversions_ppm: i64,
    cents: i64,
    reason: String,
    event_id: String,
    booked: i64,
}

/// Returns the rows of a batch, with `op`.
fn gave(batch: &RecordBatch) -> Vec<(String, Gave)> {
    let text = |name: &str, row: usize| {
        let column = batch.column_by_name(name).unwrap().as_string::<i32>();
        if column.is_null(row) { "-".to_owned() } else { column.value(row).to_owned() }
    };
    let number = |name: &str, row: usize| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row);
    let one = |row: usize| {
        let cents = batch.column_by_name("amount").unwrap().as_primitive::<Decimal128Type>().value(row);
        let gave = Gave {
            order_id: text("order_id", row),
            model: text("model", row),
            touch_id: text("touch_id", row),
            channel: text("channel", row),
            through: text("through", row),
            weight_ppm: number("weight_ppm", row),
            conversions_ppm: number("conversions_ppm", row),
            cents: i64::try_from(cents).unwrap(),
            reason: text("reason", row),
            event_id: text("event_id", row),
            booked: number("__time", row) / 1000,
        };
        (text("op", row), gave)
    };
    (0..batch.num_rows()).map(one).collect()
}

/// Applies what was given to the table of a reader; what is taken back must be there.
fn apply(table: &mut BTreeMap<Gave, i64>, rows: &[(String, Gave)]) {
    // Of one order what is taken back may stand after what is given anew: rows of a tick come in one order at the sink.
    for (op, row) in rows {
        *table.entry(row.clone()).or_default() += if op == "+" { 1 } else { -1 };
    }
    table.retain(|_, count| *count != 0);
    assert!(table.values().all(|count| *count == 1), "{table:?}");
}

/// One worker that is given rows tick by tick, and a reader of what it gives.
struct Runner {
    state: AttributionState,
    tick: u64,
    before: EventTime,
    table: BTreeMap<Gave, i64>,
    notices: Vec<String>,
    counts: riverrun_dataflow::balance::Counts,
    bad: Vec<String>,
    late: usize,
}

impl Runner {
    fn new(settings: AttributionSettings) -> Runner {
        let state = plan(settings).on(ShardRange { worker: 0, workers: 1, shards: 8 });
        Runner {
            state,
            tick: 0,
            before: EventTime::MIN,
            table: BTreeMap::new(),
            notices: Vec::new(),
            counts: Default::default(),
            bad: Vec::new(),
            late: 0,
        }
    }

    /// Steps a tick after which the watermark is so many milliseconds; returns what it gave.
    fn step(&mut self, orders: &[Row], touches: &[Row], corrections: &[Row], watermark: i64) -> Vec<(String, Gave)> {
        self.tick += 1;
        let watermark = if watermark == i64::MAX { EventTime::MAX } else { EventTime::from_millis(watermark) };
        let last = watermark == EventTime::MAX;
        let tick = StepTick { tick: self.tick, now: 0, before: self.before, watermark, last };
        self.before = watermark;
        let mut out = Outputs::default();
        let inputs = [orders, touches, corrections].map(|rows| vec![batch(rows)]).to_vec();
        self.state.step(inputs, &tick, &mut out).unwrap();
        assert!(out.counts.balances(), "{:?}", out.counts);
        self.counts += out.counts;
        self.bad.extend(out.bad.iter().map(|bad| format!("{} {}", bad.code, bad.reason)));
        self.late += out.late.iter().map(RecordBatch::num_rows).sum::<usize>();
        let given: Vec<(String, Gave)> = out.rows.iter().flat_map(gave).collect();
        apply(&mut self.table, &given);
        for notices in out.sides.get(NOTICES).into_iter().flatten() {
            let text = |name: &str, row: usize| {
                let column = notices.column_by_name(name).unwrap().as_string::<i32>();
                if column.is_null(row) { "-".to_owned() } else { column.value(row).to_owned() }
            };
            let one = |row| ["notice", "order_id", "event_id", "detail"].map(|name| text(name, row)).join(" ");
            self.notices.extend((0..notices.num_rows()).map(one));
        }
        given
    }

    /// The clicks and the order of the base example.
    fn base(settings: AttributionSettings) -> Runner {
        let mut runner = Runner::new(settings);
        let touches = [touch("c1", "email", at(9, 50, 0)), touch("c2", "search", at(10, 12, 30))];
        runner.step(&[order("o1", at(10, 20, 0), 12_000)], &touches, &[], at(10, 10, 0));
        runner
    }

    /// Net amount per touch of an order by a model; what nobody is given under `-`.
    fn net(&self, order_id: &str, model: &str) -> Vec<(String, i64)> {
        let mut net: BTreeMap<String, i64> = BTreeMap::new();
        for row in self.table.keys().filter(|row| row.order_id == order_id && row.model == model) {
            *net.entry(row.touch_id.clone()).or_default() += row.cents;
        }
        net.into_iter().collect()
    }

    #[track_caller]
    fn check(&self, order_id: &str, model: &str, expected: &[(&str, i64)]) {
        let expected: Vec<_> = expected.iter().map(|(touch, cents)| ((*touch).to_owned(), *cents)).collect();
        assert_eq!(self.net(order_id, model), expected, "{model}");
    }
}

const MODELS: [&str; 6] = ["first_touch", "last_touch", "last_non_direct", "linear", "position_based", "time_decay"];

#[test]
fn a_row_without_what_it_needs_is_bad() {
    let mut runner = Runner::new(settings());
    let no_id = |row: Row| Row { id: None, ..row };
    let orders = [
        no_id(order("o1", 0, 100)),
        Row { amount: None, ..order("o2", 0, 0) },
        Row { order_id: None, ..order("o3", 0, 100) },
        order("o4", 0, -100),
    ];
    let touches = [no_id(touch("c1", "email", 0)), Row { kind: Some("swipe".into()), ..touch("c2", "email", 0) }];
    let corrections = [
        correction("refund", "r1", "o5", 0, None),
        refund("r2", "o5", 0, 0),
        correction("return", "r3", "o5", 0, Some(1)),
        Row { kind: None, ..refund("r4", "o5", 0, 1) },
    ];
    runner.step(&orders, &touches, &corrections, 0);
    let mut codes: Vec<&str> = runner.bad.iter().filter_map(|bad| bad.split(' ').next()).collect();
    codes.sort_unstable();
    let count = |code: &str| codes.iter().filter(|of| **of == code).count();
    assert_eq!((count("missing"), count("malformed")), (6, 4), "{:?}", runner.bad);
    assert_eq!((runner.counts.bad, runner.counts.taken), (10, 0));
    assert_eq!(runner.state.kept(), [0, 0]);
}

#[test]
fn a_key_with_a_null_matches_nothing_and_is_still_booked() {
    let mut runner = Runner::new(settings());
    let nobody = |row: Row| Row { user: None, ..row };
    runner.step(
        &[nobody(order("o1", at(10, 0, 0), 500))],
        &[nobody(touch("c1", "email", at(9, 59, 0)))],
        &[],
        i64::MAX,
    );
    for model in MODELS {
        runner.check("o1", model, &[("-", 500)]);
    }
    assert_eq!(runner.counts.taken, 2);
    assert!(runner.table.keys().all(|row| row.channel == "(none)"));
}

#[test]
fn rows_later_than_the_lateness_are_late_in_all_inputs() {
    let mut runner = Runner::new(settings());
    runner.step(&[], &[], &[], at(12, 0, 0));
    let edge = at(11, 50, 0);
    for (time, late) in [(edge, 0), (edge - 1, 3)] {
        let late_before = runner.late;
        let names = [format!("o{time}"), format!("c{time}"), format!("r{time}")];
        runner.step(
            &[order(&names[0], time, 1)],
            &[touch(&names[1], "email", time)],
            &[refund(&names[2], "x", time, 1)],
            at(12, 0, 0),
        );
        assert_eq!(runner.late - late_before, late);
    }
    assert_eq!(runner.counts.late, 3);
}

#[test]
fn too_much_stops_the_job() {
    let mut state = plan(settings()).on(ShardRange { worker: 0, workers: 1, shards: 8 });
    let touches: Vec<Row> = (0..1001).map(|n| touch(&format!("c{n}"), "email", n)).collect();
    let tick = StepTick { tick: 1, now: 0, before: EventTime::MIN, watermark: EventTime::MIN, last: false };
    let error = state.step(vec![vec![], vec![batch(&touches)], vec![]], &tick, &mut Outputs::default()).unwrap_err();
    assert!(matches!(error, StepError::Bound(_)) && error.to_string().contains("max_kept"), "{error}");
}

#[test]
fn paths_are_given_and_corrected() {
    let mut runner = Runner::new(with_rules(|rules| rules.models = vec![Model::Linear]));
    let lists = |out: &Outputs| -> Vec<String> {
        let batches = out.sides.get(PATHS).into_iter().flatten();
        batches
            .flat_map(crate::tests::texts)
            .map(|text| text.split('|').take(6).collect::<Vec<_>>().join("|"))
            .collect()
    };
    let step = |runner: &mut Runner, orders: &[Row], touches: &[Row], before: i64, watermark: i64| {
        let (before, watermark) = (EventTime::from_millis(before), EventTime::from_millis(watermark));
        let tick = StepTick { tick: 1, now: 7, before, watermark, last: false };
        let mut out = Outputs::default();
        runner.state.step(vec![vec![batch(orders)], vec![batch(touches)], vec![]], &tick, &mut out).unwrap();
        lists(&out)
    };
    let touches = [touch("c1", "a", 1), touch("c2", "a", 2), touch("c3", "b", 3)];
    let given = step(&mut runner, &[order("o1", 10, 100)], &touches, 0, 11);
    assert_eq!(given, ["+|u1|o1|[a, a, b]|[a, b]|[a, b]"]);
    let mut corrected = step(&mut runner, &[], &[touch("c4", "c", 4)], 11, 12);
    corrected.sort();
    assert_eq!(corrected, ["+|u1|o1|[a, a, b, c]|[a, b, c]|[a, b, c]", "-|u1|o1|[a, a, b]|[a, b]|[a, b]"]);
}
