//! Arguments: every command and option, as they are typed. What they do is in the file of their command.

pub mod lake;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

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
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a job here, in the foreground, until its input ends or a signal stops it.
    Run(RunArgs),
    /// Checks job files and shows every fault at once.
    Check(CheckArgs),
    /// Plays the tests beside job files: rows given, rows expected, in virtual time.
    Test(TestArgs),
    /// Shows what a job will do: steps, keys, state and its bound, watermarks.
    Explain(ExplainArgs),
    /// Runs a job with its sinks off and shows its first results.
    Preview(PreviewArgs),
    /// Derives what a job did before once more, into files: the same bytes, with any number of workers.
    Replay(ReplayArgs),
    /// Shows what a row of a job's output rests on: the input records that made it, read again.
    Why(WhyArgs),
    /// Makes a changed job of a drained one, keeping its state; shows first what becomes of each part.
    Upgrade(UpgradeArgs),
    /// Prints the JSON Schema of job files, for editors.
    Schema(SchemaArgs),
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
    /// Prints a completion script for a shell.
    Completion(CompletionArgs),
}

/// `test`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Test files, job files with one beside them, or folders with `*.test.yaml` below them [default: the working directory].
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Plays only tests with this in their name.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_FILTER")]
    pub filter: Option<String>,
    /// Rewrites expectations that are not met with what came; comments and the form of the rows stay.
    #[arg(long, env = "RIVERRUN_UPDATE", value_parser = switch())]
    pub update: bool,
    /// Writes the results as JUnit XML.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_JUNIT")]
    pub junit: Option<PathBuf>,
    /// Shuffles rows by this seed only, as a failure names it.
    #[arg(long, value_name = "N", env = "RIVERRUN_SEED")]
    pub seed: Option<u64>,
    /// How often the rows of a test are shuffled [default: 3].
    #[arg(long, value_name = "N", env = "RIVERRUN_SHUFFLES", value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub shuffles: Option<u64>,
}

/// A job and where it runs.
#[derive(Clone, Debug, Args)]
pub struct JobArgs {
    /// A job file, or the name of a bundled job (`attribution`, `attribution-models`, `conversion`, `ab-test`, `frustration`,
    /// `item-minutes`, `sessions`, `telemetry-funnel`).
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// Where topics live: a folder, or `kafka://HOST:PORT,HOST:PORT`, with options of librdkafka behind a `?`.
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_TOPICS")]
    pub topics: Option<String>,
    /// The schema registry, which knows the schemas of Avro and Protobuf records: `http://HOST:PORT`, with options behind a `?`.
    #[arg(long, value_name = "URL", env = "RIVERRUN_SCHEMA_REGISTRY")]
    pub schema_registry: Option<String>,
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

/// `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArgs,
    /// Its state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Worker threads [default: one per core].
    #[arg(short, long, value_name = "N", env = "RIVERRUN_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Read topics up to where they end now, then finish.
    #[arg(long, env = "RIVERRUN_UNTIL_END", value_parser = switch())]
    pub until_end: bool,
    /// Forget what the job did before and begin anew; files that the job wrote are replaced.
    #[arg(long, env = "RIVERRUN_FRESH", value_parser = switch())]
    pub fresh: bool,
    /// Add to output that is already there and not this job's.
    #[arg(long, env = "RIVERRUN_APPEND", value_parser = switch())]
    pub append: bool,
    /// Serves health and metrics at this address of this machine, for example `127.0.0.1:9464`; port 0: any that is free.
    #[arg(long, value_name = "ADDR", env = "RIVERRUN_ADMIN", value_parser = crate::admin::address)]
    pub admin: Option<std::net::SocketAddr>,
    /// Ends the job with a report if it stands still for so long; 0: never.
    #[arg(long, value_name = "SPAN", default_value = "30s", env = "RIVERRUN_WATCHDOG", value_parser = span_or_zero)]
    pub watchdog: std::time::Duration,
    /// Ends the job too if its log, its state or a sink does not answer for so long; 0: never.
    #[arg(long, value_name = "SPAN", default_value = "0", env = "RIVERRUN_WATCHDOG_OUTSIDE", value_parser = span_or_zero)]
    pub watchdog_outside: std::time::Duration,
    /// If the job file changed: upgrade the job to it first, as `riverrun upgrade` does.
    #[arg(long, env = "RIVERRUN_UPGRADE", conflicts_with = "fresh", value_parser = switch())]
    pub upgrade: bool,
    /// Begin anew from this savepoint of the job: its state and its positions, outputs of its own.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_FROM_SAVEPOINT", requires = "fresh")]
    pub from_savepoint: Option<String>,
    /// When the run is stopped by a signal: leave its state as a savepoint of this name, which nobody has yet.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_SAVEPOINT_ON_STOP")]
    pub savepoint_on_stop: Option<String>,
    /// What an upgrade may lose.
    #[command(flatten)]
    pub allow: AllowArgs,
}

