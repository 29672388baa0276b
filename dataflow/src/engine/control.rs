//! What the threads of a running job share beside the dataflow: the wish to stop, the first failure, the end.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use serde::{Deserialize, Serialize};
use timely::scheduling::SyncActivator;

use super::EngineError;
use super::crossing::{Crossing, Failure};
use super::pace::{Machine, Pace};
use crate::journal::StateFile;
use crate::tick::Tick;
use crate::wire::WireError;

/// Steers a running job from outside and ends it from inside. Cheap to ask, so it is asked at every turn of every worker.
pub struct Control {
    pace: Arc<dyn Pace>,
    stop: AtomicBool,
    /// The stop is only for a start that follows at once.
    again: AtomicBool,
    /// Somebody wants the job to rest when it has stopped, whatever else it stops for.
    rests: AtomicBool,
    failed: AtomicBool,
    finished: AtomicBool,
    error: Mutex<Option<EngineError>>,
    /// So many ticks wait for the log that no more are to be opened.
    behind: AtomicBool,
    /// The newest tick that any worker has opened.
    ahead: AtomicU64,
    /// The last tick of a stopped job.
    until: OnceLock<Last>,
    /// A stop is to be the end of all input, for good.
    drain: AtomicBool,
    /// The newest tick that a former process had journalled.
    former: AtomicU64,
    /// The tick at which the job ends as soon as all lanes cover it; 0 before.
    wanted: AtomicU64,
    /// Workers that know of the stop and will open no tick beyond the last.
    quiet: AtomicUsize,
    workers: Mutex<Vec<Thread>>,
    /// Operators that wait for the log's thread, or for the end.
    waiting: Mutex<Vec<SyncActivator>>,
    /// The first tick of which a checkpoint that somebody asked for may be; 0: nobody waits for one to begin.
    checkpoint: AtomicU64,
    /// What reaches beyond this process, if the job runs in several.
    crossing: OnceLock<Arc<Crossing>>,
}

/// The last tick of a job that was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    pub tick: Tick,
    /// No input follows, ever.
    pub drains: bool,
}

impl Control {
    /// Returns the control of a job that is about to run.
    pub fn new() -> Arc<Control> {
        Control::at(Arc::new(Machine))
    }

    /// Returns the control of a job that is about to run at a pace other than the machine's.
    pub fn at(pace: Arc<dyn Pace>) -> Arc<Control> {
        Arc::new(Control {
            pace,
            stop: AtomicBool::default(),
            again: AtomicBool::default(),
            rests: AtomicBool::default(),
            until: Default::default(),
            drain: AtomicBool::default(),
            former: AtomicU64::default(),
            failed: AtomicBool::default(),
            finished: AtomicBool::default(),
            behind: AtomicBool::default(),
            error: Mutex::default(),
            ahead: AtomicU64::default(),
            wanted: AtomicU64::default(),
            quiet: AtomicUsize::default(),
            workers: Mutex::default(),
            waiting: Mutex::default(),
            checkpoint: AtomicU64::default(),
            crossing: OnceLock::new(),
        })
    }

    /// Returns the clocks and threads of the job.
    pub fn pace(&self) -> &Arc<dyn Pace> {
        &self.pace
    }

    /// Ends the job at once, as if it had failed for `reason`.
    pub fn abort(&self, reason: &str) {
        self.fail(EngineError::Internal(reason.to_owned()));
    }

    /// Asks for a clean stop: open ticks are closed, journalled and committed.
    pub fn stop(&self) {
        self.rests.store(true, Ordering::SeqCst);
        self.begin_to_stop();
    }

