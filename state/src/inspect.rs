//! Looking at a job's state from outside, without its lock.
