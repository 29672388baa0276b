//! Commands that ask a manager.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use riverrun_jobs::upgrade::Position;

use super::JobArgs;
use super::LimitArgs;
use super::values::{savepoint_name, span, switch};
use crate::manager::Role;

/// What is asked of a manager.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Submits a job to a manager, or a change of one; --dry-run says what that would do.
    Submit(SubmitArgs),
    /// Lists the jobs of a manager.
    List(ServerArgs),
    /// Shows how a job is doing.
    Status(StatusArgs),
    /// Shows what the processes of a job said.
    Logs(LogsArgs),
    /// Stops a job cleanly; it can go on.
    Stop(StopArgs),
    /// Ends a job at once; it can go on from its newest checkpoint.
    Cancel(NamedArgs),
    /// Stops a job cleanly; it can go on.
    Suspend(NamedArgs),
    /// Lets a job go on.
    Resume(NamedArgs),
    /// Stops a job cleanly and starts it again.
    Restart(NamedArgs),
    /// Lets a job go on with other processes and workers.
    Rescale(RescaleArgs),
    /// Shows the starts of a job: rescales and all others, with how long no rows came out.
    Rescales(RescalesArgs),
    /// Shows what the processes of a job ended with, and why.
    Exceptions(JobOnlyArgs),
    /// Shows how far a job is read, and has a suspended one go on from elsewhere.
    #[command(subcommand)]
    Offsets(OffsetsCommand),
    /// Names checkpoints of jobs, which are kept from then on.
    #[command(subcommand)]
    Savepoint(SavepointCommand),
    /// Shows the newest records that a job wrote to a topic.
    Tap(TapArgs),
    /// Ends a job at once and has the manager forget it.
    Delete(DeleteArgs),
    /// Makes, lists and deletes API keys of a manager.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Checks what stands between this machine and a manager.
    Doctor(DoctorArgs),
    /// Prints the names of jobs for a completion script, or nothing.
    #[command(hide = true)]
    CompleteJobs(CompleteArgs),
}

/// Where the manager is, and who asks.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// The manager's address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", env = "RIVERRUN_SERVER")]
    pub server: String,
    /// The file with the API key; or the key itself in RIVERRUN_API_KEY.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Trusts this certificate (PEM) of the manager, besides those that the system trusts.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_SERVER_CA")]
    pub server_ca: Option<PathBuf>,
}

/// How long is waited.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// Does not wait until it is done.
    #[arg(long, env = "RIVERRUN_DETACH", value_parser = switch())]
    pub detach: bool,
    /// Waits so long at most; what was asked for goes on.
    #[arg(long, value_name = "SPAN", default_value = "10m", env = "RIVERRUN_TIMEOUT", value_parser = span)]
    pub timeout: std::time::Duration,
}

