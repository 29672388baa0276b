//! A live job as one process or several: started, looked into through its admin port, killed, started again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::feed::{Workload, topics};
use crate::measure::{memory_kib, process_cpu};

/// After this long a job that is waited for counts as hung.
pub const HUNG_AFTER: Duration = Duration::from_secs(600);

/// A job that can be started, again and again.
pub struct Live {
    /// The riverrun binary.
    pub binary: PathBuf,
    /// Where topics, state and outputs are.
    pub folder: PathBuf,
    /// Which job.
    pub workload: Workload,
    /// Processes.
    pub processes: usize,
    /// Worker threads of each.
    pub workers: usize,
    /// What it overrides.
    pub set: Vec<String>,
}

/// A life of the job.
pub struct Life {
    /// By process.
    children: Vec<Child>,
    /// What each says.
    logs: Vec<PathBuf>,
    port: Option<u16>,
}

/// Rows that were read to put state back, and the CPU time of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restore {
    /// Rows.
    pub rows: u64,
    /// CPU time of all workers.
    pub cpu: Duration,
}

impl Live {
    /// Starts the job.
    pub fn start(&self) -> anyhow::Result<Life> {
        let children = (0..self.processes).map(|process| self.start_one(process)).collect::<anyhow::Result<_>>()?;
        Ok(Life { children, logs: (0..self.processes).map(|process| self.log(process)).collect(), port: None })
    }

    fn log(&self, process: usize) -> PathBuf {
        self.folder.join(format!("log{process}"))
    }

    fn start_one(&self, process: usize) -> anyhow::Result<Child> {
        let log = self.log(process);
        let file = std::fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let job = format!("live-{}.yaml", self.workload.name());
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.folder).arg(if self.processes == 1 { "run" } else { "worker" });
        if self.processes > 1 {
            let peers: Vec<String> = (0..self.processes).map(|process| format!("unix:p{process}")).collect();
            command.args(["--processes", &self.processes.to_string(), "--process", &process.to_string()]);
            command.args(["--peers", &peers.join(",")]);
        }
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(job));
        command.args(["--log", "info", "--log-format", "json", "--admin", "127.0.0.1:0"]);
        command.args(["-w", &self.workers.to_string(), "--state", "state", "--topics"]).arg(topics(&self.folder));
        command.args(self.set.iter().flat_map(|set| ["--set", set]));
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn()?)
    }

    /// Returns what `riverrun` answers to a question about the job's checkpoints.
    pub fn checkpoints(&self, question: &str, more: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.folder).args(["checkpoints", question, &format!("live-{}", self.workload.name())]);
        let answer = command.args(more).args(["--state", "state", "-o", "json"]).output()?;
        ensure!(answer.status.success(), "{command:?}: {}", String::from_utf8_lossy(&answer.stderr));
        Ok(serde_json::from_slice(&answer.stdout)?)
    }

    /// Returns the length of the output that shows how the job goes on; 0 if there is none yet.
    pub fn written(&self) -> u64 {
        std::fs::metadata(self.folder.join("out.jsonl")).map_or(0, |file| file.len())
    }
}

impl Life {
    /// Waits until `there` says so.
    pub fn until(&mut self, what: &str, mut there: impl FnMut(&mut Life) -> bool) -> anyhow::Result<()> {
        let begun = now();
        while !there(self) {
            for process in 0..self.children.len() {
                if let Some(ended) = self.children[process].try_wait()? {
                    bail!("process {process} of the job ended before {what}, {ended}:\n{}", self.said(process));
                }
            }
            ensure!(begun.elapsed() < HUNG_AFTER, "{what} never came:\n{}", self.said(0));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until the job has read all there is, and a checkpoint has been published after that.
    pub fn until_saved(&mut self) -> anyhow::Result<()> {
        let pause = || std::thread::sleep(Duration::from_millis(50));
        self.until("the end of the topics", |life| {
            pause();
            life.metric("riverrun_source_lag_records", "") == Some(0.0)
        })?;
        let checkpoints = |life: &mut Life| life.metric("riverrun_checkpoint_completed_total", "");
        let before = checkpoints(self).unwrap_or(0.0);
        // The one after the next has begun after now.
        self.until("a checkpoint", |life| {
            pause();
            checkpoints(life).is_some_and(|now| now >= before + 2.0)
        })
    }

    /// Returns the sum of the series of a metric that have `label` in them; `None` while nothing is served.
    pub fn metric(&mut self, name: &str, label: &str) -> Option<f64> {
        if self.port.is_none() {
            let log = self.said(0);
            let line = log.lines().find_map(|line| line.strip_prefix("admin: http://127.0.0.1:"))?;
            self.port = line.parse().ok();
        }
        sum(&page(&format!("127.0.0.1:{}", self.port?))?, name, label)
    }

    /// Returns what the job said that it read to put its state back.
    pub fn restored(&self) -> Restore {
        let mut all = Restore::default();
        for said in (0..self.logs.len()).map(|process| self.said(process)) {
            let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for event in events.filter(|event| event["message"] == "restored") {
                all.rows += event["rows"].as_u64().unwrap_or(0);
                all.cpu += Duration::from_micros(event["cpu_micros"].as_u64().unwrap_or(0));
            }
        }
        all
    }

    fn said(&self, process: usize) -> String {
        std::fs::read_to_string(&self.logs[process]).unwrap_or_default()
    }

    /// Returns a figure of the memory of all processes together, `VmRSS` or `VmHWM`, in KiB.
    pub fn memory_kib(&self, figure: &str) -> u64 {
        self.children.iter().filter_map(|child| memory_kib(child.id(), figure)).sum()
    }

    /// Forgets the greatest resident memory so far: `VmHWM` begins anew with what is resident now.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        self.children.iter().try_for_each(|child| Ok(std::fs::write(format!("/proc/{}/clear_refs", child.id()), "5")?))
    }

    /// Returns the CPU time that all processes have used.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        self.children.iter().map(|child| Ok(process_cpu(&format!("/proc/{}/stat", child.id()))?.own)).sum()
    }

    /// Kills the last process, and waits until all are gone: the others follow it.
    pub fn kill(mut self) -> anyhow::Result<()> {
        if let Some(last) = self.children.last_mut() {
            last.kill()?;
        }
        for child in &mut self.children {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself, or been waited for.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Returns what is served at an address; `None` while nothing is.
pub fn page(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

/// Returns the sum of the series of a metric that have `label` in them.
pub fn sum(page: &str, name: &str, label: &str) -> Option<f64> {
    let series = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]
fn now() -> Instant {
    Instant::now()
}
