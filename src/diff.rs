//! `riverrun diff`: two versions of a job over the same past, and what would be otherwise.

mod shown;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use riverrun_connectors::reach::Reach;
use riverrun_dataflow::engine::Observer;
use riverrun_jobs::Plan;
use riverrun_jobs::diff::{DiffOptions, Versions};
use riverrun_jobs::rewind::Rewind;

use crate::args::{DiffArgs, Global};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{Format, Stdout, grouped};
use crate::progress::Progress;
use crate::replay;
use crate::run::{Stopping, failed};
use shown::{Lines, Table};

/// What clients of a cluster are told by, and nothing else: a comparison writes nothing.
const NAMESPACE: &str = "diff";

/// Compares two versions.
pub fn diff(args: &DiffArgs, global: &Global) -> Done {
    let stopping = Stopping::listen(true)?;
    let past = past(args)?;
    let plans = [version(args, Side::A, &past, global)?, version(args, Side::B, &past, global)?];
    let environment =
        job::environment_at(args.topics.as_deref(), (args.schema_registry.as_deref(), Reach::Anywhere), true);
    let options = DiffOptions { workers: job::workers(args.workers), scratch: scratch(args)?, keys: keys(&args.key)? };
    let versions = Versions::new([&plans[0], &plans[1]], &environment, &options);
    let mut versions = versions.map_err(|reason| Failure::new(Exit::Usage, reason))?;
    if !global.quiet {
        announce(args, &plans, &versions);
    }
    for (side, plan) in [Side::A, Side::B].into_iter().zip(&plans) {
        let observer = Arc::new(Observer::default());
        let begun = now();
        let progress = (!global.quiet).then(|| Progress::start(side.name(), observer.clone())).transpose()?;
        let result = versions.run(stopping.control(), observer.clone());
        if let Some(progress) = progress {
            progress.end();
        }
        let of_side = |failure: Failure| Failure { error: failure.error.context(side.failed(plan)), ..failure };
        if !result.map_err(|error| of_side(failed(error, global)))? {
            return Err(Failure::new(
                Exit::Failed,
                format!("version {} was stopped; nothing was compared", side.name()),
            ));
        }
        if !global.quiet {
            say_run(side, observer.snapshot().decoded, begun.elapsed());
        }
    }
    let mut stdout = Stdout::lock();
    let differs = match global.output {
        Format::Json => Lines::new(&mut stdout, args.limit).show(&mut versions, global)?,
        Format::Table => Table::new(&mut stdout, args.limit).show(&mut versions, global)?,
    };
    stdout.flush()?;
    match differs {
        true => Err(Failure::said(Exit::Failed)),
        false => Ok(()),
    }
}

/// One of the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    A,
    B,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::A => "A",
            Side::B => "B",
        }
    }

    fn failed(self, plan: &Plan) -> String {
        format!("version {} of the job cannot be run: `{}`", self.name(), plan.name())
    }
}

/// Returns the past that is asked for.
fn past(args: &DiffArgs) -> Result<Rewind, Failure> {
    let (from, to) = (args.range.from.as_deref().unwrap_or("earliest"), args.range.to.as_deref());
    let (from_at, to_at) = replay::range(from, to)?;
    let asked = format!("--from {from} --to {}", to.unwrap_or("latest"));
    Ok(Rewind { name: NAMESPACE.to_owned(), from: from_at, to: Some(to_at), asked })
}

/// Returns a version, over the past that is asked for.
fn version(args: &DiffArgs, side: Side, past: &Rewind, global: &Global) -> Result<Plan, Failure> {
    let (job, own) = match side {
        Side::A => (&args.a, &args.set_a),
        Side::B => (&args.b, &args.set_b),
    };
    let set: Vec<String> = args.set.iter().chain(own).cloned().collect();
    let plan = job::plan(job, &set, global)?;
    plan.rewound(past).map_err(|reason| Failure::new(Exit::Usage, reason))
}

/// Returns the folder for what does not fit into memory.
fn scratch(args: &DiffArgs) -> Result<PathBuf, Failure> {
    let folder = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(Failure::new(Exit::NotFound, format!("there is no folder `{}` for --scratch", folder.display()))),
    }
}

/// Reads `STREAM=COLUMN,COLUMN`.
fn keys(written: &[String]) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let read = |text: &String| {
        let (stream, columns) = text.split_once('=')?;
        let columns: Vec<String> = columns.split(',').map(|column| column.trim().to_owned()).collect();
        let is_whole = !stream.is_empty() && columns.iter().all(|column| !column.is_empty());
        is_whole.then(|| (stream.trim().to_owned(), columns))
    };
    let wrong = |text: &String| {
        let message = format!("--key `{text}` names no columns\n  hint: write --key STREAM=COLUMN,COLUMN");
        Failure::new(Exit::Usage, message)
    };
    written.iter().map(|text| read(text).ok_or_else(|| wrong(text))).collect()
}

fn announce(args: &DiffArgs, plans: &[Plan; 2], versions: &Versions<'_>) {
    if plans[0].hash() == plans[1].hash() {
        eprintln!("note: both versions are the same plan; their output is too");
    }
    for plan in plans {
        for source in plan.timeless_sources() {
            let job = if std::ptr::eq(plan, &plans[0]) { &args.a } else { &args.b };
            eprintln!(
                "note: source `{source}` of `{job}` is made of files: they have no record time and are read whole"
            );
        }
    }
    for stream in versions.streams() {
        for note in &stream.notes {
            eprintln!("warning: {}: {note}", stream.name);
        }
    }
}

fn say_run(side: Side, records: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    let rate = grouped((records as f64 / seconds.max(0.001)) as u64);
    eprintln!("{}: {} records in {seconds:.1} s, {rate} records/s", side.name(), grouped(records));
}

#[expect(clippy::disallowed_methods, reason = "how long a version ran is shown to a person; no row sees it")]
fn now() -> Instant {
    Instant::now()
}
