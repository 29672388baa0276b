//! Cases: the incidents of one session.
//!
//! The first signal makes a candidate; when its points are enough, the incident opens, and further signals join it; it closes
//! with the session. By default a session has one incident. A candidate that never opened is dropped when the session closes.
//!
//! Signals may be pushed in any order of arrival, and again with a higher `rev`. [`Case::publish`] judges all of them anew: a
//! session has at most [`SIGNALS_MAX`]. An incident is named by its first signal at the time of the first publication, and keeps
//! its name; what is told is the whole row each time, with `rev` + 1. Once open it stays open, whatever its signals turn into.
//! If two sessions become one, [`Case::absorb`] joins their cases: the incident with the earlier first signal keeps its name, the
//! other is told as merged into it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::points::{Assessment, Group, Scoring, Severity, assess, fingerprint};
use crate::identity::{Id, identity};
use crate::signals::{Signal, SignalKind};

/// The most signals of a session; those that arrive beyond it are not looked at, and counted.
pub const SIGNALS_MAX: usize = 400;
/// The most releases that a case names; of more the least are kept.
pub const RELEASES_MAX: usize = 8;

/// How the signals of a session make incidents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of a session are one.
    #[default]
    Session,
    /// A new one begins after some quiet, or when the one before has some age.
    Gap {
        /// More than this without a signal.
        quiet_ms: i64,
        /// More than this since its first signal.
        age_ms: i64,
    },
}

/// What the job's author chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What signals are worth.
    pub scoring: Scoring,
    /// How signals make incidents.
    pub scope: Scope,
    /// Changes are told at most once in this time, by the job's clock; by default 30 s. Opening and closing are told at once.
    pub coalesce_ms: i64,
    /// How many signals a row names: the first ones; by default 50.
    pub named_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { scoring: Scoring::default(), scope: Scope::Session, coalesce_ms: 30_000, named_max: 50 }
    }
}

/// Whose session it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// Id of the session.
    pub session: &'a str,
}

/// How far an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its session goes on.
    Open,
    /// Its session has ended, or a later incident of it has begun.
    Closed,
    /// It is part of another.
    Merged,
}

/// What became of the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing that is known.
    None,
    /// They got where they wanted.
    Recovered,
    /// It was no person: the incident is nobody's.
    Bot,
}

/// The row of an incident. A row with a higher `rev` replaces that of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentRow {
    /// Its identity.
    pub incident_id: Id,
    /// How often it was told before.
    pub rev: u32,
    /// How far it is.
    pub state: State,
    /// Its session.
    pub session: String,
    /// The person, hashed.
    pub person: Option<Id>,
    /// How bad it is.
    pub severity: Severity,
    /// The most points within five minutes.
    pub peak: u32,
    /// All points.
    pub total: u32,
    /// How many signals of each kind.
    pub kinds: BTreeMap<SignalKind, u32>,
    /// Its first signals.
    pub signals: Vec<Id>,
    /// The kind of the signal that counts most.
    pub primary: SignalKind,
    /// That signal.
    pub primary_signal: Id,
    /// Where that one happened.
    pub page_key: String,
    /// What that one is about.
    pub group: Group,
    /// The same across sessions; it may change until the incident is closed.
    pub fingerprint: Id,
    /// Releases that were seen.
    pub releases: BTreeSet<String>,
    /// Beginning of the first signal.
    pub first: i64,
    /// End of the last signal.
    pub last: i64,
    /// When it was bad enough.
    pub opened_at: i64,
    /// What became of the person.
    pub outcome: Outcome,
    /// When they got where they wanted.
    pub recovered_at: Option<i64>,
    /// The incident that it is part of.
    pub merged_into: Option<Id>,
}

/// What is told of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It opened.
    Opened(IncidentRow),
    /// Something about it changed.
    Updated(IncidentRow),
    /// It closed with its session.
    Closed(IncidentRow),
}

impl State {
    /// All of them.
    pub const ALL: [State; 3] = [State::Open, State::Closed, State::Merged];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Closed => "closed",
            State::Merged => "merged",
        }
    }
}

impl Outcome {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::None => "none",
            Outcome::Recovered => "recovered",
            Outcome::Bot => "bot",
        }
    }
}

impl Told {
    /// Returns what happened.
    pub fn name(&self) -> &'static str {
        match self {
            Told::Opened(_) => "opened",
            Told::Updated(_) => "updated",
            Told::Closed(_) => "closed",
        }
    }

    /// Returns the row.
    pub fn row(&self) -> &IncidentRow {
        match self {
            Told::Opened(row) | Told::Updated(row) | Told::Closed(row) => row,
        }
    }
}

/// An incident that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    incident_id: Id,
    /// The signal that it is named by.
    anchor: Id,
    /// When it was bad enough; kept once it was told.
    opened_at: Option<i64>,
    /// The row that was told last.
    told: Option<IncidentRow>,
    /// When that was, by the job's clock.
    told_at: i64,
}

