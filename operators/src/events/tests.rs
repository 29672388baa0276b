use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, TimestampMillisecondArray, UInt32Array, UInt64Array};
use riverrun_behaviour::event::payload::Navigation;

use super::*;

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<StringArray>())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let rows = columns[0].1.len();
    let mut columns = columns;
    columns.push(("__time", Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|row| row * 1_000_500)))));
    columns.push(("__split", Arc::new(UInt32Array::from(vec![3; rows]))));
    columns.push(("__position", Arc::new(UInt64Array::from_iter_values((0..rows as u64).map(|row| row * 10)))));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

#[test]
fn no_column_has_the_name_of_another() {
    let names: BTreeSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
    assert_eq!(names.len(), COLUMNS.len());
    let required: Vec<&str> = COLUMNS.iter().filter(|column| column.required).map(|column| column.name).collect();
    assert_eq!(required, ["event_id", "type", "event_time"]);
}

#[test]
fn an_event_is_made_of_the_columns_that_a_stream_has() {
    let given = batch(vec![
        ("type", text(&[Some("$pageview"), Some("click"), Some("no such thing"), None])),
        ("event_id", text(&[Some("e1"), Some("e2"), Some("e3"), None])),
        ("tenant_id", text(&[Some("t1"), Some(""), None, None])),
        ("anonymous_id", text(&[Some("d1"), Some(""), None, None])),
        ("user_id", text(&[None, Some("u1"), None, None])),
        ("tab_id", text(&[Some("w1"), None, None, None])),
        ("page_load_id", text(&[Some("l1"), None, None, None])),
        ("page_key", text(&[Some("/a"), None, None, None])),
        ("mono_ms", Arc::new(Float64Array::from(vec![Some(1.5), None, None, None]))),
        ("nav_type", text(&[Some("reload"), None, None, None])),
        ("x", Arc::new(Int64Array::from(vec![None, Some(7), None, None]))),
        ("another", text(&[None, None, None, None])),
    ]);
    let rows = EventReader::of(given.schema_ref()).unwrap().rows(&given).unwrap();
    assert_eq!(rows.kinds, [Some(Kind::PageView), Some(Kind::Click), None, None]);
    let view = rows.event(0, &StepWords::default()).unwrap();
    assert_eq!((view.time, view.mono_us, view.page_load.as_str(), view.page_key.as_str()), (0, Some(1500), "l1", "/a"));
    let Payload::PageView(page) = &view.payload else { panic!("a page view") };
    assert_eq!(page.navigation, Navigation::Reload);
    let click = rows.event(1, &StepWords::default()).unwrap();
    assert_eq!(
        (click.time, click.this.id.as_str(), click.this.position),
        (1000, "e2", Position { split: 3, offset: 10 })
    );
    let Payload::Click(at) = &click.payload else { panic!("a click") };
    assert_eq!(at.x, 7);
    assert!(rows.event(2, &StepWords::default()).is_none());
    assert_eq!((rows.tenant(0), rows.tenant(1), rows.tenant(2)), ("t1", "", ""));
    assert_eq!([0, 1, 2].map(|row| rows.device(row)), [Some("d1"), Some("u1"), None]);
    assert_eq!([0, 1].map(|row| rows.origin(row)), [Origin::Browser, Origin::Server]);
}

#[test]
fn what_a_page_does_by_itself_and_what_a_server_says_is_passive() {
    let tabs = text(&[Some("w"), Some("w"), Some("w"), Some("w"), None]);
    let given = batch(vec![
        ("type", text(&[Some("page_view"), Some("page_view"), Some("scroll"), Some("scroll"), Some("click")])),
        ("nav_type", text(&[Some("prerender"), Some("navigate"), None, None, None])),
        ("by_user", Arc::new(BooleanArray::from(vec![None, None, Some(false), None, None]))),
        ("tab_id", tabs),
    ]);
    let rows = EventReader::of(given.schema_ref()).unwrap().rows(&given).unwrap();
    let classes = (0..rows.len()).map(|row| rows.class(row) == Class::Interaction).collect::<Vec<_>>();
    assert_eq!(classes, [false, true, false, true, false]);
}

#[test]
fn a_bot_says_so_or_its_browser_does() {
    let types = [Some("click"); 5];
    let given = batch(vec![
        ("type", text(&types)),
        ("tab_id", text(&[Some("w"), Some("w"), Some("w"), None, Some("w")])),
        ("user_agent", text(&[Some("Mozilla/5.0 Firefox/130.0"), Some("HeadlessChrome"), None, None, Some("Mozilla")])),
        ("is_bot", Arc::new(BooleanArray::from(vec![None, None, None, None, Some(true)]))),
    ]);
    let rows = EventReader::of(given.schema_ref()).unwrap().rows(&given).unwrap();
    let bots: Vec<_> = (0..rows.len()).map(|row| rows.bot(row)).collect();
    let agent = Some(BotReason::Agent);
    assert_eq!(bots, [None, agent, Some(BotReason::NoAgent), None, agent]);
    let without = batch(vec![("type", text(&types)), ("tab_id", text(&[Some("w"); 5]))]);
    let rows = EventReader::of(without.schema_ref()).unwrap().rows(&without).unwrap();
    assert_eq!(rows.bot(0), None, "a stream that knows no agents");
}

#[test]
fn a_column_of_another_type_is_refused() {
    let given = batch(vec![("type", text(&[Some("click")])), ("x", text(&[Some("7")]))]);
    let error = EventReader::of(given.schema_ref()).unwrap_err();
    assert_eq!(error, "`x` of behaviour events is not a string");
    assert!(EventReader::of(&Schema::empty()).unwrap_err().contains("`type`"));
    let times = batch(vec![
        ("type", text(&[Some("click")])),
        ("client_time", Arc::new(TimestampMillisecondArray::from(vec![1]))),
    ]);
    let rows = EventReader::of(times.schema_ref()).unwrap();
    assert_eq!(rows.rows(&times).unwrap().origin(0), Origin::Browser);
}
