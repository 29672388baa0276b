//! What all tests stand on: input from a seed, jobs, folders of their own, processes that never outlive a test.

pub mod brokers;
pub mod cloud;
pub mod crew;
pub mod dice;
pub mod jobs;
pub mod place;
pub mod process;
pub mod python;
pub mod registry;
// Proxies and server are those of the fault matrix: files that stand on the standard library alone.
#[path = "../../faults/src/delay.rs"]
pub mod delay;
#[path = "../../faults/src/proxy.rs"]
pub mod proxy;
#[path = "../../faults/src/bucket.rs"]
pub mod server;
pub mod shop;
pub mod topics;

pub use dice::Dice;
pub use place::Place;
pub use process::{Finished, Running};
pub use shop::{Shop, Shopping};
