//! `riverrun replay --recorded`: what a job did before, once more, into files.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_jobs::replay::{self, ReplayEnd, ReplayOptions, Replayed};
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
pub fn replay(args: &ReplayArgs, global: &Global) -> Done {
    let control = Control::new();
    let stop = control.clone();
    signals::listen(move || stop.stop())?;
    let Some(out) = &args.out else {
        return Err(Failure::new(Exit::Usage, "--recorded needs --out DIR, the folder for the files"));
    };
    if let (Some(from), Some(to)) = (args.from_tick, args.to_tick)
        && from > to
    {
        return Err(Failure::new(Exit::Usage, format!("--from-tick {from} is after --to-tick {to}")));
    }
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let options = ReplayOptions {
        state: existing_state(&args.state)?,
        out: out.clone(),
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

fn no_replay(error: RunError, global: &Global) -> Failure {
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
    }
    Ok(())
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
