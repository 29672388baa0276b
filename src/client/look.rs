//! `list`, `status`, `logs`, `tap`: what a manager knows of jobs.

use std::time::Duration;

use serde_json::Value;

use super::asks::path;
use super::documents::{LogLine, TappedRecord};
use super::http::Client;
use crate::args::{Global, LogsArgs, ServerArgs, StatusArgs, TapArgs};
use crate::exit::Done;
use crate::manager::{Cause, JobList, JobView, Logs, ProcessEnd, Status, Tapped};
use crate::output::{self, Format, Stdout, grouped};
use crate::progress::clock;
use crate::signals;

/// How often a job that is watched is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Lists jobs.
pub fn list(args: &ServerArgs, global: &Global) -> Done {
    let client = Client::of(args, global)?;
    let mut all: Vec<JobView> = Vec::new();
    let mut after = String::new();
    loop {
        let page: JobList = client.get(&format!("/jobs?limit=1000&cursor={after}"))?;
        all.extend(page.jobs);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(&JobList { jobs: all, next: None })?,
        Format::Table => {
            let row = |job: &JobView| {
                let restarts: u64 = job.restarts.by_reason.values().sum();
                let trouble =
                    job.trouble.as_ref().and_then(|trouble| trouble.message.lines().next()).unwrap_or_default();
                vec![
                    job.name.clone(),
                    job.phase.to_string(),
                    job.since.to_string(),
                    format!("{} x {}", job.processes, job.workers),
                    job.revision.to_string(),
                    restarts.to_string(),
                    trouble.to_owned(),
                ]
            };
            let header = ["job", "state", "since", "processes", "revision", "restarts", ""];
            stdout.line(&output::table(&header, &[4, 5], all.iter().map(row).collect()).to_string())?;
        }
    }
    stdout.flush()
}

/// Shows how a job is doing.
pub fn status(args: &StatusArgs, global: &Global) -> Done {
    let client = Client::of(&args.server, global)?;
    let path = path(&args.job, "status")?;
    if !args.watch {
        let status: Status = client.get(&path)?;
        let mut stdout = Stdout::lock();
        match global.output {
            Format::Json => stdout.document(&status)?,
            Format::Table => stdout.line(&described(&status))?,
        }
        return stdout.flush();
    }
    let asked = signals::notice()?;
    while !signals::asked(&asked) {
        let status: Status = client.get(&path)?;
        let mut stdout = Stdout::lock();
        match global.output {
            Format::Json => stdout.json_line(&status)?,
            Format::Table => stdout.line(&line(&status))?,
        }
        stdout.flush()?;
        drop(stdout);
        std::thread::sleep(WATCH_EVERY);
    }
    Ok(())
}

/// Returns a job in a line.
fn line(status: &Status) -> String {
    let job = &status.job;
    let mut line = format!("{}: {}", job.name, job.phase);
    if let Some(run) = &status.run {
        let snapshot = &run["snapshot"];
        let number = |name: &str| snapshot[name].as_u64().unwrap_or(0);
        line.push_str(&format!(", tick {}, {} rows", grouped(number("tick")), grouped(number("decoded"))));
        if let Some(watermark) = snapshot["watermark"].as_i64().filter(|at| *at > i64::MIN && *at < i64::MAX) {
            line.push_str(&format!(", watermark {}", clock(watermark)));
        }
        if let Some(share) = snapshot["share"].as_f64() {
            line.push_str(&format!(", {:.0} % read", share * 100.0));
        }
    }
    line
}

/// Returns a job for a person.
fn described(status: &Status) -> String {
    let job = &status.job;
    let mut text = format!(
        "{}\n  since {}, revision {}, generation {}, {} x {} workers",
        line(status),
        job.since,
        job.revision,
        job.generation,
        job.processes,
        job.workers
    );
    for process in &status.processes {
        text.push_str(&format!("\n  process {}: {}", process.index, process.state));
        if let Some(cause) = process.cause {
            text.push_str(&format!(" ({})", ended(cause, process.code, process.signal)));
        }
        if let Some(bytes) = process.resident_bytes {
            text.push_str(&format!(", {}", output::bytes(bytes)));
        }
        if let Some(bytes) = process.memory_limit_bytes {
            text.push_str(&format!(" of {}", output::bytes(bytes)));
        }
        if let Some(seconds) = process.cpu_seconds {
            text.push_str(&format!(", {seconds:.1} s of CPU"));
        }
        if let Some(admin) = &process.admin {
            text.push_str(&format!(", http://{admin}"));
        }
    }
    for (reason, count) in &job.restarts.by_reason {
        text.push_str(&format!("\n  restarts ({reason}): {count}"));
    }
    if let Some(trouble) = &job.trouble {
        text.push_str(&format!("\n  trouble at {}: {}", trouble.at, trouble.message.replace('\n', "\n    ")));
        if let Some(ProcessEnd { process, cause, code, signal, cpu_millis, resident_bytes }) = &trouble.end {
            text.push_str(&format!("\n    process {process} ended ({})", ended(*cause, *code, *signal)));
            if let (Some(millis), Some(bytes)) = (cpu_millis, resident_bytes) {
                let (bytes, seconds) = (output::bytes(*bytes), *millis as f64 / 1000.0);
                text.push_str(&format!(", after {seconds:.1} s of CPU, with {bytes} when it was looked at last"));
            }
        }
    }
    text
}

/// Returns how a process ended, in a few words.
fn ended(cause: Cause, code: Option<i32>, signal: Option<i32>) -> String {
    let mut words = vec![cause.to_string()];
    words.extend(code.map(|code| format!("exit code {code}")));
    words.extend(signal.map(|signal| format!("signal {signal}")));
    words.join(", ")
}

/// Shows what the processes of a job said.
pub fn logs(args: &LogsArgs, global: &Global) -> Done {
    let client = Client::of(&args.server, global)?;
    let mut query = format!("?process={}&tail={}", args.process, args.tail);
    if let Some(generation) = args.generation {
        query.push_str(&format!("&generation={generation}"));
    }
    let path = path(&args.job, "logs")? + &query;
    let mut stdout = Stdout::lock();
    if !args.follow {
        let logs: Logs = client.get(&path)?;
        match global.output {
            Format::Json => stdout.document(&logs)?,
            Format::Table => logs.lines.iter().try_for_each(|line| stdout.line(line))?,
        }
        return stdout.flush();
    }
    client.events(&format!("{path}&follow=true"), |event, data| {
        if event == "end" {
            return Ok(false);
        }
        match global.output {
            Format::Json => stdout.json_line(&LogLine { line: data.to_owned() })?,
            Format::Table => stdout.line(data)?,
        }
        stdout.flush()?;
        Ok(true)
    })
}

/// Shows the newest records of a sink.
pub fn tap(args: &TapArgs, global: &Global) -> Done {
    let client = Client::of(&args.server, global)?;
    let mut path = path(&args.job, "tap")? + &format!("?limit={}", args.limit);
    if let Some(sink) = &args.sink {
        // The name of a sink is letters, digits and `_`; others are no sink's.
        let plain: String = sink.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
        path.push_str(&format!("&sink={plain}"));
    }
    let tapped: Tapped = client.get(&path)?;
    let mut stdout = Stdout::lock();
    for record in &tapped.records {
        match global.output {
            Format::Json => {
                let value: Value = serde_json::from_str(record).unwrap_or_else(|_| record.as_str().into());
                let (sink, topic) = (tapped.sink.clone(), tapped.topic.clone());
                stdout.json_line(&TappedRecord { sink, topic, value })?;
            }
            Format::Table => stdout.line(record)?,
        }
    }
    stdout.flush()
}
