//! The examples of DOMAIN 5.13 that one touch per order can show, under their ids. 10:00:00 is time 0 here.

use super::*;

const fn at(minute: i64, second: i64, millis: i64) -> i64 {
    (minute * 60 + second) * 1000 + millis
}

fn domain(model: Model) -> Setup {
    Setup { window_ms: 30 * 60 * 1000, model, ..Setup::default() }
}

fn o1() -> Row {
    row(at(20, 0, 0), "o1")
}

fn credited(model: Model, clicks: &[Row]) -> String {
    let given = run_once(domain(model), &[o1()], clicks);
    assert_eq!(given.rows.len(), 1);
    given.rows[0].clone()
}

#[test]
fn g_b1_a_touch_exactly_as_old_as_the_window_is_eligible() {
    let clicks = [row(at(-10, 0, 0), "c1"), row(at(12, 30, 0), "c2")];
    assert!(credited(Model::LastTouch, &clicks).starts_with("o1|u1|1|c2|u1|1|true|last_touch|1000000|450000|"));
    assert!(credited(Model::FirstTouch, &clicks).starts_with("o1|u1|1|c1|u1|1|true|first_touch|1000000|1800000|"));
}

#[test]
fn g_b2_a_touch_one_millisecond_older_than_the_window_is_not() {
    let clicks = [row(at(-10, 0, -1), "c1"), row(at(12, 30, 0), "c2")];
    for model in Model::ALL {
        assert_eq!(pair(&credited(model, &clicks)), "o1<-c2");
    }
}

#[test]
fn g_b3_a_touch_of_the_same_millisecond_counts_and_a_later_one_does_not() {
    let before = [row(at(-10, 0, 0), "c1"), row(at(12, 30, 0), "c2")];
    let with = |click: Row| [&before[..], &[click]].concat();
    assert_eq!(pair(&credited(Model::LastTouch, &with(row(at(20, 0, 0), "c3")))), "o1<-c3");
    assert_eq!(pair(&credited(Model::LastTouch, &with(row(at(20, 0, 1), "c3")))), "o1<-c2");
}

#[test]
fn g_b4_an_order_that_comes_again_changes_nothing_and_is_counted() {
    let setup = Setup { dedupe_ms: Some(90 * 24 * 3600 * 1000), ..domain(Model::LastTouch) };
    let mut runner = Runner::new(setup);
    let clicks = [row(at(-10, 0, 0), "c1"), row(at(12, 30, 0), "c2")];
    assert_eq!(runner.pairs(&[o1()], &clicks, at(20, 0, 1)), ["o1<-c2"]);
    // Again with other content, at another position, a little later.
    let again = Row { name: "o1 again".into(), time: at(20, 5, 0), position: 7, ..o1() };
    let given = runner.step(&[again], &[row(at(20, 4, 0), "c3")], at(40, 0, 0));
    assert_eq!(given.rows, [""; 0]);
    assert_eq!(given.counts, Counts { input: 2, taken: 1, duplicate: 1, ..Counts::default() });
}

#[test]
fn g_b13_clicks_of_one_millisecond_are_ordered_by_id() {
    let clicks = [row(at(12, 30, 0), "k2"), row(at(12, 30, 0), "k1")];
    assert_eq!(pair(&credited(Model::LastTouch, &clicks)), "o1<-k2");
    assert_eq!(pair(&credited(Model::FirstTouch, &clicks)), "o1<-k1");
}
