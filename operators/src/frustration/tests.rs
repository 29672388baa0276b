//! Frustration, incidents and problems as steps: rows in, rows out.

mod bots;
mod chain;
mod devices;
mod golden;
mod incidents;
mod privacy;
mod same;
pub(crate) mod world;
