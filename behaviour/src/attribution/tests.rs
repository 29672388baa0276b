//! The ledger against its golden examples.

mod properties;

use std::collections::BTreeMap;

use super::channels::End;
use super::ledger::{ClosedPath, CountMode, Emission, ItemScope, Through, Unmatched};
use super::model::Step;
use super::path::Transform;
use super::split::split;
use super::*;
use crate::weight::Weight;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// Milliseconds of a time of day.
fn at(hour: i64, minute: i64, second: i64) -> i64 {
    (hour * 60 + minute) * MINUTE + second * SECOND
}

fn user(name: &str) -> Keys {
    Keys { user: Some(name.to_owned()), ..Keys::default() }
}

fn touch(id: &str, channel: &str, time: i64) -> Touch {
    Touch {
        time,
        id: id.to_owned(),
        kind: TouchKind::Click,
        keys: user("u1"),
        channel: channel.to_owned(),
        campaign: Some(id.to_owned()),
        creative: None,
        product: None,
        placement: None,
    }
}

fn view(id: &str, time: i64) -> Touch {
    Touch { kind: TouchKind::View { is_viewable: true }, ..touch(id, "display", time) }
}

fn event(id: &str, order_id: &str, time: i64, booking: Booking) -> OrderEvent {
    OrderEvent { time, id: id.to_owned(), order_id: order_id.to_owned(), currency: "EUR".to_owned(), booking }
}

fn completed(order_id: &str, time: i64, total_minor: i64) -> OrderEvent {
    let booking = Booking::Completed { total_minor, lines: Vec::new(), keys: user("u1") };
    event(&format!("{order_id}-made"), order_id, time, booking)
}

fn refund(id: &str, order_id: &str, time: i64, amount_minor: i64) -> OrderEvent {
    event(id, order_id, time, Booking::Refunded { amount_minor })
}

/// A ledger, and the tables that a reader of its changes would have.
struct Reader {
    settings: Settings,
    ledger: Ledger,
    rows: BTreeMap<Row, i64>,
    paths: BTreeMap<PathRow, i64>,
    closed: Vec<ClosedPath>,
    notices: Vec<Notice>,
}

impl Reader {
    fn new(settings: Settings) -> Self {
        let (rows, paths) = (BTreeMap::new(), BTreeMap::new());
        Self { settings, ledger: Ledger::default(), rows, paths, closed: Vec::new(), notices: Vec::new() }
    }

    /// All models, and the settings of the base example.
    fn base() -> Self {
        let mut reader = Self::new(Settings { models: Model::ALL.to_vec(), ..Settings::default() });
        reader.touch(touch("c1", "email", at(9, 50, 0)));
        reader.touch(touch("c2", "search", at(10, 12, 30)));
        reader.order(completed("o1", at(10, 20, 0), 12_000));
        reader
    }

    fn touch(&mut self, touch: Touch) -> Taken {
        let mut out = Output::default();
        let taken = self.ledger.push_touch(touch, &mut out);
        self.notices.append(&mut out.notices);
        taken
    }

    fn order(&mut self, event: OrderEvent) -> Taken {
        let mut out = Output::default();
        let taken = self.ledger.push_order(event, &mut out);
        self.notices.append(&mut out.notices);
        taken
    }

    fn advance(&mut self, to: i64) -> Vec<(Weight, Row)> {
        let mut out = Output::default();
        self.ledger.advance(&self.settings, to, &mut out);
        apply(&mut self.rows, &out.rows);
        apply(&mut self.paths, &out.paths);
        self.closed.append(&mut out.closed);
        self.notices.append(&mut out.notices);
        out.rows
    }

    /// Net amount per touch of an order by a model; what nobody is given under "(none)".
    fn net(&self, order_id: &str, model: Model) -> Vec<(String, i64)> {
        let mut net: BTreeMap<String, i64> = BTreeMap::new();
        for row in self.rows.keys().filter(|row| row.order_id == order_id && row.model == model) {
            *net.entry(touch_id(row)).or_default() += row.amount_minor;
        }
        net.into_iter().collect()
    }

    #[track_caller]
    fn check(&self, order_id: &str, model: Model, expected: &[(&str, i64)]) {
        let expected: Vec<_> = expected.iter().map(|(touch, amount)| ((*touch).to_owned(), *amount)).collect();
        assert_eq!(self.net(order_id, model), expected, "{model:?}");
    }

