//! A job that was brought to a halt half-way, what it left behind, and what it writes in the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use riverrun_connectors::file::committed_length;
use riverrun_connectors::topic::{Begin, CreateOptions, Partitioning, Producer, ProducerOptions, Record, Tail, Topic};
use riverrun_dataflow::engine::{Control, Observer};
use riverrun_jobs::run::{Ended, Ground, RunError, RunOptions, run_on};
use riverrun_jobs::{Environment, Plan, RegistryPlace, Topics, check};
use riverrun_state::{KeepLog, Retention, Store};

/// Small ticks and a checkpoint after each, so that half-way there is some of everything.
const JOB: &str = r#"
job: damaged
sources:
  clicks: { topic: clicks, format: json, schema: { id: string, user: string, item: string, ts: timestamp_ms }, event_time: ts, id: id, max_disorder: 5s }
  orders: { file: { path: FOLDER/orders.jsonl }, format: json, schema: { id: string, user: string, price: "decimal(12,2)", ts: timestamp_ms }, event_time: ts, id: id, max_disorder: 5s }
steps:
  minutes: { window: { from: clicks, tumble: 1m, by: [item], aggregates: { clicks: "count(*)", users: "count(distinct user)" } } }
  credited: { attribute: { conversions: orders, touches: clicks, by: [user], window: 20m } }
sinks:
  out: { from: credited, file: { path: FOLDER/out.jsonl } }
  counts: { from: minutes, topic: counts }
tick: { max_rows: 8 }
commit: { every: 10ms }
checkpoint: { every: 10ms }
"#;

/// How a job came to a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It was asked to stop: all is committed and in a checkpoint.
    Stopped,
    /// It ended at once: ticks after the last checkpoint wait to be derived again.
    Crashed,
}

/// What a job has written, as far as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The file.
    pub rows: Vec<u8>,
    /// The topic.
    pub records: Vec<Vec<u8>>,
}

impl Output {
    /// Returns whether each partition of the topic begins with what `left` has in it.
    pub fn has_begun_with(&self, left: &Output) -> bool {
        self.records.starts_with(&left.records)
    }
}

/// See the module.
pub struct Scene {
    folder: tempfile::TempDir,
    plan: Plan,
    /// How it came to this.
    pub halt: Halt,
    /// What the job writes in the end.
    pub expected: Output,
}

impl Scene {
    /// Runs the job until it is half-way, keeps what it left, and finishes a copy.
    pub fn new(halt: Halt) -> Scene {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made");
        let work = folder.path().join("work");
        let text = JOB.replace("FOLDER", work.to_str().expect("a plain path"));
        let planned = |overrides: &[String]| {
            check("job.yaml", &text, overrides).map(|(plan, _)| plan).unwrap_or_else(|report| panic!("{report}"))
        };
        // Many checkpoints half-way, and none after: writing them is what takes the time.
        let (often, plan) = (planned(&[]), planned(&["checkpoint.every=1h".to_owned(), "commit.every=1h".to_owned()]));
        let expected = Output { rows: Vec::new(), records: Vec::new() };
        let mut scene = Scene { folder, plan, halt, expected };
        // A fast machine is at the end before there is some of everything: it gets more to do.
        let mut rows = 450;
        while !scene.halted_half_way(&often, rows) {
            rows += rows / 2;
            assert!(rows < 10_000, "the job is always at its end before it is brought to a halt");
        }
        copy(&work, &scene.kept());
        scene.finish().unwrap_or_else(|error| panic!("without damage: {error}"));
        scene.expected = scene.output().unwrap_or_else(|error| panic!("without damage: {error}"));
        assert!(!scene.expected.rows.is_empty() && scene.expected.records.len() > 10, "it writes something");
        scene
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Returns where the file `inside` is when the job runs.
    pub fn path(&self, inside: &Path) -> PathBuf {
        self.work().join(inside)
    }

    /// Returns the files that the job left, each with its length; its input files, which are not its own, are not among them.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let kept = self.kept();
        let mut found = Vec::new();
        list(&kept, &mut found);
        let own = found.into_iter().filter(|path| !path.ends_with("orders.jsonl"));
        let length = |path: &Path| usize::try_from(fs::metadata(path).expect("it is there").len()).expect("a length");
        let mut files: Vec<(PathBuf, usize)> =
            own.map(|path| (path.strip_prefix(&kept).expect("it was found there").to_owned(), length(&path))).collect();
        files.sort();
        files
    }

    /// Returns how many bytes at the beginning of the output file a start does not read again: of what is committed it reads the last
    /// 64 KiB, however much there is.
    pub fn unread(&self) -> usize {
        let committed = committed_length(&self.kept().join("out.jsonl")).ok().flatten().unwrap_or(0);
        usize::try_from(committed).map_or(0, |committed| committed.saturating_sub(64 << 10))
    }

    /// Puts everything back to where the job was brought to a halt.
    pub fn restore(&self) {
        fs::remove_dir_all(self.work()).expect("the test can write");
        copy(&self.kept(), &self.work());
    }

