//! Crashes: the files of a topic in every state in which a cut of power, or a kill, can leave them.
//!
//! Scripts of few writes run on a disk that remembers; in every state that a crash at any moment of it may leave, a reader and
//! the next writer must find every acknowledged row, whole commits only, and go on. What a reader has shown is never taken
//! back. Chance goes further: longer scripts, writes torn at any byte, a crash during the recovery from a crash.

use std::ops::Range;
use std::sync::Arc;

use riverrun_dataflow::sink::{Claim, Lane};
use riverrun_dataflow::testing::dice::{Dice, runs};
use riverrun_dataflow::testing::disk::{Crash, Recorder};

use super::lanes::{keyed, tick};
use super::*;
use crate::topic::sink::TopicLane;

/// A step of a script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The topic is created.
    Create,
    /// A writer opens the partition, in place of the one before.
    Open,
    /// So many records are appended.
    Append(u64),
    /// They are made durable.
    Sync,
    /// A sink's lane is opened.
    Lane,
    /// So many rows are committed.
    Commit(u64),
    /// Rows of a commit are handed over that never ends.
    Begin(u64),
}
use Step::{Append, Begin, Commit, Create, Lane as OpenLane, Open, Sync};

/// Segments so small that most commits begin a new one.
const TINY: u64 = 1024;
const LARGE: u64 = 1 << 20;

const SCRIPTS: &[(u64, &[Step])] = &[
    (LARGE, &[Create]),
    (LARGE, &[Create, Open, Append(1), Sync]),
    (LARGE, &[Open, Append(3), Sync]),
    (LARGE, &[Open, Append(1), Sync, Append(2), Sync, Append(1), Sync]),
    (LARGE, &[Open, Append(40), Sync, Append(1), Sync]),
    (LARGE, &[Open, Append(2), Sync, Open, Append(1), Sync]),
    (LARGE, &[Open, Append(2), Sync, Append(9), Open, Append(1), Sync]),
    (TINY, &[Open, Append(20), Sync, Append(1), Sync]),
    (TINY, &[Open, Append(20), Sync, Append(20), Sync]),
    (TINY, &[Open, Append(20), Sync, Append(1), Sync, Open, Append(1), Sync]),
    (LARGE, &[OpenLane, Commit(3)]),
    (LARGE, &[OpenLane, Commit(1), Commit(0), Commit(2)]),
    (LARGE, &[OpenLane, Commit(2), OpenLane, Commit(2)]),
    (LARGE, &[OpenLane, Commit(2), Begin(9), OpenLane, Commit(1)]),
    (LARGE, &[OpenLane, Commit(60)]),
    (TINY, &[OpenLane, Commit(20), Commit(1)]),
    (TINY, &[OpenLane, Commit(20), OpenLane, Commit(1)]),
    (TINY, &[Create, OpenLane, Commit(1)]),
];

/// What plays a script.
enum Hand {
    None,
    Writer(Writer),
    Lane(TopicLane),
}

/// A script under way: the rows that were given, and those that were promised.
struct Play<'a> {
    dir: &'a Path,
    disk: Arc<Recorder>,
    segment_bytes: u64,
    hand: Hand,
    /// Rows before each promise, by its number; 0 is the beginning.
    promises: Vec<Promised>,
    /// Commits are ticks 1, 2, ...; the rows up to each.
    commits: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    rows: u64,
    ticks: u64,
    /// The topic is there.
    created: bool,
}

/// A folder on which a flush costs nothing, if there is one.
pub(super) fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn claim() -> Claim {
    let of = |s: &str| s.to_owned();
    Claim { job: of("j"), incarnation: of("i"), sink: of("s"), generation: 1, fresh: false, append: true }
}

fn options(segment_bytes: u64) -> CreateOptions {
    CreateOptions { partitions: 1, segment_bytes }
}

