mod changes;
mod starts;

use super::*;
use crate::limits::Limits;
use crate::manager::record::{Change, Underway};

/// A job and what is seen of it, played step by step.
struct Play {
    job: Job,
    seen: Seen,
    rules: Rules,
    told: Vec<(OperationState, Option<String>)>,
    past: History,
}

fn spec() -> Spec {
    Spec {
        file: "j.yaml".to_owned(),
        text: "job: j".to_owned(),
        set: Vec::new(),
        topics: None,
        schema_registry: None,
        processes: 1,
        workers: 1,
        until_end: false,
        limits: Limits::default(),
        replay: None,
    }
}

fn ended(code: Option<i32>) -> Process {
    Process::Ended(End { code, ..End::unknown() })
}

fn finished() -> Process {
    Process::Ended(End { code: Some(0), finished: true, ..End::unknown() })
}

fn leaving(savepoint: &str) -> StopWish {
    StopWish { savepoint: Some(savepoint.to_owned()), drain: false }
}

/// The task of the change that a play makes.
fn upgrade() -> Task {
    Task::Upgrade { allow: vec!["step".to_owned()], savepoint: Some("before".to_owned()) }
}

impl Play {
    /// A job that was just submitted, with an operation that waits until it runs.
    fn new() -> Play {
        let now = Moment(1_000_000);
        let mut job = Job::new("j", spec(), now);
        job.operation = Some(underway(Phase::Running));
        let seen = Seen {
            now,
            processes: Vec::new(),
            strays: 0,
            health: Health::Unknown,
            ended_for: Duration::ZERO,
            silence: Duration::ZERO,
            saved: false,
            rows: RowsOut::default(),
            valid: Some(Ok(())),
            drained: Some(true),
        };
        Play { job, seen, rules: Rules::default(), told: Vec::new(), past: History::default() }
    }

    /// A job that is at its work.
    fn running() -> Play {
        let mut play = Play::new();
        play.settle();
        play.start();
        play.health(Health::Ready);
        assert_eq!(play.job.phase, Phase::Running);
        play
    }

    /// Takes all steps that are there.
    fn settle(&mut self) -> &mut Play {
        for _ in 0..20 {
            let Some(step) = next(&self.job, &self.seen, &self.rules) else { return self };
            if step.job.launch.as_ref().map(|it| it.generation) != self.job.launch.as_ref().map(|it| it.generation) {
                // What is seen is seen of the processes of the launch.
                let count = step.job.launch.as_ref().map_or(0, |launch| usize::from(launch.processes));
                self.seen.processes = vec![Process::Absent; count];
                self.seen.health = Health::Unknown;
                self.seen.rows = RowsOut::default();
            }
            self.told.extend(step.ended.map(|(_, state, message)| (state, message)));
            self.past.add(step.past);
            self.job = step.job;
        }
        panic!("it never comes to rest: {:?}", self.job);
    }

    fn acts(&self) -> Vec<Act> {
        acts(&self.job, &self.seen)
    }

    /// Does what is to be done: processes are started.
    fn start(&mut self) -> &mut Play {
        for act in self.acts() {
            let Act::Start(index) = act else { panic!("{act:?}") };
            self.seen.processes[usize::from(index)] = Process::Alive;
        }
        self.settle()
    }

    fn health(&mut self, health: Health) -> &mut Play {
        self.seen.health = health;
        self.settle()
    }

    /// All processes end like this.
    fn all(&mut self, process: Process) -> &mut Play {
        self.seen.processes.fill(process);
        self.seen.health = Health::Unknown;
        self.settle()
    }

    fn later(&mut self, span: Duration) -> &mut Play {
        self.seen.now = self.seen.now.after(span);
        self.settle()
    }

    fn change(&mut self, kind: ChangeKind) -> &mut Play {
        self.change_from(kind, self.job.spec.clone())
    }

    /// Changes a job that is this now.
    fn change_from(&mut self, kind: ChangeKind, from: Spec) -> &mut Play {
        self.job.spec.text.push_str("\n# changed");
        let savepoint = (kind == ChangeKind::Upgrade).then(|| "before".to_owned());
        let (allow, deadline) = (vec!["step".to_owned()], None);
        let (done, undrained, ended) = (false, false, 0);
        self.job.change = Some(Change { kind, from, savepoint, allow, done, undrained, ended, deadline });
        self.job.operation = Some(underway(Phase::Running));
        self.settle()
    }

