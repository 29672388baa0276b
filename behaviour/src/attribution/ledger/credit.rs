//! Credit: the path of an order, and how money is divided over it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{CountMode, ItemScope, Ledger, PATH_MAX, Row, Settings};
use crate::attribution::Model;
use crate::attribution::model::Step;
use crate::attribution::order::{Account, Booking, Line, OrderEvent, Reason};
use crate::attribution::split::split;
use crate::attribution::touch::{DIRECT, Keys, Tier, Touch, tier};

/// A whole, in millionths.
const WHOLE_PPM: i64 = 1_000_000;

/// Whether an order is credited to clicks or to views. Clicks, if there are any, have it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// Clicks and landings.
    Click,
    /// Views.
    View,
}

/// What a row says of the touch that it credits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Credited {
    /// Its place in the path, from 0.
    pub place: u32,
    /// Id of the touch.
    pub touch_id: String,
    /// Its channel.
    pub channel: String,
    /// Its campaign.
    pub campaign: Option<String>,
    /// Its product.
    pub product: Option<String>,
    /// Event time of the touch.
    pub time: i64,
}

/// Who is credited with an order, by each model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Credit {
    path: Vec<Credited>,
    /// The channels before the path was transformed.
    raw: Vec<String>,
    /// Times and ids of the same touches.
    touches: Vec<(i64, String)>,
    through: Option<Through>,
    shares: Vec<(Model, Vec<Share>)>,
}

/// How a line of an order, or all of it, is divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Share {
    /// The line's part of the order.
    weight: u64,
    /// Places in the path and their weights; empty if nobody is credited.
    parts: Vec<(u32, u64)>,
}

impl Ledger {
    /// Returns who is credited with an order, of the touches there are now. Touches that may not be credited with another order
    /// are added to `consumed`.
    pub(super) fn credit(&self, settings: &Settings, order: &OrderEvent, consumed: &mut BTreeSet<usize>) -> Credit {
        let Booking::Completed { lines, keys, .. } = &order.booking else { return Credit::default() };
        let mut places = self.eligible(settings, order.time, keys, consumed);
        if places.len() > PATH_MAX {
            places.drain(1..places.len() - (PATH_MAX - 1));
        }
        if settings.count_mode == CountMode::One {
            consumed.extend(&places);
        }
        let touches: Vec<&Touch> = places.iter().map(|at| &self.touches[*at].touch).collect();
        let raw: Vec<&str> = touches.iter().map(|touch| touch.channel.as_str()).collect();
        let kept = settings.transform.kept(&raw);
        let path: Vec<&Touch> = kept.into_iter().map(|at| touches[at]).collect();
        let is_view = path.first().is_some_and(|touch| touch.kind.is_view());
        let through = path.first().map(|_| if is_view { Through::View } else { Through::Click });
        let half_life = settings.windows.half_life_ms(is_view);
        let shares = |model: &Model| {
            let divide = |places: Vec<usize>| {
                let steps: Vec<Step> = places.iter().map(|at| step(path[*at], order.time)).collect();
                let weights = model.weights(&steps, half_life);
                places.into_iter().map(|at| at as u32).zip(weights).filter(|(_, weight)| *weight > 0).collect()
            };
            (*model, share_out(settings, lines, &path, divide))
        };
        Credit {
            shares: settings.models.iter().map(shares).collect(),
            raw: raw.into_iter().map(str::to_owned).collect(),
            touches: touches.iter().map(|touch| (touch.time, touch.id.clone())).collect(),
            path: path.iter().enumerate().map(|(place, touch)| Credited::of(place, touch)).collect(),
            through,
        }
    }

    /// Returns the places of the touches that an order may be credited to, in total order.
    fn eligible(&self, settings: &Settings, time: i64, keys: &Keys, consumed: &BTreeSet<usize>) -> Vec<usize> {
        let earliest = time.saturating_sub(settings.windows.longest_ms());
        let from = self.touches.partition_point(|known| known.touch.time < earliest);
        let to = self.touches.partition_point(|known| known.touch.time <= time);
        let person = self.person(keys, time, time);
        let mut found: Vec<(Tier, usize)> = Vec::new();
        for at in from..to {
            let known = &self.touches[at];
            let touch = &known.touch;
            let is_spent = consumed.contains(&at) || (known.is_credited && settings.count_mode == CountMode::One);
            if is_spent || !settings.windows.hold(touch.kind, touch.time, time) || self.is_duplicate(settings, at) {
                continue;
            }
            let tier = tier(&touch.keys, self.person(&touch.keys, touch.time, time), keys, person);
            found.extend(tier.map(|tier| (tier, at)));
        }
        if settings.strict_click_id && found.iter().any(|(tier, _)| *tier == Tier::ClickId) {
            found.retain(|(tier, _)| *tier == Tier::ClickId);
        }
        let is_view = |at: &usize| self.touches[*at].touch.kind.is_view();
        if found.iter().any(|(_, at)| !is_view(at)) {
            found.retain(|(_, at)| !is_view(at));
        }
        found.into_iter().map(|(_, at)| at).collect()
    }

    /// Returns the account of an event: its own, else that of its device's signings-in up to `until`.
    fn person<'a>(&'a self, keys: &'a Keys, time: i64, until: i64) -> Option<&'a str> {
        let by_device = || self.devices.get(keys.anonymous.as_deref()?)?.person(time, until);
        keys.user.as_deref().or_else(by_device)
    }

