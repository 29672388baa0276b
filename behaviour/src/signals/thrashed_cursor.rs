//! Thrashed cursors: the pointer is moved wildly to and fro.
//!
//! On each axis, a reversal is a change of the direction of movement after a leg of at least 3 px; no movement keeps the
//! direction. Ten reversals of one axis within less than 2000 ms, on a way of at least 500 px, are a series. It ends 2000 ms
//! after its last reversal, or with a reversal that falls outside of the window, and then gives one signal. Reversals with a
//! button held, or over a canvas, a map or a game, do not count.
//!
//! Keeps: the last reversals per axis (at most 16), and one series.

use serde::{Deserialize, Serialize};

use super::SignalKind;
use super::row::Draft;
use super::scene::{Emit, Machine, Moment, Run, Scene, Seen};
use super::settings::{Settings, Thrash};
use crate::event::payload::{CursorBurst, MouseMove, Payload};

/// The pointer of one tab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrashedCursor {
    at: Option<(i32, i32)>,
    /// The length of the way so far, in CSS pixels.
    path_px: i64,
    axes: [Axis; 2],
    series: Option<Series>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Axis {
    /// Which way it goes: -1, 0 (unknown) or 1.
    direction: i64,
    /// How far it went that way.
    leg_px: i64,
    /// The last reversals, each with the way up to there.
    reversals: Run,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Series {
    axis: usize,
    last_us: i64,
    draft: Draft,
}

impl Axis {
    /// Moves on by `delta_px`, and returns whether that is a reversal.
    fn step(&mut self, delta_px: i64, min_leg_px: i64) -> bool {
        if delta_px == 0 {
            return false;
        }
        let direction = delta_px.signum();
        let is_turn = self.direction == -direction;
        let is_reversal = is_turn && self.leg_px >= min_leg_px;
        self.leg_px = if self.direction == direction { self.leg_px + delta_px.abs() } else { delta_px.abs() };
        self.direction = direction;
        is_reversal
    }
}

fn keep(settings: &Thrash) -> usize {
    usize::from(settings.reversals.clamp(2, 16))
}

impl ThrashedCursor {
    fn moved(&mut self, seen: &Seen<'_>, sample: &MouseMove, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if sample.held || sample.over_surface || scene.page.tags.pointer_surface {
            self.forget();
            return;
        }
        let Some((x, y)) = self.at.replace((sample.x, sample.y)) else { return };
        let settings = &scene.settings.thrash;
        let deltas = [i64::from(sample.x) - i64::from(x), i64::from(sample.y) - i64::from(y)];
        let squared = deltas.iter().map(|delta| u128::from(delta.unsigned_abs()).pow(2)).sum::<u128>();
        // The root of two squares of 33 bits fits 34 bits.
        self.path_px = self.path_px.saturating_add(i64::try_from(squared.isqrt()).unwrap_or(i64::MAX));
        for (axis, delta) in deltas.into_iter().enumerate() {
            if self.axes[axis].step(delta, i64::from(settings.min_leg_px)) {
                self.reversed(seen, axis, scene, emit);
            }
        }
    }

    fn reversed(&mut self, seen: &Seen<'_>, axis: usize, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.thrash;
        let count = keep(settings);
        let reversals = &mut self.axes[axis].reversals;
        reversals.push(count, seen.step(self.path_px));
        let is_inside = reversals.span_us(count).is_some_and(|span| settings.window.holds(span));
        match &mut self.series {
            Some(series) if series.axis != axis => {}
            Some(series) if is_inside => {
                series.last_us = seen.at_us;
                series.draft.grow(seen.this(), seen.time());
            }
            Some(_) => {
                self.end(emit);
                // What falls outside may begin another series.
                self.axes[axis].reversals.push(count, seen.step(self.path_px));
            }
            None => {
                let way_px = reversals.steps().first().map_or(0, |first| self.path_px.saturating_sub(first.value));
                if is_inside && way_px >= settings.min_path_px {
                    let draft = reversals.draft(SignalKind::ThrashedCursor, &scene.page.key, count);
                    self.series = draft.map(|mut draft| {
                        draft.points = settings.points;
                        Series { axis, last_us: seen.at_us, draft }
                    });
                }
            }
        }
    }

    fn burst(&mut self, seen: &Seen<'_>, burst: &CursorBurst, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        let settings = &scene.settings.thrash;
        let reversals = burst.reversals_x.max(burst.reversals_y);
        let is_series = reversals >= u32::from(settings.reversals)
            && settings.window.holds(burst.span_ms.saturating_mul(1000))
            && burst.path_px >= settings.min_path_px
            && !scene.page.tags.pointer_surface;
        if is_series {
            let mut draft = Draft::new(SignalKind::ThrashedCursor, &scene.page.key, seen.this(), seen.time());
            draft.start = seen.time().saturating_sub(burst.span_ms);
            (draft.count, draft.points) = (reversals, settings.points);
            emit.tell(&mut draft);
        }
    }

    /// Tells the series, if there is one, and begins anew.
    fn end(&mut self, emit: &mut Emit<'_>) {
        if let Some(mut series) = self.series.take() {
            emit.tell(&mut series.draft);
            for axis in &mut self.axes {
                axis.reversals.clear();
            }
        }
    }

    /// Forgets the way so far; a series that was complete stays.
    fn forget(&mut self) {
        self.at = None;
        self.axes = <[Axis; 2]>::default();
    }
}

