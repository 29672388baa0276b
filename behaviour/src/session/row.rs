//! Visits: what a session of a shop amounts to, and its row.

use serde::{Deserialize, Serialize};

use super::bots::{BotReason, BotSettings, BotWatch, Instant};
use super::{Interval, Mark, Reason, Session, Tally, session_id};
use crate::event::Class;
use crate::identity::{Id, identity};

/// The most order ids that are kept per visit, to count an order once that is told several times. Beyond them an order counts
/// each time.
pub const ORDERS_MAX: usize = 64;

/// What the job's author chooses of visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitSettings {
    /// A visit longer than this is engaged; by default 10 s, which itself is not enough.
    pub engaged_after_ms: i64,
    /// When a visit is a bot's.
    pub bots: BotSettings,
}

impl Default for VisitSettings {
    fn default() -> Self {
        Self { engaged_after_ms: 10_000, bots: BotSettings::default() }
    }
}

/// What kind of event it is, as far as a visit counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// The view of a page that a person asked for.
    PageView {
        /// Its route.
        page_key: String,
    },
    /// A click with the pointer.
    Click,
    /// An order.
    Order {
        /// Its id; a second telling of the same order is not counted. Without one it is counted each time.
        order_id: String,
        /// Its worth in minor units.
        revenue_minor: i64,
        /// Its currency. A visit adds up the currency of its first order; orders in others are only counted.
        currency: String,
    },
    /// An event that the shop calls a key event: it makes a visit engaged.
    Key,
    /// Anything else.
    #[default]
    Other,
}

/// What a visit takes in of an event, beside its mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// What kind it is.
    pub act: Act,
    /// The campaign it names, if any.
    pub campaign: Option<String>,
    /// The kind of device.
    pub device_type: Option<String>,
    /// The page load and the microseconds since it, where known.
    pub since_load: Option<(String, i64)>,
    /// What its browser says of itself, see [`super::bots::by_browser`]; none for events from a server.
    pub bot: Option<BotReason>,
}

/// What a visit adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitTally {
    page_views: u32,
    entry: Option<String>,
    exit: Option<String>,
    campaign: Option<String>,
    device_type: Option<String>,
    has_key_event: bool,
    orders: u32,
    revenue_minor: i64,
    currency: Option<String>,
    /// Sorted.
    order_ids: Vec<Id>,
    bot: Option<BotReason>,
    watch: BotWatch,
}

impl Tally for VisitTally {
    type Row = Visit;
    type Settings = VisitSettings;

    fn add(&mut self, settings: &VisitSettings, mark: &Mark<'_>, visit: &Visit) {
        keep_first(&mut self.campaign, visit.campaign.as_deref());
        keep_first(&mut self.device_type, visit.device_type.as_deref());
        let mut sign = visit.bot;
        if mark.class == Class::Interaction {
            sign = sign.or(self.watch.interaction(&settings.bots, mark.time));
        }
        match &visit.act {
            Act::PageView { page_key } => {
                self.page_views = self.page_views.saturating_add(1);
                keep_first(&mut self.entry, Some(page_key));
                if self.exit.as_ref() != Some(page_key) {
                    self.exit = Some(page_key.clone());
                }
                sign = sign.or(self.watch.page_view(&settings.bots, mark.time));
            }
            Act::Click => {
                let since_load = visit.since_load.as_ref().map(|(load, us)| (load.as_str(), *us));
                sign = sign.or(self.watch.click(&settings.bots, Instant { time: mark.time, since_load }));
            }
            Act::Order { order_id, revenue_minor, currency } => self.order(order_id, *revenue_minor, currency),
            Act::Key => self.has_key_event = true,
            Act::Other => {}
        }
        self.bot = self.bot.or(sign);
    }
}

