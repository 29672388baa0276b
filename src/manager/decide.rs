//! What becomes of a job, from what is wanted of it and what is seen of its processes. Pure: no clock, no I/O.
//!
//! ```text
//! observe -> next: the record as it is to be -> (written down) -> acts: what follows from the record -> (done) -> observe ...
//! ```
//! Acts follow from the record and from what is seen, never from what was done before: a manager that is killed anywhere does
//! the same when it comes back.

mod starts;

use std::time::Duration;

use super::history::{Exception, History};
use super::moment::Moment;
use super::phase::{Phase, at};
use super::processes::Usage;
use super::record::{Cause, ChangeKind, Ending, Job, Launch, OperationState, ProcessEnd, Spec, Task, Trouble, Wanted};
use crate::admin::StopWish;

/// How patient the manager is.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The first wait before a restart that counts; it doubles.
    pub backoff: Duration,
    /// The longest.
    pub backoff_max: Duration,
    /// After so long a time of work, restarts are counted anew.
    pub backoff_reset: Duration,
    /// So long a clean stop may take.
    pub stop: Duration,
    /// So long a changed job may take until it is at its work.
    pub healthy: Duration,
    /// So long a process that lives may be silent.
    pub silence: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            backoff_reset: Duration::from_secs(600),
            stop: Duration::from_secs(120),
            healthy: Duration::from_secs(300),
            silence: Duration::from_secs(60),
        }
    }
}

/// What is seen of a job.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub now: Moment,
    /// The processes of the launch, by their index; none without a launch.
    pub processes: Vec<Process>,
    /// So many processes of other generations live.
    pub strays: usize,
    /// What the processes say of themselves.
    pub health: Health,
    /// Since so long a process of the launch was seen to have ended.
    pub ended_for: Duration,
    /// Since so long a process that lives has not said how it is doing.
    pub silence: Duration,
    /// The launch has saved more rows than any before it.
    pub saved: bool,
    /// When rows came out of it.
    pub rows: RowsOut,
    /// Whether the job file is in order, where that was asked.
    pub valid: Option<Result<(), String>>,
    /// Whether another version can take the job's place, where that was asked: nothing is left that only the one that ran could finish.
    pub drained: Option<bool>,
}

/// When rows came out of a launch, all its processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowsOut {
    /// When the first tick was complete that none before it had recorded.
    pub went_on: Option<Moment>,
    /// The first.
    pub first: Option<Moment>,
    /// The last.
    pub last: Option<Moment>,
}

/// A process as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// It was not started.
    Absent,
    /// It lives.
    Alive,
    /// It ended.
    Ended(End),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its exit code; none if a signal ended it and nobody knows why.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The job is finished.
    pub finished: bool,
    /// What it said at last.
    pub message: Option<String>,
    /// What it took of the machine when it was looked at last.
    pub usage: Option<Usage>,
}

impl End {
    /// Returns the end of a process that says nothing of it.
    pub fn unknown() -> End {
        End { code: None, signal: None, finished: false, message: None, usage: None }
    }

    /// Returns it as the end of the process with this index.
    fn of(&self, process: u16) -> ProcessEnd {
        let End { code, signal, usage, .. } = self;
        let (cpu_millis, resident_bytes) = usage.map(|usage| (usage.cpu_millis, usage.resident_bytes)).unzip();
        ProcessEnd { process, cause: Cause::of(*code), code: *code, signal: *signal, cpu_millis, resident_bytes }
    }
}

/// What the processes say of themselves: the least of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing.
    Unknown,
    /// They take up their state.
    Restoring,
    /// They are at their work.
    Ready,
}

/// A step of the job's life.
#[derive(Clone, Debug)]
pub struct Step {
    /// The record as it is to be.
    pub job: Job,
    /// The operation that ended with it, how, and why.
    pub ended: Option<(String, OperationState, Option<String>)>,
    /// What is added to the job's history.
    pub past: History,
}

