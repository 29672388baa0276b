//! Problems: incidents of many sessions with one fingerprint, over a sliding day, and what deserves a ticket.
//!
//! A problem is looked at every five minutes of event time, whenever something about it has changed. Its state is the incidents
//! of the last day, at most [`MEMBERS_MAX`]; beyond them the one that ended first is forgotten, and counted.
//!
//! An incident's row replaces its earlier one. When its fingerprint changes, the row goes to the new problem and
//! [`Problem::retract`] to the old one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::case::{IncidentRow, RELEASES_MAX, State};
use super::points::{Group, Severity};
use crate::identity::Id;

/// The most incidents that are kept of a problem.
pub const MEMBERS_MAX: usize = 10_000;
/// How many incidents a row names: the worst.
const WORST: usize = 3;

/// What the job's author chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// How far back incidents count, by their last signal; open at its beginning.
    pub window_ms: i64,
    /// How often a problem is looked at.
    pub hop_ms: i64,
    /// Sessions that deserve a ticket, if there are `persons` too.
    pub sessions: usize,
    /// Persons that deserve a ticket, if there are `sessions` too.
    pub persons: usize,
    /// Sessions that deserve a ticket if it is critical.
    pub critical_sessions: usize,
    /// The shortest time between two notifications.
    pub repeat_ms: i64,
}

impl Default for Gate {
    fn default() -> Self {
        const HOUR_MS: i64 = 3_600_000;
        Self {
            window_ms: 24 * HOUR_MS,
            hop_ms: 5 * 60_000,
            sessions: 5,
            persons: 3,
            critical_sessions: 2,
            repeat_ms: 4 * HOUR_MS,
        }
    }
}

/// The row of a problem. A later one replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRow {
    /// What it is about.
    pub fingerprint: Id,
    /// When it was looked at.
    pub window_end: i64,
    /// Different sessions.
    pub sessions: usize,
    /// Different persons; an incident without a person counts for none.
    pub persons: usize,
    /// The worst severity.
    pub severity: Option<Severity>,
    /// Beginning of the first signal.
    pub first_seen: Option<i64>,
    /// End of the last signal.
    pub last_seen: Option<i64>,
    /// Releases that were seen.
    pub releases: BTreeSet<String>,
    /// The worst incidents: by severity, then peak, then the earlier, then the id.
    pub worst: Vec<Id>,
    /// Whether it deserves a ticket.
    pub passes: bool,
}

/// Something that whoever keeps the tickets has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The problem passes the gate for the first time.
    First(ProblemRow),
    /// It passes, the last notification is long enough ago, and it has twice the sessions or is worse.
    Again(ProblemRow),
}

/// What is kept of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    rev: u32,
    session: String,
    person: Option<Id>,
    severity: Severity,
    peak: u32,
    first: i64,
    last: i64,
    releases: BTreeSet<String>,
}

/// What was notified last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Notified {
    at: i64,
    sessions: usize,
    severity: Option<Severity>,
}

/// A problem: the incidents of one fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    fingerprint: Id,
    members: BTreeMap<Id, Member>,
    /// The last time it was looked at.
    looked_at: Option<i64>,
    is_stale: bool,
    /// Whether it may ever have a ticket.
    is_ticketed: bool,
    told: Option<ProblemRow>,
    notified: Option<Notified>,
    forgotten: u64,
}

impl Problem {
    /// Returns a problem without incidents.
    pub fn new(fingerprint: Id) -> Self {
        Self {
            fingerprint,
            members: BTreeMap::new(),
            looked_at: None,
            is_stale: false,
            is_ticketed: true,
            told: None,
            notified: None,
            forgotten: 0,
        }
    }

