//! Jobs: from the job file to a graph that the engine can run.
//!
//! Read in this order: `yaml` reads a text with positions, [`fault`] is what can be wrong with it, [`spec`] is what was
//! written, [`plan`] is what was checked, [`connect`] opens its places and makes the graph, [`mod@run`] runs it, [`replay`] derives
//! again what a run recorded, [`rewind`] runs it over its past, [`mod@diff`] compares two versions of it there, [`mod@upgrade`] makes another job of a drained one, [`mod@why`] tells
//! what a row rests on. [`mod@outside`] tells what a job names on the machine. [`explain`], [`schema`] and
//! [`mod@reference`] are for people, [`mod@bundled`] are the jobs that come along.

pub mod bundled;
pub mod connect;
pub mod diff;
pub mod explain;
pub mod fault;
pub mod job_test;
pub mod kept;
pub mod outside;
pub mod plan;
pub mod reference;
pub mod replay;
pub mod rewind;
pub mod run;
pub mod schema;
pub mod spec;
pub mod upgrade;
pub mod why;
mod yaml;

pub use bundled::bundled;
pub use connect::{Connected, Environment, RegistryPlace, Topics};
pub use plan::{BUILD_ID, Plan, check, read_file};
pub use yaml::Span;
