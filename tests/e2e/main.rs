//! End to end: the real binary on real files and topics, each claim about the product proved by a test that can fail.
//!
//! [`support`] makes input and runs processes, [`oracle`] says what must come out, computed from the raw input in the plainest
//! way and without a line of the product's code. Everything random follows from a seed, which a failure names.

mod admin;
mod bad_input;
mod bounded_memory;
mod buckets;
mod damage;
mod diff;
mod disk_errors;
mod drain;
mod event_time;
mod fixtures;
mod frustration;
mod job_tests;
mod kafka;
mod lake;
mod ledger;
mod life_cycle;
mod live;
mod looking;
mod manager;
mod mesh;
mod oracle;
mod prometheus;
mod real_data;
mod recorded;
mod replay;
mod rewind;
mod right;
mod same_bytes;
mod sessions;
mod strangers;
mod streams;
mod support;
mod tables;
mod upgrade;
mod why;
