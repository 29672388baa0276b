//! Plays a seed: lives of a process, one after the other, each with other workers, until the job has come to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use riverrun_dataflow::engine::{Control, EngineError, Observer};
use riverrun_dataflow::graph::Make;
use riverrun_dataflow::journal::JournalError;
use riverrun_dataflow::sink::{Encoder, Promise};
use riverrun_jobs::run::{Ended, Ground, RunError, RunOptions, run_on};
use riverrun_jobs::{Connected, Environment, RegistryPlace, Topics};
use riverrun_state::record::Body;
use riverrun_state::{Retention, StateError, Store};

use crate::conductor::Conductor;
use crate::mutant::{LOUD, Mutant};
use crate::oracle;
use crate::places::{ArrivalEncoder, FakeSink, FakeSource};
use crate::scene::{Scene, Script};
use crate::store::{FAULT, FakeStore, record_of};
use crate::world::{Fuse, Inner, World};

/// Lives of a process after which a job should have come to its end.
const LIVES_MAX: u64 = 200;
/// Turns of workers in one life.
const TURNS_MAX: u64 = 400_000;

/// How a seed is played.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Which job it is.
    pub script: Script,
    /// A fixed number of workers; 0: 1 to 6, drawn for every life.
    pub workers: usize,
    /// Nothing goes wrong.
    pub calm: bool,
    /// The object store fails.
    pub faulty_store: bool,
    /// A broken rule.
    pub mutant: Option<Mutant>,
    /// Events are kept in words.
    pub telling: bool,
}

/// What came of a seed.
#[derive(Debug)]
pub struct Played {
    /// What was wrong.
    pub failure: Option<String>,
    /// Crashes.
    pub crashes: u64,
    /// Lives of the process.
    pub lives: u64,
    /// Ticks of the job.
    pub ticks: u64,
    /// Ticks that were derived again.
    pub repeated: u64,
    /// Digest of all events.
    pub trace: u64,
    /// All events, if they were kept.
    pub events: Vec<String>,
    /// All bytes, by sink and lane.
    pub output: BTreeMap<(String, u32), Vec<u8>>,
}

/// Plays `seed`.
pub fn play(seed: u64, options: Options) -> Played {
    let mut scene = Scene::of(options.script, seed);
    scene.drains &= !options.calm && options.mutant.is_none();
    let world = World::new(seed, options.telling);
    let stage = Stage { scene, world: world.clone(), objects: Arc::new(InMemory::new()), options };
    let mut lives = 0;
    let ended = stage.live_on(&mut lives);
    let mut inner = world.lock();
    let failure = ended.and_then(|balance| oracle::verdict(&stage.scene, &inner, &balance)).err();
    Played {
        failure,
        crashes: inner.crashes,
        lives,
        ticks: inner.journal.len() as u64,
        repeated: inner.repeated,
        trace: inner.trace(),
        events: inner.events().to_vec(),
        output: std::mem::take(&mut inner.lanes)
            .into_iter()
            .map(|(place, lane)| {
                let rows = lane.ticks.into_iter().flat_map(|(_, rows)| rows);
                (place, rows.flat_map(|(_, bytes)| bytes.into_iter().chain([b'\n'])).collect())
            })
            .collect(),
    }
}

/// What came of a mutant.
#[derive(Debug)]
pub enum Judged {
    /// It was found out, as it should be.
    Found {
        /// The first seed that did.
        seed: u64,
        /// How it failed.
        failure: String,
        /// How many seeds did, of those that were played.
        seeds: u64,
    },
    /// No seed failed.
    Missed,
    /// A broken world gave wrong output, or stopped with words that are not those of its misfortune.
    WentWrong {
        /// The seed.
        seed: u64,
        /// What was wrong.
        failure: String,
    },
}

/// Plays a broken rule with up to `seeds` seeds of a script until one fails, or a broken world with all of them: not one may go wrong
/// without a word.
pub fn judge(script: Script, mutant: Mutant, seeds: u64) -> Judged {
    let mut found: Option<(u64, String)> = None;
    let mut failed = 0;
    for seed in 0..seeds {
        let options = Options { script, mutant: Some(mutant), ..Options::default() };
        let Some(failure) = play(seed, options).failure else { continue };
        if !mutant.may_end_so(&failure) {
            return Judged::WentWrong { seed, failure };
        }
        failed += 1;
        found.get_or_insert((seed, failure));
        if mutant.words().is_none() {
            break;
        }
    }
    found.map_or(Judged::Missed, |(seed, failure)| Judged::Found { seed, failure, seeds: failed })
}

