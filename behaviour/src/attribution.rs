//! Attribution: which touches an order is credited to, and with how much.
//!
//! The parts are pure and stand alone: [`split`] divides money exactly, [`decay`] halves with age, [`model`] has the weights,
//! [`path`] the transforms of a path, [`touch`] what may be credited, [`order`] what an order is worth after its corrections.
//! [`ledger`] puts them together: the signed rows of the orders of one key, corrected while touches may still come late.
//! [`channels`] has the two models that credit channels, not touches, and [`metrics`] the rates that are made of the rows.

pub mod channels;
pub mod decay;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod order;
pub mod path;
pub mod split;
pub mod touch;

#[cfg(test)]
mod tests;

pub use ledger::{Ledger, Notice, Output, PathRow, Row, Settings, Taken};
pub use model::Model;
pub use order::{Booking, Line, OrderEvent, Reason};
pub use touch::{ClickId, Keys, Touch, TouchKind, Windows};
