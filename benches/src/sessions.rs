//! A million sessions that are open at once: what they take in memory, and what their end in one tick costs.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::Arguments;
use crate::compare::Bench;

/// Keys where nobody says otherwise.
const KEYS: [u64; 1] = [1_000_000];
/// Within how much event time all sessions begin, in ms: less than the gap of W2, so that none ends before the last one begins.
const SPAN_MS: u64 = 20 * 60 * 1000;
/// When the first one begins.
const BEGIN_MS: u64 = 1_767_225_600_000;
/// Events of each session.
const EVENTS: u64 = 2;

/// Runs W2 on so many users, all of whom are there until the end.
pub fn sessions(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    println!("| open sessions | CPU s | peak MiB | bytes a session | wall s | output |");
    println!("|---|---|---|---|---|---|");
    for keys in arguments.keys_or(&KEYS) {
        let data = scratch.join("open");
        write(&data, keys)?;
        let bench = Bench::on(arguments, data, scratch)?;
        let cost = bench.riverrun("w2", "1h")?;
        let rows = bench.rows("w2")?;
        ensure!(rows as u64 == keys, "{keys} sessions were open, and {rows} came out");
        let (cpu, wall) = (cost.cpu.as_secs_f64(), cost.wall.as_secs_f64());
        let (peak, each) = (cost.peak_kib / 1024, cost.peak_kib * 1024 / keys);
        println!("| {keys} | {cpu:.2} | {peak} | {each} | {wall:.2} | {rows} rows |");
    }
    Ok(())
}

/// Writes the events of `keys` users, in the order of their times.
fn write(data: &Path, keys: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let mut out = BufWriter::new(std::fs::File::create(data.join("clicks.jsonl"))?);
    for number in 0..keys * EVENTS {
        let (user, item) = (number % keys, number % 1009);
        let ts = BEGIN_MS + number * SPAN_MS / (keys * EVENTS);
        writeln!(
            out,
            r#"{{"event_id":"e{number}","ts":{ts},"user_id":"u-{user:07}","session_id":"s-{user:08}","item_id":"i-{item:06}","event_type":"click","page":"/p/{item}","x":1,"y":2}}"#
        )?;
    }
    out.flush().context("cannot write the events")
}
