//! How long a job was away, and what its processes ended with.

use super::*;
use crate::manager::decide::ends::ENDS_TOGETHER;
use crate::manager::history::{Start, StartOutcome};

impl Play {
    /// Rows came out of the launch, the last of them now.
    fn rows(&mut self) -> &mut Play {
        let now = self.seen.now;
        let rows = &mut self.seen.rows;
        (rows.went_on, rows.first, rows.last) = (rows.went_on.or(Some(now)), rows.first.or(Some(now)), Some(now));
        self.settle()
    }

    fn begun(&self) -> Start {
        self.job.start.clone().unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_rescale_knows_when_rows_came_out_last_and_again() {
    let mut play = Play::running();
    let first = play.begun();
    assert_eq!((first.reason.as_str(), first.away.is_none(), first.outcome), ("submit", true, StartOutcome::Running));
    let from = play.seen.now;
    play.rows().later(SECOND);
    play.job.spec.workers = 4;
    play.change(ChangeKind::Rescale).is(Phase::Rescaling);
    // What was read is finished: rows come out while it is stopped.
    play.later(SECOND).rows().later(SECOND).all(ended(Some(0)));
    play.seen.rows = RowsOut::default();
    let start = play.begun();
    let away = start.away.clone().unwrap();
    assert_eq!((start.reason.as_str(), away.from.workers, start.to.workers), ("rescale", 1, 4));
    let after = |seconds: u32| Some(from.after(SECOND * seconds));
    assert_eq!((Some(away.at), away.last_row, away.stopped), (after(1), after(2), after(3)));
    assert_eq!((start.outcome, start.first_row), (StartOutcome::Starting, None));
    play.later(SECOND).start().health(Health::Ready).later(SECOND).rows().later(SECOND).rows();
    let start = play.begun();
    assert_eq!((start.outcome, start.went_on, start.first_row), (StartOutcome::Running, after(5), after(5)));
    assert!(play.past.exceptions.is_empty(), "{:?}", play.past);
    assert_eq!(play.past.starts, [Start { went_on: Some(from), first_row: Some(from), ..first }]);
}

#[test]
fn a_job_is_away_from_its_last_row_on_however_many_starts_it_takes() {
    let mut play = Play::running();
    play.rows();
    let last = play.seen.now;
    for _ in 0..3 {
        play.later(SECOND).all(ended(Some(74)));
        play.seen.rows = RowsOut::default();
        play.later(SECOND * 60).start();
    }
    let start = play.begun();
    assert_eq!((start.reason.as_str(), start.away.unwrap().last_row), ("sink", Some(last)));
    let ended: Vec<StartOutcome> = play.past.starts.iter().map(|start| start.outcome).collect();
    assert_eq!(ended, [StartOutcome::Running, StartOutcome::Ended, StartOutcome::Ended]);
    assert!(play.past.starts[2].message.is_some());
    let counted: Vec<u64> = play.past.exceptions.iter().map(|it| it.count).collect();
    assert_eq!(counted, [3], "the same three times");
}

#[test]
fn a_job_that_was_at_rest_comes_back_by_a_resume_and_a_deleted_one_leaves_nothing() {
    let mut play = Play::running();
    play.rows();
    play.job.wanted = Wanted::Suspended;
    play.settle().all(ended(Some(0))).is(Phase::Suspended).later(SECOND * 60);
    play.job.wanted = Wanted::Running;
    play.settle();
    let start = play.begun();
    assert_eq!(start.reason, "resume");
    assert_eq!(play.seen.now.since(start.away.unwrap().stopped.unwrap()), SECOND * 60);
}

#[test]
fn an_upgrade_is_one_time_away_and_one_that_is_taken_back_another() {
    let mut play = Play::running();
    play.rows().change(ChangeKind::Upgrade).all(ended(Some(0))).later(SECOND * 5).start().all(ended(Some(0)));
    let start = play.begun();
    let away = start.away.unwrap();
    assert_eq!((start.reason.as_str(), start.launched.since(away.stopped.unwrap())), ("upgrade", SECOND * 5));
    play.start().all(ended(Some(78))).start().all(ended(Some(0)));
    assert_eq!((play.begun().reason.as_str(), play.job.task()), ("rollback", Some(&Task::Run)));
    let roots: Vec<Option<i32>> = play.past.exceptions.iter().filter(|it| it.root).map(|it| it.code).collect();
    assert_eq!(roots, [Some(78)]);
}

#[test]
fn the_cause_is_told_from_what_followed_and_what_was_killed_is_neither() {
    let mut play = Play::new();
    play.job.spec.processes = 3;
    play.settle().start().health(Health::Ready);
    let said = |code: i32, message: &str| {
        Process::Ended(End { code: Some(code), message: Some(message.to_owned()), ..End::unknown() })
    };
    play.seen.processes[1] = said(75, "a peer is lost");
    play.settle().is(Phase::Running);
    play.seen.processes[2] = said(74, "sink `out`: the disk is full");
    play.seen.ended_for = ENDS_TOGETHER;
    play.settle().is(Phase::Recovering).all(ended(None));
    let told: Vec<(Option<u16>, Option<i32>, bool)> =
        play.past.exceptions.iter().map(|it| (it.process, it.code, it.root)).collect();
    assert_eq!(told, [(Some(1), Some(75), false), (Some(2), Some(74), true)]);
    // One that is frozen is nobody's end.
    let mut play = Play::running();
    play.seen.silence = Duration::from_secs(60);
    play.settle();
    assert_eq!((play.past.exceptions.len(), play.past.exceptions[0].process), (1, None));
    // A faulty file is known before anything was started.
    let mut play = Play::new();
    play.seen.valid = Some(Err("no such column".to_owned()));
    play.settle();
    assert_eq!((play.past.exceptions[0].code, play.past.exceptions[0].root), (Some(78), true));
}

#[test]
fn positions_of_a_suspended_job_are_moved_and_it_rests_again_whatever_comes_of_it() {
    let moving = || {
        let mut play = Play::running();
        play.job.wanted = Wanted::Suspended;
        play.settle().all(ended(Some(0))).is(Phase::Suspended);
        play.job.pending = Some(Task::Move { offsets: vec!["clicks:0=5".to_owned()], repeat: false });
        play.job.operation = Some(underway(Phase::Suspended));
        play.settle().is(Phase::Scheduling).start();
        assert!(matches!(play.job.task(), Some(Task::Move { .. })));
        play
    };
    let mut play = moving();
    play.all(ended(Some(0))).is(Phase::Suspended);
    assert_eq!((play.told.last(), play.job.pending.clone()), (Some(&(OperationState::Succeeded, None)), None));
    for code in [Some(78), Some(74), None] {
        let mut play = moving();
        play.all(ended(code)).is(Phase::Suspended);
        assert_eq!((play.told.last().unwrap().0, play.job.pending.clone()), (OperationState::Failed, None), "{code:?}");
        play.job.wanted = Wanted::Running;
        play.settle().start().health(Health::Ready).is(Phase::Running);
    }
    // Resumed meanwhile it goes on when that is done; cancelled it forgets it.
    let mut play = moving();
    play.job.wanted = Wanted::Running;
    play.all(ended(Some(0))).start().health(Health::Ready).is(Phase::Running);
    let mut play = moving();
    play.job.wanted = Wanted::Cancelled;
    play.settle().all(ended(None)).is(Phase::Cancelled);
    assert_eq!(play.job.pending, None);
}
