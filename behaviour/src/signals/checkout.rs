//! The checkout: being stuck on a step, and leaving for good.
//!
//! Active time on a step is the sum of the gaps between interactions, each at most 15 s. A step with 120 s of it and two failed
//! attempts is a signal: attempts are refused submits, rage, dead and error clicks on the step's main button, and refused
//! coupons. When the session closes after a checkout was begun and without an order, and a hard signal was told on the step, that
//! is a signal too. An order of the same person within 30 min makes both worth nothing, and says so.
//!
//! Interactions on other pages do not add to the step; the page on which the step was shown is its page. Keeps: one step, and
//! at most `TOLD_MAX` signals that may be made good.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::{Draft, Flags};
use super::scene::{Emit, Machine, Note, Scene, Seen, name_mark};
use crate::event::payload::Payload;
use crate::event::{Class, EventRef};

/// Signals that an order may make good at most; the oldest goes first.
pub const TOLD_MAX: usize = 8;

/// The checkout of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    step: Option<Step>,
    told: Vec<Draft>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    name: u64,
    page: u64,
    page_key: String,
    this: EventRef,
    time: i64,
    since_us: i64,
    /// The last interaction, and its event time.
    last_us: i64,
    last_time: i64,
    active_us: i64,
    attempts: u32,
    /// The first attempts.
    evidence: Vec<(EventRef, i64)>,
    is_stuck: bool,
    is_hard: bool,
}

impl Checkout {
    fn begin(&mut self, seen: &Seen<'_>, name: &str, scene: &Scene<'_>) {
        let name = name_mark(name);
        if self.step.as_ref().is_some_and(|step| step.name == name) {
            return;
        }
        self.step = Some(Step {
            name,
            page: name_mark(&scene.page.key),
            page_key: scene.page.key.clone(),
            this: seen.this().clone(),
            time: seen.time(),
            since_us: seen.at_us,
            last_us: seen.at_us,
            last_time: seen.time(),
            active_us: 0,
            attempts: 0,
            evidence: Vec::new(),
            is_stuck: false,
            is_hard: false,
        });
    }

    fn interacted(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let Some(step) = &mut self.step else { return };
        let credit_us = scene.settings.checkout.interaction_credit_ms.saturating_mul(1000);
        let gap_us = seen.at_us.saturating_sub(step.last_us);
        let is_there = step.page == name_mark(&scene.page.key);
        if is_there {
            step.active_us = step.active_us.saturating_add(gap_us.clamp(0, credit_us));
        }
        (step.last_us, step.last_time) = (seen.at_us, seen.time());
        self.check(scene, emit);
    }

    /// Takes in what another rule has told.
    pub fn note(&mut self, note: &Note, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let Some(step) = &mut self.step else { return };
        match note {
            Note::Hard => step.is_hard = true,
            Note::Attempt { at_us, time, this } if *at_us >= step.since_us => {
                step.attempt(this, *time);
                self.check(scene, emit);
            }
            Note::Attempt { .. } => {}
        }
    }

    fn check(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.checkout;
        let Some(step) = self.step.as_mut().filter(|step| !step.is_stuck) else { return };
        let is_long = step.active_us >= settings.active_ms.saturating_mul(1000);
        if is_long && step.attempts >= settings.attempts {
            step.is_stuck = true;
            let mut draft = step.draft(SignalKind::CheckoutStuck, settings.points);
            draft.count = step.attempts;
            emit.tell(&mut draft);
            // The signal itself is a hard one on the step.
            step.is_hard = true;
            self.keep(draft);
        }
    }

    fn keep(&mut self, draft: Draft) {
        if self.told.len() == TOLD_MAX {
            self.told.remove(0);
        }
        self.told.push(draft);
    }

    fn ordered(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let recover = scene.settings.checkout.recover;
        self.step = None;
        for mut draft in std::mem::take(&mut self.told) {
            if recover.holds(seen.time().saturating_sub(draft.end).saturating_mul(1000)) {
                draft.points = 0;
                draft.flags.set(Flags::RECOVERED);
                emit.tell(&mut draft);
            }
        }
    }
}