    fn restart(&mut self) {
        let saved = serde_json::to_string(&self.ledger).unwrap();
        self.ledger = serde_json::from_str(&saved).unwrap();
    }
}

fn touch_id(row: &Row) -> String {
    row.touch.as_ref().map_or("(none)", |touch| &touch.touch_id).to_owned()
}

/// Applies changes; what is retracted must be there.
fn apply<T: Ord + Clone + std::fmt::Debug>(table: &mut BTreeMap<T, i64>, changes: &[(Weight, T)]) {
    for (weight, row) in changes {
        let count = table.entry(row.clone()).or_default();
        *count += if *weight == Weight::Insert { 1 } else { -1 };
        assert!((0..=1).contains(count), "{row:?} {count} times");
        if *count == 0 {
            table.remove(row);
        }
    }
}

fn told(changes: &[(Weight, Row)], model: Model) -> Vec<(Weight, String, i64)> {
    let its = changes.iter().filter(|(_, row)| row.model == model);
    its.map(|(weight, row)| (*weight, touch_id(row), row.amount_minor)).collect()
}

/// G-B1
#[test]
fn g_b1_each_model_divides_the_order() {
    let mut reader = Reader::base();
    assert!(reader.advance(at(10, 20, 0)).is_empty(), "the watermark has not passed the order");
    reader.advance(at(10, 20, 0) + 1);
    reader.check("o1", Model::LastTouch, &[("c2", 12_000)]);
    reader.check("o1", Model::FirstTouch, &[("c1", 12_000)]);
    reader.check("o1", Model::Linear, &[("c1", 6_000), ("c2", 6_000)]);
    reader.check("o1", Model::PositionBased, &[("c1", 6_000), ("c2", 6_000)]);
    reader.check("o1", Model::TimeDecay, &[("c1", 1_333), ("c2", 10_667)]);
}

/// G-B2
#[test]
fn g_b2_a_millisecond_before_the_window_is_outside() {
    let mut reader = Reader::new(Settings { models: Model::ALL.to_vec(), ..Settings::default() });
    reader.touch(touch("c1", "email", at(9, 50, 0) - 1));
    reader.touch(touch("c2", "search", at(10, 12, 30)));
    reader.order(completed("o1", at(10, 20, 0), 12_000));
    reader.advance(i64::MAX);
    for model in Model::ALL {
        reader.check("o1", model, &[("c2", 12_000)]);
    }
}

/// G-B3
#[test]
fn g_b3_a_click_of_the_order_s_millisecond_is_the_last_one_later_is_none() {
    for (late, last) in [(0, "c3"), (1, "c2")] {
        let mut reader = Reader::base();
        reader.touch(touch("c3", "email", at(10, 20, 0) + late));
        reader.advance(i64::MAX);
        reader.check("o1", Model::LastTouch, &[(last, 12_000)]);
    }
}

/// G-B4
#[test]
fn g_b4_an_order_told_again_changes_nothing() {
    let mut reader = Reader::base();
    reader.advance(at(10, 20, 1));
    let rows = reader.rows.clone();
    let again = |id: &str, total_minor| OrderEvent { id: id.to_owned(), ..completed("o1", at(10, 21, 0), total_minor) };
    reader.order(again("x1", 12_000));
    reader.order(again("x2", 13_000));
    reader.advance(at(12, 0, 0));
    reader.order(OrderEvent { id: "x3".to_owned(), ..completed("o1", at(12, 1, 0), 12_000) });
    reader.advance(i64::MAX);
    assert_eq!(reader.rows, rows);
    let duplicates = reader.notices.iter().filter_map(|notice| match notice {
        Notice::DuplicateOrder { event_id, .. } => Some(event_id.as_str()),
        _ => None,
    });
    assert_eq!(duplicates.collect::<Vec<_>>(), ["x1", "x3"]);
    let conflicts = reader.notices.iter().filter(|notice| {
        matches!(notice, Notice::Conflict { event_id, kept, dropped, .. } if event_id == "x2" && kept != dropped)
    });
    assert_eq!(conflicts.count(), 1);
}

