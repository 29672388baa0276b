//! Frustration signals: what the events of one browser tab say about a person who does not get on.

pub mod kind;
pub mod row;

pub use kind::SignalKind;
pub use row::{Flags, Ledger, Signal};
