//! Single cases, read like the rules.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, TimeUnit};
use riverrun_dataflow::graph::ShardRange;
use riverrun_dataflow::key::Keys;
use riverrun_dataflow::operator::{Operator, Outputs, StepError};
use riverrun_dataflow::schema::{Hidden, with_hidden};
use riverrun_dataflow::{EventTime, StepTick};

use super::world::{MS, Row, Settings, Tick, World, schema, settings_of};
use crate::events::EventReader;
use crate::expression::Expressions;
use crate::sessionize::{Interactions, Mode, Sessionize, SessionizeSettings, Splits, zone_of};

fn rows(rows: &[(&str, i64)]) -> Vec<Row> {
    let one = |(k, time): &(&str, i64)| Row { k: Some(k.to_string()), time: time * MS, ..Row::default() };
    rows.iter().map(one).collect()
}

/// Steps through ticks of rows `(key, time)` and a watermark, in milliseconds, and returns `tick: key start end reason events`.
#[track_caller]
fn check(settings: Settings, ticks: &[(&[(&str, i64)], i64)], expected: &[&str]) {
    let mut world = World::new(settings, 2);
    let mut found = Vec::new();
    for (number, (given, watermark)) in ticks.iter().enumerate() {
        let watermark = Some(*watermark).filter(|watermark| *watermark != END).map(|watermark| watermark * MS);
        let came = world.step(&Tick { rows: rows(given), watermark });
        let mut lines: Vec<String> = came.rows.iter().map(|row| line(row)).collect();
        lines.sort();
        found.extend(lines.into_iter().map(|line| format!("{number}: {line}")));
        found.extend(came.late.iter().map(|row| format!("{number}: late {}", row.split(" | ").next().unwrap())));
    }
    assert_eq!(found, expected);
}

fn line(row: &str) -> String {
    let parts: Vec<&str> = row.split(" | ").collect();
    // A time is written as `1970-01-01T00:00:00.004`.
    let millis = |time: &str| time.split_once('.').map_or(0, |(_, digits)| digits[..3].parse::<i64>().unwrap());
    format!("{} {} {} {} {}", parts[4], millis(parts[1]), millis(parts[2]), parts[3], parts[6])
}

const END: i64 = i64::MAX;

fn gap(gap: i64) -> Settings {
    Settings { gap, ..Settings::default() }
}

#[test]
fn a_session_is_given_once_when_no_row_can_change_it() {
    // Idle after 4 + 10: a row at 14 joins it as long as it may come.
    check(
        gap(10),
        &[(&[("a", 1), ("b", 2), ("a", 4)], 4), (&[], 14), (&[("a", 14)], 15), (&[], END)],
        &["1: b 2 2 idle 1", "3: a 1 14 idle 3"],
    );
    check(gap(10), &[(&[("a", 4)], 14), (&[], 15), (&[], END)], &["1: a 4 4 idle 1"]);
}

#[test]
fn rows_are_waited_for_as_long_as_the_lateness_says() {
    check(
        Settings { lateness: 5, ..gap(10) },
        &[(&[("a", 20)], 20), (&[("a", 15)], 21), (&[("a", 15)], 31), (&[], 35), (&[], 36), (&[], END)],
        &["2: late a", "4: a 15 20 idle 2"],
    );
}

/// G-S1, G-S2: a gap of exactly the timeout stays inside, a millisecond more does not.
#[test]
fn g_s1_g_s2_a_gap_of_exactly_the_timeout_stays_inside() {
    check(gap(30), &[(&[("a", 0), ("a", 10), ("a", 40)], 0), (&[], END)], &["1: a 0 40 idle 3"]);
    check(gap(30), &[(&[("a", 0), ("a", 10), ("a", 41)], 0), (&[], END)], &["1: a 0 10 idle 2", "1: a 41 41 idle 1"]);
}

