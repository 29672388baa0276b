//! Quick backs: a page that is left at once for the one before.
//!
//! Page views A, B, A in one tab, with 250 to 5000 ms on B (both closed), nothing done on B but the click that leaves it, and a
//! third view that came by the browser's back or forward or was reached from B. A shorter stay is a redirect. Pages of others
//! from which one is sent back are none, nor are views of the same page (a changed hash, a reload) or prerendered ones.
//!
//! The row goes from the view of B to that of A: its length is the stay. Keeps: the last two views.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, Scene, Seen};
use crate::event::payload::{Navigation, PageView, Payload};
use crate::event::{Class, EventRef};

/// The last two pages of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuickBack {
    before: Option<View>,
    shown: Option<View>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct View {
    this: EventRef,
    at_us: i64,
    time: i64,
    key: String,
    passes_through: bool,
    /// Clicks on it, up to two.
    clicks: u8,
    /// Whether anything else was done on it.
    is_used: bool,
}

impl QuickBack {
    fn view(&mut self, seen: &Seen<'_>, view: &PageView, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let key = &scene.page.key;
        if self.shown.as_ref().is_some_and(|shown| shown.key == *key) {
            return;
        }
        if let (Some(before), Some(shown)) = (&self.before, &self.shown) {
            let settings = &scene.settings.quick_back;
            let dwell_us = seen.at_us.saturating_sub(shown.at_us);
            let stays = settings.min_dwell_ms.saturating_mul(1000)..=settings.max_dwell_ms.saturating_mul(1000);
            let is_back = before.key == *key && stays.contains(&dwell_us);
            let comes_from = view.navigation == Navigation::BackForward || view.referrer_key == shown.key;
            let is_unused = !shown.is_used && shown.clicks <= 1 && !shown.passes_through;
            if is_back && comes_from && is_unused {
                let mut draft = Draft::new(SignalKind::QuickBack, &shown.key, &before.this, shown.time);
                draft.add(&shown.this, shown.time);
                draft.add(seen.this(), seen.time());
                draft.points = settings.points;
                emit.tell(&mut draft);
            }
        }
        self.before = self.shown.take();
        self.shown = Some(View {
            this: seen.this().clone(),
            at_us: seen.at_us,
            time: seen.time(),
            key: key.clone(),
            passes_through: view_passes(scene),
            clicks: 0,
            is_used: false,
        });
    }
}

fn view_passes(scene: &Scene<'_>) -> bool {
    scene.page.tags.passes_through
}

impl Machine for QuickBack {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::QuickBack]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::PageView(_))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match (&seen.event.payload, &mut self.shown) {
            (Payload::PageView(view), _) => self.view(seen, view, scene, emit),
            (Payload::Click(_), Some(shown)) => shown.clicks = shown.clicks.saturating_add(1).min(2),
            (Payload::Scroll(scroll), Some(shown)) => shown.is_used |= scroll.by_user,
            (payload, Some(shown)) => shown.is_used |= payload.kind().class() == Class::Interaction,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, ids};
    use super::*;
    use crate::event::payload::Tags;

    fn back() -> PageView {
        PageView { navigation: Navigation::BackForward, ..PageView::default() }
    }

    fn there_and_back(b: i64, a: i64, view: PageView) -> Script {
        let mut script = Script::new();
        script.page(0, "/a", PageView::default()).page(b, "/b", PageView::default()).page(a, "/a", view);
        script
    }

    /// G-U1.
    #[test]
    fn g_u1_a_page_left_at_once_is_one() {
        let rows = there_and_back(1000, 4000, back()).rows();
        assert_eq!((rows.len(), rows[0].kind, rows[0].points, rows[0].hard), (1, SignalKind::QuickBack, 1, false));
        assert_eq!(rows[0].end - rows[0].start, 3000);
        assert_eq!((rows[0].page_key.as_str(), ids(&rows[0])), ("/b", vec!["e1", "e2", "e3"]));
    }

    /// G-U2.
    #[test]
    fn g_u2_a_stay_of_5001_ms_is_a_visit() {
        assert_eq!(there_and_back(1000, 6001, back()).rows(), []);
        assert_eq!(there_and_back(1000, 6000, back()).rows().len(), 1);
    }

    /// G-U3.
    #[test]
    fn g_u3_a_stay_of_100_ms_is_a_redirect() {
        assert_eq!(there_and_back(1000, 1100, back()).rows(), []);
        assert_eq!(there_and_back(1000, 1249, back()).rows(), []);
        assert_eq!(there_and_back(1000, 1250, back()).rows().len(), 1);
    }

    #[test]
    fn a_way_back_by_a_link_counts_if_it_came_from_there() {
        let from = |key: &str| PageView { referrer_key: key.to_owned(), ..PageView::default() };
        assert_eq!(there_and_back(1000, 4000, from("/b")).rows().len(), 1);
        assert_eq!(there_and_back(1000, 4000, from("/c")).rows(), []);
    }

    #[test]
    fn a_page_that_was_used_is_none() {
        for payload in
            [Payload::Input, Payload::Scroll(crate::event::payload::Scroll { by_user: true, ..Default::default() })]
        {
            let mut script = Script::new();
            script.page(0, "/a", PageView::default()).page(1000, "/b", PageView::default());
            script.at(2000, payload).page(4000, "/a", back());
            assert_eq!(script.rows(), []);
        }
        for (clicks, signals) in [(1, 1), (2, 0)] {
            let mut script = Script::new();
            script.page(0, "/a", PageView::default()).page(1000, "/b", PageView::default());
            (0..clicks).for_each(|n| {
                script.click(2000 + n, "#x");
            });
            assert_eq!(script.page(4000, "/a", back()).rows().len(), signals, "{clicks}");
        }
    }

    #[test]
    fn pages_that_send_one_back_and_prerendered_ones_are_none() {
        let pays = PageView { tags: Tags { passes_through: true, ..Tags::default() }, ..PageView::default() };
        let mut script = Script::new();
        script.page(0, "/a", PageView::default()).page(1000, "/pay", pays).page(4000, "/a", back());
        assert_eq!(script.rows(), []);
        let prepared = PageView { navigation: Navigation::Prerender, ..PageView::default() };
        let mut script = Script::new();
        script.page(0, "/a", PageView::default()).page(1000, "/b", prepared).page(4000, "/a", back());
        assert_eq!(script.rows(), []);
    }
}
