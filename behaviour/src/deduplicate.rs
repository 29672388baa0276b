//! Deduplication: the first of several events with one key counts, for as long as its horizon goes.
//!
//! The key is (tenant, source, event id); what is in the event does not matter to it. The horizon runs from the first
//! acceptance, by the time of receipt, and a duplicate does not prolong it. An event that repeats a key with another body is a
//! conflict: the first is kept, and both hashes are told.

use serde::{Deserialize, Serialize};

use crate::identity::Id;

/// How long a behaviour event is remembered, in ms: 24 hours.
pub const HORIZON_BEHAVIOUR_MS: i64 = 24 * 3600 * 1000;
/// How long an order is remembered, in ms: 90 days.
pub const HORIZON_ORDERS_MS: i64 = 90 * 24 * 3600 * 1000;
/// How long a billed event is remembered, in ms: 36 days, which is longer than such events are accepted.
pub const HORIZON_BILLING_MS: i64 = 36 * 24 * 3600 * 1000;

/// What is remembered of the event that was accepted under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// When it was received, in ms.
    pub received_at: i64,
    /// The hash of its body.
    pub body: Id,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first under its key: it counts, and is what is remembered from now on.
    First,
    /// It repeats one that counted.
    Duplicate,
    /// It has the key of one that counted, but says something else: that one stays.
    Conflict {
        /// The body that counts.
        kept: Id,
        /// The body that does not.
        refused: Id,
    },
}

impl Accepted {
    /// Judges an event that has the key of `earlier`, if there was one.
    ///
    /// The horizon is open at its end: received `horizon_ms` after the first or later, an event counts again. One that was
    /// received before the first (another partition) is within the horizon of it all the same.
    pub fn judge(earlier: Option<Accepted>, event: Accepted, horizon_ms: i64) -> Verdict {
        match earlier {
            Some(first) if event.received_at.saturating_sub(first.received_at) < horizon_ms => {
                if first.body == event.body {
                    Verdict::Duplicate
                } else {
                    Verdict::Conflict { kept: first.body, refused: event.body }
                }
            }
            _ => Verdict::First,
        }
    }

    /// Returns from which time of receipt on this need no longer be remembered.
    pub fn forget_at(&self, horizon_ms: i64) -> i64 {
        self.received_at.saturating_add(horizon_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::identity;

    const SECOND: i64 = 1000;
    const DAY: i64 = 24 * 3600 * SECOND;
    const TEN: i64 = 10 * 3600 * SECOND;

    fn event(received_at: i64) -> Accepted {
        Accepted { received_at, body: identity(&["body"]) }
    }

    /// G-E2: the horizon runs from the first acceptance, and duplicates do not prolong it.
    #[test]
    fn g_e2_a_repeat_counts_again_after_the_horizon() {
        let first = Some(event(TEN));
        let judge = |at, horizon| Accepted::judge(first, event(at), horizon);
        assert_eq!(judge(TEN + DAY - SECOND, HORIZON_BEHAVIOUR_MS), Verdict::Duplicate);
        assert_eq!(judge(TEN + DAY + SECOND, HORIZON_BEHAVIOUR_MS), Verdict::First);
        assert_eq!(judge(TEN + DAY + SECOND, HORIZON_BILLING_MS), Verdict::Duplicate);
    }

    #[test]
    fn a_first_event_counts() {
        assert_eq!(Accepted::judge(None, event(0), HORIZON_BEHAVIOUR_MS), Verdict::First);
    }

    #[test]
    fn the_horizon_is_open_at_its_end() {
        assert_eq!(Accepted::judge(Some(event(0)), event(DAY - 1), DAY), Verdict::Duplicate);
        assert_eq!(Accepted::judge(Some(event(0)), event(DAY), DAY), Verdict::First);
        assert_eq!(event(0).forget_at(DAY), DAY);
    }

    #[test]
    fn another_body_is_a_conflict() {
        let other = Accepted { received_at: 5, body: identity(&["other"]) };
        let verdict = Accepted::judge(Some(event(0)), other, DAY);
        assert_eq!(verdict, Verdict::Conflict { kept: identity(&["body"]), refused: identity(&["other"]) });
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        assert_eq!(Accepted::judge(Some(event(i64::MAX)), event(i64::MIN), DAY), Verdict::Duplicate);
        assert_eq!(Accepted::judge(Some(event(i64::MIN)), event(i64::MAX), DAY), Verdict::First);
    }
}