impl Play<'_> {
    fn topic(&self) -> Topic {
        Topic::open(self.dir, "t").unwrap()
    }

    fn last(&self) -> Promised {
        *self.promises.last().unwrap()
    }

    fn promise(&mut self, promised: Promised) {
        self.disk.promise(self.promises.len() as u64);
        self.promises.push(promised);
    }

    fn step(&mut self, step: Step) -> Result<(), TopicError> {
        match step {
            Create => {
                Topic::create_on(&*self.disk, self.dir, "t", &options(self.segment_bytes))?;
                self.promise(Promised { created: true, ..Promised::default() });
            }
            Open => {
                self.hand = Hand::None;
                let writer = Writer::open_on(self.disk.clone(), &self.topic(), 0, "a test")?;
                let rows = writer.next();
                self.hand = Hand::Writer(writer);
                self.promise(Promised { rows, ..self.last() });
            }
            Append(rows) => {
                let Hand::Writer(writer) = &mut self.hand else { panic!("no writer") };
                for n in writer.next()..writer.next() + rows {
                    assert_eq!(writer.append(Kind::Plain, &row(n).record())?, n);
                }
            }
            Sync => {
                let Hand::Writer(writer) = &mut self.hand else { panic!("no writer") };
                writer.sync()?;
                let rows = writer.acknowledged();
                self.promise(Promised { rows, ..self.last() });
            }
            OpenLane => {
                self.hand = Hand::None;
                let (lane, ticks) = open_lane(&self.topic(), &self.disk)?;
                self.hand = Hand::Lane(lane);
                // A commit of which the process did not hear any more may be there, whole.
                self.commits.truncate(usize::try_from(ticks).unwrap() + 1);
                self.promise(Promised { rows: self.commits[ticks as usize], ticks, ..self.last() });
            }
            Commit(rows) => {
                let from = self.last().rows;
                let ticks = self.last().ticks + 1;
                self.commits.push(from + rows);
                let Hand::Lane(lane) = &mut self.hand else { panic!("no lane") };
                let given = if rows == 0 { vec![] } else { vec![tick(ticks, from..from + rows)] };
                lane.commit(ticks, &given).map_err(|e| TopicError::Option(e.to_string()))?;
                self.promise(Promised { rows: from + rows, ticks, ..self.last() });
            }
            Begin(rows) => self.begin(rows),
        }
        Ok(())
    }

    /// Writes the rows of a commit without its token, as a process does that is killed within a large commit.
    fn begin(&mut self, rows: u64) {
        self.hand = Hand::None;
        let mut writer = Writer::open_on(self.disk.clone(), &self.topic(), 0, "a test").unwrap();
        for n in writer.next()..writer.next() + rows {
            writer.append(Kind::Rows, &keyed(n..n + 1)[0].record()).unwrap();
        }
        writer.write_unfinished();
    }
}

fn open_lane(topic: &Topic, disk: &Arc<Recorder>) -> Result<(TopicLane, u64), TopicError> {
    let writer = Writer::open_on(disk.clone(), topic, 0, "a test")?;
    let taken = TopicLane::take(writer, "t", 0, &claim()).map_err(|e| TopicError::Option(e.to_string()))?;
    Ok((taken.0, taken.1.map_or(0, |t| t.tick)))
}

fn is_commits(script: &[Step]) -> bool {
    script.iter().any(|step| matches!(step, OpenLane))
}

/// Plays a script in an empty folder.
fn play<'a>(dir: &'a Path, segment_bytes: u64, script: &[Step]) -> Play<'a> {
    let mut created = false;
    if !matches!(script[0], Create) {
        create(dir, segment_bytes);
        created = true;
    }
    let disk = Recorder::new(dir);
    let promises = vec![Promised { created, ..Promised::default() }];
    let mut play = Play { dir, disk, segment_bytes, hand: Hand::None, promises, commits: vec![0] };
    script.iter().for_each(|step| play.step(*step).unwrap());
    play.hand = Hand::None;
    play
}

fn plain(range: Range<u64>) -> Vec<Row> {
    range.map(row).collect()
}

