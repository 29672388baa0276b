//! The keeper of a job: one thread that observes it, decides, writes the decision down and acts, until the job is forgotten or the
//! manager ends. It may wait for its job as long as it takes: no other job waits with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use riverrun_dataflow::fail_point;
use riverrun_state::StateError;
use riverrun_state::upgrade::Standing;
use serde_json::{Value, json};

use super::decide::{self, Act, Health, Process, RowsOut, Seen};
use super::moment::Moment;
use super::phase::Phase;
use super::problem::Problem;
use super::processes::{Manner, Observed};
use super::record::{ChangeKind, Job, Launch, Task};
use super::{ANSWER_TIME, Manager, series};
use crate::admin::StopWish;
use crate::supervised::Rows;

/// How often a job is looked at that is not at rest.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often one is that is at its work, or at rest.
const LOOK_SELDOM: Duration = Duration::from_secs(1);
/// How often it is seen whether the processes of a job live: that costs next to nothing, and a job is away until it is noticed.
const GLANCE_EVERY: Duration = Duration::from_millis(50);

/// Why a process does not do what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It says so.
    Said(StatusCode, String),
    /// It serves no admin port, or does not answer there.
    Silent,
}

/// Wakes a keeper that waits.
#[derive(Default)]
pub struct Waker {
    asked: Mutex<bool>,
    bell: Condvar,
}

impl Waker {
    /// Has the keeper look at its job now.
    pub fn wake(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
    }

