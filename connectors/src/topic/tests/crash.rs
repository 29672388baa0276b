//! Crashes: the files as they may be after the process died, or the power was cut, between or within any two writes.
//!
//! A script runs on a disk that keeps a trace. From the trace every state is built that a crash can leave: all writes so far
//! and part of the next one; or, without power, what was flushed and of the rest nothing, a part, zeroed pages, or later
//! pages without earlier ones; and any state that the synced file ever had, for it is never flushed. In each state a reader
//! and the next writer must find every acknowledged row and whole commits only.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use riverrun_dataflow::sink::{Claim, Lane};

use super::lanes::{keyed, tick};
use super::*;
use crate::topic::disk::{Disk, FileSystem};
use crate::topic::sink::TopicLane;
use crate::topic::synced;

/// What happened, in order.
#[derive(Clone, Debug)]
enum Event {
    Write { path: PathBuf, at: usize, bytes: Vec<u8> },
    Sync { path: PathBuf },
    Cut { path: PathBuf, length: usize },
    Install { path: PathBuf, bytes: Vec<u8> },
    Acknowledged(Acknowledged),
}

/// What a crash must leave.
#[derive(Clone, Copy, Debug, Default)]
struct Acknowledged {
    rows: u64,
    tick: u64,
}

#[derive(Clone, Debug, Default)]
struct Trace(Arc<Mutex<Vec<Event>>>);

impl Trace {
    fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Disk for Trace {
    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        self.push(Event::Write { path: path.into(), at: at as usize, bytes: bytes.into() });
        FileSystem.write(file, path, bytes, at)
    }
    fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
        self.push(Event::Sync { path: path.into() });
        Ok(())
    }
    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.push(Event::Cut { path: path.into(), length: length as usize });
        file.set_len(length)
    }
    fn install(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.push(Event::Install { path: path.into(), bytes: bytes.into() });
        fs::write(path, bytes)
    }
    fn folder(&self, _: &Path) -> io::Result<()> {
        unreachable!("the topic is there")
    }
    fn place(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("the topic is there")
    }
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn write_at(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn load(dir: &Path) -> Files {
    fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn store(dir: &Path, files: &Files) {
    for entry in fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()) {
        if !files.contains_key(&entry) {
            fs::remove_file(entry).unwrap();
        }
    }
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// The files as they evolve: what is durable, and what the system has not flushed.
struct Machine {
    synced_path: PathBuf,
    /// What is on the disk for certain; without the synced file.
    durable: Files,
    /// Writes to one file since it was last flushed.
    pending: Vec<(PathBuf, usize, Vec<u8>)>,
    /// Every state that the synced file had.
    synced: Vec<Vec<u8>>,
    acknowledged: Acknowledged,
}

impl Machine {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { path, at, bytes } if *path == self.synced_path => {
                let mut next = self.synced.last().unwrap().clone();
                write_at(&mut next, *at, bytes);
                self.synced.push(next);
            }
            Event::Write { path, at, bytes } => self.pending.push((path.clone(), *at, bytes.clone())),
            Event::Sync { path } => {
                for (written, at, bytes) in std::mem::take(&mut self.pending) {
                    assert_eq!(written, *path, "a file is left with writes that are not flushed");
                    write_at(self.durable.get_mut(path).unwrap(), at, &bytes);
                }
            }
            Event::Cut { path, length } => self.durable.get_mut(path).unwrap().truncate(*length),
            Event::Install { path, bytes } => {
                self.durable.insert(path.clone(), bytes.clone());
            }
            Event::Acknowledged(now) => self.acknowledged = *now,
        }
    }

    /// Every state of the files but the synced one that a crash may leave now, before or within `next`.
    fn states(&self, next: Option<&Event>) -> Vec<Files> {
        let mut states = vec![self.durable.clone()];
        let mut pending = self.pending.clone();
        match next {
            Some(Event::Write { path, at, bytes }) if *path != self.synced_path => {
                pending.push((path.clone(), *at, bytes.clone()));
            }
            Some(Event::Install { path, bytes }) => {
                let mut staged = self.durable.clone();
                staged.insert(path.with_extension("tmp"), bytes[..bytes.len() / 2].to_vec());
                states.push(staged);
            }
            _ => {}
        }
        let Some((path, _, last)) = pending.last() else { return states };
        let whole = |parts: &[(PathBuf, usize, Vec<u8>)]| {
            let mut files = self.durable.clone();
            for (path, at, bytes) in parts {
                write_at(files.get_mut(path).unwrap(), *at, bytes);
            }
            files
        };
        states.push(whole(&pending));
        let start = pending.last().unwrap().1;
        for torn in 0..last.len() {
            let mut parts = pending.clone();
            parts.last_mut().unwrap().2.truncate(torn);
            states.push(whole(&parts));
            if torn % 5 != 0 {
                continue;
            }
            // The file has its new length, but only the beginning, or only the end, was written.
            let mut files = whole(&pending);
            files.get_mut(path).unwrap()[start + torn..].fill(0);
            states.push(files);
            let mut files = whole(&pending);
            files.get_mut(path).unwrap()[start..start + torn].fill(0);
            states.push(files);
            if torn % 15 == 0 {
                let mut files = whole(&pending);
                files.get_mut(path).unwrap()[start + torn..].fill(0xa5);
                states.push(files);
            }
        }
        states
    }

    /// The synced file as a crash may leave it.
    fn synced_states(&self) -> Vec<Option<Vec<u8>>> {
        let newest = self.synced.last().unwrap();
        let mut torn = newest.clone();
        torn[3] ^= 0xff;
        let mut lost = torn.clone();
        lost[67] ^= 0xff;
        let mut states = vec![Some(newest.clone()), Some(self.synced[0].clone()), Some(torn), Some(lost), None];
        states.extend(self.synced.iter().rev().nth(1).cloned().map(Some));
        states
    }
}

