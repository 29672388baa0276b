//! Behaviour events as rows: the schema `@behaviour-event`, and the way from its columns to the events of the rules.
//!
//! A source with this schema has the columns of [`COLUMNS`]: the envelope, and one column per thing that some kind of event says,
//! null where it says nothing of it. A step finds those that its input still has by their names ([`EventReader::of`]); what a
//! stream does not have is as if it were null. [`EventRows`] reads a batch: what the envelope says row by row, and whole events
//! for the machines of the rules.
//!
//! Event time is that of the rows, in whole milliseconds; the place is where the row was read.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, UInt32Type, UInt64Type};
use riverrun_behaviour::event::kind::{Class, Kind};
use riverrun_behaviour::event::record::{self, Record, Value};
use riverrun_behaviour::event::{Event, EventRef, Payload, Position};
use riverrun_behaviour::privacy;
use riverrun_behaviour::session::bots::{BotReason, by_browser};
use riverrun_behaviour::session::class::{Cause, Origin, class_of};
use riverrun_behaviour::target::StepWords;
use riverrun_behaviour::time::mono_us;
use riverrun_dataflow::operator::StepError;
use riverrun_dataflow::schema::Hidden;

use crate::expression::type_name;

/// The type of a column of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Yes or no.
    Bool,
    /// Milliseconds since the epoch.
    Time,
}

/// A column of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventColumn {
    /// Its name.
    pub name: &'static str,
    /// Where it is found in a record, with dots between the levels.
    pub path: &'static str,
    /// Its type.
    pub column_type: EventType,
    /// A row without it is bad.
    pub required: bool,
    /// What it says.
    pub doc: &'static str,
}

const fn column(name: &'static str, column_type: EventType, doc: &'static str) -> EventColumn {
    EventColumn { name, path: name, column_type, required: false, doc }
}

const fn required(name: &'static str, column_type: EventType, doc: &'static str) -> EventColumn {
    EventColumn { name, path: name, column_type, required: true, doc }
}

const fn nested(name: &'static str, path: &'static str, doc: &'static str) -> EventColumn {
    EventColumn { name, path, column_type: EventType::Text, required: false, doc }
}

/// The event time of a source with this schema, unless its job says otherwise.
pub const EVENT_TIME: &str = "event_time";
/// The id of its rows, unless its job says otherwise.
pub const EVENT_ID: &str = "event_id";

/// What every event carries, and what orders say of themselves.
const ENVELOPE: &[EventColumn] = &[
    required(EVENT_ID, EventType::Text, "Chosen by the producer; `(source, event_id)` is unique."),
    column("source", EventType::Text, "Who sent it."),
    column("tenant_id", EventType::Text, "Whose it is."),
    required("type", EventType::Text, "What it is, by our name or that of another tool: `page_view`, `$pageview`."),
    required(
        EVENT_TIME,
        EventType::Time,
        "When it happened. Where a record has none, `clocks` find it by the three times below.",
    ),
    column(
        "clock_future",
        EventType::Bool,
        "The client's clock was too far ahead; it is taken to have happened when it was received.",
    ),
    column("client_time", EventType::Time, "The client's clock when it happened."),
    column("sent_at", EventType::Time, "The client's clock when it was sent."),
    column("received_at", EventType::Time, "The clock of who received it."),
    column("mono_ms", EventType::Float, "Milliseconds since the page was loaded, by the browser's monotonic clock."),
    column("page_load_id", EventType::Text, "One load of one page; only events of a browser have it."),
    column("tab_id", EventType::Text, "One tab; only events of a browser have it."),
    column("seq", EventType::Int, "Strictly increasing per tab."),
    column("anonymous_id", EventType::Text, "The device, as a cookie names it."),
    column("user_id", EventType::Text, "The account."),
    column("session_id", EventType::Text, "The session, as the client or a step before names it."),
    column("api_key_id", EventType::Text, "The id of the key it was sent with; never the key."),
    column("page_key", EventType::Text, "The template of the page's route, such as `/product/:id`."),
    nested("campaign_source", "campaign.source", "page_view: the campaign's source."),
    nested("campaign_medium", "campaign.medium", "page_view: its medium, such as `cpc`."),
    nested("campaign_name", "campaign.name", "page_view: its name."),
    nested("campaign_term", "campaign.term", "page_view: the search term."),
    nested("campaign_content", "campaign.content", "page_view: which of several contents."),
    nested("click_id_kind", "campaign.click_id.kind", "page_view: the kind of click id, such as `gclid`."),
    nested("click_id", "campaign.click_id.value", "page_view: the click id."),
    column("referrer", EventType::Text, "page_view: the outside page it was reached from, without a query."),
    column("device_type", EventType::Text, "The kind of device."),
    column("user_agent", EventType::Text, "What the browser calls itself."),
    column("webdriver", EventType::Bool, "The browser says that it is driven by a program."),
    column("is_bot", EventType::Bool, "It is taken for a machine's."),
    column("bot_reason", EventType::Text, "Why."),
    column("release", EventType::Text, "The release of the shop's page."),
    column("order_id", EventType::Text, "orders: which one."),
    column("amount_minor", EventType::Int, "orders: its worth in minor units of its currency."),
    column("currency", EventType::Text, "orders: its currency."),
    column("product_id", EventType::Text, "What product it is about."),
];

