//! Settings in files: what `serve` and the commands that ask a manager do if nobody says otherwise.
//!
//! ```text
//! option > RIVERRUN_... > --config FILE > files of --config-dir DIR > ./riverrun.toml > the user's config.toml > default
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

pub use show::{Shown, effective, show};

use crate::args::{CheckpointsCommand, Cli, Command, Global};
use crate::exit::{Done, Exit, Failure, OrExit};
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
    let settings = Settings::of(layers(&cli.global)?)?;
    if settings.is_empty() {
        return Ok(cli);
    }
    let matches = settings.under(Cli::command()).get_matches();
    // What was read before is read again, with other defaults.
    Cli::from_arg_matches(&matches).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
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
fn layers(global: &Global) -> Result<Vec<Layer>, Failure> {
    let known = sections(&Cli::command());
    let mut layers = Vec::new();
    if let Some(path) = &global.config {
        layers.push(read(path, &known)?);
    }
    for path in global.config_dir.iter().map(|folder| files_of(folder)).collect::<Result<Vec<_>, _>>()?.concat() {
        layers.push(read(&path, &known)?);
    }
    let here = Path::new(HERE);
    // Whoever names it by hand has looked at it.
    let is_here = |named: &Path| matches!((named.canonicalize(), here.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let is_named = global.config.as_deref().is_some_and(is_here);
    if here.is_file() && !is_named {
        layers.push(file::read_found(here, &known)?);
    }
    if let Some(path) = users().filter(|path| path.is_file()) {
        layers.push(read(&path, &known)?);
    }
    Ok(layers)
}

/// Returns the files with settings in a folder, the one that counts most first: what is added to a folder later, `90-more.toml`, is
/// meant to change what stands there.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = || format!("cannot read the settings in the folder {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).or_exit(Exit::Invalid, cannot)? {
        let path = entry.or_exit(Exit::Invalid, cannot)?.path();
        // Where links lead is what counts: that is how files come into a container.
        if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// Returns where the user's own file is.
fn users() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("riverrun").join("config.toml"))
}

/// Does what is asked about settings.
pub fn config(command: &crate::args::ConfigCommand, global: &Global) -> Done {
    match command {
        crate::args::ConfigCommand::Show(args) => show(args, global),
    }
}