/// A job of a manager.
#[derive(Clone, Debug, Args)]
pub struct NamedArgs {
    /// The job's name.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How long is waited.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `submit`.
#[derive(Clone, Debug, Args)]
pub struct SubmitArgs {
    /// The job. Values of `${env:NAME}` are taken from here and given to the manager beside it.
    #[command(flatten)]
    pub job: JobArgs,
    /// Processes.
    #[arg(long, value_name = "N", default_value_t = 1, env = "RIVERRUN_PROCESSES")]
    pub processes: u16,
    /// Worker threads of each process.
    #[arg(short, long, value_name = "N", default_value_t = 1, env = "RIVERRUN_WORKERS")]
    pub workers: u16,
    /// Read topics up to where they end when the job begins, then finish.
    #[arg(long, env = "RIVERRUN_UNTIL_END", value_parser = switch())]
    pub until_end: bool,
    /// Says what would happen, and changes nothing.
    #[arg(long, env = "RIVERRUN_DRY_RUN", value_parser = switch())]
    pub dry_run: bool,
    /// Shows the lines that change; with --dry-run.
    #[arg(long, env = "RIVERRUN_DIFF", value_parser = switch())]
    pub diff: bool,
    /// Lets this step, source or sink lose what the change cannot keep; `all`: every one. In the environment: one a line.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_ALLOW_RESET", value_delimiter = '\n')]
    pub allow_reset: Vec<String>,
    /// Changes the job only if it is at this revision.
    #[arg(long, value_name = "N", env = "RIVERRUN_IF_REVISION")]
    pub if_revision: Option<u64>,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How long is waited.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// What each process may take.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The job's name.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// Shows it again every second, until Ctrl-C.
    #[arg(long, env = "RIVERRUN_WATCH", value_parser = switch())]
    pub watch: bool,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// The job's name.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// Goes on with what comes, until the process ends or Ctrl-C.
    #[arg(short, long, env = "RIVERRUN_FOLLOW", value_parser = switch())]
    pub follow: bool,
    /// Of the process with this index.
    #[arg(long, value_name = "I", default_value_t = 0, env = "RIVERRUN_LOGS_PROCESS")]
    pub process: u16,
    /// Of this generation [default: the last].
    #[arg(long, value_name = "G", env = "RIVERRUN_GENERATION")]
    pub generation: Option<u64>,
    /// Begins with so many lines.
    #[arg(long, value_name = "N", default_value_t = 200, env = "RIVERRUN_TAIL")]
    pub tail: u16,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `stop`.
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    /// The job.
    #[command(flatten)]
    pub named: NamedArgs,
    /// Leaves its last state as a savepoint of this name.
    #[arg(long, value_name = "NAME", env = "RIVERRUN_SAVEPOINT", value_parser = savepoint_name)]
    pub savepoint: Option<String>,
    /// Gives out everything that waits for later rows, and finishes the job for good.
    #[arg(long, env = "RIVERRUN_DRAIN", value_parser = switch())]
    pub drain: bool,
}

/// `rescale`.
#[derive(Clone, Debug, Args)]
pub struct RescaleArgs {
    /// The job.
    #[command(flatten)]
    pub named: NamedArgs,
    /// Processes.
    #[arg(long, value_name = "N", env = "RIVERRUN_PROCESSES", required_unless_present = "workers")]
    pub processes: Option<u16>,
    /// Worker threads of each process.
    #[arg(short, long, value_name = "N", env = "RIVERRUN_WORKERS")]
    pub workers: Option<u16>,
}

/// `rescales`.
#[derive(Clone, Debug, Args)]
pub struct RescalesArgs {
    /// The job.
    #[command(flatten)]
    pub job: JobOnlyArgs,
    /// Only starts for this reason: `rescale`, `upgrade`, `killed`, ...
    #[arg(long, value_name = "REASON", env = "RIVERRUN_REASON")]
    pub reason: Option<String>,
}

/// `offsets`.
#[derive(Clone, Debug, Subcommand)]
pub enum OffsetsCommand {
    /// Shows how far each split of a job is read; of a job at rest, where it goes on.
    Show(JobOnlyArgs),
    /// Has a suspended job go on from other positions of its topics. Its state stays: what is skipped was never read, what is read again
    /// counts once more.
    Set(OffsetsSetArgs),
}

/// `offsets set`.
#[derive(Clone, Debug, Args)]
pub struct OffsetsSetArgs {
    /// The job.
    #[command(flatten)]
    pub named: NamedArgs,
    /// Where splits go on: `clicks:0=17`, source, split and the position of the next record.
    #[arg(value_name = "SOURCE:SPLIT=N", required = true, value_parser = Position::parse)]
    pub offsets: Vec<Position>,
    /// Lets records be read again that the state has seen already.
    #[arg(long, env = "RIVERRUN_REPEAT", value_parser = switch())]
    pub repeat: bool,
}

/// `savepoint`.
#[derive(Clone, Debug, Subcommand)]
pub enum SavepointCommand {
    /// Names the newest checkpoint of a job.
    Create(SavepointNamedArgs),
    /// Lists the savepoints of a job, or of all.
    Ls(SavepointLsArgs),
    /// Shows what a savepoint holds: positions, watermarks, tables and their sizes.
    #[command(alias = "inspect")]
    Show(SavepointNamedArgs),
    /// Deletes a savepoint.
    Rm(SavepointNamedArgs),
}

/// A job of a manager, when nothing is waited for.
#[derive(Clone, Debug, Args)]
pub struct JobOnlyArgs {
    /// The job's name.
    #[arg(value_name = "JOB", env = "RIVERRUN_JOB")]
    pub job: String,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `savepoint ls`.
#[derive(Clone, Debug, Args)]
pub struct SavepointLsArgs {
    /// The job's name.
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A savepoint of a job.
#[derive(Clone, Debug, Args)]
pub struct SavepointNamedArgs {
    /// The job's name.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The savepoint's name.
    #[arg(value_name = "NAME", value_parser = savepoint_name)]
    pub name: String,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `tap`.
#[derive(Clone, Debug, Args)]
pub struct TapArgs {
    /// The job's name.
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The sink; may be left out if the job has one.
    #[arg(value_name = "SINK")]
    pub sink: Option<String>,
    /// So many records.
    #[arg(short, long, default_value_t = 10, env = "RIVERRUN_LIMIT")]
    pub limit: u16,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `delete`.
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// The job.
    #[command(flatten)]
    pub named: NamedArgs,
    /// Deletes its state too, savepoints included.
    #[arg(long, env = "RIVERRUN_PURGE", value_parser = switch())]
    pub purge: bool,
    /// Does not ask.
    #[arg(short, long, env = "RIVERRUN_YES", value_parser = switch())]
    pub yes: bool,
}

/// `key`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a key, and shows it this once.
    Create(KeyCreateArgs),
    /// Lists the keys, without their secrets.
    Ls(ServerArgs),
    /// Deletes a key.
    Rm(KeyRmArgs),
}

/// `key create`.
#[derive(Clone, Debug, Args)]
pub struct KeyCreateArgs {
    /// What it is for.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it allows.
    #[arg(long, value_enum, env = "RIVERRUN_ROLE")]
    pub role: Role,
    /// The jobs that it is for: a name, or the beginning of names and a `*`.
    #[arg(long, value_name = "JOBS", default_value = "*", env = "RIVERRUN_KEY_JOBS")]
    pub jobs: String,
    /// It is good for so many days [default: for ever].
    #[arg(long, value_name = "N", env = "RIVERRUN_DAYS")]
    pub days: Option<u32>,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `key rm`.
#[derive(Clone, Debug, Args)]
pub struct KeyRmArgs {
    /// The key's id.
    #[arg(value_name = "ID")]
    pub id: String,
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `complete-jobs`.
#[derive(Clone, Debug, Args)]
pub struct CompleteArgs {
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The command that is being typed.
    #[arg(value_name = "WORD", last = true)]
    pub words: Vec<String>,
}

/// `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// The manager.
    #[command(flatten)]
    pub server: ServerArgs,
}
