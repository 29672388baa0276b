//! What the processes of a mesh tell each other while the job runs.
//!
//! Within a process workers share [`Control`]; between processes each tells where it stands, and takes over what the others say:
//!
//! | what | who says it | what the others do |
//! |---|---|---|
//! | the newest tick opened | all, passed on by process 0 | close theirs, and follow |
//! | the wish to stop: no tick beyond *held* will be opened | all, passed on by process 0 | wish the same |
//! | the last tick: the greatest *held*, or one more if it is the end of all input | process 0, once all hold | open all ticks up to it |
//! | all workers have opened their last tick | all | process 0 ends the job when all have, and the lanes cover it |
//! | the log is behind; lanes are to commit up to a tick; the newest complete tick | process 0 | as if it were their own |
//! | the job has ended well | process 0 | end |
//! | what was decoded and done, and what is waited for outside | all | progress, watchdog |
//! | what the meter shows, once a second | all but process 0 | process 0 adds it to its own |
//!
//! Process 0 stands in the middle: news goes to it at once, and from it to all at once. The others hear of each other through it, and
//! from each other once a beat; so a tick takes words in proportion to the number of processes, not to its square.
//!
//! All of it only grows, or its last word counts; so what is lost or comes late is made good by the next word. A checkpoint that was
//! published is told by letter: it must not be missed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::control::Last;
use super::meter::Readings;
use super::{Control, EngineError, Observer};
use crate::journal::{StateFile, StateStore};
use crate::mesh::{Heard, Mesh, MeshError, Voice, now};
use crate::tick::Tick;

/// How often the readings of a process are told.
const READINGS_EVERY: Duration = Duration::from_secs(1);

/// Where a process stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Standing {
    /// Its workers have opened their last tick, and wait for the end. Read before `opened`, which then does not change any more.
    quiet: bool,
    /// The newest tick that any of its workers has opened; of process 0, that anybody has.
    opened: Tick,
    /// It wishes to stop: it opens no tick beyond this one until it knows the last.
    held: Option<Tick>,
    /// It wishes the stop to be the end of all input.
    #[serde(default)]
    drains: bool,
    /// The job has ended well.
    finished: bool,
    /// Records decoded.
    decoded: u64,
    /// What gets on here, for the watchdogs.
    doing: Doing,
    /// What process 0 says for all.
    lead: Option<Lead>,
    /// What the meter of this process shows, now and then, for process 0.
    readings: Option<Readings>,
}

/// What gets on in a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Doing {
    /// Pieces of work done, and acts on the outside that ended.
    pub done: u64,
    /// What is under way outside, in words, and for how many seconds.
    pub outside: Vec<(String, f64)>,
}

/// What process 0 decides for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lead {
    behind: bool,
    /// The stop is only for a start that follows at once.
    again: bool,
    until: Option<Last>,
    wanted: Option<Tick>,
    complete: Tick,
}

/// What is said once.
#[derive(Debug, Serialize, Deserialize)]
enum Letter {
    /// A checkpoint is published, with these files of all processes.
    Published { tick: Tick, files: Vec<StateFile> },
}

/// Why a process fails, for the others.
pub struct Failure {
    /// The process whose failure it is, if it is another one's.
    first: Option<usize>,
    reason: String,
}

impl Failure {
    /// Returns what is to be said of `error`.
    pub fn of(error: &EngineError) -> Failure {
        match error {
            EngineError::Mesh(MeshError::Lost { process, reason }) => {
                Failure { first: Some(*process), reason: reason.clone() }
            }
            other => Failure { first: None, reason: other.to_string() },
        }
    }
}

/// The part of [`Control`] that reaches beyond this process.
pub struct Crossing {
    mesh: Arc<Mesh>,
    /// The newest tick that a worker of this process has opened; of process 0, that anybody has.
    opened: AtomicU64,
    /// The newest complete tick, as the ledger of this process says.
    complete: AtomicU64,
    held: OnceLock<Tick>,
    /// By process.
    others: Mutex<Vec<Standing>>,
    /// When readings were told last.
    told: Mutex<Option<Instant>>,
}

impl Crossing {
    /// Returns the crossing of a job that stands at `tick`.
    pub fn new(mesh: Arc<Mesh>, tick: Tick) -> Crossing {
        let others = Mutex::new(vec![Standing::default(); mesh.place().processes]);
        let (opened, complete) = (AtomicU64::new(tick), AtomicU64::new(tick));
        Crossing { mesh, opened, complete, held: OnceLock::new(), others, told: Mutex::default() }
    }

