//! Tells sources how far the job is, beside it: what is in its newest checkpoint, and what the oldest one that is kept still needs.
//!
//! It is for people and their tools; the job itself asks nothing back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use riverrun_dataflow::engine::{Observer, Positions};
use riverrun_dataflow::source::{Source, Standing};
use riverrun_dataflow::tick::Tick;
use riverrun_state::{InputSplit, Inputs, Oldest};

use crate::connect::Connected;

/// How often the job is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Positions that wait for a checkpoint that covers them. A checkpoint that takes longer is told of a little late.
const WAITING_MAX: usize = 600;
/// Looks between two at the log, for the oldest checkpoint that is kept.
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
    needed: Needed,
}

/// Which positions checkpoints cover.
#[derive(Default)]
struct Covered {
    /// Not in a checkpoint yet, in order.
    waiting: VecDeque<Positions>,
    /// What the newest checkpoint covers.
    done: Positions,
    looks: u64,
}

impl Covered {
    /// Takes in how far the job is now, and the tick of its newest checkpoint. Returns whether a checkpoint is new.
    fn look(&mut self, now: Positions, checkpoint: Tick) -> bool {
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
        if let Some(newest) = newest {
            self.done = newest;
        }
        is_new
    }
}

/// From where a restart from the oldest checkpoint that is kept would read.
struct Needed {
    oldest: Oldest,
    splits: Vec<InputSplit>,
    /// The look after which the log was asked.
    asked: Option<u64>,
    /// By source and split.
    positions: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Needed {
    fn of(oldest: Oldest, splits: Vec<InputSplit>) -> Needed {
        Needed { oldest, splits, asked: None, positions: BTreeMap::new() }
    }

    /// Asks the log if that is long ago. What it said before is still true enough where it cannot be asked: less is needed only later.
    fn look(&mut self, looks: u64) {
        if self.asked.is_some_and(|asked| looks < asked + APART) {
            return;
        }
        let Ok(found) = self.oldest.positions() else { return };
        self.asked = Some(looks);
        self.positions.clear();
        for InputSplit { id, source, spec } in &self.splits {
            let position = found.get(id).copied().unwrap_or(spec.start);
            self.positions.entry(source.clone()).or_default().insert(spec.name.clone(), position);
        }
    }
}

impl Standings {
    /// Starts to tell, if any source is live.
    pub fn start(
        connected: &Connected,
        (inputs, oldest): (&Inputs, Oldest),
        observer: &Arc<Observer>,
    ) -> std::io::Result<Standings> {
        let live = connected.sources.iter().filter(|open| !open.bounded);
        let sources: Vec<_> = live.map(|open| (open.name.clone(), open.source.clone())).collect();
        let is_idle = sources.is_empty();
        let needed = Needed::of(oldest, inputs.splits.clone());
        let told = Arc::new(Mutex::new(Told { sources, covered: Covered::default(), needed }));
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
    told.lock().unwrap_or_else(PoisonError::into_inner).look(observer.positions(), readings.checkpoints.tick);
}

impl Told {
    /// Tells how far the job is if a checkpoint is new since it was told last.
    fn look(&mut self, now: Positions, checkpoint: Tick) {
        if !self.covered.look(now, checkpoint) {
            return;
        }
        self.needed.look(self.covered.looks);
        for (name, source) in &self.sources {
            let of = |splits: &BTreeMap<String, BTreeMap<String, u64>>| splits.get(name).cloned().unwrap_or_default();
            source.hear(&Standing { done: of(&self.covered.done.splits), needed: of(&self.needed.positions) });
        }
    }
}

#[cfg(test)]
mod tests;
