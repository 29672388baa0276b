use super::*;
use crate::engine::meter::Part;
use crate::engine::{ActKind, Durations};

const LIMIT: Duration = Duration::from_secs(30);
const OUTSIDE: Duration = Duration::from_secs(120);

fn worker(turns: u64, begun: Tick, at: Option<Part>) -> WorkerReading {
    let at_name = at.map(|part| part.named("x"));
    let (busy_seconds, backpressured_seconds, idle_seconds) = (0.0, 0.0, 0.0);
    WorkerReading { worker: 0, turns, done: 0, begun, at, at_name, busy_seconds, backpressured_seconds, idle_seconds }
}

/// A worker that has done so many pieces of work, all in one turn.
fn at_work(done: u64) -> WorkerReading {
    WorkerReading { done, ..worker(5, 8, Some(Part::Step(0))) }
}

fn commit(ended: u64, age: Option<u64>) -> ActReading {
    let durations = Durations { count: ended, ..Durations::default() };
    let under_way_seconds = age.map(|age| age as f64);
    ActReading { kind: ActKind::Commit, name: "out".into(), worker: 0, under_way_seconds, durations }
}

/// Looks once a second for `seconds`, and returns the second and the finding of the first look that is not well.
fn first_finding(seconds: u64, scene: impl Fn(u64) -> Scene) -> Option<(u64, Finding)> {
    let mut watch = Watch::new(WatchdogLimits { inside: LIMIT, outside: Some(OUTSIDE) });
    let mut look = |second| (second, watch.look(Duration::from_secs(1), &scene(second)));
    (0..seconds).map(&mut look).find(|(_, finding)| *finding != Finding::Well)
}

/// Returns the second in which a job of one worker is ended, and why.
fn ended(seconds: u64, scene: impl Fn(u64) -> Scene) -> Option<(u64, StallCause)> {
    let mut watch = Watch::new(WatchdogLimits { inside: LIMIT, outside: Some(OUTSIDE) });
    (0..seconds).find_map(|second| match watch.look(Duration::from_secs(1), &scene(second)) {
        Finding::Stalled(cause, _) => Some((second, cause)),
        _ => None,
    })
}

fn scene(complete: Tick, workers: Vec<WorkerReading>, acts: Vec<ActReading>) -> Scene {
    let numbered = |(number, worker)| WorkerReading { worker: number, ..worker };
    let workers = workers.into_iter().enumerate().map(numbered).collect();
    Scene { complete, stopping: false, workers, acts, elsewhere: Doing::default() }
}

#[test]
fn a_worker_that_is_stuck_in_a_step_ends_the_job_whatever_sinks_do() {
    let stuck = |_| scene(7, vec![worker(5, 8, Some(Part::Step(0)))], vec![]);
    assert_eq!(ended(100, stuck), Some((30, StallCause::Inside)));
    let and_a_slow_sink = |second| scene(7, vec![worker(5, 8, Some(Part::Step(0)))], vec![commit(0, Some(second))]);
    assert_eq!(ended(100, and_a_slow_sink), Some((30, StallCause::Inside)));
    let and_a_busy_sink = |second| scene(7, vec![worker(5, 8, Some(Part::Merge(0)))], vec![commit(second, Some(0))]);
    assert_eq!(ended(100, and_a_busy_sink), Some((30, StallCause::Inside)));
}

#[test]
fn parts_that_wait_for_each_other_end_the_job() {
    let waiting = |second| scene(7, vec![worker(second, 8, None), worker(second, 7, None)], vec![commit(3, None)]);
    assert_eq!(ended(100, waiting), Some((30, StallCause::Inside)));
    let stopping = |second| Scene { stopping: true, ..scene(7, vec![worker(second, 7, None)], vec![]) };
    assert_eq!(ended(100, stopping), Some((30, StallCause::Inside)));
}

#[test]
fn ticks_that_come_through_are_well_however_slowly() {
    let slow = |second: u64| scene(second / 29, vec![worker(1, 1000, Some(Part::Step(0)))], vec![]);
    assert_eq!(first_finding(1000, slow), None);
}

