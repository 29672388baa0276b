//! Logging: events of the libraries as lines on stderr, text or JSON.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::exit::{Exit, Failure};
use crate::output::stderr_has_colours;

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

/// Starts logging. `filter` is RIVERRUN_LOG: levels, by module if wanted (`info,riverrun_state=debug`).
pub fn start(format: LogFormat, filter: Option<&str>, quiet: bool, verbose: u8) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter.unwrap_or(level(quiet, verbose))).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot read the log filter: {error}\n  hint: for example `info` or `warn,riverrun_state=debug`"),
        )
    })?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(stderr_has_colours());
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