impl VisitTally {
    fn order(&mut self, order_id: &str, revenue_minor: i64, currency: &str) {
        self.has_key_event = true;
        if !order_id.is_empty() {
            let id = identity(&[order_id]);
            let Err(at) = self.order_ids.binary_search(&id) else { return };
            if self.order_ids.len() < ORDERS_MAX {
                self.order_ids.insert(at, id);
            }
        }
        self.orders = self.orders.saturating_add(1);
        keep_first(&mut self.currency, Some(currency));
        if self.currency.as_deref() == Some(currency) {
            self.revenue_minor = self.revenue_minor.saturating_add(revenue_minor);
        }
    }

    /// Says whether it is a visit of more than a glance: longer than the least time, or with a key event, or with two page
    /// views.
    pub fn is_engaged(&self, settings: &VisitSettings, span: &Interval) -> bool {
        span.duration_ms() > settings.engaged_after_ms || self.has_key_event || self.page_views >= 2
    }
}

/// Keeps the first text that is not empty.
fn keep_first(kept: &mut Option<String>, text: Option<&str>) {
    if kept.is_none() {
        *kept = text.filter(|text| !text.is_empty()).map(str::to_owned);
    }
}

/// Whose sessions they are.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The tenant's secret, so that hashes of people cannot be guessed.
    pub salt: &'a str,
    /// The `anonymous_id`, or the `user_id` where there is none.
    pub device_key: &'a str,
}

/// The row of a visit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Names the session, see [`session_id`].
    pub session_id: Id,
    /// The device, hashed with the tenant's salt.
    pub device: Id,
    /// The account it closed with, hashed with the tenant's salt.
    pub person: Option<Id>,
    /// Time of the first interaction.
    pub start: i64,
    /// The last interaction, or the page leave after it.
    pub end: i64,
    /// From start to end.
    pub duration_ms: i64,
    /// Why it ended; none while it may still grow.
    pub reason: Option<Reason>,
    /// Page views that a person asked for.
    pub page_views: u32,
    /// Interactions.
    pub interactions: u64,
    /// Route of the first page view.
    pub entry_page: Option<String>,
    /// Route of the last page view.
    pub exit_page: Option<String>,
    /// The first campaign that an event named.
    pub campaign: Option<String>,
    /// The first kind of device that an event named.
    pub device_type: Option<String>,
    /// Whether it was more than a glance.
    pub engaged: bool,
    /// Whether it was not.
    pub bounced: bool,
    /// Different orders.
    pub orders: u32,
    /// Their worth, of those in `currency`.
    pub revenue_minor: i64,
    /// The currency of the first order.
    pub currency: Option<String>,
    /// Whether a bot made it.
    pub is_bot: bool,
    /// The first sign of it.
    pub bot_reason: Option<BotReason>,
    /// How often it was published before.
    pub rev: u32,
}

/// Which publication of a session a row is.
#[derive(Clone, Copy, Debug)]
pub struct Issue<'a> {
    /// Id of the event that names the session.
    pub anchor: &'a str,
    /// Why it ended; none while it may still grow.
    pub reason: Option<Reason>,
    /// How often it was published before.
    pub rev: u32,
}

/// Returns the row of a visit.
pub fn session_row(
    owner: Owner<'_>,
    settings: &VisitSettings,
    session: &Session<VisitTally>,
    issue: Issue<'_>,
) -> SessionRow {
    let Session { span, tally } = session;
    let engaged = tally.is_engaged(settings, span);
    SessionRow {
        session_id: session_id(owner.tenant, owner.device_key, issue.anchor),
        device: identity(&[owner.salt, owner.device_key]),
        person: span.user.as_deref().map(|user| identity(&[owner.salt, user])),
        start: span.start,
        end: span.end(),
        duration_ms: span.duration_ms(),
        reason: issue.reason,
        page_views: tally.page_views,
        interactions: span.interactions,
        entry_page: tally.entry.clone(),
        exit_page: tally.exit.clone(),
        campaign: tally.campaign.clone(),
        device_type: tally.device_type.clone(),
        engaged,
        bounced: !engaged,
        orders: tally.orders,
        revenue_minor: tally.revenue_minor,
        currency: tally.currency.clone(),
        is_bot: tally.bot.is_some(),
        bot_reason: tally.bot,
        rev: issue.rev,
    }
}