/// G-S4, with a minute for a millisecond: exactly the greatest length is still inside.
#[test]
fn g_s4_a_session_has_a_greatest_length() {
    let rows: Vec<(&str, i64)> = (0..75).map(|n| ("a", n * 20)).collect();
    let settings = Settings { gap: 30, max_duration: 1440, ..Settings::default() };
    let mut world = World::new(settings, 1);
    let mut came = world.step(&Tick { rows: super::cases::rows(&rows), watermark: None });
    came.rows.sort();
    let mut counts: Vec<usize> = came.rows.iter().map(|row| super::world::events_of(row)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 73]);
    assert!(came.rows.iter().any(|row| row.contains("max_duration")));
}

/// G-S10: one batch over two sessions.
#[test]
fn g_s10_one_batch_holds_two_sessions() {
    check(gap(30), &[(&[("a", 0), ("a", 31), ("a", 32)], 0), (&[], END)], &["1: a 0 0 idle 1", "1: a 31 32 idle 2"]);
    check(gap(30), &[(&[("a", 32), ("a", 0), ("a", 31)], END)], &["0: a 0 0 idle 1", "0: a 31 32 idle 2"]);
}

fn kind(kind: &str, time: i64) -> Row {
    Row { k: Some("a".to_owned()), kind: Some(kind.to_owned()), time: time * MS, ..Row::default() }
}

/// G-S5: what a person did not do attaches and keeps nothing alive; before a session it stands alone.
#[test]
fn g_s5_a_passive_row_keeps_no_session_alive() {
    let settings = Settings { passive: true, leave: true, ..gap(30) };
    let mut world = World::new(settings, 1);
    let given = vec![kind("passive", 0), kind("click", 1), kind("passive", 26), kind("click", 51), kind("leave", 60)];
    let came = world.step(&Tick { rows: given, watermark: None });
    let mut lines: Vec<String> = came.rows.iter().map(|row| line(row)).collect();
    lines.sort();
    assert_eq!(lines, ["a 1 1 idle 2", "a 51 60 idle 2"], "the leave moves the end");
    assert_eq!(came.sessionless.len(), 1);
}

fn said(user: &str, campaign: &str, time: i64) -> Row {
    let some = |text: &str| Some(text.to_owned());
    Row { k: some("a"), user: some(user), campaign: some(campaign), time: time * MS, ..Row::default() }
}

/// G-S7, G-S8: another account ends a session, signing in does not; another campaign does where it is asked for.
#[test]
fn g_s7_g_s8_who_is_there_and_what_brought_them_ends_a_session() {
    let reasons = |settings: Settings, given: Vec<Row>| {
        let mut world = World::new(settings, 1);
        let came = world.step(&Tick { rows: given, watermark: None });
        let mut reasons: Vec<String> =
            came.rows.iter().map(|row| row.split(" | ").nth(3).unwrap().to_owned()).collect();
        reasons.sort();
        reasons
    };
    let users = vec![said("", "", 0), said("A", "", 1), said("B", "", 2)];
    assert_eq!(reasons(Settings { user: true, ..gap(30) }, users.clone()), ["idle", "user_switch"]);
    assert_eq!(reasons(gap(30), users), ["idle"]);
    let campaigns = vec![said("", "A", 0), said("", "", 1), said("", "B", 2)];
    assert_eq!(reasons(Settings { campaign: true, ..gap(30) }, campaigns.clone()), ["campaign", "idle"]);
    assert_eq!(reasons(gap(30), campaigns), ["idle"]);
}

/// G-S6: a new local day ends a session where it is asked for.
#[test]
fn g_s6_a_new_local_day_ends_a_session() {
    let given = || vec![said("", "", -1), said("", "", 1)];
    let count = |midnight: bool| {
        let mut world = World::new(Settings { midnight, ..gap(30) }, 1);
        world.step(&Tick { rows: given(), watermark: None }).rows.len()
    };
    assert_eq!((count(false), count(true)), (1, 2));
}

#[test]
fn places_are_read_as_they_are_written() {
    const HOUR: i64 = 3_600_000;
    for (text, ahead) in [("UTC", 0), ("utc", 0), ("Z", 0), ("+02:00", 2 * HOUR), ("-05:30", -5 * HOUR - HOUR / 2)] {
        let zone = zone_of(text).unwrap();
        assert_eq!((zone.day(-ahead), zone.day(-ahead - 1)), (0, -1), "{text}");
    }
    for text in ["", "+", "Europe/Berlin", "+2:00", "+02:60", "+15:00", "02:00", "+aa:00", "ü"] {
        assert!(zone_of(text).is_none(), "{text}");
    }
}

