//! One job in one process and in several: what more workers give, and what rows cost that travel between processes.
//!
//! All processes run on this machine, so this is the price of the exchange, not the gain of more machines.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::Arguments;
use crate::compare::{binary, data};
use crate::measure::{Cost, children_cpu, machine, median, memory_kib, now};

/// How processes reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// There is but one.
    Alone,
    Unix,
    Tcp,
    Tls,
}

/// What is measured: processes, workers of each, and how they reach each other.
const SHAPES: [(usize, usize, Reach); 7] = [
    (1, 1, Reach::Alone),
    (1, 2, Reach::Alone),
    (1, 4, Reach::Alone),
    (2, 1, Reach::Unix),
    (2, 1, Reach::Tcp),
    (2, 1, Reach::Tls),
    (4, 1, Reach::Unix),
];
/// Against this everything else is set: as many workers as two processes have.
const BASE: (usize, usize) = (1, 2);

/// Measures all shapes.
pub fn processes(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    let folder = data(arguments, scratch)?;
    let bench = Bench { binary: binary(arguments)?, data: folder, scratch };
    println!("{}", machine());
    println!(
        "| workload | processes x workers | rows/s | beside 1 worker | CPU s | µs a row more than 1 x 2 | MiB, the largest |"
    );
    println!("|---|---|---|---|---|---|---|");
    for workload in ["w1", "w4"] {
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); SHAPES.len()];
        for _ in 0..arguments.runs {
            for (shape, costs) in SHAPES.iter().zip(&mut costs) {
                costs.push(bench.run(workload, *shape)?);
            }
        }
        bench.report(workload, &costs)?;
    }
    Ok(())
}

struct Bench<'a> {
    binary: PathBuf,
    data: PathBuf,
    scratch: &'a Path,
}

impl Bench<'_> {
    fn report(&self, workload: &str, costs: &[Vec<Cost>]) -> anyhow::Result<()> {
        let rows = self.rows(workload)? as f64;
        let wall = |costs: &[Cost]| median(costs.iter().map(|cost| cost.wall)).unwrap_or_default().as_secs_f64();
        let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu)).unwrap_or_default().as_secs_f64();
        let base = SHAPES.iter().position(|shape| (shape.0, shape.1) == BASE).context("the base is measured")?;
        let (alone, base) = (wall(&costs[0]), cpu(&costs[base]));
        for ((processes, workers, reach), costs) in SHAPES.iter().zip(costs) {
            let more = match reach {
                Reach::Alone => "-".to_owned(),
                _ => format!("{:.2}", (cpu(costs) - base) * 1e6 / rows),
            };
            let peak = median(costs.iter().map(|cost| cost.peak_kib)).unwrap_or_default() / 1024;
            let name = match reach {
                Reach::Alone => String::new(),
                reach => format!(", {}", format!("{reach:?}").to_lowercase()),
            };
            println!(
                "| {workload} | {processes} x {workers}{name} | {:.0} | {:.2} | {:.2} | {more} | {peak} |",
                rows / wall(costs),
                alone / wall(costs),
                cpu(costs),
            );
        }
        Ok(())
    }

    fn rows(&self, workload: &str) -> anyhow::Result<usize> {
        let count = |name: &str| -> anyhow::Result<usize> {
            let text = std::fs::read(self.data.join(name))?;
            Ok(text.iter().filter(|byte| **byte == b'\n').count())
        };
        Ok(count("clicks.jsonl")? + if workload == "w1" { count("orders.jsonl")? } else { 0 })
    }

    /// Runs a workload to its end, and returns what all its processes cost together.
    fn run(&self, workload: &str, (processes, workers, reach): (usize, usize, Reach)) -> anyhow::Result<Cost> {
        let place = self.scratch.join("mesh");
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::create_dir_all(&place)?;
        let peers = peers(processes, reach, &place)?;
        if reach == Reach::Tls {
            certificates(&place)?;
        }
        let (begun, before) = (now(), children_cpu()?);
        let mut crew = Vec::new();
        for process in 0..processes {
            let mut command = Command::new(&self.binary);
            command.arg(if processes == 1 { "run" } else { "worker" }).arg(job(workload));
            command.args(["-w", &workers.to_string(), "--fresh", "-q", "--set", "checkpoint.every=1h", "--state"]);
            command.arg(place.join("state"));
            command.arg("--set").arg(format!("sources.clicks.file.path={}", self.data.join("clicks.jsonl").display()));
            if workload == "w1" {
                let orders = self.data.join("orders.jsonl");
                command.arg("--set").arg(format!("sources.orders.file.path={}", orders.display()));
            }
            command.arg("--set").arg(format!("sinks.out.file.path={}", place.join("out.jsonl").display()));
            if processes > 1 {
                command.args(["--processes", &processes.to_string(), "--process", &process.to_string()]);
                command.args(["--peers", &peers.join(",")]);
            }
            if reach == Reach::Tls {
                command.arg("--mesh-tls").arg(place.join("certificates"));
            }
            let log = std::fs::File::create(place.join(format!("{process}.log")))?;
            crew.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        }
        let peak_kib = watch(&mut crew, &place)?;
        Ok(Cost { cpu: children_cpu()? - before, peak_kib, wall: begun.elapsed() })
    }
}

/// Waits until all have ended well; returns the memory of the largest.
fn watch(crew: &mut [Child], place: &Path) -> anyhow::Result<u64> {
    let mut peak = 0;
    for process in 0..crew.len() {
        let ended = loop {
            let high = crew.iter().filter_map(|child| memory_kib(child.id(), "VmHWM")).max();
            peak = peak.max(high.unwrap_or_default());
            match crew[process].try_wait()? {
                Some(ended) => break ended,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let said = || std::fs::read_to_string(place.join(format!("{process}.log"))).unwrap_or_default();
        ensure!(ended.success(), "process {process} ended with {ended}:\n{}", said());
    }
    Ok(peak)
}

/// Returns where each process is to be found.
fn peers(processes: usize, reach: Reach, place: &Path) -> anyhow::Result<Vec<String>> {
    let of = |process: usize| match reach {
        Reach::Alone => Ok(String::new()),
        Reach::Unix => Ok(format!("unix:{}", place.join(format!("{process}.sock")).display())),
        // Free now; who takes it meanwhile makes the run fail, and says so.
        Reach::Tcp | Reach::Tls => Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string()),
    };
    (0..processes).map(of).collect()
}

/// Makes the certificates that processes know each other by.
fn certificates(place: &Path) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/mesh-certificates.sh");
    let made = Command::new(script).arg("bench").arg(place.join("certificates")).output()?;
    ensure!(made.status.success(), "no certificates: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn job(workload: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(format!("{workload}.yaml"))
}