/// A folder on which a flush costs nothing, if there is one.
pub(super) fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn claim() -> Claim {
    let of = |s: &str| s.to_owned();
    Claim { job: of("j"), incarnation: of("i"), sink: of("s"), generation: 1, fresh: false, append: true }
}

fn open_lane(topic: &Topic, trace: &Trace) -> (TopicLane, u64) {
    let writer = Writer::open_on(Arc::new(trace.clone()), topic, 0, "a test").unwrap();
    let (lane, token) = TopicLane::take(writer, "t", 0, &claim()).unwrap();
    (lane, token.map_or(0, |t| t.tick))
}

/// Runs a script and looks at every state that a crash within it may leave. `expected`: the first so many rows.
/// `commits`: how many rows there may be when ticks are committed; any number if the script commits none.
fn check(
    segment_bytes: u64,
    expected: fn(std::ops::Range<u64>) -> Vec<Row>,
    commits: Option<fn(u64) -> u64>,
    script: impl FnOnce(&Topic, &Trace),
) -> usize {
    let dir = quick_dir();
    let topic = create(dir.path(), segment_bytes);
    let folder = topic.partition_dir(0);
    let synced_path = folder.join(synced::NAME);
    let mut durable = load(&folder);
    let synced = vec![durable.remove(&synced_path).unwrap()];
    let trace = Trace::default();
    script(&topic, &trace);
    let events = trace.0.lock().unwrap().clone();

    let acknowledged = Acknowledged::default();
    let mut machine = Machine { synced_path: synced_path.clone(), durable, pending: Vec::new(), synced, acknowledged };
    let mut count = 0;
    for (index, next) in events.iter().map(Some).chain([None]).enumerate() {
        let synced_states = machine.synced_states();
        for (number, files) in machine.states(next).into_iter().enumerate() {
            for (other, synced) in synced_states.iter().enumerate() {
                // All pairs would be many times more; each state meets two of the synced file's, in turn.
                if number > 2 && other != 0 && other != number % synced_states.len() {
                    continue;
                }
                let mut files = files.clone();
                synced.iter().for_each(|bytes| drop(files.insert(synced_path.clone(), bytes.clone())));
                store(&folder, &files);
                count += 1;
                let name = format!("event {index}, state {number}, synced {other}");
                check_state(&topic, &machine.acknowledged, expected, commits, &name);
            }
        }
        next.into_iter().for_each(|event| machine.apply(event));
    }
    count
}