impl Step {
    fn attempt(&mut self, this: &EventRef, time: i64) {
        self.attempts = self.attempts.saturating_add(1);
        if self.evidence.len() < super::row::EVIDENCE_MAX {
            self.evidence.push((this.clone(), time));
        }
    }

    fn draft(&self, kind: SignalKind, points: u32) -> Draft {
        let mut draft = Draft::new(kind, &self.page_key, &self.this, self.time);
        self.evidence.iter().for_each(|(this, time)| draft.add(this, *time));
        draft.end = draft.end.max(self.last_time);
        draft.points = points;
        draft
    }
}

impl Machine for Checkout {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::CheckoutStuck, SignalKind::FunnelDrop]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::CheckoutStarted | Payload::CheckoutStep { .. })
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::OrderCompleted => return self.ordered(seen, scene, emit),
            Payload::CheckoutStarted => self.begin(seen, "", scene),
            Payload::CheckoutStep { step } => self.begin(seen, step, scene),
            Payload::CouponDenied => {
                if let Some(step) = &mut self.step {
                    step.attempt(seen.this(), seen.time());
                }
            }
            _ => {}
        }
        if seen.event.payload.kind().class() == Class::Interaction {
            self.interacted(seen, scene, emit);
        }
    }

    fn close(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let Some(step) = self.step.take() else { return };
        if step.is_hard {
            let mut draft = step.draft(SignalKind::FunnelDrop, scene.settings.checkout.drop_points);
            emit.tell(&mut draft);
            self.keep(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, click};
    use super::*;
    use crate::event::payload::{Form, PageView};
    use crate::target::Traits;

    const SECOND: i64 = 1000;

    fn payment() -> Script {
        let mut script = Script::observed();
        script.page(-10, "/checkout", PageView { caps: super::super::samples::ALL_CAPS, ..PageView::default() });
        script.at(0, Payload::CheckoutStep { step: "payment".to_owned() });
        script
    }

    fn fail(script: &mut Script, ms: i64) {
        let form = Form { form_fp: "#pay".to_owned(), submit_id: ms.to_string(), ..Form::default() };
        script.at(ms, Payload::FormSubmit(form.clone())).at(ms + 100, Payload::FormError(form));
    }

    fn keys(script: &mut Script, from: i64, to: i64, every: i64) {
        (from..=to).step_by(every as usize).for_each(|s| {
            script.at(s * SECOND, Payload::Key);
        });
    }

    fn of(rows: Vec<crate::signals::Signal>, kind: SignalKind) -> Vec<(u32, u32, i64)> {
        rows.iter().filter(|row| row.kind == kind).map(|row| (row.rev, row.points, row.end)).collect()
    }

    /// 150 s active, two failed submits.
    fn c1() -> Script {
        let mut script = payment();
        keys(&mut script, 10, 60, 10);
        fail(&mut script, 61 * SECOND);
        keys(&mut script, 70, 100, 10);
        fail(&mut script, 101 * SECOND);
        keys(&mut script, 110, 150, 10);
        script
    }

    /// G-C1.
    #[test]
    fn g_c1_two_minutes_at_work_with_two_failures_are_stuck() {
        let rows = c1().rows();
        let stuck: Vec<_> = rows.iter().filter(|row| row.kind == SignalKind::CheckoutStuck).collect();
        assert_eq!((stuck.len(), stuck[0].points, stuck[0].start, stuck[0].end), (1, 8, 0, 120 * SECOND));
        assert_eq!((stuck[0].page_key.as_str(), stuck[0].count, stuck[0].evidence.len()), ("/checkout", 2, 3));
    }

    /// G-C2.
    #[test]
    fn g_c2_ten_idle_minutes_are_none() {
        let mut script = payment();
        [100, 300, 500].into_iter().for_each(|s| {
            script.at(s * SECOND, Payload::Key);
        });
        fail(&mut script, 600 * SECOND);
        fail(&mut script, 601 * SECOND);
        assert_eq!(of(script.rows_at(700 * SECOND), SignalKind::CheckoutStuck), []);
    }

    /// G-C3.
    #[test]
    fn g_c3_an_order_20_min_later_makes_it_good() {
        let mut script = c1();
        script.close(160 * SECOND);
        assert_eq!(of(script.rows(), SignalKind::FunnelDrop), [(0, 3, 150 * SECOND)]);
        script.at(1320 * SECOND, Payload::OrderCompleted);
        let rows = script.rows();
        assert!(rows.iter().all(|row| row.flags.has(Flags::RECOVERED)));
        assert_eq!(of(rows.clone(), SignalKind::CheckoutStuck), [(1, 0, 120 * SECOND)]);
        assert_eq!(of(rows, SignalKind::FunnelDrop), [(1, 0, 150 * SECOND)]);
    }

    #[test]
    fn an_order_after_30_min_comes_too_late() {
        for (after_ms, recovered) in [(1_800_000, 1), (1_800_001, 0)] {
            let mut script = c1();
            script.rows();
            script.at(120 * SECOND + after_ms, Payload::OrderCompleted);
            assert_eq!(of(script.rows(), SignalKind::CheckoutStuck).len(), recovered);
        }
    }

    #[test]
    fn one_failure_is_not_stuck() {
        let mut script = payment();
        fail(&mut script, 5 * SECOND);
        keys(&mut script, 10, 300, 10);
        assert_eq!(of(script.rows_at(400 * SECOND), SignalKind::CheckoutStuck), []);
    }

    #[test]
    fn refused_coupons_and_dead_clicks_on_the_main_button_are_attempts() {
        let mut script = payment();
        script.at(5 * SECOND, Payload::CouponDenied).at(6 * SECOND, Payload::CouponDenied);
        keys(&mut script, 10, 130, 10);
        assert_eq!(of(script.rows(), SignalKind::CheckoutStuck).len(), 1);
        for (traits, stuck) in [(Traits::MAIN_BUTTON, 1), (Traits::default(), 0)] {
            let mut script = payment();
            for ms in [5000, 15_000] {
                let dead = crate::event::payload::Click { traits: Traits::INTERACTIVE.and(traits), ..click("#pay") };
                script.at(ms, Payload::Click(Box::new(dead)));
            }
            keys(&mut script, 30, 200, 10);
            assert_eq!(of(script.rows(), SignalKind::CheckoutStuck).len(), stuck);
        }
    }

    #[test]
    fn another_step_is_a_new_beginning() {
        let mut script = payment();
        fail(&mut script, 5 * SECOND);
        keys(&mut script, 10, 100, 10);
        script.at(101 * SECOND, Payload::CheckoutStep { step: "review".to_owned() });
        fail(&mut script, 105 * SECOND);
        keys(&mut script, 110, 210, 10);
        assert_eq!(of(script.rows(), SignalKind::CheckoutStuck), []);
    }

    #[test]
    fn time_on_other_pages_does_not_count() {
        let mut script = payment();
        fail(&mut script, 1000);
        fail(&mut script, 2000);
        script.page(5 * SECOND, "/help", PageView::default());
        keys(&mut script, 10, 300, 10);
        assert_eq!(of(script.rows(), SignalKind::CheckoutStuck), []);
    }

    #[test]
    fn leaving_without_trouble_or_with_an_order_is_no_drop() {
        let mut script = payment();
        assert_eq!(of(script.close(60 * SECOND).rows(), SignalKind::FunnelDrop), []);
        let mut script = c1();
        script.at(155 * SECOND, Payload::OrderCompleted).close(160 * SECOND);
        assert_eq!(of(script.rows(), SignalKind::FunnelDrop), []);
    }
}