#[test]
fn a_checkpoint_costs_what_changed() {
    let mut world = World::new(Settings { lateness: 5, ..gap(10) }, 1);
    let many: Vec<(String, i64)> = (0..500).map(|k| (format!("k{k}"), 20)).collect();
    let many: Vec<(&str, i64)> = many.iter().map(|(k, time)| (k.as_str(), *time)).collect();
    world.step(&Tick { rows: rows(&many), watermark: Some(0) });
    world.freeze(&[]);
    assert_eq!((world.stored_rows(0), world.stored_rows(1)), (0, 500), "all wait");
    world.step(&Tick { rows: rows(&[]), watermark: Some(26 * MS) });
    world.freeze(&[]);
    assert_eq!((world.stored_rows(0), world.stored_rows(1)), (500, 500), "they left by rule, and are sessions now");
    world.step(&Tick { rows: rows(&[("k7", 29)]), watermark: Some(35 * MS) });
    world.freeze(&[]);
    assert_eq!((world.stored_rows(0), world.stored_rows(1)), (501, 500), "it changed, and did not wait");
    // All that are stored end, one begins, and one came and went in between.
    world.step(&Tick { rows: rows(&[("gone", 30), ("new", 31)]), watermark: Some(46 * MS) });
    world.freeze(&[]);
    assert_eq!(world.stored_rows(0), 501 + 500 + 1);
    world.restore(3);
    assert_eq!(world.kept()[0], 1);
}

fn range() -> ShardRange {
    ShardRange { worker: 0, workers: 1, shards: super::world::SHARDS }
}

#[test]
fn the_bounds_stop_the_job_and_say_why() {
    let step = |bounds: SessionizeSettings, count: usize, watermark: i64| {
        let many: Vec<Row> = (0..count).map(|k| Row { k: Some(k.to_string()), ..Row::default() }).collect();
        let tick = StepTick { tick: 1, now: 0, before: EventTime::MIN, watermark: EventTime(watermark), last: false };
        let mut state = Sessionize::new(bounds, &schema()).unwrap().on(range());
        state.step(vec![vec![super::world::batch(&many, None)]], &tick, &mut Outputs::default())
    };
    let bounds = || SessionizeSettings { sessions_max: 10, waiting_max: 7, ..settings_of(gap(1000)) };
    assert!(step(bounds(), 10, 1).is_ok());
    let error = step(bounds(), 11, 1).unwrap_err().to_string();
    assert!(error.contains("11 open sessions") && error.contains("10 are allowed"), "{error}");
    assert!(step(bounds(), 7, 0).is_ok());
    let error = step(bounds(), 8, 0).unwrap_err().to_string();
    assert!(error.contains("8 rows wait") && error.contains("7 are allowed"), "{error}");
}

