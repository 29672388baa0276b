//! A sitting: one key as it is watched: its events that wait, its session, and those before it that may still be made good.

use std::cmp::Ordering;

use riverrun_behaviour::event::kind::{Class, Kind};
use riverrun_behaviour::event::{Event, EventRef, Payload};
use riverrun_behaviour::identity::Id;
use riverrun_behaviour::privacy;
use riverrun_behaviour::session::bots::{BotSettings, BotWatch, Instant};
use riverrun_behaviour::session::class::Origin;
use riverrun_behaviour::session::{Placed, fold};
use riverrun_behaviour::signals::{PageEnd, Signal, Visit};
use riverrun_behaviour::target::StepWords;
use riverrun_dataflow::EventTime;
use serde::{Deserialize, Serialize};

use super::{FrustrationSettings, Sessions, millis};
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
    /// The account that the event names; only where that can end a session.
    #[serde(default)]
    user: Option<String>,
    /// Filled in when it is taken.
    person: Option<Id>,
    release: Option<String>,
    event: Event,
}

impl Arrived {
    /// Reads a row; none if its type is unknown.
    pub(super) fn read(
        rows: &EventRows<'_>,
        row: usize,
        words: &StepWords,
        settings: &FrustrationSettings,
    ) -> Option<Arrived> {
        let kind = rows.kinds[row]?;
        // A session whose rows name no tab, page load or clock of a browser is taken at its word.
        let by_kind = rows.origin(row) == Origin::Server && kind.class() == Class::Interaction;
        Some(Arrived {
            time_us: rows.time_us(row),
            rank: kind.rank(),
            tab: rows.tab(row).to_owned(),
            extends: by_kind || rows.class(row) == Class::Interaction,
            is_goal: settings.goals.contains(&kind),
            user: rows.user(row).filter(|_| settings.sessions != Sessions::Named).map(str::to_owned),
            person: None,
            release: rows.release(row).map(str::to_owned),
            event: rows.event(row, words)?,
        })
    }
}

impl Arrived {
    /// Says whether it is the same event, sent twice.
    fn is_same(&self, other: &Arrived) -> bool {
        let id = &self.event.this.id;
        !id.is_empty() && (self.time_us, self.rank, id) == (other.time_us, other.rank, &other.event.this.id)
    }

    fn is_order(&self) -> bool {
        self.event.payload == Payload::OrderCompleted
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
pub(crate) struct Told {
    /// When it was decided, in microseconds.
    pub time_us: i64,
    pub session: String,
    pub person: Option<Id>,
    pub release: Option<String>,
    pub what: What,
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A signal, or a new wording of one.
    Signal(Signal),
    /// The person got where they wanted.
    Goal { time_ms: i64, event: EventRef },
    /// It was no person at all.
    Bot { time_ms: i64, event: EventRef },
    /// The session has ended: nothing was done after `last_ms`.
    End { first_ms: i64, last_ms: i64 },
    /// A page was left.
    PageEnd(PageEnd),
}

/// One key: a session that rows name, or a device with its sessions. Begins without events; forgotten when it has nothing more
/// to say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sitting {
    tenant: String,
    /// The session, or the device.
    key: String,
    /// In boxes, as a queue makes room for more than come.
    waiting: Waiting<Box<Arrived>>,
    /// Who was named last, and the hash that is kept of it: hashing takes longer than all else that is done with most events.
    #[serde(skip)]
    named: Option<(Box<str>, Id)>,
    /// The session of a device that is open.
    #[serde(default)]
    fold: fold::Sessions<()>,
    /// In the order of their beginnings; only the last one may be open.
    goings: Vec<Going>,
}

/// A session that has begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Going {
    session: String,
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
    /// What tells whether a program makes it.
    #[serde(default, skip_serializing_if = "is_new")]
    watch: BotWatch,
    /// A program makes it: nothing more is told of it.
    #[serde(default)]
    is_bot: bool,
}

fn is_new(watch: &BotWatch) -> bool {
    *watch == BotWatch::default()
}

impl Sitting {
    /// Lets an event wait for its time; one that waits already is counted in `duplicates`. `due` is when something happens
    /// without it: the session is not looked at, as it lies elsewhere in memory and most events only wait.
    pub(super) fn take(
        &mut self,
        (tenant, key): (&str, &str),
        mut arrived: Arrived,
        person: Option<&str>,
        due: Option<i64>,
        duplicates: &mut u64,
    ) -> Left {
        let due = due.map_or(arrived.time_us, |due| due.min(arrived.time_us));
        if self.key.is_empty() {
            (self.tenant, self.key) = (tenant.to_owned(), key.to_owned());
        }
        arrived.person = person.map(|person| self.hash_of(person));
        if !self.waiting.push_once(Box::new(arrived), |one, other| one.is_same(other)) {
            *duplicates += 1;
        }
        Left { size: self.size(), due: Some(due) }
    }