/// What an upgrade may lose.
#[derive(Clone, Debug, Args)]
pub struct AllowArgs {
    /// Lets this step, source or sink lose what the upgrade cannot keep; `all`: every one. In the environment: one a line.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_ALLOW_RESET", value_delimiter = '\n')]
    pub allow_reset: Vec<String>,
}

/// `upgrade`.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    /// The job, as it is to be.
    #[command(flatten)]
    pub job: JobArgs,
    /// Its state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Shows what would become of each part, and changes nothing; the job may be running.
    #[arg(long, env = "RIVERRUN_DRY_RUN", value_parser = switch())]
    pub dry_run: bool,
    /// What may be lost.
    #[command(flatten)]
    pub allow: AllowArgs,
    /// Read topics that are new up to where they end now.
    #[arg(long, env = "RIVERRUN_UNTIL_END", value_parser = switch())]
    pub until_end: bool,
}

/// `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Job files, or names of bundled jobs.
    #[arg(value_name = "JOB", required = true)]
    pub jobs: Vec<String>,
    /// Overrides a value of the job files.
    #[arg(long = "set", value_name = "KEY=VALUE", env = "RIVERRUN_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
}

/// `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A job file, or the name of a bundled job.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// Overrides a value of the job file.
    #[arg(long = "set", value_name = "KEY=VALUE", env = "RIVERRUN_SET", value_delimiter = '\n')]
    pub set: Vec<String>,
    /// Form of the graph [default: text; json with `-o json`].
    #[arg(long, value_enum, env = "RIVERRUN_FORMAT")]
    pub format: Option<GraphFormat>,
}

/// Forms of a job's graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
}

/// `preview`.
#[derive(Clone, Debug, Args)]
pub struct PreviewArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobArgs,
    /// Rows to show; then the preview ends.
    #[arg(short, long, default_value_t = 20, env = "RIVERRUN_LIMIT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// The sink whose rows to show [default: all].
    #[arg(long, value_name = "SINK", env = "RIVERRUN_SINK")]
    pub sink: Option<String>,
}

/// `why`.
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// The job, as it was run.
    #[command(flatten)]
    pub job: JobArgs,
    /// What names the row: its `order_id`, `signal_id`, `incident_id` or any other column that ends in `id`.
    #[arg(value_name = "ROW_ID", env = "RIVERRUN_ROW")]
    pub row: String,
    /// Its state.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The job, as it was run.
    #[command(flatten)]
    pub job: JobArgs,
    /// Its state.
    #[command(flatten)]
    pub state: StateArgs,
    /// The ticks that the job recorded, from the oldest kept checkpoint on. The job is not touched and may be running.
    #[arg(long, required = true, env = "RIVERRUN_RECORDED", value_parser = switch())]
    pub recorded: bool,
    /// The folder for the files, one for every lane of every sink; it must be empty or not there yet.
    #[arg(long, value_name = "DIR", env = "RIVERRUN_OUT")]
    pub out: PathBuf,
    /// Worker threads [default: one per core].
    #[arg(short, long, value_name = "N", env = "RIVERRUN_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// The first tick whose rows are written [default: the first after the oldest kept checkpoint].
    #[arg(long, value_name = "T", env = "RIVERRUN_FROM_TICK", value_parser = clap::value_parser!(u64).range(1..))]
    pub from_tick: Option<u64>,
    /// The last tick [default: the last that is recorded].
    #[arg(long, value_name = "T", env = "RIVERRUN_TO_TICK", value_parser = clap::value_parser!(u64).range(1..))]
    pub to_tick: Option<u64>,
}

/// `schema`.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// That of test files, `NAME.test.yaml`, instead.
    #[arg(long, env = "RIVERRUN_TESTS")]
    pub tests: bool,
}