/// Something that is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The process with this index is started.
    Start(u16),
    /// The process with this index is asked to stop cleanly.
    Stop(u16, StopWish),
    /// The process with this index is killed.
    Kill(u16),
    /// All processes of other generations are killed.
    KillStrays,
    /// The job is forgotten.
    Forget,
}

/// Returns what takes the job from what it was before to what is wanted.
///
/// `old` and `new` are the plans' hashes: they name what a job writes and keeps.
pub fn classify(old: &Spec, new: &Spec, old_plan: &str, new_plan: &str) -> ChangeKind {
    let shape = |spec: &Spec| (spec.processes, spec.workers);
    let rest = |spec: &Spec| Spec { processes: 1, workers: 1, file: String::new(), ..spec.clone() };
    match () {
        () if old_plan != new_plan => ChangeKind::Upgrade,
        () if rest(old) != rest(new) => ChangeKind::Restart,
        () if shape(old) != shape(new) => ChangeKind::Rescale,
        () => ChangeKind::Nothing,
    }
}

/// Returns the next step of the job's life, if there is one now.
pub fn next(job: &Job, seen: &Seen, rules: &Rules) -> Option<Step> {
    let mut turn = Turn { job: job.clone(), seen, rules, ended: None, past: History::default() };
    turn.follow();
    turn.take();
    turn.settle_operation();
    let Turn { job: new, ended, past, .. } = turn;
    (new != *job || ended.is_some()).then_some(Step { job: new, ended, past })
}

/// Returns what follows from the record of the job.
pub fn acts(job: &Job, seen: &Seen) -> Vec<Act> {
    if seen.strays > 0 {
        return vec![Act::KillStrays];
    }
    if job.phase == Phase::Cancelled && job.wanted == Wanted::Deleted {
        return vec![Act::Forget];
    }
    let indexed = (0..).zip(&seen.processes);
    match &job.ending {
        Some(ending) if job.phase.is_ending() => {
            let alive = indexed.filter(|(_, process)| **process == Process::Alive).map(|(index, _)| index);
            let gently = ending.cleanly && seen.now < ending.deadline;
            let wish = StopWish { savepoint: ending.savepoint.clone(), drain: ending.drain };
            // The state of a job is one thing: one process names or ends it, and takes the others with it when it stops.
            let asked = |index: &u16| !gently || wish.is_plain() || *index == 0;
            let act = |index| if gently { Act::Stop(index, wish.clone()) } else { Act::Kill(index) };
            alive.filter(asked).map(act).collect()
        }
        _ if job.launch.is_some() && matches!(job.phase, Phase::Scheduling | Phase::Restoring | Phase::Running) => {
            indexed.filter(|(_, process)| **process == Process::Absent).map(|(index, _)| Act::Start(index)).collect()
        }
        _ => Vec::new(),
    }
}

/// Goes to a phase from whichever of some phases the job is in. Each pair is checked when this is compiled.
macro_rules! go {
    ($turn:ident, [$($from:ident)*] => $to:ident, $what:expr) => {
        match $turn.job.phase {
            $(Phase::$from => $turn.job.go(at::$from, at::$to, $turn.seen.now, $what),)*
            phase => unreachable!("{phase} does not lead there"),
        }
    };
}

mod change;
mod ends;

/// One look at a job, and what follows from it.
struct Turn<'a> {
    job: Job,
    seen: &'a Seen,
    rules: &'a Rules,
    ended: Option<(String, OperationState, Option<String>)>,
    past: History,
}

