//! Sessions: the visits of one device, told apart by silence, by length and by who is there.
//!
//! [`fold`] decides, event by event, which session an event joins; it knows times, ids and classes only, so it serves rows of
//! any kind. What a session amounts to is a [`Tally`] beside it. [`Sessions`] gives each session once, when nothing can change it
//! any more; [`live::Live`] gives it at once and corrects it. [`row`] has the tally and the row of a shop's visits, [`class`] says
//! which events are interactions, [`bots`] tells machines from people, [`persons`] who was there.
//!
//! State is kept per key (tenant, device); the device is the `anonymous_id`, or the `user_id` where there is none.

pub mod bots;
pub mod class;
pub mod fold;
pub mod live;
pub mod persons;
pub mod row;
pub mod zone;

#[cfg(test)]
mod tests;

pub use fold::{Closed, Interval, Mark, Placed, Reason, Rules, Session, Sessions, Tally, session_id};
pub use live::{Change, Live, Moved, Output};
pub use zone::Zone;
