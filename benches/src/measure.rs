//! A process as a whole: its CPU time, its peak memory, how long it took.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// What a process cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Greatest resident set, in KiB, as sampled every few milliseconds.
    pub peak_kib: u64,
    /// Start to exit.
    pub wall: Duration,
}

/// Runs a command to its end; what it prints goes to `log`.
#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
pub fn run(command: &mut Command, log: &Path) -> anyhow::Result<Cost> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let begun = Instant::now();
    let before = children_cpu()?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let ended = loop {
        peak_kib = peak_kib.max(high_water(&status).unwrap_or(0));
        match child.try_wait()? {
            Some(ended) => break ended,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let said = || std::fs::read_to_string(log).unwrap_or_default();
    ensure!(ended.success(), "{command:?} ended with {ended}:\n{}", said());
    Ok(Cost { cpu: children_cpu()? - before, peak_kib, wall: begun.elapsed() })
}

/// CPU time of all children that have ended.
fn children_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("an odd /proc/self/stat")?.1.split_whitespace().collect();
    let ticks = fields[13].parse::<u64>()? + fields[14].parse::<u64>()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_micros(ticks * 1_000_000 / per_second))
}

fn high_water(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the median of some figures.
pub fn median<T: Copy + Ord>(figures: impl IntoIterator<Item = T>) -> Option<T> {
    let mut sorted: Vec<T> = figures.into_iter().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}
