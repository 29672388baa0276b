//! One session: its tabs, and what they share.
//!
//! Key:      tenant, session.
//! In:       the session's events in the total order, each with its tab, and how far event time has come.
//! Out:      rows of signals; a row with a higher `rev` replaces an earlier one.
//! Shares:   the books, so that caps are those of the session; the success of a form, and an order, which make good what was
//!           told in another tab. Patterns never span tabs.
//! Order:    what waits in several tabs is done in the order of time, then of the tab's id.
//! Keeps:    at most `TABS_MAX` tabs; the one that was silent for longest is closed before another is opened.
//! Restart:  the state is whole after every call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::row::{Ledger, PageEnd, Signal};
use super::settings::Settings;
use super::tab::{Desk, Tab};
use crate::event::Event;
use crate::event::payload::Payload;

/// Tabs of a session that are kept at most.
pub const TABS_MAX: usize = 32;

/// The state of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    ledger: Ledger,
    /// In boxes, as a map makes room for eleven at once and most sessions have one.
    tabs: BTreeMap<String, Box<Open>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    tab: Tab,
    /// The event time of its last event, in ms.
    last: i64,
}

impl Visit {
    /// Begins a session.
    pub fn new(tenant: &str, session: &str) -> Visit {
        Visit { ledger: Ledger::new(tenant, session), tabs: BTreeMap::new() }
    }

    /// Takes in an event of the tab `tab_id`; what no tab sent has an id of its own, such as the empty one. Events come in the
    /// total order.
    pub fn push(&mut self, tab_id: &str, event: &Event, settings: &Settings, out: &mut Vec<Signal>) {
        self.advance(event.time, settings, out);
        if !self.tabs.contains_key(tab_id) {
            self.make_room(settings, out);
            self.tabs.insert(tab_id.to_owned(), Box::default());
        }
        self.each(
            |id| id == tab_id,
            settings,
            out,
            |open, desk| {
                open.last = event.time;
                open.tab.push(event, desk);
            },
        );
        if event.payload == Payload::OrderCompleted {
            self.tell_order(tab_id, event, settings, out);
        }
    }

    /// Takes in an order that the same person placed in another session.
    pub fn ordered_elsewhere(&mut self, event: &Event, settings: &Settings, out: &mut Vec<Signal>) {
        self.advance(event.time, settings, out);
        let event = Event { payload: Payload::OrderCompleted, ..foreign(event) };
        self.each(|_| true, settings, out, |open, desk| open.tab.push(&event, desk));
    }

    /// Tells that event time has come to `to` (ms): all events before it were pushed, and none before it will be.
    pub fn advance(&mut self, to: i64, settings: &Settings, out: &mut Vec<Signal>) {
        while let Some((due, id)) = self.next(settings).filter(|(due, _)| *due <= to) {
            let id = id.to_owned();
            self.each(|other| *other == id, settings, out, |open, desk| open.tab.advance(due, desk));
            if self.next(settings).is_some_and(|next| next <= (due, &id)) {
                debug_assert!(false, "a tab waits for a time that has passed");
                break;
            }
        }
    }

    /// Returns until when event time (ms) must come for something to happen without an event, if anything waits.
    pub fn due(&self, settings: &Settings) -> Option<i64> {
        self.next(settings).map(|(due, _)| due)
    }

    /// Tells that the session has ended, at `time` (ms). What it told can still be made good by an order for as long as this is
    /// kept: 30 minutes are enough.
    pub fn close(&mut self, time: i64, settings: &Settings, out: &mut Vec<Signal>) {
        self.advance(time, settings, out);
        self.each(|_| true, settings, out, |open, desk| open.tab.close(time, desk));
    }

    /// Takes the page views away that have ended since this was asked last, in the order in which they did.
    pub fn take_page_ends(&mut self) -> Vec<PageEnd> {
        self.ledger.take_page_ends()
    }

    /// Returns the tab that something happens in next, and when.
    fn next(&self, settings: &Settings) -> Option<(i64, &str)> {
        self.tabs.iter().filter_map(|(id, open)| Some((open.tab.due(settings)?, id.as_str()))).min()
    }

