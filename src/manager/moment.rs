//! A moment of the wall clock, for people and for restarts of processes. Nothing of it reaches a job.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use riverrun_jobs::spec::values;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::progress::clock;

/// Milliseconds since the epoch; written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// Returns the present moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "when processes are started again and what people are told; reaches no output"
    )]
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns the moment so much later.
    pub fn after(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns how long it is since `earlier`.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = clock(self.0.saturating_mul(1000));
        write!(f, "{}.{:03}Z", seconds.trim_end_matches('Z'), self.0.rem_euclid(1000))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = values::time(&text).map_err(D::Error::custom)?;
        Ok(Moment(time.0.div_euclid(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read_in_utc() {
        for (millis, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_767_225_600_042, "2026-01-01T00:00:00.042Z")] {
            assert_eq!(Moment(millis).to_string(), text);
            assert_eq!(serde_json::from_value::<Moment>(text.into()).unwrap(), Moment(millis));
        }
    }
}
