//! Changes of a job, whenever they come.

use super::*;

#[test]
fn an_upgrade_stops_upgrades_once_with_a_savepoint_and_starts() {
    let mut play = Play::running();
    play.change(ChangeKind::Upgrade).is(Phase::Upgrading);
    assert_eq!(play.acts(), [Act::Stop(0, StopWish::default())]);
    play.all(ended(Some(0))).is(Phase::Scheduling);
    assert_eq!(play.job.task(), Some(&upgrade()));
    play.start().all(ended(Some(0))).is(Phase::Scheduling);
    assert_eq!((play.job.task(), play.acts()), (Some(&Task::Run), vec![Act::Start(0)]));
    assert_eq!(play.told.len(), 1, "it is not done yet");
    play.start().health(Health::Ready).is(Phase::Running);
    assert_eq!(play.told.last(), Some(&(OperationState::Succeeded, None)));
    assert!(play.job.change.is_none() && play.job.proven.as_ref() == Some(&play.job.spec));
}

#[test]
fn an_upgrade_that_is_refused_leaves_the_job_as_it_was() {
    let mut play = Play::running();
    play.change(ChangeKind::Upgrade).all(ended(Some(0))).start().all(ended(Some(78))).is(Phase::Scheduling);
    assert_eq!(play.job.spec, spec());
    assert_eq!((play.job.task(), play.job.append), (Some(&Task::Run), false), "nothing was changed");
    assert_eq!(play.told.last().unwrap().0, OperationState::Failed);
    play.start().health(Health::Ready).is(Phase::Running);
}

#[test]
fn an_upgraded_job_that_does_not_come_to_its_work_begins_anew_from_the_savepoint_as_it_was() {
    let after_upgrade = || {
        let mut play = Play::running();
        play.change(ChangeKind::Upgrade).all(ended(Some(0))).start().all(ended(Some(0))).start();
        play
    };
    let is_taken_back = |mut play: Play| {
        if play.job.phase == Phase::Recovering {
            play.all(ended(None));
        }
        play.is(Phase::Scheduling);
        assert_eq!(play.job.task(), Some(&Task::Plant { savepoint: "before".to_owned() }));
        assert_eq!((&play.job.spec, play.job.append), (&spec(), true));
        assert_eq!(play.told.last().unwrap().0, OperationState::Failed);
        play.start().all(ended(Some(0)));
        assert_eq!(play.job.task(), Some(&Task::Run));
        play.start().health(Health::Ready).is(Phase::Running);
    };
    // It cannot run at all.
    let mut play = after_upgrade();
    play.all(ended(Some(78)));
    is_taken_back(play);
    // It dies again and again.
    let mut play = after_upgrade();
    for _ in 0..2 {
        play.all(ended(Some(70))).later(Duration::from_secs(60)).start();
    }
    play.all(ended(Some(70)));
    is_taken_back(play);
    // It lives, and never comes to its work.
    let mut play = after_upgrade();
    play.health(Health::Restoring).later(Duration::from_secs(301));
    is_taken_back(play);
}

#[test]
fn a_job_that_did_not_stop_cleanly_goes_on_as_it_was_until_it_can_be_stopped_for_its_change() {
    for end in [ended(None), ended(Some(74)), ended(Some(75)), ended(Some(0))] {
        let mut play = Play::running();
        play.change(ChangeKind::Upgrade);
        // What it says of its end does not count: its state does.
        play.seen.drained = Some(false);
        play.all(end).is(Phase::Scheduling);
        assert_eq!((play.job.runs(), play.job.task()), (&spec(), Some(&Task::Run)));
        assert_eq!(play.told.len(), 1, "it goes on");
        play.start().health(Health::Restoring).is(Phase::Restoring);
        play.health(Health::Ready).is(Phase::Upgrading);
        play.seen.drained = Some(true);
        play.all(ended(Some(0)));
        assert_eq!((play.job.runs(), play.job.task()), (&play.job.spec.clone(), Some(&upgrade())));
    }
}

