//! When an event happened: the correction of client clocks, its clamps, and the clock of one browser tab.

use serde::{Deserialize, Serialize};

/// The clocks that an event carries, since the epoch; in any unit, but in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The client's clock when it happened.
    pub client_time: Option<i64>,
    /// The client's clock when it was sent.
    pub sent_at: Option<i64>,
    /// Our clock when it was received; never the client's.
    pub received_at: Option<i64>,
}

/// How far from its receipt an event may lie, in the unit of its stamps; both ends closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In its future.
    pub ahead: i64,
    /// In its past.
    pub past: i64,
}

/// When an event happened, as far as its stamps tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrected {
    /// At this time.
    At(i64),
    /// It would lie too far in the future: it is taken to have happened when it was received, and is flagged `clock_future`.
    ClockFuture(i64),
    /// It lies too far in the past, at this time: it belongs to the side output `too_old`.
    TooOld(i64),
}

impl Stamps {
    /// Returns the event time: the time of receipt less what lay, by the client's own clock, between happening and sending;
    /// else the client's time; else the time of receipt; none where there is neither. What was received is held to `bounds`.
    pub fn corrected(&self, bounds: Bounds) -> Option<Corrected> {
        let Some(received) = self.received_at else { return self.client_time.map(Corrected::At) };
        let time = match (self.client_time, self.sent_at) {
            (Some(client), Some(sent)) => received.saturating_sub(sent.saturating_sub(client)),
            (Some(client), None) => client,
            (None, _) => received,
        };
        Some(if time > received.saturating_add(bounds.ahead) {
            Corrected::ClockFuture(received)
        } else if time < received.saturating_sub(bounds.past) {
            Corrected::TooOld(time)
        } else {
            Corrected::At(time)
        })
    }
}

/// Converts ms with a fraction, as a browser's monotonic clock gives them, to whole µs. What is no number, or is outside of
/// ±285 years, is none.
pub fn mono_us(mono_ms: f64) -> Option<i64> {
    let us = (mono_ms * 1000.0).round();
    (us.is_finite() && us.abs() < 9.0e15).then_some(us as i64)
}

/// Page loads whose clock a tab remembers; the oldest is forgotten first.
pub const PAGE_LOADS_MAX: usize = 8;

/// The clock of one tab, in µs since the epoch.
///
/// Event time is corrected per upload: two uploads of one tab get different offsets, and the network adds its jitter. So
/// the distance of two events of one page load is that of their monotonic times. The clock takes the first event of a
/// page load as its anchor and counts on from there by the monotonic clock. Where that strays from event time by more than
/// the allowed skew (a machine that slept), the anchor is set anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TabClock {
    /// Oldest first, at most `PAGE_LOADS_MAX`.
    loads: Vec<Anchor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    load: String,
    time_us: i64,
    mono_us: i64,
}