/// Checks what a crash left in `dir`: reads it, writes on, reads that. Returns what is promised by being shown, and then by
/// being written.
fn check(
    dir: &Path,
    disk: &Arc<Recorder>,
    segment_bytes: u64,
    crash: Promised,
    commits: Option<&[u64]>,
    name: &str,
) -> (Promised, Promised) {
    let expected = if commits.is_some() { keyed } else { plain };
    let opened = Topic::open(dir, "t");
    let created = opened.is_ok();
    let topic = match opened {
        Err(TopicError::Missing { .. }) if !crash.created => {
            Topic::create_on(&**disk, dir, "t", &options(segment_bytes)).unwrap_or_else(|e| panic!("{name}: {e}"))
        }
        opened => opened.unwrap_or_else(|e| panic!("{name}: {e}")),
    };
    let seen = rows_of(&topic).unwrap_or_else(|e| panic!("{name}: {e}"));
    let count = seen.len() as u64;
    assert_eq!(seen, expected(0..count), "{name}: other rows");
    assert!(count >= crash.rows, "{name}: {count} of {} acknowledged rows", crash.rows);
    let (rows, ticks) = if let Some(commits) = commits {
        let (mut lane, ticks) = open_lane(&topic, disk).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(ticks >= crash.ticks, "{name}: token {ticks} of {}", crash.ticks);
        let rows = commits[ticks as usize];
        assert_eq!(rows_of(&topic).unwrap(), expected(0..rows), "{name}: part of a commit");
        lane.commit(ticks + 1, &[tick(ticks + 1, rows..rows + 1)]).unwrap();
        (rows + 1, ticks + 1)
    } else {
        let mut writer = Writer::open_on(disk.clone(), &topic, 0, "a test").unwrap_or_else(|e| panic!("{name}: {e}"));
        let rows = writer.next();
        append(&mut writer, rows..rows + 2);
        writer.sync().unwrap();
        (rows + 2, 0)
    };
    assert!(rows > count, "{name}: a row that was shown is gone");
    assert_eq!(rows_of(&topic).unwrap(), expected(0..rows), "{name}: what follows the recovery");
    (Promised { rows: count, ticks: crash.ticks, created }, Promised { rows, ticks, created: true })
}

fn put(crash: &Crash, dir: &Path) -> Arc<Recorder> {
    crash.tree.put(dir);
    Recorder::new(dir)
}

#[test]
fn every_crash_of_every_script_leaves_what_was_acknowledged() {
    let mut states = 0;
    for (number, (segment_bytes, script)) in SCRIPTS.iter().enumerate() {
        let (dir, after) = (quick_dir(), quick_dir());
        let play = play(dir.path(), *segment_bytes, script);
        let recording = play.disk.recording();
        assert!(recording.writes() <= 12, "script {number} has {} writes", recording.writes());
        let commits = is_commits(script).then_some(&play.commits[..]);
        states += recording.crash_everywhere(&mut |crash| {
            let name = format!("script {number}, {:?}", &recording.acts()[..crash.acts]);
            let disk = put(crash, after.path());
            let promised = play.promises[crash.promised as usize];
            check(after.path(), &disk, *segment_bytes, promised, commits, &name);
        });
    }
    println!("{} scripts, {states} crash states", SCRIPTS.len());
    assert!(states > 2000, "{states}");
}

fn random_script(dice: &mut Dice) -> (u64, Vec<Step>) {
    let mut script = Vec::new();
    if dice.one_in(4) {
        script.push(Create);
    }
    let is_lane = dice.one_in(2);
    script.push(if is_lane { OpenLane } else { Open });
    for _ in 0..1 + dice.below(9) {
        let rows = *dice.of(&[0, 1, 1, 2, 5, 30]);
        match (is_lane, dice.below(8)) {
            (true, 0) => script.extend([Begin(rows), OpenLane]),
            (true, 1) => script.push(OpenLane),
            (true, _) => script.push(Commit(rows)),
            (false, 0) => script.extend([Append(rows), Open]),
            (false, _) => script.extend([Append(rows), Sync]),
        }
    }
    (*dice.of(&[TINY, TINY, 4096, LARGE]), script)
}

#[test]
fn crashes_at_random_and_during_recovery_leave_what_was_acknowledged() {
    for seed in 0..runs("RIVERRUN_CRASHES", 300) {
        let mut dice = Dice::new(seed as u64);
        let (segment_bytes, script) = random_script(&mut dice);
        let (dir, after) = (quick_dir(), quick_dir());
        let mut play = play(dir.path(), segment_bytes, &script);
        let mut crash = play.disk.recording().crash_somewhere(&mut dice);
        let mut promised = play.promises[crash.promised as usize];
        for depth in 0..3 {
            let name = format!("seed {seed}, crash {depth} of {script:?}");
            let disk = put(&crash, after.path());
            let commits = is_commits(&script).then_some(&play.commits[..]);
            let (shown, next) = check(after.path(), &disk, segment_bytes, promised, commits, &name);
            disk.promise(1);
            crash = disk.recording().crash_somewhere(&mut dice);
            promised = if crash.promised == 1 { next } else { shown };
            // The commit of the check is one more that may be found.
            play.commits.truncate(next.ticks as usize);
            play.commits.push(next.rows);
        }
    }
}

/// Checks what was left in `dir` of records of which so many were acknowledged.
pub(super) fn check_plain(dir: &Path, acknowledged: u64, name: &str) {
    let promised = Promised { rows: acknowledged, ticks: 0, created: true };
    check(dir, &Recorder::new(dir), LARGE, promised, None, name);
}
