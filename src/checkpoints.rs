//! `riverrun checkpoints`: what a job's state holds, seen from outside, while it runs or not.

use riverrun_state::inspect::{self, Detail};
use riverrun_state::{StateError, Store};

use crate::args::{CheckpointsArgs, CheckpointsCommand, CheckpointsShowArgs, Global};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{self, Format, Stdout, grouped};
use crate::run::existing_state;

/// Does what was asked for.
pub fn checkpoints(command: &CheckpointsCommand, global: &Global) -> Done {
    match command {
        CheckpointsCommand::Ls(args) => ls(args, global),
        CheckpointsCommand::Show(args) => show(args, global),
        CheckpointsCommand::Verify(args) => verify(args, global),
    }
}

/// Opens the state folder, and returns it with the job's name: as given, or as the given job file says.
fn open(args: &CheckpointsArgs, global: &Global) -> Result<(Store, String), Failure> {
    let store = existing_state(args.state.state.as_deref())?;
    let is_file = std::path::Path::new(&args.job).is_file();
    let name = if is_file { job::plan(&args.job, &[], global)?.name().to_owned() } else { args.job.clone() };
    Ok((store, name))
}

fn failed(error: StateError) -> Failure {
    let exit = match &error {
        StateError::OtherJob { .. } => Exit::NotFound,
        StateError::Fenced(_) | StateError::Held { .. } => Exit::Fenced,
        _ => Exit::Storage,
    };
    Failure { exit, error: error.into() }
}

fn ls(args: &CheckpointsArgs, global: &Global) -> Done {
    let (store, job) = open(args, global)?;
    let overview = inspect::list(store, &job).map_err(failed)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&overview)?,
        Format::Table => {
            let row = |summary: &inspect::Summary| {
                vec![
                    grouped(summary.tick),
                    summary.at.clone(),
                    summary.generation.to_string(),
                    summary.files.to_string(),
                    output::bytes(summary.bytes),
                    output::bytes(summary.bytes_new),
                    if summary.finished { "finished" } else { "" }.to_owned(),
                ]
            };
            let header = ["tick", "published", "generation", "files", "size", "new", ""];
            let rows = overview.checkpoints.iter().map(row).collect();
            stdout.line(&output::table(&header, &[0, 2, 3, 4, 5], rows).to_string())?;
            if !global.quiet {
                let running = if overview.running == Some(true) { ", running" } else { "" };
                eprintln!(
                    "\njob `{job}`: generation {}, last tick {}{running}",
                    overview.generation, overview.last_tick
                );
            }
        }
    }
    stdout.flush()
}

fn show(args: &CheckpointsShowArgs, global: &Global) -> Done {
    let (store, job) = open(&args.job, global)?;
    let Some(detail) = inspect::show(store, &job, args.tick).map_err(failed)? else {
        let which =
            args.tick.map_or_else(|| "no checkpoint yet".to_owned(), |tick| format!("no checkpoint at tick {tick}"));
        return Err(Failure::new(Exit::NotFound, format!("job `{job}` has {which}")));
    };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&detail)?,
        Format::Table => stdout.line(&described(&detail))?,
    }
    stdout.flush()
}

fn described(detail: &Detail) -> String {
    let summary = &detail.summary;
    let mut text = format!(
        "tick {}, published {} by generation {}, {} in {} files\n",
        grouped(summary.tick),
        summary.at,
        summary.generation,
        output::bytes(summary.bytes),
        summary.files
    );
    let splits = detail.splits.iter().map(|at| {
        let end = at.end.map_or_else(|| "open".to_owned(), grouped);
        let state = if at.ended {
            "ended"
        } else if at.idle {
            "idle"
        } else {
            ""
        };
        vec![at.source.clone(), at.split.clone(), grouped(at.position), end, state.to_owned()]
    });
    section(&mut text, "Read", &output::table(&["source", "split", "position", "end", ""], &[2, 3], splits.collect()));
    let lanes = detail.lanes.iter().map(|at| vec![at.sink.clone(), at.lane.to_string(), grouped(at.tick)]);
    section(&mut text, "Written", &output::table(&["sink", "lane", "up to tick"], &[1, 2], lanes.collect()));
    let steps =
        summary.steps.iter().map(|(name, state)| vec![name.clone(), grouped(state.rows), output::bytes(state.bytes)]);
    section(&mut text, "State", &output::table(&["step", "rows", "size"], &[1, 2], steps.collect()));
    section(&mut text, "Balance", &output::balance(&detail.balance));
    text.trim_end().to_owned()
}

fn section(text: &mut String, title: &str, table: &comfy_table::Table) {
    text.push_str(&format!("\n{title}\n{table}\n"));
}

fn verify(args: &CheckpointsArgs, global: &Global) -> Done {
    let (store, job) = open(args, global)?;
    let report = inspect::verify(store, &job).map_err(failed)?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&report)?,
        Format::Table => {
            for finding in &report.findings {
                stdout.line(&finding.to_string())?;
            }
            stdout.line(&format!(
                "{} log records, {} checkpoints, {} files read back",
                report.records, report.checkpoints, report.files
            ))?;
        }
    }
    stdout.flush()?;
    match report.findings.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::Storage, format!("{} faults in the state of job `{job}`", report.findings.len())))
        }
    }
}