/// G-B5
#[test]
fn g_b5_a_click_that_comes_late_takes_its_part() {
    let mut reader = Reader::base();
    reader.advance(at(10, 20, 1));
    assert_eq!(reader.touch(touch("c3", "social", at(10, 15, 0))), Taken::Taken);
    let changes = reader.advance(at(10, 20, 2));
    let (minus, plus) = (Weight::Retract, Weight::Insert);
    let row = |weight, touch: &str, amount| (weight, touch.to_owned(), amount);
    assert_eq!(told(&changes, Model::LastTouch), [row(minus, "c2", 12_000), row(plus, "c3", 12_000)]);
    let linear = [
        row(minus, "c1", 6_000),
        row(minus, "c2", 6_000),
        row(plus, "c1", 4_000),
        row(plus, "c2", 4_000),
        row(plus, "c3", 4_000),
    ];
    assert_eq!(told(&changes, Model::Linear), linear);
    assert!(told(&changes, Model::FirstTouch).is_empty(), "what stays the same is not told again");
    reader.advance(at(10, 31, 0));
    assert_eq!(reader.touch(touch("c4", "social", at(10, 15, 0))), Taken::Late);
}

/// G-B6
#[test]
fn g_b6_refunds_in_parts_end_at_zero_for_each_touch() {
    let settings = Settings { models: vec![Model::Linear], ..Settings::default() };
    let mut reader = Reader::new(settings);
    for (n, id) in ["a", "b", "c"].into_iter().enumerate() {
        reader.touch(touch(id, id, at(10, n as i64, 0)));
    }
    reader.order(completed("o1", at(10, 20, 0), 100));
    reader.advance(at(10, 21, 0));
    reader.check("o1", Model::Linear, &[("a", 34), ("b", 33), ("c", 33)]);
    for (nth, amounts) in [(1, [-17, -17, -16]), (2, [-17, -16, -17])] {
        let time = at(10, 20, 0) + nth * DAY;
        reader.order(refund(&format!("r{nth}"), "o1", time, 50));
        let changes = reader.advance(time + 1);
        let found: Vec<i64> = told(&changes, Model::Linear).iter().map(|(.., amount)| *amount).collect();
        assert_eq!(found, amounts);
        assert!(changes.iter().all(|(_, row)| row.conversions_ppm == 0 && row.booked_time == time));
    }
    reader.check("o1", Model::Linear, &[("a", 0), ("b", 0), ("c", 0)]);
}

/// G-B9
#[test]
fn g_b9_a_refund_waits_for_its_order() {
    let mut reader = Reader::new(Settings::default());
    reader.order(refund("r1", "o1", at(10, 19, 0), 2_000));
    assert!(reader.advance(at(10, 19, 30)).is_empty());
    reader.touch(touch("c1", "email", at(9, 50, 0)));
    reader.touch(touch("c2", "search", at(10, 12, 30)));
    reader.order(completed("o1", at(10, 20, 0), 12_000));
    let changes = reader.advance(at(10, 20, 1));
    assert!(changes.iter().all(|(_, row)| row.booked_time == at(10, 20, 0)), "nothing is booked before the order");
    reader.check("o1", Model::LastTouch, &[("c2", 10_000)]);
    assert!(reader.notices.is_empty());
}

#[test]
fn a_refund_without_an_order_is_unmatched_after_seven_days() {
    let unmatched = |why| vec![Notice::Unmatched { order_id: "o1".to_owned(), event_id: "r1".to_owned(), why }];
    let lateness = Settings::default().lateness_ms;
    let mut reader = Reader::new(Settings::default());
    reader.order(refund("r1", "o1", 0, 2_000));
    reader.advance(7 * DAY + lateness);
    assert!(reader.notices.is_empty());
    reader.advance(7 * DAY + lateness + 1);
    assert_eq!(reader.notices, unmatched(Unmatched::NoOrder));
    assert!(reader.ledger.is_empty());

    for (days, early) in [(90, false), (91, true)] {
        let mut reader = Reader::new(Settings::default());
        reader.order(completed("o1", 0, 100));
        reader.advance(DAY);
        reader.order(refund("r1", "o1", days * DAY, 100));
        reader.advance(i64::MAX);
        assert_eq!(reader.notices, if early { unmatched(Unmatched::TooOld) } else { Vec::new() });
        reader.check("o1", Model::LastTouch, &[("(none)", if early { 100 } else { 0 })]);
    }
}

