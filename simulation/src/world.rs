//! Everything that outlives a crash, and the fuse that says where the next one is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use riverrun_dataflow::engine::Control;
use riverrun_dataflow::journal::JournalEntry;
use riverrun_dataflow::sink::Token;
use riverrun_dataflow::source::SplitId;
use riverrun_dataflow::tick::Tick;

/// A small generator: the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Returns the generator of `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Returns a number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % sides.max(1)
    }

    /// Returns true once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The rows of a lane and tick as they were committed: event time and bytes of each.
pub type LaneTick = (Tick, Vec<(i64, Vec<u8>)>);

/// A lane in the outside system.
#[derive(Clone, Debug, Default)]
pub struct LaneState {
    /// The newest generation that opened it.
    pub fence: u64,
    /// Its token.
    pub token: Option<Token>,
    /// Its rows.
    pub ticks: Vec<LaneTick>,
    /// What a lane that lies about its commits still holds.
    pub held: Option<(Token, Vec<LaneTick>)>,
}

/// Where the next crash is, counted in outside acts.
#[derive(Clone, Copy, Debug)]
pub struct Fuse {
    /// Acts until then.
    pub acts: u64,
    /// The act that burns it down still happens.
    pub after: bool,
}

/// The process was killed: nothing it does has any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// What the world keeps.
pub struct Inner {
    /// Draws everything that is left to chance.
    pub dice: Dice,
    /// The process was killed.
    pub dead: bool,
    /// The control of the running job.
    pub control: Option<Arc<Control>>,
    /// The next crash.
    pub fuse: Option<Fuse>,
    dying: bool,
    /// Microseconds since the world began.
    pub time: u64,
    /// How far the wall clock is off, in microseconds.
    pub skew: i64,
    /// The lanes, by sink and number.
    pub lanes: BTreeMap<(String, u32), LaneState>,
    /// All ticks that were ever journalled.
    pub journal: BTreeMap<Tick, JournalEntry>,
    /// The clock when the input was resolved.
    pub begun: i64,
    /// The source and the name of each split, by number.
    pub splits: BTreeMap<SplitId, (String, String)>,
    /// How far each split was read in ticks that are final. What was read beyond that and forgotten by a crash was promised to nobody.
    pub read: BTreeMap<(String, String), u64>,
    /// Objects that were promised and are not there yet.
    pub delayed: Vec<(String, Vec<u8>)>,
    /// The hashes of records as a process wrote them, and as a mutant made them.
    pub forged: BTreeMap<u64, u64>,
    /// Crashes so far.
    pub crashes: u64,
    /// Ticks that were repeated after restarts.
    pub repeated: u64,
    /// What should never be, as soon as it is seen.
    pub wrong: Option<String>,
    trace: u64,
    events: Option<Vec<String>>,
}

/// The world. Only one thread of a run acts in it at a time; the lock is for the compiler.
pub struct World(Mutex<Inner>);

impl World {
    /// Returns the world of a seed; `telling`: with all events in words.
    pub fn new(seed: u64, telling: bool) -> Arc<World> {
        Arc::new(World(Mutex::new(Inner {
            dice: Dice::new(mix(seed)),
            dead: false,
            control: None,
            fuse: None,
            dying: false,
            time: 0,
            skew: 0,
            lanes: BTreeMap::new(),
            journal: BTreeMap::new(),
            begun: i64::MIN,
            splits: BTreeMap::new(),
            read: BTreeMap::new(),
            delayed: Vec::new(),
            forged: BTreeMap::new(),
            crashes: 0,
            repeated: 0,
            wrong: None,
            trace: seed,
            events: telling.then(Vec::new),
        })))
    }

    /// Looks into the world.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no one panics while holding the world")
    }

    /// An outside act is about to happen.
    pub fn begin(&self, what: &str, number: u64) -> Result<(), Killed> {
        let mut inner = self.lock();
        if inner.dead {
            return Err(Killed);
        }
        inner.event(what, number);
        let Some(fuse) = &mut inner.fuse else { return Ok(()) };
        fuse.acts = fuse.acts.saturating_sub(1);
        if fuse.acts > 0 {
            return Ok(());
        }
        inner.dying = fuse.after;
        if inner.dying { Ok(()) } else { Err(inner.kill()) }
    }

    /// An outside act has happened.
    pub fn end(&self) -> Result<(), Killed> {
        let mut inner = self.lock();
        match (inner.dead, inner.dying) {
            (true, _) => Err(Killed),
            (false, true) => Err(inner.kill()),
            (false, false) => Ok(()),
        }
    }

    /// Begins a new life of the process.
    pub fn revive(&self, control: Arc<Control>, fuse: Option<Fuse>) {
        let mut inner = self.lock();
        (inner.dead, inner.dying, inner.control, inner.fuse) = (false, false, Some(control), fuse);
        inner.delayed.clear();
        inner.lanes.values_mut().for_each(|lane| lane.held = None);
    }
}

impl Inner {
    fn kill(&mut self) -> Killed {
        self.event("killed", self.crashes);
        (self.dead, self.dying, self.fuse) = (true, false, None);
        self.crashes += 1;
        if let Some(control) = &self.control {
            control.abort("killed by the simulator");
        }
        Killed
    }

    /// Lets the process be killed between two acts, if its time has come.
    pub fn kill_now(&mut self) {
        if !self.dead {
            self.kill();
        }
    }

    /// Notes an event.
    pub fn event(&mut self, what: &str, number: u64) {
        let word = xxhash_rust::xxh3::xxh3_64_with_seed(what.as_bytes(), number);
        self.trace = mix(self.trace.rotate_left(7) ^ word);
        if let Some(events) = &mut self.events {
            events.push(format!("{:>9} us  {what} {number}", self.time));
        }
    }

    /// Returns a digest of all events so far.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Returns all events in words, if they were kept.
    pub fn events(&self) -> &[String] {
        self.events.as_deref().unwrap_or_default()
    }

    /// The log lost what a tick was: it may be cut anew, unless a lane has rows of it. That the oracle finds out.
    pub fn forget(&mut self, ticks: &[JournalEntry]) {
        ticks.iter().for_each(|entry| drop(self.journal.remove(&entry.record.tick)));
    }

    /// Notes what should never be.
    pub fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }
}