    /// Takes in a row of an incident with this fingerprint. A row that is older than the one known changes nothing; one of a
    /// merged incident takes it away.
    pub fn insert(&mut self, row: &IncidentRow) {
        if self.members.get(&row.incident_id).is_some_and(|member| member.rev >= row.rev) {
            return;
        }
        if row.state == State::Merged {
            self.retract(row.incident_id);
            return;
        }
        let member = Member {
            rev: row.rev,
            session: row.session.clone(),
            person: row.person,
            severity: row.severity,
            peak: row.peak,
            first: row.first,
            last: row.last,
            releases: row.releases.clone(),
        };
        self.is_ticketed = row.group != Group::Auth;
        self.members.insert(row.incident_id, member);
        self.is_stale = true;
        if self.members.len() > MEMBERS_MAX {
            let oldest = self.members.iter().min_by_key(|(id, member)| (member.last, **id)).map(|(id, _)| *id);
            self.members.retain(|id, _| Some(*id) != oldest);
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Takes an incident away: it has another fingerprint now, or is part of another incident.
    pub fn retract(&mut self, incident_id: Id) {
        self.is_stale |= self.members.remove(&incident_id).is_some();
    }

    /// Returns how many incidents were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Says whether nothing is left: the state may be dropped. What was notified is then forgotten too.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && (self.looked_at.is_none() || !self.is_stale)
    }

    /// Tells that event time has reached `to`: looks at the problem at every hop up to there at which it may have changed.
    ///
    /// An incident counts from the first hop at or after its last signal that is still to come, until a window after it.
    pub fn advance(&mut self, gate: &Gate, to: i64, rows: &mut Vec<ProblemRow>, tickets: &mut Vec<Notification>) {
        while let Some(at) = self.next(gate).filter(|at| *at <= to) {
            self.look(gate, at, rows, tickets);
        }
    }

    /// Returns the next hop at which something may change, if there is one.
    pub fn due(&self, gate: &Gate) -> Option<i64> {
        self.next(gate)
    }

    fn next(&self, gate: &Gate) -> Option<i64> {
        let hop = gate.hop_ms.max(1);
        let at_or_after = |time: i64| time.saturating_add(hop - 1).div_euclid(hop).saturating_mul(hop);
        let after = self.looked_at.map(|at| at.saturating_add(hop));
        let is_to_come = |at: &i64| after.is_none_or(|after| *at >= after);
        let enters = self.members.values().map(|member| at_or_after(member.last));
        let leaves = self.members.values().map(|member| at_or_after(member.last.saturating_add(gate.window_ms)));
        let next = enters.chain(leaves).filter(is_to_come).min();
        match after {
            Some(after) if self.is_stale => Some(next.map_or(after, |next| next.min(after))),
            _ => next,
        }
        .filter(|at| self.looked_at.is_none_or(|before| *at > before))
    }

    fn look(&mut self, gate: &Gate, at: i64, rows: &mut Vec<ProblemRow>, tickets: &mut Vec<Notification>) {
        self.looked_at = Some(at);
        self.is_stale = false;
        self.members.retain(|_, member| member.last > at.saturating_sub(gate.window_ms));
        let row = self.row(gate, at);
        let is_same = |told: &ProblemRow| ProblemRow { window_end: at, ..told.clone() } == row;
        if !self.told.as_ref().is_some_and(is_same) && (self.told.is_some() || row.sessions > 0) {
            rows.push(row.clone());
            self.told = Some(row.clone());
        }
        if !row.passes {
            return;
        }
        let notified = Notified { at, sessions: row.sessions, severity: row.severity };
        match self.notified {
            None => tickets.push(Notification::First(row)),
            Some(before) => {
                let is_worse = row.sessions >= before.sessions.saturating_mul(2) || row.severity > before.severity;
                if !is_worse || at.saturating_sub(before.at) < gate.repeat_ms {
                    return;
                }
                tickets.push(Notification::Again(row));
            }
        }
        self.notified = Some(notified);
    }

    fn row(&self, gate: &Gate, at: i64) -> ProblemRow {
        let members: Vec<(&Id, &Member)> = self.members.iter().filter(|(_, member)| member.last <= at).collect();
        let sessions = members.iter().map(|(_, member)| &member.session).collect::<BTreeSet<_>>().len();
        let persons = members.iter().filter_map(|(_, member)| member.person).collect::<BTreeSet<_>>().len();
        let severity = members.iter().map(|(_, member)| member.severity).max();
        let releases: BTreeSet<&String> = members.iter().flat_map(|(_, member)| &member.releases).collect();
        let mut worst = members.clone();
        worst.sort_by_key(|(id, member)| (std::cmp::Reverse((member.severity, member.peak)), member.first, **id));
        let is_many = sessions >= gate.sessions && persons >= gate.persons;
        let is_bad = severity == Some(Severity::Critical) && sessions >= gate.critical_sessions;
        ProblemRow {
            fingerprint: self.fingerprint,
            window_end: at,
            sessions,
            persons,
            severity,
            first_seen: members.iter().map(|(_, member)| member.first).min(),
            last_seen: members.iter().map(|(_, member)| member.last).max(),
            releases: releases.into_iter().take(RELEASES_MAX).cloned().collect(),
            worst: worst.into_iter().take(WORST).map(|(id, _)| *id).collect(),
            passes: self.is_ticketed && (is_many || is_bad),
        }
    }
}
