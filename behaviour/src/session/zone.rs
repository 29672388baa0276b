//! The calendar of a place: how far its clocks are from UTC, and when that changes.
//!
//! It knows no names of zones and reads no database: whoever sets a job up gives the changes. That keeps a session's cut at
//! midnight a function of the job file.

use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// How far the clocks of a place are ahead of UTC, in milliseconds, and from when on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Ahead of UTC before the first change.
    first_ms: i64,
    /// (from when on in UTC, ahead of UTC), ascending.
    changes: Vec<(i64, i64)>,
}

impl Zone {
    /// Returns the zone of UTC.
    pub fn utc() -> Self {
        Self::default()
    }

    /// Returns a zone that is always `ahead_ms` ahead of UTC; negative to the west.
    pub fn fixed(ahead_ms: i64) -> Self {
        Self { first_ms: ahead_ms, changes: Vec::new() }
    }

    /// Returns a zone that is `first_ms` ahead of UTC and changes at the given times to the given distances.
    pub fn changing(first_ms: i64, mut changes: Vec<(i64, i64)>) -> Self {
        changes.sort_unstable();
        Self { first_ms, changes }
    }

    /// Returns the number of the local day of `time`, counted from 1970-01-01.
    pub fn day(&self, time: i64) -> i64 {
        let passed = self.changes.partition_point(|(from, _)| *from <= time);
        let ahead = passed.checked_sub(1).map_or(self.first_ms, |at| self.changes[at].1);
        time.saturating_add(ahead).div_euclid(DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_day_begins_at_local_midnight() {
        assert_eq!(Zone::utc().day(DAY_MS - 1), 0);
        assert_eq!(Zone::utc().day(DAY_MS), 1);
        assert_eq!(Zone::utc().day(-1), -1);
        assert_eq!(Zone::fixed(2 * HOUR).day(22 * HOUR), 1);
        assert_eq!(Zone::fixed(-2 * HOUR).day(DAY_MS + HOUR), 0);
    }

    #[test]
    fn a_change_counts_from_its_own_millisecond_on() {
        let zone = Zone::changing(HOUR, vec![(10 * DAY_MS, 2 * HOUR)]);
        assert_eq!(zone.day(9 * DAY_MS + 22 * HOUR + HOUR / 2), 9);
        assert_eq!(zone.day(10 * DAY_MS + 22 * HOUR), 11);
    }

    #[test]
    fn no_time_is_too_far() {
        assert_eq!(Zone::fixed(i64::MAX).day(i64::MAX), i64::MAX / DAY_MS);
        assert_eq!(Zone::fixed(i64::MIN).day(i64::MIN), i64::MIN.div_euclid(DAY_MS));
    }
}
