//! Logging: events of the libraries as lines on stderr, text or JSON.

use std::path::Path;
use std::sync::Mutex;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::exit::{Exit, Failure, OrExit};
use crate::output::stderr_has_colours;
use crate::supervised::RotatedLog;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for collectors.
    Json,
}

/// What is logged if nobody asked for anything: `-q`, nothing, `-v`, `-vv`.
fn level(quiet: bool, verbose: u8) -> &'static str {
    match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    }
}

/// Starts logging: to stderr, or into the log of a supervised process. `filter` is RIVERRUN_LOG: levels, by module if wanted
/// (`info,riverrun_state=debug`).
pub fn start(
    format: LogFormat,
    filter: Option<&str>,
    quiet: bool,
    verbose: u8,
    into: Option<&Path>,
) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter.unwrap_or(level(quiet, verbose))).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot read the log filter: {error}\n  hint: for example `info` or `warn,riverrun_state=debug`"),
        )
    })?;
    let (writer, colours) = match into {
        Some(folder) => {
            let log = RotatedLog::open(folder);
            let log = log.or_exit(Exit::Storage, || format!("cannot open the log in {}", folder.display()))?;
            (BoxMakeWriter::new(Mutex::new(log)), false)
        }
        None => (BoxMakeWriter::new(std::io::stderr), stderr_has_colours()),
    };
    let lines = fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