/// The columns of the schema `@behaviour-event`.
pub static COLUMNS: LazyLock<Vec<EventColumn>> = LazyLock::new(|| {
    let said = record::COLUMNS.iter().map(|(name, column_type, doc)| {
        let column_type = match column_type {
            record::ColumnType::Int => EventType::Int,
            record::ColumnType::Text => EventType::Text,
            record::ColumnType::Bool => EventType::Bool,
        };
        column(name, column_type, doc)
    });
    ENVELOPE.iter().copied().chain(said).collect()
});

/// Returns the names of the columns of the schema that a stream has.
pub fn columns_in(schema: &Schema) -> Vec<&'static str> {
    COLUMNS.iter().map(|column| column.name).filter(|name| schema.column_with_name(name).is_some()).collect()
}

/// Finds the columns of behaviour events in the rows of a stream.
#[derive(Clone, Debug)]
pub struct EventReader {
    /// The place of each column of [`COLUMNS`] in the stream, by name.
    places: HashMap<&'static str, usize>,
}

impl EventReader {
    /// Looks for the columns in `schema`, or returns what does not fit: without a `type` there is no event, and a column that has
    /// a name of the schema is to have its type.
    pub fn of(schema: &Schema) -> Result<EventReader, String> {
        let mut places = HashMap::new();
        for column in COLUMNS.iter() {
            let Some((place, field)) = schema.column_with_name(column.name) else { continue };
            let fits = match (column.column_type, field.data_type()) {
                (EventType::Text, DataType::Utf8)
                | (EventType::Int, DataType::Int64)
                | (EventType::Float, DataType::Float64)
                | (EventType::Bool, DataType::Boolean)
                | (EventType::Time, DataType::Timestamp(..)) => true,
                (_, _) => false,
            };
            if !fits {
                let found = type_name(field.data_type());
                return Err(format!("`{}` of behaviour events is not a {found}", column.name));
            }
            places.insert(column.name, place);
        }
        match places.contains_key("type") {
            true => Ok(EventReader { places }),
            false => Err("behaviour events have a column `type`".to_owned()),
        }
    }

