//! The row of a signal, and the ledger that numbers, revises and caps rows.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use crate::event::EventRef;
use crate::identity::{Id, identity};

/// Events that a row names as evidence: the first ones of the pattern.
pub const EVIDENCE_MAX: usize = 20;
/// Signals of one kind that a session may have.
pub const PER_KIND_MAX: u16 = 50;
/// Signals that a session may have.
pub const PER_SESSION_MAX: u16 = 200;

/// What is to be said of a signal beside its kind: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags(pub u16);

impl Flags {
    /// A click of the chain was dead.
    pub const DEAD: Flags = Flags(1);
    /// A click of the chain was slow.
    pub const SLOW: Flags = Flags(2);
    /// A click of the chain was followed by an error.
    pub const ERROR: Flags = Flags(4);
    /// Every click of the chain was answered in time, and none with an error.
    pub const RESPONSIVE: Flags = Flags(8);
    /// It goes like clockwork: a machine's doing, worth nothing.
    pub const METRONOMIC: Flags = Flags(16);
    /// It came right in the end: worth nothing.
    pub const RECOVERED: Flags = Flags(32);
    /// The swipe went to the left.
    pub const LEFT: Flags = Flags(64);
    /// The swipe went to the right.
    pub const RIGHT: Flags = Flags(128);
    /// The swipe went up.
    pub const UP: Flags = Flags(256);
    /// The swipe went down.
    pub const DOWN: Flags = Flags(512);

    const NAMES: [&'static str; 10] =
        ["dead", "slow", "error", "responsive", "metronomic", "recovered", "left", "right", "up", "down"];

    /// Returns whether `flag` is in here.
    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// Adds `flag`.
    pub fn set(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }

    /// Returns the names of those in here, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}

/// A signal as it is told. A row with a higher `rev` replaces that of the same `signal_id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The identity: of tenant, session, kind and the first event of the pattern.
    pub signal_id: Id,
    /// 0, then one more for each new wording.
    pub rev: u32,
    /// What it says.
    pub kind: SignalKind,
    /// Where it happened.
    pub page_key: String,
    /// On what; empty if on nothing in particular.
    pub target_fp: String,
    /// Through what (an error, an endpoint); empty if that is not known.
    pub cause_fp: String,
    /// The event time of the pattern's beginning, in ms.
    pub start: i64,
    /// The event time of its end, in ms.
    pub end: i64,
    /// How many of what the pattern is made of.
    pub count: u32,
    /// What else there is to say.
    pub flags: Flags,
    /// What it is worth, before repeats and important pages are taken into account.
    pub points: u32,
    /// Whether it may open an incident.
    pub hard: bool,
    /// The events it rests on, the first ones of the pattern, at most 20.
    pub evidence: Vec<EventRef>,
}

/// A signal in the making. Its first event is what it is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// What it says.
    pub kind: SignalKind,
    /// Where it happened.
    pub page_key: String,
    /// On what.
    pub target_fp: String,
    /// Through what.
    pub cause_fp: String,
    /// The event time of its beginning, in ms.
    pub start: i64,
    /// The event time of its end, in ms.
    pub end: i64,
    /// How many.
    pub count: u32,
    /// What else.
    pub flags: Flags,
    /// What it is worth.
    pub points: u32,
    /// Whether it may open an incident.
    pub hard: bool,
    /// Invariant: not empty, and the first stays the first.
    evidence: Vec<EventRef>,
    told: Told,
}

/// What became of a draft so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    Never,
    /// With this revision last.
    Rev(u32),
    /// It fell under a cap.
    Refused,
}

impl Draft {
    /// Begins a signal whose first event is `anchor`, at `time`.
    pub fn new(kind: SignalKind, page_key: &str, anchor: &EventRef, time: i64) -> Draft {
        Draft {
            kind,
            page_key: page_key.to_owned(),
            target_fp: String::new(),
            cause_fp: String::new(),
            start: time,
            end: time,
            count: 1,
            flags: Flags::default(),
            points: kind.points(),
            hard: kind.is_hard(),
            evidence: vec![anchor.clone()],
            told: Told::Never,
        }
    }

    /// Takes in a further event of the pattern, at `time`.
    pub fn add(&mut self, event: &EventRef, time: i64) {
        self.start = self.start.min(time);
        self.end = self.end.max(time);
        if self.evidence.len() < EVIDENCE_MAX && !self.evidence.contains(event) {
            self.evidence.push(event.clone());
        }
    }

    /// Takes in a further event, which counts.
    pub fn grow(&mut self, event: &EventRef, time: i64) {
        self.count = self.count.saturating_add(1);
        self.add(event, time);
    }

    /// Returns the first event of the pattern.
    pub fn anchor(&self) -> &EventRef {
        &self.evidence[0]
    }

    /// Returns whether it was told, or would have been but for a cap.
    pub fn is_told(&self) -> bool {
        self.told != Told::Never
    }
}

/// The end of a page view, told where it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEnd {
    /// The page.
    pub page_key: String,
    /// The event time at which it was left, in ms.
    pub time: i64,
    /// How often its scrolling turned, by the rule of `excessive_scroll`.
    pub reversals: u64,
}

/// The books of one session: whose it is, and how many signals it has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    tenant: String,
    session: String,
    /// By kind.
    told: Vec<u16>,
    total: u16,
    is_capped: bool,
    /// Taken away after each event, so there is nothing to write down.
    #[serde(skip)]
    page_ends: Vec<PageEnd>,
}

impl Ledger {
    /// Opens the books of a session.
    pub fn new(tenant: &str, session: &str) -> Ledger {
        let told = vec![0; SignalKind::ALL.len()];
        Ledger {
            tenant: tenant.to_owned(),
            session: session.to_owned(),
            told,
            total: 0,
            is_capped: false,
            page_ends: Vec::new(),
        }
    }

