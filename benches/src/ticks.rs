//! What a tick costs with hardly a row in it: the price of being there, by processes and workers.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::Arguments;
use crate::compare::binary;
use crate::feed::{Feeder, Plan, Workload, topics};
use crate::live::{Life, Live};
use crate::measure::{machine, now};

/// What is measured: processes, workers of each.
const SHAPES: [(usize, usize); 7] = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (4, 1), (8, 1)];
/// A tick is due so often.
const INTERVAL: &str = "20ms";
/// Rows a second: one or two in every tick.
const RATE: u64 = 100;
/// Ticks that pass before any is counted: a process that starts has more to do.
const WARM: f64 = 50.0;

/// Measures all shapes.
pub fn ticks(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    println!("{}", machine());
    println!(
        "| processes x workers | ticks | ms between two | CPU ms a tick, all processes together | ms from read to commit |"
    );
    println!("|---|---|---|---|---|");
    for (processes, workers) in SHAPES {
        let folder = scratch.join(format!("ticks-{processes}-{workers}"));
        std::fs::create_dir_all(&folder)?;
        let plan = Plan { workload: Workload::W1, keys: RATE, rate: RATE, spread: Duration::from_secs(1) };
        let mut feeder = Feeder::open(&topics(&folder), plan)?;
        feeder.fill()?;
        let feed = feeder.go_on();
        let set = vec![format!("tick.interval={INTERVAL}")];
        let (binary, folder) = (binary(arguments)?.canonicalize()?, folder.canonicalize()?);
        let live = Live { binary, folder, workload: Workload::W1, processes, workers, set };
        let mut life = live.start()?;
        life.until("ticks", |life| {
            std::thread::sleep(Duration::from_millis(50));
            tick(life).is_some_and(|tick| tick > WARM)
        })?;
        let at = |life: &mut Life| {
            let mut latency =
                |part: &str| life.metric(&format!("riverrun_end_to_end_latency_seconds_{part}"), "").unwrap_or(0.0);
            let (sum, count) = (latency("sum"), latency("count"));
            anyhow::Ok((now(), tick(life).context("it says no tick")?, life.cpu()?, sum, count))
        };
        let before = at(&mut life)?;
        std::thread::sleep(Duration::from_secs(arguments.seconds.min(20)));
        let after = at(&mut life)?;
        let ticks = after.1 - before.1;
        let apart = (after.0 - before.0).as_secs_f64() * 1e3 / ticks;
        let cpu = (after.2 - before.2).as_secs_f64() * 1e3 / ticks;
        let latency = (after.3 - before.3) * 1e3 / (after.4 - before.4).max(1.0);
        println!("| {processes} x {workers} | {ticks} | {apart:.1} | {cpu:.2} | {latency:.1} |");
        life.kill()?;
        feed.end()?;
    }
    Ok(())
}

fn tick(life: &mut Life) -> Option<f64> {
    life.metric("riverrun_job_tick{", "")
}
