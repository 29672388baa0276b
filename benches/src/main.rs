//! Benches of whole jobs as processes.
//!
//! `compare`: How much dearer is Riverrun than a program written by hand for the one job? Side by side, in one run, on one machine.
//! W1 (attribution), W2 (sessions), W3 (rage clicks) and W4 (counts per item and minute), JSON lines in and out, one worker. The rival is
//! a single-threaded program of some hundred lines that knows everything at compile time. Absolute figures are noise; the ratio is the
//! result.
//!
//! `recovery`: How long is a job away when it is killed, and what does that cost?
//!
//! `checkpoints`: What does a checkpoint every second cost as state grows?
//!
//! `kafka`: What does a job between topics of a real broker take, beside a program that only reads them, and how soon is a result seen?
//!
//! `processes`: What do more workers give, and what do rows cost that travel between processes?
//!
//! `ticks`: What does a tick cost with hardly a row in it, by processes and workers?
//!
//! `rescale`: How long does a job under load give out nothing when a manager spreads it over other processes?
//!
//! `sessions`: What do a million sessions take that are open at once?

mod broker;
mod checkpoints;
mod compare;
mod feed;
mod kafka;
mod live;
mod managed;
mod measure;
mod processes;
mod recovery;
mod rescale;
mod sessions;
mod ticks;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Riverrun beside a program written by hand.
    Compare,
    /// Jobs with much state, killed.
    Recovery,
    /// The cost of a checkpoint every second, as state grows.
    Checkpoints,
    /// The memory of sessions that are open at once.
    Sessions,
    /// A job between topics of a real broker.
    Kafka,
    /// A job in one process and in several.
    Processes,
    /// A job under load, spread over more processes and over fewer.
    Rescale,
    /// The cost of a tick with hardly a row in it, in one process and in several.
    Ticks,
}

/// Measures whole jobs as processes.
#[derive(Parser)]
struct Arguments {
    /// Which benches.
    #[arg(value_enum, default_value = "compare")]
    benches: Vec<Bench>,
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
    /// Runs of each; the median counts. rescale: how often it is spread over each number of processes.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Rows to generate where no data is given.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// recovery, checkpoints, sessions: keys in the state, separated by commas; recovery takes the first
    /// [default: 2000000; checkpoints: 1000000,3000000,10000000; sessions: 1000000].
    #[arg(long, value_delimiter = ',')]
    keys: Vec<u64>,
    /// recovery, checkpoints: rows a second once the keys are there; kafka: while latency is measured.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..))]
    rate: u64,
    /// recovery: kills.
    #[arg(long, default_value_t = 40)]
    kills: u64,
    /// recovery: has a manager keep the job, of which one process is killed, and says with what the time passes.
    #[arg(long)]
    managed: bool,
    /// checkpoints: seconds for which each number of keys is looked at; kafka: for which latency is measured; ticks: for which each
    /// shape is looked at, at most 20.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// recovery: processes of the job.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    processes: u16,
    /// recovery, checkpoints: worker threads of each process.
    #[arg(short, long, default_value_t = 2)]
    workers: usize,
    /// kafka: another program that does the same job between the same topics, called as
    /// `PROGRAM SERVERS CLICKS ORDERS OUT RECORDS`; it ends once it has read so many records.
    #[arg(long)]
    streams: Option<PathBuf>,
    /// kafka: another program that does the same job live, called as `PROGRAM SERVERS CLICKS ORDERS OUT` and killed in the end.
    #[arg(long)]
    live: Option<PathBuf>,
    /// kafka: partitions of each topic.
    #[arg(long, default_value_t = 1)]
    partitions: u32,
    /// Where outputs and state go; by default a folder that is removed at the end.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Once, on a handful of rows: shows that the bench still runs, measures nothing.
    #[arg(long)]
    tiny: bool,
}

impl Arguments {
    /// Makes of the arguments what takes seconds and measures nothing.
    fn shrink(&mut self) {
        (self.runs, self.rows, self.kills, self.seconds) = (1, 5_000, 2, 3);
        (self.keys, self.rate) = (vec![20_000], 2_000);
    }

    fn keys_or(&self, default: &[u64]) -> Vec<u64> {
        if self.keys.is_empty() { default.to_vec() } else { self.keys.clone() }
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.tiny {
        arguments.shrink();
    }
    let own;
    let scratch = match &arguments.scratch {
        Some(scratch) => scratch.clone(),
        None => {
            own = tempfile::tempdir()?;
            own.path().to_owned()
        }
    };
    std::fs::create_dir_all(&scratch).context("cannot create the scratch folder")?;
    for bench in &arguments.benches {
        match bench {
            Bench::Compare => compare::compare(&arguments, &scratch)?,
            Bench::Recovery if arguments.managed => managed::recovery(&arguments, &scratch)?,
            Bench::Recovery => recovery::recovery(&arguments, &scratch)?,
            Bench::Rescale => rescale::rescale(&arguments, &scratch)?,
            Bench::Checkpoints => checkpoints::checkpoints(&arguments, &scratch)?,
            Bench::Sessions => sessions::sessions(&arguments, &scratch)?,
            Bench::Kafka => kafka::kafka(&arguments, &scratch)?,
            Bench::Processes => processes::processes(&arguments, &scratch)?,
            Bench::Ticks => ticks::ticks(&arguments, &scratch)?,
        }
    }
    Ok(())
}
