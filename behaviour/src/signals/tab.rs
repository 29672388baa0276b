//! One browser tab: all rules over one stream of events.
//!
//! Key:      tenant, session, tab.
//! In:       the tab's events in the total order, and how far event time has come.
//! Out:      rows of signals; a row with a higher `rev` replaces an earlier one.
//! Order:    events that carry the browser's monotonic clock are put in its order, for which they wait `clock_skew_ms`; time-outs
//!           come in between at their own times. So it makes no difference how often the time is told. One that is sent again
//!           meanwhile counts once.
//! Keeps:    at most `HELD_MAX` events that wait for their place, and what each rule says that it keeps.
//! Restart:  the state is whole after every call.

use serde::{Deserialize, Serialize};

use super::app_crash::AppCrash;
use super::checkout::Checkout;
use super::clicks::Clicks;
use super::dead_swipe::DeadSwipe;
use super::dormant::Dormant;
use super::excessive_scroll::ExcessiveScroll;
use super::forms::Forms;
use super::jank::Jank;
use super::network_errors::NetworkErrors;
use super::quick_back::QuickBack;
use super::reload_loop::ReloadLoop;
use super::row::{Ledger, PageEnd, Signal};
use super::scene::{Emit, Moment, Page, Scene, Seen};
use super::search_struggle::SearchStruggle;
use super::settings::Settings;
use super::thrashed_cursor::ThrashedCursor;
use crate::event::Event;
use crate::event::payload::{Caps, Leave, Navigation, PageView, Payload, Tags};
use crate::time::TabClock;

/// Events that wait for their place at most; beyond that the first goes on at once.
pub const HELD_MAX: usize = 1024;
/// Page loads whose late events are told from those of the page that is shown.
const LOADS_MAX: usize = 8;

/// The state of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tab {
    clock: TabClock,
    /// Whether an event carried the monotonic clock, so that events wait for their place.
    waits: bool,
    /// By the tab's time, then as they came.
    held: Vec<Held>,
    /// How far the rules have come, in µs of the tab's time.
    reached_us: Option<i64>,
    /// The first time that a rule waits for, in µs: kept, as it is asked for with each event.
    due_us: Option<i64>,
    page: Page,
    /// Page loads before the one that is shown, oldest first.
    loads: Vec<String>,
    rules: Rules,
    /// Events of a page that is gone, which say nothing about the one that is shown.
    strays: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    at_us: i64,
    event: Event,
}

impl Held {
    /// Says whether `event`, of the same time by the browser's clock, is this one sent again. It was received at another time,
    /// and so its corrected time is another one.
    fn is_again(&self, event: &Event) -> bool {
        let own = &self.event;
        !event.this.id.is_empty() && own.this.id == event.this.id && own.payload.kind() == event.payload.kind()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rules {
    clicks: Dormant<Clicks>,
    quick_back: Dormant<QuickBack>,
    thrash: Dormant<ThrashedCursor>,
    scroll: Dormant<ExcessiveScroll>,
    forms: Dormant<Forms>,
    network: Dormant<NetworkErrors>,
    reload: Dormant<ReloadLoop>,
    jank: Dormant<Jank>,
    crash: Dormant<AppCrash>,
    swipe: Dormant<DeadSwipe>,
    search: Dormant<SearchStruggle>,
    /// Last: it listens to the others.
    checkout: Dormant<Checkout>,
}

/// Does something with each rule, in their order. Written out, as each event passes here and most rules look away at once.
macro_rules! each {
    ($rules:expr, $rule:ident => $act:expr) => {
        each!($rules, $rule => $act, clicks quick_back thrash scroll forms network reload jank crash swipe search checkout)
    };
    ($rules:expr, $rule:ident => $act:expr, $($field:ident)*) => {
        $({
            let $rule = &mut $rules.$field;
            $act
        })*
    };
}

impl Rules {
    /// Tells the checkout what the rules have told.
    fn listen(&mut self, emit: &mut Emit<'_>, scene: &Scene<'_>) {
        for note in std::mem::take(&mut emit.notes) {
            if let Some(checkout) = self.checkout.awake() {
                checkout.note(&note, scene, emit);
            }
        }
        // Only the checkout itself speaks then, and it does not listen to itself.
        emit.notes.clear();
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        each!(self, rule => rule.see(seen, scene, emit));
        self.listen(emit, scene);
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        each!(self, rule => rule.fire(now_us, scene, emit));
        self.listen(emit, scene);
    }

    fn leave(&mut self, moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        each!(self, rule => rule.leave(moment, scene, emit));
        self.listen(emit, scene);
    }

    fn close(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        each!(self, rule => rule.close(scene, emit));
        self.listen(emit, scene);
    }

    fn due_us(&mut self, settings: &Settings) -> Option<i64> {
        let mut first = i64::MAX;
        each!(self, rule => first = first.min(rule.due_us(settings).unwrap_or(i64::MAX)));
        // What waits for the end of time waits for the close.
        Some(first).filter(|first| *first < i64::MAX)
    }
}

/// What a tab works with.
#[derive(Debug)]
pub struct Desk<'a> {
    /// The numbers behind the rules.
    pub settings: &'a Settings,
    /// The books of the session.
    pub ledger: &'a mut Ledger,
    /// Where rows go.
    pub out: &'a mut Vec<Signal>,
    /// The forms of which a submit succeeded since this was made.
    pub successes: Vec<String>,
}

impl<'a> Desk<'a> {
    /// Makes a desk with these settings and books, whose rows go to `out`.
    pub fn new(settings: &'a Settings, ledger: &'a mut Ledger, out: &'a mut Vec<Signal>) -> Desk<'a> {
        Desk { settings, ledger, out, successes: Vec::new() }
    }

    fn emit(&mut self) -> Emit<'_> {
        let successes = &mut self.successes;
        Emit { settings: self.settings, ledger: self.ledger, out: self.out, notes: Vec::new(), successes }
    }
}

impl Tab {
    /// Takes in an event. Events come in the total order.
    pub fn push(&mut self, event: &Event, desk: &mut Desk<'_>) {
        self.advance(event.time, desk);
        let skew_ms = desk.settings.clock_skew_ms;
        let at_us = match event.mono_us {
            Some(mono_us) if !event.page_load.is_empty() => {
                self.waits = true;
                self.clock.at_us(event.time, mono_us, &event.page_load, skew_ms)
            }
            _ => event.time.saturating_mul(1000),
        };
        if !self.waits {
            self.step(event, at_us, desk);
            return;
        }
        if self.held.len() == HELD_MAX {
            let first = self.held.remove(0);
            self.run_to(first.at_us, desk);
            self.step(&first.event, first.at_us, desk);
        }
        let place = self.held.partition_point(|other| other.at_us <= at_us);
        if !self.held[..place].iter().rev().take_while(|held| held.at_us == at_us).any(|held| held.is_again(event)) {
            self.held.insert(place, Held { at_us, event: event.clone() });
        }
    }

