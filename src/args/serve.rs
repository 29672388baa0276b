//! `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::LimitArgs;
use super::values::{span, switch};

/// `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// The manager's folder: its database, secrets, logs, and what jobs have unless somebody says otherwise.
    #[arg(long, value_name = "DIR", default_value = ".riverrun/manager", env = "RIVERRUN_DATA")]
    pub data: PathBuf,
    /// Serves the REST API at this address; port 0: any that is free. Addresses that others can reach need API keys.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", env = "RIVERRUN_LISTEN")]
    pub listen: SocketAddr,
    /// Serves health and metrics of the manager at this address, to everybody.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082", env = "RIVERRUN_ADMIN")]
    pub admin: SocketAddr,
    /// Where topics of jobs live: a folder, or `kafka://HOST:PORT,HOST:PORT` [default: `topics` in the manager's folder].
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_TOPICS")]
    pub topics: Option<String>,
    /// Where state of jobs is kept: a folder, or s3://BUCKET/PREFIX [default: `state` in the manager's folder].
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_STATE")]
    pub state: Option<String>,
    /// Lets jobs use files below this folder, or lakes below s3://BUCKET/PREFIX; may be repeated. Relative paths of job files begin in
    /// the first folder [default: `files` in the manager's folder]. In the environment: one a line.
    #[arg(long, value_name = "DIR|URL", env = "RIVERRUN_FILES", value_delimiter = '\n')]
    pub files: Vec<String>,
    /// Lets jobs name brokers and registries at this host of their own; may be repeated. In the environment: one a line.
    #[arg(long, value_name = "HOST[:PORT]", env = "RIVERRUN_ALLOW_HOST", value_delimiter = '\n')]
    pub allow_host: Vec<String>,
    /// Lets names of --allow-host resolve to addresses that are not of the open network: of this machine, of private networks. An address
    /// that --allow-host names itself is allowed as it is.
    #[arg(long, env = "RIVERRUN_ALLOW_PRIVATE_HOSTS", value_parser = switch())]
    pub allow_private_hosts: bool,
    /// The API key in this file, `riverrun_<id>_<secret>`, may do everything.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_ADMIN_KEY_FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// Serves everybody who reaches an address that others can reach, without API keys.
    #[arg(long, env = "RIVERRUN_INSECURE_NO_AUTH", value_parser = switch())]
    pub insecure_no_auth: bool,
    /// Serves the API encrypted, with this certificate chain (PEM), which is read again when it changes.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM).
    #[arg(long, value_name = "FILE", env = "RIVERRUN_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// A changed job that is not at its work after so long is taken back.
    #[arg(long, value_name = "SPAN", default_value = "5m", env = "RIVERRUN_HEALTHY_WITHIN", value_parser = span)]
    pub healthy_within: std::time::Duration,
    /// A job that takes longer to stop cleanly is killed.
    #[arg(long, value_name = "SPAN", default_value = "2m", env = "RIVERRUN_STOP_WITHIN", value_parser = span)]
    pub stop_within: std::time::Duration,
    /// A process that lives and has not answered for so long is frozen: it is killed, and its job started again.
    #[arg(long, value_name = "SPAN", default_value = "1m", env = "RIVERRUN_SILENT_WITHIN", value_parser = span)]
    pub silent_within: std::time::Duration,
    /// Stops its jobs cleanly when it is stopped itself, and starts them again when it comes back; without, they run on. It always does so
    /// as the first process of a container, which ends with it.
    #[arg(long, env = "RIVERRUN_STOP_JOBS", value_parser = switch())]
    pub stop_jobs: bool,
    /// Makes a control group for each process of a job in this folder of the system's, which the manager may write to and no process
    /// is in; may be repeated, for version 1 of control groups: a folder for memory, one for CPU time. In the environment: one a line.
    #[arg(long, value_name = "DIR", env = "RIVERRUN_CGROUP", value_delimiter = '\n')]
    pub cgroup: Vec<PathBuf>,
    /// What a process of a job gets if the job says nothing, and the most that a job may say.
    #[command(flatten)]
    pub limits: LimitArgs,
}
