//! A checkpoint that is taken now: asked for at the admin port of the process that leads, and waited for until it is published.

use std::sync::Arc;
use std::time::{Duration, Instant};

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_dataflow::tick::Tick;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why there is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCheckpoint {
    /// The job is not at its work.
    NotRunning(String),
    /// It is not published in time; it still may be.
    NotInTime(Duration),
}

/// Has a checkpoint taken as soon as one can be, and waits until it is published. Returns its tick.
#[expect(clippy::disallowed_methods, reason = "how long somebody waits; reaches no output")]
pub fn take(control: &Control, observer: &Arc<Observer>, patience: Duration) -> Result<Tick, NoCheckpoint> {
    let begun = Instant::now();
    let snapshot = observer.snapshot();
    let why = match observer.readings() {
        None => Some("it is starting"),
        Some(_) if snapshot.last => Some("its input came to an end, and its last checkpoint is all there is"),
        Some(_) if snapshot.tick < snapshot.repeated_to => Some("it is recovering"),
        Some(_) => None,
    };
    if let Some(why) = why {
        return Err(NoCheckpoint::NotRunning(why.to_owned()));
    }
    let first = control.take_checkpoint();
    loop {
        // Read first: what was published before the end counts.
        let ended = control.ended();
        let published = observer.readings().map_or(0, |readings| readings.checkpoints.tick);
        if published >= first {
            return Ok(published);
        }
        if ended {
            return Err(NoCheckpoint::NotRunning("it ended meanwhile".to_owned()));
        }
        if begun.elapsed() >= patience {
            return Err(NoCheckpoint::NotInTime(patience));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