#[test]
fn state_of_another_shape_is_refused() {
    let mut state = Sessionize::new(settings_of(gap(10)), &schema()).unwrap().on(range());
    let rows = super::world::batch(&[Row::default()], None);
    for table in 0..3 {
        let error = state.restore(table, &rows).unwrap_err();
        assert!(matches!(error, StepError::State(_)), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |settings: SessionizeSettings| Sessionize::new(settings, &schema()).map(|_| ()).unwrap_err();
    assert!(refused(SessionizeSettings { tenant: Some(3), ..settings_of(gap(10)) }).contains("part of the key"));
    let splits = Splits { user_switch: Some(1), ..Splits::default() };
    assert!(refused(SessionizeSettings { splits, ..settings_of(gap(10)) }).contains("`j`"));
}

/// Behaviour events `(type, time in ms, id)` of the device `dev-1` of the tenant `t1`.
fn events(given: &[(&str, i64, &str)]) -> RecordBatch {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let columns = [text("tenant_id"), text("device"), text("type"), text("tab_id"), text("user_agent")];
    let schema = with_hidden(&columns, &[Hidden::Time, Hidden::Id, Hidden::Hash]);
    let all = |value: &str| Arc::new(StringArray::from(vec![value; given.len()])) as ArrayRef;
    let mut columns: Vec<ArrayRef> = vec![
        all("t1"),
        all("dev-1"),
        Arc::new(given.iter().map(|(kind, ..)| Some(*kind)).collect::<StringArray>()),
        all("w1"),
        all("Mozilla/5.0 Firefox/130.0"),
        Arc::new(Int64Array::from_iter_values(given.iter().map(|(_, time, _)| time * MS))),
        Arc::new(given.iter().map(|(.., id)| Some(*id)).collect::<StringArray>()),
        Arc::new(UInt64Array::from(vec![0; given.len()])),
    ];
    let plain = RecordBatch::try_new(schema.clone(), columns.clone()).unwrap();
    columns[7] = Arc::new(UInt64Array::from(Keys::of(&plain, &[0, 1]).unwrap().hashes));
    RecordBatch::try_new(schema, columns).unwrap()
}

fn visits(given: &[(&str, i64, &str)]) -> RecordBatch {
    let rows = events(given);
    let aggregate = Expressions::new().compile_aggregate("count(*)", rows.schema_ref()).unwrap();
    let settings = SessionizeSettings {
        mode: Mode::Final,
        by: vec![0, 1],
        tenant: Some(0),
        gap: Duration::from_secs(1800),
        max_duration: Duration::from_secs(86_400),
        lateness: Duration::ZERO,
        interactions: Interactions::ByType,
        leaves: None,
        splits: Splits::default(),
        events: Some(EventReader::of(rows.schema_ref()).unwrap()),
        aggregates: vec![("events".to_owned(), aggregate)],
        unit: TimeUnit::Millisecond,
        sessions_max: 1000,
        waiting_max: 1000,
    };
    let mut state = Sessionize::new(settings, &rows.schema()).unwrap().on(range());
    let (before, watermark) = (EventTime::MIN, EventTime::MAX);
    let mut out = Outputs::default();
    state.step(vec![vec![rows]], &StepTick { tick: 1, now: 0, before, watermark, last: true }, &mut out).unwrap();
    assert_eq!(out.rows.len(), 1);
    out.rows.remove(0)
}

/// G-S11: the name of a session.
#[test]
fn g_s11_a_session_is_named_by_its_first_event() {
    let visits = visits(&[("click", 5, "e2"), ("click", 1, "e1")]);
    assert_eq!(visits.column(0).as_string::<i32>().value(0), "b5c524faa2fffb58e1cf6cb7ed458eef");
}

#[test]
fn the_type_of_an_event_says_what_it_does_to_a_session() {
    // At one time a page view comes before a click, whatever their ids; a leave moves the end, a request does not.
    let visit = visits(&[
        ("click", 0, "a"),
        ("$pageview", 0, "b"),
        ("page_leave", 7_000, "c"),
        ("network_request", 9_000, "d"),
        ("no such type", 9_500, "e"),
    ]);
    let times = |column: usize| {
        visit.column(column).as_primitive::<arrow::datatypes::TimestampMillisecondType>().values().to_vec()
    };
    assert_eq!((times(1), times(2)), (vec![0], vec![7_000]));
    let name = riverrun_behaviour::session::session_id("t1", "dev-1", "b").to_string();
    assert_eq!(visit.column(0).as_string::<i32>().value(0), name);
    assert!(!visit.column(7).as_boolean().value(0) && visit.column(8).is_null(0));
}

#[test]
fn a_session_as_even_as_a_metronome_is_a_bots() {
    let ids: Vec<String> = (0..20).map(|n| format!("e{n:02}")).collect();
    let given: Vec<(&str, i64, &str)> = ids.iter().zip(0..).map(|(id, n)| ("click", n * 500, id.as_str())).collect();
    let visit = visits(&given);
    assert!(visit.column(7).as_boolean().value(0));
    assert_eq!(visit.column(8).as_string::<i32>().value(0), "metronome");
    assert!(!visits(&given[..19]).column(7).as_boolean().value(0));
}
