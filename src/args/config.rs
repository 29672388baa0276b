//! `config`.

use clap::{Args, Subcommand};

use super::values::switch;

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Shows every setting that files can hold, with the value that counts.
    Show(ConfigShowArgs),
}

/// `config show`.
#[derive(Clone, Debug, Args)]
pub struct ConfigShowArgs {
    /// Says where each value comes from.
    #[arg(long, env = "RIVERRUN_ORIGIN", value_parser = switch())]
    pub origin: bool,
}