type Balance = BTreeMap<String, riverrun_dataflow::balance::Counts>;

/// What one seed is played with.
struct Stage {
    scene: Scene,
    world: Arc<World>,
    objects: Arc<InMemory>,
    options: Options,
}

impl Stage {
    /// Lets the process live until the job has come to its end; returns the balance.
    fn live_on(&self, lives: &mut u64) -> Result<Balance, String> {
        let (crashes, stops) = match self.options.calm {
            true => (0, 0),
            false => {
                let mut inner = self.world.lock();
                (inner.dice.roll(7), inner.dice.roll(3))
            }
        };
        let mut stopped = 0;
        loop {
            *lives += 1;
            if *lives > LIVES_MAX {
                return Err(format!("no end after {LIVES_MAX} lives"));
            }
            let may_crash = *lives <= crashes;
            let stop = !may_crash && stopped < stops;
            match self.live(may_crash, stop, *lives)? {
                Life::Finished(balance) => return Ok(balance),
                Life::Stopped => stopped += 1,
                Life::Killed => self.accident()?,
                Life::Failed(error) if is_fault(&error) => self.world.lock().event(&error.to_string(), 0),
                Life::Failed(error) => return Err(format!("{LOUD}{error}")),
            }
            if let Some(wrong) = self.world.lock().wrong.clone() {
                return Err(wrong);
            }
        }
    }

    fn live(&self, may_crash: bool, stop: bool, number: u64) -> Result<Life, String> {
        let (workers, fuse, acts) = {
            let mut inner = self.world.lock();
            let workers = match self.options.workers {
                0 => 1 + inner.dice.roll(6) as usize,
                fixed => fixed,
            };
            // A start has some twenty acts, a whole calm run one to some hundreds: a fuse that is too long meets the end of the
            // job, not a crash.
            let span = [25, 60, 120, 400][inner.dice.roll(4) as usize];
            let fuse = Fuse { acts: 1 + inner.dice.roll(span), after: inner.dice.once_in(2) };
            inner.skew = inner.dice.roll(7_200_000_000) as i64 - 3_600_000_000;
            inner.skew = if self.options.calm { 0 } else { inner.skew.min(0) };
            inner.event("life with workers", workers as u64);
            (workers, fuse, inner.dice.roll(3_000))
        };
        let turns = TURNS_MAX;
        let drains = self.scene.drains;
        let conductor = Conductor::new(self.world.clone(), workers, turns);
        let conductor = conductor.stopping_after((stop || drains).then_some(acts), drains);
        let control = Control::at(Arc::new(conductor));
        self.world.revive(control.clone(), may_crash.then_some(fuse));
        let observer = Arc::new(Observer::default());
        let run = RunOptions { state: PathBuf::new().into(), workers, fresh: false, append: false };
        let ran = run_on(&self.scene.plan, self.ground(number), &run, control, observer.clone());
        let snapshot = observer.snapshot();
        let mut inner = self.world.lock();
        inner.control = None;
        inner.repeated += snapshot.repeated_to.min(snapshot.tick);
        match ran {
            _ if inner.dead => Ok(Life::Killed),
            Ok(outcome) if outcome.ended == Ended::Stopped => Ok(Life::Stopped),
            Ok(outcome) => Ok(Life::Finished(outcome.snapshot.balance)),
            Err(error) => Ok(Life::Failed(error)),
        }
    }

    fn ground(&self, life: u64) -> Ground {
        let (mutant, scene, world) = (self.options.mutant, &self.scene, &self.world);
        let environment = Environment {
            topics: Topics::Embedded("/nonexistent/simulated".into()),
            until_end: scene.bounded,
            registry: RegistryPlace::Nowhere,
        };
        let mut connected: Connected =
            scene.plan.connect(&environment).unwrap_or_else(|_| panic!("the simulated job connects to nothing"));
        for (source, input) in connected.sources.iter_mut().zip(&scene.inputs) {
            assert_eq!(source.name, input.name, "sources are in the order of their names");
            let (world, name, splits) = (world.clone(), source.name.clone(), input.splits.clone());
            source.source = Arc::new(FakeSource { world, name, splits, mutant });
            source.bounded = scene.bounded;
        }
        for (sink, lanes) in connected.sinks.iter_mut().zip(&scene.lanes) {
            sink.sink = Arc::new(FakeSink { world: world.clone(), lanes: *lanes, mutant });
            (sink.lanes, sink.promise) = (*lanes, Promise::ExactlyOnce);
            if mutant == Some(Mutant::ArrivalOrder) {
                let plain: Make<dyn Encoder> = sink.encoder.clone();
                sink.encoder = Arc::new(move || Box::new(ArrivalEncoder(plain(), 0)));
            }
        }
        let faulty = if self.options.faulty_store && life < 30 { 10 } else { 0 };
        let objects = FakeStore { world: world.clone(), objects: self.objects.clone(), faulty, mutant };
        let kept = if mutant.is_some() { 1 } else { 1 + life as usize % 3 };
        Ground {
            connected,
            store: Store::over(Arc::new(objects), None),
            retention: Retention { checkpoints: kept, keep_for: Duration::ZERO, ..Retention::default() },
        }
    }

