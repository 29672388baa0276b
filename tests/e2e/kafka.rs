//! Real brokers: the jobs that ran on embedded topics run on Kafka, unchanged, and no crash loses or doubles a row there.

mod ends;
mod faults;
mod lanes;
mod layers;
mod mesh;
mod offsets;
mod partitions;
mod recorded;
mod rewind;
mod schemas;
mod sources;
mod watched;

use crate::oracle::Model;
use crate::support::jobs::{self, Over};

/// The main job with names of its own: tests share a cluster.
pub fn job(prefix: &str) -> String {
    renamed(&jobs::attribution(Over::Topics, Model::Last), prefix)
}

/// A job whose topics and whose name begin with `prefix`.
fn renamed(job: &str, prefix: &str) -> String {
    job.replace("topic: ", &format!("topic: {prefix}.")).replace("job: ", &format!("job: {prefix}-"))
}
