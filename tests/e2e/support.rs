//! What all tests stand on: input from a seed, jobs, folders of their own, processes that never outlive a test.

pub mod dice;
pub mod jobs;
pub mod place;
pub mod process;
pub mod shop;
pub mod topics;

pub use dice::Dice;
pub use place::Place;
pub use process::{Finished, Running};
pub use shop::{Shop, Shopping};