    fn hash_of(&mut self, person: &str) -> Id {
        if let Some((_, hash)) = self.named.as_ref().filter(|(named, _)| **named == *person) {
            return *hash;
        }
        let hash = privacy::person(&self.tenant, person);
        self.named = Some((person.into(), hash));
        hash
    }

    /// Does what is to be done before `limit`: events and times in one order, at the same millisecond the times first.
    pub(super) fn advance(
        &mut self,
        limit: EventTime,
        settings: &FrustrationSettings,
        tell: &mut dyn FnMut(Told),
    ) -> Left {
        let mut due_ms = self.due_ms(settings);
        loop {
            let event_us = self.waiting.first_us();
            // Machines do at `due` what no event before it can change; events of the same millisecond come after that.
            let is_due = due_ms.is_some_and(|due| event_us.is_none_or(|event| due <= event.div_euclid(1000)));
            match (due_ms, event_us) {
                (Some(due), _) if is_due => {
                    if !passed(due.saturating_mul(1000), limit) {
                        break;
                    }
                    self.goings.iter_mut().for_each(|going| going.wake(due, settings, tell));
                    self.goings.retain(|going| going.forgotten_ms(settings).is_none_or(|forgotten| due < forgotten));
                }
                (_, Some(event)) if passed(event, limit) => {
                    let Some(arrived) = self.waiting.pop() else { break };
                    self.play(&arrived, settings, tell);
                }
                _ => break,
            }
            due_ms = self.due_ms(settings);
        }
        let due_us = due_ms.map(|due| due.saturating_mul(1000));
        Left { size: self.size(), due: due_us.into_iter().chain(self.waiting.first_us()).min() }
    }

    fn play(&mut self, arrived: &Arrived, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        let is_there = match &settings.sessions {
            Sessions::Named => {
                // A client may keep the name of a session that has ended: it goes on then.
                if self.goings.is_empty() {
                    self.begin(self.key.clone(), arrived);
                }
                true
            }
            Sessions::Device(rules) => self.place(rules, arrived, settings, tell),
        };
        let last = self.goings.len().saturating_sub(usize::from(is_there));
        if arrived.is_order() {
            // What was told of the sessions before is made good by it as well.
            self.goings[..last].iter_mut().for_each(|going| going.ordered_elsewhere(arrived, settings, tell));
        }
        if let Some(going) = self.goings.get_mut(last) {
            going.play(arrived, settings, tell);
        }
    }

    /// Finds the session of a device that an event belongs to; says whether there is one.
    fn place(
        &mut self,
        rules: &fold::Rules,
        arrived: &Arrived,
        settings: &FrustrationSettings,
        tell: &mut dyn FnMut(Told),
    ) -> bool {
        let class = if arrived.extends { Class::Interaction } else { Class::Passive };
        let user = arrived.user.as_deref();
        let mark = fold::Mark {
            rank: arrived.rank,
            user,
            ..fold::Mark::plain(arrived.event.time, &arrived.event.this.id, class)
        };
        match self.fold.push(rules, &(), &mark, &(), &mut Vec::new()) {
            Placed::Opened => {
                // Silence has ended the one before by itself; another account and the greatest length end it now.
                self.goings.iter_mut().for_each(|going| going.end(arrived.event.time, arrived.time_us, settings, tell));
                let id = fold::session_id(&self.tenant, &self.key, &arrived.event.this.id);
                self.begin(id.to_string(), arrived);
                true
            }
            Placed::Joined => true,
            Placed::Sessionless | Placed::Late => false,
        }
    }

    fn begin(&mut self, session: String, arrived: &Arrived) {
        let time_ms = arrived.event.time;
        self.goings.reserve_exact(1);
        self.goings.push(Going {
            visit: Visit::new(&self.tenant, &session),
            session,
            first_ms: time_ms,
            active_ms: time_ms,
            person: None,
            release: None,
            has_told: false,
            ended_ms: None,
            watch: BotWatch::default(),
            is_bot: false,
        });
    }

