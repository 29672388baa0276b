//! Arguments: every command and option, as they are typed. What they do is in the file of their command.

mod checkpoints;
mod client;
mod config;
mod demo;
pub mod lake;
mod limits;
mod look;
mod remote;
mod replay;
mod run;
mod serve;
mod topic;
mod values;
mod worker;

use clap::{Args, Parser, Subcommand};

pub use checkpoints::{
    At, CheckpointsArgs, CheckpointsCommand, CheckpointsDiffArgs, CheckpointsPinArgs, CheckpointsQueryArgs,
    CheckpointsShowArgs, CheckpointsTriggerArgs, CheckpointsUnpinArgs,
};
pub use client::{
    ClientCommand, CompleteArgs, DeleteArgs, DoctorArgs, JobOnlyArgs, KeyCommand, LogsArgs, NamedArgs, OffsetsCommand,
    OffsetsSetArgs, RescaleArgs, RescalesArgs, SavepointCommand, SavepointLsArgs, ServerArgs, StatusArgs, StopArgs,
    SubmitArgs, TapArgs, WaitArgs,
};
pub use config::{ConfigCommand, ConfigShowArgs};
pub use demo::DemoArgs;
pub use limits::LimitArgs;
pub use look::{
    CheckArgs, ConnectorsArgs, ExplainArgs, GraphFormat, NewArgs, PreviewArgs, SchemaArgs, TestArgs, WhyArgs,
};
pub use remote::RemoteArgs;
pub use replay::{DiffArgs, RangeArgs, ReplayArgs};
pub use run::{RunArgs, UpgradeArgs, WatchArgs};
pub use serve::ServeArgs;
pub use topic::{
    PlacingArgs, TopicCommand, TopicCreateArgs, TopicImportArgs, TopicLsArgs, TopicProduceArgs, TopicTailArgs,
};
use values::{patience, switch};
pub use worker::{MeshArgs, WorkerArgs};

use crate::logging::LogFormat;
use crate::output::Format;

/// A stream processor for behaviour data: the same bytes at every run.
///
/// Jobs are YAML files: sources, steps, sinks. `riverrun demo` shows it at work, `riverrun new` begins a job of your own.
#[derive(Debug, Parser)]
#[command(name = "riverrun", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options that every command has.
    #[command(flatten)]
    pub global: Global,
}

/// Options that every command has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Form of the data on stdout.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT", env = "RIVERRUN_OUTPUT")]
    pub output: Format,
    /// Say nothing on stderr but errors.
    #[arg(short, long, global = true, env = "RIVERRUN_QUIET", value_parser = switch())]
    pub quiet: bool,
    /// Log more; twice: still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "RIVERRUN_VERBOSE")]
    pub verbose: u8,
    /// Form of log lines on stderr.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", env = "RIVERRUN_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged, for example `info` or `warn,riverrun_state=debug`.
    #[arg(long, global = true, value_name = "FILTER", env = "RIVERRUN_LOG")]
    pub log: Option<String>,
    /// The file with settings of `serve` and of commands that ask a manager; counts more than ./riverrun.toml and the user's own.
    #[arg(long, global = true, value_name = "FILE", env = "RIVERRUN_CONFIG")]
    pub config: Option<std::path::PathBuf>,
    /// The folder with more such files, `*.toml`, of which the last by name counts most; --config counts more.
    #[arg(long, global = true, value_name = "DIR", env = "RIVERRUN_CONFIG_DIR")]
    pub config_dir: Option<std::path::PathBuf>,
    /// Tells a supervisor in this folder, which is this process's own, who it is, where it listens and how it ends; logs go there too.
    #[arg(long, global = true, value_name = "DIR", env = "RIVERRUN_RUN_DIR")]
    pub run_dir: Option<std::path::PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a job here, in the foreground, until its input ends or a signal stops it.
    Run(RunArgs),
    /// Runs one process of a job that runs in several, which all have the same options but their number.
    Worker(WorkerArgs),
    /// Checks job files and shows every fault at once.
    Check(CheckArgs),
    /// Plays the tests beside job files: rows given, rows expected, in virtual time.
    Test(TestArgs),
    /// Shows what a job will do: steps, keys, state and its bound, watermarks.
    Explain(ExplainArgs),
    /// Runs a job with its sinks off and shows its first results.
    Preview(PreviewArgs),
    /// Runs a job over past input, beside the job; or derives recorded ticks once more, to the byte.
    Replay(ReplayArgs),
    /// Runs two versions of a job over the same past and shows what would be otherwise; nothing is written.
    Diff(DiffArgs),
    /// Shows what a row of a job's output rests on: the input records that made it, read again.
    Why(WhyArgs),
    /// Makes a changed job of a drained one, keeping its state; shows first what becomes of each part.
    Upgrade(UpgradeArgs),
    /// Prints the JSON Schema of job files, for editors.
    Schema(SchemaArgs),
    /// Lists what sources read and sinks write, or prints the JSON Schema of one.
    Connectors(ConnectorsArgs),
    /// Prints a starter or a bundled job, or writes it to a file.
    New(NewArgs),
    /// Lists, makes, fills and reads topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Looks into the state of a job.
    #[command(subcommand)]
    Checkpoints(CheckpointsCommand),
    /// Lists, checks, merges and sweeps the files of a lake.
    #[command(subcommand)]
    Lake(lake::LakeCommand),
    /// Makes sample shop traffic and runs the bundled jobs on it.
    Demo(DemoArgs),
    /// Serves a manager: jobs are submitted to it, and it keeps them running.
    Serve(ServeArgs),
    /// What is asked of a manager.
    #[command(flatten)]
    Client(ClientCommand),
    /// Shows settings that stand in files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints a completion script for a shell.
    Completion(CompletionArgs),
}

