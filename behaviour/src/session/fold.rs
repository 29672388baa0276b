//! The fold: a key's events, in total order, become sessions.
//!
//! An *interaction* starts a session or prolongs it; a *passive* event only attaches to the session that is open, and does not
//! keep it alive. A gap of exactly the idle timeout stays inside a session, and so does an interaction exactly `max_duration`
//! after its start. The fold keeps one open session per key, whatever comes.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Zone;
use crate::event::Class;
use crate::identity::{Id, identity};

/// What the fold looks at in one event.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// Event time, milliseconds.
    pub time: i64,
    /// Rank of the type among events of one millisecond.
    pub rank: u8,
    /// The event's id.
    pub id: &'a str,
    /// Whether a person did it.
    pub class: Class,
    /// The account, if the event names one.
    pub user: Option<&'a str>,
    /// The campaign of a page view; none for any other event.
    pub campaign: Option<&'a str>,
    /// The outside referrer of a page view; none for any other event.
    pub referrer: Option<&'a str>,
    /// Whether it is the end of a page: such an event moves the end of its session, though not its life.
    pub leaves: bool,
}

impl<'a> Mark<'a> {
    /// Returns the mark of a row that has nothing but a time, an id and a class.
    pub fn plain(time: i64, id: &'a str, class: Class) -> Self {
        Self { time, rank: 0, id, class, user: None, campaign: None, referrer: None, leaves: false }
    }
}

/// When a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The longest silence inside a session, itself included; by default 30 minutes.
    pub idle_timeout_ms: i64,
    /// The longest time from the first to the last interaction, itself included; by default 24 hours.
    pub max_duration_ms: i64,
    /// Whether a change from one account to another ends a session; by default it does. Signing in is no change.
    pub user_switch: bool,
    /// The place whose midnight ends a session; by default none does.
    pub midnight: Option<Zone>,
    /// Whether a page view with another campaign than the session's ends it; by default not.
    pub campaign_split: bool,
    /// Whether a page view from another outside referrer than the session's ends it; by default not.
    pub referrer_split: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            idle_timeout_ms: 30 * 60_000,
            max_duration_ms: 24 * 3_600_000,
            user_switch: true,
            midnight: None,
            campaign_split: false,
            referrer_split: false,
        }
    }
}

/// Why a session ended.
///
/// When several rules would end it, silence is the reason: it ended the session before the next event was there to be looked
/// at, and so the reason does not depend on whether that event ever comes. The other reasons follow in the order given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing happened for longer than the idle timeout.
    Idle,
    /// Another account took over.
    UserSwitch,
    /// The session had its greatest length.
    MaxDuration,
    /// A new local day.
    Midnight,
    /// Another campaign brought the visitor back.
    Campaign,
    /// Another site brought the visitor back.
    Referrer,
}

/// From when to when a session went, and what the next event is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Time of the first interaction.
    pub start: i64,
    /// Rank of the first interaction.
    pub first_rank: u8,
    /// Id of the first interaction.
    pub first_id: String,
    /// Time of the last interaction.
    pub last_interaction: i64,
    /// Time of the last page leave that attached.
    pub last_leave: Option<i64>,
    /// The account: the first one named by an event of the session; without the split by user, the last one named.
    pub user: Option<String>,
    /// The campaign it is held against; kept only where campaigns split.
    campaign: Option<String>,
    /// The referrer it is held against; kept only where referrers split.
    referrer: Option<String>,
    /// How many interactions it has.
    pub interactions: u64,
    /// How many events it has, passive ones too.
    pub events: u64,
}

impl Interval {
    fn starting(rules: &Rules, mark: &Mark<'_>) -> Self {
        let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            start: mark.time,
            first_rank: mark.rank,
            first_id: mark.id.to_owned(),
            last_interaction: mark.time,
            last_leave: None,
            user: owned(mark.user),
            campaign: owned(mark.campaign).filter(|_| rules.campaign_split),
            referrer: owned(mark.referrer).filter(|_| rules.referrer_split),
            interactions: 1,
            events: 1,
        }
    }

    /// Returns the end: the last interaction, or the last page leave that attached if that is later.
    pub fn end(&self) -> i64 {
        self.last_leave.map_or(self.last_interaction, |leave| leave.max(self.last_interaction))
    }

    /// Returns the time from start to end.
    pub fn duration_ms(&self) -> i64 {
        self.end().saturating_sub(self.start)
    }

    /// Returns the first event's place in the total order.
    pub fn first(&self) -> (i64, u8, &str) {
        (self.start, self.first_rank, &self.first_id)
    }

    /// Says whether silence has ended the session once event time has reached `to`.
    pub fn is_idle(&self, rules: &Rules, to: i64) -> bool {
        to > self.last_interaction.saturating_add(rules.idle_timeout_ms)
    }

    fn join(&mut self, rules: &Rules, mark: &Mark<'_>) {
        self.events = self.events.saturating_add(1);
        match mark.class {
            Class::Interaction => {
                self.interactions = self.interactions.saturating_add(1);
                self.last_interaction = self.last_interaction.max(mark.time);
            }
            Class::Passive if mark.leaves => self.last_leave = self.last_leave.max(Some(mark.time)),
            Class::Passive => {}
        }
        let Some(user) = mark.user.filter(|user| !user.is_empty()) else { return };
        let replaces = !rules.user_switch && mark.class == Class::Interaction;
        if self.user.is_none() || (replaces && self.user.as_deref() != Some(user)) {
            self.user = Some(user.to_owned());
        }
    }
}

