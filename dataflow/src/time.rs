//! Event time: when something happened, as the data says, in microseconds since 1970-01-01T00:00:00Z.
//!
//! Not here: wall clocks. Nothing on this floor but the clock and the readers may look at one.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in event time, in microseconds since the epoch, UTC. Watermarks are event times too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before all times: the watermark of an input without rows.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After all times: the watermark of an input that has ended.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// Returns the time of `millis` milliseconds since the epoch, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        EventTime(millis.saturating_mul(1000))
    }

    /// Returns this time moved back by `span`; the infinities stay where they are.
    pub fn minus(self, span: Duration) -> Self {
        match self {
            EventTime::MIN | EventTime::MAX => self,
            EventTime(micros) => EventTime(micros.saturating_sub(micros_of(span))),
        }
    }

    /// Returns this time moved forward by `span`; the infinities stay where they are.
    pub fn plus(self, span: Duration) -> Self {
        match self {
            EventTime::MIN | EventTime::MAX => self,
            EventTime(micros) => EventTime(micros.saturating_add(micros_of(span))),
        }
    }
}

/// Returns `span` in whole microseconds, saturating.
pub fn micros_of(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Debug for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EventTime::MIN => f.write_str("-inf"),
            EventTime::MAX => f.write_str("+inf"),
            EventTime(micros) => write!(f, "{micros}us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_do_not_move() {
        let hour = Duration::from_secs(3600);
        assert_eq!(EventTime::MIN.plus(hour), EventTime::MIN);
        assert_eq!(EventTime::MAX.minus(hour), EventTime::MAX);
        assert_eq!(EventTime::from_millis(7).minus(Duration::from_millis(2)), EventTime(5000));
    }
}
