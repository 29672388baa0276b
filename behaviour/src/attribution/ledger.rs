//! The ledger: signed rows that credit the orders of one key to its touches.
//!
//! Rows are facts of an order, of each model: the order books its total, a refund books its opposite, and so on. The weights of
//! an order are frozen when no touch of its path can come late any more; a correction never divides anew. What a correction
//! books is the difference of two divisions of totals, so an order that was given back in parts ends at exactly zero for each
//! touch, though one of the rows may be a unit off.
//!
//! Events may be pushed in any order of arrival. [`Ledger::advance`] publishes: the rows of every order that may still change are
//! worked out anew from the events, and held against those that were published; what differs is retracted and inserted. So the
//! table is a function of the events alone, whatever their order of arrival inside the lateness. Being told the time more often
//! gives more corrections, and the same table.
//!
//! A key is whatever brings together all that may match: a person's id where that is enough, the tenant where click ids and
//! devices have to be followed across persons.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Model;
use super::channels::End;
use super::order::{Account, Booking, OrderEvent, Reason};
use super::path::Transform;
use super::touch::{Touch, Windows};
use crate::identity::{Id, identity};
use crate::session::persons::Identifies;
use crate::weight::Weight;

mod credit;
mod settle;

pub use credit::{Credited, Through};

use credit::Credit;

/// The most touches of one key; beyond them the oldest is forgotten, and said to be.
pub const TOUCHES_MAX: usize = 10_000;
/// The most touches of one path: the first, and the last of the others.
pub const PATH_MAX: usize = 256;
/// The most orders of one key; beyond them the one that was frozen first is forgotten, and said to be.
pub const ORDERS_MAX: usize = 10_000;
/// The most lines of an order; one with more is malformed.
pub const LINES_MAX: usize = 1_000;
/// The most events of one order that may wait for the watermark; beyond them they are refused.
pub const WAITING_MAX: usize = 1_000;
/// The most devices of one key whose signings-in are known; beyond them the least device id is forgotten.
pub const DEVICES_MAX: usize = 10_000;

const DAY_MS: i64 = 86_400_000;
/// How long after an order it may be corrected, itself included.
pub const CORRECTED_FOR_MS: i64 = 90 * DAY_MS;
/// How long a correction waits for its order, itself included.
pub const WAITS_FOR_MS: i64 = 7 * DAY_MS;

/// What is credited: the whole order, or each of its products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemScope {
    /// The whole order to all touches of its path.
    #[default]
    Order,
    /// Each line to the touches of its product; if there are none, to those of no product; if there are none, to nobody.
    Product,
}

/// How many orders a touch may lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CountMode {
    /// Any number.
    #[default]
    Every,
    /// One: a touch of an order's path is in no later order's path, whatever its weight was.
    One,
}

/// When an order is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emission {
    /// When the watermark has passed it.
    #[default]
    Final,
    /// When it comes.
    Eager,
}

/// What the job's author chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long before an order its touches may be.
    pub windows: Windows,
    /// The models, side by side.
    pub models: Vec<Model>,
    /// Whether, if touches have the order's click id, the others count for nothing.
    pub strict_click_id: bool,
    /// What is credited.
    pub item_scope: ItemScope,
    /// How many orders a touch may lead to.
    pub count_mode: CountMode,
    /// A click this short after the same click is a duplicate, itself included.
    pub dup_click_ms: i64,
    /// Which touches of a path are credited.
    pub transform: Transform,
    /// When an order is published.
    pub emission: Emission,
    /// How long after the watermark an event may come.
    pub lateness_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            windows: Windows::default(),
            models: vec![Model::LastTouch],
            strict_click_id: false,
            item_scope: ItemScope::Order,
            count_mode: CountMode::Every,
            dup_click_ms: 1_000,
            transform: Transform::None,
            emission: Emission::Final,
            lateness_ms: 600_000,
        }
    }
}

