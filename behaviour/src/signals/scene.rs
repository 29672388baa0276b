//! What the machines of a tab are shown, and through what they speak.

use serde::{Deserialize, Serialize};

use super::row::{Draft, Ledger, Signal};
use super::settings::Settings;
use super::{SignalKind, rage_click::mark};
use crate::event::payload::{Answer, Caps, Leave, Payload, Tags};
use crate::event::{Event, EventRef};

/// The page that a tab shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The template of its route; empty if unknown.
    pub key: String,
    /// The page load; empty if unknown.
    pub load: String,
    /// How many page loads the tab has had before this one.
    pub load_number: u64,
    /// Since when it is shown, in µs of the tab's time.
    pub since_us: i64,
    /// What its script can observe.
    pub caps: Caps,
    /// What kind of page it is.
    pub tags: Tags,
    /// Whether it was left.
    pub is_left: bool,
}

impl Default for Page {
    /// The page of a tab that has shown none yet: nothing can be observed on it.
    fn default() -> Self {
        Page {
            key: String::new(),
            load: String::new(),
            load_number: 0,
            since_us: i64::MIN,
            caps: Caps::default(),
            tags: Tags::default(),
            is_left: false,
        }
    }
}

/// An event at its place in the tab's time.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The event.
    pub event: &'a Event,
    /// The tab's time of it, in µs; never less than that of the event before.
    pub at_us: i64,
}

impl Seen<'_> {
    /// Which event it is.
    pub fn this(&self) -> &EventRef {
        &self.event.this
    }

    /// Its event time, in ms.
    pub fn time(&self) -> i64 {
        self.event.time
    }

    /// What it may answer, and when that happened: a request counts from its start.
    pub fn answer(&self) -> Option<(Answer, i64)> {
        match &self.event.payload {
            Payload::Reaction(answer) => Some((*answer, self.at_us)),
            Payload::Input | Payload::FormChange(_) => Some((Answer::Input, self.at_us)),
            Payload::Scroll(_) => Some((Answer::Scroll, self.at_us)),
            Payload::Request(request) if !request.denied_host => {
                let lasted = if request.status.is_some() { request.duration_ms.max(0) } else { 0 };
                Some((Answer::Net, self.at_us.saturating_sub(lasted.saturating_mul(1000))))
            }
            _ => None,
        }
    }
}

/// When something happened that is no event of its own, such as the leaving of a page.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The tab's time of it, in µs.
    pub at_us: i64,
    /// Its event time, in ms.
    pub time: i64,
    /// How the page is left.
    pub how: Leave,
}

/// The stage on which an event happens.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The numbers behind the rules.
    pub settings: &'a Settings,
    /// The page that is shown.
    pub page: &'a Page,
}

/// What one rule tells another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// An attempt to get on failed, at this time (µs).
    Attempt {
        /// When, in µs of the tab's time.
        at_us: i64,
        /// Its event time, in ms.
        time: i64,
        /// The event.
        this: EventRef,
    },
    /// A hard signal was told for the first time.
    Hard,
}

/// Through what the machines speak.
#[derive(Debug)]
pub struct Emit<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) out: &'a mut Vec<Signal>,
    pub(crate) notes: Vec<Note>,
    pub(crate) successes: &'a mut Vec<String>,
}

impl Emit<'_> {
    /// Tells a draft, anew or again, if signals of its kind are wanted.
    pub fn tell(&mut self, draft: &mut Draft) {
        if !self.wants(draft.kind) {
            return;
        }
        if draft.hard && !draft.is_told() {
            self.notes.push(Note::Hard);
        }
        self.ledger.tell(draft, self.out);
    }

    /// Returns whether signals of `kind` are wanted.
    pub fn wants(&self, kind: SignalKind) -> bool {
        self.settings.enabled.has(kind)
    }

    /// Notes a failed attempt.
    pub fn attempt(&mut self, at_us: i64, time: i64, this: &EventRef) {
        self.notes.push(Note::Attempt { at_us, time, this: this.clone() });
    }
}

/// A rule as a machine over the events of one tab.
pub trait Machine: Default + PartialEq {
    /// The kinds of signals that it may tell. A machine of which none is wanted is shown nothing.
    fn kinds() -> &'static [SignalKind];

    /// Says whether such an event concerns a machine that is as it was in the beginning. Any other leaves it so, and makes it say
    /// nothing; and so do the other calls.
    fn wakes(payload: &Payload) -> bool;

    /// Takes in an event.
    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>);

    /// Returns the earliest time (µs) that the machine waits for: it has passed once a later one has come.
    fn due_us(&self, _settings: &Settings) -> Option<i64> {
        None
    }

    /// Does what is due before `now_us`. Afterwards nothing is due before that.
    fn fire(&mut self, _now_us: i64, _scene: &Scene<'_>, _emit: &mut Emit<'_>) {}

    /// The page is left; `scene` still shows it.
    fn leave(&mut self, _moment: &Moment, _scene: &Scene<'_>, _emit: &mut Emit<'_>) {}

    /// The session is over; every page was left.
    fn close(&mut self, _scene: &Scene<'_>, _emit: &mut Emit<'_>) {}
}

/// The last times at which something happened, oldest first; bounded by its capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    steps: Vec<Step>,
}

/// One time at which something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in µs of the tab's time.
    pub at_us: i64,
    /// Its event time, in ms.
    pub time: i64,
    /// The event.
    pub this: EventRef,
    /// A number that the rule gives it.
    pub value: i64,
}

/// Times that a run keeps at most.
pub const RUN_MAX: usize = 16;

impl Run {
    /// Adds a time after all earlier ones, and forgets the oldest beyond `keep`.
    pub fn push(&mut self, keep: usize, step: Step) {
        let keep = keep.clamp(1, RUN_MAX);
        while self.steps.len() >= keep {
            self.steps.remove(0);
        }
        let at = self.steps.partition_point(|other| other.at_us <= step.at_us);
        self.steps.insert(at, step);
    }

    /// Returns the steps, oldest first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns how long the last `count` steps took, in µs, if there are so many.
    pub fn span_us(&self, count: usize) -> Option<i64> {
        let first = self.steps.len().checked_sub(count.max(1))?;
        Some(self.steps.last()?.at_us.saturating_sub(self.steps[first].at_us))
    }

    /// Forgets the steps with this number.
    pub fn forget(&mut self, value: i64) {
        self.steps.retain(|step| step.value != value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.steps.clear();
    }

    /// Makes a draft of the last `count` steps.
    pub fn draft(&self, kind: SignalKind, page_key: &str, count: usize) -> Option<Draft> {
        let steps = &self.steps[self.steps.len().checked_sub(count)?..];
        let (first, rest) = steps.split_first()?;
        let mut draft = Draft::new(kind, page_key, &first.this, first.time);
        rest.iter().for_each(|step| draft.grow(&step.this, step.time));
        Some(draft)
    }
}

impl Seen<'_> {
    /// Makes a step of the event.
    pub fn step(&self, value: i64) -> Step {
        Step { at_us: self.at_us, time: self.time(), this: self.this().clone(), value }
    }
}

/// A number that stands for a name in state that should stay small.
pub fn name_mark(name: &str) -> u64 {
    mark(name)
}
