//! Which session each row joins: the fold of the rules of sessions, over columns.
//!
//! The rules are those of `riverrun_behaviour::session::fold`, which the tests hold this against.

use riverrun_behaviour::event::{Class, Kind};
use riverrun_behaviour::session::Reason;
use riverrun_behaviour::session::bots::BotSettings;

use super::marks::Marks;
use super::open::{CAMPAIGN, Ended, OpenSessions, REFERRER, USER};
use super::{Names, Rules};

/// Where the rows of a batch went.
#[derive(Default)]
pub(super) struct Placed {
    /// Rows that joined a session, in order.
    pub rows: Vec<u32>,
    /// The slot of the session of each of them.
    pub slots: Vec<u32>,
    /// Rows for which no session was open.
    pub sessionless: Vec<u32>,
    /// Sessions that a row has ended.
    pub ended: Vec<Ended>,
}

/// Folds all rows of a batch, whose key columns the sessions have read, into the open sessions.
pub(super) fn fold(rules: &Rules, marks: &Marks<'_>, names: &Names<'_>, open: &mut OpenSessions, placed: &mut Placed) {
    for row in marks.in_order() {
        let (time, hash) = (marks.times[row as usize], marks.hashes[row as usize]);
        let is_interaction = marks.is_interaction(row as usize);
        let mut found = open.keys.find(row, hash);
        if let Some(slot) = found
            && let Some(reason) = ending(rules, marks, open, slot, (row as usize, time, is_interaction))
        {
            open.close(slot, reason, &mut placed.ended);
            found = None;
        }
        let slot = match (found, is_interaction) {
            (Some(slot), _) => {
                join(marks, open, slot, (row as usize, time, is_interaction));
                slot
            }
            (None, true) => {
                let id = names.session(row as usize, &marks.id(row as usize));
                let slot = open.open(row, hash, id, time);
                open.set_timer(slot, rules.gap);
                open.set_text(USER, slot, marks.user(row as usize));
                open.set_text(CAMPAIGN, slot, marks.campaign(row as usize));
                open.set_text(REFERRER, slot, marks.referrer(row as usize));
                slot
            }
            (None, false) => {
                placed.sessionless.push(row);
                continue;
            }
        };
        watch(rules, marks, open, slot, row as usize);
        placed.rows.push(row);
        placed.slots.push(slot);
    }
}

/// Returns why a row at `time` ends the session before it, if it does.
fn ending(
    rules: &Rules,
    marks: &Marks<'_>,
    open: &OpenSessions,
    slot: u32,
    (row, time, is_interaction): (usize, i64, bool),
) -> Option<Reason> {
    let (start, last) = (open.starts[slot as usize], open.lasts[slot as usize]);
    let other = |which: usize, its: Option<&str>| its.is_some_and(|its| open.text(which, slot) != Some(its));
    if time > last.saturating_add(rules.gap) {
        Some(Reason::Idle)
    } else if !is_interaction {
        None
    } else if open.text(USER, slot).is_some() && other(USER, marks.user(row)) {
        Some(Reason::UserSwitch)
    } else if time.saturating_sub(start) > rules.max_duration {
        Some(Reason::MaxDuration)
    } else if rules.midnight.as_ref().is_some_and(|zone| zone.day(millis(time)) != zone.day(millis(last))) {
        Some(Reason::Midnight)
    } else if other(CAMPAIGN, marks.campaign(row)) {
        Some(Reason::Campaign)
    } else if other(REFERRER, marks.referrer(row)) {
        Some(Reason::Referrer)
    } else {
        None
    }
}

fn millis(micros: i64) -> i64 {
    micros.div_euclid(1000)
}

fn join(marks: &Marks<'_>, open: &mut OpenSessions, slot: u32, (row, time, is_interaction): (usize, i64, bool)) {
    let at = slot as usize;
    if is_interaction {
        open.lasts[at] = open.lasts[at].max(time);
    } else if marks.leaves(row) {
        open.leaves[at] = open.leaves[at].max(time);
    }
    if open.text(USER, slot).is_none() {
        open.set_text(USER, slot, marks.user(row));
    }
}

/// Looks for the signs of a bot in a row of a session.
fn watch(rules: &Rules, marks: &Marks<'_>, open: &mut OpenSessions, slot: u32, row: usize) {
    let (Some(bots), Some(events)) = (&mut open.bots, marks.events()) else { return };
    let bot = &mut bots[slot as usize];
    if bot.reason.is_some() {
        return;
    }
    let settings: &BotSettings = &rules.bots;
    let class = events.class(row);
    let mut sign = marks.bot(row);
    if class == Class::Interaction {
        sign = sign.or(bot.watch.interaction(settings, events.time_ms(row)));
    }
    match events.kinds[row] {
        Some(Kind::PageView) if class == Class::Interaction => {
            sign = sign.or(bot.watch.page_view(settings, events.time_ms(row)));
        }
        Some(Kind::Click) if class == Class::Interaction => {
            sign = sign.or(bot.watch.click(settings, marks.instant(events, row)));
        }
        _ => {}
    }
    bot.reason = sign;
    if sign.is_some() {
        // It stays a bot's: nothing more is to be watched.
        bot.watch = Default::default();
    }
}