    /// What is under way goes well, one act on.
    fn turn(&mut self) -> &mut Play {
        match self.acts().first() {
            Some(Act::Start(_)) => self.start(),
            Some(Act::Stop(..) | Act::Kill(_)) => self.all(ended(Some(0))),
            Some(act) => panic!("{act:?}"),
            None if self.job.launch.is_some() => self.health(Health::Ready),
            None => self.later(Duration::from_secs(60)),
        }
    }

    #[track_caller]
    fn is(&mut self, phase: Phase) -> &mut Play {
        assert_eq!(self.job.phase, phase, "{:#?}", self.job.events);
        self
    }
}

fn underway(goal: Phase) -> Underway {
    Underway { id: "o".to_owned(), goal }
}

#[test]
fn a_job_is_started_and_its_submission_is_done_when_it_is_at_its_work() {
    let mut play = Play::new();
    play.settle().is(Phase::Scheduling);
    assert_eq!(play.acts(), [Act::Start(0)]);
    play.start().is(Phase::Scheduling).health(Health::Restoring).is(Phase::Restoring);
    assert!(play.told.is_empty());
    play.health(Health::Ready).is(Phase::Running);
    assert_eq!(play.told, [(OperationState::Succeeded, None)]);
    assert_eq!(play.job.proven, Some(spec()));
    assert!(play.acts().is_empty());
}

#[test]
fn a_faulty_job_fails_before_anything_is_started() {
    let mut play = Play::new();
    play.seen.valid = Some(Err("no such column".to_owned()));
    play.settle().is(Phase::Failed);
    assert_eq!(play.told, [(OperationState::Failed, Some("no such column".to_owned()))]);
    assert_eq!(play.job.generation, 0);
}

#[test]
fn exit_codes_say_what_follows() {
    // Code, phase, whether it counts, whether it waits.
    let table = [
        (Some(0), Phase::Scheduling, false),
        (Some(1), Phase::Failed, false),
        (Some(2), Phase::Failed, false),
        (Some(70), Phase::Recovering, true),
        (Some(74), Phase::Recovering, true),
        (Some(75), Phase::Scheduling, false),
        (Some(78), Phase::Failed, false),
        (Some(137), Phase::Recovering, true),
        (None, Phase::Recovering, true),
    ];
    for (code, phase, counts) in table {
        let mut play = Play::running();
        play.later(Duration::from_secs(60)).all(ended(code));
        assert_eq!(play.job.restarts.in_a_row, u32::from(counts), "{code:?}");
        match phase {
            Phase::Failed => drop(play.is(Phase::Failed)),
            _ => {
                play.is(Phase::Scheduling);
                let waits = play.job.launch.is_none();
                assert_eq!(waits, counts, "{code:?}: only what counts is waited for");
                play.later(Duration::from_secs(2));
                assert_eq!((play.job.generation, play.acts()), (2, vec![Act::Start(0)]), "{code:?}");
            }
        }
    }
}

#[test]
fn how_a_process_ended_stands_in_the_events_and_in_what_went_wrong() {
    let mut play = Play::new();
    play.job.spec.processes = 2;
    play.settle().start().health(Health::Ready);
    let usage = Some(Usage { cpu_millis: 1500, resident_bytes: 7 << 20 });
    let message = Some("it needed more memory".to_owned());
    play.seen.processes[0] = ended(Some(75));
    play.seen.processes[1] = Process::Ended(End { code: Some(137), signal: Some(9), message, usage, ..End::unknown() });
    play.settle().is(Phase::Scheduling);
    let end = ProcessEnd {
        process: 1,
        cause: Cause::OutOfMemory,
        code: Some(137),
        signal: Some(9),
        cpu_millis: Some(1500),
        resident_bytes: Some(7 << 20),
    };
    let told = play.job.events.iter().find(|event| event.end.is_some()).unwrap();
    assert_eq!((told.end.as_ref(), told.what.as_deref()), (Some(&end), Some("it needed more memory")));
    assert_eq!(play.job.trouble.as_ref().unwrap().end.as_ref(), Some(&end));
    assert_eq!(play.job.restarts.by_reason["oom"], 1);
    assert_eq!(serde_json::to_value(&end).unwrap()["cause"], "OOMKilled");
}

#[test]
fn restarts_wait_longer_and_longer_and_are_counted_anew_after_long_work() {
    let mut play = Play::running();
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        play.all(ended(None)).is(Phase::Scheduling);
        assert_eq!(play.job.restarts.not_before.since(play.seen.now), Duration::from_secs(seconds));
        play.later(Duration::from_secs(seconds)).start().health(Health::Ready).is(Phase::Running);
    }
    play.later(Duration::from_secs(601)).all(ended(None));
    assert_eq!(play.job.restarts.not_before.since(play.seen.now), Duration::from_secs(1));
    assert_eq!(play.job.restarts.by_reason["killed"], 9);
}

