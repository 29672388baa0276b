//! Settings in files: what `serve` and the commands that ask a manager do if nobody says otherwise.
//!
//! ```text
//! option on the command line > RIVERRUN_... > --config FILE > ./riverrun.toml > the user's config.toml > default
//! ```
//! The file in the working directory is found, not named: it may have come with a repository of somebody else's. So it says nothing of the
//! manager that is asked, which is shown an API key and given secrets.
//!
//! A setting has the name of its option. Files are put under the options as other defaults, so they are read and checked by the same
//! rules, and there is no second list of what there is.

mod file;
mod settings;
mod show;

use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches};

#[cfg(test)]
pub use show::Shown;
pub use show::show;

use crate::args::{CheckpointsCommand, Cli, Command};
use crate::exit::{Done, Failure};
use file::{Layer, read};
use settings::{Settings, sections};

/// The file in the working directory.
const HERE: &str = "riverrun.toml";

/// Returns the command with what files say put under what was given. A command that no file is about is returned as it is, and no file
/// is read for it: jobs run the same wherever they are started.
pub fn applied(cli: Cli) -> Result<Cli, Failure> {
    if !is_about(&cli.command) {
        return Ok(cli);
    }
    let settings = Settings::of(layers(cli.global.config.as_deref())?)?;
    if settings.is_empty() {
        return Ok(cli);
    }
    let matches = settings.under(Cli::command()).get_matches();
    // What was read before is read again, with other defaults.
    Cli::from_arg_matches(&matches).map_err(|error| Failure::new(crate::exit::Exit::Usage, error.to_string()))
}

fn is_about(command: &Command) -> bool {
    match command {
        Command::Serve(_) | Command::Client(_) => true,
        Command::Replay(args) => args.remote.server.is_some(),
        Command::Checkpoints(CheckpointsCommand::Trigger(_)) => true,
        Command::Checkpoints(command) => command.job().is_some_and(|job| job.remote.server.is_some()),
        _ => false,
    }
}

/// Returns what the files say that are there, the one that counts most first.
fn layers(named: Option<&Path>) -> Result<Vec<Layer>, Failure> {
    let known = sections(&Cli::command());
    let mut layers = Vec::new();
    if let Some(path) = named {
        layers.push(read(path, &known)?);
    }
    let here = Path::new(HERE);
    // Whoever names it by hand has looked at it.
    let is_named =
        named.is_some_and(|named| matches!((named.canonicalize(), here.canonicalize()), (Ok(a), Ok(b)) if a == b));
    if here.is_file() && !is_named {
        layers.push(file::read_found(here, &known)?);
    }
    if let Some(path) = users().filter(|path| path.is_file()) {
        layers.push(read(&path, &known)?);
    }
    Ok(layers)
}

/// Returns where the user's own file is.
fn users() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("riverrun").join("config.toml"))
}

/// Does what is asked about settings.
pub fn config(command: &crate::args::ConfigCommand, global: &crate::args::Global) -> Done {
    match command {
        crate::args::ConfigCommand::Show(args) => show(args, global),
    }
}
