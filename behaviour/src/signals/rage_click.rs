//! Rage clicks: a chain of quick clicks on one spot.
//!
//! A click joins the open chain if it comes within `gap` of the chain's last click and is on the same spot; else the chain is
//! closed and another begins. A chain is also closed by time, and when its page is left. One chain gives one signal at most,
//! however long it is: if any `clicks` of it lie within `window` (sliding), and no click of it selected text or scrolled.
//!
//! The machine here knows clicks as numbers alone, keeps one chain of fixed size and allocates nothing; evidence and verdicts
//! are kept by the desk of clicks.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::settings::{CLICKS_MAX, Mode, Rage, Space};

/// Clicks on a target that waits for double clicks are one act if they come so near, in µs: 500 ms, the usual double click.
const DOUBLE_CLICK_US: i64 = 500_000;

/// The name of a target as a number: 0 for no name. Two names of one number are as good as impossible, and would but join
/// two clicks.
pub fn mark(name: &str) -> u64 {
    if name.is_empty() { 0 } else { xxh3_64(name.as_bytes()).max(1) }
}

/// A click as the machine sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tap {
    /// When, in µs.
    pub at_us: i64,
    /// Where, in CSS pixels.
    pub x: i32,
    /// Where, in CSS pixels.
    pub y: i32,
    /// On what; see `mark`.
    pub target: u64,
    /// Whether text was selected or the page scrolled with it.
    pub spoils: bool,
    /// Whether its target waits for double clicks.
    pub pairs: bool,
}

/// Clicks that follow each other on one spot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// When the first click came, in µs.
    pub first_us: i64,
    /// When the last click came, in µs.
    pub last_us: i64,
    /// Its clicks, those of a pair counted once.
    pub count: u32,
    /// Whether the pattern is complete; see `Mode`.
    pub is_found: bool,
    /// Whether a click selected text or scrolled, so that the chain says nothing.
    pub is_spoilt: bool,
    x: i32,
    y: i32,
    target: u64,
    /// Left, upper, right and lower edge of all clicks.
    edges: [i32; 4],
    /// Whether the last click waits for the second one of its pair.
    is_half: bool,
    /// The times of the last counted clicks, at their count modulo the length.
    times: [i64; CLICKS_MAX as usize],
}

impl Chain {
    fn begin(tap: &Tap) -> Chain {
        let edges = [tap.x, tap.y, tap.x, tap.y];
        let mut chain = Chain { first_us: tap.at_us, edges, ..Chain::default() };
        chain.take(tap);
        chain
    }

    /// Returns whether the chain is a rage click.
    pub fn is_rage(&self) -> bool {
        self.is_found && !self.is_spoilt
    }

    fn take(&mut self, tap: &Tap) {
        let gap = tap.at_us.saturating_sub(self.last_us);
        let second = self.is_half && tap.pairs && (0..=DOUBLE_CLICK_US).contains(&gap);
        self.is_half = tap.pairs && !second;
        if !second {
            self.times[self.count as usize % self.times.len()] = tap.at_us;
            self.count = self.count.saturating_add(1);
        }
        (self.last_us, self.x, self.y, self.target) = (tap.at_us, tap.x, tap.y, tap.target);
        self.edges =
            [self.edges[0].min(tap.x), self.edges[1].min(tap.y), self.edges[2].max(tap.x), self.edges[3].max(tap.y)];
        self.is_spoilt |= tap.spoils;
    }

    /// Returns whether the last `clicks` of the chain make the pattern.
    fn is_complete(&self, settings: &Rage) -> bool {
        let clicks = u32::from(settings.clicks.clamp(1, CLICKS_MAX));
        let Some(first) = self.count.checked_sub(clicks) else { return false };
        let span = self.last_us.saturating_sub(self.times[first as usize % self.times.len()]);
        settings.mode == Mode::Consecutive || settings.window.holds(span)
    }

    fn joins(&self, tap: &Tap, settings: &Rage) -> bool {
        let since = if settings.mode == Mode::OnDead { self.first_us } else { self.last_us };
        settings.gap.holds(tap.at_us.saturating_sub(since)) && self.is_same_spot(tap, settings)
    }

    fn is_same_spot(&self, tap: &Tap, settings: &Rage) -> bool {
        let (dx, dy) = (i64::from(tap.x) - i64::from(self.x), i64::from(tap.y) - i64::from(self.y));
        let same = tap.target != 0 && tap.target == self.target;
        let far = i64::from(settings.same_target_px);
        let near = dx.abs() + dy.abs() < i64::from(settings.radius_px);
        // At most 2 * 2^64 of squared pixels: wider than 64 bits.
        let within = i128::from(dx).pow(2) + i128::from(dy).pow(2) <= i128::from(far).pow(2);
        match settings.space {
            Space::TargetOrNear => (same && within) || near,
            Space::Near => near,
            Space::TargetAndNear => same && within,
            Space::Target => same,
            Space::TargetAndBox => {
                let [left, upper, right, lower] = self.edges.map(i64::from);
                let (x, y) = (i64::from(tap.x), i64::from(tap.y));
                same && right.max(x) - left.min(x) <= far && lower.max(y) - upper.min(y) <= far
            }
        }
    }
}

/// What a click did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The chain that it closed, as it did not join it.
    pub closed: Option<Chain>,
    /// Whether its chain became complete with it.
    pub is_found_now: bool,
}

/// The chain of one tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RageClick {
    open: Option<Chain>,
}

impl RageClick {
    /// Takes in a click. Clicks come in the order of their times.
    pub fn push(&mut self, tap: &Tap, settings: &Rage) -> Pushed {
        let (mut chain, closed) = match self.open.take() {
            Some(mut chain) if chain.joins(tap, settings) => {
                chain.take(tap);
                (chain, None)
            }
            before => (Chain::begin(tap), before),
        };
        let is_found_now = !chain.is_found && chain.is_complete(settings);
        chain.is_found |= is_found_now;
        self.open = Some(chain);
        Pushed { closed, is_found_now }
    }

    /// Returns the open chain.
    pub fn open(&self) -> Option<&Chain> {
        self.open.as_ref()
    }

    /// Notes that text was selected or the page scrolled by the chain's last click.
    pub fn spoil(&mut self) {
        if let Some(chain) = &mut self.open {
            chain.is_spoilt = true;
        }
    }

    /// Returns the last time at which a click may still join, in µs: once it has passed, the chain is to be closed.
    pub fn due_us(&self, settings: &Rage) -> Option<i64> {
        let chain = self.open.as_ref()?;
        let since = if settings.mode == Mode::OnDead { chain.first_us } else { chain.last_us };
        Some(since.saturating_add(settings.gap.us))
    }

    /// Closes the chain, if it is over.
    pub fn close_if(&mut self, is_over: bool) -> Option<Chain> {
        self.open.take_if(|_| is_over)
    }

    /// Closes the chain.
    pub fn close(&mut self) -> Option<Chain> {
        self.open.take()
    }
}

#[cfg(test)]
mod tests;
