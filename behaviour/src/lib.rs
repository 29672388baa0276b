//! The rules of behaviour data as pure logic: what an event of a web shop says, and what a row of such events amounts to.
//!
//! Nothing here knows rows, ticks, files or clocks; `operators/` wraps it. Every machine is fed the events of its key in the
//! total order (event time, rank of the type, event id), is told how far event time has come, and keeps its state in plain,
//! bounded structs. Stopping, saving and going on from the saved state between any two events changes nothing, nor does being
//! told the time more or less often.
//!
//! How a step wraps it:
//!
//! - Sessions, key (tenant, device): sorted events, then the watermark less the lateness, for rows that come once; events as they
//!   arrive, then the watermark once per tick, for rows that are corrected.
//! - Attribution, key person (or tenant): touches and bookings as they arrive, then the watermark once per tick. It corrects
//!   itself, so nothing is sorted before it.
//! - Signals, key (tenant, session): one visit with its tabs, sorted events without bots, then the watermark; kept for half an hour
//!   after its close, for an order that comes elsewhere.
//! - Incidents, key (tenant, session): the signals of a tick, then the tick's clock, on later ticks too: updates wait inside.
//! - Problems, key fingerprint: every incident row; a changed fingerprint is taken back at its old key.
//! - Funnels, any key: sorted rows, then the watermark.

pub mod attribution;
pub mod deduplicate;
pub mod event;
pub mod fingerprint;
pub mod funnel;
pub mod identity;
pub mod incident;
pub mod privacy;
pub mod session;
pub mod signals;
pub mod target;
pub mod time;
pub mod weight;
