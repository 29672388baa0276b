//! `riverrun replay --recorded`: what a job did before, once more, into files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_jobs::replay::{self, LeftOut, ReplayEnd, ReplayOptions, Replayed};
use riverrun_jobs::run::RunError;
use riverrun_state::StateError;
use serde::Serialize;

use crate::args::{Global, ReplayArgs};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{self, Format, Stdout, grouped};
use crate::progress::Progress;
use crate::run::{existing_state, failed};
use crate::signals;

/// Replays the recorded ticks.
#[expect(clippy::disallowed_methods, reason = "a rate for a person; reaches no output")]
pub fn replay(args: &ReplayArgs, out: &Path, global: &Global) -> Done {
    let control = Control::new();
    let stop = control.clone();
    signals::listen(move || stop.stop())?;
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let options = ReplayOptions {
        state: existing_state(&args.state)?,
        out: out.to_owned(),
        workers: job::workers(args.workers),
        from: args.from_tick,
        to: args.to_tick,
    };
    let begun = Instant::now();
    let observer = Arc::new(Observer::default());
    let progress = (!global.quiet).then(|| Progress::start(plan.name(), observer.clone())).transpose()?;
    let result = replay::replay(&plan, &job::environment(&args.job, false), &options, control, observer);
    if let Some(progress) = progress {
        progress.end();
    }
    match result.map_err(|error| no_replay(error, global))? {
        ReplayEnd::Whole(replayed) => say(&replayed, args, out, begun.elapsed(), global),
        ReplayEnd::Stopped(tick) => {
            let out = out.display();
            Err(Failure::new(
                Exit::Failed,
                format!("the replay was stopped after tick {tick}: the files in `{out}` end there"),
            ))
        }
    }
}

/// Gives a replay that failed its exit code: a job that never ran has no ticks.
pub(super) fn no_replay(error: RunError, global: &Global) -> Failure {
    match error {
        RunError::State(StateError::OtherJob { .. }) => Failure { exit: Exit::NotFound, error: error.into() },
        error => failed(error, global),
    }
}

/// A replay, and how long it took.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    replayed: &'a Replayed,
    workers: usize,
    seconds: f64,
}

/// Says what was derived again.
fn say(replayed: &Replayed, args: &ReplayArgs, out: &Path, took: Duration, global: &Global) -> Done {
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => {
            let seconds = took.as_millis() as f64 / 1000.0;
            stdout.document(&Said { replayed, workers: job::workers(args.workers), seconds })?;
        }
        Format::Table => {
            let row = |file: &replay::LaneFile| {
                let size = output::bytes(file.bytes);
                vec![file.sink.clone(), file.lane.to_string(), grouped(file.rows), size, file.file.clone()]
            };
            let rows = replayed.files.iter().map(row).collect();
            stdout.line(&output::table(&["sink", "lane", "rows", "size", "file"], &[1, 2, 3], rows).to_string())?;
        }
    }
    stdout.flush()?;
    if !global.quiet {
        eprintln!("\n{}", summary(replayed, out, took));
        left_out(replayed).iter().for_each(|note| eprintln!("{note}"));
    }
    Ok(())
}

/// Returns what files of values do not hold, a line for each sink, and what does.
fn left_out(replayed: &Replayed) -> Vec<String> {
    let mut sinks: BTreeMap<&str, LeftOut> = BTreeMap::new();
    for file in &replayed.files {
        if let Some(left_out) = file.left_out {
            *sinks.entry(&file.sink).or_default() += left_out;
        }
    }
    let note = |(sink, LeftOut { keys, headers, tombstones }): (&&str, &LeftOut)| {
        let parts =
            [(keys, "with a key"), (headers, "with headers"), (tombstones, "without a value, an empty line each")];
        let some = parts.iter().filter(|(count, _)| **count > 0);
        let parts: Vec<String> = some.map(|(count, what)| format!("{} rows {what}", grouped(**count))).collect();
        format!("note: the files of sink `{sink}` hold values alone; it wrote {}", parts.join(", "))
    };
    let mut notes: Vec<String> = sinks.iter().map(note).collect();
    if !notes.is_empty() {
        notes.push("  hint: --as NAME in the place of --out writes whole records, as the job did".to_owned());
    }
    notes
}

fn summary(replayed: &Replayed, out: &Path, took: Duration) -> String {
    let Replayed { job, checkpoint, from, to, ticks, records, rows, .. } = replayed;
    let begin = match checkpoint {
        0 => "the beginning of the job".to_owned(),
        tick => format!("the checkpoint at tick {tick}"),
    };
    let rate = *records as f64 / took.as_secs_f64().max(0.001);
    format!(
        "job `{job}`: {} ticks derived again from {begin}, all as the journal says: {} records read, {} rows written\n\
         the files in `{}` hold the rows of ticks {from} to {to}; {:.1} s, {} records/s",
        grouped(*ticks),
        grouped(*records),
        grouped(*rows),
        out.display(),
        took.as_secs_f64(),
        grouped(rate as u64),
    )
}