/// G-B10
#[test]
fn g_b10_each_product_is_credited_to_its_touches() {
    let line = |product: &str, amount_minor| Line { product: Some(product.to_owned()), amount_minor };
    let of = |id: &str, product: Option<&str>, minute| Touch {
        product: product.map(str::to_owned),
        ..touch(id, "email", at(10, minute, 0))
    };
    let touches = [of("cA", Some("A"), 1), of("cB", Some("B"), 2), of("c0", None, 3)];
    type Amounts = &'static [(&'static str, i64)];
    let cases: [(&[usize], Amounts, Amounts); 3] = [
        (&[0, 1, 2], &[("cA", 3_000), ("cB", 2_000)], &[("cA", 600_000), ("cB", 400_000)]),
        (&[0, 2], &[("c0", 2_000), ("cA", 3_000)], &[("c0", 400_000), ("cA", 600_000)]),
        (&[0], &[("(none)", 2_000), ("cA", 3_000)], &[("(none)", 400_000), ("cA", 600_000)]),
    ];
    for (there, amounts, weights) in cases {
        let mut reader = Reader::new(Settings { item_scope: ItemScope::Product, ..Settings::default() });
        for nth in there {
            reader.touch(touches[*nth].clone());
        }
        let lines = vec![line("A", 3_000), line("B", 2_000)];
        let booking = Booking::Completed { total_minor: 5_000, lines, keys: user("u1") };
        reader.order(event("o1-made", "o1", at(10, 20, 0), booking));
        reader.advance(at(11, 0, 0));
        reader.check("o1", Model::LastTouch, amounts);
        let mut found: Vec<(String, i64)> = reader.rows.keys().map(|row| (touch_id(row), row.weight_ppm)).collect();
        found.sort();
        let expected: Vec<_> = weights.iter().map(|(touch, ppm)| ((*touch).to_owned(), *ppm)).collect();
        assert_eq!(found, expected);
        reader.order(refund("r1", "o1", at(11, 0, 0), 4_999));
        reader.order(refund("r2", "o1", at(11, 0, 1), 1));
        reader.advance(at(12, 0, 0));
        assert!(reader.net("o1", Model::LastTouch).iter().all(|(_, amount)| *amount == 0));
    }
}

/// G-B11
#[test]
fn g_b11_a_click_beats_a_view() {
    let windows = Windows { view_ms: Some(DAY), ..Windows::default() };
    let mut reader = Reader::new(Settings { windows, ..Settings::default() });
    reader.touch(view("v1", at(10, 19, 30)));
    reader.touch(touch("c2", "search", at(10, 12, 30)));
    reader.order(completed("o1", at(10, 20, 0), 12_000));
    reader.advance(at(10, 21, 0));
    reader.check("o1", Model::LastTouch, &[("c2", 12_000)]);
    assert!(reader.rows.keys().all(|row| row.through == Some(Through::Click)));

    let views = |windows, is_viewable| {
        let mut reader = Reader::new(Settings { windows, ..Settings::default() });
        reader.touch(Touch { kind: TouchKind::View { is_viewable }, ..view("v1", at(10, 19, 30)) });
        reader.order(completed("o1", at(10, 20, 0), 12_000));
        reader.advance(at(10, 21, 0));
        reader.rows.keys().map(|row| (touch_id(row), row.through, row.amount_minor)).collect::<Vec<_>>()
    };
    assert_eq!(views(windows, true), [("v1".to_owned(), Some(Through::View), 12_000)]);
    let nobody = [("(none)".to_owned(), None, 12_000)];
    assert_eq!(views(windows, false), nobody, "it was not on the screen");
    assert_eq!(views(Windows::default(), true), nobody, "views are not credited unless asked for");
}

/// G-B13
#[test]
fn g_b13_of_one_millisecond_the_id_decides() {
    let mut reader = Reader::new(Settings { models: Model::ALL.to_vec(), ..Settings::default() });
    reader.touch(touch("k2", "b", at(10, 0, 0)));
    reader.touch(touch("k1", "a", at(10, 0, 0)));
    reader.order(completed("o1", at(10, 20, 0), 100));
    reader.advance(at(10, 21, 0));
    reader.check("o1", Model::LastTouch, &[("k2", 100)]);
    reader.check("o1", Model::FirstTouch, &[("k1", 100)]);
}