fn check_state(
    topic: &Topic,
    acknowledged: &Acknowledged,
    expected: fn(std::ops::Range<u64>) -> Vec<Row>,
    commits: Option<fn(u64) -> u64>,
    name: &str,
) {
    let seen = rows_of(topic).unwrap_or_else(|e| panic!("{name}: {e}"));
    let count = seen.len() as u64;
    assert_eq!(seen, expected(0..count), "{name}: other rows");
    assert!(count >= acknowledged.rows, "{name}: {count} of {} acknowledged rows", acknowledged.rows);

    let quiet = Trace::default();
    let rows = if let Some(commits) = commits {
        let (mut lane, tick_found) = open_lane(topic, &quiet);
        assert!(tick_found >= acknowledged.tick, "{name}: token {tick_found} of {}", acknowledged.tick);
        let rows = commits(tick_found);
        assert_eq!(rows_of(topic).unwrap(), expected(0..rows), "{name}: part of a commit");
        lane.commit(tick_found + 1, &[tick(tick_found + 1, rows..rows + 1)]).unwrap();
        rows + 1
    } else {
        let mut writer = Writer::open_on(Arc::new(quiet), topic, 0, "a test").unwrap();
        let rows = writer.next();
        append(&mut writer, rows..rows + 2);
        writer.sync().unwrap();
        rows + 2
    };
    assert!(rows > count, "{name}: a row that was shown is gone");
    assert_eq!(rows_of(topic).unwrap(), expected(0..rows), "{name}: what follows the recovery");
}

fn plain_rows(range: std::ops::Range<u64>) -> Vec<Row> {
    range.map(row).collect()
}

#[test]
fn acknowledged_records_survive_a_crash_at_any_byte() {
    let states = check(1024, plain_rows, None, |topic, trace| {
        let mut writer = Writer::open_on(Arc::new(trace.clone()), topic, 0, "a test").unwrap();
        for (from, to) in [(0, 3), (3, 4), (4, 12), (12, 20), (20, 34), (34, 35), (35, 55), (55, 60)] {
            append(&mut writer, from..to);
            writer.sync().unwrap();
            trace.push(Event::Acknowledged(Acknowledged { rows: to, tick: 0 }));
        }
        assert!(topic.describe().unwrap()[0].segments >= 3);
    });
    assert!(states > 5000, "{states}");
}

fn rows_at(tick: u64) -> u64 {
    match tick {
        0 => 0,
        10 => 3,
        20 => 4,
        30 => 4,
        40 => 24,
        50 => 31,
        other => panic!("no commit ends at tick {other}"),
    }
}

#[test]
fn commits_are_whole_or_absent_after_a_crash_at_any_byte() {
    let states = check(1500, keyed, Some(rows_at), |topic, trace| {
        let (mut lane, _) = open_lane(topic, trace);
        let mut rows = 0;
        for upto in [10, 20, 30, 40, 50] {
            let to = rows_at(upto);
            let ticks = if to > rows { vec![tick(upto, rows..to)] } else { Vec::new() };
            lane.commit(upto, &ticks).unwrap();
            rows = to;
            trace.push(Event::Acknowledged(Acknowledged { rows, tick: upto }));
            if upto == 30 {
                // A recovery in the middle, itself part of the trace.
                drop(lane);
                lane = open_lane(topic, trace).0;
            }
        }
        assert!(topic.describe().unwrap()[0].segments >= 2);
    });
    assert!(states > 5000, "{states}");
}

#[test]
fn a_crash_during_recovery_loses_nothing() {
    // The last commit was written, whole or in part, but not flushed when the process died.
    for missing_percent in [0, 1, 30, 60, 90] {
        let states = check(1 << 20, keyed, Some(rows_at), |topic, trace| {
            let (mut lane, _) = open_lane(topic, trace);
            lane.commit(10, &[tick(10, 0..3)]).unwrap();
            drop(lane);
            trace.push(Event::Acknowledged(Acknowledged { rows: 3, tick: 10 }));

            let folder = topic.partition_dir(0);
            let path = folder.join(format!("{:020}.log", 0));
            let before = load(&folder);
            let (mut lane, _) = open_lane(topic, &Trace::default());
            lane.commit(20, &[tick(20, 3..4)]).unwrap();
            drop(lane);
            let at = before[&path].len();
            let mut bytes = fs::read(&path).unwrap().split_off(at);
            bytes.truncate(bytes.len() * (100 - missing_percent) / 100);
            let mut crashed = before;
            crashed.get_mut(&path).unwrap().extend_from_slice(&bytes);
            store(&folder, &crashed);
            trace.push(Event::Write { path, at, bytes });

            let (_, token) = open_lane(topic, trace);
            assert_eq!(token, if missing_percent == 0 { 20 } else { 10 });
            trace.push(Event::Acknowledged(Acknowledged { rows: rows_at(token), tick: token }));
        });
        assert!(states > 100, "{states}");
    }
}
