//! A tab that is played a few events, for tests.

use super::row::{Ledger, Signal};
use super::settings::Settings;
use super::tab::{Desk, Tab};
use crate::event::payload::{Caps, Click, Leave, PageView, Payload};
use crate::event::{Event, EventRef, Position};
use crate::target::Traits;

/// Everything that can be observed.
pub const ALL_CAPS: Caps = Caps(63);

/// A tab, and what has come out of it.
pub struct Script {
    pub settings: Settings,
    pub tab: Tab,
    pub ledger: Ledger,
    pub page_key: String,
    out: Vec<Signal>,
    number: u64,
}

/// The ids of a row's evidence.
pub fn ids(row: &Signal) -> Vec<&str> {
    row.evidence.iter().map(|event| event.id.as_str()).collect()
}

/// An event at `ms` with the id `e` and `number`.
pub fn event(number: u64, ms: i64, page_key: &str, payload: Payload) -> Event {
    let this = EventRef { id: format!("e{number}"), position: Position { split: 0, offset: number } };
    Event { this, time: ms, mono_us: None, page_load: String::new(), page_key: page_key.to_owned(), payload }
}

/// A click by hand on a button.
pub fn click(target_fp: &str) -> Click {
    Click {
        x: 100,
        y: 100,
        detail: 1,
        target_fp: target_fp.to_owned(),
        traits: Traits::INTERACTIVE,
        ..Click::default()
    }
}

impl Script {
    /// A tab that has shown no page yet.
    pub fn new() -> Script {
        Script::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Script {
        let ledger = Ledger::new("t1", "s1");
        let (tab, out, page_key) = (Tab::default(), Vec::new(), String::new());
        Script { settings, tab, ledger, page_key, out, number: 0 }
    }

    /// A tab that shows a page on which everything can be observed, since a minute before time 0.
    pub fn observed() -> Script {
        let mut script = Script::new();
        script.page(-60_000, "/", PageView { caps: ALL_CAPS, ..PageView::default() });
        script.number = 0;
        script
    }

    /// Shows a page of which nothing is known but its key.
    pub fn view(&mut self, key: &str) -> &mut Script {
        self.page(-60_000, key, PageView::default())
    }

    pub fn page(&mut self, ms: i64, key: &str, view: PageView) -> &mut Script {
        self.page_key = key.to_owned();
        self.at(ms, Payload::PageView(Box::new(view)))
    }

    /// Feeds an event; its id is `e` and its number.
    pub fn at(&mut self, ms: i64, payload: Payload) -> &mut Script {
        self.number += 1;
        let event = event(self.number, ms, &self.page_key.clone(), payload);
        self.feed(&event)
    }

    pub fn feed(&mut self, event: &Event) -> &mut Script {
        let mut desk = Desk::new(&self.settings, &mut self.ledger, &mut self.out);
        self.tab.push(event, &mut desk);
        self
    }

    pub fn click(&mut self, ms: i64, target_fp: &str) -> &mut Script {
        self.at(ms, Payload::Click(Box::new(click(target_fp))))
    }

    pub fn leave(&mut self, ms: i64) -> &mut Script {
        self.at(ms, Payload::PageLeave(Leave::Navigation))
    }

    pub fn close(&mut self, ms: i64) -> &mut Script {
        let mut desk = Desk::new(&self.settings, &mut self.ledger, &mut self.out);
        self.tab.close(ms, &mut desk);
        self
    }

    /// Lets time come to `ms`, and returns the rows since the last look.
    pub fn rows_at(&mut self, ms: i64) -> Vec<Signal> {
        let mut desk = Desk::new(&self.settings, &mut self.ledger, &mut self.out);
        self.tab.advance(ms, &mut desk);
        self.rows()
    }

    /// Returns the rows since the last look.
    pub fn rows(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.out)
    }
}

/// The last row of each signal, in the order in which they were first told.
pub fn last(rows: &[Signal]) -> Vec<Signal> {
    let mut last: Vec<Signal> = Vec::new();
    for row in rows {
        match last.iter_mut().find(|other| other.signal_id == row.signal_id) {
            Some(other) => *other = row.clone(),
            None => last.push(row.clone()),
        }
    }
    last
}