    /// What a mutant does to the world between two lives.
    fn accident(&self) -> Result<(), String> {
        match self.options.mutant {
            Some(Mutant::ForgottenJournal) => self.remove("log", 1),
            Some(Mutant::LostState) => self.remove("state", usize::MAX),
            Some(Mutant::RestoredSink) => {
                restore(&mut self.world.lock());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Removes the newest `count` objects of a part of the job's folder.
    fn remove(&self, part: &str, count: usize) -> Result<(), String> {
        use futures::TryStreamExt;
        use futures::executor::block_on;
        let prefix = Path::from(format!("jobs/simulated/{part}"));
        let listed: Vec<_> = block_on(self.objects.list(Some(&prefix)).try_collect()).map_err(|e| e.to_string())?;
        let mut paths: Vec<Path> = listed.into_iter().map(|meta| meta.location).collect();
        paths.sort();
        for path in paths.iter().rev().take(count) {
            if let Some(Body::Ticks(ticks)) = record_of(path, &self.stored(path)?).map(|record| record.body) {
                self.world.lock().forget(&ticks.entries);
            }
            block_on(self.objects.delete(path)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn stored(&self, path: &Path) -> Result<Vec<u8>, String> {
        use futures::executor::block_on;
        let read = async { self.objects.get(path).await?.bytes().await };
        block_on(read).map(|bytes| bytes.to_vec()).map_err(|e| e.to_string())
    }
}

/// Puts every lane back to half of what it has.
fn restore(world: &mut Inner) {
    for lane in world.lanes.values_mut() {
        let half = lane.token.as_ref().map_or(0, |token| token.tick / 2);
        if let Some(token) = &mut lane.token {
            token.tick = half;
        }
        lane.ticks.retain(|(tick, _)| *tick <= half);
    }
}

/// How a life of the process ended.
enum Life {
    Finished(Balance),
    Stopped,
    Killed,
    Failed(RunError),
}

/// Whether a life ended because the store failed it: the one failure that another life may make good. Whatever else a faulty store
/// brings about (a record taken for damaged, a fence, other rows) is an error of the job. A checkpoint that cannot be read is passed
/// over, so the job may find none: why, its error says in the words of the store.
fn is_fault(error: &RunError) -> bool {
    let of_storage = matches!(
        error,
        RunError::State(StateError::Storage { .. } | StateError::NoCheckpoint { .. })
            | RunError::Engine(EngineError::Journal(JournalError::Storage { .. }))
    );
    of_storage && error.to_string().contains(FAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_of_the_store_is_made_good_by_another_life() {
        let said = || format!("{FAULT}: it was not done");
        let stored = |reason: String| StateError::Storage { act: "write", what: "a record".into(), reason };
        assert!(is_fault(&RunError::State(stored(said()))));
        assert!(is_fault(&RunError::Engine(EngineError::Journal(stored(said()).into()))));
        let none = |reason| RunError::State(StateError::NoCheckpoint { job: "j".into(), reasons: vec![reason] });
        assert!(is_fault(&none(said())) && !is_fault(&none("it is missing".into())));
        let others = [
            RunError::State(stored("the store cannot create an object only if it is absent".into())),
            RunError::State(StateError::damaged("a record", said())),
            RunError::State(StateError::Fenced(said())),
            RunError::Engine(EngineError::Journal(JournalError::Fenced(said()))),
            RunError::Engine(EngineError::NotDeterministic { what: said(), tick: 1 }),
            RunError::Engine(EngineError::Internal(said())),
        ];
        others.iter().for_each(|error| assert!(!is_fault(error), "{error}"));
    }
}
