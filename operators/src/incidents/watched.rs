//! One session's case as it is watched: the rows that wait, the incidents, and when they are forgotten.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use riverrun_behaviour::event::{EventRef, Position};
use riverrun_behaviour::identity::Id;
use riverrun_behaviour::incident::case::{Case, IncidentRow, Told};
use riverrun_behaviour::incident::points;
use riverrun_behaviour::signals::{Flags, Signal, SignalKind};
use riverrun_dataflow::EventTime;
use riverrun_dataflow::time::micros_of;
use serde::{Deserialize, Serialize};

use super::{IncidentsSettings, owner};
use crate::frustration::{BOT, GOAL, SESSION_END};
use crate::keyed::Left;
use crate::named::Cells;
use crate::waiting::{Waiting, Waits, passed};

/// What was heard of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Heard {
    time_us: i64,
    what: What,
    person: Option<Id>,
    release: Option<String>,
}

/// What it is. In the order in which it counts at one time: a session's last signals come before its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum What {
    Signal(Signal),
    Goal(i64),
    End,
    Bot,
}

impl Heard {
    /// Reads a row; none if it is none of a session's, or of an unknown kind.
    pub(super) fn read(cells: &Cells, row: usize, time_us: i64) -> Option<Heard> {
        cells.text("session_id", row)?;
        let kind = cells.text("kind", row)?;
        let end = cells.millis("end_time", row)?;
        let what = match kind {
            GOAL => What::Goal(end),
            SESSION_END => What::End,
            BOT => What::Bot,
            name => {
                let kind = SignalKind::ALL.iter().copied().find(|kind| kind.name() == name)?;
                What::Signal(signal(cells, row, kind, end)?)
            }
        };
        let person = cells.text("person", row).and_then(|id| id.parse().ok());
        Some(Heard { time_us, what, person, release: cells.text("release", row).map(str::to_owned) })
    }
}

/// Reads a signal, but for its flags: whoever asks has no use for them.
pub(crate) fn signal(cells: &Cells, row: usize, kind: SignalKind, end: i64) -> Option<Signal> {
    let text = |name: &str| cells.text(name, row).unwrap_or_default().to_owned();
    let places = cells.texts("evidence_at", row);
    let evidence = cells.texts("evidence", row).into_iter().enumerate().map(|(at, id)| {
        let place = places.get(at).and_then(|place| place.split_once(':'));
        let position = place
            .and_then(|(split, offset)| Some(Position { split: split.parse().ok()?, offset: offset.parse().ok()? }));
        EventRef { id, position: position.unwrap_or_default() }
    });
    Some(Signal {
        signal_id: cells.text("signal_id", row)?.parse().ok()?,
        rev: cells.count("rev", row),
        kind,
        page_key: text("page_key"),
        target_fp: text("target_fp"),
        cause_fp: text("cause_fp"),
        start: cells.millis("start_time", row)?,
        end,
        count: cells.count("count", row),
        flags: Flags::default(),
        points: cells.count("points", row),
        hard: cells.flag("hard", row).unwrap_or(false),
        evidence: evidence.collect(),
    })
}

impl Waits for Heard {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    fn order(&self, other: &Self) -> Ordering {
        let place = |one: &Self| {
            let what = match &one.what {
                What::Signal(signal) => (0, Some((signal.signal_id, signal.rev))),
                What::Goal(_) => (1, None),
                What::End => (2, None),
                What::Bot => (3, None),
            };
            (one.time_us, what)
        };
        place(self).cmp(&place(other)).then_with(|| {
            let text = |one: &Self| serde_json::to_string(one).unwrap_or_default();
            text(self).cmp(&text(other))
        })
    }
}

/// A row to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// When it was so, in microseconds.
    pub time_us: i64,
    /// What happened: `opened`, `updated`, `closed`, `moved`.
    pub event: &'static str,
    pub row: IncidentRow,
    /// What the primary signal is about on its page.
    pub subject: String,
    /// What the primary signal rests on.
    pub evidence: Vec<EventRef>,
}

/// One session. Begins without a case.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Watched {
    tenant: String,
    session: String,
    waiting: Waiting<Heard>,
    open: Option<Open>,
}

/// A case, and what was told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    case: Case,
    /// The fingerprint and number that each incident was told with last.
    told: BTreeMap<Id, (Id, u32)>,
    /// When something was last heard, in microseconds.
    heard_us: i64,
    is_closed: bool,
}

