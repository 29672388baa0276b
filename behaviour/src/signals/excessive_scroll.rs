//! Excessive scrolling: a page is scrolled far to and fro.
//!
//! A reversal is a turn after a leg of at least a quarter of the view's height; a turn counts once it has gone as far back, so a
//! wheel that trembles does not turn. Six reversals within 20 s, on a way of at least four heights of the view, are one signal
//! per page view, told when the page is left or after 20 s without a reversal. Its count is that of all reversals of the view so
//! far: what is compared with the usual of the page, see [`super::usual_scroll`]. Endless lists, maps and documents are left out.
//!
//! Keeps: the last reversals (at most 16) of the page that is shown.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, Moment, Run, Scene, Seen};
use super::settings::{ScrollTurns, Settings};
use crate::event::payload::{Payload, Scroll};

/// The scrolling of one page view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExcessiveScroll {
    /// Where it was scrolled to last, in CSS pixels.
    top: Option<i64>,
    /// The place farthest in the direction of the leg, and whether that goes down; nothing before the first leg.
    leg: Option<Leg>,
    /// The way so far, in CSS pixels.
    travel_px: i64,
    reversals: Run,
    /// How many reversals the page view has had.
    count: u64,
    draft: Option<Draft>,
    last_us: i64,
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leg {
    is_down: bool,
    from: i64,
    to: i64,
    /// The way up to where the leg began.
    before_px: i64,
}

impl ExcessiveScroll {
    fn scrolled(&mut self, seen: &Seen<'_>, scroll: &Scroll, scene: &Scene<'_>) {
        let top = i64::from(scroll.top);
        let Some(last) = self.top.replace(top) else {
            self.leg = Some(Leg { is_down: true, from: top, to: top, before_px: 0 });
            return;
        };
        if !scroll.by_user || scroll.viewport <= 0 {
            return;
        }
        let settings = &scene.settings.scroll;
        let before_px = self.travel_px;
        self.travel_px = self.travel_px.saturating_add((top - last).abs());
        let min_px = i64::from(scroll.viewport).saturating_mul(settings.leg_viewport_pct) / 100;
        let Some(leg) = &mut self.leg else { return };
        if leg.from == leg.to {
            leg.is_down = top > leg.from;
        }
        let onward = if leg.is_down { top - leg.to } else { leg.to - top };
        if onward >= 0 {
            leg.to = top;
        } else if -onward >= min_px.max(1) {
            let is_reversal = (leg.to - leg.from).abs() >= min_px;
            let began_px = leg.before_px;
            *leg = Leg { is_down: !leg.is_down, from: leg.to, to: top, before_px };
            if is_reversal {
                self.reversed(seen, began_px, i64::from(scroll.viewport), scene);
            }
        }
    }

    fn reversed(&mut self, seen: &Seen<'_>, began_px: i64, viewport: i64, scene: &Scene<'_>) {
        let settings = &scene.settings.scroll;
        let count = keep(settings);
        self.count = self.count.saturating_add(1);
        self.last_us = seen.at_us;
        self.reversals.push(count, seen.step(began_px));
        if let Some(draft) = &mut self.draft {
            draft.grow(seen.this(), seen.time());
            return;
        }
        let is_inside = self.reversals.span_us(count).is_some_and(|span| settings.window.holds(span));
        let way_px = self.reversals.steps().first().map_or(0, |first| self.travel_px.saturating_sub(first.value));
        if is_inside && way_px >= viewport.saturating_mul(settings.travel_viewports) && !self.is_told {
            self.draft = self.reversals.draft(SignalKind::ExcessiveScroll, &scene.page.key, count);
        }
    }

    fn end(&mut self, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.reversals.clear();
        let Some(mut draft) = self.draft.take() else { return };
        draft.points = scene.settings.scroll.points;
        draft.count = u32::try_from(self.count).unwrap_or(u32::MAX);
        self.is_told = true;
        emit.tell(&mut draft);
    }

    /// Returns how many reversals the page view has had.
    pub fn count(&self) -> u64 {
        self.count
    }
}

fn keep(settings: &ScrollTurns) -> usize {
    usize::from(settings.reversals.clamp(2, 16))
}