#[test]
fn a_job_that_gets_on_is_started_again_at_once() {
    let mut play = Play::running();
    for _ in 0..5 {
        play.all(ended(None)).later(Duration::from_secs(60)).start().health(Health::Ready);
    }
    play.seen.saved = true;
    play.all(ended(None)).is(Phase::Scheduling);
    assert_eq!(play.acts(), [Act::Start(0)], "it does not wait");
    play.seen.saved = false;
    play.start().health(Health::Ready).all(ended(None));
    assert_eq!(play.job.restarts.not_before.since(play.seen.now), Duration::from_secs(1), "and is counted anew");
}

#[test]
fn one_process_ends_and_the_whole_generation_is_started_again() {
    let mut play = Play::new();
    play.job.spec.processes = 3;
    play.settle().start().health(Health::Ready).is(Phase::Running);
    play.seen.processes[1] = ended(None);
    play.settle().is(Phase::Recovering);
    assert_eq!(play.acts(), [Act::Kill(0), Act::Kill(2)]);
    play.all(ended(None)).is(Phase::Scheduling).later(Duration::from_secs(1));
    assert_eq!(play.acts(), [Act::Start(0), Act::Start(1), Act::Start(2)]);
    assert_eq!(play.job.restarts.in_a_row, 1, "three ends of one generation count once");
}

#[test]
fn it_is_waited_for_the_process_that_says_why_the_others_ended() {
    let three = || {
        let mut play = Play::new();
        play.job.spec.processes = 3;
        play.settle().start().health(Health::Ready).is(Phase::Running);
        play.seen.processes[1] = ended(Some(75));
        play.settle().is(Phase::Running);
        play
    };
    let mut play = three();
    play.seen.processes[0] = ended(Some(78));
    play.settle().is(Phase::Failing);
    // A frozen one never says anything.
    let mut play = three();
    play.seen.ended_for = Duration::from_secs(3);
    play.settle().is(Phase::Recovering);
    assert_eq!(play.acts(), [Act::Kill(0), Act::Kill(2)]);
    // Those who are done are done one after the other.
    let mut play = Play::new();
    play.job.spec.processes = 2;
    play.settle().start().health(Health::Ready);
    play.seen.processes[1] = finished();
    play.settle().is(Phase::Running);
    play.all(finished()).is(Phase::Finished);
}

#[test]
fn one_process_names_the_state_of_all() {
    let mut play = Play::new();
    play.job.spec.processes = 2;
    play.settle().start().health(Health::Ready);
    play.job.wanted = Wanted::Suspended;
    play.job.savepoint = Some("friday".to_owned());
    play.settle().is(Phase::Suspending);
    assert_eq!(play.acts(), [Act::Stop(0, leaving("friday"))]);
}

#[test]
fn nothing_is_started_while_a_process_of_another_generation_lives() {
    let mut play = Play::new();
    play.seen.strays = 1;
    play.settle().is(Phase::Scheduling);
    assert_eq!((play.acts(), play.job.launch.clone()), (vec![Act::KillStrays], None));
    play.seen.strays = 0;
    play.settle();
    assert_eq!(play.acts(), [Act::Start(0)]);
}

#[test]
fn a_process_that_lives_and_says_nothing_is_killed_and_started_again() {
    let mut play = Play::running();
    play.seen.silence = Duration::from_secs(59);
    play.settle().is(Phase::Running);
    play.seen.silence = Duration::from_secs(60);
    play.settle().is(Phase::Recovering);
    assert_eq!(play.acts(), [Act::Kill(0)]);
    play.seen.silence = Duration::ZERO;
    play.all(ended(None)).later(Duration::from_secs(1));
    assert_eq!(play.acts(), [Act::Start(0)]);
}

#[test]
fn a_suspended_job_leaves_its_savepoint_and_goes_on_when_it_is_resumed() {
    let mut play = Play::running();
    play.job.wanted = Wanted::Suspended;
    play.job.savepoint = Some("friday".to_owned());
    play.job.operation = Some(underway(Phase::Suspended));
    play.settle().is(Phase::Suspending);
    assert_eq!(play.acts(), [Act::Stop(0, leaving("friday"))]);
    play.all(ended(Some(0))).is(Phase::Suspended);
    assert_eq!(play.told.last(), Some(&(OperationState::Succeeded, None)));
    assert!(play.acts().is_empty());
    play.job.wanted = Wanted::Running;
    play.settle().is(Phase::Scheduling).start().health(Health::Ready).is(Phase::Running);
}