impl Machine for ThrashedCursor {
    fn kinds() -> &'static [SignalKind] {
        &[SignalKind::ThrashedCursor]
    }

    fn wakes(payload: &Payload) -> bool {
        matches!(payload, Payload::MouseMove(_) | Payload::CursorBurst(_))
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        match &seen.event.payload {
            Payload::MouseMove(sample) => self.moved(seen, sample, scene, emit),
            Payload::CursorBurst(burst) => self.burst(seen, burst, scene, emit),
            _ => {}
        }
    }

    fn due_us(&self, settings: &Settings) -> Option<i64> {
        let series = self.series.as_ref()?;
        Some(series.last_us.saturating_add(settings.thrash.debounce_ms.saturating_mul(1000)))
    }

    fn fire(&mut self, now_us: i64, scene: &Scene<'_>, emit: &mut Emit<'_>) {
        if self.due_us(scene.settings).is_some_and(|due| due < now_us) {
            self.end(emit);
        }
    }

    fn leave(&mut self, _moment: &Moment, _scene: &Scene<'_>, emit: &mut Emit<'_>) {
        self.end(emit);
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Script;
    use super::*;

    fn sample(x: i32) -> MouseMove {
        MouseMove { x, y: 50, ..MouseMove::default() }
    }

    /// Moves between 0 and `px` every `every` ms, `count` samples.
    fn wild(script: &mut Script, from: i64, every: i64, px: i32, count: i64) {
        for n in 0..count {
            let x = if n % 2 == 0 { 0 } else { px };
            script.at(from + n * every, Payload::MouseMove(sample(x)));
        }
    }

    /// G-T1.
    #[test]
    fn g_t1_ten_reversals_in_900_ms_are_one_once_it_is_quiet() {
        let mut script = Script::observed();
        wild(&mut script, 0, 100, 80, 12);
        assert_eq!(script.rows_at(3100), []);
        let rows = script.rows_at(3101);
        assert_eq!((rows.len(), rows[0].kind, rows[0].count), (1, SignalKind::ThrashedCursor, 10));
        assert_eq!((rows[0].start, rows[0].end, rows[0].evidence.len()), (200, 1100, 10));
        assert_eq!(script.rows_at(60_000), []);
    }

    /// G-T2.
    #[test]
    fn g_t2_ten_reversals_in_2250_ms_are_none() {
        let mut script = Script::observed();
        wild(&mut script, 0, 250, 80, 20);
        assert_eq!(script.rows_at(60_000), []);
    }

    /// G-T3.
    #[test]
    fn g_t3_with_a_button_held_it_is_none() {
        let mut script = Script::observed();
        for n in 0..12 {
            let held = MouseMove { held: true, ..sample(if n % 2 == 0 { 0 } else { 80 }) };
            script.at(n * 100, Payload::MouseMove(held));
        }
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn nine_reversals_and_short_ways_are_none() {
        let mut script = Script::observed();
        wild(&mut script, 0, 100, 80, 11);
        assert_eq!(script.rows_at(60_000), [], "nine");
        let mut script = Script::observed();
        wild(&mut script, 0, 100, 50, 12);
        assert_eq!(script.rows_at(60_000), [], "450 px");
        let mut script = Script::observed();
        wild(&mut script, 0, 1, 2, 1000);
        assert_eq!(script.rows_at(60_000), [], "legs of 2 px");
    }

    #[test]
    fn no_movement_keeps_the_direction() {
        let mut script = Script::observed();
        for n in 0..20 {
            // To the right, then nothing, again and again.
            script.at(n * 50, Payload::MouseMove(sample(n as i32 / 2 * 100)));
        }
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn a_series_that_goes_on_is_one_signal() {
        let mut script = Script::observed();
        wild(&mut script, 0, 100, 80, 40);
        let rows = script.rows_at(60_000);
        assert_eq!((rows.len(), rows[0].count, rows[0].end), (1, 38, 3900));
    }

    #[test]
    fn a_reversal_outside_of_the_window_ends_the_series_at_once() {
        let mut script = Script::observed();
        wild(&mut script, 0, 100, 80, 12);
        // The next one comes at 2500 ms; the last ten would span 2200.
        script.at(2500, Payload::MouseMove(sample(0)));
        assert_eq!(script.rows().len(), 1);
        assert_eq!(script.rows_at(60_000), []);
    }

    #[test]
    fn a_burst_that_the_browser_sums_up_counts_alike() {
        let burst = CursorBurst { reversals_x: 10, reversals_y: 3, path_px: 500, span_ms: 1999 };
        for (burst, signals) in [
            (burst, 1),
            (CursorBurst { span_ms: 2000, ..burst }, 0),
            (CursorBurst { reversals_x: 9, ..burst }, 0),
            (CursorBurst { path_px: 499, ..burst }, 0),
        ] {
            let mut script = Script::observed();
            script.at(5000, Payload::CursorBurst(burst));
            assert_eq!(script.rows_at(60_000).len(), signals, "{burst:?}");
        }
    }

    #[test]
    fn extreme_places_do_not_overflow() {
        let mut script = Script::observed();
        for n in 0..100 {
            let (x, y) = if n % 2 == 0 { (i32::MIN, i32::MAX) } else { (i32::MAX, i32::MIN) };
            script.at(n, Payload::MouseMove(MouseMove { x, y, ..MouseMove::default() }));
        }
        assert_eq!(script.rows_at(60_000).len(), 1);
    }
}
