//! A sitting: one session as it is watched, its events that wait, and when it ends.

use std::cmp::Ordering;

use riverrun_behaviour::event::kind::{Class, Kind};
use riverrun_behaviour::event::{Event, EventRef};
use riverrun_behaviour::identity::Id;
use riverrun_behaviour::privacy;
use riverrun_behaviour::session::class::Origin;
use riverrun_behaviour::signals::{Signal, Visit};
use riverrun_behaviour::target::StepWords;
use riverrun_dataflow::EventTime;
use serde::{Deserialize, Serialize};

use super::{FrustrationSettings, millis};
use crate::events::EventRows;
use crate::keyed::Left;
use crate::waiting::{Waiting, Waits, passed};

/// An event that has arrived, and what the rules themselves are not told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Arrived {
    time_us: i64,
    rank: u8,
    tab: String,
    /// Whether a person did it, so that the session goes on.
    extends: bool,
    is_goal: bool,
    person: Option<Id>,
    release: Option<String>,
    event: Event,
}

impl Arrived {
    /// Reads a row; none if its type is unknown.
    pub(super) fn read(rows: &EventRows<'_>, row: usize, words: &StepWords, goals: &[Kind]) -> Option<Arrived> {
        let kind = rows.kinds[row]?;
        // A session whose rows name no tab, page load or clock of a browser is taken at its word.
        let by_kind = rows.origin(row) == Origin::Server && kind.class() == Class::Interaction;
        Some(Arrived {
            time_us: rows.time_us(row),
            rank: kind.rank(),
            tab: rows.tab(row).to_owned(),
            extends: by_kind || rows.class(row) == Class::Interaction,
            is_goal: goals.contains(&kind),
            person: rows.person(row).map(|person| privacy::person(rows.tenant(row), person)),
            release: rows.release(row).map(str::to_owned),
            event: rows.event(row, words)?,
        })
    }
}

impl Waits for Arrived {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    fn order(&self, other: &Self) -> Ordering {
        let place = |one: &Self| (one.time_us, one.rank);
        let event =
            |one: &Event, two: &Event| one.this.id.cmp(&two.this.id).then(one.this.position.cmp(&two.this.position));
        place(self).cmp(&place(other)).then_with(|| event(&self.event, &other.event)).then_with(|| {
            // Two rows of one record: what is still equal is the same in every respect.
            let text = |one: &Self| serde_json::to_string(one).unwrap_or_default();
            text(self).cmp(&text(other))
        })
    }
}

/// What a session says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// When it was decided, in microseconds.
    pub time_us: i64,
    pub person: Option<Id>,
    pub release: Option<String>,
    pub what: What,
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// A signal, or a new wording of one.
    Signal(Signal),
    /// The person got where they wanted.
    Goal { time_ms: i64, event: EventRef },
    /// The session has ended: nothing was done after `last_ms`.
    End { first_ms: i64, last_ms: i64 },
}

/// One session. Begins without events; forgotten when it has nothing more to say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sitting {
    tenant: String,
    session: String,
    waiting: Waiting<Arrived>,
    going: Option<Going>,
}

/// A session that has begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Going {
    visit: Visit,
    first_ms: i64,
    /// When something was last done.
    active_ms: i64,
    person: Option<Id>,
    release: Option<String>,
    /// Whether it has said anything.
    has_told: bool,
    /// It has ended, at that time.
    ended_ms: Option<i64>,
}

impl Sitting {
    /// Lets an event wait for its time.
    pub(super) fn take(
        &mut self,
        tenant: &str,
        session: &str,
        arrived: Arrived,
        settings: &FrustrationSettings,
    ) -> Left {
        if self.session.is_empty() {
            (self.tenant, self.session) = (tenant.to_owned(), session.to_owned());
        }
        self.waiting.push(arrived);
        self.left(settings)
    }