    /// Says whether a touch repeats one before it.
    pub(super) fn is_duplicate(&self, settings: &Settings, at: usize) -> bool {
        let known = &self.touches[at];
        known.is_duplicate.unwrap_or_else(|| {
            let before = self.touches[..at].iter().rev();
            before
                .take_while(|other| known.touch.time.saturating_sub(other.touch.time) <= settings.dup_click_ms)
                .any(|other| known.touch.repeats(&other.touch, settings.dup_click_ms))
        })
    }
}

fn step(touch: &Touch, order_time: i64) -> Step {
    Step { age_ms: order_time.saturating_sub(touch.time), is_direct: touch.channel == DIRECT }
}

/// Divides an order, or each of its lines: `divide` is told the places in the path that share.
fn share_out(
    settings: &Settings,
    lines: &[Line],
    path: &[&Touch],
    divide: impl Fn(Vec<usize>) -> Vec<(u32, u64)>,
) -> Vec<Share> {
    if settings.item_scope == ItemScope::Order || lines.is_empty() {
        return vec![Share { weight: 1, parts: divide((0..path.len()).collect()) }];
    }
    let is_free = lines.iter().all(|line| line.amount_minor == 0);
    let of = |product: Option<&str>| -> Vec<usize> {
        (0..path.len()).filter(|at| path[*at].product.as_deref() == product).collect()
    };
    let share = |line: &Line| {
        let its_own = line.product.as_deref().map(|product| of(Some(product))).unwrap_or_default();
        let places = if its_own.is_empty() { of(None) } else { its_own };
        let weight = if is_free { 1 } else { line.amount_minor.unsigned_abs() };
        Share { weight, parts: divide(places) }
    };
    lines.iter().map(share).collect()
}

/// Divides `amount` over `shares`: an amount for each of `count` touches, and what nobody is credited with at the end.
///
/// The lines are given their parts first, then each is divided.
fn spread(shares: &[Share], amount: i64, count: usize) -> Vec<i64> {
    let weights: Vec<u64> = shares.iter().map(|share| share.weight).collect();
    let mut amounts = vec![0; count + 1];
    for (share, part) in shares.iter().zip(split(amount, &weights)) {
        if share.parts.is_empty() {
            amounts[count] += part;
            continue;
        }
        let weights: Vec<u64> = share.parts.iter().map(|(_, weight)| *weight).collect();
        for ((place, _), part) in share.parts.iter().zip(split(part, &weights)) {
            amounts[*place as usize] += part;
        }
    }
    amounts
}

/// Says of each of `count` touches, and of nobody at the end, whether any of `shares` is theirs.
fn credited(shares: &[Share], count: usize) -> Vec<bool> {
    let mut credited = vec![false; count + 1];
    for share in shares {
        credited[count] |= share.parts.is_empty();
        share.parts.iter().for_each(|(place, _)| credited[*place as usize] = true);
    }
    credited
}

impl Credited {
    fn of(place: usize, touch: &Touch) -> Self {
        Self {
            place: place as u32,
            touch_id: touch.id.clone(),
            channel: touch.channel.clone(),
            campaign: touch.campaign.clone(),
            product: touch.product.clone(),
            time: touch.time,
        }
    }
}

impl Credit {
    /// Returns the channels of the path as it was found.
    pub(super) fn channels(&self) -> Vec<&str> {
        self.raw.iter().map(String::as_str).collect()
    }

    /// Adds the rows that book `event`, which takes the account of `order` from the first to the second.
    ///
    /// An order has a row for each touch with a weight, even if it is worth nothing, and so has a cancellation; another
    /// correction has one where it changes an amount.
    pub(super) fn book(
        &self,
        order: &OrderEvent,
        event: &OrderEvent,
        reason: Reason,
        (before, after): (Option<Account>, Account),
        rows: &mut Vec<Row>,
    ) {
        let count = self.path.len();
        for (model, shares) in &self.shares {
            let net = |account: Account| {
                let refunded = spread(shares, account.refunded_minor, count);
                let total = spread(shares, account.total_minor, count).into_iter();
                total.zip(refunded).map(|(total, refunded)| total - refunded).collect::<Vec<i64>>()
            };
            let was = before.map_or_else(|| vec![0; count + 1], net);
            let weights = spread(shares, WHOLE_PPM, count);
            let is_credited = credited(shares, count);
            let sign = match reason {
                Reason::Order => 1,
                Reason::Cancel => -1,
                Reason::Update | Reason::Refund => 0,
            };
            for (place, (is, was)) in net(after).into_iter().zip(was).enumerate() {
                if !is_credited[place] || (sign == 0 && is == was) {
                    continue;
                }
                let touch = self.path.get(place).cloned();
                rows.push(Row {
                    order_id: order.order_id.clone(),
                    reason,
                    event_id: event.id.clone(),
                    model: *model,
                    through: self.through.filter(|_| touch.is_some()),
                    touch,
                    weight_ppm: weights[place],
                    conversions_ppm: sign * weights[place],
                    amount_minor: is - was,
                    currency: order.currency.clone(),
                    order_time: order.time,
                    booked_time: event.time.max(order.time),
                });
            }
        }
    }

    /// Takes out the channels, and the times and ids of the touches that were found: once the order is frozen they are not
    /// needed any more.
    pub(super) fn take_found(&mut self) -> (Vec<String>, Vec<(i64, String)>) {
        (std::mem::take(&mut self.raw), std::mem::take(&mut self.touches))
    }
}
