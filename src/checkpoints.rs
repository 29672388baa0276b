//! `riverrun checkpoints`: what a job's state holds, seen from outside, while it runs or not.

mod diff;
mod duckdb;
mod named;
mod query;
mod views;

use riverrun_jobs::Plan;
use riverrun_jobs::kept::kept;
use riverrun_state::inspect::tables::{Kept, Tables, tables};
use riverrun_state::inspect::{self, Detail};
use riverrun_state::record::FileEntry;
use riverrun_state::{StateError, Store, savepoint};

use crate::args::{
    At, CheckpointsArgs, CheckpointsCommand, CheckpointsPinArgs, CheckpointsShowArgs, CheckpointsUnpinArgs, Global,
};
use crate::client::{self, Remote};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{self, Format, Stdout, counted, grouped};
use crate::progress::clock;
use named::open;
pub use views::View;

/// Does what was asked for.
pub fn checkpoints(command: &CheckpointsCommand, global: &Global) -> Done {
    match command {
        CheckpointsCommand::Ls(args) => ls(args, global),
        CheckpointsCommand::Show(args) => show(args, global),
        CheckpointsCommand::Verify(args) => verify(args, global),
        CheckpointsCommand::Query(args) => query::query(args, global),
        CheckpointsCommand::Diff(args) => diff::diff(args, global),
        CheckpointsCommand::Pin(args) => pin(args, global),
        CheckpointsCommand::Unpin(args) => unpin(args, global),
        CheckpointsCommand::Trigger(args) => client::trigger(args, global),
    }
}

/// A job whose tables are looked at.
struct Looked {
    store: Store,
    job: String,
    /// The job as its file says, or as a bundled job: it knows by which rules rows leave.
    plan: Option<Plan>,
    /// How another checkpoint is looked at.
    otherwise: &'static str,
}

impl Looked {
    fn at(args: &CheckpointsArgs, set: &[String], otherwise: &'static str, global: &Global) -> Result<Looked, Failure> {
        let (store, job) = open(args, global)?;
        let is_known = std::path::Path::new(&args.job).is_file() || riverrun_jobs::bundled(&job).is_some();
        let plan = is_known.then(|| job::plan(&args.job, set, global)).transpose()?;
        Ok(Looked { store, job, plan, otherwise })
    }

    /// Returns the tables of a checkpoint, and what is kept of them.
    fn tables(&self, at: At) -> Result<(Tables, Kept), Failure> {
        let tick = match at {
            At::Latest => None,
            At::Tick(tick) => Some(tick),
        };
        let found = tables(self.store.clone(), &self.job, tick).map_err(|error| self.unreadable(error))?;
        let Some(tables) = found else { return Err(no_checkpoint(&self.job, tick)) };
        let plan = self.plan.as_ref().filter(|plan| plan.hash() == tables.plan);
        let kept = plan.map(|plan| kept(plan, &tables)).unwrap_or_default();
        Ok((tables, kept))
    }

    /// Gives what came in the way of reading a checkpoint its exit code. A file that is damaged is one of some checkpoints, not of all.
    fn unreadable(&self, error: StateError) -> Failure {
        let is_file = matches!(&error, StateError::Damaged { what, .. } if what.starts_with("state file"));
        let said = error.to_string();
        let failure = failed(error);
        if !is_file || said.contains("hint:") {
            return failure;
        }
        let hint = format!("{}; `riverrun checkpoints verify {}` says which are whole", self.otherwise, self.job);
        Failure::new(failure.exit, format!("{said}\n  hint: {hint}"))
    }

    /// Says that rows are among those of `tables` that their step does not keep any more, if it is so.
    fn note(&self, tables: &Tables, global: &Global) {
        let is_known = self.plan.as_ref().is_some_and(|plan| plan.hash() == tables.plan);
        if is_known || global.quiet || tables.tables.iter().all(|table| table.key_columns > 0) {
            return;
        }
        let hint = match self.plan {
            Some(_) => "the state was made by another plan; name the job file, --set and all, that it was run with",
            None => "name the job file instead of the job to leave them out",
        };
        eprintln!("note: rows may be shown that have left by a rule of their step\n  hint: {hint}");
    }
}

fn no_checkpoint(job: &str, tick: Option<u64>) -> Failure {
    let which = tick.map_or_else(|| "no checkpoint yet".to_owned(), |tick| format!("no checkpoint at tick {tick}"));
    let hint = format!("`riverrun checkpoints ls {job}` lists those that are kept");
    Failure::new(Exit::NotFound, format!("job `{job}` has {which}\n  hint: {hint}"))
}

