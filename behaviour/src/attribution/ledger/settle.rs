//! Settling: what the lateness has passed is made final, and what cannot be needed any more is forgotten.

use super::{
    Account, CORRECTED_FOR_MS, ClosedPath, Known, Ledger, Notice, Order, Output, PATH_MAX, Run, Settings, Unmatched,
    WAITS_FOR_MS,
};
use crate::attribution::channels::End;

impl Ledger {
    /// Returns the time after which [`Ledger::advance`] has something to do: being told a time up to it changes nothing and says
    /// nothing. None if it has nothing to do but with what is pushed.
    ///
    /// To be asked after an advance, which is due at once after a push.
    pub fn due(&self, settings: &Settings) -> Option<i64> {
        let settled = |time: i64| time.saturating_add(settings.lateness_ms.max(0));
        let longest_ms = settings.windows.longest_ms();
        let kept_ms = longest_ms.max(settings.dup_click_ms);
        let unsettled = self.touches.partition_point(|known| known.touch.time < self.settled);
        let touches = [
            self.touches.get(unsettled).map(|known| known.touch.time),
            self.touches.first().map(|known| known.touch.time.saturating_add(kept_ms)),
        ];
        let over = |run: &Run| run.last.saturating_add(longest_ms).saturating_add(kept_ms);
        let rest = [
            self.runs.values().map(over).min(),
            self.frozen.first().map(|(time, _)| time.saturating_add(CORRECTED_FOR_MS)),
        ];
        let orders = self.active.iter().filter_map(|order_id| self.orders.get(order_id)?.settles_after());
        let hidden = self.active.iter().filter_map(|order_id| self.comes_into_sight(settings, order_id));
        let at_once = self.stale_from.map(|_| i64::MIN);
        touches.into_iter().chain(rest).flatten().chain(orders).map(settled).chain(hidden).chain(at_once).min()
    }

    /// Returns the time of the first event of an order that the watermark has to pass to make it visible.
    fn comes_into_sight(&self, settings: &Settings, order_id: &str) -> Option<i64> {
        let order = self.orders.get(order_id).filter(|order| !order.tellings.is_empty())?;
        let events = order.tellings.iter().chain(&order.corrections);
        events.filter(|event| !self.is_visible(settings, event)).map(|event| event.time).min()
    }

    /// Settles everything before the watermark less the lateness. Rows are published already.
    pub(super) fn settle(&mut self, settings: &Settings, out: &mut Output) {
        let bound = self.passed.saturating_sub(settings.lateness_ms.max(0));
        if bound <= self.settled {
            return;
        }
        self.settle_touches(settings, bound, out);
        self.settled = bound;
        self.settle_orders(settings, out);
        while let Some((time, _)) = self.frozen.first() {
            if time.saturating_add(CORRECTED_FOR_MS) >= bound {
                break;
            }
            let Some((_, order_id)) = self.frozen.pop_first() else { break };
            self.drop_order(&order_id, out);
        }
        let kept_ms = settings.windows.longest_ms().max(settings.dup_click_ms);
        let gone = self.touches.partition_point(|known| known.touch.time.saturating_add(kept_ms) < bound);
        for known in self.touches.drain(..gone).collect::<Vec<_>>() {
            let is_path = known.is_duplicate != Some(true) && settings.windows.of(known.touch.kind).is_some();
            if is_path {
                self.run_on(known, settings.windows.longest_ms(), out);
            }
        }
        // Whatever comes within a window after the last touch of a run was forgotten, and joined it, by then.
        let window_ms = settings.windows.longest_ms();
        let is_over = |run: &Run| run.last.saturating_add(window_ms).saturating_add(kept_ms) < bound;
        let over: Vec<String> =
            self.runs.iter().filter(|(_, run)| is_over(run)).map(|(person, _)| person.clone()).collect();
        out.closed.extend(over.iter().filter_map(|person| self.runs.remove(person)).map(Run::close));
    }

    /// Lets a touch that is forgotten go on with the run of its person, or end it.
    fn run_on(&mut self, known: Known, window_ms: i64, out: &mut Output) {
        let Known { touch, is_credited, .. } = known;
        let person = touch.keys.name();
        let is_apart = |run: &Run| touch.time.saturating_sub(run.last) > window_ms;
        if is_credited || self.runs.get(&person).is_some_and(is_apart) {
            out.closed.extend(self.runs.remove(&person).map(Run::close));
        }
        if is_credited {
            return;
        }
        let run = self.runs.entry(person).or_default();
        run.last = touch.time;
        if run.channels.len() < PATH_MAX {
            run.channels.push(touch.channel);
        }
    }

