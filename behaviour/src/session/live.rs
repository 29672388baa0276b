//! Live sessions: given at once, and corrected when a late event changes them.
//!
//! What comes out is a table with signed changes: a session that changed is retracted and inserted again with `rev` + 1; one
//! that a late event joined to an earlier one is retracted, and its name is said to have moved. After all retractions the table
//! has the sessions of [`Sessions`] over the same events, whatever the order of arrival; `rev` and the name tell of the arrival.
//!
//! A session is named by its *anchor*, the event that was its first when it was first published. The name stays if an earlier
//! event comes late; of two sessions that become one the earlier keeps its name; of one that a late event cuts in two, the part
//! with the anchor keeps it, and the other is named by its first event.
//!
//! Events are kept until the watermark has passed them by the allowed lateness. More than [`HELD_MAX`] of one key are not kept:
//! the oldest are settled before their time, counted, and what comes before them is late.

use serde::{Deserialize, Serialize};

use super::{Closed, Mark, Placed, Reason, Rules, Session, Sessions, Tally};
use crate::event::Class;
use crate::weight::Weight;

/// The most events of one key that are kept to be folded again.
pub const HELD_MAX: usize = 10_000;

/// An event that may yet be preceded by another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
struct Held<T: Tally> {
    at: Place,
    class: Class,
    user: Option<String>,
    campaign: Option<String>,
    referrer: Option<String>,
    leaves: bool,
    row: T::Row,
}

impl<T: Tally> Held<T> {
    fn of(mark: &Mark<'_>, row: T::Row) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            at: Place::of(mark),
            class: mark.class,
            user: owned(mark.user),
            campaign: owned(mark.campaign),
            referrer: owned(mark.referrer),
            leaves: mark.leaves,
            row,
        }
    }

    fn mark(&self) -> Mark<'_> {
        Mark {
            time: self.at.time,
            rank: self.at.rank,
            id: &self.at.id,
            class: self.class,
            user: self.user.as_deref(),
            campaign: self.campaign.as_deref(),
            referrer: self.referrer.as_deref(),
            leaves: self.leaves,
        }
    }
}

/// A place in the total order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    time: i64,
    rank: u8,
    id: String,
}

impl Place {
    fn of(mark: &Mark<'_>) -> Self {
        Self { time: mark.time, rank: mark.rank, id: mark.id.to_owned() }
    }

    fn as_key(&self) -> (i64, u8, &str) {
        (self.time, self.rank, &self.id)
    }
}

/// A session that was published and may still change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
struct Standing<T: Tally> {
    anchor: Place,
    rev: u32,
    session: Session<T>,
    reason: Option<Reason>,
}

impl<T: Tally> Standing<T> {
    fn into_change(self, weight: Weight) -> Change<T> {
        let Self { anchor, rev, session, reason } = self;
        Change { weight, anchor: anchor.id, rev, session, reason }
    }
}

/// A row that joins or leaves the table of sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<T: Tally> {
    /// Whether it joins or leaves.
    pub weight: Weight,
    /// Id of the event that names the session, see [`super::session_id`].
    pub anchor: String,
    /// How often the session was published before.
    pub rev: u32,
    /// The session.
    pub session: Session<T>,
    /// Why it ended; none while it may still grow.
    pub reason: Option<Reason>,
}

/// A session that became part of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The anchor that names no session any more.
    pub from: String,
    /// The anchor of the session that has its events.
    pub to: String,
}

/// What comes out of live sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Output<T: Tally> {
    /// Changes of the table; the retractions of one call come before its insertions.
    pub changes: Vec<Change<T>>,
    /// Names that moved.
    pub moved: Vec<Moved>,
    /// Ids and rows of passive events that no session was open for; said once nothing can change that.
    pub sessionless: Vec<(String, T::Row)>,
    /// How many events were settled before their time, because too many were kept.
    pub forced: usize,
}

impl<T: Tally> Default for Output<T> {
    fn default() -> Self {
        Self { changes: Vec::new(), moved: Vec::new(), sessionless: Vec::new(), forced: 0 }
    }
}

/// The live sessions of one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Live<T: Tally> {
    /// The fold of all events that nothing can come before any more.
    base: Sessions<T>,
    /// The others, in total order.
    held: Vec<Held<T>>,
    /// How many of `held` are in `closed` and `tail`.
    folded: usize,
    /// Sessions that `held` ended, from `base` on.
    closed: Vec<Closed<T>>,
    /// The fold of `base` and `held[..folded]`.
    tail: Sessions<T>,
    /// What is published and may still change: after [`Live::advance`] one for each of `closed` and `tail`, in their order.
    standing: Vec<Standing<T>>,
    /// How far event time has come.
    passed: i64,
    /// An event before this is late.
    settled: i64,
}

impl<T: Tally> Default for Live<T> {
    fn default() -> Self {
        Self {
            base: Sessions::default(),
            held: Vec::new(),
            folded: 0,
            closed: Vec::new(),
            tail: Sessions::default(),
            standing: Vec::new(),
            passed: i64::MIN,
            settled: i64::MIN,
        }
    }
}

impl<T: Tally> Live<T> {
    /// Takes in one event, in any order of arrival; nothing comes out before [`Live::advance`].
    ///
    /// Returns [`Placed::Late`] if it came after its time and is not taken in, else [`Placed::Joined`].
    pub fn push(&mut self, mark: &Mark<'_>, row: T::Row) -> Placed {
        if mark.time < self.settled {
            return Placed::Late;
        }
        let key = (mark.time, mark.rank, mark.id);
        let at = self.held.partition_point(|held| held.at.as_key() <= key);
        self.held.insert(at, Held::of(mark, row));
        if at < self.folded {
            self.folded = 0;
            self.closed.clear();
            self.tail = self.base.clone();
        }
        Placed::Joined
    }

