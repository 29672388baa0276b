//! Commands that look at a job and change nothing of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values::{span, switch};
use super::{JobArgs, StateArgs};

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
    /// Ends after so long, however few rows there were.
    #[arg(long, value_name = "SPAN", env = "RIVERRUN_WITHIN", value_parser = span)]
    pub within: Option<std::time::Duration>,
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

/// `schema`.
#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// That of test files, `NAME.test.yaml`, instead.
    #[arg(long, env = "RIVERRUN_TESTS")]
    pub tests: bool,
}

/// `connectors`.
#[derive(Clone, Debug, Args)]
pub struct ConnectorsArgs {
    /// Prints what stands under the key of this one, as JSON Schema; without one they are listed.
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
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
