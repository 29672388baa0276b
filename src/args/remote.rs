//! Commands that do something here, or have a manager do it.

use std::path::PathBuf;

use clap::Args;

use super::ServerArgs;

/// Where the manager is, if it is a manager that is to do it.
///
/// It is said at the command itself, and not taken over from what other commands use: whether something is done here or there must not
/// depend on a variable that was set for something else.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "By a manager")]
pub struct RemoteArgs {
    /// Has the manager at this address do it, with a job that it keeps.
    #[arg(long, value_name = "URL", env = "RIVERRUN_REMOTE_SERVER")]
    pub server: Option<String>,
    /// The file with the API key; or the key itself in RIVERRUN_API_KEY.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Trusts this certificate (PEM) of the manager, besides those that the system trusts.
    #[arg(long, value_name = "FILE", env = "RIVERRUN_SERVER_CA")]
    pub server_ca: Option<PathBuf>,
}

impl RemoteArgs {
    /// Returns where the manager is; `None` if there is none in this.
    pub fn server(&self) -> Option<ServerArgs> {
        let (api_key_file, server_ca) = (self.api_key_file.clone(), self.server_ca.clone());
        self.server.clone().map(|server| ServerArgs { server, api_key_file, server_ca })
    }
}