impl Rules {
    /// Returns why the interaction `mark` cannot join `open`, if it cannot.
    fn split(&self, open: &Interval, mark: &Mark<'_>) -> Option<Reason> {
        let other = |mine: &Option<String>, its: Option<&str>| {
            its.is_some_and(|its| !its.is_empty() && mine.as_deref() != Some(its))
        };
        let midnight = |zone: &Zone| zone.day(mark.time) != zone.day(open.last_interaction);
        if open.is_idle(self, mark.time) {
            Some(Reason::Idle)
        } else if self.user_switch && open.user.is_some() && other(&open.user, mark.user) {
            Some(Reason::UserSwitch)
        } else if mark.time.saturating_sub(open.start) > self.max_duration_ms {
            Some(Reason::MaxDuration)
        } else if self.midnight.as_ref().is_some_and(midnight) {
            Some(Reason::Midnight)
        } else if self.campaign_split && other(&open.campaign, mark.campaign) {
            Some(Reason::Campaign)
        } else if self.referrer_split && other(&open.referrer, mark.referrer) {
            Some(Reason::Referrer)
        } else {
            None
        }
    }
}

/// What a session adds up to, beside its interval: the aggregates of a job, or the columns of a visit.
pub trait Tally: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// What it takes in of each event.
    type Row: Clone + Debug + PartialEq + Serialize + DeserializeOwned;
    /// What the job's author chose.
    type Settings;

    /// Takes in an event of the session. Events come in total order.
    fn add(&mut self, settings: &Self::Settings, mark: &Mark<'_>, row: &Self::Row);
}

/// For those who want intervals only.
impl Tally for () {
    type Row = ();
    type Settings = ();

    fn add(&mut self, (): &(), _: &Mark<'_>, (): &()) {}
}

/// A session: from when to when, and what it adds up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Session<T: Tally> {
    /// From when to when.
    pub span: Interval,
    /// What it adds up to.
    pub tally: T,
}

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Closed<T: Tally> {
    /// The session.
    pub session: Session<T>,
    /// Why it ended.
    pub reason: Reason,
}

/// Where an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is the first of a session.
    Opened,
    /// It joined the open session.
    Joined,
    /// It is passive and no session was open: it belongs to the side output.
    Sessionless,
    /// It came after its time: it belongs to the side output. Only [`super::Live`] says so.
    Late,
}

/// The sessions of one key, each given once, when it has ended: what comes out is a function of the events alone.
///
/// Events are pushed in total order, when no earlier one can come any more; so `to` in [`Sessions::advance`] is the watermark
/// less the allowed lateness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Sessions<T: Tally> {
    /// The session that may still grow.
    pub open: Option<Session<T>>,
}

impl<T: Tally> Default for Sessions<T> {
    fn default() -> Self {
        Self { open: None }
    }
}

impl<T: Tally> Sessions<T> {
    /// Takes in one event and returns where it went. A session that it ends is added to `out`.
    pub fn push(
        &mut self,
        rules: &Rules,
        settings: &T::Settings,
        mark: &Mark<'_>,
        row: &T::Row,
        out: &mut Vec<Closed<T>>,
    ) -> Placed {
        self.advance(rules, mark.time, out);
        let split = match (&self.open, mark.class) {
            (Some(open), Class::Interaction) => rules.split(&open.span, mark),
            _ => None,
        };
        if let Some(reason) = split {
            self.close(reason, out);
        }
        match (&mut self.open, mark.class) {
            (Some(open), _) => {
                open.span.join(rules, mark);
                open.tally.add(settings, mark, row);
                Placed::Joined
            }
            (None, Class::Interaction) => {
                let mut tally = T::default();
                tally.add(settings, mark, row);
                self.open = Some(Session { span: Interval::starting(rules, mark), tally });
                Placed::Opened
            }
            (None, Class::Passive) => Placed::Sessionless,
        }
    }

    /// Ends the open session if silence has ended it once event time has reached `to`.
    pub fn advance(&mut self, rules: &Rules, to: i64, out: &mut Vec<Closed<T>>) {
        if self.open.as_ref().is_some_and(|open| open.span.is_idle(rules, to)) {
            self.close(Reason::Idle, out);
        }
    }

    fn close(&mut self, reason: Reason, out: &mut Vec<Closed<T>>) {
        out.extend(self.open.take().map(|session| Closed { session, reason }));
    }
}

/// Returns the id of the session that the event `first_id` named, on a device of a tenant.
pub fn session_id(tenant: &str, device_key: &str, first_id: &str) -> Id {
    identity(&["ses/1", tenant, device_key, first_id])
}
