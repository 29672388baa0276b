//! The arguments of `riverrun lake`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{size, span_or_zero, switch};

/// `lake`.
#[derive(Clone, Debug, Subcommand)]
pub enum LakeCommand {
    /// Lists the files that count, one path a line: what a reader reads to see every row exactly once.
    Files(LakeFilesArgs),
    /// Shows partitions, with files, rows and bytes, and who writes.
    Ls(LakeArgs),
    /// Reads every file that counts and compares its checksum; looks for files that do not belong there.
    Verify(LakeArgs),
    /// Merges small files. Safe beside a running job.
    Compact(LakeCompactArgs),
    /// Removes files that count no more, what dead processes left, and old records. Safe beside a running job.
    Sweep(LakeSweepArgs),
}

/// Which lake.
#[derive(Clone, Debug, Args)]
pub struct LakeArgs {
    /// The lake: a folder, or s3://BUCKET/PREFIX.
    #[arg(value_name = "PATH", env = "RIVERRUN_LAKE")]
    pub path: String,
}

/// `lake files`.
#[derive(Clone, Debug, Args)]
pub struct LakeFilesArgs {
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Only files with rows of this time or later, such as 2026-03-01T13:00:00Z; also those of rows without event time.
    #[arg(long, value_name = "TIME", env = "RIVERRUN_LAKE_FROM", value_parser = time)]
    pub from: Option<i64>,
    /// Only files with rows before this time.
    #[arg(long, value_name = "TIME", env = "RIVERRUN_LAKE_TO", value_parser = time)]
    pub to: Option<i64>,
}

/// `lake compact`.
#[derive(Clone, Debug, Args)]
pub struct LakeCompactArgs {
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Files are merged up to about this size.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", env = "RIVERRUN_LAKE_TARGET", value_parser = size)]
    pub target: u64,
    /// Only says what it would do.
    #[arg(long, env = "RIVERRUN_DRY_RUN", value_parser = switch())]
    pub dry_run: bool,
}

/// `lake sweep`.
#[derive(Clone, Debug, Args)]
pub struct LakeSweepArgs {
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Files that were replaced stay so long, for those who still read them. Files that never counted stay an hour at least.
    #[arg(long, value_name = "SPAN", default_value = "1h", env = "RIVERRUN_LAKE_KEEP", value_parser = span_or_zero)]
    pub keep: Duration,
    /// Only says what it would do.
    #[arg(long, env = "RIVERRUN_DRY_RUN", value_parser = switch())]
    pub dry_run: bool,
}

/// Reads a time as microseconds since 1970.
fn time(text: &str) -> Result<i64, String> {
    riverrun_jobs::spec::values::time(text).map(|time| time.0)
}
