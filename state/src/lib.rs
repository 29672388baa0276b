//! Durable state: the one log of a job, its checkpoints, and what a restart makes of them.
//!
//! Read in this order: [`store`] is where objects lie, [`record`] and [`log`] are the one log, [`folder`] is a job's place
//! and its lock, [`rows`], [`mod@file`] and [`ledger`] are checkpoint files and which of them are live, [`states`] and
//! [`journal`] are what the engine is given, [`recovery`] decides where a restart begins, [`job`] ties it together, [`follow`] is the part of it that a process has
//! which does not lead,
//! [`collect`] deletes what no restart needs, [`savepoint`] names what must stay, [`inspect`] looks at it all from outside, and
//! [`past`] is what a replay needs of it, [`transcript`] a job that begins with a copy of that.
//!
//! Layout, relative to the state folder:
//!
//! ```text
//! jobs/{job}/job.json                 what was fixed when the job was created
//! jobs/{job}/LOCK                     held for life by the process that runs the job
//! jobs/{job}/log/{seq:020}.json       the log: generation, inputs, ticks and checkpoint records
//! jobs/{job}/floor/{seq:020}          records up to the greatest name are gone or about to be deleted
//! jobs/{job}/state/g{gen:06}/c{tick:012}/w{worker:04}/{step}.{table}.{delta|base}.parquet
//! jobs/{job}/state/g000000/{incarnation}/...  files of savepoints of that incarnation, once it is over, and what it began with itself
//! jobs/{job}/savepoints/{name}.json   a checkpoint's record, copied under a name; once its incarnation is over, one that stands alone
//! ```

pub mod collect;
pub mod error;
mod events;
pub mod file;
pub mod folder;
pub mod follow;
pub mod inspect;
pub mod job;
pub mod journal;
pub mod ledger;
pub mod log;
pub mod oldest;
pub mod past;
pub mod record;
pub mod recovery;
pub mod rows;
pub mod savepoint;
pub mod seed;
pub mod shape;
pub mod states;
pub mod store;
#[cfg(test)]
mod tests;
pub mod transcript;
pub mod upgrade;

pub use collect::{KeepLog, Retention};
pub use error::StateError;
pub use events::failed_requests;
pub use folder::{Begin, Holder, JobSpec, SinkLanes};
pub use follow::{Followed, Following};
pub use job::{JobState, Parts, Started, Succession};
pub use oldest::Oldest;
pub use past::{Past, Wanted};
pub use record::{InputSplit, Inputs, Stretch};
pub use recovery::{Recovery, Restored};
pub use store::{Location, Store};
