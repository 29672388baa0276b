//! Jank: the page is sluggish.
//!
//! Three interactions that took more than 500 ms each, within 60 s; or long tasks within 10 s that took 2000 ms or more above 50 ms
//! each, if something was clicked, typed or swiped in these 10 s. Long tasks in the first 5 s of a page do not count. Both are one
//! kind of signal, told when the pattern is complete, and once more at its end (60 s without more) if it has grown.
//!
//! Keeps: the last slow interactions (at most 8) and long tasks (at most 16) of the page.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, Moment, RUN_MAX, Run, Scene, Seen};
use super::settings::Settings;
use crate::event::payload::Payload;

/// What a task may take before it blocks, in ms.
const BLOCKS_FROM_MS: i64 = 50;

/// The sluggishness of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jank {
    slow: Run,
    /// Each with what it takes above 50 ms.
    tasks: Run,
    input_us: Option<i64>,
    growing: Option<Growing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Growing {
    draft: Draft,
    last_us: i64,
    is_stale: bool,
}

impl Jank {
    fn responded(&mut self, seen: &Seen<'_>, latency_ms: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.jank;
        if latency_ms <= settings.slow_interaction_ms || self.grow(seen) {
            return;
        }
        let count = usize::from(settings.slow_count.clamp(2, 8));
        self.slow.push(count, seen.step(latency_ms));
        if self.slow.span_us(count).is_some_and(|span| settings.slow_window.holds(span)) {
            let draft = self.slow.draft(SignalKind::Jank, &scene.page.key, count);
            self.begin(draft, seen.at_us, scene, emit);
        }
    }

    fn task(&mut self, seen: &Seen<'_>, duration_ms: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.jank;
        let grace_us = settings.load_grace_ms.saturating_mul(1000);
        let blocks_ms = duration_ms.saturating_sub(BLOCKS_FROM_MS);
        if blocks_ms <= 0 || seen.at_us.saturating_sub(scene.page.since_us) < grace_us || self.grow(seen) {
            return;
        }
        self.tasks.push(RUN_MAX, seen.step(blocks_ms));
        self.check_tasks(seen.at_us, scene, emit);
    }

    fn input(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.input_us = Some(seen.at_us);
        if self.growing.is_none() {
            self.check_tasks(seen.at_us, scene, emit);
        }
    }

    /// Looks at the 10 s up to `now_us`.
    fn check_tasks(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.jank;
        let is_inside = |at_us: i64| settings.blocking_window.holds(now_us.saturating_sub(at_us));
        if !self.input_us.is_some_and(is_inside) {
            return;
        }
        let inside = self.tasks.steps().iter().rev().take_while(|task| is_inside(task.at_us));
        let (count, blocked_ms) =
            inside.fold((0, 0_i64), |(count, sum), task| (count + 1, sum.saturating_add(task.value)));
        if blocked_ms >= settings.blocking_ms {
            let draft = self.tasks.draft(SignalKind::Jank, &scene.page.key, count);
            self.begin(draft, now_us, scene, emit);
        }
    }

    fn begin(&mut self, draft: Option<Draft>, last_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let Some(mut draft) = draft else { return };
        draft.points = scene.settings.jank.points;
        emit.tell(&mut draft);
        self.growing = Some(Growing { draft, last_us, is_stale: false });
        self.slow.clear();
        self.tasks.clear();
    }

    /// Adds to what is told already; returns whether there is such.
    fn grow(&mut self, seen: &Seen<'_>) -> bool {
        let Some(growing) = &mut self.growing else { return false };
        growing.draft.grow(seen.this(), seen.time());
        (growing.last_us, growing.is_stale) = (seen.at_us, true);
        true
    }

    fn end(&mut self, emit: &mut Emit<'_>) {
        if let Some(mut growing) = self.growing.take().filter(|growing| growing.is_stale) {
            emit.tell(&mut growing.draft);
        }
    }
}

