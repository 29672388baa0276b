//! How much dearer is Riverrun than a program written by hand for the one job? Side by side, in one run, on one machine.
//!
//! W1 (attribution) and W4 (counts per item and minute), JSON lines in and out, one worker. The rival is a single-threaded
//! program of some hundred lines that knows everything at compile time. Absolute figures are noise; the ratio is the result.

mod compare;
mod measure;

use std::path::PathBuf;

use clap::Parser;

/// Measures whole jobs as processes.
#[derive(Parser)]
struct Arguments {
    /// The riverrun binary.
    #[arg(long)]
    riverrun: PathBuf,
    /// A folder with `clicks.jsonl` and `orders.jsonl`.
    #[arg(long)]
    data: PathBuf,
    /// The hand-written program, called as `PROGRAM WORKLOAD DATA OUT`; without it only Riverrun is run.
    #[arg(long)]
    rival: Option<PathBuf>,
    /// A checker of outputs, called as `python3 CHECKER WORKLOAD DATA OUT`.
    #[arg(long)]
    checker: Option<PathBuf>,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where outputs and state go.
    #[arg(long)]
    scratch: PathBuf,
}

fn main() -> anyhow::Result<()> {
    compare::compare(&Arguments::parse())
}
