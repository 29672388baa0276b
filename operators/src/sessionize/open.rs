//! The open sessions, at most one per key: each has a slot, a number under which its columns are found.

use std::collections::BTreeMap;

use riverrun_behaviour::identity::Id;
use riverrun_behaviour::session::Reason;
use riverrun_behaviour::session::bots::{BotReason, BotWatch};
use riverrun_dataflow::EventTime;

use crate::key_table::KeyTable;

/// Stands for no time.
pub(super) const NEVER: i64 = i64::MIN;
/// A timer is looked at once per `2^TIMER_SHIFT` microseconds, about a second, and put where it is due by then.
const TIMER_SHIFT: u32 = 20;

/// What is kept of the bots of a session.
#[derive(Default)]
pub(super) struct Bot {
    pub reason: Option<BotReason>,
    pub watch: BotWatch,
}

/// A session that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub slot: u32,
    pub reason: Reason,
}

/// The open sessions of a worker, in columns by slot.
pub(super) struct OpenSessions {
    pub keys: KeyTable,
    pub ids: Vec<Id>,
    pub starts: Vec<i64>,
    /// The last interaction.
    pub lasts: Vec<i64>,
    /// The last row that moved the end; [`NEVER`] without one.
    pub leaves: Vec<i64>,
    /// The account, the campaign, the referrer that the next row is held against; no columns where none is looked at.
    pub texts: [Option<Vec<Option<Box<str>>>>; 3],
    /// What tells bots; no column where none are looked for.
    pub bots: Option<Vec<Bot>>,
    /// How often a slot was used: a timer of an earlier use means nothing.
    uses: Vec<u32>,
    /// Every open session has exactly one timer, no later than it is due.
    timers: BTreeMap<i64, Vec<(u32, u32)>>,
}

/// Places in [`OpenSessions::texts`].
pub(super) const USER: usize = 0;
pub(super) const CAMPAIGN: usize = 1;
pub(super) const REFERRER: usize = 2;

impl OpenSessions {
    /// Returns no sessions. `texts` says which of user, campaign and referrer are looked at, `bots` whether bots are.
    pub(super) fn new(keys: KeyTable, texts: [bool; 3], bots: bool) -> OpenSessions {
        OpenSessions {
            keys,
            ids: Vec::new(),
            starts: Vec::new(),
            lasts: Vec::new(),
            leaves: Vec::new(),
            texts: texts.map(|is| is.then(Vec::new)),
            bots: bots.then(Vec::new),
            uses: Vec::new(),
            timers: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn slots(&self) -> usize {
        self.keys.slots()
    }

    /// Opens a session of a row's key, which has none, with one interaction at `time`.
    pub(super) fn open(&mut self, row: u32, hash: u64, id: Id, time: i64) -> u32 {
        let slot = self.keys.insert(row, hash);
        let count = self.keys.slots();
        if self.starts.len() < count {
            self.ids.resize(count, Id([0; 16]));
            self.starts.resize(count, NEVER);
            self.lasts.resize(count, NEVER);
            self.leaves.resize(count, NEVER);
            self.texts.iter_mut().flatten().for_each(|column| column.resize(count, None));
            self.bots.iter_mut().for_each(|bots| bots.resize_with(count, Bot::default));
            self.uses.resize(count, 0);
        }
        let at = slot as usize;
        self.ids[at] = id;
        self.starts[at] = time;
        self.lasts[at] = time;
        self.leaves[at] = NEVER;
        slot
    }

    /// Sets the timer of a session that was just opened or put back.
    pub(super) fn set_timer(&mut self, slot: u32, gap: i64) {
        let due = self.lasts[slot as usize].saturating_add(gap) >> TIMER_SHIFT;
        self.timers.entry(due).or_default().push((slot, self.uses[slot as usize]));
    }

    /// Returns the end of a session: the last interaction, or what moved the end after it.
    pub(super) fn end(&self, slot: u32) -> i64 {
        self.lasts[slot as usize].max(self.leaves[slot as usize])
    }

    /// Returns a text that the next row is held against.
    pub(super) fn text(&self, which: usize, slot: u32) -> Option<&str> {
        self.texts[which].as_ref().and_then(|column| column[slot as usize].as_deref())
    }

    pub(super) fn set_text(&mut self, which: usize, slot: u32, text: Option<&str>) {
        if let Some(column) = &mut self.texts[which] {
            column[slot as usize] = text.map(Into::into);
        }
    }

    /// Takes out the sessions that silence has ended once no row before `limit` can come; all at the end.
    pub(super) fn take_idle(&mut self, gap: i64, limit: EventTime, ended: &mut Vec<Ended>) {
        let mut later = Vec::new();
        while let Some(first) = self.timers.first_entry() {
            if *first.key() > limit.0 >> TIMER_SHIFT {
                break;
            }
            for (slot, uses) in first.remove() {
                if self.uses[slot as usize] != uses {
                    continue;
                }
                let due = self.lasts[slot as usize].saturating_add(gap);
                if due < limit.0 || limit == EventTime::MAX {
                    self.close(slot, Reason::Idle, ended);
                } else {
                    later.push((due >> TIMER_SHIFT, slot, uses));
                }
            }
        }
        for (due, slot, uses) in later {
            self.timers.entry(due).or_default().push((slot, uses));
        }
    }

    /// Ends a session: its key has none any more, its columns stay until [`OpenSessions::release`].
    pub(super) fn close(&mut self, slot: u32, reason: Reason, ended: &mut Vec<Ended>) {
        self.keys.remove(slot);
        self.uses[slot as usize] = self.uses[slot as usize].wrapping_add(1);
        ended.push(Ended { slot, reason });
    }

    /// Frees the slots of sessions that have ended.
    pub(super) fn release(&mut self, slots: &[u32]) {
        for slot in slots {
            self.texts.iter_mut().flatten().for_each(|column| column[*slot as usize] = None);
            self.bots.iter_mut().for_each(|bots| bots[*slot as usize] = Bot::default());
        }
        self.keys.release(slots);
    }
}
