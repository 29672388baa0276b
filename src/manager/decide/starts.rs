//! What is noted of a job that is away: when it was to end, when rows came out last and again, and what its processes ended with.

use super::ends::{described, telling};
use super::{End, Turn};
use crate::manager::decide::{Health, Process};
use crate::manager::history::{Away, Exception, Scale, Start, StartOutcome};
use crate::manager::phase::Phase;
use crate::manager::record::{Launch, Task};

/// The reason of a start of a job that was at rest.
const RESUME: &str = "resume";

impl Turn<'_> {
    /// The generation that runs is to end, or has ended.
    pub(super) fn leaves(&mut self, reason: &str, message: Option<&str>) {
        let Some(launch) = self.job.launch.as_ref().filter(|launch| launch.task == Task::Run) else { return };
        let (generation, from) = (launch.generation, Scale::of(launch));
        let before = self.job.start.as_ref().and_then(|start| start.away.as_ref());
        let last_row = before.and_then(|away| away.last_row);
        if let Some(start) = self.job.start.as_mut().filter(|start| start.outcome == StartOutcome::Starting) {
            start.outcome = StartOutcome::Ended;
            start.message = message.map(str::to_owned);
        }
        if self.job.away.is_none() {
            let (reason, at) = (reason.to_owned(), self.seen.now);
            self.job.away = Some(Away { reason, generation, from, at, last_row, stopped: None });
        }
    }

    /// Nothing of the generation lives any more.
    pub(super) fn has_left(&mut self) {
        let is_run = self.job.task() == Some(&Task::Run);
        let (now, last) = (self.seen.now, self.seen.rows.last);
        if let Some(away) = self.job.away.as_mut().filter(|away| is_run && away.stopped.is_none()) {
            away.last_row = last.or(away.last_row);
            away.stopped = Some(now);
        }
    }

    /// A job that was at rest is to go on.
    pub(super) fn comes_back(&mut self) {
        if let Some(away) = &mut self.job.away {
            RESUME.clone_into(&mut away.reason);
        }
    }

    /// A generation was decided on that runs the job.
    pub(super) fn starts(&mut self, launch: &Launch) {
        let away = self.job.away.take();
        let start = Start {
            generation: launch.generation,
            revision: self.job.revision,
            reason: away.as_ref().map_or_else(|| "submit".to_owned(), |away| away.reason.clone()),
            to: Scale::of(launch),
            away,
            launched: launch.at,
            went_on: None,
            first_row: None,
            outcome: StartOutcome::Starting,
            message: None,
        };
        self.past.starts.extend(self.job.start.replace(start));
    }

    /// Notes how far the start has come that is under way.
    pub(super) fn follow(&mut self) {
        let Some(launch) = &self.job.launch else { return };
        let Some(start) = self.job.start.as_mut().filter(|start| start.generation == launch.generation) else { return };
        start.went_on = start.went_on.or(self.seen.rows.went_on);
        start.first_row = start.first_row.or(self.seen.rows.first);
        let works = self.job.phase == Phase::Running && self.seen.health == Health::Ready;
        // What was stopped cleanly after its first row had come to its work, whether or not that was seen.
        if start.outcome == StartOutcome::Starting && (works || start.first_row.is_some()) {
            start.outcome = StartOutcome::Running;
        }
    }

    /// A generation that was to stop cleanly has ended: who did not, and was not killed for that, is noted.
    pub(super) fn notes_bad_stops(&mut self) {
        let had_time = self.job.ending.as_ref().is_some_and(|ending| ending.cleanly && self.seen.now < ending.deadline);
        let ends = self.seen.processes.iter().filter_map(|process| match process {
            Process::Ended(end) if end.code != Some(0) => Some(end),
            _ => None,
        });
        let worst = ends.max_by_key(|end| telling(end.code)).cloned();
        if let Some(worst) = worst.filter(|_| had_time) {
            self.excepted(&worst);
        }
    }

    /// Processes ended though nobody asked for it: `why` is what the generation ended with, what others say only follows.
    pub(super) fn excepted(&mut self, why: &End) {
        let (generation, now) = (self.job.launch.as_ref().map_or(0, |launch| launch.generation), self.seen.now);
        let mut all: Vec<Exception> = Vec::new();
        for (index, process) in (0..).zip(&self.seen.processes) {
            let Process::Ended(end) = process else { continue };
            if end.code == Some(0) && end != why {
                continue;
            }
            let message = end.message.clone().unwrap_or_else(|| described(end.code));
            let root = end == why && all.iter().all(|known| !known.root);
            all.push(Exception { root, ..Exception::now(Some(index), end.code, &message, generation, now) });
        }
        if all.iter().all(|known| !known.root) {
            // A process that lives and was given up.
            let message = why.message.clone().unwrap_or_else(|| described(why.code));
            all.push(Exception { root: true, ..Exception::now(None, why.code, &message, generation, now) });
        }
        // The cause is what was seen last.
        all.sort_by_key(|it| (it.root, telling(it.code)));
        self.past.exceptions.extend(all);
    }
}