/// What became of an event that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken in.
    Taken,
    /// It came after its time; it belongs to the side output.
    Late,
    /// It has no order id: a dead letter.
    NoOrderId,
    /// It makes no sense: a negative total, a refund of nothing, too many lines.
    Malformed,
    /// Too much waits already, see [`WAITING_MAX`] and [`ORDERS_MAX`].
    Full,
}

/// Something to be counted, and to be shown to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A click that repeats the one before; it is in no path.
    DuplicateClick {
        /// The click.
        touch_id: String,
    },
    /// An order that was told before, with the same money.
    DuplicateOrder {
        /// The order.
        order_id: String,
        /// The event that changed nothing.
        event_id: String,
    },
    /// An order that was told before, with other money. Only an update may change an order.
    Conflict {
        /// The order.
        order_id: String,
        /// The event that changed nothing.
        event_id: String,
        /// Hash of the money that stays.
        kept: Id,
        /// Hash of the money that was told.
        dropped: Id,
    },
    /// A correction that found no order it may correct.
    Unmatched {
        /// The order it is for.
        order_id: String,
        /// The correction.
        event_id: String,
        /// What was wrong.
        why: Unmatched,
    },
    /// A refund that was more than what was left; only that much was booked.
    OverRefund {
        /// The order.
        order_id: String,
        /// The refund.
        event_id: String,
        /// What was not booked.
        excess_minor: i64,
    },
    /// The oldest touch, forgotten for want of room.
    TouchForgotten {
        /// The touch.
        touch_id: String,
    },
    /// An old order, forgotten for want of room: it cannot be corrected any more.
    OrderForgotten {
        /// The order.
        order_id: String,
    },
}

/// Why a correction was not booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// No order within [`WAITS_FOR_MS`] after it.
    NoOrder,
    /// The order is older than [`CORRECTED_FOR_MS`].
    TooOld,
    /// The order is in another currency.
    Currency,
    /// The order was cancelled before.
    Cancelled,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// The order.
    pub order_id: String,
    /// Why it was booked.
    pub reason: Reason,
    /// The event that booked it.
    pub event_id: String,
    /// The model.
    pub model: Model,
    /// The touch that is credited; none for what nobody is credited with.
    pub touch: Option<Credited>,
    /// Whether by clicks or by views; none if there is no touch.
    pub through: Option<Through>,
    /// The touch's part of the order, in millionths. Those of the rows that book an order add up to a million.
    pub weight_ppm: i64,
    /// The orders this row adds, in millionths: a cancellation takes away what the order gave, other corrections nothing.
    pub conversions_ppm: i64,
    /// The money this row adds, in minor units.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// When the order was made.
    pub order_time: i64,
    /// When this was booked: the time of the event, though never before the order.
    pub booked_time: i64,
}

/// The path of an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PathRow {
    /// The order.
    pub order_id: String,
    /// The channels of its touches, first touch first.
    pub raw: Vec<String>,
    /// The same without neighbours that are alike.
    pub exposure: Vec<String>,
    /// The first of each.
    pub first: Vec<String>,
}

/// A path that is over: what the models that credit channels are fed with.
///
/// That of an order ends with it. One of no order is a run of touches of one person (account, device or click id, the first that
/// a touch has) of which none was in the path of an order and each comes at most a window after the one before; its time is that
/// of its last touch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClosedPath {
    /// Event time of its end.
    pub time: i64,
    /// The channels of its touches, first touch first; at most [`PATH_MAX`].
    pub channels: Vec<String>,
    /// How it ended.
    pub end: End,
}

/// What comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Changes of the ledger. Of each order the retractions come before the insertions.
    pub rows: Vec<(Weight, Row)>,
    /// Changes of the table of paths.
    pub paths: Vec<(Weight, PathRow)>,
    /// Paths that are over; said once, when nothing can change it any more.
    pub closed: Vec<ClosedPath>,
    /// What is to be counted; said once, when nothing can change it any more.
    pub notices: Vec<Notice>,
}