    /// Tells that event time has reached `to`, the watermark, and publishes what has changed since the last call.
    pub fn advance(&mut self, rules: &Rules, settings: &T::Settings, lateness_ms: i64, to: i64, out: &mut Output<T>) {
        self.passed = self.passed.max(to);
        let bound = self.passed.saturating_sub(lateness_ms.max(0));
        if self.is_current(rules, bound) {
            self.settled = self.settled.max(bound);
            return;
        }
        for held in &self.held[self.folded..] {
            self.tail.push(rules, settings, &held.mark(), &held.row, &mut self.closed);
        }
        self.folded = self.held.len();
        self.publish(rules, out);
        self.settle(rules, settings, bound, out);
    }

    /// Returns how many events are kept.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Returns the time that event time must pass for [`Live::advance`] to do something although no event comes, if anything
    /// waits.
    pub fn due(&self, rules: &Rules, lateness_ms: i64) -> Option<i64> {
        let lateness_ms = lateness_ms.max(0);
        let idle = |sessions: &Sessions<T>| {
            sessions.open.as_ref().map(|open| open.span.last_interaction.saturating_add(rules.idle_timeout_ms))
        };
        let told = self.standing.last().is_some_and(|last| last.reason.is_some());
        let falls_silent = idle(&self.tail).filter(|_| !told);
        let is_final = idle(&self.base).map(|at| at.saturating_add(lateness_ms));
        let settles = self.held.first().map(|held| held.at.time.saturating_add(lateness_ms));
        [falls_silent, is_final, settles].into_iter().flatten().min()
    }

    /// Says whether nothing is left of the key: its state may be dropped.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.base.open.is_none()
    }

    /// Says whether nothing can have changed since the last publication, and nothing is to be settled.
    fn is_current(&self, rules: &Rules, bound: i64) -> bool {
        let ended =
            |sessions: &Sessions<T>, to| sessions.open.as_ref().is_some_and(|open| open.span.is_idle(rules, to));
        let told = self.standing.last().is_some_and(|last| last.reason.is_some());
        self.folded == self.held.len()
            && (told || !ended(&self.tail, self.passed))
            && !ended(&self.base, bound)
            && self.held.first().is_none_or(|first| first.at.time >= bound)
            && self.held.len() <= HELD_MAX
    }

    /// Holds the sessions as they are against those that were published.
    fn publish(&mut self, rules: &Rules, out: &mut Output<T>) {
        let open =
            self.tail.open.as_ref().map(|open| (open, open.span.is_idle(rules, self.passed).then_some(Reason::Idle)));
        let drawn: Vec<(&Session<T>, Option<Reason>)> =
            self.closed.iter().map(|closed| (&closed.session, Some(closed.reason))).chain(open).collect();
        let mut before = std::mem::take(&mut self.standing).into_iter().peekable();
        let mut inserted = Vec::new();
        for (at, (session, reason)) in drawn.iter().enumerate() {
            let next = drawn.get(at + 1).map(|(next, _)| next.span.first());
            let is_inside = |old: &Standing<T>| next.is_none_or(|next| old.anchor.as_key() < next);
            let kept = before.next_if(is_inside);
            while let Some(old) = before.next_if(is_inside) {
                let to = kept.as_ref().map_or_else(|| session.span.first_id.clone(), |kept| kept.anchor.id.clone());
                out.moved.push(Moved { from: old.anchor.id.clone(), to });
                out.changes.push(old.into_change(Weight::Retract));
            }
            let same = |old: &Standing<T>| old.session == **session && old.reason == *reason;
            let (anchor, rev) = match kept {
                Some(old) if same(&old) => {
                    self.standing.push(old);
                    continue;
                }
                Some(old) => {
                    let named = (old.anchor.clone(), old.rev.saturating_add(1));
                    out.changes.push(old.into_change(Weight::Retract));
                    named
                }
                None => {
                    let (time, rank, id) = session.span.first();
                    (Place { time, rank, id: id.to_owned() }, 0)
                }
            };
            let new = Standing { anchor, rev, session: (*session).clone(), reason: *reason };
            inserted.push(new.clone().into_change(Weight::Insert));
            self.standing.push(new);
        }
        out.changes.append(&mut inserted);
    }

    /// Folds the events before `bound` for good, and forgets the sessions that are thereby final.
    fn settle(&mut self, rules: &Rules, settings: &T::Settings, bound: i64, out: &mut Output<T>) {
        let due = self.held.partition_point(|held| held.at.time < bound);
        let count = due.max(self.held.len().saturating_sub(HELD_MAX));
        out.forced += count - due;
        self.settled = self.settled.max(bound);
        let mut gone = Vec::new();
        for held in self.held.drain(..count) {
            self.settled = self.settled.max(held.at.time.saturating_add(1));
            let placed = self.base.push(rules, settings, &held.mark(), &held.row, &mut gone);
            if placed == Placed::Sessionless {
                out.sessionless.push((held.at.id, held.row));
            }
        }
        self.base.advance(rules, bound, &mut gone);
        self.folded -= count;
        self.standing.drain(..gone.len().min(self.standing.len()));
        let of_closed = gone.len().min(self.closed.len());
        self.closed.drain(..of_closed);
        if gone.len() > of_closed {
            // The last session ended by silence and is final: nothing is open behind it.
            self.tail = self.base.clone();
        }
    }
}
