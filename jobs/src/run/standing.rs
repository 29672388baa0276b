//! Tells sources how far the job is, beside it: what is in its newest checkpoint, and what the oldest one that is kept still needs.
//!
//! It is for people and their tools; the job itself asks nothing back.

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use riverrun_dataflow::engine::{Observer, Positions};
use riverrun_dataflow::source::{Source, Standing};
use riverrun_dataflow::tick::Tick;
use riverrun_state::Retention;

use crate::connect::Connected;

/// How often the job is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Positions that wait for a checkpoint that covers them. A checkpoint that takes longer is told of a little late.
const WAITING_MAX: usize = 600;
/// Looks between two checkpoints whose positions are known, beside the newest: what lies between is not needed for the oldest.
const APART: u64 = 60;

/// Tells sources until it is dropped.
pub(super) struct Standings {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    told: Arc<Mutex<Told>>,
    observer: Arc<Observer>,
}

struct Told {
    /// Live sources, by name.
    sources: Vec<(String, Arc<dyn Source>)>,
    covered: Covered,
}

/// Which positions checkpoints cover.
#[derive(Default)]
struct Covered {
    /// Not in a checkpoint yet, in order.
    waiting: VecDeque<Positions>,
    /// Those of the checkpoints that are kept, in order, each with the number of the look at which it was new.
    kept: VecDeque<(u64, Positions)>,
    looks: u64,
}

impl Covered {
    /// Takes in how far the job is now, and the tick of its newest checkpoint. Returns whether a checkpoint is new.
    fn look(&mut self, now: Positions, checkpoint: Tick) -> bool {
        if self.kept.is_empty() {
            // What a restart needs when the process begins is what it began with, or less.
            self.kept.push_back((0, now.clone()));
        }
        self.looks += 1;
        if self.waiting.back().is_none_or(|last| last.tick < now.tick) {
            self.waiting.push_back(now);
        }
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
        let mut newest = None;
        while self.waiting.front().is_some_and(|next| next.tick <= checkpoint) {
            newest = self.waiting.pop_front();
        }
        let is_new = newest.is_some();
        self.kept.extend(newest.map(|positions| (self.looks, positions)));
        self.forget();
        is_new
    }

    /// Forgets checkpoints that are kept no more, and of the others so many that an hour of them takes little memory.
    fn forget(&mut self) {
        let Retention { checkpoints, keep_for, .. } = Retention::default();
        let hour = keep_for.as_secs() / EVERY.as_secs();
        while self.kept.len() > checkpoints && self.kept[1].0 + hour < self.looks {
            self.kept.pop_front();
        }
        let len = self.kept.len();
        if len > checkpoints + 1 && self.kept[len - checkpoints].0 - self.kept[len - checkpoints - 2].0 < APART {
            self.kept.remove(len - checkpoints - 1);
        }
    }

    fn standing(&self, source: &str) -> Standing {
        let of = |kept: Option<&(u64, Positions)>| {
            kept.and_then(|(_, positions)| positions.splits.get(source).cloned()).unwrap_or_default()
        };
        Standing { done: of(self.kept.back()), needed: of(self.kept.front()) }
    }
}

impl Standings {
    /// Starts to tell, if any source is live.
    pub fn start(connected: &Connected, observer: &Arc<Observer>) -> std::io::Result<Standings> {
        let live = connected.sources.iter().filter(|open| !open.bounded);
        let sources: Vec<_> = live.map(|open| (open.name.clone(), open.source.clone())).collect();
        let is_idle = sources.is_empty();
        let told = Arc::new(Mutex::new(Told { sources, covered: Covered::default() }));
        let mut all = Standings { end: None, thread: None, told: told.clone(), observer: observer.clone() };
        if is_idle {
            return Ok(all);
        }
        let (end, ended) = mpsc::channel();
        let observer = observer.clone();
        let tell = move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                tell(&told, &observer);
            }
        };
        all.thread = Some(std::thread::Builder::new().name("standing".to_owned()).spawn(tell)?);
        all.end = Some(end);
        Ok(all)
    }

    /// Tells once more, of the checkpoint with which the job stopped, and ends.
    pub fn finish(mut self) {
        let was_live = self.thread.is_some();
        self.join();
        if was_live {
            tell(&self.told, &self.observer);
        }
    }

    fn join(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook.
            thread.join().ok();
        }
    }
}

impl Drop for Standings {
    fn drop(&mut self) {
        self.join();
    }
}

fn tell(told: &Mutex<Told>, observer: &Observer) {
    let Some(readings) = observer.readings() else { return };
    let Told { sources, covered } = &mut *told.lock().unwrap_or_else(PoisonError::into_inner);
    if covered.look(observer.positions(), readings.checkpoints.tick) {
        for (name, source) in sources {
            source.hear(&covered.standing(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(tick: Tick) -> Positions {
        let split = BTreeMap::from([("0".to_owned(), tick * 10)]);
        Positions { tick, splits: BTreeMap::from([("clicks".to_owned(), split)]) }
    }

    fn standing(covered: &Covered) -> (u64, u64) {
        let Standing { done, needed } = covered.standing("clicks");
        (done["0"], needed["0"])
    }

    #[test]
    fn what_a_checkpoint_covers_is_done_and_what_the_oldest_kept_one_lacks_is_needed() {
        let mut covered = Covered::default();
        assert!(!covered.look(at(1), 0));
        assert!(!covered.look(at(5), 0), "there is no checkpoint yet");
        assert!(covered.look(at(9), 6));
        assert_eq!(standing(&covered), (50, 10), "the newest look that it covers");
        assert!(!covered.look(at(9), 6));
        assert!(covered.look(at(12), 12));
        assert_eq!(standing(&covered), (120, 10));
        assert!(covered.look(at(20), 30));
        assert_eq!(standing(&covered), (200, 10), "all of the last hour are kept");
    }

    #[test]
    fn the_oldest_checkpoint_of_the_last_hour_is_needed_and_few_are_known() {
        let mut covered = Covered::default();
        for tick in 1..=20_000 {
            covered.look(at(tick), tick);
            let oldest = covered.standing("clicks").needed["0"] / 10;
            let kept = tick.saturating_sub(3600).max(1);
            assert!((kept.saturating_sub(2 * APART)..=kept).contains(&oldest), "{oldest} at {tick}");
            assert!(covered.kept.len() < 130, "{}", covered.kept.len());
        }
        // One that came long ago and is one of the last three is needed all the same.
        let mut quiet = Covered::default();
        for tick in 1..=9000 {
            quiet.look(at(tick), tick / 4000 * 4000);
        }
        assert_eq!(standing(&quiet), (80_000, 10));
    }

    #[test]
    fn a_checkpoint_that_never_comes_costs_no_memory() {
        let mut covered = Covered::default();
        assert!((1..=5000).all(|tick| !covered.look(at(tick), 0)));
        assert_eq!(covered.waiting.len(), WAITING_MAX);
        assert!(covered.look(at(5001), 5001));
    }
}