    /// Does what is to be done before `limit`: events and times in one order, at the same millisecond the times first.
    pub(super) fn advance(
        &mut self,
        limit: EventTime,
        settings: &FrustrationSettings,
        tell: &mut dyn FnMut(Told),
    ) -> Left {
        loop {
            let event_us = self.waiting.first_us();
            let due_ms = self.going.as_ref().map(|going| going.due_ms(settings));
            // Machines do at `due` what no event before it can change; events of the same millisecond come after that.
            let is_due = due_ms.is_some_and(|due| event_us.is_none_or(|event| due <= event.div_euclid(1000)));
            match (due_ms, event_us) {
                (Some(due), _) if is_due => {
                    if !passed(due.saturating_mul(1000), limit) {
                        break;
                    }
                    self.wake(due, settings, tell);
                }
                (_, Some(event)) if passed(event, limit) => {
                    let Some(arrived) = self.waiting.pop() else { break };
                    self.play(arrived, settings, tell);
                }
                _ => break,
            }
        }
        self.left(settings)
    }

    fn play(&mut self, arrived: Arrived, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        let time_ms = arrived.event.time;
        let (tenant, session) = (&self.tenant, &self.session);
        let going = self.going.get_or_insert_with(|| Going {
            visit: Visit::new(tenant, session),
            first_ms: time_ms,
            active_ms: time_ms,
            person: None,
            release: None,
            has_told: false,
            ended_ms: None,
        });
        if arrived.extends {
            (going.active_ms, going.ended_ms) = (time_ms, None);
        }
        going.person = arrived.person.or(going.person);
        going.release = arrived.release.or_else(|| going.release.take());
        let mut said = Vec::new();
        going.visit.push(&arrived.tab, &arrived.event, &settings.rules, &mut said);
        going.tell(arrived.time_us, said, tell);
        if arrived.is_goal && going.has_told {
            let goal = What::Goal { time_ms, event: arrived.event.this };
            tell(going.told(arrived.time_us, goal));
        }
    }

    /// Does what is due at that millisecond.
    fn wake(&mut self, due_ms: i64, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        let Some(going) = &mut self.going else { return };
        let time_us = due_ms.saturating_mul(1000);
        let mut said = Vec::new();
        going.visit.advance(due_ms, &settings.rules, &mut said);
        going.tell(time_us, said, tell);
        if going.ended_ms.is_none() && due_ms >= going.ends_ms(settings) {
            let mut said = Vec::new();
            going.visit.close(due_ms.saturating_sub(1), &settings.rules, &mut said);
            going.tell(time_us, said, tell);
            going.ended_ms = Some(due_ms);
            if going.has_told {
                let end = What::End { first_ms: going.first_ms, last_ms: going.active_ms };
                tell(going.told(time_us, end));
            }
        }
        if going.forgotten_ms(settings).is_some_and(|forgotten| due_ms >= forgotten) {
            self.going = None;
        }
    }

    fn left(&self, settings: &FrustrationSettings) -> Left {
        let due = self.going.as_ref().map(|going| going.due_ms(settings).saturating_mul(1000));
        Left {
            // One for the session, and one for each event that waits.
            size: self.waiting.len() + usize::from(self.going.is_some() || self.waiting.len() > 0),
            due: due.into_iter().chain(self.waiting.first_us()).min(),
        }
    }
}

impl Going {
    /// Returns when something happens without an event.
    fn due_ms(&self, settings: &FrustrationSettings) -> i64 {
        let own = match self.ended_ms {
            None => self.ends_ms(settings),
            Some(_) => self.forgotten_ms(settings).unwrap_or(i64::MAX),
        };
        self.visit.due(&settings.rules).map_or(own, |due| due.min(own))
    }

    /// Returns from when on no event can extend the session.
    fn ends_ms(&self, settings: &FrustrationSettings) -> i64 {
        self.active_ms.saturating_add(millis(settings.gap)).saturating_add(1)
    }

    /// Returns when it is forgotten, once it has ended: at once if there is nothing that an order could make good.
    fn forgotten_ms(&self, settings: &FrustrationSettings) -> Option<i64> {
        let ended_ms = self.ended_ms?;
        let recover_ms = settings.rules.checkout.recover.us.max(0).div_euclid(1000).saturating_add(1);
        Some(if self.has_told { ended_ms.saturating_add(recover_ms) } else { ended_ms })
    }

    fn told(&self, time_us: i64, what: What) -> Told {
        Told { time_us, person: self.person, release: self.release.clone(), what }
    }

    fn tell(&mut self, time_us: i64, said: Vec<Signal>, tell: &mut dyn FnMut(Told)) {
        for signal in said {
            self.has_told = true;
            // What the close of a session says ends at its last millisecond.
            tell(self.told(time_us.max(signal.end.saturating_mul(1000)), What::Signal(signal)));
        }
    }
}
