//! Runs each workload by turns with Riverrun and its rival, and prints the ratios.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::Arguments;
use crate::measure::{Cost, median, run};

/// The variants of Riverrun that are measured: checkpoints as good as never, and every second.
const VARIANTS: [(&str, &str); 2] = [("riverrun", "1h"), ("riverrun, checkpoints every second", "1s")];

/// What all runs have in common.
pub struct Bench<'a> {
    binary: PathBuf,
    data: PathBuf,
    scratch: &'a Path,
    arguments: &'a Arguments,
}

/// Compares all workloads.
pub fn compare(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    let bench = Bench::on(arguments, data(arguments, scratch)?, scratch)?;
    println!("| workload | program | CPU s (median of {}) | ratio | peak MiB | wall s | output |", arguments.runs);
    println!("|---|---|---|---|---|---|---|");
    for workload in ["w1", "w2", "w3", "w4"] {
        let mut rival = Vec::new();
        let mut own: [Vec<Cost>; 2] = Default::default();
        for _ in 0..arguments.runs {
            if let Some(program) = &arguments.rival {
                let out = bench.scratch.join("rival.jsonl");
                let mut command = Command::new(program);
                command.arg(workload).arg(&bench.data).arg(out);
                rival.push(run(&mut command, &bench.scratch.join("rival.log"))?);
            }
            for ((_, every), costs) in VARIANTS.iter().zip(&mut own) {
                costs.push(bench.riverrun(workload, every)?);
            }
        }
        let base = median(rival.iter().map(|cost| cost.cpu));
        let checked = bench.check(workload)?;
        if !rival.is_empty() {
            print_row(workload, "by hand", &rival, base, "");
        }
        for ((name, _), costs) in VARIANTS.iter().zip(&own) {
            print_row(workload, name, costs, base, &checked);
        }
    }
    Ok(())
}

fn print_row(workload: &str, name: &str, costs: &[Cost], base: Option<std::time::Duration>, checked: &str) {
    let cpu = median(costs.iter().map(|cost| cost.cpu)).unwrap_or_default().as_secs_f64();
    let wall = median(costs.iter().map(|cost| cost.wall)).unwrap_or_default().as_secs_f64();
    let peak = median(costs.iter().map(|cost| cost.peak_kib)).unwrap_or_default() as f64 / 1024.0;
    let ratio = base.map_or("-".to_owned(), |base| format!("{:.2}", cpu / base.as_secs_f64()));
    println!("| {workload} | {name} | {cpu:.2} | {ratio} | {peak:.0} | {wall:.2} | {checked} |");
}

fn job(workload: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(format!("{workload}.yaml"))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns the riverrun binary.
pub fn binary(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let beside = || Ok::<_, anyhow::Error>(std::env::current_exe()?.with_file_name("riverrun"));
    let binary = arguments.riverrun.clone().map_or_else(beside, Ok)?;
    ensure!(binary.exists(), "{} is not there: build it first, with `cargo build --release`", binary.display());
    Ok(binary)
}

/// Returns the input, generated if none is given.
pub fn data(arguments: &Arguments, scratch: &Path) -> anyhow::Result<PathBuf> {
    if let Some(data) = &arguments.data {
        return Ok(data.clone());
    }
    let data = scratch.join("data");
    let mut command = Command::new(binary(arguments)?);
    command.args(["demo", "--generate-only", "--clean", "--seed", "7", "--rows", &arguments.rows.to_string(), "--out"]);
    run(command.arg(&data), &scratch.join("generate.log"))?;
    Ok(data)
}

impl<'a> Bench<'a> {
    /// Prepares runs on the input in the folder `data`.
    pub fn on(arguments: &'a Arguments, data: PathBuf, scratch: &'a Path) -> anyhow::Result<Bench<'a>> {
        Ok(Bench { binary: binary(arguments)?, data, scratch, arguments })
    }

    /// Runs a workload once, from the beginning, with a checkpoint `every` so often.
    pub fn riverrun(&self, workload: &str, every: &str) -> anyhow::Result<Cost> {
        let out = self.scratch.join(format!("{workload}.jsonl"));
        let state = self.scratch.join("state");
        for path in [&out, &state] {
            remove(path)?;
        }
        let data = |name: &str| self.data.join(name).display().to_string();
        let mut command = Command::new(&self.binary);
        command.arg("run").arg(job(workload)).args(["-w", "1", "--fresh", "--append", "-q", "--state"]).arg(&state);
        command.arg("--set").arg(format!("sources.clicks.file.path={}", data("clicks.jsonl")));
        if workload == "w1" {
            command.arg("--set").arg(format!("sources.orders.file.path={}", data("orders.jsonl")));
        }
        command.arg("--set").arg(format!("sinks.out.file.path={}", out.display()));
        command.arg("--set").arg(format!("checkpoint.every={every}"));
        run(&mut command, &self.scratch.join("riverrun.log"))
    }

    /// Returns how many rows the last run of a workload wrote.
    pub fn rows(&self, workload: &str) -> anyhow::Result<usize> {
        let out = std::fs::read(self.scratch.join(format!("{workload}.jsonl")))?;
        Ok(out.iter().filter(|byte| **byte == b'\n').count())
    }

    fn check(&self, workload: &str) -> anyhow::Result<String> {
        let out = self.scratch.join(format!("{workload}.jsonl"));
        let rows = self.rows(workload)?;
        // Of W3 the two have rules of their own, so there is nothing to compare but their cost.
        let checker = self.arguments.checker.as_ref().filter(|_| workload != "w3");
        let Some(checker) = checker else {
            let lacks = if workload == "w3" && rows == 0 { ": there are no rage clicks in this input" } else { "" };
            return Ok(format!("{rows} rows{lacks}"));
        };
        let done = Command::new("python3").arg(checker).arg(workload).arg(&self.data).arg(&out).output()?;
        let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        ensure!(done.status.success(), "{workload}: {said}\n{}", String::from_utf8_lossy(&done.stderr));
        Ok(said)
    }
}