    /// Waits for so long, and returns whether somebody has the keeper look before.
    fn wait(&self, time: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(asked, time, |asked| !*asked);
        std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// How many rows generations of a job have saved.
#[derive(Default)]
struct Progress {
    /// The newest one that said something.
    generation: u64,
    /// What those before it saved at most.
    before: u64,
    /// What it saved.
    now: u64,
}

impl Progress {
    /// Takes in what a process of a generation tells, and returns whether it has saved more rows than any former one. One that falls
    /// over the same row again and again has not for long, however many ticks it saves.
    fn gets_on(&mut self, generation: u64, told: Rows) -> bool {
        if generation != self.generation {
            (self.generation, self.before) = (generation, self.before.max(self.now));
            self.now = 0;
        }
        self.now = self.now.max(told.saved.unwrap_or(0));
        self.now > self.before
    }
}

/// Keeps a job.
pub struct Keeper {
    manager: Arc<Manager>,
    job: String,
    waker: Arc<Waker>,
    /// When all processes of the job said last how they are doing, or were not to.
    heard: Moment,
    /// When a process of the launch was first seen to have ended.
    ended: Option<Moment>,
    /// The newest generation that was seen to have got on: it saved more rows than any before it.
    saved: Option<u64>,
    /// How many rows the job has saved.
    progress: Progress,
    /// The launch of a job that is at its work.
    at_work: Option<Launch>,
    /// Processes that were asked by a signal to stop: a second one would end them at once.
    signalled: BTreeSet<(u64, u16)>,
}

impl Keeper {
    /// Returns the keeper of a job.
    pub fn of(manager: Arc<Manager>, job: &str, waker: Arc<Waker>) -> Keeper {
        Keeper {
            manager,
            job: job.to_owned(),
            waker,
            heard: Moment::now(),
            ended: None,
            saved: None,
            progress: Progress::default(),
            at_work: None,
            signalled: BTreeSet::new(),
        }
    }

    /// Keeps the job until it is forgotten or the manager ends.
    #[expect(clippy::disallowed_methods, reason = "how long a look took is a metric; reaches no output of a job")]
    pub fn keep(mut self) {
        while !self.manager.ending.load(Ordering::SeqCst) {
            let begun = Instant::now();
            let looked = self.look();
            self.manager.metrics.reconciled(begun.elapsed(), looked.as_ref().err().map(String::as_str));
            match looked {
                Ok(Some(pause)) => self.pause(pause),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(job = self.job, error, "the job could not be looked after; it is tried again");
                    self.waker.wait(LOOK_SELDOM);
                }
            }
        }
        self.manager.wakers().remove(&self.job);
    }

    /// Waits for so long, unless somebody wants the job to be looked at, or a process of a job that is at its work ends.
    fn pause(&self, time: Duration) {
        if self.at_work.is_none() {
            self.waker.wait(time);
            return;
        }
        let mut left = time;
        loop {
            let glance = left.min(GLANCE_EVERY);
            left -= glance;
            let woken = self.waker.wait(glance);
            let launch = self.at_work.as_ref();
            let ended = launch.is_some_and(|launch| self.manager.processes.has_ended(&self.job, launch));
            if woken || ended || left.is_zero() || self.manager.ending.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Looks at the job once. Returns after which time it is to be looked at again; `None` if there is no such job any more.
    fn look(&mut self) -> Result<Option<Duration>, String> {
        let Some(job) = self.manager.store.job(&self.job).map_err(|error| error.to_string())? else { return Ok(None) };
        let seen = self.see(&job)?;
        self.manager.metrics.seen(&job);
        if let Some(step) = decide::next(&job, &seen, &self.manager.rules) {
            fail_point::reach("manager.step");
            if self.manager.store.step(&job, &step).map_err(|error| error.to_string())? {
                fail_point::reach("manager.stepped");
                let (from, to) = (job.phase, step.job.phase);
                if from != to {
                    tracing::info!(job = self.job, %from, %to, generation = step.job.generation, "the job goes on");
                }
                let changed = job.change.is_some() && step.job.change.is_none();
                if changed && let Err(problem) = self.manager.sweep_savepoints(&self.job) {
                    tracing::warn!(
                        job = self.job,
                        why = problem.detail,
                        "old savepoints of changes stay until the next change"
                    );
                }
            }
            return Ok(Some(Duration::ZERO));
        }
        for act in decide::acts(&job, &seen) {
            fail_point::reach("manager.act");
            self.act(&job, &act)?;
            fail_point::reach("manager.acted");
        }
        self.at_work = job.launch.clone().filter(|_| job.phase == Phase::Running && seen.ended_for.is_zero());
        Ok(Some(match job.phase {
            // Those that lost one another end within moments; who says why may be the last.
            Phase::Running if !seen.ended_for.is_zero() => GLANCE_EVERY,
            phase if phase.is_at_rest() || phase == Phase::Running => LOOK_SELDOM,
            // Those that are killed are gone in a moment; it is seen whether they live, and no more.
            phase if phase.is_ending() && job.ending.as_ref().is_some_and(|ending| !ending.cleanly) => GLANCE_EVERY,
            _ => LOOK_EVERY,
        }))
    }

    fn see(&mut self, job: &Job) -> Result<Seen, String> {
        let Observed { processes, strays } = self.manager.processes.observe(&self.job, job.launch.as_ref());
        let valid = (job.phase == Phase::Validating).then(|| self.validate(job));
        let runs = job.task() == Some(&Task::Run) && processes.contains(&Process::Alive) && !job.phase.is_ending();
        let health = if runs { self.health(job, &processes) } else { Health::Unknown };
        let now = Moment::now();
        if !runs || health > Health::Unknown {
            self.heard = now;
        }
        let has_ended = processes.iter().any(|process| matches!(process, Process::Ended(_)));
        self.ended = has_ended.then(|| self.ended.unwrap_or(now));
        let ended_for = self.ended.map_or(Duration::ZERO, |ended| now.since(ended));
        if job.launch.is_none() {
            self.manager.processes.scraped(&self.job, &[]);
        }
        let rows = self.rows_out(job);
        let saved = job.launch.as_ref().is_some_and(|launch| self.saved == Some(launch.generation));
        // Asked only when the answer decides, and cannot be another one a moment later.
        let decides = job.phase == Phase::Scheduling && job.launch.is_none() && strays == 0;
        let is_upgrade = job.open_change().is_some_and(|change| change.kind == ChangeKind::Upgrade);
        let drained = (decides && is_upgrade).then(|| self.manager.is_drained(&self.job)).transpose();
        let drained = drained.map_err(|problem| problem.detail)?;
        let silence = now.since(self.heard);
        Ok(Seen { now, processes, strays, health, ended_for, silence, saved, rows, valid, drained })
    }

    /// Reads when rows came out of the processes of a job, and takes note if it gets on.
    fn rows_out(&mut self, job: &Job) -> RowsOut {
        let Some(launch) = job.launch.as_ref().filter(|launch| launch.task == Task::Run) else {
            return RowsOut::default();
        };
        let folder = self.manager.processes.generation(&self.job, launch.generation);
        let told = (0..launch.processes).map(|index| Rows::read(&folder.process(index).path));
        let mut out = RowsOut::default();
        for (index, rows) in (0..launch.processes).zip(told) {
            if self.progress.gets_on(launch.generation, rows) {
                self.saved = Some(launch.generation);
            }
            let moment = |micros: Option<u64>| micros.map(|micros| Moment((micros / 1000) as i64));
            // The first process leads, and knows which ticks are complete.
            out.went_on = out.went_on.or(moment(rows.went_on).filter(|_| index == 0));
            out.first = out.first.into_iter().chain(moment(rows.first)).min();
            out.last = out.last.into_iter().chain(moment(rows.last)).max();
        }
        out
    }

    fn validate(&self, job: &Job) -> Result<(), String> {
        let checked = self.manager.policy.check(&job.spec).and_then(|()| self.manager.plan(&self.job, &job.spec));
        checked.map(|_| ()).map_err(|problem: Problem| problem.detail)
    }

    /// Asks every process how it is doing.
    fn health(&mut self, job: &Job, processes: &[Process]) -> Health {
        let Some(launch) = &job.launch else { return Health::Unknown };
        let mut least = Health::Ready;
        let mut scraped = Vec::new();
        let mut leader = None;
        for (index, process) in (0..).zip(processes) {
            let own = match self.manager.ask(&self.job, launch.generation, index) {
                Some((address, status)) if *process == Process::Alive => {
                    scraped.push((index, address));
                    // For when it has ended: then the system knows it no more.
                    self.manager.processes.usage(&self.job, launch.generation, index);
                    let health = health_of(&status);
                    leader = leader.or((index == 0).then_some(status));
                    health
                }
                _ => Health::Unknown,
            };
            least = least.min(own);
        }
        self.manager.processes.scraped(&self.job, &scraped);
        if let Some(status) = leader {
            self.manager.note_figures(&self.job, launch, &status);
        }
        least
    }

    fn act(&mut self, job: &Job, act: &Act) -> Result<(), String> {
        let manager = self.manager.clone();
        let processes = &manager.processes;
        let launch = job.launch.as_ref();
        let generation = launch.map_or(0, |launch| launch.generation);
        match act {
            Act::Start(index) => {
                let Some(launch) = launch else { return Ok(()) };
                let spec = job.runs();
                let manner = Manner { append: job.append, reach: self.manager.policy.reach(spec) };
                processes.ensure(&self.job, spec, manner, launch, *index)
            }
            Act::Stop(index, wish) => {
                self.stop(generation, *index, wish);
                Ok(())
            }
            Act::Kill(index) => {
                processes.kill(&self.job, generation, *index);
                Ok(())
            }
            Act::KillStrays => {
                processes.kill_strays(&self.job, launch);
                Ok(())
            }
            Act::Forget => self.forget(job),
        }
    }

    /// Asks a process to stop cleanly. It is asked again as long as it lives, which it takes for the same wish.
    fn stop(&mut self, generation: u64, index: u16, wish: &StopWish) {
        let asked = self.manager.tell(&self.job, generation, index, ("stop", &json!(wish)), ANSWER_TIME);
        match asked {
            Ok(_) => {}
            // What cannot be done with the stop is no reason to stop without it: the deadline ends this.
            Err(Refusal::Said(_, why)) => tracing::warn!(job = self.job, index, why, "the process does not stop"),
            Err(Refusal::Silent) if !wish.is_plain() => {}
            Err(Refusal::Silent) => self.manager.interrupt(&self.job, generation, index, &mut self.signalled),
        }
    }

    fn forget(&self, job: &Job) -> Result<(), String> {
        if job.purge {
            self.manager.purge(&self.job)?;
        }
        self.manager
            .processes
            .forget(&self.job)
            .map_err(|error| format!("what is left of the job cannot be deleted: {error}"))?;
        fail_point::reach("manager.forget");
        self.manager.metrics.forgotten(job);
        self.manager.series.forget(&self.job);
        self.manager.store.forget(job).map_err(|error| error.to_string())
    }
}

/// Reads how a process says that it is doing.
fn health_of(status: &Value) -> Health {
    match status["state"].as_str() {
        Some("running" | "stopping" | "finished") => Health::Ready,
        Some("starting" | "recovering") => Health::Restoring,
        _ => Health::Unknown,
    }
}

impl Manager {
    /// Asks a process of a job for its status; `None` if it does not answer.
    pub fn ask(&self, job: &str, generation: u64, index: u16) -> Option<(std::net::SocketAddr, Value)> {
        let (address, token) = self.processes.control(job, generation, index)?;
        let request = self.http.get(format!("http://{address}/control/status")).bearer_auth(token);
        let answer = self.runtime.block_on(async { request.send().await?.error_for_status()?.bytes().await }).ok()?;
        Some((address, serde_json::from_slice(&answer).ok()?))
    }

    /// Notes the figures of a job, if it is time to.
    fn note_figures(&self, job: &str, launch: &Launch, status: &Value) {
        let now = Moment::now();
        if !self.series.is_due(job, now) {
            return;
        }
        let usage = |index| self.processes.usage(job, launch.generation, index);
        let usage = (0..launch.processes)
            .filter_map(usage)
            .map(|usage| (usage.cpu_millis as f64 / 1000.0, usage.resident_bytes));
        self.series.note(job, now, series::sample(status, launch.generation, &usage.collect::<Vec<_>>()));
    }

    /// Tells a process of a job to do something. Returns its answer.
    pub fn tell(
        &self,
        job: &str,
        generation: u64,
        index: u16,
        (verb, wish): (&str, &Value),
        patience: Duration,
    ) -> Result<String, Refusal> {
        let (address, token) = self.processes.control(job, generation, index).ok_or(Refusal::Silent)?;
        let request = self.http.post(format!("http://{address}/control/{verb}")).bearer_auth(token);
        let request = request.body(wish.to_string()).timeout(patience);
        let answer = self.runtime.block_on(async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        });
        match answer {
            Ok((status, text)) if status.is_success() => Ok(text),
            Ok((status, text)) => Err(Refusal::Said(status, text.trim().to_owned())),
            Err(_) => Err(Refusal::Silent),
        }
    }

    /// Asks a process by a signal to stop, once, if it serves no admin port, or not yet. One that does no more is about to end.
    fn interrupt(&self, job: &str, generation: u64, index: u16, signalled: &mut BTreeSet<(u64, u16)>) {
        if self.processes.control(job, generation, index).is_none() && signalled.insert((generation, index)) {
            self.processes.interrupt(job, generation, index);
        }
    }

    /// Has all processes stop cleanly, and waits for them: nobody keeps jobs any more, and nobody will have them back before the next
    /// manager does.
    pub fn stop_jobs(&self) {
        let deadline = Moment::now().after(self.rules.stop);
        let mut signalled: BTreeMap<String, BTreeSet<(u64, u16)>> = BTreeMap::new();
        let alive = || -> Vec<(String, u64, u16)> {
            let jobs = self.store.jobs().unwrap_or_default();
            let alive =
                jobs.iter().filter_map(|job| Some((&job.name, job.launch.as_ref()?))).flat_map(|(job, launch)| {
                    let seen = self.processes.observe(job, Some(launch)).processes;
                    let indices = (0..).zip(seen).filter(|(_, process)| *process == Process::Alive);
                    indices.map(move |(index, _)| (job.clone(), launch.generation, index))
                });
            alive.collect()
        };
        loop {
            let left = alive();
            if left.is_empty() || Moment::now() >= deadline {
                break;
            }
            for (job, generation, index) in left {
                if self.tell(&job, generation, index, ("stop", &json!({})), ANSWER_TIME).is_err() {
                    self.interrupt(&job, generation, index, signalled.entry(job.clone()).or_default());
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Returns whether another version can take the place of a job that no process runs. One that never ran leaves nothing to be done.
    fn is_drained(&self, job: &str) -> Result<bool, Problem> {
        let Some(store) = self.state_store()? else { return Ok(true) };
        let standing = Standing::look(Arc::new(store), job)?;
        Ok(standing.is_none_or(|standing| standing.drained().is_ok()))
    }

    /// Deletes the state of a job that no process runs.
    fn purge(&self, job: &str) -> Result<(), String> {
        let location = self.state().map_err(|problem| problem.detail)?;
        let cannot = |error: StateError| format!("its state cannot be deleted: {error}");
        let Some(folder) = location.folder() else {
            // Whoever is killed in the middle of it does it again: the job is forgotten when it is done.
            let Some(store) = location.open_existing().map_err(cannot)? else { return Ok(()) };
            let objects = store.list(&format!("jobs/{job}")).map_err(cannot)?;
            let paths: Vec<String> = objects.into_iter().map(|object| object.path).collect();
            return store.delete_all(&paths).map_err(cannot);
        };
        match std::fs::remove_dir_all(folder.join("jobs").join(job)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("its state cannot be deleted: {error}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_falls_over_the_same_row_again_and_again_does_not_get_on() {
        let told = |saved: Option<u64>| Rows { saved, ..Rows::default() };
        let mut progress = Progress::default();
        assert!(!progress.gets_on(1, told(None)), "nothing is saved");
        assert!(progress.gets_on(1, told(Some(100))));
        for generation in 2..9 {
            assert!(!progress.gets_on(generation, told(Some(90))), "it derives again");
            assert!(!progress.gets_on(generation, told(Some(100))), "more ticks, and no row");
        }
        assert!(progress.gets_on(9, told(Some(101))));
        assert!(progress.gets_on(9, Rows::default()), "it did, whatever it says later");
        assert!(!progress.gets_on(10, Rows::default()), "a process that says nothing");
    }
}