impl Machine for Jank {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::Jank]
    }

    fn wakes(payload: &Payload) -> bool {
        let is_input = matches!(
            payload,
            Payload::Click(_) | Payload::Key | Payload::Input | Payload::FormChange(_) | Payload::Swipe(_)
        );
        is_input || matches!(payload, Payload::Responded { .. } | Payload::LongTask { .. })
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::Responded { latency_ms } => self.responded(seen, *latency_ms, scene, emit),
            Payload::LongTask { duration_ms } => self.task(seen, *duration_ms, scene, emit),
            Payload::Click(_) | Payload::Key | Payload::Input | Payload::FormChange(_) | Payload::Swipe(_) => {
                self.input(seen, scene, emit);
            }
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        let quiet_us = settings.jank.quiet_ms.saturating_mul(1000);
        self.growing.as_ref().map(|growing| growing.last_us.saturating_add(quiet_us))
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if self.due_us(scene.settings).is_some_and(|due| due < now_us) {
            self.end(emit);
        }
    }

    fn leave(&mut self, _moment: &Moment, _scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.end(emit);
        *self = Jank::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ALL_CAPS, Script};
    use super::*;
    use crate::event::payload::PageView;
    use crate::signals::Signal;

    fn latencies(answers: &[(i64, i64)]) -> Vec<Signal> {
        let mut script = Script::observed();
        answers.iter().for_each(|&(ms, latency_ms)| {
            script.at(ms, Payload::Responded { latency_ms });
        });
        script.rows_at(1_000_000)
    }

    /// G-J1.
    #[test]
    fn g_j1_three_slow_interactions_within_40_s_are_one() {
        let rows = latencies(&[(0, 600), (20_000, 700), (40_000, 550)]);
        assert_eq!((rows.len(), rows[0].kind, rows[0].points, rows[0].count), (1, SignalKind::Jank, 1, 3));
        assert_eq!((rows[0].start, rows[0].end), (0, 40_000));
    }

    /// A page shown at 0, a task at 20 s, and a click so long after that, if any.
    fn task(duration_ms: i64, click_after: Option<i64>) -> Vec<Signal> {
        let mut script = Script::new();
        script.page(0, "/", PageView { caps: ALL_CAPS, ..PageView::default() });
        script.at(20_000, Payload::LongTask { duration_ms });
        if let Some(after) = click_after {
            script.click(20_000 + after, "");
        }
        let rows = script.rows_at(20_000 + click_after.unwrap_or(0) + 1);
        rows.into_iter().filter(|row| row.kind == SignalKind::Jank).collect()
    }

    /// G-J2.
    #[test]
    fn g_j2_one_long_task_with_a_click_in_it_is_one() {
        assert_eq!(task(2100, Some(300)).len(), 1);
        assert_eq!(task(2050, Some(300)).len(), 1, "2000 ms above 50");
        assert_eq!(task(2049, Some(300)), []);
        assert_eq!(task(2100, Some(10_001)), [], "a click after 10 s");
    }

    /// G-J3.
    #[test]
    fn g_j3_without_input_a_long_task_is_none() {
        assert_eq!(task(2100, None), []);
    }

    #[test]
    fn quick_or_scattered_interactions_are_none() {
        assert_eq!(latencies(&[(0, 500), (1, 500), (2, 500)]), [], "500 ms are not slow");
        assert_eq!(latencies(&[(0, 600), (30_000, 600), (60_001, 600)]), []);
        assert_eq!(latencies(&[(0, 600), (30_000, 600), (60_000, 600)]).len(), 1);
    }

    #[test]
    fn tasks_add_up_within_10_s() {
        for (every, signals) in [(2500, 1), (2501, 0)] {
            let mut script = Script::observed();
            (0..5).for_each(|n| {
                script.at(n * every, Payload::LongTask { duration_ms: 450 });
            });
            script.at(4 * every, Payload::Key);
            assert_eq!(script.rows().len(), signals, "{every}");
        }
    }

    #[test]
    fn loading_may_be_busy() {
        for (at, signals) in [(4999, 0), (5000, 1)] {
            let mut script = Script::new();
            script.page(0, "/", PageView::default());
            script.at(at, Payload::LongTask { duration_ms: 3000 }).at(at + 10, Payload::Key);
            assert_eq!(script.rows().len(), signals, "{at}");
        }
    }

    #[test]
    fn what_goes_on_is_told_again_at_its_end() {
        let rows = latencies(&[(0, 600), (1000, 600), (2000, 600), (3000, 600), (62_000, 600)]);
        assert_eq!(rows.iter().map(|row| (row.rev, row.count)).collect::<Vec<_>>(), [(0, 3), (1, 5)]);
    }

    #[test]
    fn absurd_durations_do_not_overflow() {
        let mut script = Script::observed();
        for n in 0..20 {
            script
                .at(n, Payload::LongTask { duration_ms: i64::MAX })
                .at(n, Payload::LongTask { duration_ms: i64::MIN });
        }
        script.at(20, Payload::Key);
        assert_eq!(script.rows().len(), 1);
    }
}