    /// Reads a batch of the stream.
    pub fn rows<'b>(&self, batch: &'b RecordBatch) -> Result<EventRows<'b>, StepError> {
        let column = |name: &str| self.places.get(name).map(|place| batch.column(*place));
        // Most columns say nothing in most batches.
        let said = |name: &str| column(name).filter(|column| column.null_count() < column.len());
        let text = |name: &str| said(name).map(|column| column.as_string::<i32>());
        let flag = |name: &str| said(name).map(|column| column.as_boolean());
        let hidden = |hidden: Hidden| batch.column_by_name(hidden.name());
        let times = hidden(Hidden::Time).ok_or_else(|| StepError::Internal("events have an event time".into()))?;
        let types = column("type").ok_or_else(|| StepError::Internal("events have a type".into()))?;
        let says = record::COLUMNS.iter().filter_map(|(name, column_type, _)| {
            let column = said(name)?;
            Some((
                *name,
                match column_type {
                    record::ColumnType::Int => Said::Int(column.as_primitive::<Int64Type>()),
                    record::ColumnType::Text => Said::Text(column.as_string::<i32>()),
                    record::ColumnType::Bool => Said::Bool(column.as_boolean()),
                },
            ))
        });
        Ok(EventRows {
            kinds: kinds_of(types.as_string::<i32>()),
            times: times.as_primitive::<Int64Type>().values(),
            ids: text(EVENT_ID),
            splits: hidden(Hidden::Split).map(|c| c.as_primitive::<UInt32Type>().values().as_ref()),
            positions: hidden(Hidden::Position).map(|c| c.as_primitive::<UInt64Type>().values().as_ref()),
            mono: said("mono_ms").map(|column| column.as_primitive::<Float64Type>()),
            has_client_time: said("client_time"),
            tenants: text("tenant_id"),
            anonymous: text("anonymous_id"),
            users: text("user_id"),
            sessions: text("session_id"),
            tabs: text("tab_id"),
            loads: text("page_load_id"),
            pages: text("page_key"),
            releases: text("release"),
            agents: text("user_agent"),
            knows_agents: column("user_agent").is_some(),
            webdriver: flag("webdriver"),
            is_bot: flag("is_bot"),
            navigation: text("nav_type"),
            by_user: flag("by_user"),
            says: says.collect(),
        })
    }
}

/// Returns the kind of each row. A batch has few different names, so each is looked up once.
fn kinds_of(types: &StringArray) -> Vec<Option<Kind>> {
    let mut known: HashMap<&str, Option<Kind>> = HashMap::new();
    let mut last: (&str, Option<Kind>) = ("", None);
    types
        .iter()
        .map(|name| {
            let name = name.unwrap_or("");
            if name != last.0 {
                last = (name, *known.entry(name).or_insert_with(|| Kind::parse(name)));
            }
            last.1
        })
        .collect()
}

enum Said<'b> {
    Int(&'b Int64Array),
    Text(&'b StringArray),
    Bool(&'b BooleanArray),
}

/// A batch of behaviour events.
pub struct EventRows<'b> {
    /// The kind of each row; none where the type is unknown.
    pub kinds: Vec<Option<Kind>>,
    times: &'b [i64],
    ids: Option<&'b StringArray>,
    splits: Option<&'b [u32]>,
    positions: Option<&'b [u64]>,
    mono: Option<&'b arrow::array::Float64Array>,
    has_client_time: Option<&'b arrow::array::ArrayRef>,
    tenants: Option<&'b StringArray>,
    anonymous: Option<&'b StringArray>,
    users: Option<&'b StringArray>,
    sessions: Option<&'b StringArray>,
    tabs: Option<&'b StringArray>,
    loads: Option<&'b StringArray>,
    pages: Option<&'b StringArray>,
    releases: Option<&'b StringArray>,
    agents: Option<&'b StringArray>,
    knows_agents: bool,
    webdriver: Option<&'b BooleanArray>,
    is_bot: Option<&'b BooleanArray>,
    navigation: Option<&'b StringArray>,
    by_user: Option<&'b BooleanArray>,
    says: Vec<(&'static str, Said<'b>)>,
}

/// Returns a text that is there and not empty.
fn at(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row)).filter(|text| !text.is_empty())
}