impl Turn<'_> {
    fn take(&mut self) {
        let leaves = matches!(self.job.wanted, Wanted::Cancelled | Wanted::Deleted);
        match self.job.phase {
            Phase::Cancelled if !leaves => self.rest(),
            Phase::Cancelled => {}
            Phase::Cancelling => self.end(),
            _ if leaves => self.cancel(),
            Phase::Created => go!(self, [Created] => Validating, None),
            Phase::Validating => self.validate(),
            Phase::Scheduling | Phase::Restoring | Phase::Running => self.live(),
            Phase::Suspended | Phase::Failed | Phase::Finished => self.rest(),
            Phase::Suspending | Phase::Upgrading | Phase::Rescaling => self.end(),
            Phase::Recovering | Phase::Failing | Phase::Finishing => self.end(),
        }
    }

    fn cancel(&mut self) {
        self.leaves("cancelled", None);
        self.moves_no_more();
        self.job.ending = Some(self.at_once());
        self.drop_change();
        go!(self, [Created Validating Scheduling Restoring Running Suspending Suspended Upgrading Rescaling Recovering Failing Failed Finishing Finished] => Cancelling, None);
    }

    fn at_once(&self) -> Ending {
        Ending { cleanly: false, savepoint: None, drain: false, deadline: self.seen.now }
    }

    fn cleanly(&self, savepoint: Option<String>) -> Ending {
        Ending { cleanly: true, savepoint, drain: false, deadline: self.seen.now.after(self.rules.stop) }
    }

    /// A job at rest goes on if somebody wants it to.
    fn rest(&mut self) {
        if self.moves() && self.job.phase == Phase::Suspended && self.job.wanted == Wanted::Suspended {
            // Something is to be done to its state, and then it rests again.
            return go!(self, [Suspended] => Validating, None);
        }
        let stays = matches!(self.job.phase, Phase::Failed | Phase::Finished) && !self.job.restart;
        if self.job.wanted != Wanted::Running || stays {
            return;
        }
        self.job.restart = false;
        self.job.restarts.in_a_row = 0;
        self.job.restarts.not_before = self.seen.now;
        self.change_goes_on();
        self.comes_back();
        go!(self, [Suspended Failed Finished Cancelled] => Validating, None);
    }

    fn validate(&mut self) {
        match &self.seen.valid {
            None => {}
            Some(Err(message)) => {
                let (at, code, end) = (self.seen.now, Some(78), None);
                let trouble = Trouble { at, code, message: message.clone(), end };
                let exception = Exception::now(None, code, message, self.job.generation, at);
                self.past.exceptions.push(Exception { root: true, ..exception });
                self.fail(trouble);
            }
            Some(Ok(())) if self.job.wanted == Wanted::Suspended && !self.moves() => self.suspend(),
            Some(Ok(())) => go!(self, [Validating] => Scheduling, None),
        }
    }

    /// Returns whether its positions are to be moved, which is done while it is suspended.
    fn moves(&self) -> bool {
        matches!(self.job.pending, Some(Task::Move { .. }))
    }

    fn moves_no_more(&mut self) {
        if self.moves() {
            self.job.pending = None;
        }
    }

    fn suspend(&mut self) {
        let savepoint = self.job.savepoint.take();
        let drain = std::mem::take(&mut self.job.drain);
        self.leaves("suspended", None);
        self.job.ending = Some(Ending { drain, ..self.cleanly(savepoint) });
        go!(self, [Validating Scheduling Restoring Running Upgrading Rescaling Recovering] => Suspending, None);
    }

    fn fail(&mut self, trouble: Trouble) {
        let message = trouble.message.clone();
        self.leaves("failed", Some(&message));
        self.moves_no_more();
        self.job.trouble = Some(trouble);
        self.job.ending = Some(self.at_once());
        go!(self, [Validating Scheduling Restoring Running Suspending Upgrading Rescaling Recovering] => Failing, Some(message));
    }

    /// A job that is to run.
    fn live(&mut self) {
        if self.seen.processes.iter().any(|process| matches!(process, Process::Ended(_))) {
            return self.processes_ended();
        }
        // It can be drained only while it runs.
        let runs_first = self.job.drain && self.job.phase == Phase::Scheduling;
        if self.job.wanted == Wanted::Suspended && !runs_first && !self.moves() {
            return self.suspend();
        }
        if let Some(deadline) = self.job.change.as_ref().and_then(|change| change.deadline)
            && self.seen.now >= deadline
            && self.job.phase != Phase::Running
        {
            return self.take_back("it was not at its work in time".to_owned());
        }
        if self.job.task() == Some(&Task::Run) && self.seen.silence >= self.rules.silence {
            return self.is_silent();
        }
        match self.job.phase {
            Phase::Scheduling => self.schedule(),
            Phase::Restoring if self.seen.health == Health::Ready => {
                go!(self, [Restoring] => Running, None);
                self.is_at_its_work();
            }
            Phase::Running if self.restarts_are_old() => self.job.restarts.in_a_row = 0,
            _ => {}
        }
        if matches!(self.job.phase, Phase::Restoring | Phase::Running) {
            self.heed_wishes();
        }
    }

    /// A process lives and says nothing: it is frozen, and no exit code will ever come.
    fn is_silent(&mut self) {
        let message = format!("a process lives and has not answered for {} s", self.seen.silence.as_secs());
        self.run_ended(&End { message: Some(message), ..End::unknown() }, None);
    }

    fn restarts_are_old(&self) -> bool {
        self.job.restarts.in_a_row > 0 && self.seen.now.since(self.job.since) >= self.rules.backoff_reset
    }

    fn is_at_its_work(&mut self) {
        self.job.trouble = None;
        if self.job.change.as_ref().is_none_or(|change| change.done) {
            self.job.change = None;
            self.job.proven = Some(self.job.spec.clone());
        }
    }

    fn schedule(&mut self) {
        if self.job.launch.is_some() {
            let runs = self.job.task() == Some(&Task::Run) && self.seen.health > Health::Unknown;
            if runs {
                go!(self, [Scheduling] => Restoring, None);
            }
            return;
        }
        if self.seen.strays > 0 || self.seen.now < self.job.restarts.not_before {
            return;
        }
        // What is still to be done to its state comes first.
        if self.job.pending.is_none() && !self.change_may_wait() {
            return;
        }
        self.job.restart = false;
        self.job.generation += 1;
        let task = self.job.pending.clone().unwrap_or(Task::Run);
        let spec = self.job.runs();
        let processes = if task == Task::Run { spec.processes } else { 1 };
        let (generation, workers) = (self.job.generation, spec.workers);
        let launch = Launch { generation, task, processes, workers, at: self.seen.now };
        if launch.task == Task::Run {
            self.starts(&launch);
        }
        self.job.launch = Some(launch);
    }

    fn count_restart(&mut self, reason: &str) {
        *self.job.restarts.by_reason.entry(reason.to_owned()).or_default() += 1;
    }

    fn tell(&mut self, state: OperationState, message: Option<String>) {
        if let Some(underway) = self.job.operation.take() {
            self.ended = Some((underway.id, state, message));
        }
    }

    fn tell_if(&mut self, failed: bool, message: Option<String>) {
        if failed {
            self.tell(OperationState::Failed, message);
        }
    }

    /// Ends the operation that is under way if its goal is reached, or cannot be any more.
    fn settle_operation(&mut self) {
        let Some(underway) = &self.job.operation else { return };
        let (phase, goal) = (self.job.phase, underway.goal);
        let is_changing = self.job.change.is_some() || self.job.pending.is_some() || self.job.restart;
        // A job that is to rest does so with a change that is still to be made.
        let reached = phase == goal && !(is_changing && goal == Phase::Running) && self.job.wanted != Wanted::Deleted;
        // Whoever stops a job that comes to its end meanwhile has what was asked for.
        if reached || (matches!(goal, Phase::Running | Phase::Suspended) && phase == Phase::Finished) {
            let message = (phase != goal).then(|| "its input came to an end".to_owned());
            self.tell(OperationState::Succeeded, message);
        } else if phase == Phase::Failed && !self.job.restart || (phase == Phase::Finished && goal != Phase::Finished) {
            let message =
                self.job.trouble.as_ref().map_or("the job is finished".to_owned(), |trouble| trouble.message.clone());
            self.tell(OperationState::Failed, Some(message));
        }
    }
}

#[cfg(test)]
mod tests;
