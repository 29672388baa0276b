//! The doors of a running job to clocks and threads.
//!
//! Production goes through [`Machine`]. The simulator of the whole has a pace of its own: it lets one thread run at a time,
//! chooses which by a seed, and moves time itself, so that a run can be repeated exactly. What no door leads to (progress
//! tracking, channels) does not look at clocks and is the same for both.

use std::time::{Duration, Instant};

use super::clock::{SystemClock, WallClock};

/// Clocks and threads of a running job. Asked at every turn of every worker, so it must be cheap.
pub trait Pace: Send + Sync {
    /// Returns the wall clock, in microseconds since the epoch. It may go back.
    fn wall(&self) -> i64;

    /// Returns a clock that only goes forward, whatever happens to the wall clock.
    fn now(&self) -> Instant;

    /// Returns the CPU time of the calling thread, in microseconds.
    fn cpu_micros(&self) -> u64;

    /// Returns how long one who wants to sleep for `asked` really does.
    fn sleep(&self, asked: Duration) -> Duration;

    /// A worker's thread is about to do its first act.
    fn enter(&self, worker: usize);

    /// A worker has done a turn, and may do the next one when this returns.
    fn pass(&self, worker: usize);

    /// A worker's thread has done its last act.
    fn leave(&self, worker: usize);

    /// Has `aside` worked off beside the workers until it is over. Returns what waits for that.
    fn beside(&self, name: &str, aside: Box<dyn Aside>) -> std::io::Result<Box<dyn FnOnce()>>;
}

/// Work beside the workers, done piece by piece.
pub trait Aside: Send {
    /// Does the next piece.
    fn work(&mut self, wait: Wait) -> Worked;
}

/// What to do when there is no work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Wait for it.
    ForWork,
    /// Say so.
    No,
}

/// What came of working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worked {
    /// A piece was done.
    Done,
    /// There is nothing to do now.
    Nothing,
    /// There will never be anything to do again.
    Over,
}

/// The machine's own clocks, and a thread for everything.
#[derive(Debug, Default)]
pub struct Machine;

impl Pace for Machine {
    fn wall(&self) -> i64 {
        SystemClock.now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door; what it decides is remembered by tick records")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn cpu_micros(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or(0)
    }

    fn sleep(&self, asked: Duration) -> Duration {
        asked
    }

    fn enter(&self, _: usize) {}

    fn pass(&self, _: usize) {}

    fn leave(&self, _: usize) {}

    fn beside(&self, name: &str, mut aside: Box<dyn Aside>) -> std::io::Result<Box<dyn FnOnce()>> {
        let work = move || while aside.work(Wait::ForWork) != Worked::Over {};
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Box::new(move || {
            // A panic there has been reported by the panic hook, and is seen by whoever waits for an answer.
            thread.join().ok();
        }))
    }
}