#[test]
fn a_step_that_works_long_in_one_tick_and_says_so_is_well_until_it_hangs() {
    let long = |second: u64| scene(7, vec![at_work(second / 29)], vec![]);
    assert_eq!(first_finding(1000, long), None);
    let hangs = |second: u64| scene(7, vec![at_work(second.min(100))], vec![]);
    assert_eq!(ended(1000, hangs), Some((130, StallCause::Inside)));
    let beside_one_that_hangs = |second: u64| scene(7, vec![at_work(second), at_work(0)], vec![]);
    assert_eq!(ended(1000, beside_one_that_hangs), Some((30, StallCause::Inside)));
}

#[test]
fn a_job_that_gets_little_time_of_the_machine_is_well() {
    let slow = |second: u64| {
        let reading = WorkerReading { done: second / 29, ..worker(second / 10, 8, None) };
        scene(0, vec![reading], vec![])
    };
    assert_eq!(first_finding(1000, slow), None);
}

#[test]
fn a_job_without_anything_to_do_is_well() {
    let idle = |second| scene(7, vec![worker(second, 7, None)], vec![commit(3, None)]);
    assert_eq!(first_finding(1000, idle), None);
}

#[test]
fn a_sink_that_does_not_answer_is_said_and_ends_the_job_only_at_its_own_limit() {
    let down = |second| scene(7, vec![worker(second, 8, None)], vec![commit(3, Some(second))]);
    let (second, finding) = first_finding(100, down).unwrap();
    assert_eq!(second, 30);
    let Finding::Slow(slow) = finding else { panic!("{finding:?}") };
    assert_eq!(slow, [("committing to sink `out`, worker 0".to_owned(), LIMIT)]);
    assert_eq!(ended(1000, down), Some((120, StallCause::Outside)));
    // Once it answers, even slowly, nothing is wrong.
    let slow = |second| scene(7, vec![worker(second, 8, None)], vec![commit(second / 20, Some(second % 20))]);
    assert_eq!(first_finding(1000, slow), None);
}

#[test]
fn a_worker_that_waits_for_its_source_or_its_state_waits_for_the_outside() {
    for part in [Part::Read(0), Part::Restore(0)] {
        let waiting = |_| scene(7, vec![worker(5, 7, Some(part))], vec![]);
        let (second, finding) = first_finding(100, waiting).unwrap();
        assert!(second == 30 && matches!(finding, Finding::Slow(_)), "{second} {finding:?}");
        assert_eq!(ended(1000, waiting), Some((120, StallCause::Outside)));
    }
}

#[test]
fn time_in_which_the_watchdog_did_not_look_does_not_count() {
    let mut watch = Watch::new(WatchdogLimits { inside: LIMIT, outside: None });
    let stuck = || scene(7, vec![worker(5, 8, Some(Part::Step(0)))], vec![]);
    for _ in 0..10 {
        assert_eq!(watch.look(Duration::from_secs(3600), &stuck()), Finding::Well, "the process was stopped");
    }
}

#[test]
fn the_report_names_who_holds_the_job_back() {
    let mut watch = Watch::new(WatchdogLimits { inside: LIMIT, outside: None });
    let seen = scene(7, vec![worker(9, 8, None), worker(5, 8, Some(Part::Step(0)))], vec![commit(1, Some(4))]);
    for _ in 0..=30 {
        watch.look(Duration::from_secs(1), &seen);
    }
    let part = |part: Part, worker, next| {
        let (named, name) = (part.named("x"), "x".to_owned());
        PartReading { stage: part.stage().to_owned(), named, name, worker, busy_seconds: 0.0, next }
    };
    let parts = [
        part(Part::Clock, 0, Some(9)),
        part(Part::Step(0), 0, Some(9)),
        part(Part::Step(0), 1, Some(8)),
        part(Part::Decode(0), 0, None),
    ];
    let text = watch.report(&seen, StallCause::Inside, LIMIT, &parts).to_string();
    let want = "no progress for 30.0 s: tick 8 is not complete
  worker 0 has been at this for 30.0 s: between its parts
  worker 1 has been at this for 30.0 s: step `x`
  under way for 4.0 s: committing to sink `out`, worker 0
  next tick by part, of each worker: step `x` 9/8; reading 8/8; clock 9";
    assert_eq!(text, want);
}