/// A touch and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    touch: Touch,
    /// Whether it is a duplicate, once nothing can come before it any more.
    is_duplicate: Option<bool>,
    /// Whether it is in the path of an order that is frozen.
    is_credited: bool,
}

/// The touches of a person that led nowhere so far, and are forgotten otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    last: i64,
    channels: Vec<String>,
}

/// An order and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    /// The events that tell of it, in total order; the first is accepted. Once frozen it is the only one.
    tellings: Vec<OrderEvent>,
    /// Corrections that others may still come before, in total order.
    corrections: Vec<OrderEvent>,
    /// Who is credited, as published; frozen together with `account`.
    credit: Credit,
    /// What it is worth after all corrections that nothing can come before; none until it is frozen.
    account: Option<Account>,
    /// The rows that are published and may still change.
    rows: Vec<Row>,
    /// The path that is published and may still change.
    path: Option<PathRow>,
}

/// The ledger of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// In total order.
    touches: Vec<Known>,
    orders: BTreeMap<String, Order>,
    /// Orders whose rows may still change.
    active: BTreeSet<String>,
    /// Orders that are frozen, by time: to be forgotten in this order.
    frozen: BTreeSet<(i64, String)>,
    /// Runs of touches that led nowhere, by person; only touches of the last two windows are looked for.
    runs: BTreeMap<String, Run>,
    /// Signings-in by device.
    devices: BTreeMap<String, Identifies>,
    /// How far event time has come.
    passed: i64,
    /// An event before this is late.
    settled: i64,
    /// Orders from this time on may have other rows than those that are published; none of them if there is none.
    stale_from: Option<i64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            touches: Vec::new(),
            orders: BTreeMap::new(),
            active: BTreeSet::new(),
            frozen: BTreeSet::new(),
            runs: BTreeMap::new(),
            devices: BTreeMap::new(),
            passed: i64::MIN,
            settled: i64::MIN,
            stale_from: None,
        }
    }
}

impl Ledger {
    /// Takes in a touch.
    pub fn push_touch(&mut self, touch: Touch, out: &mut Output) -> Taken {
        if touch.time < self.settled {
            return Taken::Late;
        }
        self.stale(touch.time);
        let at = self.touches.partition_point(|known| known.touch.order() <= touch.order());
        self.touches.insert(at, Known { touch, is_duplicate: None, is_credited: false });
        if self.touches.len() > TOUCHES_MAX {
            let oldest = self.touches.remove(0);
            self.stale(oldest.touch.time);
            out.notices.push(Notice::TouchForgotten { touch_id: oldest.touch.id });
        }
        Taken::Taken
    }

    /// Takes in a signing-in on a device: from then on, and back to the signing-in before, its touches are the account's.
    pub fn push_identify(&mut self, time: i64, id: &str, anonymous: &str, user: &str) -> Taken {
        if time < self.settled {
            return Taken::Late;
        }
        self.devices.entry(anonymous.to_owned()).or_default().push(time, id, user);
        if self.devices.len() > DEVICES_MAX {
            self.devices.pop_first();
            self.stale(i64::MIN);
        }
        self.stale(time);
        Taken::Taken
    }

    /// Takes in an event of an order.
    pub fn push_order(&mut self, event: OrderEvent, out: &mut Output) -> Taken {
        if event.order_id.is_empty() {
            return Taken::NoOrderId;
        }
        if !is_sensible(&event.booking) {
            return Taken::Malformed;
        }
        if event.time < self.settled {
            return Taken::Late;
        }
        if !self.orders.contains_key(&event.order_id) && !self.make_room(out) {
            return Taken::Full;
        }
        let order = self.orders.entry(event.order_id.clone()).or_default();
        let is_telling = matches!(event.booking, Booking::Completed { .. });
        if is_telling && order.account.is_some() {
            out.notices.push(order.repetition(&event));
            return Taken::Taken;
        }
        let list = if is_telling { &mut order.tellings } else { &mut order.corrections };
        if list.len() >= WAITING_MAX {
            return Taken::Full;
        }
        let at = list.partition_point(|other| other.order() <= event.order());
        self.active.insert(event.order_id.clone());
        list.insert(at, event);
        let accepted = order.tellings.first().map(|accepted| accepted.time);
        accepted.into_iter().for_each(|time| self.stale(time));
        Taken::Taken
    }

