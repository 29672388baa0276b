//! `topic`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::switch;

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
    /// The schema registry, which knows how Avro records are written: `http://HOST:PORT`, with options behind a `?`.
    #[arg(long, value_name = "URL", env = "RIVERRUN_SCHEMA_REGISTRY")]
    pub schema_registry: Option<String>,
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

/// Where topics live.
#[derive(Clone, Debug, Args)]
pub struct TopicsArgs {
    /// Where topics live: a folder, or kafka://HOST:PORT,... [default: .riverrun/topics].
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_TOPICS")]
    pub topics: Option<String>,
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
