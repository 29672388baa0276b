//! What a process of a job may take of the machine, as options.

use clap::Args;

use super::values::{cores, size, size_or_zero};
use crate::limits::Limits;

/// Limits of each process.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits of each process of a job")]
pub struct LimitArgs {
    /// Memory, for example `2GiB`. A process that needs more is ended, and its job started again; without a control group of the
    /// manager's it is memory that the process may write to, which is somewhat more than it uses.
    #[arg(long, value_name = "SIZE", env = "RIVERRUN_LIMIT_MEMORY", value_parser = size)]
    pub limit_memory: Option<u64>,
    /// CPU time, in cores: `1.5`. Only with a control group of the manager's.
    #[arg(long, value_name = "CORES", env = "RIVERRUN_LIMIT_CPUS", value_parser = cores)]
    pub limit_cpus: Option<u32>,
    /// Files and connections that are open at the same time.
    #[arg(long, value_name = "N", env = "RIVERRUN_LIMIT_OPEN_FILES", value_parser = clap::value_parser!(u64).range(32..))]
    pub limit_open_files: Option<u64>,
    /// The file that is left of a process that crashed; 0: none.
    #[arg(long, value_name = "SIZE", env = "RIVERRUN_LIMIT_CORE", value_parser = size_or_zero)]
    pub limit_core: Option<u64>,
}

impl LimitArgs {
    /// Returns the limits.
    pub fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.limit_memory,
            cpu_percent: self.limit_cpus,
            open_files: self.limit_open_files,
            core_bytes: self.limit_core,
        }
    }
}
