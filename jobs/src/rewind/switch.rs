//! The moment at which a replay that goes on is live: it has read all that was there a moment before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use riverrun_dataflow::engine::{Observer, SplitReading};

/// How often it is looked, and what "a moment before" is: a few ticks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A replay that has become live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its newest tick.
    pub tick: u64,
    /// Records that this process had read by then.
    pub records: u64,
}

/// Looks whether a job has caught up, until it has or this is dropped.
pub(super) struct Switch {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts to look; `on_live` is called once.
    pub fn start(observer: Arc<Observer>, on_live: impl FnOnce(&Live) + Send + 'static) -> std::io::Result<Switch> {
        let (end, ended) = mpsc::channel();
        let look = move || {
            let mut before = Ends::default();
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                // A source that does not answer now has not been caught up with.
                let splits = observer.splits().unwrap_or_default();
                if before.are_reached(&splits) {
                    let snapshot = observer.snapshot();
                    return on_live(&Live { tick: snapshot.tick, records: snapshot.decoded });
                }
                before = Ends::of(&splits);
            }
        };
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(look)?;
        Ok(Switch { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook.
            thread.join().ok();
        }
    }
}

/// Where live splits ended when it was looked last; none if one of them did not say.
#[derive(Default)]
struct Ends(Option<BTreeMap<(String, String), u64>>);

impl Ends {
    fn of(splits: &[SplitReading]) -> Ends {
        let end = |split: &SplitReading| Some(((split.source.clone(), split.split.clone()), split.end?));
        Ends(splits.iter().filter(|split| split.live).map(end).collect())
    }

    fn are_reached(&self, splits: &[SplitReading]) -> bool {
        let Some(ends) = self.0.as_ref().filter(|ends| !ends.is_empty()) else { return false };
        let reached = |split: &SplitReading| {
            ends.get(&(split.source.clone(), split.split.clone())).is_some_and(|end| split.position >= *end)
        };
        splits.iter().filter(|split| split.live).all(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(split: &str, position: u64, end: Option<u64>) -> SplitReading {
        let (source, split) = ("s".to_owned(), split.to_owned());
        SplitReading {
            source,
            split,
            position,
            end,
            greatest: None,
            watermark: None,
            idle: false,
            live: true,
            behind_seconds: None,
            headroom_seconds: None,
            skipped: 0,
        }
    }

    #[test]
    fn a_job_is_live_when_it_has_all_that_was_there_the_look_before() {
        let nothing = Ends::default();
        assert!(!nothing.are_reached(&[at("0", 9, Some(9))]), "the first look");
        let before = Ends::of(&[at("0", 5, Some(9)), at("1", 3, Some(3))]);
        assert!(!before.are_reached(&[at("0", 8, Some(9)), at("1", 3, Some(3))]));
        assert!(before.are_reached(&[at("0", 9, Some(12)), at("1", 3, Some(4))]), "more came meanwhile");
        assert!(!before.are_reached(&[at("0", 9, Some(9)), at("1", 3, Some(3)), at("2", 0, Some(1))]), "a new split");
        assert!(!Ends::of(&[at("0", 0, None)]).are_reached(&[at("0", 9, Some(9))]), "its end was unknown");
        assert!(!Ends::of(&[]).are_reached(&[]), "nothing runs yet");
    }
}
