//! The event model: the envelope that every behaviour event travels in, and what each kind of event says.
//!
//! `Envelope` is what arrives; `Event` is what the machines of this crate are fed: its time already corrected, what it points
//! at already named, no text of a page or a person in it.

use serde::{Deserialize, Serialize};

pub mod kind;
pub mod payload;
pub mod record;

pub use kind::{Class, Kind};
pub use payload::Payload;

use crate::time::Stamps;

/// The longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 100;

/// The longest name (of a page, a target, a form, an endpoint, an error) that an event carries on, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// What every event carries, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Chosen by the producer; at most 100 bytes; `(source, event_id)` is unique.
    pub event_id: String,
    /// Who sent it.
    pub source: String,
    /// Whose it is: part of every key and every hash.
    pub tenant_id: String,
    /// What it is.
    pub kind: Kind,
    /// The client's and our clocks, from which the event time follows.
    pub stamps: Stamps,
    /// µs since the page was loaded, by the browser's monotonic clock.
    pub mono_us: Option<i64>,
    /// One load of one page.
    pub page_load_id: Option<String>,
    /// One browser tab.
    pub tab_id: Option<String>,
    /// Strictly increasing per tab.
    pub seq: Option<u64>,
    /// The device, as a cookie names it.
    pub anonymous_id: Option<String>,
    /// The account.
    pub user_id: Option<String>,
    /// The id of the key it was sent with; never the key.
    pub api_key_id: Option<String>,
    /// The template of the page's route; see `privacy::page_key`.
    pub page_key: Option<String>,
    /// Where the visitor came from, on a page view that says so.
    pub campaign: Option<Campaign>,
    /// Why it is taken for a machine's, if it is.
    pub bot_reason: Option<String>,
}

/// The campaign that a page view names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Such as a search engine.
    pub source: String,
    /// Such as `cpc`.
    pub medium: String,
    /// The campaign's own name.
    pub name: String,
    /// The search term.
    pub term: String,
    /// Which of several contents.
    pub content: String,
    /// The click id's kind (such as `gclid`) and value.
    pub click_id: Option<(String, String)>,
}

/// Why an envelope is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The event id is empty or longer than 100 bytes.
    EventId,
    /// The source is empty.
    Source,
    /// The tenant is empty.
    Tenant,
    /// It names neither a device nor an account.
    Nobody,
}

impl Envelope {
    /// Returns the first rule of the envelope that this one breaks.
    pub fn fault(&self) -> Option<Fault> {
        let named = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.is_empty());
        if self.event_id.is_empty() || self.event_id.len() > EVENT_ID_BYTES_MAX {
            Some(Fault::EventId)
        } else if self.source.is_empty() {
            Some(Fault::Source)
        } else if self.tenant_id.is_empty() {
            Some(Fault::Tenant)
        } else if !named(&self.anonymous_id) && !named(&self.user_id) {
            Some(Fault::Nobody)
        } else {
            None
        }
    }

    /// Returns whether the event is taken for a machine's: such are flagged and left out of signals, not deleted.
    pub fn is_bot(&self) -> bool {
        self.bot_reason.is_some()
    }
}

/// Where an event was read, so that it can be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The number of the split (file or partition) in its job.
    pub split: u32,
    /// The place in the split.
    pub offset: u64,
}

/// An event as evidence names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventRef {
    /// Its id.
    pub id: String,
    /// Where it was read.
    pub position: Position,
}

/// An event as the machines take it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which one it is.
    pub this: EventRef,
    /// The corrected event time, in ms since the epoch.
    pub time: i64,
    /// µs since the page was loaded, where the browser tells.
    pub mono_us: Option<i64>,
    /// The page load; empty if unknown.
    pub page_load: String,
    /// The template of the page's route; empty if unknown.
    pub page_key: String,
    /// What it says.
    pub payload: Payload,
}

impl Event {
    /// Cuts what is longer than any honest name, so that state stays small whatever is sent: ids to 100 bytes, names to 256.
    /// The machines are to be fed events that were cut.
    pub fn cut(&mut self) {
        cut(&mut self.this.id, EVENT_ID_BYTES_MAX);
        cut(&mut self.page_load, EVENT_ID_BYTES_MAX);
        cut(&mut self.page_key, NAME_BYTES_MAX);
        self.payload.names_mut().into_iter().for_each(|name| cut(name, NAME_BYTES_MAX));
    }

    /// Orders events of one key: event time, then the rank of the kind (a touch before an order, an order before its
    /// refund), then the bytes of the id.
    pub fn total_order(&self, other: &Event) -> std::cmp::Ordering {
        let key = |event: &Event| (event.time, event.payload.kind().rank());
        key(self).cmp(&key(other)).then_with(|| self.this.id.as_bytes().cmp(other.this.id.as_bytes()))
    }
}

/// Cuts a text to at most `bytes_max` bytes of whole characters.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            event_id: "e1".to_owned(),
            source: "shop".to_owned(),
            tenant_id: "t1".to_owned(),
            kind: Kind::Click,
            stamps: Stamps::default(),
            mono_us: None,
            page_load_id: None,
            tab_id: None,
            seq: None,
            anonymous_id: Some("dev-1".to_owned()),
            user_id: None,
            api_key_id: None,
            page_key: None,
            campaign: None,
            bot_reason: None,
        }
    }

    #[test]
    fn a_whole_envelope_has_no_fault() {
        assert_eq!(envelope().fault(), None);
        assert!(!envelope().is_bot());
    }

    #[test]
    fn each_rule_of_the_envelope_is_kept() {
        let id = |bytes: usize| Envelope { event_id: "x".repeat(bytes), ..envelope() };
        assert_eq!(id(0).fault(), Some(Fault::EventId));
        assert_eq!(id(100).fault(), None);
        assert_eq!(id(101).fault(), Some(Fault::EventId));
        assert_eq!(Envelope { source: String::new(), ..envelope() }.fault(), Some(Fault::Source));
        assert_eq!(Envelope { tenant_id: String::new(), ..envelope() }.fault(), Some(Fault::Tenant));
        assert_eq!(Envelope { anonymous_id: Some(String::new()), ..envelope() }.fault(), Some(Fault::Nobody));
    }

    #[test]
    fn long_names_are_cut() {
        let form = payload::Form { form_fp: "é".repeat(10_000), ..payload::Form::default() };
        let mut event = Event {
            this: EventRef { id: "é".repeat(1000), position: Position::default() },
            time: 0,
            mono_us: None,
            page_load: "l".to_owned(),
            page_key: "/".repeat(1000),
            payload: Payload::FormChange(form),
        };
        event.cut();
        assert_eq!((event.this.id.len(), event.page_load.len(), event.page_key.len()), (100, 1, 256));
        let Payload::FormChange(form) = &event.payload else { panic!("it stays what it is") };
        assert_eq!(form.form_fp, "é".repeat(128));
    }

    #[test]
    fn a_touch_comes_before_an_order_of_the_same_time() {
        let event = |id: &str, payload| Event {
            this: EventRef { id: id.to_owned(), position: Position::default() },
            time: 7,
            mono_us: None,
            page_load: String::new(),
            page_key: String::new(),
            payload,
        };
        let order = event("a", Payload::OrderCompleted);
        let click = event("b", Payload::Click(Box::default()));
        assert!(click.total_order(&order).is_lt());
        assert!(click.total_order(&event("a", Payload::Click(Box::default()))).is_gt());
    }
}
