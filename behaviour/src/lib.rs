//! The rules of behaviour data as pure logic: what an event of a web shop says, and what a row of such events amounts to.
//!
//! Nothing here knows rows, ticks, files or clocks; `operators/` wraps it. Every machine is fed the events of its key in the
//! total order (event time, rank of the type, event id), is told how far event time has come, and keeps its state in plain,
//! bounded structs. Stopping, saving and going on from the saved state between any two events changes nothing, nor does being
//! told the time more or less often.

pub mod attribution;
pub mod deduplicate;
pub mod event;
pub mod fingerprint;
pub mod identity;
pub mod incident;
pub mod privacy;
pub mod session;
pub mod signals;
pub mod target;
pub mod time;
pub mod weight;
