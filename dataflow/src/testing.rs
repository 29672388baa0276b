//! Test doubles for what the floors above do with this one.

pub mod dice;
pub mod disk;
pub mod objects;
pub mod wire;
