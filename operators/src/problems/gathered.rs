//! One fingerprint: the incident rows that wait, the problem, and what was told of it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use riverrun_behaviour::identity::Id;
use riverrun_behaviour::incident::case::{IncidentRow, Outcome, State};
use riverrun_behaviour::incident::points::{Group, Severity};
use riverrun_behaviour::incident::problem::{Gate, Notification, Problem, ProblemRow};
use riverrun_behaviour::signals::SignalKind;
use riverrun_dataflow::EventTime;
use serde::{Deserialize, Serialize};

use crate::incidents::MOVED;
use crate::keyed::Left;
use crate::named::Cells;
use crate::waiting::{Waiting, Waits, passed};

/// How far time has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// To the watermark.
    Watermark(EventTime),
    /// To the end: nothing will follow, and the job's clock says so much.
    End { now_us: i64 },
}

/// A row of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Heard {
    time_us: i64,
    /// It leaves this fingerprint.
    has_left: bool,
    row: IncidentRow,
    subject: Option<String>,
}

/// Returns the one of `all` that has this name.
fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Option<T> {
    all.iter().copied().find(|one| name(*one) == text)
}

impl Heard {
    /// Reads a row; none if it is none of an incident.
    pub(super) fn read(cells: &Cells, row: usize, time_us: i64) -> Option<Heard> {
        let text = |name: &str| cells.text(name, row);
        let id = |name: &str| text(name).and_then(|id| id.parse::<Id>().ok());
        let incident_id = id("incident_id")?;
        // What a program did is nobody's problem.
        let has_left = text("event") == Some(MOVED) || text("outcome") == Some(Outcome::Bot.name());
        // A row that leaves does not say what it was about.
        let group = text("about").and_then(|about| named(&Group::ALL, Group::name, about));
        let row = IncidentRow {
            incident_id,
            rev: cells.count("rev", row),
            state: named(&State::ALL, State::name, text("state")?)?,
            session: text("session_id")?.to_owned(),
            person: id("person"),
            severity: named(&Severity::ALL, Severity::name, text("severity")?)?,
            peak: cells.count("peak", row),
            total: 0,
            kinds: BTreeMap::new(),
            signals: Vec::new(),
            // What a problem does not ask for.
            primary: SignalKind::Capped,
            primary_signal: incident_id,
            page_key: text("page_key").unwrap_or_default().to_owned(),
            group: if has_left { Group::Comfort } else { group? },
            fingerprint: id("fingerprint")?,
            releases: cells.texts("releases", row).into_iter().collect::<BTreeSet<_>>(),
            first: cells.millis("first_time", row)?,
            last: cells.millis("last_time", row)?,
            opened_at: cells.millis("first_time", row)?,
            outcome: Outcome::None,
            recovered_at: None,
            merged_into: None,
        };
        Some(Heard { time_us, has_left, row, subject: text("subject").map(str::to_owned) })
    }
}

impl Waits for Heard {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    fn order(&self, other: &Self) -> Ordering {
        // Of one incident that comes back within a moment, the row that leaves has the number of the one that came.
        let place = |one: &Self| (one.time_us, one.row.incident_id, one.row.rev, one.has_left);
        place(self).cmp(&place(other)).then_with(|| {
            let text = |one: &Self| serde_json::to_string(one).unwrap_or_default();
            text(self).cmp(&text(other))
        })
    }
}

/// A row to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// When it was so, in microseconds: at the hop, or when that was heard which changed it.
    pub time_us: i64,
    pub row: ProblemRow,
    pub rev: u32,
    /// Whoever keeps the tickets has to know: `first`, or `again`.
    pub notify: Option<&'static str>,
    pub about: About,
}

/// What the incidents of one fingerprint have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub group: Group,
    pub page_key: String,
    pub subject: Option<String>,
}

/// One fingerprint. Begins without a problem.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Gathered {
    waiting: Waiting<Heard>,
    problem: Option<Known>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    problem: Problem,
    about: Option<About>,
    /// How many rows were told.
    told: u32,
    /// When something was last heard, in microseconds.
    heard_us: i64,
}