/// Gives what came in the way in the state of a job its exit code.
pub fn failed(error: StateError) -> Failure {
    let exit = match &error {
        StateError::OtherJob { .. } | StateError::NoSavepoint { .. } => Exit::NotFound,
        StateError::SavepointExists { .. } => Exit::Conflict,
        StateError::Fenced(_) | StateError::Held { .. } => Exit::Fenced,
        _ => Exit::Storage,
    };
    Failure { exit, error: error.into() }
}

fn ls(args: &CheckpointsArgs, global: &Global) -> Done {
    let (overview, job) = match Remote::of(args, global)? {
        Some(remote) => (remote.overview()?, args.job.clone()),
        None => {
            let (store, job) = open(args, global)?;
            (inspect::list(store, &job).map_err(failed)?, job)
        }
    };
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
                    grouped(summary.steps.values().map(|step| step.rows).sum()),
                    output::bytes(summary.bytes),
                    output::bytes(summary.bytes_new),
                    millis(summary.pause_micros),
                    millis(summary.cpu_micros),
                    if summary.finished { "finished" } else { "" }.to_owned(),
                ]
            };
            let header = ["tick", "published", "generation", "files", "stored rows", "size", "new", "pause", "CPU", ""];
            let rows = overview.checkpoints.iter().map(row).collect();
            stdout.line(&output::table(&header, &[0, 2, 3, 4, 5, 6, 7, 8], rows).to_string())?;
            if !overview.savepoints.is_empty() {
                let row = |named: &inspect::Named| {
                    let it = &named.summary;
                    vec![
                        named.name.clone(),
                        grouped(it.tick),
                        it.at.clone(),
                        it.files.to_string(),
                        output::bytes(it.bytes),
                    ]
                };
                let rows = overview.savepoints.iter().map(row).collect();
                let table = output::table(&["savepoint", "tick", "published", "files", "size"], &[1, 3, 4], rows);
                stdout.line(&format!("\n{table}"))?;
            }
            if !global.quiet {
                let running = if overview.running == Some(true) { ", running" } else { "" };
                eprintln!(
                    "\njob `{job}`: generation {}, last tick {}{running}",
                    overview.generation, overview.last_tick
                );
            }
        }
    }
    stdout.flush()?;
    if overview.findings.is_empty() {
        return Ok(());
    }
    let unread: String = overview.findings.iter().map(|finding| format!("\n  {finding}")).collect();
    Err(Failure::new(
        Exit::Storage,
        format!(
            "{} of job `{job}` cannot be read, and what they hold is not listed:{unread}\n  hint: `riverrun checkpoints verify {job}` says which checkpoints can be used",
            counted(overview.findings.len() as u64, "object")
        ),
    ))
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

fn show(args: &CheckpointsShowArgs, global: &Global) -> Done {
    let tick = match (args.at, args.tick) {
        (Some(At::Tick(at)), Some(tick)) if at != tick => {
            let message = format!("is it the checkpoint at tick {at} or at tick {tick}?\n  hint: leave --tick out");
            return Err(Failure::new(Exit::Usage, message));
        }
        (Some(At::Tick(tick)), _) => Some(tick),
        (Some(At::Latest), _) => None,
        (None, tick) => tick,
    };
    let detail = match Remote::of(&args.job, global)? {
        Some(remote) => remote.detail(tick)?,
        None => {
            let (store, job) = open(&args.job, global)?;
            let found = inspect::show(store, &job, tick).map_err(failed)?;
            found.ok_or_else(|| no_checkpoint(&job, tick))?
        }
    };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&detail)?,
        Format::Table => stdout.line(&described(&detail))?,
    }
    stdout.flush()
}