    /// Says whether one more order may be known, if need be by forgetting one.
    fn make_room(&mut self, out: &mut Output) -> bool {
        if self.orders.len() < ORDERS_MAX {
            return true;
        }
        let Some((_, order_id)) = self.frozen.pop_first() else { return false };
        self.forget(order_id, out);
        true
    }

    /// Tells that event time has reached `to`, the watermark; publishes what changed and forgets what cannot be needed any more.
    pub fn advance(&mut self, settings: &Settings, to: i64, out: &mut Output) {
        let before = self.passed;
        self.passed = self.passed.max(to);
        if settings.emission == Emission::Final {
            self.bring_into_sight(before);
        }
        if let Some(from) = self.stale_from.take() {
            // Where a touch is consumed, who has it is settled from the first order on.
            let from = if settings.count_mode == CountMode::One { i64::MIN } else { from };
            self.publish(settings, from, out);
        }
        self.settle(settings, out);
    }

    /// Returns how much is kept: touches, orders and runs of touches.
    pub fn size(&self) -> usize {
        self.touches.len() + self.orders.len() + self.runs.len()
    }

    /// Returns how many touches are kept.
    pub fn touches_kept(&self) -> usize {
        self.touches.len()
    }

    /// Says whether nothing is left of the key but signings-in: its state may be dropped.
    pub fn is_empty(&self) -> bool {
        self.touches.is_empty() && self.orders.is_empty() && self.runs.is_empty()
    }

    /// Says that orders from `time` on may have other rows than those that are published.
    fn stale(&mut self, time: i64) {
        self.stale_from = Some(self.stale_from.map_or(time, |from| from.min(time)));
    }

    /// Finds the orders with events that the watermark has passed only since it was at `before`.
    fn bring_into_sight(&mut self, before: i64) {
        let is_new = |event: &&OrderEvent| before <= event.time && event.time < self.passed;
        let new = |order: &Order| {
            let accepted = order.tellings.first()?;
            order.tellings.iter().chain(&order.corrections).find(is_new).map(|_| accepted.time)
        };
        let first = self.active.iter().filter_map(|order_id| new(self.orders.get(order_id)?)).min();
        first.into_iter().for_each(|time| self.stale(time));
    }

    fn is_visible(&self, settings: &Settings, event: &OrderEvent) -> bool {
        settings.emission == Emission::Eager || event.time < self.passed
    }

    /// Works out the rows of the orders from `from` on that may still change, and holds them against those that were published.
    fn publish(&mut self, settings: &Settings, from: i64, out: &mut Output) {
        let mut due: Vec<(i64, String, String)> = Vec::new();
        for order_id in &self.active {
            let accepted = self.orders.get(order_id).and_then(|order| order.tellings.first());
            let is_due = |accepted: &&OrderEvent| accepted.time >= from && self.is_visible(settings, accepted);
            if let Some(accepted) = accepted.filter(is_due) {
                due.push((accepted.time, accepted.id.clone(), order_id.clone()));
            }
        }
        due.sort_unstable();
        let mut consumed = BTreeSet::new();
        for (.., order_id) in due {
            let Some(mut order) = self.orders.remove(&order_id) else { continue };
            if order.account.is_none() {
                order.credit = self.credit(settings, &order.tellings[0], &mut consumed);
                order.publish_path(out);
            }
            let rows = order.rows(|event| self.is_visible(settings, event));
            let before = std::mem::replace(&mut order.rows, rows);
            changes(before, &order.rows, &mut out.rows);
            self.orders.insert(order_id, order);
        }
    }
}

