//! The command line of Riverrun: arguments, logging, signals, exit codes. One file per command; what they do is a floor below.

mod admin;
mod args;
mod checkpoints;
mod client;
mod completion;
mod config;
mod connectors;
mod demo;
mod diff;
mod exit;
mod inspect;
mod job;
mod lake;
mod limits;
mod logging;
mod manager;
mod output;
mod panics;
mod preview;
mod progress;
mod replay;
mod run;
mod savepoint;
mod signals;
mod supervised;
mod test;
mod topic;
mod upgrade;
mod why;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use riverrun_dataflow::fail_point;

use crate::args::{Cli, Command};
use crate::exit::{Done, Failure};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    panics::install();
    if let Some(sites) = fail_point::asked_for() {
        sites.iter().for_each(|site| println!("{site}"));
        return ExitCode::SUCCESS;
    }
    match config::applied(Cli::parse()).and_then(|cli| dispatch(&cli)) {
        Ok(()) => {
            supervised::end(0, None);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            report(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(cli: &Cli) -> Done {
    let global = &cli.global;
    // The demo and tests make bad and late rows on purpose: warnings about them would only be in the way of what is shown.
    let on_purpose = matches!(cli.command, Command::Demo(_) | Command::Test(_));
    let quiet = global.quiet || (on_purpose && global.verbose == 0);
    let run_dir = global.run_dir.as_deref().map(supervised::begin).transpose()?;
    run_dir.as_deref().map(limits::hold).transpose()?;
    logging::start(global.log_format, global.log.as_deref(), quiet, global.verbose, run_dir.as_deref())?;
    match &cli.command {
        Command::Run(args) => run::run(args, global),
        Command::Worker(args) => worker::worker(args, global),
        Command::Check(args) => inspect::check(args, global),
        Command::Test(args) => test::test(args, global),
        Command::Explain(args) => inspect::explain(args, global),
        Command::Preview(args) => preview::preview(args, global),
        Command::Why(args) => why::why(args, global),
        Command::Replay(args) => replay::replay(args, global),
        Command::Diff(args) => diff::diff(args, global),
        Command::Upgrade(args) => upgrade::upgrade(args, global),
        Command::Schema(args) => inspect::schema(args),
        Command::Connectors(args) => inspect::connectors(args, global),
        Command::New(args) => inspect::new(args, global),
        Command::Topic(command) => topic::topic(command, global),
        Command::Checkpoints(command) => checkpoints::checkpoints(command, global),
        Command::Lake(command) => lake::lake(command, global),
        Command::Demo(args) => demo::demo(args, global),
        Command::Serve(args) => manager::serve(args, global),
        Command::Client(command) => client::client(command, global),
        Command::Config(command) => config::config(command, global),
        Command::Completion(args) => completion::completion(args),
    }
}

/// Says what went wrong: the attempt first, then what came in its way.
pub(crate) fn report(failure: &Failure) {
    if failure.is_said() {
        supervised::end(failure.exit as u8, None);
        return;
    }
    let mut text = failure.error.to_string();
    if !text.starts_with("error") {
        text.insert_str(0, "error: ");
    }
    for cause in failure.error.chain().skip(1) {
        text.push_str("\n  because: ");
        text.push_str(&cause.to_string());
    }
    let text = indented(&text);
    // Nothing can be done about a stderr that is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
    supervised::end(failure.exit as u8, Some(text));
}

/// Returns `text` with its hints in one form, wherever they come from.
fn indented(text: &str) -> String {
    text.replace("\nhint: ", "\n  hint: ")
}