#[test]
fn a_change_that_cannot_be_begun_is_given_up() {
    let is_as_it_was = |play: &mut Play| {
        assert_eq!((&play.job.spec, &play.job.change), (&spec(), &None));
        assert_eq!(play.told.last().unwrap().0, OperationState::Failed);
    };
    // The input ends first.
    let mut play = Play::running();
    play.change(ChangeKind::Upgrade).all(finished()).is(Phase::Scheduling);
    is_as_it_was(&mut play);
    // It does not stop in time.
    let mut play = Play::running();
    play.change(ChangeKind::Upgrade).later(Duration::from_secs(121)).all(ended(None)).is(Phase::Scheduling);
    is_as_it_was(&mut play);
    // The version that must go on first does not come to its work.
    let mut play = Play::running();
    play.seen.drained = Some(false);
    play.change(ChangeKind::Upgrade).all(ended(None));
    for _ in 0..3 {
        assert_eq!(play.told.len(), 1, "it is tried again");
        play.start().all(ended(Some(70))).later(Duration::from_secs(60));
    }
    is_as_it_was(&mut play);
    // Or cannot run at all.
    let mut play = Play::running();
    play.seen.drained = Some(false);
    play.change(ChangeKind::Upgrade).all(ended(None)).start().all(ended(Some(78))).is(Phase::Failed);
    is_as_it_was(&mut play);
    // It is cancelled.
    let mut play = Play::running();
    play.change(ChangeKind::Upgrade);
    play.job.wanted = Wanted::Cancelled;
    play.settle().all(ended(None)).is(Phase::Cancelled);
    assert_eq!((&play.job.spec, &play.job.change), (&spec(), &None));
}

/// What a job is at, by name.
type Situation = (&'static str, fn() -> Play);

#[test]
fn a_change_comes_at_any_moment() {
    let plays: [Situation; 6] = [
        ("it never ran", || {
            let mut play = Play::new();
            play.seen.strays = 1;
            play.settle();
            play
        }),
        ("its start is written down", || {
            let mut play = Play::new();
            play.settle();
            play
        }),
        ("it restores", || {
            let mut play = Play::new();
            play.settle().start().health(Health::Restoring);
            play
        }),
        ("it is spread otherwise", || {
            let mut play = Play::running();
            play.change(ChangeKind::Rescale).is(Phase::Rescaling);
            play
        }),
        ("it waits to be started again", || {
            let mut play = Play::running();
            play.all(ended(Some(70))).is(Phase::Scheduling);
            play
        }),
        ("it is stopped to be started again", || {
            let mut play = Play::running();
            play.job.restart = true;
            play.settle().is(Phase::Recovering);
            play
        }),
    ];
    for (what, make) in plays {
        for drained in [true, false] {
            let mut play = make();
            let from = play.job.runs().clone();
            play.change_from(ChangeKind::Upgrade, from.clone());
            play.seen.strays = 0;
            play.seen.drained = Some(drained);
            for turn in 0.. {
                assert!(turn < 20 && play.told.iter().all(|told| told.0 != OperationState::Failed), "{what}");
                if play.job.task() == Some(&upgrade()) {
                    break;
                }
                assert_eq!(play.job.runs(), &from, "{what}: another version goes on with what this one began");
                play.turn();
                if play.job.phase == Phase::Upgrading {
                    play.seen.drained = Some(true);
                }
            }
            play.start().all(ended(Some(0))).start().health(Health::Ready).is(Phase::Running);
            assert_eq!(play.told.last(), Some(&(OperationState::Succeeded, None)), "{what}");
        }
    }
}

#[test]
fn a_job_that_never_ran_begins_as_it_was_changed_and_has_nothing_to_go_back_to() {
    let mut play = Play::new();
    play.seen.strays = 1;
    play.settle().change(ChangeKind::Upgrade);
    play.seen.strays = 0;
    play.settle().start().all(ended(Some(3))).is(Phase::Scheduling);
    assert_eq!((play.job.task(), &play.job.change, &play.job.pending), (Some(&Task::Run), &None, &None));
    play.start().health(Health::Ready).is(Phase::Running);
}

#[test]
fn a_job_that_is_to_rest_does_so_with_a_change_that_is_still_to_be_made() {
    let mut play = Play::running();
    play.change(ChangeKind::Upgrade).is(Phase::Upgrading);
    play.job.wanted = Wanted::Suspended;
    play.job.operation = Some(underway(Phase::Suspended));
    play.all(ended(Some(0))).is(Phase::Suspended);
    assert_eq!(play.told.last(), Some(&(OperationState::Succeeded, None)));
    // However long it rests: its time begins when it goes on.
    play.later(Duration::from_secs(100_000));
    play.job.wanted = Wanted::Running;
    play.settle().is(Phase::Scheduling);
    assert_eq!(play.job.task(), Some(&upgrade()));
    play.start().all(ended(Some(0))).start().health(Health::Ready).is(Phase::Running);
    assert!(play.job.change.is_none() && play.job.spec != spec());
}

#[test]
fn a_rescaled_job_goes_on_with_what_it_is_to_have() {
    let mut play = Play::running();
    play.job.spec.workers = 4;
    play.change(ChangeKind::Rescale).is(Phase::Rescaling);
    assert_eq!(play.acts(), [Act::Stop(0, StopWish::default())]);
    play.all(ended(Some(0))).is(Phase::Scheduling);
    assert_eq!(play.job.launch.as_ref().unwrap().workers, 4);
    play.start().health(Health::Ready).is(Phase::Running);
    assert_eq!(play.job.restarts.in_a_row, 0);
}