/// The incidents of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// In their order.
    signals: Vec<Signal>,
    /// In the order of their anchors.
    named: Vec<Named>,
    person: Option<Id>,
    releases: BTreeSet<String>,
    recovered_at: Option<i64>,
    is_closed: bool,
    /// A program made the session.
    #[serde(default)]
    is_bot: bool,
    is_stale: bool,
    /// Until when a change is held back for the sake of coalescing.
    #[serde(default)]
    held_until: Option<i64>,
    /// How many signals came beyond the bound.
    dropped: u64,
}

impl Case {
    /// Takes in a signal, or a new wording of one.
    pub fn push(&mut self, signal: Signal) {
        if signal.kind == SignalKind::Capped {
            return;
        }
        if let Some(at) = self.signals.iter().position(|other| other.signal_id == signal.signal_id) {
            if self.signals[at].rev >= signal.rev {
                return;
            }
            self.signals.remove(at);
        } else if self.signals.len() >= SIGNALS_MAX {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let at = self.signals.partition_point(|other| other.order() < signal.order());
        self.signals.insert(at, signal);
        self.is_stale = true;
    }

    /// Takes in who the person is and which release they use, as far as that is known.
    pub fn describe(&mut self, person: Option<Id>, release: Option<&str>) {
        if person.is_some() && self.person != person {
            self.person = person;
            self.is_stale = true;
        }
        if let Some(release) = release.filter(|release| !release.is_empty() && !self.releases.contains(*release)) {
            self.releases.insert(release.to_owned());
            let is_too_many = self.releases.len() > RELEASES_MAX;
            let dropped = if is_too_many { self.releases.pop_last() } else { None };
            self.is_stale |= dropped.as_deref() != Some(release);
        }
    }

    /// Takes in that the person reached a goal at `time`; the first time counts. The incident stays open.
    pub fn recover(&mut self, time: i64) {
        if self.recovered_at.is_none_or(|before| time < before) {
            self.recovered_at = Some(time);
            self.is_stale = true;
        }
    }

    /// Takes in that the session has ended. Signals of the ending itself are pushed before.
    pub fn close(&mut self) {
        self.is_stale |= !self.is_closed;
        self.is_closed = true;
    }

    /// Takes in that a program made the session: what was told of it is closed, and what was not is never told.
    pub fn disown(&mut self) {
        self.close();
        self.is_stale |= !self.is_bot;
        self.is_bot = true;
    }

    /// Takes in the case of a session that became part of this one.
    pub fn absorb(&mut self, other: Case) {
        for signal in other.signals {
            self.push(signal);
        }
        self.describe(other.person.filter(|_| self.person.is_none()), None);
        other.releases.iter().for_each(|release| self.describe(None, Some(release)));
        if let Some(time) = other.recovered_at {
            self.recover(time);
        }
        self.is_closed &= other.is_closed;
        self.is_bot |= other.is_bot;
        self.named.extend(other.named);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.is_stale = true;
    }

    /// Returns how many signals came beyond [`SIGNALS_MAX`].
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns when a change that is held back is to be told, if there is one.
    pub fn due(&self) -> Option<i64> {
        self.held_until
    }

    /// Returns a signal.
    pub fn signal(&self, id: Id) -> Option<&Signal> {
        self.signals.iter().find(|signal| signal.signal_id == id)
    }

    /// Says whether there are signals of which none has opened an incident so far: at the end of the session such a candidate is
    /// counted, and dropped.
    pub fn is_candidate(&self) -> bool {
        !self.signals.is_empty() && self.named.iter().all(|named| named.told.is_none())
    }

    /// Judges the signals and tells what changed; `now` is the job's clock.
    ///
    /// A change that is held back for the sake of coalescing is told by a later call.
    pub fn publish(&mut self, settings: &Settings, owner: Owner<'_>, now: i64, out: &mut Vec<Told>) {
        if !self.is_stale {
            return;
        }
        (self.is_stale, self.held_until) = (false, None);
        let signals = std::mem::take(&mut self.signals);
        let mut before = self.in_order(&signals).into_iter().peekable();
        let segments = segments(settings.scope, &signals);
        let count = segments.len();
        for (nth, members) in segments.into_iter().enumerate() {
            let state = if self.is_closed || nth + 1 < count { State::Closed } else { State::Open };
            let is_inside = |named: &Named| members.iter().any(|signal| signal.signal_id == named.anchor);
            let mut kept = before.next_if(is_inside).unwrap_or_else(|| Named::new(owner, members[0].signal_id));
            let Some(found) = assess(&settings.scoring, &members) else { continue };
            // An incident stays open that was told to be, or became so before it was joined to an earlier one.
            let mut merged = Vec::new();
            while let Some(other) = before.next_if(is_inside) {
                kept.opened_at = kept.opened_at.or(other.opened_at);
                merged.push(other);
            }
            kept.opened_at = found.opened_at.or(kept.opened_at);
            for other in merged {
                out.extend(other.merge_into(kept.incident_id));
            }
            let row = kept
                .opened_at
                .filter(|_| !self.is_bot || kept.told.is_some())
                .map(|opened_at| IncidentRow { state, ..self.row(settings, owner, &members, &found, opened_at) });
            if let Some(row) = row
                && kept.tell(row, settings.coalesce_ms, now, out)
            {
                let until = kept.told_at.saturating_add(settings.coalesce_ms);
                self.is_stale = true;
                self.held_until = Some(self.held_until.map_or(until, |other| other.min(until)));
            }
            self.named.push(kept);
        }
        self.signals = signals;
    }

    /// Takes the named incidents out, by the places of their anchors.
    fn in_order(&mut self, signals: &[Signal]) -> Vec<Named> {
        let place = |named: &Named| signals.iter().position(|signal| signal.signal_id == named.anchor);
        let mut named = std::mem::take(&mut self.named);
        named.sort_by_cached_key(place);
        named
    }

    fn row(
        &self,
        settings: &Settings,
        owner: Owner<'_>,
        members: &[&Signal],
        found: &Assessment,
        opened_at: i64,
    ) -> IncidentRow {
        let primary = members[found.primary];
        let named = members.iter().take(settings.named_max);
        IncidentRow {
            // Name and number are the incident's own, see `Named::tell`; the state is the session's.
            incident_id: primary.signal_id,
            rev: 0,
            state: State::Open,
            session: owner.session.to_owned(),
            person: self.person,
            severity: settings.scoring.severity(found.peak),
            peak: found.peak,
            total: found.total,
            kinds: found.kinds.clone(),
            signals: named.map(|signal| signal.signal_id).collect(),
            primary: primary.kind,
            primary_signal: primary.signal_id,
            page_key: primary.page_key.clone(),
            group: Group::of(primary.kind),
            fingerprint: fingerprint(owner.tenant, primary),
            releases: self.releases.clone(),
            first: members.iter().map(|signal| signal.start).min().unwrap_or(opened_at),
            last: members.iter().map(|signal| signal.end).max().unwrap_or(opened_at),
            opened_at,
            outcome: match self.recovered_at {
                _ if self.is_bot => Outcome::Bot,
                Some(_) => Outcome::Recovered,
                None => Outcome::None,
            },
            recovered_at: self.recovered_at,
            merged_into: None,
        }
    }
}

/// Cuts signals, given in their order, into those of one incident each.
fn segments(scope: Scope, signals: &[Signal]) -> Vec<Vec<&Signal>> {
    let mut segments: Vec<Vec<&Signal>> = Vec::new();
    for signal in signals {
        let joins = |members: &&mut Vec<&Signal>| match (scope, members.first(), members.last()) {
            (Scope::Gap { quiet_ms, age_ms }, Some(first), Some(last)) => {
                signal.end.saturating_sub(last.end) <= quiet_ms && signal.end.saturating_sub(first.end) <= age_ms
            }
            _ => true,
        };
        match segments.last_mut().filter(joins) {
            Some(members) => members.push(signal),
            None => segments.push(vec![signal]),
        }
    }
    segments
}

impl Named {
    fn new(owner: Owner<'_>, first: Id) -> Self {
        let incident_id = identity(&["inc/1", owner.tenant, owner.session, &first.to_string()]);
        Self { incident_id, anchor: first, opened_at: None, told: None, told_at: i64::MIN }
    }