    /// Tells that event time has come to `to` (ms): all events before it were pushed, and none before it will be.
    pub fn advance(&mut self, to: i64, desk: &mut Desk<'_>) {
        let skew_ms = if self.waits { desk.settings.clock_skew_ms.max(0) } else { 0 };
        self.run_to(to.saturating_sub(skew_ms).saturating_mul(1000), desk);
    }

    /// Tells that the session has ended, at `time` (ms): what waits is decided. Events may still come; an order makes good
    /// what it can.
    pub fn close(&mut self, time: i64, desk: &mut Desk<'_>) {
        self.run_to(time.saturating_mul(1000), desk);
        for held in std::mem::take(&mut self.held) {
            self.run_to(held.at_us, desk);
            self.step(&held.event, held.at_us, desk);
        }
        self.leave(Leave::Close, time.saturating_mul(1000), time, desk);
        let mut emit = desk.emit();
        let scene = Scene { settings: emit.settings, page: &self.page };
        self.rules.close(&scene, &mut emit);
        self.due_us = self.rules.due_us(desk.settings);
    }

    /// Tells that a submit of a form succeeded in another tab of the session.
    pub fn form_succeeded(&mut self, form_fp: &str, desk: &mut Desk<'_>) {
        if let Some(forms) = self.rules.forms.awake() {
            forms.succeeded_elsewhere(form_fp, &mut desk.emit());
        }
        self.due_us = self.rules.due_us(desk.settings);
    }

    /// Returns until when event time (ms) must come for something to happen without an event, if anything waits.
    pub fn due(&self, settings: &Settings) -> Option<i64> {
        let held_us = self.held.first().map(|held| held.at_us);
        let due_us = self.due_us.into_iter().chain(held_us).min().filter(|due| *due < i64::MAX)?;
        let skew_ms = if self.waits { settings.clock_skew_ms.max(0) } else { 0 };
        Some(due_us.div_euclid(1000).saturating_add(1).saturating_add(skew_ms))
    }

    /// Returns how many events were of a page that was gone already.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Does all that lies before `to_us`, in the order of time: events at a time before time-outs at that time.
    fn run_to(&mut self, to_us: i64, desk: &mut Desk<'_>) {
        let mut last_due = None;
        loop {
            let held_us = self.held.first().map(|held| held.at_us).filter(|at| *at < to_us);
            let due_us = self.due_us.filter(|due| *due < to_us);
            match (held_us, due_us) {
                (Some(held_us), due_us) if due_us.is_none_or(|due| held_us <= due) => {
                    let held = self.held.remove(0);
                    self.step(&held.event, held.at_us, desk);
                    last_due = None;
                }
                (_, Some(due_us)) => {
                    if last_due.is_some_and(|last| due_us <= last) {
                        debug_assert!(false, "a rule waits for a time that has passed");
                        break;
                    }
                    last_due = Some(due_us);
                    self.fire(due_us.saturating_add(1), desk);
                }
                _ => break,
            }
        }
    }

