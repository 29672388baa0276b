//! What the threads of a running job share beside the dataflow: the wish to stop, the first failure, the end.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use timely::scheduling::SyncActivator;

use super::EngineError;
use super::pace::{Machine, Pace};
use crate::tick::Tick;
use crate::wire::WireError;

/// Steers a running job from outside and ends it from inside. Cheap to ask, so it is asked at every turn of every worker.
pub struct Control {
    pace: Arc<dyn Pace>,
    stop: AtomicBool,
    failed: AtomicBool,
    finished: AtomicBool,
    error: Mutex<Option<EngineError>>,
    /// So many ticks wait for the log that no more are to be opened.
    behind: AtomicBool,
    /// The newest tick that any worker has opened.
    ahead: AtomicU64,
    /// The last tick of a stopped job.
    until: OnceLock<Tick>,
    /// The tick at which the job ends as soon as all lanes cover it; 0 before.
    wanted: AtomicU64,
    /// Workers that know of the stop and will open no tick beyond the last.
    quiet: AtomicUsize,
    workers: Mutex<Vec<Thread>>,
    /// Operators that wait for the log's thread, or for the end.
    waiting: Mutex<Vec<SyncActivator>>,
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
            until: Default::default(),
            failed: AtomicBool::default(),
            finished: AtomicBool::default(),
            behind: AtomicBool::default(),
            error: Mutex::default(),
            ahead: AtomicU64::default(),
            wanted: AtomicU64::default(),
            quiet: AtomicUsize::default(),
            workers: Mutex::default(),
            waiting: Mutex::default(),
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
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Returns whether a clean stop was asked for.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Ends the job with an error. Only the first one counts; the others are its consequences.
    pub(crate) fn fail(&self, error: EngineError) {
        let mut first = self.error.lock().expect("the error is only ever replaced");
        if first.is_none() {
            *first = Some(error);
        }
        drop(first);
        self.failed.store(true, Ordering::SeqCst);
        self.wake();
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
        self.wake();
    }

    pub(crate) fn ended(&self) -> bool {
        self.failed() || self.finished.load(Ordering::SeqCst)
    }

    /// Says whether too much waits for the log.
    pub(crate) fn log_is_behind(&self, behind: bool) {
        if self.behind.swap(behind, Ordering::SeqCst) && !behind {
            self.wake();
        }
    }

    /// Returns whether a tick may not be opened yet because of the log.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::SeqCst)
    }

    /// Tells the others that a tick is open, so that they close theirs and follow.
    pub(crate) fn open(&self, tick: Tick) {
        if self.ahead.fetch_max(tick, Ordering::SeqCst) < tick {
            self.wake();
        }
    }

    pub(crate) fn ahead(&self) -> Tick {
        self.ahead.load(Ordering::SeqCst)
    }

    pub(crate) fn quiet(&self) {
        self.quiet.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Returns the last tick of a job that was asked to stop: one after all that were open then. Its record is made after the
    /// wish, so it is a checkpoint, and a stopped job has nothing to repeat.
    pub(crate) fn until(&self) -> Tick {
        *self.until.get_or_init(|| self.ahead() + 1)
    }

    /// Returns whether all workers have opened their last tick.
    pub(crate) fn all_quiet(&self, workers: usize) -> bool {
        self.quiet.load(Ordering::SeqCst) == workers
    }

    /// Only lanes hold up the end of the job: those that gather rows are to commit all up to `tick`.
    pub(crate) fn want(&self, tick: Tick) {
        if self.wanted.fetch_max(tick, Ordering::SeqCst) < tick {
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
