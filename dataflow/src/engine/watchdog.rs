//! The watchdog: notices that a job stands still although it has something to do, and says who holds it back.
//!
//! A job stands still if a tick was opened, none has become complete for a while, and no part of it has got on with anything:
//! chunks, batches, parts of a long tick. However slowly it comes, on a machine that has no time for it, work that is done is no
//! hang. What the job waits for then decides:
//! - *inside*: a worker is stuck in a decoder, a step, an encoder, or the parts wait for each other. Nothing will get better;
//!   the process should end and start again from its log.
//! - *outside*: a lane commits, the log appends, files are written or read, and that takes long. A sink that is down or slow is
//!   no fault of the job, so this is said again and again, and ends the job only after a limit of its own, if there is one.
//!
//! An idle job closes a tick a second; a job that may not read because its sinks are behind opens no tick. Neither stands still.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::control::Control;
use super::crossing::Doing;
use super::events::OutsideIsSlow;
use super::meter::{ActReading, PartReading, WorkerReading};
use super::{EngineError, Observer};
use crate::tick::Tick;

/// How long a job may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogLimits {
    /// With nothing under way outside: then it is ended.
    pub inside: Duration,
    /// With something under way outside: then it is ended; `None`: never. That something is slow is said after `inside`.
    pub outside: Option<Duration>,
}

/// Why a job stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallCause {
    /// The job itself.
    Inside,
    /// Something outside does not answer.
    Outside,
}

/// A job stands still.
#[derive(Clone, Debug)]
pub struct Stall {
    /// Whose fault it is.
    pub cause: StallCause,
    /// For how long it has stood still, or the outside has not answered.
    pub still: Duration,
    /// The newest complete tick.
    pub complete: Tick,
    /// The newest tick of which something was read.
    pub begun: Tick,
    /// Who holds it back: what workers are at, what is under way outside, how far each part has come.
    pub findings: Vec<String>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.still.as_secs_f64();
        match self.cause {
            StallCause::Inside if self.begun > self.complete => {
                write!(f, "no progress for {seconds:.1} s: tick {} is not complete", self.complete + 1)?;
            }
            StallCause::Inside => write!(f, "no progress for {seconds:.1} s: the job was asked to stop and does not")?,
            StallCause::Outside => write!(f, "what the job waits for has not answered for {seconds:.1} s")?,
        }
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

/// What the watchdog sees of a job.
struct Scene {
    complete: Tick,
    stopping: bool,
    workers: Vec<WorkerReading>,
    acts: Vec<ActReading>,
    /// What gets on in other processes of the job: they wait for each other.
    elsewhere: Doing,
}

impl Scene {
    /// Returns the newest tick that should become complete.
    fn begun(&self) -> Tick {
        self.workers.iter().map(|worker| worker.begun).max().unwrap_or_default()
    }

    /// Returns the pieces of work done.
    fn done(&self) -> u64 {
        self.workers.iter().map(|worker| worker.done).sum::<u64>() + self.elsewhere.done
    }

    fn acts_ended(&self) -> u64 {
        self.acts.iter().map(|act| act.durations.count).sum()
    }
}

/// What the watchdog makes of what it sees.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Well,
    /// Something outside is slow: in words, and for how long.
    Slow(Vec<(String, Duration)>),
    Stalled(StallCause, Duration),
}

/// Judges scenes. Counts only the time that it was awake itself: a process that was stopped or a machine that slept is no hang.
struct Watch {
    limits: WatchdogLimits,
    /// Time between two looks.
    every: Duration,
    complete: Tick,
    done: u64,
    acts_ended: u64,
    /// For how long no tick has become complete although one was open.
    still: Duration,
    /// For how long, besides, no piece of work was done and no act on the outside has ended.
    unmoved: Duration,
    /// By worker: its turns and the pieces of work in them, and for how long it has made none.
    turns: Vec<(u64, Duration)>,
}