/// Returns a checkpoint for people.
pub fn described(detail: &Detail) -> String {
    let summary = &detail.summary;
    let mut text = format!(
        "tick {}, published {} by generation {}, {} in {}\n",
        grouped(summary.tick),
        summary.at,
        summary.generation,
        output::bytes(summary.bytes),
        counted(summary.files as u64, "file")
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
    let time = |micros: i64| match micros {
        i64::MIN => "none yet".to_owned(),
        i64::MAX => "ended".to_owned(),
        micros => clock(micros),
    };
    let sources = detail.sources.iter().map(|at| vec![at.source.clone(), time(at.watermark.0)]);
    section(&mut text, "Time", &output::table(&["source", "watermark"], &[], sources.collect()));
    let lanes = detail.lanes.iter().map(|at| vec![at.sink.clone(), at.lane.to_string(), grouped(at.tick)]);
    section(&mut text, "Written", &output::table(&["sink", "lane", "up to tick"], &[1, 2], lanes.collect()));
    let tables = detail.tables.iter().map(|table| {
        let sum = |of: fn(&FileEntry) -> u64| table.files.iter().map(of).sum::<u64>();
        let name = format!("{}.{}", table.step, table.table);
        let (rows, bytes) = (grouped(sum(|file| file.rows)), output::bytes(sum(|file| file.bytes)));
        vec![name, table.files.len().to_string(), rows, bytes]
    });
    section(
        &mut text,
        "State",
        &output::table(&["table", "files", "stored rows", "size"], &[1, 2, 3], tables.collect()),
    );
    section(&mut text, "Balance", &output::balance(&detail.balance));
    text.trim_end().to_owned()
}

fn section(text: &mut String, title: &str, table: &comfy_table::Table) {
    text.push_str(&format!("\n{title}\n{table}\n"));
}

fn pin(args: &CheckpointsPinArgs, global: &Global) -> Done {
    let (store, job) = open(&args.job, global)?;
    let Some(savepoint) = savepoint::create(store, &job, &args.name, args.tick).map_err(failed)? else {
        return Err(no_checkpoint(&job, args.tick));
    };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&inspect::Named::of(&savepoint))?,
        Format::Table if !global.quiet => {
            eprintln!(
                "savepoint `{}` of job `{job}` is the checkpoint at tick {}",
                args.name, savepoint.checkpoint.tick
            );
        }
        Format::Table => {}
    }
    stdout.flush()
}

fn unpin(args: &CheckpointsUnpinArgs, global: &Global) -> Done {
    let (store, job) = open(&args.job, global)?;
    savepoint::delete(store, &job, &args.name).map_err(failed)?;
    if !global.quiet {
        eprintln!("savepoint `{}` of job `{job}` is gone; the job deletes its files as it goes on", args.name);
    }
    Ok(())
}

fn verify(args: &CheckpointsArgs, global: &Global) -> Done {
    let (report, job) = match Remote::of(args, global)? {
        Some(remote) => (remote.verify()?, args.job.clone()),
        None => {
            let (store, job) = open(args, global)?;
            (inspect::verify(store, &job).map_err(failed)?, job)
        }
    };
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&report)?,
        Format::Table => {
            for finding in &report.findings {
                stdout.line(&finding.to_string())?;
                if !finding.checkpoints.is_empty() {
                    stdout.line(&format!("  of no use because of it: {}", checkpoints_at(&finding.checkpoints)))?;
                }
            }
            let well = if report.findings.is_empty() { ": all is well" } else { "" };
            stdout.line(&format!(
                "{}, {}, {} read back{well}",
                counted(report.records, "log record"),
                counted(report.checkpoints, "checkpoint"),
                counted(report.files, "file")
            ))?;
            let newest = report.newest_usable.map_or_else(|| "none".to_owned(), |tick| format!("tick {tick}"));
            stdout.line(&format!("newest usable checkpoint: {newest}"))?;
        }
    }
    stdout.flush()?;
    if report.findings.is_empty() {
        return Ok(());
    }
    let hint = match report.newest_usable {
        Some(tick) => {
            format!("a start goes on from the checkpoint at tick {tick}, and derives again what came after it")
        }
        None => "restore what is named from a backup, or start over with --fresh".to_owned(),
    };
    let faults = counted(report.findings.len() as u64, "fault");
    Err(Failure::new(Exit::Storage, format!("{faults} in the state of job `{job}`\n  hint: {hint}")))
}

/// Names the checkpoints at these ticks.
fn checkpoints_at(ticks: &[u64]) -> String {
    const LISTED_MAX: usize = 5;
    match ticks {
        [tick] => format!("the checkpoint at tick {tick}"),
        [first, .., last] if ticks.len() > LISTED_MAX => {
            format!("the {} checkpoints at ticks {first} to {last}", ticks.len())
        }
        ticks => {
            let ticks: Vec<String> = ticks.iter().map(u64::to_string).collect();
            format!("the checkpoints at ticks {}", ticks.join(", "))
        }
    }
}
