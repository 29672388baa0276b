//! Memory stays flat: however much more there is to read than can be written, or than the other input has.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::time::Duration;

use crate::support::shop::START_MS;
use crate::support::{Place, topics};

const MIB: u64 = 1 << 20;

/// Returns the most memory that a process has had, in bytes; none if it is gone or the system does not say.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// Ticks of at most a mebibyte: what is bounded is how many of them are there, not how large one is.
const SMALL_TICKS: &[&str] = &["--set", "tick.max_bytes=1MiB", "--set", "commit.every=10ms"];

/// Runs to the end, watching; returns the most memory it had.
fn watched(run: &crate::support::process::Invocation) -> u64 {
    let mut running = run.start();
    let mut most = 0;
    while !running.ends_within(Duration::from_millis(10)) {
        most = most.max(peak(running.id()).unwrap_or(0));
    }
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    most
}

/// Returns the peak of a job that copies `size` bytes to a pipe that is hardly read.
fn peak_with_a_slow_reader(size: u64) -> u64 {
    let place = Place::new();
    place.write(
        "job.yaml",
        r#"
job: flood
sources:
  rows: { file: { path: in.jsonl }, schema: { text: string, ts: timestamp_ms }, event_time: ts }
sinks:
  out: { from: rows, console: {} }
"#,
    );
    let text = "x".repeat(8000);
    let mut file = BufWriter::new(fs::File::create(place.path("in.jsonl")).unwrap());
    let rows = size / 8000;
    for row in 0..rows {
        writeln!(file, r#"{{"text":"{text}","ts":{}}}"#, START_MS + row as i64).unwrap();
    }
    drop(file);
    let run = place.riverrun(&["run", "job.yaml", "-q", "-w", "1"]).args(SMALL_TICKS);
    let (running, mut stdout) = run.start_with_stdout();
    let (mut most, mut lines) = (0, 0);
    let mut bytes = vec![0; 1 << 20];
    // At first nobody reads at all, then a little at a time.
    std::thread::park_timeout(Duration::from_secs(1));
    loop {
        most = most.max(peak(running.id()).unwrap_or(0));
        let read = stdout.read(&mut bytes).unwrap();
        if read == 0 {
            break;
        }
        lines += bytes[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(lines >= rows, "{lines} of {rows} rows came");
    most
}

#[test]
fn a_source_much_faster_than_the_sink_keeps_memory_flat() {
    if peak(std::process::id()).is_none() {
        eprintln!("SKIPPED: the system does not say how much memory a process has");
        return;
    }
    let (little, much) = (peak_with_a_slow_reader(MIB), peak_with_a_slow_reader(256 * MIB));
    println!("peak {} MiB for 1 MiB, {} MiB for 256 MiB", little / MIB, much / MIB);
    // What a lane holds while its system is slow, some ticks on their way, and what an allocator keeps back.
    assert!(much < little + (64 + 48) * MIB, "{} MiB, {} MiB", little / MIB, much / MIB);
}

/// Returns the peak of a job over a topic of orders with `size` bytes, and one of clicks with a hundredth of their number.
fn peak_of_unlike_topics(size: u64) -> u64 {
    let place = Place::new();
    place.write(
        "job.yaml",
        r#"
job: unlike
sources:
  clicks: { topic: clicks, schema: { user_id: string, ts: timestamp_ms }, event_time: ts }
  orders: { topic: orders, schema: { user_id: string, text: string, ts: timestamp_ms }, event_time: ts }
steps:
  attributed: { attribute: { conversions: orders, touches: clicks, by: [user_id], window: 1m } }
  short: { select: { from: attributed, columns: [user_id, attributed] } }
sinks:
  out: { from: short, file: { path: out.jsonl } }
"#,
    );
    let (mut clicks, mut orders) =
        (topics::producer(&place.path("topics"), "clicks", 1), topics::producer(&place.path("topics"), "orders", 1));
    let text = "x".repeat(4000);
    let rows = (size / 4000) as i64;
    for row in 0..rows {
        let ts = START_MS + row * 1000;
        let order = format!(r#"{{"user_id":"u{}","text":"{text}","ts":{ts}}}"#, row % 100);
        topics::append_lazily(&mut orders, order.as_bytes());
        if row % 100 == 0 {
            topics::append_lazily(&mut clicks, format!(r#"{{"user_id":"u{}","ts":{ts}}}"#, row % 7).as_bytes());
        }
    }
    topics::append(&mut orders, []);
    topics::append(&mut clicks, []);
    let run = place.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(SMALL_TICKS).workers(1);
    let most = watched(&run);
    assert_eq!(place.rows("out.jsonl").len() as i64, rows);
    most
}

#[test]
fn topics_of_very_different_length_keep_memory_flat() {
    if peak(std::process::id()).is_none() {
        eprintln!("SKIPPED: the system does not say how much memory a process has");
        return;
    }
    let (little, much) = (peak_of_unlike_topics(MIB), peak_of_unlike_topics(96 * MIB));
    println!("peak {} MiB for 1 MiB, {} MiB for 96 MiB", little / MIB, much / MIB);
    assert!(much < little + 48 * MIB, "{} MiB, {} MiB", little / MIB, much / MIB);
}
