//! Single cases, read like the rules.

use std::time::Duration;

use arrow::datatypes::TimeUnit;

use super::world::{Came, Row, Spans, Tick, World, schema};
use crate::window::{Window, WindowSettings};

const COUNT: &[(&str, &str)] = &[("rows", "count(*)"), ("names", "count(distinct s)")];

fn rows(rows: &[(&str, i64)]) -> Vec<Row> {
    let one = |(k, time): &(&str, i64)| Row { k: Some(k.to_string()), time: *time, ..Row::default() };
    rows.iter().map(one).collect()
}

/// Steps through ticks of rows `(key, time)` and a watermark, and returns rows and late rows as `start key count`.
#[track_caller]
fn check(spans: (i64, i64, i64), ticks: &[(&[(&str, i64)], i64)], expected: &[&str]) {
    let (size, every, lateness) = spans;
    let mut world = World::new(Spans { size, every, lateness }, 2, COUNT);
    let mut found = Vec::new();
    for (number, (given, watermark)) in ticks.iter().enumerate() {
        let watermark = Some(*watermark).filter(|watermark| *watermark != END);
        let Came { rows: came, late, .. } = world.step(&Tick { rows: rows(given), watermark });
        found.extend(came.iter().map(|row| {
            let parts: Vec<&str> = row.split(' ').collect();
            // A start is written as `1970-01-01T00:00:00.000004`.
            let start: i64 = parts[0].split_once('.').map_or(0, |(_, micros)| micros.parse().unwrap());
            format!("{number}: {start} {} {}", parts[2], parts[4])
        }));
        found.extend(late.iter().map(|row| format!("{number}: late {}", row.split(' ').next().unwrap())));
    }
    assert_eq!(found, expected);
}

const END: i64 = i64::MAX;

#[test]
fn a_window_is_emitted_once_when_no_row_can_reach_it() {
    // [0, 10): its last instant is 9; a row of time 9 is accepted until the watermark of the tick before is above 9.
    check(
        (10, 10, 0),
        &[(&[("a", 1), ("a", 9), ("b", 5)], 9), (&[("a", 9)], 10), (&[("a", 9)], 11), (&[], END)],
        &["1: 0 a 3", "1: 0 b 1", "2: late a"],
    );
}

#[test]
fn lateness_holds_windows_open_and_takes_rows() {
    check(
        (10, 10, 5),
        &[(&[("a", 1)], 14), (&[("a", 9)], 15), (&[("a", 9), ("a", 10)], 15), (&[], END)],
        &["1: 0 a 2", "2: late a", "3: 10 a 1"],
    );
}

#[test]
fn a_late_row_is_late_even_if_its_window_is_open() {
    check((10, 10, 0), &[(&[("a", 8)], 5), (&[("a", 4), ("a", 5)], 5), (&[], END)], &["1: late a", "2: 0 a 2"]);
}

#[test]
fn a_row_is_in_every_window_that_holds_it() {
    check((10, 4, 0), &[(&[("a", 9)], 0), (&[], END)], &["1: 0 a 1", "1: 4 a 1", "1: 8 a 1"]);
    check((10, 4, 0), &[(&[("a", 10)], 0), (&[], END)], &["1: 4 a 1", "1: 8 a 1"]);
}

#[test]
fn ticks_without_rows_give_nothing() {
    check((10, 10, 0), &[(&[], 5), (&[], 50), (&[], END)], &[]);
}

fn settings() -> WindowSettings {
    WindowSettings {
        by: vec![0],
        aggregates: Vec::new(),
        size: Duration::from_millis(10),
        every: Duration::from_millis(10),
        lateness: Duration::ZERO,
        unit: TimeUnit::Millisecond,
        groups_max: 10,
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |settings: WindowSettings| Window::new(settings, &schema()).map(|_| ()).unwrap_err();
    assert!(Window::new(settings(), &schema()).is_ok());
    assert!(refused(WindowSettings { every: Duration::from_millis(11), ..settings() }).contains("at least as long"));
    assert!(refused(WindowSettings { every: Duration::ZERO, ..settings() }).contains("not zero"));
    assert!(refused(WindowSettings { size: Duration::from_micros(10_500), ..settings() }).contains("whole units"));
    assert!(Window::new(settings(), &arrow::datatypes::Schema::new(schema().fields()[..1].to_vec())).is_err());
}

#[test]
fn the_bound_stops_the_job_and_says_why() {
    use riverrun_dataflow::graph::ShardRange;
    use riverrun_dataflow::operator::{Operator, Outputs};
    use riverrun_dataflow::{EventTime, StepTick};

    let window = Window::new(settings(), &schema()).unwrap();
    let step = |keys: usize| {
        let many: Vec<Row> = (0..keys).map(|k| Row { k: Some(k.to_string()), ..Row::default() }).collect();
        let tick = StepTick { tick: 1, now: 0, before: EventTime::MIN, watermark: EventTime::MIN, last: false };
        let mut state = window.on(ShardRange { worker: 0, workers: 1, shards: super::world::SHARDS });
        state.step(vec![vec![super::world::batch(&many, None)]], &tick, &mut Outputs::default())
    };
    assert!(step(10).is_ok());
    let error = step(11).unwrap_err().to_string();
    assert!(error.contains("11 groups") && error.contains("10 are allowed"), "{error}");
}

#[test]
fn a_checkpoint_costs_what_changed() {
    let mut world = World::new(Spans { size: 10, every: 10, lateness: 0 }, 1, COUNT);
    let many: Vec<(String, i64)> = (0..1000).map(|k| (format!("k{k}"), 20 + k % 10)).collect();
    let many: Vec<(&str, i64)> = many.iter().map(|(k, time)| (k.as_str(), *time)).collect();
    world.step(&Tick { rows: rows(&many), watermark: Some(0) });
    world.freeze(&[]);
    assert_eq!(world.stored_rows(), 1000);
    world.step(&Tick { rows: rows(&[("k7", 25), ("k8", 25), ("new", 3)]), watermark: Some(0) });
    world.freeze(&[]);
    assert_eq!(world.stored_rows(), 1003);
    // What closes was stored, and is deleted; what came and went between two checkpoints was never there.
    world.step(&Tick { rows: rows(&[("brief", 4)]), watermark: Some(15) });
    world.freeze(&[]);
    assert_eq!(world.stored_rows(), 1004);
    world.restore(3);
    assert_eq!(world.groups(), 1000);
}

#[test]
fn without_checkpoints_nothing_piles_up() {
    let mut world = World::new(Spans { size: 1, every: 1, lateness: 0 }, 1, COUNT);
    for time in 0..300 {
        let came = world.step(&Tick { rows: rows(&[("a", time), ("b", time)]), watermark: Some(time) });
        assert!(came.rows.len() <= 2 && world.groups() <= 4);
    }
}

#[test]
fn state_of_another_shape_is_refused() {
    use riverrun_dataflow::graph::ShardRange;
    use riverrun_dataflow::operator::{Operator, StepError};

    let window = Window::new(settings(), &schema()).unwrap();
    let mut state = window.on(ShardRange { worker: 0, workers: 1, shards: 16 });
    let error = state.restore(0, &super::world::batch(&[Row::default()], None)).unwrap_err();
    assert!(matches!(error, StepError::State(_)), "{error}");
}
