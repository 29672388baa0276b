//! Reload loops and redirect loops: a page is loaded again and again.
//!
//! Three reloads of one page within less than 60 s, the first view not counted, are one signal; it ends after 60 s without a
//! reload. Reloads like clockwork (four gaps within 5 % of their mean) are a machine's: the signal is then worth nothing and says
//! so. Six page views within 10 s over at most two pages, with no click or key between, are a redirect loop; reloads do not
//! count there, as they have a rule of their own. Localhost is left out.
//!
//! Keeps: the last reloads of one page, and the last page views, at most 8 each.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::{Draft, Flags};
use super::scene::{Emit, Machine, Run, Scene, Seen, name_mark};
use super::settings::Settings;
use crate::event::payload::{Navigation, PageView, Payload};

/// Reloads whose gaps make clockwork.
const METRONOME: usize = 5;

/// The page loads of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadLoop {
    /// The page whose reloads are counted; 0: none.
    page: u64,
    reloads: Run,
    reload: Option<Growing>,
    views: Run,
    redirect: Option<Growing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Growing {
    draft: Draft,
    last_us: i64,
    /// Whether it has grown since it was told.
    is_stale: bool,
}

impl Growing {
    fn end(mut self, emit: &mut Emit<'_>) {
        if self.is_stale {
            emit.tell(&mut self.draft);
        }
    }
}

fn end(growing: &mut Option<Growing>, emit: &mut Emit<'_>) {
    if let Some(growing) = growing.take() {
        growing.end(emit);
    }
}

impl ReloadLoop {
    fn view(&mut self, seen: &Seen<'_>, view: &PageView, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let page = name_mark(&scene.page.key);
        if page != self.page {
            end(&mut self.reload, emit);
            self.reloads.clear();
            self.page = page;
        }
        if view.navigation == Navigation::Reload {
            self.reloaded(seen, scene, emit);
        } else {
            self.redirected(seen, page, scene, emit);
        }
    }

    fn reloaded(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.reload;
        let count = usize::from(settings.count.clamp(2, 8));
        self.reloads.push(count.max(METRONOME), seen.step(0));
        let Some(growing) = &mut self.reload else {
            let is_inside = self.reloads.span_us(count).is_some_and(|span| settings.span.holds(span));
            let draft = self.reloads.draft(SignalKind::ReloadLoop, &scene.page.key, count).filter(|_| is_inside);
            if let Some(mut draft) = draft {
                draft.points = settings.points;
                emit.tell(&mut draft);
                self.reload = Some(Growing { draft, last_us: seen.at_us, is_stale: false });
            }
            return;
        };
        growing.last_us = seen.at_us;
        growing.draft.grow(seen.this(), seen.time());
        let was_metronomic = growing.draft.flags.has(Flags::METRONOMIC);
        if !was_metronomic && is_metronomic(&self.reloads) {
            growing.draft.flags.set(Flags::METRONOMIC);
            growing.draft.points = 0;
            emit.tell(&mut growing.draft);
            growing.is_stale = false;
        } else {
            // What goes like clockwork is not told again for each beat.
            growing.is_stale = !was_metronomic;
        }
    }

    fn redirected(&mut self, seen: &Seen<'_>, page: u64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.reload;
        let count = usize::from(settings.redirect_count.clamp(2, 8));
        self.views.push(count, seen.step(page as i64));
        let is_inside = self.views.span_us(count).is_some_and(|span| settings.redirect_window.holds(span));
        let first = self.views.steps().first().map_or(0, |step| step.value);
        let other = self.views.steps().iter().map(|step| step.value).find(|value| *value != first);
        let is_pair = self.views.steps().iter().all(|step| step.value == first || Some(step.value) == other);
        if !(is_inside && is_pair) {
            end(&mut self.redirect, emit);
            return;
        }
        match &mut self.redirect {
            Some(growing) => {
                growing.last_us = seen.at_us;
                growing.draft.grow(seen.this(), seen.time());
                growing.is_stale = true;
            }
            None => {
                if let Some(mut draft) = self.views.draft(SignalKind::RedirectLoop, &scene.page.key, count) {
                    draft.points = settings.redirect_points;
                    emit.tell(&mut draft);
                    self.redirect = Some(Growing { draft, last_us: seen.at_us, is_stale: false });
                }
            }
        }
    }

