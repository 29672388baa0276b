//! Commands that run a job over its past.

use std::path::PathBuf;

use clap::Args;
use riverrun_jobs::rewind::{self, Throttle};

use super::run::WatchArgs;
use super::values::switch;
use super::{JobArgs, RemoteArgs, StateArgs, WaitArgs};

/// `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The job, as it was run; with --server, the name of a job that the manager keeps.
    #[command(flatten)]
    pub job: JobArgs,
    /// Its state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Worker threads [default: one per core; 1 by a manager].
    #[arg(short, long, value_name = "N", env = "RIVERRUN_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Who watches it.
    #[command(flatten)]
    pub watch: WatchArgs,
    /// The past that is read. What follows goes by its heading, if it has no other.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Goes on with what is written from then on, when all that is there is read.
    #[arg(long, env = "RIVERRUN_THEN_LIVE", help_heading = "Past input", value_parser = switch())]
    pub then_live: bool,
    /// What the replay is called: outputs and state get names with it [default: of past input, made from job and range].
    #[arg(long = "as", value_name = "NAME", env = "RIVERRUN_AS", help_heading = "Namespace", value_parser = replay_name)]
    pub name: Option<String>,
    /// Forgets what the replay of this name did before and begins anew.
    #[arg(long, env = "RIVERRUN_FRESH", help_heading = "Namespace", value_parser = switch())]
    pub fresh: bool,
    /// Adds to output that is already there and not this replay's.
    #[arg(long, env = "RIVERRUN_APPEND", help_heading = "Namespace", value_parser = switch())]
    pub append: bool,
    /// Reads no faster than so many rows a second, for example `50k/s`.
    #[arg(long, value_name = "RATE", env = "RIVERRUN_REPLAY_RATE", help_heading = "Namespace", value_parser = Throttle::rate)]
    pub rate: Option<f64>,
    /// Reads no faster than so many times as fast as it happened, for example `10x`.
    #[arg(long, value_name = "TIMES", env = "RIVERRUN_SPEED", help_heading = "Namespace", value_parser = Throttle::times)]
    pub speed: Option<f64>,
    /// The ticks that the job recorded, from the oldest kept checkpoint on: the same bytes, with --as NAME or --out DIR. The job is not touched
    /// and may be running.
    #[arg(long, env = "RIVERRUN_RECORDED", help_heading = "Recorded ticks", value_parser = switch())]
    pub recorded: bool,
    /// In the place of --as: a folder for files with the rows alone, one for every lane of every sink; empty, or not there yet.
    #[arg(long, value_name = "DIR", env = "RIVERRUN_OUT", help_heading = "Recorded ticks")]
    pub out: Option<PathBuf>,
    /// The first tick whose rows are written [default: the first after the oldest kept checkpoint].
    #[arg(long, value_name = "T", env = "RIVERRUN_FROM_TICK", help_heading = "Recorded ticks", value_parser = clap::value_parser!(u64).range(1..))]
    pub from_tick: Option<u64>,
    /// The last tick [default: the last that is recorded].
    #[arg(long, value_name = "T", env = "RIVERRUN_TO_TICK", help_heading = "Recorded ticks", value_parser = clap::value_parser!(u64).range(1..))]
    pub to_tick: Option<u64>,
    /// Who is to do it.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// How long is waited for a manager.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// A range of the past.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Past input")]
pub struct RangeArgs {
    /// Where topics begin: `earliest`, a date, a time with its zone, an age (`2h`, `7d`), or offsets (`raw.clicks.v1:0=120,1=90`).
    #[arg(long, value_name = "T", env = "RIVERRUN_REPLAY_FROM")]
    pub from: Option<String>,
    /// Where they end: the first that is not read any more, in the same forms [default: latest, the end as it is now].
    #[arg(long, value_name = "T", env = "RIVERRUN_REPLAY_TO")]
    pub to: Option<String>,
}

/// `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// One version: a job file, or the name of a bundled job.
    #[arg(value_name = "A")]
    pub a: String,
    /// The other; may be the same with another --set-b.
    #[arg(value_name = "B")]
    pub b: String,
    /// Where topics live: a folder, or `kafka://HOST:PORT,HOST:PORT`, with options of librdkafka behind a `?`.
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_TOPICS")]
    pub topics: Option<String>,
    /// The schema registry, which knows the schemas of Avro and Protobuf records: `http://HOST:PORT`, with options behind a `?`.
    #[arg(long, value_name = "URL", env = "RIVERRUN_SCHEMA_REGISTRY")]
    pub schema_registry: Option<String>,
    /// Overrides a value of both job files. In the environment: one a line.
    #[arg(long = "set", value_name = "KEY=VALUE", env = "RIVERRUN_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
    /// Overrides a value of A alone.
    #[arg(long, value_name = "KEY=VALUE", env = "RIVERRUN_SET_A", value_delimiter = '\n')]
    pub set_a: Vec<String>,
    /// Overrides a value of B alone.
    #[arg(long, value_name = "KEY=VALUE", env = "RIVERRUN_SET_B", value_delimiter = '\n')]
    pub set_b: Vec<String>,
    /// Worker threads [default: one per core].
    #[arg(short, long, value_name = "N", env = "RIVERRUN_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// The columns that name a row of a stream [default: what follows from its step]. In the environment: one a line.
    #[arg(long, value_name = "STREAM=COLUMN,COLUMN", env = "RIVERRUN_DIFF_KEY", value_delimiter = '\n')]
    pub key: Vec<String>,
    /// Differing rows of each stream that the table shows; `-o json` has all.
    #[arg(long, value_name = "N", default_value_t = 20, env = "RIVERRUN_LIMIT")]
    pub limit: usize,
    /// The folder for rows that do not fit into memory [default: that for temporary files].
    #[arg(long, value_name = "DIR", env = "RIVERRUN_SCRATCH")]
    pub scratch: Option<PathBuf>,
    /// The past that is read.
    #[command(flatten)]
    pub range: RangeArgs,
}

/// Reads the name of a replay.
fn replay_name(text: &str) -> Result<String, String> {
    rewind::check_name(text).map(|()| text.to_owned())
}
