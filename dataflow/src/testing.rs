//! Test doubles for what the floors above do with this one.

pub mod certificates;
pub mod dice;
pub mod disk;
pub mod mesh;
pub mod objects;
pub mod wire;
