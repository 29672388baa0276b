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
    let id = child.id();
    let mut peak_kib = 0;
    let ended = loop {
        peak_kib = peak_kib.max(memory_kib(id, "VmHWM").unwrap_or(0));
        match child.try_wait()? {
            Some(ended) => break ended,
            None => std::thread::sleep(Duration::from_millis(25)),
        }
    };
    let said = || std::fs::read_to_string(log).unwrap_or_default();
    ensure!(ended.success(), "{command:?} ended with {ended}:\n{}", said());
    Ok(Cost { cpu: children_cpu()? - before, peak_kib, wall: begun.elapsed() })
}

/// CPU time of all children that have ended.
pub fn children_cpu() -> anyhow::Result<Duration> {
    process_cpu("/proc/self/stat").map(|cpu| cpu.children)
}

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// User and system time.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Of the process.
    pub own: Duration,
    /// Of its children that have ended.
    pub children: Duration,
}

/// Returns the CPU time in a `/proc/PID/stat`.
pub fn process_cpu(stat: &str) -> anyhow::Result<Cpu> {
    let text = std::fs::read_to_string(stat).with_context(|| format!("cannot read {stat}"))?;
    let fields: Vec<&str> = text.rsplit_once(')').context("an odd stat")?.1.split_whitespace().collect();
    let per_second = rustix::param::clock_ticks_per_second();
    let sum = |at: usize| -> anyhow::Result<Duration> {
        let ticks = fields[at].parse::<u64>()? + fields[at + 1].parse::<u64>()?;
        Ok(Duration::from_micros(ticks * 1_000_000 / per_second))
    };
    Ok(Cpu { own: sum(11)?, children: sum(13)? })
}

/// Returns a figure of the memory of a process, `VmRSS` or `VmHWM`, in KiB.
pub fn memory_kib(process: u32, figure: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(figure))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the machine and how busy it is, for figures mean little without.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    format!("{cores} cores, {}; load average {load}", model.trim_start_matches([' ', '\t', ':']).trim())
}

/// Returns the smallest figure that so many of a hundred do not exceed.
pub fn percentile<T: Copy + Ord>(figures: &[T], of_hundred: usize) -> Option<T> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * of_hundred).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Returns the median of some figures.
pub fn median<T: Copy + Ord>(figures: impl IntoIterator<Item = T>) -> Option<T> {
    let mut sorted: Vec<T> = figures.into_iter().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}