    fn due_ms(&self, settings: &FrustrationSettings) -> Option<i64> {
        self.goings.iter().map(|going| going.due_ms(settings)).min()
    }

    /// One for the key, and one for each event that waits.
    fn size(&self) -> usize {
        self.waiting.len() + usize::from(!self.goings.is_empty() || self.waiting.len() > 0)
    }
}

impl Going {
    fn play(&mut self, arrived: &Arrived, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        if arrived.extends {
            (self.active_ms, self.ended_ms) = (arrived.event.time, None);
        }
        self.person = arrived.person.or(self.person);
        self.release = arrived.release.clone().or_else(|| self.release.take());
        if !self.is_bot && self.shows_a_bot(arrived) {
            self.disown(arrived, tell);
        }
        if self.is_bot {
            return;
        }
        let mut said = Vec::new();
        self.visit.push(&arrived.tab, &arrived.event, &settings.rules, &mut said);
        self.tell(arrived.time_us, said, tell);
        self.tell_goal(arrived, tell);
    }

    /// Says whether no person can have done what was done so far.
    fn shows_a_bot(&mut self, arrived: &Arrived) -> bool {
        if !arrived.extends {
            return false;
        }
        let (settings, event) = (BotSettings::default(), &arrived.event);
        let rate = self.watch.interaction(&settings, event.time);
        let sign = match event.payload.kind() {
            Kind::PageView => self.watch.page_view(&settings, event.time),
            Kind::Click => {
                let since_load = event.mono_us.map(|us| (event.page_load.as_str(), us));
                self.watch.click(&settings, Instant { time: event.time, since_load })
            }
            _ => None,
        };
        rate.or(sign).is_some()
    }

    /// Takes the session for a program's, and with it what was told of it.
    fn disown(&mut self, arrived: &Arrived, tell: &mut dyn FnMut(Told)) {
        self.is_bot = true;
        // It stays one: nothing more is to be watched.
        (self.watch, self.visit) = (BotWatch::default(), Visit::new("", &self.session));
        if self.has_told {
            let bot = What::Bot { time_ms: arrived.event.time, event: arrived.event.this.clone() };
            tell(self.told(arrived.time_us, bot));
        }
    }

    fn ordered_elsewhere(&mut self, arrived: &Arrived, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        let mut said = Vec::new();
        self.visit.ordered_elsewhere(&arrived.event, &settings.rules, &mut said);
        self.tell(arrived.time_us, said, tell);
    }

    fn tell_goal(&self, arrived: &Arrived, tell: &mut dyn FnMut(Told)) {
        if arrived.is_goal && self.has_told {
            let goal = What::Goal { time_ms: arrived.event.time, event: arrived.event.this.clone() };
            tell(self.told(arrived.time_us, goal));
        }
    }

    /// Does what is due at that millisecond.
    fn wake(&mut self, due_ms: i64, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        if self.due_ms(settings) > due_ms {
            return;
        }
        let time_us = due_ms.saturating_mul(1000);
        let mut said = Vec::new();
        self.visit.advance(due_ms, &settings.rules, &mut said);
        self.tell(time_us, said, tell);
        if self.ended_ms.is_none() && due_ms >= self.ends_ms(settings) {
            self.end(due_ms.saturating_sub(1), time_us, settings, tell);
        }
    }

    /// Ends the session, if it has not ended, at `close_ms`.
    fn end(&mut self, close_ms: i64, time_us: i64, settings: &FrustrationSettings, tell: &mut dyn FnMut(Told)) {
        if self.ended_ms.is_some() {
            return;
        }
        let mut said = Vec::new();
        self.visit.close(close_ms, &settings.rules, &mut said);
        self.tell(time_us, said, tell);
        self.ended_ms = Some(time_us.div_euclid(1000));
        if self.has_told {
            let end = What::End { first_ms: self.first_ms, last_ms: self.active_ms };
            tell(self.told(time_us, end));
        }
    }

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
        Told { time_us, session: self.session.clone(), person: self.person, release: self.release.clone(), what }
    }

    fn tell(&mut self, time_us: i64, said: Vec<Signal>, tell: &mut dyn FnMut(Told)) {
        for signal in said {
            self.has_told = true;
            // What the close of a session says ends at its last millisecond.
            tell(self.told(time_us.max(signal.end.saturating_mul(1000)), What::Signal(signal)));
        }
        for end in self.visit.take_page_ends() {
            tell(self.told(time_us.max(end.time.saturating_mul(1000)), What::PageEnd(end)));
        }
    }
}
