//! What is usual for a page: how often its visitors turn while they scroll, over many page views. Excessive scrolling counts only
//! where it is more than that, once enough is known: on a page of long tables everybody scrolls to and fro.
//!
//! Key:      tenant, page.
//! In:       the reversals of each page view that has ended; the count of each signal of excessive scrolling, at its time.
//! Rule:     with `views` page views or more, a view with `n` reversals is unusual if `n > mean + sigma * deviation`, the standard
//!           deviation of all views so far. The view itself is not among them.
//! Keeps:    three numbers.
//!
//! All of it is whole numbers, so the order of page views changes nothing, and no machine rounds differently.

use serde::{Deserialize, Serialize};

/// Reversals of one page view that count at most: one view of a broken script must not spoil the average of a page.
pub const REVERSALS_MAX: u64 = 1000;

/// From when on a page's usual is looked at, and what is above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsualSettings {
    /// From how many page views on.
    pub views: u64,
    /// By how many standard deviations a view must be above the mean.
    pub sigma: u64,
}

impl Default for UsualSettings {
    fn default() -> Self {
        UsualSettings { views: 500, sigma: 3 }
    }
}

/// How visitors of one page scroll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsualScroll {
    views: u64,
    /// Of reversals.
    sum: u64,
    /// Of their squares.
    squares: u64,
}

impl UsualScroll {
    /// Takes in a page view that has ended.
    pub fn ended(&mut self, reversals: u64) {
        let reversals = reversals.min(REVERSALS_MAX);
        self.views = self.views.saturating_add(1);
        self.sum = self.sum.saturating_add(reversals);
        self.squares = self.squares.saturating_add(reversals * reversals);
    }

    /// Returns how many page views it knows.
    pub fn views(&self) -> u64 {
        self.views
    }

    /// Says whether so many reversals are more than usual, as far as the usual is known.
    pub fn is_unusual(&self, reversals: u64, settings: UsualSettings) -> bool {
        if self.views < settings.views.max(1) {
            return true;
        }
        // views * (n - mean) > sigma * views * deviation, both sides squared.
        let (views, sum) = (i128::from(self.views), i128::from(self.sum));
        let above = views * i128::from(reversals) - sum;
        let spread = views * i128::from(self.squares) - sum * sum;
        let sigma = i128::from(settings.sigma.min(1000));
        above > 0 && above.saturating_mul(above) > sigma * sigma * spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(views: &[u64]) -> UsualScroll {
        let mut usual = UsualScroll::default();
        views.iter().for_each(|view| usual.ended(*view));
        usual
    }

    #[test]
    fn it_is_above_the_mean_and_three_deviations() {
        // Half of the views turn twice, half four times: 3 on average, give or take 1.
        let views: Vec<u64> = (0..500).map(|n| 2 + n % 2 * 2).collect();
        let settings = UsualSettings::default();
        assert!(!of(&views).is_unusual(6, settings), "6 are not above 3 and 3 times 1");
        assert!(of(&views).is_unusual(7, settings));
        assert!(of(&views[1..]).is_unusual(6, settings), "too few views to know");
    }

    #[test]
    fn where_nobody_turns_every_turn_is_unusual() {
        let usual = of(&[0; 500]);
        assert!(usual.is_unusual(1, UsualSettings::default()));
        assert!(!usual.is_unusual(0, UsualSettings::default()));
    }

    #[test]
    fn numbers_of_a_broken_script_are_bounded() {
        let usual = of(&[u64::MAX; 1000]);
        assert!(!usual.is_unusual(1000, UsualSettings::default()));
        assert!(usual.is_unusual(u64::MAX, UsualSettings { views: 1000, sigma: u64::MAX }));
    }

    proptest! {
        /// Against the formula in floating point, away from its edge.
        #[test]
        fn it_equals_the_formula(views in prop::collection::vec(0u64..40, 1..200), count in 0u64..80, sigma in 0u64..5) {
            let n = views.len() as f64;
            let mean = views.iter().sum::<u64>() as f64 / n;
            let deviation = (views.iter().map(|view| (*view as f64 - mean).powi(2)).sum::<f64>() / n).sqrt();
            let edge = mean + sigma as f64 * deviation;
            prop_assume!((count as f64 - edge).abs() > 1e-6);
            let settings = UsualSettings { views: views.len() as u64, sigma };
            prop_assert_eq!(of(&views).is_unusual(count, settings), count as f64 > edge);
        }
    }
}
