//! What incidents look at in a frustration signal.

use serde::{Deserialize, Serialize};

use crate::identity::Id;

/// What a signal says. The rules themselves are not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the signals' rules")]
pub enum SignalKind {
    RageClick,
    DeadClick,
    SlowClick,
    ErrorClick,
    QuickBack,
    ThrashedCursor,
    ExcessiveScroll,
    FormAbandon,
    SubmitFailures,
    FieldStruggle,
    AuthFailures,
    NetworkErrors,
    ReloadLoop,
    RedirectLoop,
    CheckoutStuck,
    FunnelDrop,
    Jank,
    AppCrash,
    DeadSwipe,
    SearchStruggle,
    Capped,
}

impl SignalKind {
    /// Returns the number of the rule it comes from, 1 to 16; 0: none.
    pub fn rule(self) -> u8 {
        match self {
            SignalKind::RageClick => 1,
            SignalKind::DeadClick => 2,
            SignalKind::SlowClick => 3,
            SignalKind::ErrorClick => 4,
            SignalKind::QuickBack => 5,
            SignalKind::ThrashedCursor => 6,
            SignalKind::ExcessiveScroll => 7,
            SignalKind::FormAbandon => 8,
            SignalKind::SubmitFailures | SignalKind::FieldStruggle | SignalKind::AuthFailures => 9,
            SignalKind::NetworkErrors => 10,
            SignalKind::ReloadLoop | SignalKind::RedirectLoop => 11,
            SignalKind::CheckoutStuck | SignalKind::FunnelDrop => 12,
            SignalKind::Jank => 13,
            SignalKind::AppCrash => 14,
            SignalKind::DeadSwipe => 15,
            SignalKind::SearchStruggle => 16,
            SignalKind::Capped => 0,
        }
    }
}

/// A signal of a session. One with a higher `rev` replaces that of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its identity.
    pub signal_id: Id,
    /// 0, then one more for each new wording.
    pub rev: u32,
    /// What it says.
    pub kind: SignalKind,
    /// Where it happened.
    pub page_key: String,
    /// On what (an element, a form); empty if on nothing in particular.
    pub target_fp: String,
    /// Through what (an error, an endpoint with the class of its answer); empty if that is not known.
    pub cause_fp: String,
    /// Event time of its beginning, milliseconds.
    pub start: i64,
    /// Event time of its end, milliseconds.
    pub end: i64,
    /// What it is worth, before repeats and important pages are taken into account.
    pub points: u32,
    /// Whether it may open an incident.
    pub hard: bool,
}

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