    /// Fixes which touches before `bound` are duplicates.
    fn settle_touches(&mut self, settings: &Settings, bound: i64, out: &mut Output) {
        let from = self.touches.partition_point(|known| known.touch.time < self.settled);
        let to = self.touches.partition_point(|known| known.touch.time < bound);
        for at in from..to {
            let is_duplicate = self.is_duplicate(settings, at);
            self.touches[at].is_duplicate = Some(is_duplicate);
            if is_duplicate {
                out.notices.push(Notice::DuplicateClick { touch_id: self.touches[at].touch.id.clone() });
            }
        }
    }

    fn settle_orders(&mut self, settings: &Settings, out: &mut Output) {
        let due: Vec<String> = self.active.iter().cloned().collect();
        for order_id in due {
            let Some(mut order) = self.orders.remove(&order_id) else { continue };
            let was_frozen = order.account.is_some();
            if order.settle(self.settled, out) {
                order.rows = order.rows(|event| self.is_visible(settings, event));
            }
            if !was_frozen && let (Some(_), Some(accepted)) = (order.account, order.tellings.first().cloned()) {
                self.frozen.insert((accepted.time, order_id.clone()));
                let (channels, touches) = order.credit.take_found();
                self.mark(&touches);
                out.closed.push(ClosedPath { time: accepted.time, channels, end: End::Converted });
            }
            if order.corrections.is_empty() && (order.account.is_some() || order.tellings.is_empty()) {
                self.active.remove(&order_id);
            }
            if !order.tellings.is_empty() || !order.corrections.is_empty() {
                self.orders.insert(order_id, order);
            }
        }
    }

    /// Marks the touches of an order that was frozen.
    fn mark(&mut self, touches: &[(i64, String)]) {
        for (time, touch_id) in touches {
            let from = self.touches.partition_point(|known| known.touch.time < *time);
            let its = self.touches[from..].iter_mut().take_while(|known| known.touch.time == *time);
            its.filter(|known| known.touch.id == *touch_id).for_each(|known| known.is_credited = true);
        }
    }

    /// Forgets an order for want of room.
    pub(super) fn forget(&mut self, order_id: String, out: &mut Output) {
        self.drop_order(&order_id, out);
        out.notices.push(Notice::OrderForgotten { order_id });
    }

    fn drop_order(&mut self, order_id: &str, out: &mut Output) {
        self.active.remove(order_id);
        let Some(order) = self.orders.remove(order_id) else { return };
        for correction in order.corrections {
            let (order_id, event_id) = (correction.order_id, correction.id);
            out.notices.push(Notice::Unmatched { order_id, event_id, why: Unmatched::TooOld });
        }
    }
}

impl Run {
    fn close(self) -> ClosedPath {
        ClosedPath { time: self.last, channels: self.channels, end: End::Null }
    }
}

impl Order {
    /// Returns the time after which there is something to make final: the order itself, or its first correction.
    fn settles_after(&self) -> Option<i64> {
        let correction = self.corrections.first().map(|event| event.time);
        match (&self.account, self.tellings.first()) {
            (Some(_), _) => correction,
            (None, Some(accepted)) => Some(accepted.time),
            (None, None) => correction.map(|time| time.saturating_add(WAITS_FOR_MS)),
        }
    }

    /// Makes final what is before `bound`: the order itself, then its corrections. Says whether there was anything.
    fn settle(&mut self, bound: i64, out: &mut Output) -> bool {
        let mut has_settled = false;
        if self.account.is_none() && self.tellings.first().is_some_and(|accepted| accepted.time < bound) {
            let repeated = self.tellings.split_off(1);
            out.notices.extend(repeated.iter().map(|event| self.repetition(event)));
            self.account = self.tellings.first().map(|accepted| Account::open(accepted.total_minor()));
            self.path = None;
            has_settled = true;
        }
        let waits = if self.account.is_some() { 0 } else { WAITS_FOR_MS };
        if self.account.is_none() && !self.tellings.is_empty() {
            return false;
        }
        let due = self.corrections.partition_point(|event| event.time.saturating_add(waits) < bound);
        for event in self.corrections.drain(..due).collect::<Vec<_>>() {
            has_settled = true;
            let booked = match (self.refusal(&event), &mut self.account) {
                (Some(why), _) => Err(why),
                (None, Some(account)) => account.book(&event.booking).ok_or(Unmatched::Cancelled),
                (None, None) => Err(Unmatched::NoOrder),
            };
            let (order_id, event_id) = (event.order_id, event.id);
            match booked {
                Ok((_, 0)) => {}
                Ok((_, excess_minor)) => out.notices.push(Notice::OverRefund { order_id, event_id, excess_minor }),
                Err(why) => out.notices.push(Notice::Unmatched { order_id, event_id, why }),
            }
        }
        has_settled
    }
}
