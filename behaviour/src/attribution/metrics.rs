//! Metrics: the rates that are made of touches, orders and the ledger's rows, for one cell of time and dimensions.
//!
//! A cell is sums only, so cells of hours add up to those of days. A rate whose base is zero is none; one above one is given as
//! it is, and said to be suspect.

use serde::{Deserialize, Serialize};

/// The sums of a cell. Money in minor units of one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Impressions.
    pub impressions: i64,
    /// Clicks, duplicates not counted.
    pub clicks: i64,
    /// Clicks that repeat another.
    pub dup_clicks: i64,
    /// Orders that the cell's touches are given, in millionths, cancellations not taken off. In cells by click time it is the
    /// cohort's, in cells by order time the period's: the two are two metrics.
    pub conversions_ppm: i64,
    /// Orders made.
    pub orders: i64,
    /// Orders of which everything was given back, by refunds or a cancellation.
    pub void_orders: i64,
    /// Orders of which anything was given back.
    pub refunded_orders: i64,
    /// Worth of the orders made.
    pub gross_minor: i64,
    /// The same less what was given back.
    pub net_minor: i64,
    /// Net worth that the cell's touches are given.
    pub attributed_minor: i64,
    /// Worth that the cell's touches are given before anything was given back.
    pub attributed_gross_minor: i64,
    /// Spent on advertising.
    pub spend_minor: i64,
    /// Sessions.
    pub sessions: i64,
    /// Sessions with at least one order.
    pub sessions_with_order: i64,
    /// Orders with the cell's channel in their path, but not last.
    pub assisted: i64,
}

/// Returns `part / whole`, none if there is no whole.
fn rate(part: i64, whole: i64) -> Option<f64> {
    (whole != 0).then(|| part as f64 / whole as f64)
}

impl Cell {
    /// Adds another cell of the same dimensions.
    pub fn add(&mut self, other: &Cell) {
        let pairs = [
            (&mut self.impressions, other.impressions),
            (&mut self.clicks, other.clicks),
            (&mut self.dup_clicks, other.dup_clicks),
            (&mut self.conversions_ppm, other.conversions_ppm),
            (&mut self.orders, other.orders),
            (&mut self.void_orders, other.void_orders),
            (&mut self.refunded_orders, other.refunded_orders),
            (&mut self.gross_minor, other.gross_minor),
            (&mut self.net_minor, other.net_minor),
            (&mut self.attributed_minor, other.attributed_minor),
            (&mut self.attributed_gross_minor, other.attributed_gross_minor),
            (&mut self.spend_minor, other.spend_minor),
            (&mut self.sessions, other.sessions),
            (&mut self.sessions_with_order, other.sessions_with_order),
            (&mut self.assisted, other.assisted),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// Returns clicks per impression.
    pub fn click_through(&self) -> Option<f64> {
        rate(self.clicks, self.impressions)
    }

    /// Says whether there were more clicks than impressions: something is not counted.
    pub fn is_suspect(&self) -> bool {
        self.impressions > 0 && self.clicks > self.impressions
    }

    /// Returns orders per click, parts of orders counted as parts.
    pub fn conversion_per_click(&self) -> Option<f64> {
        rate(self.conversions_ppm, self.clicks).map(|rate| rate / 1e6)
    }

    /// Returns the part of sessions that have an order.
    pub fn conversion_per_session(&self) -> Option<f64> {
        rate(self.sessions_with_order, self.sessions)
    }

    /// Returns the mean worth of an order made, in minor units.
    pub fn order_value_gross(&self) -> Option<f64> {
        rate(self.gross_minor, self.orders)
    }

    /// Returns the mean net worth of an order of which something is left, in minor units.
    pub fn order_value_net(&self) -> Option<f64> {
        rate(self.net_minor, self.orders - self.void_orders)
    }

    /// Returns the net worth that a click is given on the average, in minor units.
    pub fn revenue_per_touch(&self) -> Option<f64> {
        rate(self.attributed_minor, self.clicks)
    }

    /// Returns what the advertising was given, net, per unit spent on it.
    pub fn return_on_spend(&self) -> Option<f64> {
        rate(self.attributed_minor, self.spend_minor)
    }

    /// Returns the part of orders of which anything was given back.
    pub fn refund_rate(&self) -> Option<f64> {
        rate(self.refunded_orders, self.orders)
    }
}

/// Returns the value below or at which `percent` of a hundred of `values` are (the nearest rank); none of no values.
///
/// Used for the time from the last touch to the order.
pub fn percentile(values: &mut [i64], percent: u32) -> Option<i64> {
    values.sort_unstable();
    let rank = (values.len() * percent.min(100) as usize).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-B16, of sums; the ledger's part of it is among the ledger's tests.
    #[test]
    fn g_b16_the_rates_of_an_hour() {
        let cell = Cell {
            impressions: 200,
            clicks: 10,
            dup_clicks: 2,
            conversions_ppm: 2_000_000,
            orders: 2,
            void_orders: 1,
            refunded_orders: 1,
            gross_minor: 15_000,
            net_minor: 10_000,
            attributed_minor: 10_000,
            attributed_gross_minor: 15_000,
            spend_minor: 2_000,
            ..Cell::default()
        };
        assert_eq!(cell.click_through(), Some(0.05));
        assert_eq!(cell.conversion_per_click(), Some(0.2));
        assert_eq!((cell.order_value_gross(), cell.order_value_net()), (Some(7_500.0), Some(10_000.0)));
        assert_eq!(cell.revenue_per_touch(), Some(1_000.0));
        assert_eq!(cell.return_on_spend(), Some(5.0));
        assert_eq!(cell.refund_rate(), Some(0.5));
        assert!(!cell.is_suspect());
    }

    #[test]
    fn a_rate_without_a_base_is_none_and_one_above_one_is_shown() {
        assert_eq!(Cell::default().click_through(), None);
        assert_eq!(Cell::default().conversion_per_session(), None);
        let cell = Cell { impressions: 2, clicks: 3, sessions: 4, sessions_with_order: 1, ..Cell::default() };
        assert_eq!(cell.click_through(), Some(1.5));
        assert!(cell.is_suspect());
        assert_eq!(cell.conversion_per_session(), Some(0.25));
    }

    #[test]
    fn hours_add_up_to_days() {
        let mut day = Cell { clicks: 3, net_minor: i64::MAX, assisted: 1, ..Cell::default() };
        day.add(&Cell { clicks: 4, net_minor: 1, assisted: 1, ..Cell::default() });
        assert_eq!((day.clicks, day.net_minor, day.assisted), (7, i64::MAX, 2));
    }

    #[test]
    fn a_percentile_is_the_value_of_the_nearest_rank() {
        assert_eq!(percentile(&mut [40, 10, 30, 20], 50), Some(20));
        assert_eq!(percentile(&mut [40, 10, 30, 20], 95), Some(40));
        assert_eq!(percentile(&mut [7], 0), Some(7));
        assert_eq!(percentile(&mut [], 50), None);
    }
}
