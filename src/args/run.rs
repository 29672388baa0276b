//! Commands that run a job, or make another one of it.

use clap::Args;
use riverrun_jobs::upgrade::Position;

use super::values::{savepoint_name, span_or_zero, switch};
use super::{JobArgs, StateArgs};

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
    /// Who watches it.
    #[command(flatten)]
    pub watch: WatchArgs,
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

/// Who watches a job that runs.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Serves health and metrics at this address of this machine, for example `127.0.0.1:9464`; port 0: any that is free.
    #[arg(long, value_name = "ADDR", env = "RIVERRUN_ADMIN", value_parser = crate::admin::address)]
    pub admin: Option<std::net::SocketAddr>,
    /// Lets --admin be an address that others can reach: whoever does sees the job's health and figures. For networks that let nobody
    /// else reach it.
    #[arg(long, env = "RIVERRUN_INSECURE_NO_AUTH", value_parser = switch())]
    pub insecure_no_auth: bool,
    /// Lets who knows the token in this file stop the job and have it save its state, by `/control/` of the admin port.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_CONTROL_TOKEN_FILE", requires = "admin")]
    pub control_token_file: Option<std::path::PathBuf>,
    /// Ends the job with a report if it stands still for so long; 0: never.
    #[arg(long, value_name = "SPAN", default_value = "30s", env = "RIVERRUN_WATCHDOG", value_parser = span_or_zero)]
    pub watchdog: std::time::Duration,
    /// Ends the job too if its log, its state or a sink does not answer for so long; 0: never.
    #[arg(long, value_name = "SPAN", default_value = "0", env = "RIVERRUN_WATCHDOG_OUTSIDE", value_parser = span_or_zero)]
    pub watchdog_outside: std::time::Duration,
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
    /// Puts a new incarnation in the place of the job, which begins from this savepoint; the next run goes on with it.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_FROM_SAVEPOINT", conflicts_with = "dry_run")]
    pub from_savepoint: Option<String>,
    /// Keeps the state as it was before the upgrade under this name: a savepoint, from which the former version can begin anew.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_SAVEPOINT", value_parser = savepoint_name, conflicts_with_all = ["dry_run", "from_savepoint"])]
    pub savepoint: Option<String>,
    /// What may be lost.
    #[command(flatten)]
    pub allow: AllowArgs,
    /// Has the job, as it is, go on from this position of a topic; may be repeated. In the environment: one a line.
    #[arg(
        long = "offset", value_name = "SOURCE:SPLIT=N", env = "RIVERRUN_OFFSET", value_delimiter = '\n',
        value_parser = Position::parse, conflicts_with = "from_savepoint"
    )]
    pub offsets: Vec<Position>,
    /// Lets records be read again by --offset that the state has seen already.
    #[arg(long, env = "RIVERRUN_REPEAT", value_parser = switch())]
    pub repeat: bool,
    /// Read topics that are new up to where they end now.
    #[arg(long, env = "RIVERRUN_UNTIL_END", value_parser = switch())]
    pub until_end: bool,
}