#[test]
fn a_drained_job_is_finished_or_was_not_drained() {
    let drained = |processes: usize, end: Process| {
        let mut play = Play::new();
        play.job.spec.processes = processes as u16;
        play.settle().start().health(Health::Ready);
        play.job.wanted = Wanted::Suspended;
        play.job.drain = true;
        play.job.operation = Some(underway(Phase::Finished));
        play.settle().is(Phase::Suspending);
        assert_eq!(play.acts(), [Act::Stop(0, StopWish { savepoint: None, drain: true })]);
        play.all(end);
        play
    };
    for processes in [1, 3] {
        let mut play = drained(processes, finished());
        play.is(Phase::Finished);
        assert_eq!(play.told.last(), Some(&(OperationState::Succeeded, None)));
        assert!(play.acts().is_empty());
    }
    // It stopped to be started again first: then it is drained in its next life.
    let mut play = drained(3, ended(Some(75)));
    play.is(Phase::Scheduling).later(Duration::from_secs(1)).start().is(Phase::Scheduling);
    play.health(Health::Restoring).is(Phase::Suspending);
    assert_eq!(play.acts(), [Act::Stop(0, StopWish { savepoint: None, drain: true })]);
    play.all(finished()).is(Phase::Finished);
    assert_eq!(play.told.last(), Some(&(OperationState::Succeeded, None)));
    // It stopped for another reason first.
    for code in [Some(0), None] {
        let mut play = drained(1, ended(code));
        play.is(Phase::Suspended);
        let (state, why) = play.told.last().unwrap();
        assert_eq!((*state, why.is_some()), (OperationState::Failed, true), "{code:?}");
        play.job.wanted = Wanted::Running;
        play.settle().start().health(Health::Ready).is(Phase::Running);
        assert!(!play.job.drain, "it is asked anew, or not");
    }
}

#[test]
fn a_job_that_comes_to_its_end_while_it_is_stopped_has_stopped() {
    let mut play = Play::running();
    play.job.wanted = Wanted::Suspended;
    play.job.operation = Some(underway(Phase::Suspended));
    play.settle().is(Phase::Suspending);
    play.all(finished()).is(Phase::Finished);
    assert!(matches!(play.told.last(), Some((OperationState::Succeeded, Some(_)))), "{:?}", play.told);
}

#[test]
fn who_does_not_stop_in_time_is_killed() {
    let mut play = Play::running();
    play.job.wanted = Wanted::Suspended;
    play.settle().later(Duration::from_secs(121));
    assert_eq!(play.acts(), [Act::Kill(0)]);
}

#[test]
fn a_bounded_job_comes_to_its_end() {
    let mut play = Play::running();
    play.all(finished()).is(Phase::Finished);
    assert!(play.acts().is_empty());
    let mut soon = Play::new();
    soon.settle().start().all(finished()).is(Phase::Finished);
    assert_eq!(soon.told[0].0, OperationState::Succeeded);
}

#[test]
fn a_job_is_cancelled_and_deleted_from_every_phase() {
    for wanted in [Wanted::Cancelled, Wanted::Deleted] {
        let plays: [fn() -> Play; 4] = [
            Play::new,
            Play::running,
            || {
                let mut play = Play::running();
                play.all(finished());
                play
            },
            || {
                let mut play = Play::running();
                play.change(ChangeKind::Upgrade);
                play
            },
        ];
        for make in plays {
            let mut play = make();
            let lives = play.seen.processes.contains(&Process::Alive);
            play.job.wanted = wanted;
            play.job.operation = Some(underway(Phase::Cancelled));
            play.settle();
            if lives {
                play.is(Phase::Cancelling);
                assert_eq!(play.acts(), [Act::Kill(0)]);
                play.all(ended(None));
            }
            play.is(Phase::Cancelled);
            let (forgets, told) = (play.acts() == [Act::Forget], play.told.last().map(|it| it.0));
            match wanted {
                Wanted::Deleted => assert!(forgets, "it is done when it is forgotten"),
                _ => assert!(!forgets && told == Some(OperationState::Succeeded)),
            }
        }
    }
}

