//! What the processes of jobs said: their logs, rotated ones included, and behind them what they wrote to stderr.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;

use super::call::{Answer, Call};
use super::shapes::Logs;
use crate::manager::Manager;
use crate::manager::problem::{Kind, Problem};
use crate::manager::processes::ProcessFolder;
use crate::supervised::{LOG, LOGS_ASIDE};

/// Lines, unless somebody says otherwise.
const TAIL: usize = 200;
/// How often a follower looks for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// What is read of a log at once.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Answers with lines, or with a stream of them.
pub fn logs(manager: &Arc<Manager>, call: &Call) -> Result<Answer, Problem> {
    let job = manager.job(call.job()?)?;
    let generation = call.number("generation", 1..=u64::MAX)?.unwrap_or(job.generation);
    let process = call.number("process", 0..=1023)?.unwrap_or(0);
    let tail = call.number("tail", 1..=10_000)?.unwrap_or(TAIL);
    let after = call.number("after", 0..=u64::MAX)?;
    let folder = manager.processes.generation(&job.name, generation).process(process);
    if !folder.path.is_dir() {
        let detail = format!(
            "process {process} of generation {generation} of job `{}` has said nothing, or too long ago",
            job.name
        );
        return Err(Problem::new(Kind::NotFound, detail));
    }
    let last = call.header("last-event-id").and_then(|id| id.parse().ok());
    if call.switch("follow")? {
        let from = last.or(after).unwrap_or_else(|| first_position(&folder, tail));
        return Ok(Answer::Stream(follow(manager.clone(), folder, from)));
    }
    let (lines, next) = match after {
        Some(after) => read(&folder, after),
        None => {
            let (mut lines, next) = read(&folder, 0);
            // What is no log line: a panic, a library's own words, the last message.
            let beside = lines_of(&folder.stderr(), length_of(&folder.stderr()).saturating_sub(READ_BYTES_MAX));
            lines.extend(beside.into_iter().map(|(line, _)| (line, next)));
            lines.drain(..lines.len().saturating_sub(tail));
            (lines, next)
        }
    };
    let lines = lines.into_iter().map(|(line, _)| line).collect();
    Ok(Answer::json(&Logs { generation, process, lines, next }))
}

/// The logs of a process, the oldest first.
fn files(folder: &ProcessFolder) -> Vec<PathBuf> {
    let aside = |number: usize| folder.path.join(LOG).with_extension(number.to_string());
    let logs = (1..=LOGS_ASIDE).rev().map(aside);
    logs.chain([folder.path.join(LOG)]).filter(|path| path.is_file()).collect()
}

/// Reads whole lines that begin at `after` or later, with the position after each. Positions count the bytes of all files that are
/// there, as if they were one; a position that is gone because the oldest was deleted stands for the last of them.
fn read(folder: &ProcessFolder, after: u64) -> (Vec<(String, u64)>, u64) {
    let mut lines = Vec::new();
    let mut begin = 0;
    let all: Vec<(PathBuf, u64)> = files(folder).into_iter().map(|path| (path.clone(), length_of(&path))).collect();
    let whole: u64 = all.iter().map(|(_, length)| length).sum();
    let last = all.last().map_or(0, |(_, length)| *length);
    let after = if after > whole { whole - last } else { after };
    let mut next = after;
    for (path, length) in all {
        if begin + length > after {
            let from = after.saturating_sub(begin).max(length.saturating_sub(READ_BYTES_MAX));
            for (line, end) in lines_of(&path, from) {
                next = begin + end;
                lines.push((line, next));
            }
        }
        begin += length;
    }
    (lines, next)
}

fn length_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

fn lines_of(path: &Path, from: u64) -> Vec<(String, u64)> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(READ_BYTES_MAX).read_to_end(&mut bytes)
    });
    if opened.is_err() {
        return Vec::new();
    }
    let mut at = from;
    let mut found = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        at += line.len() as u64;
        found.push((String::from_utf8_lossy(&line[..line.len() - 1]).into_owned(), at));
    }
    found
}

fn first_position(folder: &ProcessFolder, tail: usize) -> u64 {
    let (lines, _) = read(folder, 0);
    let first = lines.len().saturating_sub(tail);
    if first == 0 { 0 } else { lines[first - 1].1 }
}

/// Returns lines as server-sent events, as they come, until the process has ended or the manager does. The id of each is the position
/// after it.
fn follow(manager: Arc<Manager>, folder: ProcessFolder, from: u64) -> Body {
    let look = move |state: (Arc<Manager>, ProcessFolder, u64, bool)| async move {
        let (manager, folder, at, ended) = state;
        if ended {
            return None;
        }
        let looked = tokio::task::spawn_blocking(move || {
            // Asked before the last look: what it said before it ended is not missed.
            let ended = !folder.is_locked() || manager.is_ending();
            let (lines, next) = read(&folder, at);
            (manager, folder, lines, next, ended)
        });
        let (manager, folder, lines, next, ended) = looked.await.ok()?;
        if lines.is_empty() && !ended {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
        let mut text = String::new();
        for (line, position) in lines {
            text.push_str(&format!("id: {position}\ndata: {line}\n\n"));
        }
        if ended {
            text.push_str("event: end\ndata: \n\n");
        }
        Some((Ok::<_, std::io::Error>(Bytes::from(text)), (manager, folder, next, ended)))
    };
    Body::from_stream(stream::unfold((manager, folder, from, false), look))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_across_files_and_on_from_a_position() {
        let folder = tempfile::tempdir().unwrap();
        let process = ProcessFolder { index: 0, path: folder.path().to_owned() };
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("log.1", "one\ntwo\n");
        write("log", "three\nfo");
        let (lines, next) = read(&process, 0);
        let texts: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!((texts, next), (vec!["one", "two", "three"], 14));
        write("log", "three\nfour\n");
        let (lines, next) = read(&process, next);
        assert_eq!(lines.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>(), ["four"]);
        assert_eq!(read(&process, next).0, []);
        assert_eq!(first_position(&process, 2), 8);
        assert_eq!(first_position(&process, 9), 0);
    }
}
