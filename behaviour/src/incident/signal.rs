//! What incidents ask of a signal.

use crate::identity::Id;
use crate::signals::{Signal, SignalKind};

impl Signal {
    /// Returns its place in the order in which incidents take signals: by end, then start, then id.
    pub fn order(&self) -> (i64, i64, Id) {
        (self.end, self.start, self.signal_id)
    }

    /// Returns what a repeat is told by: the kind, and the target or else the cause.
    pub fn subject(&self) -> (SignalKind, &str) {
        (self.kind, if self.target_fp.is_empty() { &self.cause_fp } else { &self.target_fp })
    }

    /// Says whether it opens an incident by itself: a crash that is not merely one of hydration (that one is soft), or a
    /// checkout that is stuck. One that came right in the end is worth nothing, and opens none.
    pub fn opens_alone(&self) -> bool {
        matches!(self.kind, SignalKind::AppCrash | SignalKind::CheckoutStuck) && self.hard && self.points > 0
    }
}
