//! `checkpoints`.

use clap::{Args, Subcommand};

use super::values::{savepoint_name, switch};
use super::{RemoteArgs, ServerArgs, StateArgs};

/// `checkpoints`.
#[derive(Clone, Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// Lists the checkpoints of a job, the newest first.
    #[command(visible_alias = "list")]
    Ls(CheckpointsArgs),
    /// Shows the newest checkpoint of a job: positions, tokens, files, balance.
    #[command(visible_alias = "inspect")]
    Show(CheckpointsShowArgs),
    /// Reads everything back and holds it against its checksums.
    Verify(CheckpointsArgs),
    /// Answers SQL over the state of a job, with DuckDB; without SQL, lists its tables.
    Query(CheckpointsQueryArgs),
    /// Shows what changed in the state between two checkpoints.
    Diff(CheckpointsDiffArgs),
    /// Names a checkpoint, which is then kept until it is unpinned: a savepoint.
    Pin(CheckpointsPinArgs),
    /// Deletes a savepoint.
    Unpin(CheckpointsUnpinArgs),
    /// Has a job that a manager runs take a checkpoint now.
    Trigger(CheckpointsTriggerArgs),
}

impl CheckpointsCommand {
    /// Returns the job that is looked at; `None` if it is asked for something.
    pub fn job(&self) -> Option<&CheckpointsArgs> {
        match self {
            CheckpointsCommand::Ls(job) | CheckpointsCommand::Verify(job) => Some(job),
            CheckpointsCommand::Show(args) => Some(&args.job),
            CheckpointsCommand::Query(args) => Some(&args.job),
            CheckpointsCommand::Diff(args) => Some(&args.job),
            CheckpointsCommand::Pin(args) => Some(&args.job),
            CheckpointsCommand::Unpin(args) => Some(&args.job),
            CheckpointsCommand::Trigger(_) => None,
        }
    }
}

/// `checkpoints ls` and `verify`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsArgs {
    /// The job: its name, or its file.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// Where state lives.
    #[command(flatten)]
    pub state: StateArgs,
    /// Who is to look.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// `checkpoints trigger`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsTriggerArgs {
    /// The job's name.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `checkpoints show`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsShowArgs {
    /// The job and its state.
    #[command(flatten)]
    pub job: CheckpointsArgs,
    /// The checkpoint after this tick, or `latest` [default: latest].
    #[arg(value_name = "T")]
    pub at: Option<At>,
    /// The same as an option.
    #[arg(long, value_name = "T", env = "RIVERRUN_TICK")]
    pub tick: Option<u64>,
}

/// A checkpoint of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest.
    Latest,
    /// The one after this tick.
    Tick(u64),
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        match text {
            "latest" => Ok(At::Latest),
            tick => tick.parse().map(At::Tick).map_err(|_| "is a tick, or `latest`".to_owned()),
        }
    }
}

/// `checkpoints query`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsQueryArgs {
    /// The job and its state.
    #[command(flatten)]
    pub job: CheckpointsArgs,
    /// What to ask; every table is a view called STEP_TABLE.
    pub sql: Option<String>,
    /// The checkpoint after this tick, or `latest`.
    #[arg(long, value_name = "T", default_value = "latest", env = "RIVERRUN_CHECKPOINT")]
    pub checkpoint: At,
    /// Prints the script for DuckDB and runs nothing.
    #[arg(long, env = "RIVERRUN_PRINT_SCRIPT", value_parser = switch())]
    pub print_script: bool,
    /// Overrides a value of the job file, as when the job was run.
    #[arg(long = "set", value_name = "KEY=VALUE", env = "RIVERRUN_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
}

/// `checkpoints diff`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsDiffArgs {
    /// The job and its state.
    #[command(flatten)]
    pub job: CheckpointsArgs,
    /// The checkpoint after this tick, or `latest`.
    pub from: At,
    /// The other one.
    pub to: At,
    /// Rows to show of each table.
    #[arg(short, long, default_value_t = 20, env = "RIVERRUN_LIMIT")]
    pub limit: usize,
    /// Overrides a value of the job file, as when the job was run.
    #[arg(long = "set", value_name = "KEY=VALUE", env = "RIVERRUN_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
}

/// `checkpoints pin`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsPinArgs {
    /// The job and its state.
    #[command(flatten)]
    pub job: CheckpointsArgs,
    /// The name of the savepoint.
    #[arg(value_name = "NAME", value_parser = savepoint_name)]
    pub name: String,
    /// The checkpoint after this tick [default: the newest].
    #[arg(long, value_name = "T", env = "RIVERRUN_TICK")]
    pub tick: Option<u64>,
}

/// `checkpoints unpin`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsUnpinArgs {
    /// The job and its state.
    #[command(flatten)]
    pub job: CheckpointsArgs,
    /// The name of the savepoint.
    #[arg(value_name = "NAME", value_parser = savepoint_name)]
    pub name: String,
}