/// G-B16, of events; the rates are among the tests of the metrics.
#[test]
fn g_b16_an_hour_s_rows_give_its_sums() {
    let mut reader = Reader::new(Settings::default());
    for n in 0..10 {
        reader.touch(Touch { campaign: Some("spring".to_owned()), ..touch(&format!("c{n}"), "ads", at(10, n, 0)) });
    }
    for n in [3, 7] {
        let again = touch(&format!("d{n}"), "ads", at(10, n, 1));
        reader.touch(Touch { campaign: Some("spring".to_owned()), ..again });
    }
    reader.order(completed("o1", at(10, 20, 0), 10_000));
    reader.order(completed("o2", at(10, 25, 0), 5_000));
    reader.order(refund("r1", "o2", at(10, 40, 0), 5_000));
    reader.advance(at(12, 0, 0));
    let duplicates =
        reader.notices.iter().filter(|notice| matches!(notice, Notice::DuplicateClick { .. })).count() as i64;
    let sum = |of: fn(&Row) -> i64| reader.rows.keys().map(of).sum::<i64>();
    let cell = metrics::Cell {
        impressions: 200,
        clicks: 12 - duplicates,
        dup_clicks: duplicates,
        conversions_ppm: sum(|row| row.conversions_ppm),
        attributed_minor: sum(|row| row.amount_minor),
        spend_minor: 2_000,
        ..metrics::Cell::default()
    };
    assert_eq!(cell.dup_clicks, 2);
    assert_eq!(cell.click_through(), Some(0.05));
    assert_eq!(cell.conversion_per_click(), Some(0.2));
    assert_eq!(cell.revenue_per_touch(), Some(1_000.0));
    assert_eq!(cell.return_on_spend(), Some(5.0));
}

#[test]
fn an_order_that_nobody_led_to_is_told_even_if_it_is_worth_nothing() {
    let mut reader = Reader::new(Settings::default());
    reader.order(completed("o1", at(10, 20, 0), 0));
    reader.advance(at(10, 21, 0));
    let row = reader.rows.keys().next().expect("a row");
    assert_eq!((touch_id(row).as_str(), row.weight_ppm, row.amount_minor), ("(none)", 1_000_000, 0));
}

#[test]
fn a_cancellation_takes_back_the_rest_and_the_order() {
    let mut reader = Reader::base();
    reader.order(refund("r1", "o1", at(10, 30, 0), 2_000));
    reader.order(event("x1", "o1", at(10, 40, 0), Booking::Cancelled));
    reader.order(event("x2", "o1", at(10, 50, 0), Booking::Updated { total_minor: 1 }));
    reader.advance(at(12, 0, 0));
    for model in Model::ALL {
        assert!(reader.net("o1", model).iter().all(|(_, amount)| *amount == 0), "{model:?}");
        let conversions: i64 = reader.rows.keys().filter(|row| row.model == model).map(|row| row.conversions_ppm).sum();
        assert_eq!(conversions, 0, "{model:?}");
    }
    let why = Unmatched::Cancelled;
    assert_eq!(reader.notices, [Notice::Unmatched { order_id: "o1".to_owned(), event_id: "x2".to_owned(), why }]);
}

#[test]
fn an_update_is_a_new_total() {
    let mut reader = Reader::base();
    reader.order(event("x1", "o1", at(10, 30, 0), Booking::Updated { total_minor: 15_000 }));
    reader.advance(at(12, 0, 0));
    reader.check("o1", Model::LastTouch, &[("c2", 15_000)]);
    reader.check("o1", Model::Linear, &[("c1", 7_500), ("c2", 7_500)]);
}

#[test]
fn weights_are_frozen_when_no_touch_can_come_any_more() {
    let mut reader = Reader::base();
    reader.advance(at(10, 30, 1));
    // A click of 10:25 is after the order anyway; what matters is that the touches are gone by now.
    reader.advance(at(23, 0, 0));
    reader.order(refund("r1", "o1", at(23, 0, 0), 6_000));
    reader.advance(at(23, 30, 0));
    reader.check("o1", Model::TimeDecay, &[("c1", 666), ("c2", 5_334)]);
    let before = reader.ledger.clone();
    reader.restart();
    assert_eq!(reader.ledger, before);
}