    fn due(growing: Option<&Growing>, quiet_us: i64) -> Option<i64> {
        growing.map(|growing| growing.last_us.saturating_add(quiet_us))
    }
}

/// Whether the last gaps all lie within 5 % of their mean.
fn is_metronomic(reloads: &Run) -> bool {
    let Some(from) = reloads.steps().len().checked_sub(METRONOME) else { return false };
    let times: Vec<i128> = reloads.steps()[from..].iter().map(|step| i128::from(step.at_us)).collect();
    let gaps = || times.windows(2).map(|pair| pair[1] - pair[0]);
    let (sum, count) = (gaps().sum::<i128>(), times.len() as i128 - 1);
    sum > 0 && gaps().all(|gap| (gap * count - sum).abs() * 20 <= sum)
}

impl Machine for ReloadLoop {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::ReloadLoop, SignalKind::RedirectLoop]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::PageView(_))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::PageView(view) if !scene.page.tags.localhost => self.view(seen, view, scene, emit),
            Payload::Click(_) | Payload::Key => {
                end(&mut self.redirect, emit);
                self.views.clear();
            }
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        let settings = &settings.reload;
        let reload = Self::due(self.reload.as_ref(), settings.quiet_ms.saturating_mul(1000));
        let redirect = Self::due(self.redirect.as_ref(), settings.redirect_window.us);
        reload.into_iter().chain(redirect).min()
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.reload;
        let is_over = |due: Option<i64>| due.is_some_and(|due| due < now_us);
        if is_over(Self::due(self.reload.as_ref(), settings.quiet_ms.saturating_mul(1000))) {
            end(&mut self.reload, emit);
            self.reloads.clear();
        }
        if is_over(Self::due(self.redirect.as_ref(), settings.redirect_window.us)) {
            end(&mut self.redirect, emit);
            self.views.clear();
        }
    }

    fn close(&mut self, _scene: &Scene<'_>, emit: &mut Emit<'_>) {
        end(&mut self.reload, emit);
        end(&mut self.redirect, emit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Script, ids, last};
    use super::*;
    use crate::event::payload::Tags;
    use crate::signals::Signal;

    fn reload() -> PageView {
        PageView { navigation: Navigation::Reload, ..PageView::default() }
    }

    fn rows(reloads: &[i64]) -> Vec<Signal> {
        let mut script = Script::new();
        script.page(0, "/list", PageView::default());
        reloads.iter().for_each(|&ms| {
            script.page(ms, "/list", reload());
        });
        script.rows_at(10_000_000)
    }

    /// G-L1.
    #[test]
    fn g_l1_three_reloads_within_a_minute_are_one() {
        let mut script = Script::new();
        script.page(0, "/list", PageView::default()).page(5000, "/list", reload()).page(15_000, "/list", reload());
        assert_eq!(script.rows(), []);
        let rows = script.page(40_000, "/list", reload()).rows();
        assert_eq!((rows.len(), rows[0].kind, rows[0].points, rows[0].count), (1, SignalKind::ReloadLoop, 4, 3));
        assert_eq!((rows[0].start, rows[0].end, ids(&rows[0])), (5000, 40_000, vec!["e2", "e3", "e4"]));
        assert_eq!(script.rows_at(10_000_000), [], "nothing more to say");
    }

    /// G-L2.
    #[test]
    fn g_l2_a_reload_every_30_s_is_none() {
        assert_eq!(rows(&(1..20).map(|n| n * 30_000).collect::<Vec<_>>()), []);
        assert_eq!(rows(&[30_000, 60_000, 89_999]).len(), 1, "59,999 ms are one");
    }

    /// G-L3.
    #[test]
    fn g_l3_a_reload_every_20_s_turns_out_to_be_a_machines() {
        let rows = rows(&(1..=15).map(|n| n * 20_000).collect::<Vec<_>>());
        let told: Vec<_> = rows.iter().map(|row| (row.rev, row.points, row.count, row.end)).collect();
        assert_eq!(told, [(0, 4, 3, 60_000), (1, 0, 5, 100_000)]);
        assert!(rows[1].flags.has(Flags::METRONOMIC));
    }

    #[test]
    fn a_loop_that_goes_on_is_told_again_at_its_end() {
        let rows = rows(&[5000, 9000, 20_000, 31_000, 60_000]);
        assert_eq!(rows.iter().map(|row| (row.rev, row.points, row.count)).collect::<Vec<_>>(), [(0, 4, 3), (1, 4, 5)]);
    }

    #[test]
    fn another_page_is_a_new_beginning() {
        let mut script = Script::new();
        script.page(0, "/a", PageView::default()).page(1000, "/a", reload()).page(2000, "/a", reload());
        script.page(3000, "/b", PageView::default()).page(4000, "/a", reload());
        assert_eq!(script.rows_at(1_000_000), []);
    }

    #[test]
    fn localhost_is_none() {
        let tags = Tags { localhost: true, ..Tags::default() };
        let mut script = Script::new();
        [0, 1000, 2000, 3000].into_iter().for_each(|ms| {
            script.page(ms, "/a", PageView { tags, ..reload() });
        });
        assert_eq!(script.rows_at(1_000_000), []);
    }

    fn views(keys: &[&str], every: i64) -> Script {
        let mut script = Script::new();
        for (n, key) in keys.iter().enumerate() {
            script.page(n as i64 * every, key, PageView::default());
        }
        script
    }

    const PING_PONG: [&str; 6] = ["/a", "/b", "/a", "/b", "/a", "/b"];

    #[test]
    fn six_views_of_two_pages_within_10_s_are_a_redirect_loop() {
        let rows = last(&views(&PING_PONG, 2000).rows());
        assert_eq!((rows[0].kind, rows[0].points, rows[0].count), (SignalKind::RedirectLoop, 6, 6));
        let none = |rows: Vec<Signal>| rows.iter().all(|row| row.kind != SignalKind::RedirectLoop);
        assert!(none(views(&PING_PONG, 2001).rows()), "10,005 ms");
        assert!(none(views(&PING_PONG[..5], 100).rows()), "five");
        assert!(none(views(&["/a", "/b", "/c", "/a", "/b", "/c"], 100).rows()), "three pages");
    }

    #[test]
    fn a_click_between_is_no_redirect() {
        let mut script = views(&PING_PONG[..3], 100);
        script.click(250, "#x");
        for (n, key) in PING_PONG[3..].iter().enumerate() {
            script.page(300 + n as i64 * 100, key, PageView::default());
        }
        assert!(script.rows().iter().all(|row| row.kind != SignalKind::RedirectLoop));
    }

    #[test]
    fn clockwork_is_measured_without_rounding() {
        let run = |times: &[i64]| {
            let mut run = Run::default();
            times.iter().for_each(|&at_us| {
                run.push(METRONOME, super::super::scene::Step { at_us, time: 0, this: Default::default(), value: 0 })
            });
            run
        };
        assert!(is_metronomic(&run(&[0, 100, 200, 300, 400])));
        assert!(is_metronomic(&run(&[0, 105, 200, 300, 400])), "105 and 95 are within 5 % of 100");
        assert!(!is_metronomic(&run(&[0, 106, 200, 300, 400])));
        assert!(!is_metronomic(&run(&[0, 100, 200, 300])), "three gaps are too few");
        assert!(!is_metronomic(&run(&[0, 0, 0, 0, 0])));
    }
}
