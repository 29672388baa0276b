//! `riverrun completion`: scripts that let a shell complete commands and options.

use clap::CommandFactory;

use crate::args::{Cli, CompletionArgs};
use crate::exit::Done;
use crate::output::Stdout;

/// Prints the script.
pub fn completion(args: &CompletionArgs) -> Done {
    // Into memory first: the generator panics where a write fails, and stdout may be closed at any time.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "riverrun", &mut script);
    let mut stdout = Stdout::lock();
    stdout.bytes(&script)?;
    stdout.flush()
}
