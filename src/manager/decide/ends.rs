//! How a generation ends: which process says why, what follows from it, and where the job goes once nobody of it lives.

use super::*;

/// Processes of a job end together: so long it is waited for the one that says why. Longer than their last words take; one that was
/// frozen never says any, and its job is away as long as it is waited for.
pub(super) const ENDS_TOGETHER: Duration = Duration::from_millis(1500);
/// A generation that was fenced sooner than this after its start has another owner that lives: it waits before it tries again.
const FENCED_AT_ONCE: Duration = Duration::from_secs(5);

impl Turn<'_> {
    /// At least one process ended while the job was to run.
    pub(super) fn processes_ended(&mut self) {
        let ended = |(index, process): (u16, &Process)| match process {
            Process::Ended(end) => Some((index, end.clone())),
            Process::Absent | Process::Alive => None,
        };
        let ends: Vec<(u16, End)> = (0..).zip(&self.seen.processes).filter_map(ended).collect();
        let most = ends.iter().max_by_key(|(_, end)| telling(end.code)).expect("one ended");
        let (index, end) = most.clone();
        let all = ends.len() == self.seen.processes.len();
        // That a peer is gone, or that all is done, others say too; why, only the first.
        let is_telling = telling(end.code) > telling(Some(75));
        if !all && !is_telling && self.seen.ended_for < ENDS_TOGETHER {
            return;
        }
        match self.job.task().cloned() {
            Some(Task::Run) | None if all && end.code == Some(0) && end.finished => {
                self.finished_before_a_change();
                self.leaves("finished", None);
                self.job.ending = Some(self.at_once());
                go!(self, [Scheduling Restoring Running] => Finishing, None);
            }
            Some(Task::Run) | None => self.run_ended(&end, Some(index)),
            Some(Task::Upgrade { .. }) if end.code == Some(0) => {
                self.task_is_done("its state is that of the new version")
            }
            Some(Task::Upgrade { .. }) if end.code == Some(3) => {
                // There was nothing to upgrade, and there is nothing to go back to.
                self.job.change = None;
                self.task_is_done("it never ran: it begins as the new version")
            }
            Some(Task::Plant { .. }) if end.code == Some(0) => self.task_is_done("it begins anew from the savepoint"),
            Some(Task::Move { .. }) if end.code == Some(0) => self.task_is_done("it goes on from other positions"),
            Some(Task::Move { .. }) => self.cannot_move(&end),
            Some(_) => self.run_ended(&end, Some(index)),
        }
    }

    /// The job stays as it was.
    fn cannot_move(&mut self, end: &End) {
        self.excepted(end);
        let message = end.message.clone().unwrap_or_else(|| described(end.code));
        self.tell(OperationState::Failed, Some(message.clone()));
        self.moves_no_more();
        self.job.ending = Some(self.at_once());
        go!(self, [Scheduling Restoring Running] => Recovering, Some(message));
    }

    fn task_is_done(&mut self, what: &str) {
        self.job.pending = None;
        self.job.launch = None;
        self.job.note(self.seen.now, Some(what.to_owned()));
    }

    /// A generation is over, since `who` ended like this.
    pub(super) fn run_ended(&mut self, end: &End, who: Option<u16>) {
        self.excepted(end);
        let told = who.map(|process| end.of(process));
        self.ended_by(end, told.clone());
        if let Some(event) = self.job.events.last_mut() {
            event.end = told;
        }
    }

    fn ended_by(&mut self, end: &End, told: Option<ProcessEnd>) {
        let message = end.message.clone().unwrap_or_else(|| described(end.code));
        let trouble = Trouble { at: self.seen.now, code: end.code, message: message.clone(), end: told };
        let cause = Cause::of(end.code);
        let for_good = cause.is_for_good();
        if self.is_no_change_for_the_better(for_good) {
            self.job.trouble = Some(trouble);
            return self.take_back(message);
        } else if for_good {
            self.give_up_change(&message);
            return self.fail(trouble);
        }
        let (reason, counts) = cause.restart();
        self.count_restart(reason);
        self.leaves(reason, Some(&message));
        let lived = self.job.launch.as_ref().map_or(Duration::ZERO, |launch| self.seen.now.since(launch.at));
        let wait = match counts {
            true => self.backoff(),
            false if lived < FENCED_AT_ONCE => self.rules.backoff,
            false => Duration::ZERO,
        };
        self.job.restarts.not_before = self.seen.now.after(wait);
        self.job.trouble = Some(trouble);
        self.job.ending = Some(self.at_once());
        go!(self, [Scheduling Restoring Running] => Recovering, Some(message));
    }

    /// Returns how long it is waited before a restart that counts. One that has saved more rows since it was started than any before
    /// it got on: it is no loop, and there is nothing to wait for.
    fn backoff(&mut self) -> Duration {
        if self.seen.saved {
            self.job.restarts.in_a_row = 0;
            return Duration::ZERO;
        }
        let doublings = self.job.restarts.in_a_row.min(16);
        self.job.restarts.in_a_row += 1;
        self.rules.backoff.saturating_mul(1 << doublings).min(self.rules.backoff_max)
    }

    /// What is left of a generation is being ended.
    pub(super) fn end(&mut self) {
        let lives = self.seen.processes.contains(&Process::Alive) || self.seen.strays > 0;
        if lives {
            return;
        }
        let finished = self.ended_with(|end| end.finished);
        let clean = !self.ended_with(|end| end.code != Some(0));
        let trouble = self.seen.processes.iter().find_map(|process| match process {
            Process::Ended(end) if end.code != Some(0) => {
                Some(end.message.clone().unwrap_or_else(|| described(end.code)))
            }
            _ => None,
        });
        self.notes_bad_stops();
        self.has_left();
        self.job.launch = None;
        let ending = self.job.ending.take();
        let drained = ending.as_ref().is_some_and(|ending| ending.drain);
        match self.job.phase {
            Phase::Suspending if finished => go!(self, [Suspending] => Finished, None),
            Phase::Suspending if drained && self.ended_with(|end| end.code == Some(75)) => {
                // It stopped for something else first, to be started again: new input, a process that was lost.
                self.job.drain = true;
                self.job.restarts.not_before = self.seen.now.after(self.rules.backoff);
                go!(self, [Suspending] => Scheduling, trouble);
            }
            Phase::Suspending => {
                let trouble = trouble.or_else(|| drained.then(|| "it was stopped before it was drained".to_owned()));
                self.tell_if(!clean || drained, trouble.clone());
                go!(self, [Suspending] => Suspended, trouble);
            }
            Phase::Upgrading | Phase::Rescaling => {
                let late = !clean && ending.is_none_or(|ending| self.seen.now >= ending.deadline);
                self.stopped_for_change(finished, late, trouble);
            }
            Phase::Recovering => go!(self, [Recovering] => Scheduling, None),
            Phase::Failing => go!(self, [Failing] => Failed, None),
            Phase::Finishing => go!(self, [Finishing] => Finished, None),
            Phase::Cancelling => go!(self, [Cancelling] => Cancelled, None),
            phase => unreachable!("{phase} ends nothing"),
        }
    }

    pub(super) fn ended_with(&self, is: impl Fn(&End) -> bool) -> bool {
        self.seen.processes.iter().any(|process| matches!(process, Process::Ended(end) if is(end)))
    }
}

/// How much an exit code says of why a generation ended: one that a restart would not mend most, one that only follows from the end
/// of another process least.
pub(super) fn telling(code: Option<i32>) -> u8 {
    match code {
        code if Cause::of(code).is_for_good() => 3,
        Some(0) => 0,
        Some(75) => 1,
        _ => 2,
    }
}

/// Returns what is said of a process that said nothing.
pub(super) fn described(code: Option<i32>) -> String {
    match code {
        None => "it was killed".to_owned(),
        Some(0) => "it was stopped by somebody else".to_owned(),
        Some(137) => "it was killed, most likely for want of memory".to_owned(),
        Some(code) => format!("it ended with exit code {code}"),
    }
}
