//! How long is a job of several processes away when one of them is killed, and with what does that time pass? A manager keeps the job;
//! one of its processes is killed with `kill -9` again and again.
//!
//! Measured from the kill to the first new row in the output. What lies between is read off the logs of manager and processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use serde_json::Value;

use crate::Arguments;
use crate::compare::binary;
use crate::feed::{Feeder, Plan, Workload, each, topics};
use crate::live::{HUNG_AFTER, page, sum};
use crate::measure::{machine, percentile};

/// The clicks that are kept before the first kill are of this time.
pub const SPREAD: Duration = Duration::from_secs(3600);
/// What passes between a kill and the first new row, in order.
const PHASES: [&str; 6] =
    ["noticed", "ended and waited", "started and together", "restored", "derived again", "first new row"];

/// Measures both workloads.
pub fn recovery(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    println!("recovery of a job in {} processes, one of them killed: {}", arguments.processes, machine());
    let head = ["workload", "state rows", "in memory MB", "kills", "away s p50", "p95", "most"];
    println!("| {} | {} |", head.join(" | "), PHASES.map(|phase| format!("{phase} s p50")).join(" | "));
    println!("|{}", "---|".repeat(head.len() + PHASES.len()));
    each(scratch, "managed", |folder, workload| measure(arguments, folder, workload))
}

fn measure(arguments: &Arguments, folder: &Path, workload: Workload) -> anyhow::Result<()> {
    let folder = folder.canonicalize()?;
    let plan = Plan { workload, keys: arguments.keys_or(&[2_000_000])[0], rate: arguments.rate, spread: SPREAD };
    let mut feeder = Feeder::open(&topics(&folder), plan)?;
    feeder.fill()?;
    let job = Managed::start(arguments, folder, workload, u64::from(arguments.processes))?;
    job.until_read()?;
    let feed = feeder.go_on();
    let (mut away, mut phases) = (Vec::new(), [const { Vec::new() }; PHASES.len()]);
    let mut state = (0.0, 0.0);
    for number in 0..arguments.kills {
        job.until_saved()?;
        std::thread::sleep(Duration::from_millis(200 + number * 617 % 1000));
        state = job.state(workload).unwrap_or(state);
        let (took, parts) = job.kill(number)?;
        away.push(took);
        phases.iter_mut().zip(parts).for_each(|(all, part)| all.push(part));
    }
    let seconds = |of: &[Duration], of_hundred| percentile(of, of_hundred).unwrap_or_default().as_secs_f64();
    let shown = phases.iter().map(|phase| format!("{:.2}", seconds(phase, 50))).collect::<Vec<_>>().join(" | ");
    println!(
        "| {} | {} | {:.0} | {} | {:.2} | {:.2} | {:.2} | {shown} |",
        workload.name(),
        state.0,
        state.1 / 1e6,
        away.len(),
        seconds(&away, 50),
        seconds(&away, 95),
        seconds(&away, 100),
    );
    drop(job);
    feed.end()
}

/// A manager and its job, which end together.
pub struct Managed {
    binary: PathBuf,
    folder: PathBuf,
    job: String,
    /// How many the job runs in.
    pub processes: u64,
    manager: Child,
}