    /// Tells the row if it is another than before. Says whether it is held back until enough time has passed since the last telling.
    fn tell(&mut self, mut row: IncidentRow, coalesce_ms: i64, now: i64, out: &mut Vec<Told>) -> bool {
        row.incident_id = self.incident_id;
        let Some(before) = &self.told else {
            let is_closed = row.state == State::Closed;
            out.push(Told::Opened(IncidentRow { state: State::Open, ..row.clone() }));
            if is_closed {
                row.rev = 1;
                out.push(Told::Closed(row.clone()));
            }
            (self.told, self.told_at) = (Some(row), now);
            return false;
        };
        row.rev = before.rev;
        if row == *before {
            return false;
        }
        let closes = row.state == State::Closed && before.state != State::Closed;
        if !closes && now.saturating_sub(self.told_at) < coalesce_ms {
            return true;
        }
        row.rev = before.rev.saturating_add(1);
        out.push(if closes { Told::Closed(row.clone()) } else { Told::Updated(row.clone()) });
        (self.told, self.told_at) = (Some(row), now);
        false
    }

    /// Returns what is to be told of an incident that became part of another: nothing if it was never told.
    fn merge_into(self, survivor: Id) -> Option<Told> {
        let mut row = self.told?;
        row.rev = row.rev.saturating_add(1);
        row.state = State::Merged;
        row.merged_into = Some(survivor);
        Some(Told::Updated(row))
    }
}