/// Says whether an event could be of an order.
fn is_sensible(booking: &Booking) -> bool {
    match booking {
        Booking::Completed { total_minor, lines, .. } => {
            *total_minor >= 0 && lines.len() <= LINES_MAX && lines.iter().all(|line| line.amount_minor >= 0)
        }
        Booking::Updated { total_minor } => *total_minor >= 0,
        Booking::Refunded { amount_minor } => *amount_minor > 0,
        Booking::Cancelled => true,
    }
}

/// Adds what makes `after` of `before`: first what leaves, then what joins.
fn changes<T: Ord + Clone>(before: Vec<T>, after: &[T], out: &mut Vec<(Weight, T)>) {
    if before == after {
        return;
    }
    let mut count: BTreeMap<&T, i64> = BTreeMap::new();
    before.iter().for_each(|row| *count.entry(row).or_default() -= 1);
    after.iter().for_each(|row| *count.entry(row).or_default() += 1);
    for (sign, weight) in [(-1, Weight::Retract), (1, Weight::Insert)] {
        for (row, times) in &count {
            for _ in 0..(times * sign).max(0) {
                out.push((weight, (*row).clone()));
            }
        }
    }
}

impl Order {
    /// Returns the notice of an event that tells of the order again.
    fn repetition(&self, event: &OrderEvent) -> Notice {
        let money = |event: &OrderEvent| match &event.booking {
            Booking::Completed { total_minor, .. } => identity(&[&total_minor.to_string(), &event.currency]),
            _ => identity(&[]),
        };
        let (order_id, event_id) = (event.order_id.clone(), event.id.clone());
        let dropped = money(event);
        match self.tellings.first().map(money) {
            Some(kept) if kept != dropped => Notice::Conflict { order_id, event_id, kept, dropped },
            _ => Notice::DuplicateOrder { order_id, event_id },
        }
    }

    /// Returns why a correction is not one of this order, if it is not.
    fn refusal(&self, correction: &OrderEvent) -> Option<Unmatched> {
        let Some(accepted) = self.tellings.first() else { return Some(Unmatched::NoOrder) };
        if accepted.time.saturating_sub(correction.time) > WAITS_FOR_MS {
            Some(Unmatched::NoOrder)
        } else if correction.time.saturating_sub(accepted.time) > CORRECTED_FOR_MS {
            Some(Unmatched::TooOld)
        } else if !correction.currency.is_empty() && correction.currency != accepted.currency {
            Some(Unmatched::Currency)
        } else {
            None
        }
    }

    /// Returns the rows that may still change: of the order unless it is frozen, and of the corrections that are visible.
    fn rows(&self, is_visible: impl Fn(&OrderEvent) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        let Some(accepted) = self.tellings.first() else { return rows };
        let mut account = self.account.unwrap_or_else(|| {
            let account = Account::open(accepted.total_minor());
            self.credit.book(accepted, accepted, Reason::Order, (None, account), &mut rows);
            account
        });
        for correction in self.corrections.iter().filter(|correction| is_visible(correction)) {
            if self.refusal(correction).is_some() {
                continue;
            }
            let before = account;
            if let Some((reason, _)) = account.book(&correction.booking) {
                self.credit.book(accepted, correction, reason, (Some(before), account), &mut rows);
            }
        }
        rows
    }

    fn publish_path(&mut self, out: &mut Output) {
        let Some(accepted) = self.tellings.first() else { return };
        let raw: Vec<&str> = self.credit.channels();
        let path = PathRow {
            order_id: accepted.order_id.clone(),
            exposure: Transform::Exposure.apply(&raw),
            first: Transform::First.apply(&raw),
            raw: raw.into_iter().map(str::to_owned).collect(),
        };
        let before = self.path.replace(path.clone());
        changes(before.into_iter().collect(), &[path], &mut out.paths);
    }
}

impl OrderEvent {
    fn total_minor(&self) -> i64 {
        match self.booking {
            Booking::Completed { total_minor, .. } => total_minor,
            _ => 0,
        }
    }
}
