//! How long does a job under load give out nothing when a manager spreads it over more processes, or over fewer?
//!
//! The pause is the longest time without a new row in the output, from the request until rows come again from the new processes: what the user of
//! the output sees, stop with a savepoint, start and restore together.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use crate::Arguments;
use crate::feed::{Feeder, Plan, Workload, each, topics};
use crate::managed::{Managed, SPREAD, now};
use crate::measure::{machine, percentile};

/// The numbers of processes, in turn.
const ROUND: [u64; 4] = [1, 3, 2, 1];

/// Measures both workloads.
pub fn rescale(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    println!("pause of a job under load that is spread over other numbers of processes: {}", machine());
    println!("| workload | state rows | in memory MB | from | to | times | pause s p50 | most | until done s p50 |");
    println!("|---|---|---|---|---|---|---|---|---|");
    each(scratch, "rescale", |folder, workload| measure(arguments, folder, workload))
}

fn measure(arguments: &Arguments, folder: &Path, workload: Workload) -> anyhow::Result<()> {
    let folder = folder.canonicalize()?;
    let plan = Plan { workload, keys: arguments.keys_or(&[2_000_000])[0], rate: arguments.rate, spread: SPREAD };
    let mut feeder = Feeder::open(&topics(&folder), plan)?;
    feeder.fill()?;
    let mut job = Managed::start(arguments, folder, workload, ROUND[0])?;
    job.until_read()?;
    let feed = feeder.go_on();
    let mut figures = vec![(Vec::new(), Vec::new()); ROUND.len() - 1];
    let mut state = (0.0, 0.0);
    for _ in 0..arguments.runs {
        for (figures, to) in figures.iter_mut().zip(&ROUND[1..]) {
            job.until_saved()?;
            state = job.state(workload).unwrap_or(state);
            let (pause, done) = once(&mut job, *to)?;
            figures.0.push(pause);
            figures.1.push(done);
        }
    }
    let seconds = |of: &[Duration], of_hundred| percentile(of, of_hundred).unwrap_or_default().as_secs_f64();
    for ((pauses, done), shape) in figures.iter().zip(ROUND.windows(2)) {
        let [from, to] = [shape[0], shape[1]];
        println!(
            "| {} | {} | {:.0} | {from} | {to} | {} | {:.2} | {:.2} | {:.2} |",
            workload.name(),
            state.0,
            state.1 / 1e6,
            pauses.len(),
            seconds(pauses, 50),
            seconds(pauses, 100),
            seconds(done, 50),
        );
    }
    drop(job);
    feed.end()
}

/// Spreads the job over other processes. Returns the longest time without a row, and the time until the manager said that it is done.
fn once(job: &mut Managed, to: u64) -> anyhow::Result<(Duration, Duration)> {
    let generation = job.generation();
    let mut asked = job.ask(&["rescale", "--processes", &to.to_string()])?;
    let begun = now();
    let (mut length, mut grown, mut pause, mut done) = (job.written(), begun, Duration::ZERO, None);
    // Rows of the new processes are those that come once these are there, after the old ones have ended.
    while done.is_none() || job.generation() == generation {
        if done.is_none() && asked.try_wait()?.is_some() {
            done = Some(begun.elapsed());
        }
        see(job, &mut length, &mut grown, &mut pause);
        ensure!(begun.elapsed() < crate::live::HUNG_AFTER, "the rescale never ended:\n{}", job.read("log"));
    }
    let ended = asked.wait_with_output()?;
    ensure!(ended.status.success(), "rescale: {}", String::from_utf8_lossy(&ended.stderr));
    job.processes = to;
    let after = job.written();
    while job.written() <= after {
        see(job, &mut length, &mut grown, &mut pause);
        ensure!(begun.elapsed() < crate::live::HUNG_AFTER, "no row came after the rescale:\n{}", job.read("log"));
    }
    see(job, &mut length, &mut grown, &mut pause);
    Ok((pause, done.unwrap_or_default()))
}

/// Looks whether rows have come, and notes for how long none did.
fn see(job: &Managed, length: &mut u64, grown: &mut std::time::Instant, pause: &mut Duration) {
    std::thread::sleep(Duration::from_millis(1));
    let written = job.written();
    if written != *length {
        *pause = (*pause).max(grown.elapsed());
        (*length, *grown) = (written, now());
    }
}