impl Watch {
    fn new(limits: WatchdogLimits) -> Watch {
        let (still, unmoved) = (Duration::ZERO, Duration::ZERO);
        let every = (limits.inside / 16).clamp(Duration::from_millis(5), Duration::from_secs(1));
        Watch { limits, every, complete: 0, done: 0, acts_ended: 0, still, unmoved, turns: Vec::new() }
    }

    /// Looks again and again, until `asleep` says that it is over or the job stands still.
    #[expect(clippy::disallowed_methods, reason = "reaches no output")]
    fn watch(mut self, control: &Control, observer: &Observer, asleep: impl Fn() -> bool) -> Option<Stall> {
        let mut said: BTreeMap<String, Duration> = BTreeMap::new();
        let mut last = Instant::now();
        while asleep() {
            let now = Instant::now();
            let elapsed = now.saturating_duration_since(std::mem::replace(&mut last, now));
            let Some(meter) = observer.meter().filter(|_| !control.ended()) else { continue };
            let (workers, acts) = (meter.read_workers(), meter.read_acts());
            let (complete, elsewhere) = (observer.complete_tick(), observer.doing_elsewhere());
            let scene = Scene { complete, stopping: control.stopping(), workers, acts, elsewhere };
            let finding = self.look(elapsed, &scene);
            meter.still(self.still, matches!(finding, Finding::Stalled(..)));
            match finding {
                Finding::Well => said.clear(),
                Finding::Slow(slow) => say(slow, &mut said),
                Finding::Stalled(cause, still) => return Some(self.report(&scene, cause, still, &meter.read_parts())),
            }
        }
        None
    }

    /// Judges what is seen `elapsed` after the last look.
    fn look(&mut self, elapsed: Duration, scene: &Scene) -> Finding {
        let elapsed = elapsed.min(self.every * 2);
        let pending = scene.begun() > scene.complete || scene.stopping;
        let moved = scene.complete != self.complete;
        self.still = if moved || !pending { Duration::ZERO } else { self.still + elapsed };
        let moved = moved || scene.done() != self.done || scene.acts_ended() != self.acts_ended;
        self.unmoved = if moved || !pending { Duration::ZERO } else { self.unmoved + elapsed };
        (self.complete, self.done, self.acts_ended) = (scene.complete, scene.done(), scene.acts_ended());
        self.turns.resize(scene.workers.len(), (0, Duration::ZERO));
        for ((turns, stuck), worker) in self.turns.iter_mut().zip(&scene.workers) {
            let now = worker.turns + worker.done;
            *stuck = if *turns == now { *stuck + elapsed } else { Duration::ZERO };
            *turns = now;
        }
        self.judge(scene)
    }

    fn judge(&self, scene: &Scene) -> Finding {
        let limit = self.limits.inside;
        let stuck = || self.turns.iter().zip(&scene.workers).filter(|((_, stuck), _)| *stuck >= limit);
        let outside = |worker: &WorkerReading| worker.at.is_some_and(|part| part.is_outside());
        let slow: Vec<(String, Duration)> = slow_acts(scene)
            .chain(stuck().filter(|(_, worker)| outside(worker)).map(|((_, stuck), worker)| (at(worker), *stuck)))
            .filter(|(_, age)| *age >= limit)
            .collect();
        // A worker is stuck in a part of ours, whatever goes on outside.
        let stuck_inside = stuck().any(|(_, worker)| !outside(worker));
        if self.still >= limit && (stuck_inside || (slow.is_empty() && self.unmoved >= limit)) {
            return Finding::Stalled(StallCause::Inside, self.still);
        }
        let longest = slow.iter().map(|(_, age)| *age).max();
        match (longest, self.limits.outside) {
            (Some(longest), Some(limit)) if longest >= limit => Finding::Stalled(StallCause::Outside, longest),
            (Some(_), _) => Finding::Slow(slow),
            (None, _) => Finding::Well,
        }
    }

