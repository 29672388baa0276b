//! `riverrun upgrade`: a drained job goes on as the job file says now. Shown first, then done.

use riverrun_jobs::upgrade::{self, Fate, Kind, Moved, Part, Repeats, Status, UpgradeOptions, UpgradeReport};
use riverrun_jobs::{Environment, Plan, Topics};
use riverrun_state::Location;

use crate::args::{Global, RunArgs, UpgradeArgs};
use crate::exit::{Done, Exit, Failure};
use crate::job;
use crate::output::{self, Format, Stdout, grouped};
use crate::run::{failed, location};

/// Upgrades a job, or shows what that would do.
pub fn upgrade(args: &UpgradeArgs, global: &Global) -> Done {
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let environment = job::environment(&args.job, args.until_end);
    let state = location(&args.state)?;
    let (allow, savepoint) = (args.allow.allow_reset.clone(), args.savepoint.clone());
    let options = UpgradeOptions { state, allow, savepoint, dry_run: args.dry_run };
    if !args.offsets.is_empty() {
        return reposition(&plan, &environment, &options, args, global);
    }
    let mut shown = Ok(());
    let shower = |report: &UpgradeReport| shown = show(report, global);
    let result = match &args.from_savepoint {
        Some(name) => upgrade::begin_from(&plan, &environment, &options, name, shower),
        None => upgrade::upgrade(&plan, &environment, &options, shower),
    };
    shown?;
    let report = result.map_err(|error| failed(error, global))?;
    if report.status == Status::NeverRan {
        let message =
            format!("job `{}` never ran with this state folder\n  hint: `riverrun run` begins it", report.job);
        return Err(Failure::new(Exit::NotFound, message));
    }
    let mut stdout = Stdout::lock();
    if global.output == Format::Json {
        stdout.document(&report)?;
    }
    stdout.flush()?;
    say(&report, global);
    Ok(())
}

/// Has the job go on from other positions, or shows what that would do.
fn reposition(
    plan: &Plan,
    environment: &Environment,
    options: &UpgradeOptions,
    args: &UpgradeArgs,
    global: &Global,
) -> Done {
    let repeats = if args.repeat { Repeats::Allowed } else { Repeats::Refused };
    let moved = upgrade::reposition(plan, environment, options, (&args.offsets, repeats));
    let moved = moved.map_err(|error| failed(error, global))?;
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&moved)?,
        Format::Table => {
            let row = |it: &Moved| vec![it.source.clone(), it.split.clone(), grouped(it.from), grouped(it.to)];
            let rows = moved.iter().map(row).collect();
            stdout.line(&output::table(&["source", "split", "was at", "goes on at"], &[2, 3], rows).to_string())?;
        }
    }
    stdout.flush()
}

/// Makes of a job that is about to be run what its options say: an upgrade, or a new incarnation from a savepoint. One that never
/// ran, or is up to date, needs no upgrade. Returns whether it was begun anew.
pub fn before_run(
    plan: &Plan,
    environment: &Environment,
    args: &RunArgs,
    state: &Location,
    global: &Global,
) -> Result<bool, Failure> {
    let allow = args.allow.allow_reset.clone();
    let options = UpgradeOptions { state: state.clone(), allow, savepoint: None, dry_run: false };
    let show = |report: &UpgradeReport| {
        if !global.quiet && report.status == Status::Planned {
            eprintln!("{}", table(report));
        }
    };
    let report = match (&args.from_savepoint, args.upgrade) {
        (Some(name), _) => upgrade::begin_from(plan, environment, &options, name, show),
        (None, true) => upgrade::upgrade(plan, environment, &options, show),
        (None, false) => return Ok(false),
    };
    let report = report.map_err(|error| failed(error, global))?;
    if matches!(report.status, Status::Upgraded | Status::Begun) {
        say(&report, global);
    }
    Ok(report.status == Status::Begun)
}

/// Takes up partitions that are new, where topics can grow.
pub fn grow(plan: &Plan, environment: &Environment, state: &Location, global: &Global) -> Done {
    if !matches!(environment.topics, Topics::Kafka(_)) {
        return Ok(());
    }
    let grown = upgrade::grow(plan, environment, state).map_err(|error| failed(error, global))?;
    if !grown.is_empty() && !global.quiet {
        eprintln!("new partitions are read from now on: {}", grown.join(", "));
    }
    Ok(())
}

/// Shows what will become of each part before anything is done: where standard output is for a program, beside it.
fn show(report: &UpgradeReport, global: &Global) -> Done {
    if report.parts.is_empty() {
        return Ok(());
    }
    if global.output == Format::Json {
        if !global.quiet {
            eprintln!("{}", table(report));
        }
        return Ok(());
    }
    let mut stdout = Stdout::lock();
    stdout.line(&table(report))?;
    stdout.flush()
}

fn table(report: &UpgradeReport) -> String {
    let row = |part: &Part| {
        let kind = match part.kind {
            Kind::Source => "source",
            Kind::Step => "step",
            Kind::Sink => "sink",
        };
        let fate = match part.fate {
            Fate::Kept => "kept",
            Fate::Migrated => "migrated",
            Fate::Reset => "reset",
            Fate::New => "new",
            Fate::Gone => "gone",
        };
        let needs = if report.to_allow.contains(&part.name) && part.loses { "--allow-reset" } else { "" };
        vec![kind.to_owned(), part.name.clone(), fate.to_owned(), needs.to_owned(), part.notes.join("; ")]
    };
    output::table(&["", "name", "state", "needs", "why"], &[], report.parts.iter().map(row).collect()).to_string()
}

fn say(report: &UpgradeReport, global: &Global) {
    if global.quiet {
        return;
    }
    let job = &report.job;
    match report.status {
        Status::NeverRan => {}
        Status::UpToDate => eprintln!("job `{job}` is what the job file says; nothing was done"),
        Status::Upgraded => {
            let tick = report.tick.map(grouped).unwrap_or_default();
            eprintln!("job `{job}` is upgraded; the next run goes on after tick {tick}");
            if let Some(name) = &report.savepoint {
                eprintln!("its state as it was is savepoint `{name}`");
            }
        }
        Status::Begun => {
            let tick = report.tick.map(grouped).unwrap_or_default();
            eprintln!("job `{job}` begins anew, from the savepoint after tick {tick}");
        }
        Status::Planned => match (&report.obstacle, report.to_allow.as_slice()) {
            (Some(obstacle), _) => eprintln!("nothing was done, and as it stands nothing can be: {obstacle}"),
            (None, []) => eprintln!("nothing was done; without --dry-run this would be"),
            (None, names) => {
                let flags: Vec<String> = names.iter().map(|name| format!("--allow-reset {name}")).collect();
                eprintln!("nothing was done; without --dry-run this would be, with {}", flags.join(" "));
            }
        },
    }
}
