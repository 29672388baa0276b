//! Orders: what is told about one, and what it is worth after its corrections.

use serde::{Deserialize, Serialize};

use super::split::split;
use super::touch::Keys;

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product.
    pub product: Option<String>,
    /// What it adds to the order, in minor units.
    pub amount_minor: i64,
}

/// What is told about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Booking {
    /// It was made.
    Completed {
        /// Its revenue in minor units, see [`revenue`].
        total_minor: i64,
        /// Its lines; needed only where products are credited apart.
        lines: Vec<Line>,
        /// What it is matched by.
        keys: Keys,
    },
    /// Its total is now another; the new total, not the difference.
    Updated {
        /// Its revenue in minor units.
        total_minor: i64,
    },
    /// Money was given back.
    Refunded {
        /// How much, in minor units.
        amount_minor: i64,
    },
    /// It is void.
    Cancelled,
}

/// An event of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEvent {
    /// Event time, milliseconds.
    pub time: i64,
    /// Id of the event.
    pub id: String,
    /// Id of the order. Events without one are dead letters: nothing is guessed from their content.
    pub order_id: String,
    /// ISO 4217 code; on a correction it may be empty, and is then the order's.
    pub currency: String,
    /// What is told.
    pub booking: Booking,
}

impl OrderEvent {
    /// Returns its place in the total order.
    pub fn order(&self) -> (i64, u8, &str) {
        let rank = match self.booking {
            Booking::Completed { .. } => 6,
            Booking::Updated { .. } => 7,
            Booking::Refunded { .. } | Booking::Cancelled => 8,
        };
        (self.time, rank, &self.id)
    }
}

/// Why a row was booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The order was made.
    Order,
    /// Its total changed.
    Update,
    /// Money was given back.
    Refund,
    /// It was cancelled.
    Cancel,
}

/// What an order is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The total.
    pub total_minor: i64,
    /// How much of it was given back. Invariant: from zero to the total.
    pub refunded_minor: i64,
    /// Whether it is void; then all of it was given back.
    pub is_cancelled: bool,
}

impl Account {
    /// Returns the account of a new order.
    pub fn open(total_minor: i64) -> Self {
        Self { total_minor, refunded_minor: 0, is_cancelled: false }
    }

    /// Returns what is left.
    pub fn net_minor(&self) -> i64 {
        self.total_minor - self.refunded_minor
    }

    /// Books a correction, and returns why its rows are booked and how much of a refund was beyond what is left.
    ///
    /// A total below what was given back lowers what was given back to it. After a cancellation nothing is left to correct:
    /// none is returned, as it is for the order itself.
    pub fn book(&mut self, booking: &Booking) -> Option<(Reason, i64)> {
        if self.is_cancelled {
            return None;
        }
        match booking {
            Booking::Completed { .. } => None,
            Booking::Updated { total_minor } => {
                self.total_minor = *total_minor;
                self.refunded_minor = self.refunded_minor.min(*total_minor);
                Some((Reason::Update, 0))
            }
            Booking::Refunded { amount_minor } => {
                let given = self.net_minor().min(*amount_minor);
                self.refunded_minor += given;
                Some((Reason::Refund, *amount_minor - given))
            }
            Booking::Cancelled => {
                self.refunded_minor = self.total_minor;
                self.is_cancelled = true;
                Some((Reason::Cancel, 0))
            }
        }
    }
}

/// A line of a cart, as a shop tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Price of one, in minor units.
    pub price_minor: i64,
    /// How many.
    pub quantity: i64,
    /// Taken off this line.
    pub discount_minor: i64,
}

/// What a shop tells of an order's money beside its items, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Taken off the whole order.
    pub discount_minor: i64,
    /// Counts as revenue only if [`Base::include_tax`].
    pub tax_minor: i64,
    /// Counts as revenue only if [`Base::include_shipping`].
    pub shipping_minor: i64,
}

/// What counts as revenue beside the goods; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Whether tax does.
    pub include_tax: bool,
    /// Whether shipping does.
    pub include_shipping: bool,
}

/// Returns the revenue of an order and what each item adds to it: price times quantity less discounts, without tax and shipping
/// unless they are included.
///
/// What is not of one item (the order's discount, tax, shipping) is shared out over the items in proportion to their amounts,
/// evenly if they have none; so the items always add up to the revenue. Neither an item nor the revenue is less than zero.
pub fn revenue(items: &[Item], extras: Extras, base: Base) -> (i64, Vec<i64>) {
    let amount =
        |item: &Item| item.price_minor.saturating_mul(item.quantity).saturating_sub(item.discount_minor).max(0);
    let amounts: Vec<i64> = items.iter().map(amount).collect();
    let goods = amounts.iter().fold(0_i64, |sum, amount| sum.saturating_add(*amount));
    let tax = if base.include_tax { extras.tax_minor } else { 0 };
    let shipping = if base.include_shipping { extras.shipping_minor } else { 0 };
    let total = goods.saturating_sub(extras.discount_minor).saturating_add(tax).saturating_add(shipping).max(0);
    let mut weights: Vec<u64> = amounts.iter().map(|amount| amount.unsigned_abs()).collect();
    if goods == 0 {
        weights.fill(1);
    }
    let lines = split(total, &weights);
    (total, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(price_minor: i64, quantity: i64, discount_minor: i64) -> Item {
        Item { price_minor, quantity, discount_minor }
    }

    #[test]
    fn revenue_is_goods_less_discounts() {
        let items = [item(1_000, 3, 0), item(2_500, 1, 500)];
        let extras = Extras { discount_minor: 100, tax_minor: 950, shipping_minor: 490 };
        assert_eq!(revenue(&items, extras, Base::default()), (4_900, vec![2_940, 1_960]));
        let base = Base { include_tax: true, include_shipping: true };
        assert_eq!(revenue(&items, extras, base).0, 6_340);
        assert_eq!(revenue(&items, Extras::default(), Base::default()), (5_000, vec![3_000, 2_000]));
    }

    #[test]
    fn revenue_is_never_negative_and_never_overflows() {
        let extras = Extras { discount_minor: 100, ..Extras::default() };
        assert_eq!(revenue(&[item(50, 1, 0)], extras, Base::default()), (0, vec![0]));
        assert_eq!(revenue(&[item(i64::MAX, i64::MAX, 0)], Extras::default(), Base::default()).0, i64::MAX);
        assert_eq!(revenue(&[item(0, 1, 0), item(0, 2, 0)], Extras::default(), Base::default()), (0, vec![0, 0]));
    }

    #[test]
    fn no_more_is_given_back_than_was_paid() {
        let mut account = Account::open(100);
        assert_eq!(account.book(&Booking::Refunded { amount_minor: 70 }), Some((Reason::Refund, 0)));
        assert_eq!(account.book(&Booking::Refunded { amount_minor: 50 }), Some((Reason::Refund, 20)));
        assert_eq!(account.net_minor(), 0);
        assert_eq!(account.book(&Booking::Updated { total_minor: 60 }), Some((Reason::Update, 0)));
        assert_eq!((account.refunded_minor, account.net_minor()), (60, 0));
        assert_eq!(account.book(&Booking::Cancelled), Some((Reason::Cancel, 0)));
        assert_eq!(account.book(&Booking::Updated { total_minor: 10 }), None);
    }
}
