//! `riverrun demo`: a shop's traffic, made here, run through the bundled jobs, and what comes of it in the terminal.

mod dice;
mod files;
mod traffic;

use crate::args::{DemoArgs, Global};
use crate::exit::{Done, Exit, Failure};
use crate::output::Stdout;
use crate::signals;
use files::Written;
use traffic::{Settings, Traffic};

/// Rows per second where nobody says otherwise.
const RATE: u32 = 2_000;
/// Rows per second of event time in files, where nobody says otherwise.
const FILE_RATE: u32 = 200;
/// Rows in files, where nobody says otherwise.
const FILE_ROWS: u64 = 100_000;

/// Runs the demo.
pub fn demo(args: &DemoArgs, global: &Global) -> Done {
    let asked = signals::notice()?;
    if let Some(folder) = &args.out {
        let settings = settings(args, args.rate.unwrap_or(FILE_RATE));
        let written = files::write(Traffic::new(settings), args.rows.unwrap_or(FILE_ROWS), folder, &asked)?;
        return said(&written, global);
    }
    let _ = (RATE, global);
    Err(Failure::new(Exit::Usage, "name a folder"))
}

/// What the traffic is like, by the options.
fn settings(args: &DemoArgs, rate: u32) -> Settings {
    let usual = Settings { seed: args.seed, users: args.users, items: args.items, rate, ..Settings::default() };
    match args.clean {
        true => Settings { late_ppm: 0, duplicate_ppm: 0, broken_ppm: 0, ..usual },
        false => usual,
    }
}

fn said(written: &Written, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    match global.output {
        crate::output::Format::Json => stdout.document(written)?,
        crate::output::Format::Table => stdout.line(&format!(
            "{} rows: {} clicks and impressions, {} orders; among them {} late, {} duplicates, {} broken",
            written.rows, written.clicks, written.orders, written.late, written.duplicate, written.broken
        ))?,
    }
    stdout.flush()
}