    /// The job is to stop, whoever says so and for whatever.
    pub(crate) fn begin_to_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.hold();
        self.wake();
    }

    /// Asks for a clean stop that is the end of all input, as if no source would ever give another row: what waits for time to pass
    /// comes out, and the job is finished for good. Without effect once the last tick is decided on: one that stops to go on does so, and
    /// can be drained then.
    pub fn drain(&self) {
        self.hear_that_it_drains();
        self.begin_to_stop();
    }

    /// Somebody wishes the stop that follows to be the end of all input.
    pub(crate) fn hear_that_it_drains(&self) {
        self.drain.store(true, Ordering::SeqCst);
    }

    /// Returns whether somebody wishes that a stop be the end of all input.
    pub(crate) fn wishes_to_drain(&self) -> bool {
        self.drain.load(Ordering::SeqCst)
    }

    /// The job derives ticks again up to this one.
    pub(crate) fn repeats_until(&self, former: Tick) {
        self.former.store(former, Ordering::SeqCst);
    }

    /// Returns the last tick of a job whose workers may have opened those up to `ahead`, but will not have closed another. The wish is
    /// read once, and before `ahead`: who closed a tick without knowing of it had opened that before.
    fn last_after(&self, ahead: impl FnOnce(bool) -> Tick) -> Last {
        let former = self.former.load(Ordering::SeqCst);
        let drains = self.wishes_to_drain();
        let ahead = ahead(drains);
        match drains {
            // What is recorded cannot be made an end any more.
            true => Last { tick: ahead.max(former) + 1, drains: true },
            false => Last { tick: ahead + 1, drains: false },
        }
    }

    /// From now on the job runs in several processes.
    pub(crate) fn cross(&self, crossing: Arc<Crossing>) {
        self.crossing.set(crossing).ok().expect("a job runs once");
        if self.stopping() {
            self.hold();
        }
    }

    fn crossing(&self) -> Option<&Crossing> {
        self.crossing.get().map(Arc::as_ref)
    }

    /// Tells other processes of the wish to stop, and of the tick up to which this one may go meanwhile.
    fn hold(&self) {
        if let Some(crossing) = self.crossing() {
            crossing.hold(self.ahead());
            self.decide_on_the_last();
        }
    }

    /// Decides on the last tick, if that is for this process to do and all others have said how far they may go.
    pub(crate) fn decide_on_the_last(&self) {
        if let Some(held) = self.crossing().and_then(Crossing::all_held) {
            // A tick that a worker may have closed before it knew would not be the end of its input.
            self.end_at(self.last_after(|drains| if drains { held } else { held - 1 }));
        }
    }

    /// The job is to stop after this tick.
    pub(crate) fn end_at(&self, last: Last) {
        if self.until.set(last).is_ok() {
            self.nudge();
            self.wake();
        }
    }

    /// There is something to tell other processes.
    fn nudge(&self) {
        if let Some(crossing) = self.crossing() {
            crossing.nudge();
        }
    }

    /// Asks for a clean stop of a job that is to be started again at once: there is more for it to read.
    pub fn stop_to_go_on(&self) {
        self.again.store(true, Ordering::SeqCst);
        self.begin_to_stop();
    }

    /// Asks for a checkpoint as soon as one can be taken, whatever the interval, and returns the first tick that it may be of: it holds
    /// all that was read until now. The process that leads chooses the tick, so it is the one to ask.
    pub fn take_checkpoint(&self) -> Tick {
        let first = self.ahead().max(1);
        self.checkpoint.fetch_max(first, Ordering::SeqCst).max(first)
    }

    /// Returns whether a checkpoint that somebody asked for may be of `tick`.
    pub(crate) fn wants_checkpoint_at(&self, tick: Tick) -> bool {
        (1..=tick).contains(&self.checkpoint.load(Ordering::SeqCst))
    }

    /// The state after `tick` becomes a checkpoint.
    pub(crate) fn checkpoint_begins(&self, tick: Tick) {
        let asked = self.checkpoint.load(Ordering::SeqCst);
        if asked <= tick {
            // Whoever asks just now, asks for a later one.
            self.checkpoint.compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst).ok();
        }
    }

    /// Returns whether the job stops only to be started again at once.
    pub fn goes_on(&self) -> bool {
        self.again.load(Ordering::SeqCst) && !self.rests.load(Ordering::SeqCst)
    }

    /// Process 0 says whether the job stops only to be started again at once. Its last word counts.
    pub(crate) fn hear_whether_it_goes_on(&self, again: bool) {
        self.again.store(again, Ordering::SeqCst);
    }

    /// Returns whether a clean stop was asked for.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Ends the job with an error. Only the first one counts; the others are its consequences.
    pub(crate) fn fail(&self, error: EngineError) {
        let mut first = self.error.lock().expect("the error is only ever replaced");
        let crossing = self.crossing().filter(|_| first.is_none());
        let failure = crossing.map(|crossing| (crossing, Failure::of(&error)));
        first.get_or_insert(error);
        drop(first);
        self.failed.store(true, Ordering::SeqCst);
        self.wake();
        if let Some((crossing, failure)) = failure {
            crossing.failed(&failure);
        }
    }

    /// Returns what came, if it is something; what cannot be read ends the job.
    pub(crate) fn received<T>(&self, came: Result<Option<T>, WireError>) -> Option<T> {
        came.unwrap_or_else(|error| {
            self.fail(error.into());
            None
        })
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    pub(crate) fn take_error(&self) -> Option<EngineError> {
        self.error.lock().expect("the error is only ever replaced").take()
    }

    /// Ends the job well.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        self.nudge();
        self.wake();
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// Returns whether the job has ended, well or not, as far as this process is concerned.
    pub fn ended(&self) -> bool {
        self.failed() || self.finished()
    }

    /// Says whether too much waits for the log.
    pub(crate) fn log_is_behind(&self, behind: bool) {
        let was = self.behind.swap(behind, Ordering::SeqCst);
        if was != behind {
            self.nudge();
        }
        if was && !behind {
            self.wake();
        }
    }

    /// Returns whether a tick may not be opened yet because of the log.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::SeqCst)
    }

    /// Tells the others that a tick is open, so that they close theirs and follow.
    pub(crate) fn open(&self, tick: Tick) {
        self.follow(tick);
        if let Some(crossing) = self.crossing() {
            crossing.opened(tick);
        }
    }

    /// Somebody has opened a tick.
    pub(crate) fn follow(&self, tick: Tick) {
        if self.ahead.fetch_max(tick, Ordering::SeqCst) < tick {
            self.wake();
        }
    }

    /// A tick is complete.
    pub(crate) fn complete(&self, tick: Tick) {
        if let Some(crossing) = self.crossing() {
            crossing.complete(tick);
        }
    }

    /// A checkpoint is published, with these files among those that it names.
    pub(crate) fn published(&self, tick: Tick, files: &[StateFile]) {
        if let Some(crossing) = self.crossing() {
            crossing.published(tick, files);
        }
    }

    pub(crate) fn ahead(&self) -> Tick {
        self.ahead.load(Ordering::SeqCst)
    }

    pub(crate) fn quiet(&self) {
        self.quiet.fetch_add(1, Ordering::SeqCst);
        self.nudge();
        self.wake();
    }

    /// Returns the last tick of a job that was asked to stop: one after all that were open then. Its record is made after the
    /// wish, so it is a checkpoint, and a stopped job has nothing to repeat. `None`: the processes have not agreed on it yet.
    pub(crate) fn until(&self) -> Option<Last> {
        match self.crossing() {
            None => Some(*self.until.get_or_init(|| self.last_after(|_| self.ahead()))),
            Some(_) => self.until.get().copied(),
        }
    }

    /// Returns whether `tick`, which is about to be closed and is not a recorded one, is the end of all input.
    pub(crate) fn drains_with(&self, tick: Tick) -> bool {
        // Whoever decides on the last tick knows of all that are open; so asking early decides nothing else.
        self.wishes_to_drain() && self.stopping() && self.until() == Some(Last { tick, drains: true })
    }

    /// Returns whether all `workers` of this process have opened their last tick.
    pub(crate) fn is_quiet(&self, workers: usize) -> bool {
        self.quiet.load(Ordering::SeqCst) == workers
    }

    /// Returns whether all workers have opened their last tick, those of other processes too.
    pub(crate) fn all_quiet(&self, workers: usize) -> bool {
        self.is_quiet(workers) && self.crossing().is_none_or(Crossing::all_quiet)
    }

    /// Only lanes hold up the end of the job: those that gather rows are to commit all up to `tick`.
    pub(crate) fn want(&self, tick: Tick) {
        if self.wanted.fetch_max(tick, Ordering::SeqCst) < tick {
            self.nudge();
            self.answered();
        }
    }

    /// Returns the tick up to which lanes are to commit because the job ends.
    pub(crate) fn wanted(&self) -> Option<Tick> {
        Some(self.wanted.load(Ordering::SeqCst)).filter(|tick| *tick > 0)
    }

    pub(crate) fn register(&self, worker: Thread) {
        self.workers.lock().expect("registration does not panic").push(worker);
    }

    /// Has `operator` scheduled whenever the log has answered.
    pub(crate) fn on_answer(&self, operator: SyncActivator) {
        self.waiting.lock().expect("registration does not panic").push(operator);
    }

    /// The log has answered.
    pub(crate) fn answered(&self) {
        for operator in self.waiting.lock().expect("registration does not panic").iter() {
            // The dataflow may be gone by then, which is no news to anybody.
            operator.activate().ok();
        }
    }

    fn wake(&self) {
        for worker in self.workers.lock().expect("registration does not panic").iter() {
            worker.unpark();
        }
    }
}
