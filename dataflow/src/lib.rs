//! The floor on which everything stands: time, batches, contracts, and the engine that runs a graph over ticks.
//!
//! Read in this order: [`tick`] is the model, [`source`], [`operator`] and [`sink`] are the contracts, [`graph`] is what
//! runs, and [`engine`] runs it on timely. [`journal`] is what the engine asks of the floor above, [`mesh`] the processes of
//! a job that runs in several, [`disk`] how anyone writes files that must outlive a crash, [`objects`] the place of whole objects, and [`ipc`] and
//! [`parquet_file`] whether Arrow schemas and Parquet files from outside are what they should be, and [`caught`]
//! calls what cannot be kept from panicking.

pub mod balance;
pub mod batch;
pub mod caught;
pub mod disk;
pub mod engine;
pub mod fail_act;
pub mod fail_point;
pub mod graph;
pub mod ipc;
pub mod journal;
pub mod key;
pub mod mesh;
pub mod objects;
pub mod operator;
pub mod parquet_file;
pub mod partitioner;
pub mod schema;
pub mod sink;
pub mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tick;
pub mod time;
pub mod wire;

pub use batch::Batch;
pub use graph::Graph;
pub use tick::{StepTick, Tick, TickRecord};
pub use time::EventTime;
