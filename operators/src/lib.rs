//! The operators: what happens to rows between a source and a sink.
//!
//! Read in this order: [`expression`] makes typed expressions of SQL text, [`select`] and [`union`] are the stateless
//! steps, [`aggregate`] folds rows into typed accumulators, and [`window`] does so per key and span of event time. [`order`]
//! says which of two rows comes first, [`kept`] keeps rows between ticks, [`attribute`] credits conversions to touches,
//! [`deduplicate`] lets the first row of a key through, [`join`] pairs the rows of two streams, [`keyed`] keeps a machine per key,
//! [`events`] reads behaviour events, [`frustration`] finds the signals in them, [`incidents`] makes cases of signals,
//! [`problems`] gathers cases that are alike. [`scroll_baseline`] knows how a page is usually scrolled. [`funnel`] follows keys through steps. [`attribution`] keeps a ledger of who is credited with what.

pub mod aggregate;
pub mod attribute;
pub mod attribution;
mod bad_row;
mod changes;
pub mod deduplicate;
pub mod events;
pub mod expression;
pub mod frustration;
pub mod funnel;
pub mod incidents;
pub mod join;
pub mod kept;
mod key_column;
mod key_table;
pub mod keyed;
mod late;
mod named;
pub mod order;
pub mod problems;
pub mod reorder;
pub mod scroll_baseline;
pub mod select;
pub mod sessionize;
pub mod union;
mod waiting;
mod watch;
pub mod window;

#[cfg(test)]
mod tests;
