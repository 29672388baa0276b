//! `rescales`, `exceptions`: what happened to a job.

use super::asks::path;
use super::http::{Client, with_query};
use crate::args::{Global, JobOnlyArgs, RescalesArgs};
use crate::exit::Done;
use crate::manager::{ExceptionView, Exceptions, RescaleView, Rescales};
use crate::output::{self, Format, Stdout};

/// Shows the starts of a job.
pub fn rescales(args: &RescalesArgs, global: &Global) -> Done {
    let client = Client::of(&args.job.server, global)?;
    let query: Vec<(&str, String)> = args.reason.iter().map(|reason| ("reason", reason.clone())).collect();
    let all: Rescales = client.get(&with_query(&path(&args.job.job, "rescales")?, &query))?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&all)?,
        Format::Table => {
            let header =
                ["start", "at", "reason", "from", "to", "", "pause", "ending", "waiting", "starting", "first row"];
            let rows = all.rescales.iter().map(row).collect();
            stdout.line(&output::table(&header, &[0, 6, 7, 8, 9, 10], rows).to_string())?;
        }
    }
    stdout.flush()
}

fn row(it: &RescaleView) -> Vec<String> {
    let scale = |scale: &crate::manager::Scale| format!("{} x {}", scale.processes, scale.workers);
    let outcome = serde_json::to_value(it.outcome).ok().and_then(|word| word.as_str().map(str::to_owned));
    let mut row = vec![
        it.generation.to_string(),
        it.at.to_string(),
        it.reason.clone(),
        it.from.as_ref().map_or("-".to_owned(), scale),
        scale(&it.to),
        outcome.unwrap_or_default(),
    ];
    row.extend(match &it.pause {
        Some(pause) => {
            let parts = [pause.ending_seconds, pause.waiting_seconds, pause.starting_seconds, pause.first_row_seconds];
            std::iter::once(pause.seconds).chain(parts).map(|seconds| format!("{seconds:.3} s")).collect::<Vec<_>>()
        }
        None => vec!["-".to_owned(); 5],
    });
    row
}

/// Shows what the processes of a job ended with.
pub fn exceptions(args: &JobOnlyArgs, global: &Global) -> Done {
    let all: Exceptions = Client::of(&args.server, global)?.get(&path(&args.job, "exceptions")?)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&all)?,
        Format::Table => {
            if let Some(root) = &all.root {
                stdout.line(&format!("cause, {}: {}\n", root.last_seen, root.message.replace('\n', "\n  ")))?;
            }
            let row = |it: &ExceptionView| {
                let dash = || "-".to_owned();
                vec![
                    it.last_seen.to_string(),
                    it.process.map_or_else(dash, |process| process.to_string()),
                    it.code.map_or_else(dash, |code| code.to_string()),
                    it.operator.clone().unwrap_or_else(dash),
                    it.count.to_string(),
                    it.first_seen.to_string(),
                    if it.root { "cause" } else { "followed" }.to_owned(),
                    it.message.lines().next().unwrap_or_default().to_owned(),
                ]
            };
            let header = ["last seen", "process", "code", "part", "times", "first seen", "", "said"];
            let rows = all.exceptions.iter().map(row).collect();
            stdout.line(&output::table(&header, &[1, 2, 4], rows).to_string())?;
        }
    }
    stdout.flush()
}
