//! How a job becomes what it was changed to.
//!
//! ```text
//! stop it cleanly -> drained? -> (upgrade its state) -> start it as it is to be -> at its work, or taken back
//!                       no: it goes on as it was until it is at its work, and is stopped again
//! ```
//! A change comes at any moment: while the job starts, while it is spread otherwise, while it waits to be started again after it
//! died. Whether it can be made is read in the job's state, not concluded from how its processes ended. Until then the job is what it
//! was ([`Job::runs`]): only the version that began something can finish it.

use super::*;
use crate::manager::record::Change;

/// A changed job whose processes end so often before it is at its work is taken back.
const ENDS_OF_A_CHANGE_MAX: u32 = 3;
/// So often a job goes on as it was so that it can be changed.
const FINISHES_MAX: u32 = 3;

impl Turn<'_> {
    /// A job of which nothing runs is about to be started: makes its change, if one is open and can be made now. Returns whether the
    /// job is to be started first.
    pub(super) fn change_may_wait(&mut self) -> bool {
        let Some(change) = self.job.open_change() else { return true };
        match (change.kind, self.seen.drained) {
            (ChangeKind::Upgrade, None) => false,
            (ChangeKind::Upgrade, Some(false)) => self.finish_first(),
            _ => {
                self.change_is_done();
                false
            }
        }
    }

    /// The state of the job is not one that another version could go on with. Returns whether the job is started as it was to finish
    /// what it was at; `false` if that was tried often enough.
    fn finish_first(&mut self) -> bool {
        let Some(change) = &mut self.job.change else { return false };
        change.undrained = true;
        change.ended += 1;
        if change.ended > FINISHES_MAX {
            let why = self.job.trouble.as_ref().map(|trouble| trouble.message.clone());
            self.give_up_change(&why.unwrap_or_else(|| "it does not finish what it is at".to_owned()));
            return false;
        }
        let what =
            "it is not drained: it goes on as it was until it is at its work, and is stopped for the change then";
        self.job.note(self.seen.now, Some(what.to_owned()));
        true
    }

    /// A changed job is stopped; from here on it is what it is to be.
    fn change_is_done(&mut self) {
        let Some(change) = &mut self.job.change else { return };
        change.done = true;
        change.undrained = false;
        change.ended = 0;
        change.deadline = Some(self.seen.now.after(self.rules.healthy));
        if change.kind == ChangeKind::Upgrade {
            let (allow, savepoint) = (change.allow.clone(), change.savepoint.clone());
            self.job.pending = Some(Task::Upgrade { allow, savepoint });
        }
    }

    /// A job that was at rest is started: the time that it has for its change begins now.
    pub(super) fn change_goes_on(&mut self) {
        if let Some(change) = self.job.change.as_mut().filter(|change| change.done) {
            change.deadline = Some(self.seen.now.after(self.rules.healthy));
        }
    }

    /// A job that runs is stopped if something else is to become of it.
    pub(super) fn heed_wishes(&mut self) {
        let open = self.job.open_change().map(|change| (change.kind, change.undrained));
        let ending = Some(self.cleanly(None));
        match open {
            // Stopped before it is at its work it would be no further than it was.
            Some((_, true)) if self.job.phase == Phase::Restoring => {}
            Some((ChangeKind::Upgrade, _)) => {
                self.job.ending = ending;
                self.count_restart("upgrade");
                self.leaves("upgrade", None);
                go!(self, [Restoring Running] => Upgrading, None);
            }
            Some((kind, _)) => {
                self.job.ending = ending;
                self.count_restart("rescale");
                self.leaves(if kind == ChangeKind::Rescale { "rescale" } else { "settings" }, None);
                go!(self, [Restoring Running] => Rescaling, None);
            }
            None if self.job.restart => {
                self.job.restart = false;
                self.job.ending = ending;
                self.count_restart("requested");
                self.leaves("requested", None);
                go!(self, [Restoring Running] => Recovering, Some("a restart was asked for".to_owned()));
            }
            None => {}
        }
    }

    /// The processes of a job that is to be changed have ended. `late`: they were killed, since they did not end in time.
    pub(super) fn stopped_for_change(&mut self, finished: bool, late: bool, trouble: Option<String>) {
        if self.job.phase == Phase::Upgrading && finished {
            self.give_up_change("its input came to an end first");
        } else if self.job.phase == Phase::Upgrading && late {
            self.give_up_change(trouble.as_deref().unwrap_or("it did not stop in time"));
        }
        go!(self, [Upgrading Rescaling] => Scheduling, trouble);
    }

    /// The job came to its end before it was changed.
    pub(super) fn finished_before_a_change(&mut self) {
        self.give_up_change("its input came to an end first");
        self.job.change = None;
    }

    /// An open change is not made: the job stays as it is.
    pub(super) fn give_up_change(&mut self, why: &str) {
        if self.job.open_change().is_some() {
            self.drop_change();
            let what = format!("the job is as it was, it could not be stopped for the change: {why}");
            self.tell(OperationState::Failed, Some(what.clone()));
            self.job.note(self.seen.now, Some(what));
        }
    }

    /// Forgets a change. One that is open was not made.
    pub(super) fn drop_change(&mut self) {
        if let Some(Change { done: false, from, .. }) = self.job.change.take() {
            self.job.spec = from;
            self.job.revision += 1;
        }
    }

    /// A process of a changed job ended. Returns whether the change is to be taken back for it.
    pub(super) fn is_no_change_for_the_better(&mut self, for_good: bool) -> bool {
        let Some(change) = self.job.change.as_mut().filter(|change| change.done) else { return false };
        change.ended += 1;
        for_good || change.ended >= ENDS_OF_A_CHANGE_MAX
    }

    /// The job becomes what it was before the change.
    pub(super) fn take_back(&mut self, reason: String) {
        let change = self.job.change.take().expect("a change is taken back");
        self.job.spec = change.from;
        self.job.revision += 1;
        let upgraded = change.kind == ChangeKind::Upgrade && change.done && self.job.pending.is_none();
        self.job.pending = match change.savepoint.filter(|_| upgraded) {
            // Rows of the changed job stand in its outputs: what comes is added to them.
            Some(savepoint) => {
                self.job.append = true;
                Some(Task::Plant { savepoint })
            }
            None => None,
        };
        let what = format!("the change is taken back: {reason}");
        self.leaves("rollback", Some(&reason));
        if let Some(away) = &mut self.job.away {
            "rollback".clone_into(&mut away.reason);
        }
        self.tell(OperationState::Failed, Some(what.clone()));
        self.job.ending = Some(self.at_once());
        self.job.restarts.not_before = self.seen.now;
        go!(self, [Scheduling Restoring Running] => Recovering, Some(what));
    }
}