#[test]
fn nothing_is_taken_that_makes_no_sense() {
    let mut reader = Reader::new(Settings::default());
    assert_eq!(reader.order(completed("", 0, 1)), Taken::NoOrderId);
    assert_eq!(reader.order(completed("o1", 0, -1)), Taken::Malformed);
    assert_eq!(reader.order(refund("r1", "o1", 0, 0)), Taken::Malformed);
    let lines = vec![Line { product: None, amount_minor: 0 }; ledger::LINES_MAX + 1];
    let booking = Booking::Completed { total_minor: 1, lines, keys: Keys::default() };
    assert_eq!(reader.order(event("e", "o1", 0, booking)), Taken::Malformed);
    assert_eq!(reader.order(completed("o1", i64::MAX, i64::MAX)), Taken::Taken);
    assert_eq!(reader.touch(touch("c", "x", i64::MIN)), Taken::Taken);
    reader.advance(i64::MAX);
    assert!(reader.rows.is_empty(), "an order at the end of time is never passed");
}

#[test]
fn a_touch_matches_by_click_id_person_or_device() {
    let click_id = |value: &str| Some(ClickId { kind: "gclid".to_owned(), value: value.to_owned() });
    let keys = |click: Option<&str>, user: Option<&str>, anonymous: Option<&str>| Keys {
        click_id: click.and_then(click_id),
        user: user.map(str::to_owned),
        anonymous: anonymous.map(str::to_owned),
    };
    let order = keys(Some("g1"), Some("u1"), Some("a1"));
    let cases = [
        (keys(Some("g1"), Some("u9"), None), true),
        (keys(Some("g2"), None, None), false),
        (keys(None, Some("u1"), Some("a9")), true),
        (keys(None, Some("u9"), Some("a1")), true),
        (keys(None, Some("u9"), Some("a9")), false),
        (keys(None, None, Some("a2")), true),
        (keys(None, None, None), false),
    ];
    for (nth, (its, matches)) in cases.into_iter().enumerate() {
        let mut reader = Reader::new(Settings::default());
        reader.touch(Touch { keys: its, ..touch("c", "x", at(10, 0, 0)) });
        // The device a2 is known to be used by u1.
        reader.ledger.push_identify(at(10, 5, 0), "i1", "a2", "u1");
        let booking = Booking::Completed { total_minor: 1, lines: Vec::new(), keys: order.clone() };
        reader.order(event("e", "o1", at(10, 20, 0), booking));
        reader.advance(at(10, 21, 0));
        reader.check("o1", Model::LastTouch, &[(if matches { "c" } else { "(none)" }, 1)]);
        assert!(reader.rows.keys().all(|row| row.touch.is_some() == matches), "case {nth}");
    }

    let mut settings = Settings { strict_click_id: true, models: vec![Model::Linear], ..Settings::default() };
    for (strict, expected) in [(true, 1), (false, 2)] {
        settings.strict_click_id = strict;
        let mut reader = Reader::new(settings.clone());
        reader.touch(Touch { keys: keys(Some("g1"), None, None), ..touch("c1", "x", at(10, 0, 0)) });
        reader.touch(Touch { keys: keys(None, Some("u1"), None), ..touch("c2", "x", at(10, 1, 0)) });
        let booking = Booking::Completed { total_minor: 1, lines: Vec::new(), keys: order.clone() };
        reader.order(event("e", "o1", at(10, 20, 0), booking));
        reader.advance(at(10, 21, 0));
        assert_eq!(reader.rows.len(), expected);
    }
}

#[test]
fn a_double_click_is_one_touch() {
    let click = |id: &str, time| Touch { campaign: Some("spring".to_owned()), ..touch(id, "ads", time) };
    let mut reader = Reader::new(Settings { models: vec![Model::Linear], ..Settings::default() });
    reader.touch(click("c1", at(10, 0, 0)));
    reader.touch(click("c2", at(10, 0, 1)));
    reader.touch(click("c3", at(10, 0, 2) + 1));
    reader.touch(Touch { placement: Some("top".to_owned()), ..click("c4", at(10, 0, 2) + 1) });
    reader.order(completed("o1", at(10, 20, 0), 300));
    reader.advance(at(12, 0, 0));
    reader.check("o1", Model::Linear, &[("c1", 100), ("c3", 100), ("c4", 100)]);
    assert_eq!(reader.notices, [Notice::DuplicateClick { touch_id: "c2".to_owned() }]);
}

