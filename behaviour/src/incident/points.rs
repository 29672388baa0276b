//! Points and severity: what a session's signals are worth together.
//!
//! A session is judged by its worst five minutes, not by its lifetime: otherwise every long session would be critical.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{Id, identity};
use crate::signals::{Signal, SignalKind};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Less than medium.
    Low,
    /// By default from 6 points in five minutes.
    Medium,
    /// By default from 15.
    High,
    /// By default from 25.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// What signals are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// A page is important if a part of its route is one of these; a signal there is worth half as much again.
    pub funnel: Vec<String>,
    /// The span in which points are added up, open at its beginning.
    pub span_ms: i64,
    /// Points within the span that open an incident, with at least one hard signal.
    pub open: u32,
    /// Points within the span from which on it is medium.
    pub medium: u32,
    /// From which on it is high.
    pub high: u32,
    /// From which on it is critical.
    pub critical: u32,
}

impl Default for Scoring {
    fn default() -> Self {
        let funnel = ["cart", "checkout", "sign-up", "signup"].map(str::to_owned).to_vec();
        Self { funnel, span_ms: 5 * 60_000, open: 6, medium: 6, high: 15, critical: 25 }
    }
}

impl Scoring {
    /// Returns what a signal is worth that `repeats` others of its kind and subject came before.
    ///
    /// The page counts first and the repeats after: half as much again on an important page, then half for each repeat, both
    /// rounded down.
    pub fn worth(&self, signal: &Signal, repeats: u32) -> u32 {
        let is_important = signal.page_key.split('/').any(|part| self.funnel.iter().any(|word| word == part));
        let points = if is_important { signal.points.saturating_mul(3) / 2 } else { signal.points };
        points.checked_shr(repeats).unwrap_or(0)
    }

    /// Returns how bad a peak is.
    pub fn severity(&self, peak: u32) -> Severity {
        if peak >= self.critical {
            Severity::Critical
        } else if peak >= self.high {
            Severity::High
        } else if peak >= self.medium {
            Severity::Medium
        } else {
            Severity::Low
        }
    }
}

/// What some signals amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The most points within any span.
    pub peak: u32,
    /// All points.
    pub total: u32,
    /// When it was bad enough to be an incident, if it ever was.
    pub opened_at: Option<i64>,
    /// How many signals there are of each kind.
    pub kinds: BTreeMap<SignalKind, u32>,
    /// The place of the signal that counts most.
    pub primary: usize,
}

/// Judges signals, given in their order; none of no signals.
pub fn assess(scoring: &Scoring, signals: &[&Signal]) -> Option<Assessment> {
    let mut seen: BTreeMap<(SignalKind, &str), u32> = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut worths = Vec::with_capacity(signals.len());
    for signal in signals {
        let repeats = seen.entry(signal.subject()).or_default();
        worths.push(scoring.worth(signal, *repeats));
        *repeats += 1;
        *kinds.entry(signal.kind).or_default() += 1;
    }
    let (mut from, mut sum, mut peak, mut total) = (0, 0_u32, 0, 0_u32);
    let (mut has_hard, mut opened_at) = (false, None);
    for (at, signal) in signals.iter().enumerate() {
        sum = sum.saturating_add(worths[at]);
        total = total.saturating_add(worths[at]);
        has_hard |= signal.hard && signal.points > 0;
        while signal.end.saturating_sub(signals[from].end) >= scoring.span_ms && from < at {
            sum = sum.saturating_sub(worths[from]);
            from += 1;
        }
        peak = peak.max(sum);
        if (sum >= scoring.open && has_hard) || signal.opens_alone() {
            opened_at = opened_at.or(Some(signal.end));
        }
    }
    let primary = (0..signals.len()).min_by_key(|at| {
        let signal = signals[*at];
        (std::cmp::Reverse(worths[*at]), rank(signal.kind), signal.start, signal.signal_id)
    })?;
    Some(Assessment { peak, total, opened_at, kinds, primary })
}

/// Which of two kinds counts more if both are worth the same: the lower.
fn rank(kind: SignalKind) -> usize {
    const ORDER: [u8; 16] = [14, 12, 9, 4, 1, 10, 11, 8, 2, 3, 15, 16, 5, 13, 7, 6];
    ORDER.iter().position(|rule| *rule == kind.rule()).unwrap_or(ORDER.len())
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Something does not answer: clicks and swipes.
    Unresponsive,
    /// An error in the page.
    Error,
    /// A request that fails.
    Endpoint,
    /// A form that cannot be sent.
    Form,
    /// A sign-in that is refused: it may be an attack, and is never a reason for a ticket.
    Auth,
    /// A way through the shop that leads nowhere.
    Flow,
    /// The page is tiresome.
    Comfort,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 7] =
        [Group::Unresponsive, Group::Error, Group::Endpoint, Group::Form, Group::Auth, Group::Flow, Group::Comfort];

    /// Returns the group of a kind.
    pub fn of(kind: SignalKind) -> Self {
        use SignalKind as Kind;
        match kind {
            Kind::RageClick | Kind::DeadClick | Kind::SlowClick | Kind::DeadSwipe => Group::Unresponsive,
            Kind::ErrorClick | Kind::AppCrash => Group::Error,
            Kind::NetworkErrors => Group::Endpoint,
            Kind::FormAbandon | Kind::SubmitFailures | Kind::FieldStruggle => Group::Form,
            Kind::AuthFailures => Group::Auth,
            Kind::CheckoutStuck
            | Kind::FunnelDrop
            | Kind::ReloadLoop
            | Kind::RedirectLoop
            | Kind::QuickBack
            | Kind::SearchStruggle => Group::Flow,
            Kind::Jank | Kind::ThrashedCursor | Kind::ExcessiveScroll | Kind::Capped => Group::Comfort,
        }
    }

    /// Returns its name, as it stands in a fingerprint.
    pub fn name(self) -> &'static str {
        match self {
            Group::Unresponsive => "unresponsive",
            Group::Error => "error",
            Group::Endpoint => "endpoint",
            Group::Form => "form",
            Group::Auth => "auth",
            Group::Flow => "flow",
            Group::Comfort => "comfort",
        }
    }
}

/// Returns what a signal is about on its page.
///
/// The subject is the target of what does not answer and of forms and sign-ins, the cause of errors and requests, and the page
/// of all else.
pub fn subject(signal: &Signal) -> &str {
    match Group::of(signal.kind) {
        Group::Unresponsive | Group::Form | Group::Auth => &signal.target_fp,
        Group::Error | Group::Endpoint => &signal.cause_fp,
        Group::Flow | Group::Comfort => &signal.page_key,
    }
}

/// Returns what a signal is about, across sessions: the group, the page and the subject. Neither the release nor the browser nor
/// the person is in it, else every release and every person would make a new problem.
pub fn fingerprint(tenant: &str, signal: &Signal) -> Id {
    identity(&["ufse/1", tenant, Group::of(signal.kind).name(), &signal.page_key, subject(signal)])
}