    /// Returns the report on a job that stands still.
    fn report(&self, scene: &Scene, cause: StallCause, still: Duration, parts: &[PartReading]) -> Stall {
        let mut findings = Vec::new();
        for ((_, stuck), worker) in self.turns.iter().zip(&scene.workers) {
            if *stuck >= self.limits.inside {
                let number = worker.worker;
                findings.push(format!(
                    "worker {number} has been at this for {:.1} s: {}",
                    stuck.as_secs_f64(),
                    at(worker)
                ));
            }
        }
        for (what, age) in slow_acts(scene) {
            findings.push(format!("under way for {:.1} s: {what}", age.as_secs_f64()));
        }
        if findings.is_empty() {
            findings.push("no worker is stuck, and nothing is under way outside".to_owned());
        }
        findings.push(frontiers(scene, parts));
        let (complete, begun) = (scene.complete, scene.begun());
        Stall { cause, still, complete, begun, findings }
    }
}

fn slow_acts(scene: &Scene) -> impl Iterator<Item = (String, Duration)> {
    let here = scene.acts.iter().filter_map(|act| {
        let age = Duration::try_from_secs_f64(act.under_way_seconds?).ok()?;
        Some((format!("{}, worker {}", act.kind.named(&act.name), act.worker), age))
    });
    let there = scene.elsewhere.outside.iter();
    here.chain(there.filter_map(|(what, age)| Some((what.clone(), Duration::try_from_secs_f64(*age).ok()?))))
}

fn at(worker: &WorkerReading) -> String {
    worker.at_name.clone().unwrap_or_else(|| "between its parts".to_owned())
}

/// Returns the next tick of each part by worker, those that are furthest behind first.
fn frontiers(scene: &Scene, parts: &[PartReading]) -> String {
    let mut ticks: BTreeMap<usize, (&str, Vec<Tick>)> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for part in parts {
        let Some(next) = part.next else { continue };
        let place = order.iter().position(|known| *known == part.named).unwrap_or_else(|| {
            order.push(&part.named);
            order.len() - 1
        });
        ticks.entry(place).or_insert((&part.named, Vec::new())).1.push(next);
    }
    let mut ticks: Vec<(&str, Vec<Tick>)> = ticks.into_values().collect();
    ticks.push(("reading", scene.workers.iter().map(|worker| worker.begun).collect()));
    ticks.sort_by_key(|(_, ticks)| ticks.iter().min().copied());
    let shown = ticks.iter().map(|(named, ticks)| {
        let ticks: Vec<String> = ticks.iter().map(Tick::to_string).collect();
        format!("{named} {}", ticks.join("/"))
    });
    format!("next tick by part, of each worker: {}", shown.collect::<Vec<_>>().join("; "))
}

/// Watches a running job until it is dropped.
pub struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts watching. `on_stall` is called at most once, on the watchdog's thread; as threads that are stuck cannot be ended,
    /// it should end the process. If it returns, the job fails with the same report, once its threads come loose.
    pub fn start(
        limits: WatchdogLimits,
        control: Arc<Control>,
        observer: Arc<Observer>,
        on_stall: impl FnOnce(&Stall) + Send + 'static,
    ) -> std::io::Result<Watchdog> {
        let (end, ended) = mpsc::channel();
        let watching = move || {
            let watch = Watch::new(limits);
            let every = watch.every;
            let asleep = || ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout);
            if let Some(stall) = watch.watch(&control, &observer, asleep) {
                on_stall(&stall);
                control.fail(EngineError::Stalled(Box::new(stall)));
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(watching)?;
        Ok(Watchdog { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook.
            thread.join().ok();
        }
    }
}

/// Says what is slow, again each time it has taken twice as long.
fn say(slow: Vec<(String, Duration)>, said: &mut BTreeMap<String, Duration>) {
    said.retain(|what, _| slow.iter().any(|(still, _)| still == what));
    for (what, age) in slow {
        if said.get(&what).is_none_or(|before| age >= *before * 2 || age < *before) {
            OutsideIsSlow { what: &what, age }.log();
            said.insert(what, age);
        }
    }
}

#[cfg(test)]
mod tests;