/// A job and where it runs.
#[derive(Clone, Debug, Args)]
pub struct JobArgs {
    /// A job file, or the name of a bundled job (`attribution`, `attribution-models`, `conversion`, `ab-test`, `frustration`,
    /// `item-minutes`, `sessions`, `telemetry-funnel`, `bronze`, `silver`, `gold`).
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// Where topics live: a folder, or `kafka://HOST:PORT,HOST:PORT`, with options of librdkafka behind a `?`.
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_TOPICS")]
    pub topics: Option<String>,
    /// The schema registry, which knows the schemas of Avro and Protobuf records: `http://HOST:PORT`, with options behind a `?`.
    #[arg(long, value_name = "URL", env = "RIVERRUN_SCHEMA_REGISTRY")]
    pub schema_registry: Option<String>,
    /// Talks to the schema registry at addresses of the open network only, whatever its name resolves to: a manager says so for jobs of
    /// others.
    #[arg(long, hide = true, env = "RIVERRUN_PUBLIC_HOSTS_ONLY", value_parser = switch())]
    pub public_hosts_only: bool,
    /// Overrides a value of the job file, for example `sources.clicks.file.path=in/*.jsonl`. In the environment: one a line.
    #[arg(long = "set", value_name = "KEY=VALUE", env = "RIVERRUN_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
}

/// Where a job keeps its state.
#[derive(Clone, Debug, Args)]
pub struct StateArgs {
    /// Where state lives, each job in a folder of its own: a folder, or s3://BUCKET/PREFIX [default: .riverrun/state].
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_STATE")]
    pub state: Option<String>,
    /// How long a bucket that fails or does not answer is asked again, before the command ends.
    #[arg(long, value_name = "SPAN", default_value = "2m", env = "RIVERRUN_STATE_PATIENCE", value_parser = patience)]
    pub state_patience: std::time::Duration,
}

/// `completion`.
#[derive(Clone, Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_can_come_from_the_environment() {
        fn visit(command: &clap::Command, bare: &mut Vec<String>) {
            let options = command.get_arguments().filter(|arg| arg.get_long().is_some());
            let built_in = |arg: &&clap::Arg| ["help", "version"].contains(&arg.get_id().as_str());
            for arg in options.filter(|arg| !built_in(arg)) {
                let named = arg.get_env().is_some_and(|name| name.to_string_lossy().starts_with("RIVERRUN_"));
                if !named {
                    bare.push(format!("{} --{}", command.get_name(), arg.get_long().unwrap_or_default()));
                }
            }
            command.get_subcommands().for_each(|sub| visit(sub, bare));
        }
        let mut bare = Vec::new();
        visit(&Cli::command(), &mut bare);
        assert!(bare.is_empty(), "{bare:?}");
    }
}
