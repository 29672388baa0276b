//! `worker`: one process of a job that runs in several.

use clap::Args;
use riverrun_dataflow::mesh::Address;

use super::RunArgs;
use super::values::span;

/// `worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// What `run` has too.
    #[command(flatten)]
    pub run: RunArgs,
    /// Which process this is.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Which process of a job this is, and how it finds the others.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The processes of the job")]
pub struct MeshArgs {
    /// How many processes the job runs in; the same for all of them.
    #[arg(long, value_name = "N", default_value_t = 1, env = "RIVERRUN_PROCESSES", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub processes: u16,
    /// The number of this process, from 0 on; process 0 leads [default: what stands at the end of RIVERRUN_POD_NAME].
    #[arg(long, value_name = "I", env = "RIVERRUN_PROCESS")]
    pub process: Option<u16>,
    /// Where each process can be found, in order, this one included: HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDR,...", env = "RIVERRUN_PEERS", value_delimiter = ',')]
    pub peers: Vec<Address>,
    /// Where this process listens for the others [default: the port of its own address, on all interfaces].
    #[arg(long, value_name = "ADDR", env = "RIVERRUN_MESH_LISTEN")]
    pub mesh_listen: Option<Address>,
    /// A folder with ca.pem, cert.pem and key.pem: on the network, only processes with a certificate of that authority are joined,
    /// and nobody else reads what they say.
    #[arg(long, value_name = "DIR", env = "RIVERRUN_MESH_TLS")]
    pub mesh_tls: Option<std::path::PathBuf>,
    /// Which start of all processes together this is: a greater number ends processes with a smaller one.
    #[arg(long, value_name = "G", default_value_t = 0, env = "RIVERRUN_MESH_GENERATION")]
    pub mesh_generation: u64,
    /// How long all processes may take to come.
    #[arg(long, value_name = "SPAN", default_value = "2m", env = "RIVERRUN_MESH_STARTUP_TIMEOUT", value_parser = span)]
    pub mesh_startup_timeout: std::time::Duration,
    /// At least so often each process says that it is there.
    #[arg(long, value_name = "SPAN", default_value = "1s", env = "RIVERRUN_MESH_HEARTBEAT", value_parser = span)]
    pub mesh_heartbeat: std::time::Duration,
    /// A process that says nothing for so long is lost, and all others end.
    #[arg(long, value_name = "SPAN", default_value = "10s", env = "RIVERRUN_MESH_DEAD_AFTER", value_parser = span)]
    pub mesh_dead_after: std::time::Duration,
}
