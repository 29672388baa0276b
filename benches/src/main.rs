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
    /// The riverrun binary; by default the one beside this program.
    #[arg(long)]
    riverrun: Option<PathBuf>,
    /// A folder with `clicks.jsonl` and `orders.jsonl`; by default shop traffic that riverrun generates, `--rows` clicks of it.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The hand-written program, called as `PROGRAM WORKLOAD DATA OUT`; without it only Riverrun is run.
    #[arg(long, requires = "data")]
    rival: Option<PathBuf>,
    /// A checker of outputs, called as `python3 CHECKER WORKLOAD DATA OUT`.
    #[arg(long, requires = "data")]
    checker: Option<PathBuf>,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Rows to generate where no data is given.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Where outputs and state go; by default a folder that is removed at the end.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Once, on a handful of rows: shows that the bench still runs, measures nothing.
    #[arg(long)]
    tiny: bool,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.tiny {
        (arguments.runs, arguments.rows) = (1, 5_000);
    }
    let own;
    let scratch = match &arguments.scratch {
        Some(scratch) => scratch.clone(),
        None => {
            own = tempfile::tempdir()?;
            own.path().to_owned()
        }
    };
    compare::compare(&arguments, &scratch)
}