impl Managed {
    /// Starts a manager and has it run the job.
    pub fn start(
        arguments: &Arguments,
        folder: PathBuf,
        workload: Workload,
        processes: u64,
    ) -> anyhow::Result<Managed> {
        let (binary, job) = (binary(arguments)?.canonicalize()?, format!("live-{}", workload.name()));
        let log = std::fs::File::create(folder.join("log"))?;
        let mut serve = Command::new(&binary);
        serve.current_dir(&folder).args(["--log", "info", "serve", "--data", "manager", "--files", "."]);
        serve.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", "state", "--topics"]);
        let manager = serve.arg(topics(&folder)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let managed = Managed { binary, folder, job, processes, manager };
        managed.until("the manager", || managed.folder.join("manager/address").exists())?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(format!("{}.yaml", managed.job));
        let mut submit = Command::new(&managed.binary);
        submit.arg("submit").arg(file).args(["--processes", &managed.processes.to_string(), "-w", "1", "--server"]);
        let done = submit.arg(managed.read("manager/address").trim()).output()?;
        ensure!(done.status.success(), "{submit:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(managed)
    }

    fn until(&self, what: &str, there: impl Fn() -> bool) -> anyhow::Result<()> {
        let begun = now();
        while !there() {
            ensure!(begun.elapsed() < HUNG_AFTER, "{what} never came:\n{}", self.read("log"));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until all is read that was there.
    pub fn until_read(&self) -> anyhow::Result<()> {
        self.until("the end of the topics", || self.metric("riverrun_source_lag_records", "") == Some(0.0))
    }

    /// Waits for a checkpoint of these processes with all that is there: the second one has begun after now.
    pub fn until_saved(&self) -> anyhow::Result<()> {
        self.until("two checkpoints", || self.metric("riverrun_checkpoint_completed_total", "") >= Some(2.0))
    }

    /// The rows of the state that the workload is about, and its bytes, 0 where the step does not know them.
    pub fn state(&self, workload: Workload) -> Option<(f64, f64)> {
        let step = format!("operator=\"{}\"", workload.step());
        let [rows, bytes] = ["riverrun_operator_state_rows", "riverrun_operator_state_bytes"];
        Some((self.metric(rows, &step)?, self.metric(bytes, &step).unwrap_or(0.0)))
    }

    /// Begins to ask the manager for something that concerns the job.
    pub fn ask(&self, what: &[&str]) -> anyhow::Result<Child> {
        let [verb, options @ ..] = what else { anyhow::bail!("nothing was asked for") };
        let mut command = Command::new(&self.binary);
        command.arg(verb).arg(&self.job).args(options).args(["--server", self.read("manager/address").trim()]);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
    }

    /// What a file holds, or nothing.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// The number of the newest generation of processes.
    pub fn generation(&self) -> u64 {
        let entries =
            std::fs::read_dir(self.folder.join("manager/run").join(&self.job)).into_iter().flatten().flatten();
        let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix('g')?.parse().ok();
        entries.filter_map(|entry| number(entry.file_name())).max().unwrap_or(0)
    }

    /// The folder of a process of the newest generation.
    fn process(&self, index: u64) -> String {
        format!("manager/run/{}/g{}/p{index}", self.job, self.generation())
    }

    /// The process ids of all that were ever started in the newest generation.
    fn pids(&self) -> Vec<u32> {
        let who = (0..self.processes).map(|index| self.read(&format!("{}/process.json", self.process(index))));
        let pid = |who: String| u32::try_from(serde_json::from_str::<Value>(&who).ok()?["pid"].as_u64()?).ok();
        who.filter_map(pid).collect()
    }

    /// The sum of a metric that process 0 serves.
    fn metric(&self, name: &str, label: &str) -> Option<f64> {
        std::thread::sleep(Duration::from_millis(20));
        sum(&page(self.read(&format!("{}/admin", self.process(0))).trim())?, name, label)
    }

    /// The length of the output.
    pub fn written(&self) -> u64 {
        std::fs::metadata(self.folder.join("out.jsonl")).map_or(0, |file| file.len())
    }

    /// Kills a process and waits for a new row. Returns how long that took, and each part of it.
    fn kill(&self, number: u64) -> anyhow::Result<(Duration, [Duration; PHASES.len()])> {
        let (generation, pids) = (self.generation(), self.pids());
        let victim = pids[usize::try_from(number)? % pids.len()];
        let (begun, at) = (now(), time_of_day());
        signal("KILL", &[victim])?;
        self.until("the end of the others", || self.generation() > generation)?;
        // No row is new that somebody wrote before it noticed.
        let before = self.written();
        self.until("the first new row", || self.written() > before)?;
        let (took, seen) = (begun.elapsed(), time_of_day());
        let manager = self.read("log");
        let noticed = newest(&manager, "to=recovering", at);
        let own: Vec<String> =
            (0..self.processes).map(|index| self.read(&format!("{}/log", self.process(index)))).collect();
        let last = |says: &str| own.iter().filter_map(|log| newest(log, says, at)).max();
        let started = own_start(&self.folder.join(self.process(0)).join("token"));
        let mut moments =
            [noticed, started, last("are together"), last("restored"), last("derived recorded"), Some(seen)];
        // Where there was nothing to do, no time passed.
        let mut then = at;
        for moment in &mut moments {
            then = moment.unwrap_or(then).max(then);
            *moment = Some(then);
        }
        let mut then = at;
        let parts = moments.map(|moment| {
            let moment = moment.unwrap_or(then);
            std::mem::replace(&mut then, moment).abs_diff(moment)
        });
        Ok((took, parts))
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // The manager first, or it would start again what is ended here.
        self.manager.kill().ok();
        self.manager.wait().ok();
        signal("KILL", &self.pids()).ok();
    }
}

fn signal(name: &str, pids: &[u32]) -> anyhow::Result<()> {
    let sent = Command::new("kill").arg(format!("-{name}")).args(pids.iter().map(u32::to_string)).output()?;
    ensure!(sent.status.success(), "kill: {}", String::from_utf8_lossy(&sent.stderr));
    Ok(())
}

/// When a process was about to be started, as a time of day: what it is given is written just before.
fn own_start(path: &Path) -> Option<Duration> {
    let written = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(of_day(written.duration_since(UNIX_EPOCH).ok()?))
}

/// The time of day of the last line that says something, if that was after `since`.
fn newest(log: &str, says: &str, since: Duration) -> Option<Duration> {
    let line = log.lines().rev().find(|line| line.contains(says))?;
    let clock = line.split_once('T')?.1.split_once('Z')?.0;
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    let seconds = parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??;
    Some(Duration::from_secs_f64(seconds)).filter(|moment| *moment >= since)
}

fn of_day(since: Duration) -> Duration {
    const DAY: u64 = 24 * 3600;
    Duration::new(since.as_secs() % DAY, since.subsec_nanos())
}

#[expect(clippy::disallowed_methods, reason = "it is held against the times in logs")]
fn time_of_day() -> Duration {
    of_day(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
pub fn now() -> Instant {
    Instant::now()
}