impl Watched {
    /// Lets a row wait for its time.
    pub(super) fn take(&mut self, tenant: &str, session: &str, heard: Heard, settings: &IncidentsSettings) -> Left {
        if self.session.is_empty() {
            (self.tenant, self.session) = (tenant.to_owned(), session.to_owned());
        }
        self.waiting.push(heard);
        self.left(settings)
    }

    fn left(&self, settings: &IncidentsSettings) -> Left {
        let due = self.waiting.first_us().into_iter().chain(self.due_us(settings)).min();
        Left { size: self.size(), due }
    }

    fn size(&self) -> usize {
        self.waiting.len() + usize::from(self.open.is_some() || self.waiting.len() > 0)
    }

    /// Does what is to be done before `limit`, in the order of time; of one time, all rows first.
    pub(super) fn advance(
        &mut self,
        limit: EventTime,
        settings: &IncidentsSettings,
        say: &mut dyn FnMut(Said),
    ) -> Left {
        loop {
            let due_us = self.due_us(settings);
            let Some(now_us) = self.waiting.first_us().into_iter().chain(due_us).min() else { break };
            if !passed(now_us, limit) {
                break;
            }
            while self.waiting.first_us() == Some(now_us)
                && let Some(heard) = self.waiting.pop()
            {
                self.hear(heard);
            }
            self.publish(now_us, settings, say);
        }
        self.left(settings)
    }

    fn hear(&mut self, heard: Heard) {
        // What became of a session that has no case is of no interest, be it that its candidate was dropped.
        if self.open.is_none() && !matches!(heard.what, What::Signal(_)) {
            return;
        }
        let new = || Open { case: Case::default(), told: BTreeMap::new(), heard_us: heard.time_us, is_closed: false };
        let open = self.open.get_or_insert_with(new);
        open.heard_us = heard.time_us;
        open.case.describe(heard.person, heard.release.as_deref());
        match heard.what {
            What::Signal(signal) => open.case.push(signal),
            What::Goal(time_ms) => open.case.recover(time_ms),
            What::End => {
                open.case.close();
                open.is_closed = true;
            }
            What::Bot => {
                open.case.disown();
                open.is_closed = true;
            }
        }
    }

    fn publish(&mut self, now_us: i64, settings: &IncidentsSettings, say: &mut dyn FnMut(Said)) {
        let Some(open) = &mut self.open else { return };
        let is_over = now_us >= open.over_us(settings);
        if is_over && !open.is_closed {
            open.case.close();
            open.is_closed = true;
        }
        let mut told = Vec::new();
        let whose = owner(&self.tenant, &self.session);
        open.case.publish(&settings.case, whose, now_us.div_euclid(1000), &mut told);
        for told in told {
            open.say(now_us, told, say);
        }
        let never_opened = open.is_closed && open.case.is_candidate();
        if is_over || never_opened {
            self.open = None;
        }
    }

    fn due_us(&self, settings: &IncidentsSettings) -> Option<i64> {
        let open = self.open.as_ref()?;
        let held_us = open.case.due().map(|due| due.saturating_mul(1000));
        held_us.into_iter().chain([open.over_us(settings)]).min()
    }
}

impl Open {
    /// Returns from when on it is forgotten.
    fn over_us(&self, settings: &IncidentsSettings) -> i64 {
        let span = if self.is_closed { settings.keep } else { settings.forget_after };
        self.heard_us.saturating_add(micros_of(span)).saturating_add(1)
    }

    fn say(&mut self, time_us: i64, told: Told, say: &mut dyn FnMut(Said)) {
        let row = told.row().clone();
        let primary = self.case.signal(row.primary_signal);
        let subject = primary.map(|signal| points::subject(signal).to_owned()).unwrap_or_default();
        let evidence = primary.map(|signal| signal.evidence.clone()).unwrap_or_default();
        let before = self.told.insert(row.incident_id, (row.fingerprint, row.rev));
        if let Some((fingerprint, rev)) = before.filter(|(fingerprint, _)| *fingerprint != row.fingerprint) {
            let moved = IncidentRow { fingerprint, rev, ..row.clone() };
            say(Said { time_us, event: "moved", row: moved, subject: String::new(), evidence: Vec::new() });
        }
        say(Said { time_us, event: told.name(), row, subject, evidence });
    }
}