impl Gathered {
    /// Lets a row wait for its time.
    pub(super) fn take(&mut self, heard: Heard, gate: &Gate) -> Left {
        self.waiting.push(heard);
        self.left(gate)
    }

    fn left(&self, gate: &Gate) -> Left {
        let due_us = self.due_ms(gate).map(|due| due.saturating_mul(1000));
        Left {
            size: self.waiting.len() + usize::from(self.problem.is_some() || self.waiting.len() > 0),
            due: self.waiting.first_us().into_iter().chain(due_us).min(),
        }
    }

    fn due_ms(&self, gate: &Gate) -> Option<i64> {
        self.problem.as_ref().and_then(|known| known.problem.due(gate))
    }

    /// Does what is to be done in the order of time: rows, and hops, which see the rows of their own time.
    pub(super) fn advance(&mut self, until: Until, gate: &Gate, say: &mut dyn FnMut(Said)) -> Left {
        loop {
            let row_us = self.waiting.first_us();
            let hop_ms = self.due_ms(gate);
            let is_row = |row: i64| hop_ms.is_none_or(|hop| row <= hop.saturating_mul(1000));
            match (row_us, hop_ms) {
                (Some(row), _) if is_row(row) => {
                    if matches!(until, Until::Watermark(limit) if !passed(row, limit)) {
                        break;
                    }
                    let Some(heard) = self.waiting.pop() else { break };
                    self.hear(heard);
                }
                (next, Some(hop)) if self.comes(hop, next, until, gate) => self.look(hop, gate, say),
                _ => break,
            }
            if self.problem.as_ref().is_some_and(|known| known.problem.is_empty()) {
                self.problem = None;
            }
        }
        match until {
            // The end is told once: what would come later never does.
            Until::End { .. } => Left { due: None, ..self.left(gate) },
            Until::Watermark(_) => self.left(gate),
        }
    }

    /// Says whether a hop comes before time stops; `next_us` is the time of a row that comes after it.
    fn comes(&self, hop_ms: i64, next_us: Option<i64>, until: Until, gate: &Gate) -> bool {
        match until {
            Until::Watermark(limit) => passed(hop_ms.saturating_mul(1000), limit),
            Until::End { .. } if next_us.is_some() => true,
            Until::End { now_us } => {
                let heard_us = self.problem.as_ref().map_or(now_us, |known| known.heard_us.max(now_us));
                let every_us = gate.hop_ms.max(1).saturating_mul(1000);
                let last_us = heard_us.saturating_add(every_us - 1).div_euclid(every_us).saturating_mul(every_us);
                hop_ms.saturating_mul(1000) <= last_us
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        let fingerprint = heard.row.fingerprint;
        let new = || Known { problem: Problem::new(fingerprint), about: None, told: 0, heard_us: heard.time_us };
        let known = self.problem.get_or_insert_with(new);
        known.heard_us = heard.time_us;
        if heard.has_left {
            known.problem.retract(heard.row.incident_id);
            return;
        }
        let Heard { row, subject, .. } = heard;
        known.problem.insert(&row);
        known.about = Some(About { group: row.group, page_key: row.page_key, subject });
    }

    fn look(&mut self, hop_ms: i64, gate: &Gate, say: &mut dyn FnMut(Said)) {
        let Some(known) = &mut self.problem else { return };
        let (mut rows, mut tickets) = (Vec::new(), Vec::new());
        known.problem.advance(gate, hop_ms, &mut rows, &mut tickets);
        let (notify, noted) = match tickets.pop() {
            Some(Notification::First(row)) => (Some("first"), Some(row)),
            Some(Notification::Again(row)) => (Some("again"), Some(row)),
            None => (None, None),
        };
        // One hop gives one row, be it for the change or for the notice.
        if let (Some(row), Some(about)) = (rows.pop().or(noted), known.about.clone()) {
            // What was decided some time after it happened may count from a hop that has passed.
            let time_us = hop_ms.saturating_mul(1000).max(known.heard_us);
            say(Said { time_us, row, rev: known.told, notify, about });
            known.told = known.told.saturating_add(1);
        }
    }
}