#[test]
fn changes_are_told_apart() {
    let old = spec();
    let with = |change: fn(&mut Spec)| {
        let mut spec = spec();
        change(&mut spec);
        spec
    };
    let table: [(Spec, &str, ChangeKind); 6] = [
        (old.clone(), "p", ChangeKind::Nothing),
        (with(|spec| spec.file = "other.yaml".to_owned()), "p", ChangeKind::Nothing),
        (with(|spec| spec.workers = 2), "p", ChangeKind::Rescale),
        (with(|spec| spec.text.push_str("\n# words")), "p", ChangeKind::Restart),
        (
            with(|spec| {
                spec.workers = 2;
                spec.topics = Some("t".to_owned())
            }),
            "p",
            ChangeKind::Restart,
        ),
        (with(|spec| spec.workers = 2), "q", ChangeKind::Upgrade),
    ];
    for (new, plan, kind) in table {
        assert_eq!(classify(&old, &new, "p", plan), kind, "{new:?}");
    }
}

/// A record as a damaged database could hold it: every part may be anything that can be read.
fn any_job(dice: &mut impl FnMut(u64) -> u64) -> Job {
    let mut job = Job::new("j", spec(), Moment(0));
    job.phase = Phase::ALL[dice(Phase::ALL.len() as u64) as usize];
    job.wanted = [Wanted::Running, Wanted::Suspended, Wanted::Cancelled, Wanted::Deleted][dice(4) as usize];
    let task = |kind: u64| match kind {
        0 => Task::Run,
        1 => Task::Upgrade { allow: Vec::new(), savepoint: None },
        _ => Task::Plant { savepoint: "s".to_owned() },
    };
    job.generation = dice(3);
    job.launch = (dice(2) == 0).then(|| {
        let (processes, task) = (dice(4) as u16, task(dice(3)));
        Launch { generation: 1, task, processes, workers: 1, at: Moment(0) }
    });
    job.pending = (dice(3) == 0).then(|| task(dice(3)));
    job.ending = (dice(2) == 0).then(|| Ending {
        cleanly: dice(2) == 0,
        savepoint: (dice(2) == 0).then(|| "e".to_owned()),
        drain: dice(2) == 0,
        deadline: Moment(dice(1000) as i64),
    });
    job.change = (dice(2) == 0).then(|| {
        let kinds = [ChangeKind::Nothing, ChangeKind::Rescale, ChangeKind::Restart, ChangeKind::Upgrade];
        let savepoint = (dice(2) == 0).then(|| "c".to_owned());
        let deadline = (dice(2) == 0).then(|| Moment(dice(1000) as i64));
        let (kind, ended) = (kinds[dice(4) as usize], dice(5) as u32);
        let (done, undrained, allow) = (dice(2) == 0, dice(2) == 0, Vec::new());
        Change { kind, from: spec(), savepoint, allow, done, undrained, ended, deadline }
    });
    (job.restart, job.drain) = (dice(2) == 0, dice(2) == 0);
    job.restarts.in_a_row = [0, 1, u32::MAX][dice(3) as usize].saturating_sub(1);
    job.operation = (dice(2) == 0).then(|| Underway { id: "o".to_owned(), goal: Phase::Running });
    job
}

#[test]
fn whatever_stands_in_the_database_nothing_panics() {
    let mut state = 7u64;
    let mut dice = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    for _ in 0..50_000 {
        let job = any_job(&mut dice);
        let codes = [None, Some(0), Some(1), Some(70), Some(75), Some(78), Some(137)];
        let mut process = || match dice(3) {
            0 => Process::Absent,
            1 => Process::Alive,
            _ => Process::Ended(End { code: codes[dice(7) as usize], finished: dice(2) == 0, ..End::unknown() }),
        };
        // As many processes as the record says, or not.
        let processes =
            (0..3).map(|_| process()).take(usize::from(job.launch.as_ref().map_or(1, |it| it.processes))).collect();
        let seen = Seen {
            now: Moment(dice(2000) as i64),
            processes,
            strays: dice(2) as usize,
            health: [Health::Unknown, Health::Restoring, Health::Ready][dice(3) as usize],
            ended_for: Duration::from_secs(dice(10)),
            silence: Duration::from_secs(dice(100)),
            saved: dice(2) == 0,
            rows: RowsOut::default(),
            valid: [None, Some(Ok(())), Some(Err("no".to_owned()))][dice(3) as usize].clone(),
            drained: [None, Some(true), Some(false)][dice(3) as usize],
        };
        let after = next(&job, &seen, &Rules::default()).map_or(job, |step| step.job);
        let _ = acts(&after, &seen);
    }
}