    /// Runs the job to its end; returns what was said aloud.
    pub fn finish(&self) -> Result<Vec<String>, RunError> {
        let (control, observer) = (Control::new(), Arc::new(Observer::default()));
        let outcome = run_on(&self.plan, self.ground()?, &self.options(1), control, observer)?;
        assert!(matches!(outcome.ended, Ended::Finished | Ended::AlreadyFinished), "{:?}", outcome.ended);
        Ok(outcome.warnings)
    }

    /// Returns what counts of what was written.
    pub fn output(&self) -> Result<Output, String> {
        let path = self.work().join("out.jsonl");
        let length = committed_length(&path).map_err(|error| error.to_string())?.unwrap_or(0);
        let mut rows = fs::read(&path).map_err(|error| error.to_string())?;
        rows.truncate(usize::try_from(length).map_err(|error| error.to_string())?);
        let topic = Topic::open(&self.work().join("topics"), "counts").map_err(|error| error.to_string())?;
        let mut tail = Tail::open(&topic, None, Begin::Start).map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        while let Some(record) = tail.read().map_err(|error| error.to_string())? {
            records.push(record.value);
        }
        Ok(Output { rows, records })
    }

    fn ground(&self) -> Result<Ground, RunError> {
        let topics = Topics::parse(self.work().join("topics").to_str().expect("a plain path"));
        let connected =
            self.plan.connect(&Environment { topics, until_end: true, registry: RegistryPlace::Nowhere })?;
        // Little is kept, so that the log has a floor.
        let retention = Retention { checkpoints: 3, keep_for: Duration::ZERO, log: KeepLog::Needed };
        Ok(Ground { connected, store: Store::folder(&self.work().join("state"))?, retention })
    }

    fn options(&self, workers: usize) -> RunOptions {
        RunOptions {
            state: riverrun_state::Location::Folder(self.work().join("state")),
            workers,
            fresh: false,
            append: false,
        }
    }

    /// Runs the job over so many rows and brings it to a halt; returns whether it was not at its end before.
    fn halted_half_way(&self, plan: &Plan, rows: i64) -> bool {
        let work = self.work();
        if work.is_dir() {
            fs::remove_dir_all(&work).expect("the test can write");
        }
        fs::create_dir(&work).expect("the test can write");
        write_input(&work, rows);
        let (control, observer) = (Control::new(), Arc::new(Observer::default()));
        let ground = self.ground().unwrap_or_else(|error| panic!("{error}"));
        let ended = std::thread::scope(|scope| {
            let run = scope.spawn(|| run_on(plan, ground, &self.options(2), control.clone(), observer.clone()));
            // Late: what is left is done again at every strike.
            let is_half_way = || observer.snapshot().tick >= 85 && self.inside("floor").is_dir();
            while !is_half_way() && !run.is_finished() {
                std::thread::park_timeout(Duration::from_micros(200));
            }
            match self.halt {
                Halt::Stopped => control.stop(),
                Halt::Crashed => control.abort("the test ends it here"),
            }
            run.join().expect("the engine does not panic")
        });
        match (self.halt, ended) {
            (Halt::Stopped, Ok(outcome)) if outcome.ended == Ended::Stopped => {}
            (Halt::Crashed, Err(_)) => {}
            (_, Ok(outcome)) if outcome.ended == Ended::Finished => return false,
            (halt, ended) => panic!("{halt:?}: {ended:?}"),
        }
        for folder in ["log", "floor", "state"] {
            assert!(self.inside(folder).is_dir(), "half-way there is some {folder}");
        }
        true
    }

    fn inside(&self, folder: &str) -> PathBuf {
        self.work().join("state/jobs/damaged").join(folder)
    }
}

fn write_input(folder: &Path, rows: i64) {
    let options = CreateOptions { partitions: 2, segment_bytes: 4096 };
    let topic = Topic::create(&folder.join("topics"), "clicks", &options).expect("the topic is new");
    let options = ProducerOptions { partitioning: Partitioning::RoundRobin, ..ProducerOptions::default() };
    let mut producer = Producer::open(&topic, options).expect("nobody else writes it");
    let mut orders = String::new();
    for n in 0..rows {
        let ts = 1_767_225_600_000 + n * 2000;
        let (user, item) = (n * 7 % 13, n * 5 % 11);
        let value = format!(r#"{{"id":"c{n}","user":"u{user}","item":"i{item}","ts":{ts}}}"#);
        producer.append(&Record { timestamp: ts * 1000, key: None, value: value.as_bytes() }).expect("there is room");
        if n % 3 == 0 {
            let user = n * 5 % 17;
            orders += &format!("{{\"id\":\"o{n}\",\"user\":\"u{user}\",\"price\":\"{n}.50\",\"ts\":{}}}\n", ts + 500);
        }
    }
    producer.sync().expect("there is room");
    fs::write(folder.join("orders.jsonl"), orders).expect("the test can write");
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder stays").path();
        match path.is_dir() {
            true => list(&path, found),
            false => found.push(path),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test can write");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("the folder stays").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, target).expect("the test can write")),
        }
    }
}