fn flag_at(column: Option<&BooleanArray>, row: usize) -> Option<bool> {
    column.filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

impl<'b> EventRows<'b> {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Returns whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Returns the event time of a row, in milliseconds.
    pub fn time_ms(&self, row: usize) -> i64 {
        self.times[row].div_euclid(1000)
    }

    /// Returns the event time of a row, in microseconds.
    pub fn time_us(&self, row: usize) -> i64 {
        self.times[row]
    }

    /// Returns the event's id; empty if the stream has none.
    pub fn id(&self, row: usize) -> &'b str {
        at(self.ids, row).unwrap_or("")
    }

    /// Returns the tenant; empty if there is none.
    pub fn tenant(&self, row: usize) -> &'b str {
        at(self.tenants, row).unwrap_or("")
    }

    /// Returns the device, else the account; none for an event of nobody.
    pub fn device(&self, row: usize) -> Option<&'b str> {
        at(self.anonymous, row).or_else(|| self.user(row))
    }

    /// Returns the device, as a cookie names it.
    pub fn anonymous(&self, row: usize) -> Option<&'b str> {
        at(self.anonymous, row)
    }

    /// Returns the account.
    pub fn user(&self, row: usize) -> Option<&'b str> {
        at(self.users, row)
    }

    /// Returns who did it: the account, else the device.
    pub fn person(&self, row: usize) -> Option<&'b str> {
        self.user(row).or_else(|| self.device(row))
    }

    /// Returns the release of the page.
    pub fn release(&self, row: usize) -> Option<&'b str> {
        at(self.releases, row)
    }

    /// Returns the session that the row names.
    pub fn session(&self, row: usize) -> Option<&'b str> {
        at(self.sessions, row)
    }

    /// Returns the tab; empty if there is none.
    pub fn tab(&self, row: usize) -> &'b str {
        at(self.tabs, row).unwrap_or("")
    }

    /// Returns the page; empty if there is none.
    pub fn page(&self, row: usize) -> &'b str {
        at(self.pages, row).unwrap_or("")
    }

    /// Returns whether a browser or a server made the event: what a browser sends names its tab, its page load or its own clock.
    pub fn origin(&self, row: usize) -> Origin {
        let is_browser = at(self.tabs, row).is_some()
            || at(self.loads, row).is_some()
            || self.mono.is_some_and(|mono| mono.is_valid(row))
            || self.has_client_time.is_some_and(|times| times.is_valid(row));
        if is_browser { Origin::Browser } else { Origin::Server }
    }

    /// Returns whether a person did it, for a session. An event of unknown type is passive.
    pub fn class(&self, row: usize) -> Class {
        let Some(kind) = self.kinds[row] else { return Class::Passive };
        let by_page = match kind {
            Kind::PageView => at(self.navigation, row) == Some("prerender"),
            Kind::Scroll => flag_at(self.by_user, row) == Some(false),
            _ => false,
        };
        class_of(kind, self.origin(row), if by_page { Cause::Page } else { Cause::Person })
    }

    /// Returns the sign of a bot that the row itself bears: it says so, or its browser does. A stream without the column
    /// `user_agent` tells nothing of agents.
    pub fn bot(&self, row: usize) -> Option<BotReason> {
        if flag_at(self.is_bot, row) == Some(true) {
            return Some(BotReason::Agent);
        }
        let is_webdriver = flag_at(self.webdriver, row) == Some(true);
        if self.origin(row) == Origin::Server || !self.knows_agents {
            return is_webdriver.then_some(BotReason::Webdriver);
        }
        by_browser(at(self.agents, row), is_webdriver)
    }

    /// Returns the microseconds since the page was loaded, where the browser tells.
    pub fn mono_us(&self, row: usize) -> Option<i64> {
        self.mono.filter(|mono| mono.is_valid(row)).and_then(|mono| mono_us(mono.value(row)))
    }

    /// Returns the page load; empty if there is none.
    pub fn page_load(&self, row: usize) -> &'b str {
        at(self.loads, row).unwrap_or("")
    }

    /// Returns what evidence names: the id of the event and where it was read.
    pub fn this(&self, row: usize) -> EventRef {
        let split = self.splits.map_or(0, |splits| splits[row]);
        let offset = self.positions.map_or(0, |positions| positions[row]);
        EventRef { id: self.id(row).to_owned(), position: Position { split, offset } }
    }

    /// Returns the whole event, its names cut to honest lengths; none where the type is unknown. `words` are those by which a
    /// button is known to lead through steps.
    pub fn event(&self, row: usize, words: &StepWords) -> Option<Event> {
        let kind = self.kinds[row]?;
        let mut event = Event {
            this: self.this(row),
            time: self.time_ms(row),
            mono_us: self.mono_us(row),
            page_load: self.page_load(row).to_owned(),
            page_key: privacy::page_name(self.page(row)),
            payload: self.payload(row, kind, words),
        };
        event.cut();
        Some(event)
    }

    fn payload(&self, row: usize, kind: Kind, words: &StepWords) -> Payload {
        let mut record = Record::default();
        for (name, column) in &self.says {
            let value = match column {
                Said::Int(column) if column.is_valid(row) => Value::Int(column.value(row)),
                Said::Text(column) if column.is_valid(row) => Value::Text(column.value(row)),
                Said::Bool(column) if column.is_valid(row) => Value::Bool(column.value(row)),
                _ => continue,
            };
            record.set(name, value);
        }
        record.payload(kind, words)
    }
}