/// `new`.
#[derive(Clone, Debug, Args)]
pub struct NewArgs {
    /// Which starter or bundled job; without one they are listed.
    #[arg(value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Write it to this file, which must not exist yet.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_TO")]
    pub to: Option<PathBuf>,
}

/// Where topics live.
#[derive(Clone, Debug, Args)]
pub struct TopicsArgs {
    /// Where topics live: a folder, or kafka://HOST:PORT,... [default: .riverrun/topics].
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_TOPICS")]
    pub topics: Option<String>,
}

/// `topic`.
#[derive(Clone, Debug, Subcommand)]
pub enum TopicCommand {
    /// Lists topics, with partitions, records and bytes.
    Ls(TopicLsArgs),
    /// Makes a topic.
    Create(TopicCreateArgs),
    /// Appends the lines of files to a topic (plain, .gz, .zst).
    Import(TopicImportArgs),
    /// Prints the records of a topic.
    Tail(TopicTailArgs),
    /// Appends the lines of stdin to a topic.
    Produce(TopicProduceArgs),
}

/// `topic ls`.
#[derive(Clone, Debug, Args)]
pub struct TopicLsArgs {
    /// Where topics live.
    #[command(flatten)]
    pub topics: TopicsArgs,
}

/// `topic create`.
#[derive(Clone, Debug, Args)]
pub struct TopicCreateArgs {
    /// Its name.
    pub topic: String,
    /// Where topics live.
    #[command(flatten)]
    pub topics: TopicsArgs,
    /// Partitions; fixed for good.
    #[arg(short, long, default_value_t = 4, env = "RIVERRUN_PARTITIONS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub partitions: u32,
}

/// How lines find their partition.
#[derive(Clone, Debug, Args)]
pub struct PlacingArgs {
    /// Partitions, if the topic has to be made [default: 4].
    #[arg(short, long, env = "RIVERRUN_PARTITIONS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub partitions: Option<u32>,
    /// The JSON field by which lines are placed: equal values go to one partition, in order [default: in turn].
    #[arg(short, long, value_name = "FIELD", env = "RIVERRUN_KEY")]
    pub key: Option<String>,
}

/// `topic import`.
#[derive(Clone, Debug, Args)]
pub struct TopicImportArgs {
    /// The files, read in this order.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The topic; made if it is not there.
    #[arg(short, long, value_name = "NAME", env = "RIVERRUN_TOPIC")]
    pub topic: String,
    /// Where topics live.
    #[command(flatten)]
    pub topics: TopicsArgs,
    /// How lines find their partition.
    #[command(flatten)]
    pub placing: PlacingArgs,
}

/// `topic tail`.
#[derive(Clone, Debug, Args)]
pub struct TopicTailArgs {
    /// The topic.
    pub topic: String,
    /// Where topics live.
    #[command(flatten)]
    pub topics: TopicsArgs,
    /// The last so many records of each partition [default: 10].
    #[arg(short = 'n', long, value_name = "N", env = "RIVERRUN_LAST", conflicts_with = "from_start")]
    pub last: Option<u64>,
    /// From the first record on.
    #[arg(long, env = "RIVERRUN_FROM_START", value_parser = switch())]
    pub from_start: bool,
    /// This partition only.
    #[arg(short, long, value_name = "N", env = "RIVERRUN_PARTITION")]
    pub partition: Option<u32>,
    /// Goes on with what is written from now on, until a signal.
    #[arg(short, long, env = "RIVERRUN_FOLLOW", value_parser = switch())]
    pub follow: bool,
}

/// `topic produce`.
#[derive(Clone, Debug, Args)]
pub struct TopicProduceArgs {
    /// The topic; made if it is not there.
    pub topic: String,
    /// Where topics live.
    #[command(flatten)]
    pub topics: TopicsArgs,
    /// How lines find their partition.
    #[command(flatten)]
    pub placing: PlacingArgs,
}

/// `checkpoints`.
#[derive(Clone, Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// Lists the checkpoints of a job, the newest first.
    Ls(CheckpointsArgs),
    /// Shows the newest checkpoint of a job: positions, tokens, files, balance.
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
}