    fn make_room(&mut self, settings: &Settings, out: &mut Vec<Signal>) {
        if self.tabs.len() < TABS_MAX {
            return;
        }
        let silent = self.tabs.iter().min_by_key(|(id, open)| (open.last, *id));
        let Some((id, last)) = silent.map(|(id, open)| (id.clone(), open.last)) else { return };
        self.each(|other| *other == id, settings, out, |open, desk| open.tab.close(last, desk));
        self.tabs.remove(&id);
    }

    fn tell_order(&mut self, tab_id: &str, event: &Event, settings: &Settings, out: &mut Vec<Signal>) {
        let event = foreign(event);
        self.each(|id| id != tab_id, settings, out, |open, desk| open.tab.push(&event, desk));
    }

    /// Does something to some tabs, and tells the others of the forms that succeeded there.
    fn each(
        &mut self,
        which: impl Fn(&str) -> bool,
        settings: &Settings,
        out: &mut Vec<Signal>,
        mut act: impl FnMut(&mut Open, &mut Desk<'_>),
    ) {
        let mut desk = Desk::new(settings, &mut self.ledger, out);
        let mut succeeded = Vec::new();
        for (id, open) in self.tabs.iter_mut().filter(|(id, _)| which(id)) {
            act(open, &mut desk);
            succeeded.extend(desk.successes.drain(..).map(|form_fp| (id.clone(), form_fp)));
        }
        for (id, form_fp) in succeeded {
            for (_, open) in self.tabs.iter_mut().filter(|(other, _)| **other != id) {
                open.tab.form_succeeded(&form_fp, &mut desk);
            }
        }
    }
}

/// An event as a tab sees it that did not send it: of no page there.
fn foreign(event: &Event) -> Event {
    Event { page_load: String::new(), page_key: String::new(), mono_us: None, ..event.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::SignalKind;
    use super::super::samples::{ALL_CAPS, click, event};
    use super::*;
    use crate::event::payload::{Form, Leave, PageView};

    struct Script {
        visit: Visit,
        number: u64,
        out: Vec<Signal>,
    }

    impl Script {
        fn new(tabs: &[&str]) -> Script {
            let mut script = Script { visit: Visit::new("t1", "s1"), number: 0, out: Vec::new() };
            for tab in tabs {
                let view = PageView { caps: ALL_CAPS, ..PageView::default() };
                script.at(tab, 0, Payload::PageView(Box::new(view)));
            }
            script
        }

        fn at(&mut self, tab: &str, ms: i64, payload: Payload) -> &mut Script {
            self.number += 1;
            self.visit.push(tab, &event(self.number, ms, "/", payload), &Settings::default(), &mut self.out);
            self
        }

        fn click(&mut self, tab: &str, ms: i64, target: &str) -> &mut Script {
            self.at(tab, ms, Payload::Click(Box::new(click(target))))
        }

        fn rows_at(&mut self, ms: i64) -> Vec<Signal> {
            self.visit.advance(ms, &Settings::default(), &mut self.out);
            std::mem::take(&mut self.out)
        }
    }

    #[test]
    fn a_pattern_never_spans_tabs() {
        let mut script = Script::new(&["w1", "w2"]);
        script.click("w1", 1000, "#buy").click("w2", 1100, "#buy").click("w1", 1200, "#buy");
        assert!(script.rows_at(60_000).iter().all(|row| row.kind != SignalKind::RageClick));
    }

    #[test]
    fn caps_are_those_of_the_session() {
        let mut script = Script::new(&["w1", "w2"]);
        for n in 0..40 {
            script.click("w1", n * 10_000, "#a").click("w2", n * 10_000 + 5000, "#b");
        }
        let rows = script.rows_at(1_000_000);
        assert_eq!(rows.iter().filter(|row| row.kind == SignalKind::DeadClick).count(), 50);
        assert_eq!(rows.iter().filter(|row| row.kind == SignalKind::Capped).count(), 1);
    }

    #[test]
    fn tabs_come_in_the_order_of_time() {
        for ticks in [vec![60_000], (0..600).map(|n| n * 100).collect()] {
            let mut script = Script::new(&["w1", "w2"]);
            script.click("w2", 1000, "#a").click("w1", 1001, "#b").click("w2", 3000, "#c");
            let rows: Vec<Signal> = ticks.into_iter().flat_map(|ms| script.rows_at(ms)).collect();
            let targets: Vec<&str> = rows.iter().map(|row| row.target_fp.as_str()).collect();
            assert_eq!(targets, ["#a", "#b", "#c"]);
        }
    }

    #[test]
    fn a_form_may_succeed_in_another_tab() {
        let field =
            |field_fp: &str| Form { form_fp: "#f".to_owned(), field_fp: field_fp.to_owned(), ..Form::default() };
        let mut script = Script::new(&["w1", "w2"]);
        script.at("w1", 1000, Payload::FormChange(field("a"))).at("w1", 2000, Payload::FormChange(field("b")));
        script.at("w1", 3000, Payload::PageLeave(Leave::Close)).at("w2", 9000, Payload::FormSubmit(field("")));
        let told: Vec<_> = script.rows_at(60_000).iter().map(|row| (row.kind, row.rev, row.points)).collect();
        assert_eq!(told, [(SignalKind::FormAbandon, 0, 3), (SignalKind::FormAbandon, 1, 0)]);
    }

    fn stuck() -> Script {
        let mut script = Script::new(&["w1", "w2"]);
        script.at("w1", 0, Payload::CheckoutStarted);
        script.at("w1", 1000, Payload::CouponDenied).at("w1", 2000, Payload::CouponDenied);
        for n in 1..14 {
            script.at("w1", n * 10_000, Payload::Key);
        }
        assert_eq!(std::mem::take(&mut script.out).len(), 1);
        script
    }

    #[test]
    fn an_order_in_another_tab_makes_good() {
        let mut script = stuck();
        script.at("w2", 200_000, Payload::OrderCompleted);
        let told: Vec<_> = script.rows_at(300_000).iter().map(|row| (row.kind, row.rev, row.points)).collect();
        assert_eq!(told, [(SignalKind::CheckoutStuck, 1, 0)]);
    }

    #[test]
    fn an_order_in_another_session_makes_good_after_the_close() {
        let mut script = stuck();
        let settings = Settings::default();
        script.visit.close(150_000, &settings, &mut script.out);
        assert_eq!(std::mem::take(&mut script.out)[0].kind, SignalKind::FunnelDrop);
        let order = event(99, 200_000, "/thanks", Payload::OrderCompleted);
        script.visit.ordered_elsewhere(&order, &settings, &mut script.out);
        assert_eq!(script.rows_at(300_000).iter().map(|row| row.points).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn the_tab_that_was_silent_for_longest_is_closed_for_another() {
        let mut script = Script::new(&[]);
        script.click("w0", 0, "#first");
        for n in 1..100 {
            script.click(&format!("w{n}"), n, "#x");
            assert!(script.visit.tabs.len() <= TABS_MAX);
        }
        assert!(!script.visit.tabs.contains_key("w0") && script.visit.tabs.contains_key("w99"));
    }

    #[test]
    fn extreme_times_do_not_panic() {
        for ms in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            let mut script = Script::new(&[]);
            script.click("w1", ms, "#a").click("w2", ms, "#b");
            script.rows_at(i64::MAX);
            script.visit.close(ms, &Settings::default(), &mut script.out);
            script.rows_at(i64::MAX);
        }
    }

    #[test]
    fn a_restart_changes_nothing() {
        let mut script = stuck();
        let saved = serde_json::to_string(&script.visit).unwrap();
        let restored: Visit = serde_json::from_str(&saved).unwrap();
        assert_eq!(restored, script.visit);
        script.visit = restored;
        script.at("w2", 200_000, Payload::OrderCompleted);
        assert_eq!(script.rows_at(300_000).len(), 1);
    }
}