impl Machine for ExcessiveScroll {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::ExcessiveScroll]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::Scroll(_))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, _emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::Scroll(scroll) if !scene.page.tags.scrolls_freely => self.scrolled(seen, scroll, scene),
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        self.draft.as_ref().map(|_| self.last_us.saturating_add(settings.scroll.window.us))
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if self.due_us(scene.settings).is_some_and(|due| due < now_us) {
            self.end(scene, emit);
        }
    }

    fn leave(&mut self, _moment: &Moment, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.end(scene, emit);
        *self = ExcessiveScroll::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ALL_CAPS, Script};
    use super::*;
    use crate::event::payload::{PageView, Tags};

    fn play(view: PageView, tops: &[i32], every: i64) -> Script {
        let mut script = Script::new();
        script.page(-60_000, "/list", PageView { caps: ALL_CAPS, ..view });
        for (n, &top) in tops.iter().enumerate() {
            script.at(n as i64 * every, Payload::Scroll(Scroll { top, viewport: 800, by_user: true }));
        }
        script
    }

    const WILD: [i32; 8] = [0, 900, 100, 1000, 200, 1100, 100, 900];

    /// G-SC1.
    #[test]
    fn g_sc1_six_reversals_over_6100_px_are_one() {
        let mut script = play(PageView::default(), &WILD, 1700);
        let rows = script.rows_at(60_000);
        assert_eq!((rows.len(), rows[0].kind, rows[0].count), (1, SignalKind::ExcessiveScroll, 6));
        assert_eq!(rows[0].page_key, "/list");
        assert_eq!(script.rows_at(600_000), []);
    }

    /// G-SC2.
    #[test]
    fn g_sc2_two_reversals_are_none() {
        assert_eq!(play(PageView::default(), &WILD[..4], 1700).rows_at(60_000), []);
    }

    #[test]
    fn it_is_told_when_the_page_is_left() {
        let mut script = play(PageView::default(), &WILD, 1700);
        assert_eq!(script.rows(), []);
        assert_eq!(script.leave(13_000).rows().len(), 1);
    }

    #[test]
    fn five_reversals_a_long_time_and_a_short_way_are_none() {
        assert_eq!(play(PageView::default(), &WILD[..7], 1700).rows_at(60_000), [], "five");
        assert_eq!(play(PageView::default(), &WILD, 4001).rows_at(600_000), [], "20,005 ms from the first to the last");
        assert_eq!(play(PageView::default(), &WILD, 4000).rows_at(600_000).len(), 1, "20,000 ms");
        let short = [0, 300, 0, 300, 0, 300, 0, 300];
        assert_eq!(play(PageView::default(), &short, 1000).rows_at(60_000), [], "2100 px of 3200");
        let trembling: Vec<i32> = (0..100).map(|n| n * 300 - if n % 2 == 0 { 199 } else { 0 }).collect();
        assert_eq!(play(PageView::default(), &trembling, 100).rows_at(60_000), [], "down, with a tremble");
    }

    #[test]
    fn pages_that_are_made_for_scrolling_are_none() {
        let tags = Tags { scrolls_freely: true, ..Tags::default() };
        assert_eq!(play(PageView { tags, ..PageView::default() }, &WILD, 1700).rows_at(60_000), []);
    }

    #[test]
    fn all_reversals_of_the_view_count() {
        // Three at leisure, then the six.
        let mut script = Script::new();
        script.page(-60_000, "/list", PageView { caps: ALL_CAPS, ..PageView::default() });
        for (n, top) in [0, 900, 100, 900, 0].into_iter().enumerate() {
            script.at(n as i64 * 30_000, Payload::Scroll(Scroll { top, viewport: 800, by_user: true }));
        }
        for (n, top) in WILD.into_iter().enumerate() {
            script.at(300_000 + n as i64 * 1700, Payload::Scroll(Scroll { top, viewport: 800, by_user: true }));
        }
        assert_eq!(script.rows_at(600_000).iter().map(|row| row.count).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn scrolling_by_script_is_none() {
        let mut script = Script::observed();
        for (n, &top) in WILD.iter().enumerate() {
            script.at(n as i64 * 1000, Payload::Scroll(Scroll { top, viewport: 800, by_user: false }));
        }
        assert_eq!(script.rows_at(60_000), []);
    }
}