    /// Returns whether it is time to tell the process `to` what the meter shows.
    fn readings_are_due(&self, to: usize) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = to == 0 && told.is_none_or(|told| now().saturating_duration_since(told) >= READINGS_EVERY);
        if due {
            *told = Some(now());
        }
        due
    }

    fn leads(&self) -> bool {
        self.mesh.place().process == 0
    }

    fn others(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker of this process has opened a tick.
    pub fn opened(&self, tick: Tick) {
        if self.opened.fetch_max(tick, Ordering::SeqCst) < tick {
            self.nudge();
        }
    }

    /// There is something to tell: to all by process 0, to process 0 by all others.
    pub fn nudge(&self) {
        match self.leads() {
            true => self.mesh.nudge(),
            false => self.mesh.nudge_one(0),
        }
    }

    /// A tick is complete.
    pub fn complete(&self, tick: Tick) {
        self.complete.store(tick, Ordering::SeqCst);
        self.nudge();
    }

    /// This process wishes to stop. `ahead`, read after the wish was noted: a worker that has not seen the wish yet is about to open
    /// a tick that is one beyond it at most.
    pub fn hold(&self, ahead: Tick) {
        self.held.get_or_init(|| ahead + 1);
        self.nudge();
    }

    /// Returns the greatest tick that any process may have opened, if this one decides on the last tick and all hold.
    pub fn all_held(&self) -> Option<Tick> {
        let own = self.held.get().copied().filter(|_| self.leads())?;
        let others = self.others();
        self.mesh.others().try_fold(own, |last, process| others[process].held.map(|held| last.max(held)))
    }

    /// Returns whether all other processes have opened their last tick.
    pub fn all_quiet(&self) -> bool {
        let others = self.others();
        self.mesh.others().all(|process| others[process].quiet)
    }

    /// Tells the other processes that a checkpoint is published.
    pub fn published(&self, tick: Tick, files: &[StateFile]) {
        let letter = Letter::Published { tick, files: files.to_vec() };
        self.mesh.others().for_each(|process| self.mesh.say(process, &letter));
    }

    /// Tells the other processes why this one fails.
    pub fn failed(&self, failure: &Failure) {
        let first = failure.first.unwrap_or(self.mesh.place().process);
        self.mesh.fail(first, &failure.reason);
    }
}

/// Speaks for a process of a running job.
pub struct Speaker {
    pub control: Arc<Control>,
    pub crossing: Arc<Crossing>,
    pub observer: Arc<Observer>,
    pub state: Arc<dyn StateStore>,
}

impl Voice for Speaker {
    fn word(&self, to: usize) -> Vec<u8> {
        let (control, crossing) = (&self.control, &self.crossing);
        // Read first: whoever hears of the end has heard all else that was said before it.
        let finished = control.finished();
        let lead = crossing.leads().then(|| Lead {
            behind: control.is_behind(),
            again: control.goes_on(),
            until: control.until(),
            wanted: control.wanted(),
            complete: crossing.complete.load(Ordering::SeqCst),
        });
        let standing = Standing {
            quiet: control.is_quiet(crossing.mesh.place().workers),
            opened: crossing.opened.load(Ordering::SeqCst),
            held: crossing.held.get().copied(),
            drains: control.wishes_to_drain(),
            finished,
            decoded: self.observer.decoded_here(),
            doing: self.observer.doing(),
            lead,
            readings: crossing.readings_are_due(to).then(|| self.observer.readings_here()).flatten(),
        };
        serde_json::to_vec(&standing).expect("it is plain data")
    }

    fn hear(&self, from: usize, heard: Heard) {
        let heard = match heard {
            Heard::Word(word) => serde_json::from_slice(&word).map(|standing| self.take_over(from, standing)),
            Heard::Letter(letter) => serde_json::from_slice(&letter).map(|letter| self.read(letter)),
            Heard::Lost(error) => {
                self.control.fail(EngineError::Mesh(error.clone()));
                return self.crossing.mesh.lost(&error);
            }
        };
        if let Err(error) = heard {
            let error = MeshError::Unreadable { process: from, reason: error.to_string() };
            self.control.fail(EngineError::Mesh(error.clone()));
            self.crossing.mesh.lost(&error);
        }
    }
}

impl Speaker {
    fn read(&self, letter: Letter) {
        let Letter::Published { tick, files } = letter;
        self.state.published(tick, &files);
    }

    /// Takes over where the process `from` stands.
    fn take_over(&self, from: usize, mut standing: Standing) {
        if let Some(readings) = standing.readings.take() {
            self.observer.hear_readings(from, readings);
        }
        let (control, crossing) = (&self.control, &self.crossing);
        let (opened, quiet, finished) = (standing.opened, standing.quiet, standing.finished);
        let (stops, drains) = (standing.held.is_some(), standing.drains);
        let lead = standing.lead.clone().filter(|_| from == 0);
        {
            let mut others = crossing.others();
            others[from] = standing;
            let decoded = others.iter().map(|other| other.decoded).sum();
            let doing = others.iter().map(|other| &other.doing);
            self.observer.hear_of_others(decoded, doing);
        }
        control.follow(opened);
        if crossing.leads() {
            crossing.opened(opened);
        }
        if drains {
            control.hear_that_it_drains();
        }
        if stops && !control.stopping() {
            control.begin_to_stop();
        }
        control.decide_on_the_last();
        if quiet {
            control.answered();
        }
        if let Some(Lead { behind, again, until, wanted, complete }) = lead {
            control.hear_whether_it_goes_on(again);
            control.log_is_behind(behind);
            until.into_iter().for_each(|last| control.end_at(last));
            wanted.into_iter().for_each(|tick| control.want(tick));
            self.observer.hear_of_complete(complete);
        }
        if finished && !control.finished() {
            control.finish();
        }
    }
}
