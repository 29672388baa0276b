//! What does a checkpoint every second cost as state grows? The same number of changes a second, over more and more keys.
//!
//! Flat is: CPU time per changed row, and bytes per changed row, do not grow with the state. Bases are written when the deltas of their
//! shards weigh as much, so the longer the bench runs, the more of a cycle of them it sees; over the whole life of a job at most twice the
//! bytes of its deltas are written.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::Arguments;
use crate::compare::binary;
use crate::feed::{Feeder, Plan, Workload, topics};
use crate::live::Live;
use crate::measure::machine;

/// What the checkpoints of some time wrote.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    checkpoints: u64,
    pause_micros: u64,
    cpu_micros: u64,
    /// Rows that changed, and the bytes that say so.
    changed: u64,
    delta_bytes: u64,
    base_bytes: u64,
    /// Of the records in the log, which name all live files.
    record_bytes: u64,
    /// Of the last one.
    files: u64,
    stored_bytes: u64,
}

/// Measures both workloads with each number of keys.
pub fn checkpoints(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    println!("checkpoints: {}", machine());
    println!(
        "| workload | keys | checkpoints | changed rows/s | us of pause per changed row | us of CPU | since the start | share of a core | share of the job | delta bytes per changed row | base bytes per delta byte | since the start | stored MB | files | record KB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for workload in Workload::ALL {
        for keys in arguments.keys_or(&[1_000_000, 3_000_000, 10_000_000]) {
            let folder = scratch.join(format!("checkpoints-{}-{keys}", workload.name()));
            std::fs::create_dir_all(&folder)?;
            let plan = Plan { workload, keys, rate: arguments.rate, spread: spread(keys, arguments.rate) };
            measure(arguments, &folder, plan).with_context(|| format!("checkpoints of {workload:?}, {keys} keys"))?;
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// Clicks leave as fast as new ones come: those that are there were clicked at the same rate.
fn spread(keys: u64, rate: u64) -> Duration {
    Duration::from_secs((keys / rate).max(1))
}

fn measure(arguments: &Arguments, folder: &Path, plan: Plan) -> anyhow::Result<()> {
    let set = match plan.workload {
        Workload::W1 => vec![format!("steps.attributed.attribute.window={}s", plan.spread.as_secs())],
        Workload::W4 => Vec::new(),
    };
    let (binary, workload) = (binary(arguments)?.canonicalize()?, plan.workload);
    let job = Live { binary, folder: folder.canonicalize()?, workload, processes: 1, workers: arguments.workers, set };
    let mut feeder = Feeder::open(&topics(folder), plan)?;
    feeder.fill()?;
    let mut life = job.start()?;
    life.until_saved()?;
    let feed = feeder.go_on();
    // What was written to make the state is no change.
    std::thread::sleep(Duration::from_secs(2));
    let (from, cpu) = (newest(&job)?, life.cpu()?);
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let (to, cpu) = (newest(&job)?, life.cpu()? - cpu);
    let (within, all) = (sum(&job, from + 1, to)?, sum(&job, 0, to)?);
    feed.end()?;
    life.kill()?;
    print(arguments, plan, &within, &all, cpu);
    Ok(())
}

/// Returns the tick of the newest checkpoint.
fn newest(job: &Live) -> anyhow::Result<u64> {
    job.checkpoints("ls", &[])?["checkpoints"][0]["tick"].as_u64().context("there is no checkpoint")
}

/// Adds up the checkpoints at ticks from `from` to `to`. None of them has been collected: they are kept for an hour.
fn sum(job: &Live, from: u64, to: u64) -> anyhow::Result<Sum> {
    let mut sum = Sum::default();
    let log = job.folder.join(format!("state/jobs/live-{}/log", job.workload.name()));
    let listed = job.checkpoints("ls", &[])?;
    let number = |value: &Value| value.as_u64().context("an odd answer");
    for summary in listed["checkpoints"].as_array().context("an odd answer")?.iter().rev() {
        let (tick, seq) = (number(&summary["tick"])?, number(&summary["seq"])?);
        if !(from..=to).contains(&tick) {
            continue;
        }
        // The record itself: a question for each checkpoint would start hundreds of processes.
        let record = std::fs::read(log.join(format!("{seq:020}.json")))?;
        let body: Value = serde_json::from_slice(&record)?;
        sum.checkpoints += 1;
        sum.pause_micros += number(&summary["pause_micros"])?;
        sum.cpu_micros += number(&summary["cpu_micros"])?;
        sum.record_bytes += record.len() as u64;
        (sum.files, sum.stored_bytes) = (number(&summary["files"])?, number(&summary["bytes"])?);
        let tables = body["tables"].as_array().context("an odd record")?;
        for file in tables.iter().flat_map(|table| table["files"].as_array()).flatten() {
            if file["tick"].as_u64() != Some(tick) {
                continue;
            }
            match file["kind"].as_str() {
                Some("base") => sum.base_bytes += number(&file["bytes"])?,
                _ => {
                    sum.changed += number(&file["rows"])?;
                    sum.delta_bytes += number(&file["bytes"])?;
                }
            }
        }
    }
    Ok(sum)
}

fn print(arguments: &Arguments, plan: Plan, within: &Sum, all: &Sum, cpu: Duration) {
    let per = |sum: u64, of: u64| sum as f64 / of.max(1) as f64;
    let seconds = arguments.seconds as f64;
    let cost = within.cpu_micros as f64 / 1e6;
    println!(
        "| {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} % | {:.1} % | {:.1} | {:.2} | {:.2} | {:.0} | {} | {:.1} |",
        plan.workload.name(),
        plan.keys,
        within.checkpoints,
        within.changed as f64 / seconds,
        per(within.pause_micros, within.changed),
        per(within.cpu_micros, within.changed),
        per(all.cpu_micros, all.changed),
        100.0 * cost / seconds,
        100.0 * cost / cpu.as_secs_f64().max(1e-6),
        per(within.delta_bytes, within.changed),
        per(within.base_bytes, within.delta_bytes),
        per(all.base_bytes, all.delta_bytes),
        within.stored_bytes as f64 / 1e6,
        within.files,
        per(within.record_bytes, within.checkpoints) / 1e3,
    );
}