/// `checkpoints show`.
#[derive(Clone, Debug, Args)]
pub struct CheckpointsShowArgs {
    /// The job and its state.
    #[command(flatten)]
    pub job: CheckpointsArgs,
    /// The checkpoint after this tick [default: the newest].
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

/// `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Clicks, impressions and orders per second.
    #[arg(long, value_name = "ROWS", env = "RIVERRUN_RATE", value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub rate: Option<u32>,
    /// Ends after so long, for example `30s`, `5m` [default: until a signal].
    #[arg(long, value_name = "SPAN", env = "RIVERRUN_FOR", value_parser = span)]
    pub r#for: Option<std::time::Duration>,
    /// Ends after so many clicks, impressions and orders.
    #[arg(long, value_name = "N", env = "RIVERRUN_ROWS")]
    pub rows: Option<u64>,
    /// Traffic of the past that is written at once when it begins [default: 5m; 0s with --generate-only].
    #[arg(long, value_name = "SPAN", env = "RIVERRUN_HISTORY", value_parser = span)]
    pub history: Option<std::time::Duration>,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 7, env = "RIVERRUN_SEED")]
    pub seed: u64,
    /// Visitors of the shop.
    #[arg(long, default_value_t = 20_000, env = "RIVERRUN_USERS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub users: u32,
    /// Items in the shop.
    #[arg(long, default_value_t = 500, env = "RIVERRUN_ITEMS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub items: u32,
    /// The folder that the demo uses for topics and state; emptied when the demo begins [default: .riverrun/demo].
    #[arg(long, value_name = "DIR", env = "RIVERRUN_DIR")]
    pub dir: Option<PathBuf>,
    /// Worker threads of each job.
    #[arg(short, long, value_name = "N", default_value_t = 1, env = "RIVERRUN_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,
    /// Makes traffic and runs no job.
    #[arg(long, env = "RIVERRUN_GENERATE_ONLY", value_parser = switch())]
    pub generate_only: bool,
    /// With --generate-only: writes clicks.jsonl, orders.jsonl, corrections.jsonl, events.jsonl, assignments.jsonl and telemetry.jsonl to
    /// this folder, as fast as possible.
    #[arg(long, value_name = "DIR", requires = "generate_only", env = "RIVERRUN_OUT")]
    pub out: Option<PathBuf>,
    /// With --generate-only: writes to the topics in this folder, at the given rate.
    #[arg(long, value_name = "DIR", requires = "generate_only", conflicts_with = "out", env = "RIVERRUN_TOPICS")]
    pub topics: Option<PathBuf>,
    /// Leaves out late, doubled and broken rows.
    #[arg(long, env = "RIVERRUN_CLEAN", value_parser = switch())]
    pub clean: bool,
}

/// `completion`.
#[derive(Clone, Debug, Args)]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Switches take 1, yes, on, true and their opposites from the environment.
fn switch() -> BoolishValueParser {
    BoolishValueParser::new()
}

/// Reads the name of a savepoint.
fn savepoint_name(text: &str) -> Result<String, String> {
    riverrun_state::savepoint::check_name(text).map(|()| text.to_owned())
}

/// Reads a span of time as job files write it: `500ms`, `30s`, `5m`, `2h`.
fn span(text: &str) -> Result<std::time::Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or("needs a unit: ms, s, m or h")?;
    let number: u64 = text[..at].parse().map_err(|_| "begins with a number, for example `30s`")?;
    let millis = match &text[at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("has the unit ms, s, m or h".to_owned()),
    };
    let millis = number.checked_mul(millis).ok_or("is too long")?;
    Ok(std::time::Duration::from_millis(millis))
}

/// Reads for how long a store is asked again. Its requests are signed once, and a signature is good for a quarter of an hour.
fn patience(text: &str) -> Result<std::time::Duration, String> {
    let limit = std::time::Duration::from_secs(600);
    span(text).and_then(|span| if span <= limit { Ok(span) } else { Err("is at most 10m".to_owned()) })
}

/// Reads a span of time, or `0`.
fn span_or_zero(text: &str) -> Result<std::time::Duration, String> {
    if text == "0" { Ok(std::time::Duration::ZERO) } else { span(text) }
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

    #[test]
    fn spans_are_written_as_in_job_files() {
        assert_eq!(span("1500ms"), Ok(std::time::Duration::from_millis(1500)));
        assert_eq!(span("2h"), Ok(std::time::Duration::from_secs(7200)));
        assert!(["", "5", "s", "5d", "-1s", "99999999999999999h"].iter().all(|text| span(text).is_err()));
    }
}