    /// Notes that a page view has ended.
    pub fn page_ended(&mut self, end: PageEnd) {
        self.page_ends.push(end);
    }

    /// Takes the page views away that have ended since this was asked last.
    pub fn take_page_ends(&mut self) -> Vec<PageEnd> {
        std::mem::take(&mut self.page_ends)
    }

    /// Tells a draft: as a new row, or as the next revision of one that was told before. At a cap the draft is refused for
    /// good, and the first time a marker is told in its stead.
    pub fn tell(&mut self, draft: &mut Draft, out: &mut Vec<Signal>) {
        let rev = match draft.told {
            Told::Refused => return,
            Told::Rev(rev) => rev.saturating_add(1),
            Told::Never => {
                let kind = draft.kind as usize;
                let of_kind = self.told.get(kind).copied().unwrap_or(PER_KIND_MAX);
                if of_kind >= PER_KIND_MAX || self.total >= PER_SESSION_MAX {
                    draft.told = Told::Refused;
                    self.mark(draft, out);
                    return;
                }
                self.told[kind] = of_kind + 1;
                self.total += 1;
                0
            }
        };
        draft.told = Told::Rev(rev);
        out.push(self.row(draft, rev));
    }

    /// Tells, once, that a signal was refused.
    fn mark(&mut self, refused: &Draft, out: &mut Vec<Signal>) {
        if !self.is_capped {
            self.is_capped = true;
            let anchor = &refused.evidence[0];
            let marker = Draft::new(SignalKind::Capped, &refused.page_key, anchor, refused.start);
            out.push(self.row(&marker, 0));
        }
    }

    fn row(&self, draft: &Draft, rev: u32) -> Signal {
        let anchor = &draft.evidence[0].id;
        Signal {
            signal_id: identity(&["sig/1", &self.tenant, &self.session, draft.kind.name(), anchor]),
            rev,
            kind: draft.kind,
            page_key: draft.page_key.clone(),
            target_fp: draft.target_fp.clone(),
            cause_fp: draft.cause_fp.clone(),
            start: draft.start,
            end: draft.end,
            count: draft.count,
            flags: draft.flags,
            points: draft.points,
            hard: draft.hard,
            evidence: draft.evidence.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> EventRef {
        EventRef { id: format!("e{number}"), ..EventRef::default() }
    }

    fn draft(kind: SignalKind, number: usize) -> Draft {
        Draft::new(kind, "/", &event(number), number as i64)
    }

    #[test]
    fn a_draft_told_again_is_revised() {
        let mut ledger = Ledger::new("t1", "s1");
        let (mut out, mut rage) = (Vec::new(), draft(SignalKind::RageClick, 1));
        ledger.tell(&mut rage, &mut out);
        rage.grow(&event(2), 2);
        ledger.tell(&mut rage, &mut out);
        assert_eq!(out.iter().map(|row| (row.rev, row.count)).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
        assert_eq!(out[0].signal_id, out[1].signal_id);
        assert_eq!(out[0].signal_id, identity(&["sig/1", "t1", "s1", "rage_click", "e1"]));
    }

    #[test]
    fn the_51st_of_a_kind_is_marked_once() {
        let mut ledger = Ledger::new("t1", "s1");
        let mut out = Vec::new();
        let mut last = draft(SignalKind::DeadClick, 0);
        for number in 0..60 {
            last = draft(SignalKind::DeadClick, number);
            ledger.tell(&mut last, &mut out);
        }
        ledger.tell(&mut last, &mut out);
        assert_eq!(out.len(), 51);
        assert_eq!((out[50].kind, out[50].points, &out[50].evidence), (SignalKind::Capped, 0, &vec![event(50)]));
        ledger.tell(&mut draft(SignalKind::Jank, 99), &mut out);
        assert_eq!(out.len(), 52, "another kind is still told");
    }

    #[test]
    fn the_201st_of_a_session_is_refused() {
        let mut ledger = Ledger::new("t1", "s1");
        let mut out = Vec::new();
        for number in 0..500 {
            ledger.tell(&mut draft(SignalKind::ALL[number % 10], number), &mut out);
        }
        assert_eq!(out.iter().filter(|row| row.kind != SignalKind::Capped).count(), 200);
        assert_eq!(out.len(), 201);
    }

    #[test]
    fn what_was_told_can_be_revised_at_the_cap() {
        let mut ledger = Ledger::new("t1", "s1");
        let (mut out, mut first) = (Vec::new(), draft(SignalKind::Jank, 0));
        ledger.tell(&mut first, &mut out);
        for number in 1..60 {
            ledger.tell(&mut draft(SignalKind::Jank, number), &mut out);
        }
        ledger.tell(&mut first, &mut out);
        assert_eq!(out.last().map(|row| row.rev), Some(1));
    }

    #[test]
    fn evidence_is_bounded_and_names_no_event_twice() {
        let mut draft = draft(SignalKind::RageClick, 0);
        for number in 0..100 {
            draft.grow(&event(number / 2), number as i64);
        }
        assert_eq!((draft.evidence.len(), draft.count, draft.end), (EVIDENCE_MAX, 101, 99));
    }

    #[test]
    fn flags_have_names() {
        let mut flags = Flags::DEAD;
        flags.set(Flags::RESPONSIVE);
        flags.set(Flags::DOWN);
        assert_eq!(flags.names().collect::<Vec<_>>(), ["dead", "responsive", "down"]);
        assert!(flags.has(Flags::DEAD) && !flags.has(Flags::SLOW));
    }
}