#[test]
fn a_click_may_be_consumed_by_its_first_order() {
    for (count_mode, second) in [(CountMode::Every, "c1"), (CountMode::One, "(none)")] {
        for between in [false, true] {
            let mut reader = Reader::new(Settings { count_mode, ..Settings::default() });
            reader.touch(touch("c1", "email", at(10, 0, 0)));
            reader.order(completed("o1", at(10, 10, 0), 1));
            if between {
                reader.advance(at(10, 25, 0));
            }
            reader.order(completed("o2", at(10, 20, 0), 2));
            reader.advance(at(10, 50, 0));
            reader.check("o1", Model::LastTouch, &[("c1", 1)]);
            reader.check("o2", Model::LastTouch, &[(second, 2)]);
        }
    }
}

#[test]
fn a_transform_decides_which_touches_are_credited_and_the_path_is_shown_whole() {
    let mut reader =
        Reader::new(Settings { models: vec![Model::Linear], transform: Transform::First, ..Settings::default() });
    for (n, channel) in ["email", "email", "ads", "email"].into_iter().enumerate() {
        reader.touch(touch(&format!("c{n}"), channel, at(10, n as i64, 0)));
    }
    reader.order(completed("o1", at(10, 20, 0), 100));
    reader.advance(at(10, 21, 0));
    reader.check("o1", Model::Linear, &[("c0", 50), ("c2", 50)]);
    let path = reader.paths.keys().next().expect("a path");
    assert_eq!(path.raw, ["email", "email", "ads", "email"]);
    assert_eq!(path.exposure, ["email", "ads", "email"]);
    assert_eq!(path.first, ["email", "ads"]);
}

#[test]
fn paths_end_with_an_order_or_with_nothing() {
    let mut reader = Reader::new(Settings::default());
    let of =
        |id: &str, channel: &str, who: &str, minute| Touch { keys: user(who), ..touch(id, channel, at(10, minute, 0)) };
    for touch in [
        of("a1", "email", "u1", 0),
        of("a2", "ads", "u1", 5),
        of("b1", "email", "u2", 0),
        of("b2", "ads", "u2", 30),
        of("b3", "email", "u2", 61),
        of("a3", "social", "u1", 40),
    ] {
        reader.touch(touch);
    }
    reader.order(completed("o1", at(10, 10, 0), 100));
    reader.advance(at(10, 30, 0));
    let path = |time, channels: &[&str], end| ClosedPath {
        time,
        channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
        end,
    };
    let converted = path(at(10, 10, 0), &["email", "ads"], End::Converted);
    assert_eq!(reader.closed, std::slice::from_ref(&converted));
    reader.advance(at(14, 0, 0));
    let expected = [
        converted,
        path(at(10, 30, 0), &["email", "ads"], End::Null),
        path(at(10, 40, 0), &["social"], End::Null),
        path(at(11, 1, 0), &["email"], End::Null),
    ];
    let mut closed = reader.closed.clone();
    closed.sort();
    assert_eq!(closed, expected);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut reader = Reader::new(Settings { models: vec![Model::Linear, Model::FirstTouch], ..Settings::default() });
    for n in 0..ledger::TOUCHES_MAX as i64 + 5 {
        reader.touch(touch(&format!("c{n:05}"), "x", at(10, 0, 0) + n * 100));
    }
    reader.order(completed("o1", at(10, 20, 0), 1_000));
    reader.advance(at(10, 21, 0));
    assert_eq!(reader.notices.len(), 5, "the oldest were forgotten, and it was said");
    assert_eq!(reader.net("o1", Model::Linear).len(), ledger::PATH_MAX);
    reader.check("o1", Model::FirstTouch, &[("c00005", 1_000)]);
    reader.advance(at(12, 0, 0));
    assert_eq!(reader.ledger.touches_kept(), 0);
    reader.advance(91 * DAY + at(12, 0, 0));
    assert!(reader.ledger.is_empty());
}
