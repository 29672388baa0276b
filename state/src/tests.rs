//! What the tests of this crate share.

pub mod faulty;
pub mod model;
mod power;