    fn fire(&mut self, now_us: i64, desk: &mut Desk<'_>) {
        let mut emit = desk.emit();
        let scene = Scene { settings: emit.settings, page: &self.page };
        self.rules.fire(now_us, &scene, &mut emit);
        self.due_us = self.rules.due_us(desk.settings);
    }

    /// Shows an event to the rules.
    fn step(&mut self, event: &Event, at_us: i64, desk: &mut Desk<'_>) {
        let at_us = self.reached_us.map_or(at_us, |reached| at_us.max(reached));
        self.reached_us = Some(at_us);
        match &event.payload {
            // Nobody has seen it yet.
            Payload::PageView(view) if view.navigation == Navigation::Prerender => return,
            Payload::PageView(view) => self.turn_to(event, Some(view), at_us, desk),
            Payload::PageLeave(how) => {
                self.leave(*how, at_us, event.time, desk);
                return;
            }
            payload => match self.whose(event) {
                Whose::Shown => {}
                Whose::Unknown => self.turn_to(event, None, at_us, desk),
                Whose::Gone if says_nothing_later(payload) => {
                    self.strays = self.strays.saturating_add(1);
                    return;
                }
                Whose::Gone => {}
            },
        }
        // What a hand does shows that the page is back, as the browser may keep a page that was left.
        self.page.is_left &= !says_nothing_later(&event.payload);
        if self.page.key.is_empty() {
            self.page.key.clone_from(&event.page_key);
        }
        let mut emit = desk.emit();
        let scene = Scene { settings: emit.settings, page: &self.page };
        let seen = Seen { event, at_us };
        self.rules.see(&seen, &scene, &mut emit);
        self.due_us = self.rules.due_us(desk.settings);
    }

    fn whose(&self, event: &Event) -> Whose {
        if event.page_load.is_empty() || event.page_load == self.page.load {
            Whose::Shown
        } else if self.loads.contains(&event.page_load) {
            Whose::Gone
        } else {
            Whose::Unknown
        }
    }

    /// Shows another page. An event of a page load without a page view shows that page, of which nothing else is known.
    fn turn_to(&mut self, event: &Event, view: Option<&PageView>, at_us: i64, desk: &mut Desk<'_>) {
        self.leave(Leave::Navigation, at_us, event.time, desk);
        let mut load_number = self.page.load_number;
        if event.page_load != self.page.load || event.page_load.is_empty() {
            load_number = load_number.saturating_add(1);
            if !self.page.load.is_empty() {
                if self.loads.len() == LOADS_MAX {
                    self.loads.remove(0);
                }
                self.loads.push(std::mem::take(&mut self.page.load));
            }
        }
        self.page = Page {
            key: event.page_key.clone(),
            load: event.page_load.clone(),
            load_number,
            since_us: at_us,
            caps: view.map_or(Caps::default(), |view| view.caps),
            tags: view.map_or(Tags::default(), |view| view.tags),
            is_left: false,
        };
    }

    fn leave(&mut self, how: Leave, at_us: i64, time: i64, desk: &mut Desk<'_>) {
        if self.page.is_left {
            return;
        }
        let mut emit = desk.emit();
        let scene = Scene { settings: emit.settings, page: &self.page };
        let at_us = self.reached_us.map_or(at_us, |reached| at_us.max(reached));
        let moment = Moment { at_us, time, how };
        if emit.settings.scroll.page_ends && !self.page.key.is_empty() {
            let reversals = self.rules.scroll.awake().map_or(0, |scroll| scroll.count());
            emit.ledger.page_ended(PageEnd { page_key: self.page.key.clone(), time, reversals });
        }
        self.rules.leave(&moment, &scene, &mut emit);
        self.due_us = self.rules.due_us(desk.settings);
        self.page.is_left = true;
    }
}

/// To which page an event belongs.
enum Whose {
    Shown,
    Gone,
    Unknown,
}

/// Whether an event says nothing once its page is gone: what a hand did there, and what answered it.
fn says_nothing_later(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::Click(_)
            | Payload::Swipe(_)
            | Payload::Reaction(_)
            | Payload::Scroll(_)
            | Payload::Input
            | Payload::Key
            | Payload::MouseMove(_)
            | Payload::CursorBurst(_)
            | Payload::LongTask { .. }
            | Payload::Responded { .. }
            | Payload::DomDrop { .. }
            | Payload::Blank { .. }
    )
}

#[cfg(test)]
mod tests;