impl TabClock {
    /// Returns the tab's time of an event at `time` (ms, event time) with the monotonic time `mono_us` in the page load `load`.
    pub fn at_us(&mut self, time: i64, mono_us: i64, load: &str, skew_ms: i64) -> i64 {
        let time_us = time.saturating_mul(1000);
        let anchor = Anchor { load: String::new(), time_us, mono_us };
        let Some(known) = self.loads.iter_mut().find(|known| known.load == load) else {
            if self.loads.len() == PAGE_LOADS_MAX {
                self.loads.remove(0);
            }
            self.loads.push(Anchor { load: load.to_owned(), ..anchor });
            return time_us;
        };
        let at_us = known.time_us.saturating_add(mono_us.saturating_sub(known.mono_us));
        if at_us.abs_diff(time_us) > skew_ms.saturating_mul(1000).unsigned_abs() {
            (known.time_us, known.mono_us) = (time_us, mono_us);
            return time_us;
        }
        at_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1000;
    const BOUNDS: Bounds = Bounds { ahead: HOUR / 12, past: 72 * HOUR };

    fn corrected(
        client_time: Option<i64>,
        sent_at: Option<i64>,
        received_at: impl Into<Option<i64>>,
    ) -> Option<Corrected> {
        Stamps { client_time, sent_at, received_at: received_at.into() }.corrected(BOUNDS)
    }

    /// G-E1: what the client waited before sending is taken off the time of receipt.
    #[test]
    fn g_e1_a_client_clock_is_corrected_by_receipt() {
        assert_eq!(corrected(Some(1000), Some(5000), 65_000), Some(Corrected::At(61_000)));
    }

    #[test]
    fn fewer_stamps_fall_back() {
        assert_eq!(corrected(Some(7), None, 9), Some(Corrected::At(7)));
        assert_eq!(corrected(None, Some(7), 9), Some(Corrected::At(9)));
        assert_eq!(corrected(None, None, 9), Some(Corrected::At(9)));
        assert_eq!(corrected(Some(7), Some(8), None), Some(Corrected::At(7)));
        assert_eq!(corrected(None, Some(8), None), None);
    }

    #[test]
    fn a_future_clock_counts_as_received_then() {
        let received = 100 * HOUR;
        let edge = received + BOUNDS.ahead;
        assert_eq!(corrected(Some(edge), None, received), Some(Corrected::At(edge)));
        assert_eq!(corrected(Some(edge + 1), None, received), Some(Corrected::ClockFuture(received)));
    }

    #[test]
    fn what_is_too_old_is_told_apart() {
        let received = 1000 * HOUR;
        let edge = received - BOUNDS.past;
        assert_eq!(corrected(Some(edge), None, received), Some(Corrected::At(edge)));
        assert_eq!(corrected(Some(edge - 1), None, received), Some(Corrected::TooOld(edge - 1)));
    }

    #[test]
    fn absurd_stamps_do_not_overflow() {
        for (client, sent, received) in [(i64::MIN, i64::MAX, 0), (i64::MAX, i64::MIN, 0), (0, i64::MAX, i64::MIN)] {
            let _ = corrected(Some(client), Some(sent), received);
        }
        assert_eq!(mono_us(f64::NAN), None);
        assert_eq!(mono_us(f64::INFINITY), None);
        assert_eq!(mono_us(0.1), Some(100));
        let mut clock = TabClock::default();
        clock.at_us(i64::MAX, i64::MIN, "l", 2000);
        clock.at_us(i64::MIN, i64::MAX, "l", i64::MAX);
    }

    /// G-E3: two uploads whose offsets differ by 400 ms; what lies between is what the monotonic clock says.
    #[test]
    fn g_e3_a_distance_in_one_page_load_is_monotonic() {
        let mut clock = TabClock::default();
        let first = clock.at_us(5000, 100_000, "l1", 2000);
        let second = clock.at_us(6200, 900_000, "l1", 2000);
        assert_eq!(second - first, 800_000);
    }

    #[test]
    fn another_page_load_has_another_anchor() {
        let mut clock = TabClock::default();
        clock.at_us(5000, 100_000, "l1", 2000);
        assert_eq!(clock.at_us(6000, 0, "l2", 2000), 6_000_000);
        assert_eq!(clock.at_us(6000, 1_000_000, "l1", 2000), 5_900_000);
    }

    #[test]
    fn a_clock_that_slept_is_anchored_anew() {
        let mut clock = TabClock::default();
        clock.at_us(0, 0, "l", 2000);
        assert_eq!(clock.at_us(3000, 1_000_000, "l", 2000), 1_000_000, "a skew of exactly 2000 ms is allowed");
        assert_eq!(clock.at_us(600_000, 2_000_000, "l", 2000), 600_000_000);
        assert_eq!(clock.at_us(600_500, 2_500_000, "l", 2000), 600_500_000);
    }

    #[test]
    fn a_tab_remembers_few_page_loads() {
        let mut clock = TabClock::default();
        for load in 0..100 {
            clock.at_us(load, 0, &load.to_string(), 2000);
        }
        assert_eq!(clock.loads.len(), PAGE_LOADS_MAX);
    }
}
