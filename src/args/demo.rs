//! `demo`.

use std::path::PathBuf;

use clap::Args;

use super::values::{span, switch};

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
