//! The lock-step simulator: a whole job on the real engine, in a world that a seed makes up.
//!
//! One seed draws the job's settings, its input, which thread runs next, how time passes, and where the process is killed.
//! Only one thread runs at a time, so the same seed gives the same run. The job goes through everything that production
//! goes through: job file, plan, recovery, timely workers, operators, state files, log. What is made up stands behind the
//! contracts: splits, lanes, objects, clocks.
//!
//! Read in this order: [`world`] is what outlives a crash, [`conductor`] says who runs, [`places`] and [`store`] are the
//! outside systems, [`scene`] is the job and its input, [`oracle`] is what should come out, [`play`] runs a seed,
//! [`mutant`] lists the broken rules that must be found out, and [`command`] says how all that is asked for.

pub mod command;
pub mod conductor;
pub mod mutant;
pub mod oracle;
pub mod places;
pub mod play;
pub mod scene;
pub mod store;
pub mod world;
