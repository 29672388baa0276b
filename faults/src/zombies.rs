//! Z1 and Z2: a process that is frozen while others take over, and two deployments of one job.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::dice::Dice;
use crate::job::{STEADY, TOPICS};
use crate::live::{Live, Producers};
use crate::matrix::Counts;
use crate::place::Place;
use crate::process::{self, Process, nap};
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// The exit code of a process that another one has taken the job from, or keeps it from.
pub const FENCED: i32 = 75;
/// Rounds that sleep at the same time.
const AT_ONCE: u64 = 6;
/// How many times each way of taking over is tried in one place.
const WAYS: u64 = 3;

/// What still keeps a second process out while the first is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locks {
    /// All locks: nobody else gets in, and the first goes on when it wakes.
    All,
    /// Those of the outputs only: the second one fences the first in the log, and the outputs send it away.
    Outputs,
    /// None, as on a store that another host shares: the second one takes over.
    None,
}

/// Z1: frozen, others start meanwhile, and woken again.
pub fn frozen(setup: &Setup, runs: u64) -> Tried<Report> {
    let asleep = match setup.counts {
        Counts::Nightly => Duration::from_secs(30),
        _ => Duration::from_secs(3),
    };
    let places = runs.div_ceil(2).min(AT_ONCE);
    let (next, mut report) = (AtomicU64::new(0), Report::of("Z1"));
    // Rounds mostly sleep: many share the rate of one.
    let setup = &Setup { rate: (setup.rate / places).max(50), ..setup.clone() };
    let parts = std::thread::scope(|scope| {
        let one = |place: u64| {
            let next = &next;
            move || many_frozen(setup, place, next, runs * WAYS, asleep)
        };
        let all: Vec<_> = (0..places).map(|place| scope.spawn(one(place))).collect();
        all.into_iter().map(|it| it.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))).collect::<Vec<_>>()
    });
    for part in parts {
        report.add(part?);
    }
    // A run is all three ways.
    report.runs /= WAYS;
    report.notes.push(format!("frozen for {} s each; sinks of both kinds in every run", asleep.as_secs()));
    Ok(report)
}

fn many_frozen(setup: &Setup, number: u64, next: &AtomicU64, all: u64, asleep: Duration) -> Tried<Report> {
    let mut report = Report::of("Z1");
    let mut dice = Dice::new(setup.seed ^ 0x21 ^ (number << 32));
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        live.start(&mut report, 2)?;
        live.recovered(&mut report)?;
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= all {
                return live.finish(&mut report, Producers::Lived);
            }
            nap(dice.moment(Duration::from_millis(500)));
            let locks = [Locks::None, Locks::Outputs, Locks::All][usize::try_from(turn % WAYS).expect("it is small")];
            freeze(&mut live, &mut report, locks, asleep).map_err(|reason| format!("{locks:?}: {reason}"))?;
            report.runs += 1;
        }
    })?;
    Ok(report)
}

fn freeze(live: &mut Live<'_>, report: &mut Report, locks: Locks, asleep: Duration) -> Tried<()> {
    let place = live.place;
    let zombie = live.job()?.id();
    process::signal("STOP", &[zombie])?;
    // What it committed until now is none of its successor's.
    live.strike()?;
    report.faults += 1;
    if locks != Locks::All {
        place.remove("state/jobs/faulted/LOCK")?;
    }
    if locks == Locks::None {
        hand_over(place)?;
        let mut frozen = live.job.take().ok_or("the job was not started")?;
        live.start(report, 3)?;
        live.recovered(report)?;
        nap(asleep);
        process::signal("CONT", &[zombie])?;
        frozen.wait_for(place, FENCED)?;
        live.strike()?;
        return live.recovered(report);
    }
    turned_away(live, zombie, locks)?;
    nap(asleep);
    // Nobody could do better before.
    live.strike()?;
    process::signal("CONT", &[zombie])?;
    if locks == Locks::Outputs {
        live.job()?.wait_for(place, FENCED)?;
        // It may have committed once more before it noticed.
        live.strike()?;
        live.start(report, 1)?;
    }
    live.recovered(report)
}

/// Starts a second process, which must end at once and say why.
fn turned_away(live: &Live<'_>, zombie: u32, locks: Locks) -> Tried<()> {
    live.another("state", 2)?.wait_for(live.place, FENCED)?;
    let said = live.place.said();
    let says = match locks {
        Locks::All => said.contains(&format!("process {zombie}")),
        _ => said.contains("another process") || said.contains("generation"),
    };
    if says { Ok(()) } else { Err(format!("a second process does not say who holds the job\n{said}")) }
}

/// Puts copies in the place of all outputs: from here on a frozen process holds files that nobody finds any more.
pub fn hand_over(place: &Place) -> Tried<()> {
    let files = ["out.jsonl", "late.jsonl"].map(str::to_owned);
    let topics = ["counts", "visits", "late", "bad"].map(|topic| format!("{TOPICS}/{topic}"));
    files.iter().chain(&topics).try_for_each(|name| replace(place, name))
}

/// Puts a copy in the place of a file or folder: whoever has it open goes on with the old one.
fn replace(place: &Place, name: &str) -> Tried<()> {
    let (copy, old) = (format!("{}.copy", name.replace('/', "-")), format!("{}.old", name.replace('/', "-")));
    place.remove(&old)?;
    place.copy(name, &copy)?;
    let moved = std::fs::rename(place.path(name), place.path(&old));
    let moved = moved.and_then(|()| std::fs::rename(place.path(&copy), place.path(name)));
    moved.map_err(|error| format!("cannot replace {name}: {error}"))
}

/// Z2: two deployments of one job. One progresses, the other ends at once, names the first, and touches nothing.
pub fn two_deployments(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("Z2");
    let mut dice = Dice::new(setup.seed ^ 0x22);
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        live.start(&mut report, 2)?;
        live.recovered(&mut report)?;
        for _ in 0..runs {
            live.strike()?;
            let first = live.job()?.id();
            // As a supervisor would: again and again.
            for _ in 0..3 {
                turned_away(&live, first, Locks::All)?;
                report.faults += 1;
            }
            // With a state folder of its own it is kept out by the outputs.
            live.another("elsewhere", 2)?.wait_for(place, FENCED)?;
            report.faults += 1;
            live.recovered(&mut report)?;
            // Both at the same moment, with nobody there yet.
            live.kill(&mut report)?;
            let (one, other) = (live.another("state", 1)?, live.another("state", 2)?);
            live.job = Some(the_one_that_stays(place, one, other)?);
            report.restarts += 2;
            live.recovered(&mut report)?;
            nap(dice.moment(Duration::from_millis(500)));
            report.runs += 1;
        }
        live.finish(&mut report, Producers::Lived)
    })?;
    Ok(report)
}

/// Waits until one of two has been turned away, and returns the other.
fn the_one_that_stays(place: &Place, mut one: Process, mut other: Process) -> Tried<Process> {
    let from = process::now();
    loop {
        if one.ended()?.is_some() {
            return one.wait_for(place, FENCED).map(|()| other);
        }
        if other.ended()?.is_some() {
            return other.wait_for(place, FENCED).map(|()| one);
        }
        if from.elapsed() > process::HUNG_AFTER {
            return Err("two processes run one job".to_owned());
        }
        nap(process::PAUSE);
    }
}
