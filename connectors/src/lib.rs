//! How rows come and go: one module per outside system, and the formats that they share.
//!
//! Read [`mod@format`] first: it turns bytes into rows and rows into bytes, and says what a bad row is. [`mod@file`], [`console`],
//! [`topic`], [`kafka`] and [`lake`] are the systems; [`registry`] knows the schemas of records that name theirs by a number, and [`reach`] which hosts a job of somebody else may talk to. Connectors know the contracts of the floor below and nothing of operators or jobs.

pub mod console;
pub mod file;
pub mod format;
pub mod kafka;
pub mod lake;
mod percent;
pub mod reach;
pub mod registry;
pub mod start;
pub mod topic;
