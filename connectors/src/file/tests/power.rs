//! Cuts of power: the file sink and its sidecar in every state in which one can leave them.
//!
//! Scripts of few writes run on a disk that keeps apart what was not synced. In every state that a crash at any moment may
//! leave, the lane opens, every tick that was acknowledged is there and none in part, and the job goes on. Chance goes
//! further: longer scripts, writes torn at any byte, crashes during the recovery from a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use riverrun_dataflow::sink::{Claim, EncodedRows, Lane, Sink, SinkError, TickRows};
use riverrun_dataflow::testing::dice::{Dice, runs};
use riverrun_dataflow::testing::disk::{Crash, Recorder};

use super::super::{FileSink, FileSinkConfig};

/// A step of a script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The lane is opened, in place of the one before.
    Open,
    /// So many rows are committed.
    Commit(usize),
    /// The job is started afresh: what it wrote before is replaced.
    Fresh,
}
use Step::{Commit, Fresh, Open};

/// What is there before a script begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nothing, not even the folder.
    Nothing,
    /// Somebody's rows, to which the job adds its own.
    Rows,
}

const HEADER: &str = "a,b\n";
const THEIRS: &str = "their,row\nand one without an end";

const SCRIPTS: &[(Before, &[Step])] = &[
    (Before::Nothing, &[Open]),
    (Before::Nothing, &[Open, Commit(3)]),
    (Before::Nothing, &[Open, Commit(1), Commit(0)]),
    (Before::Nothing, &[Open, Commit(2), Open, Commit(1)]),
    (Before::Nothing, &[Open, Commit(2), Fresh]),
    (Before::Nothing, &[Open, Commit(2), Fresh, Commit(1)]),
    (Before::Rows, &[Open]),
    (Before::Rows, &[Open, Commit(2)]),
];

/// A script under way.
struct Play {
    path: PathBuf,
    before: Before,
    disk: Arc<Recorder>,
    lane: Option<Box<dyn Lane>>,
    incarnation: u64,
    generation: u64,
    /// Rows of each tick of each incarnation that were given, the first incarnation at 1.
    given: Vec<Vec<usize>>,
    /// By the number of a promise: incarnation and ticks that were acknowledged.
    promises: Vec<(u64, usize)>,
}

fn sink(disk: &Arc<Recorder>, path: &Path) -> FileSink {
    FileSink::on(disk.clone(), FileSinkConfig { path: path.to_owned(), preamble: HEADER.into() })
}

fn claim(before: Before, incarnation: u64, generation: u64) -> Claim {
    Claim {
        job: "shop".into(),
        incarnation: format!("i{incarnation}"),
        sink: "out".into(),
        generation,
        fresh: incarnation > 1,
        append: before == Before::Rows,
    }
}

fn rows(incarnation: u64, tick: usize, count: usize) -> Vec<String> {
    (0..count).map(|row| format!("{incarnation},{tick},{row},{}", "x".repeat((tick * 7 + row) % 40))).collect()
}

fn tick_rows(incarnation: u64, tick: usize, count: usize) -> TickRows {
    let mut given = TickRows { tick: tick as u64, rows: EncodedRows::default(), times: vec![0; count] };
    for text in rows(incarnation, tick, count) {
        given.rows.bytes.extend_from_slice(text.as_bytes());
        given.rows.end_row(None);
    }
    given
}

/// The file when so many ticks of an incarnation are committed.
fn expected(before: Before, incarnation: u64, ticks: &[usize]) -> String {
    let mut text = match before {
        Before::Nothing => HEADER.to_owned(),
        Before::Rows => format!("{THEIRS}\n"),
    };
    for (tick, count) in ticks.iter().enumerate() {
        text.extend(rows(incarnation, tick + 1, *count).into_iter().map(|row| row + "\n"));
    }
    text
}

impl Play {
    fn open(&mut self) -> Result<(), SinkError> {
        self.lane = None;
        self.generation += 1;
        let claim = claim(self.before, self.incarnation, self.generation);
        let (lane, token) = sink(&self.disk, &self.path).open(0, &claim)?;
        self.lane = Some(lane);
        let ticks = token.map_or(0, |token| usize::try_from(token.tick).unwrap());
        // A commit of which the process did not hear any more may be there, whole.
        self.given[self.incarnation as usize].truncate(ticks);
        self.promise(ticks);
        Ok(())
    }

    fn promise(&mut self, ticks: usize) {
        self.disk.promise(self.promises.len() as u64);
        self.promises.push((self.incarnation, ticks));
    }

    fn step(&mut self, step: Step) -> Result<(), SinkError> {
        match step {
            Open => self.open(),
            Fresh => {
                self.incarnation += 1;
                self.generation = 0;
                self.given.push(Vec::new());
                self.open()
            }
            Commit(count) => {
                let ticks = &mut self.given[self.incarnation as usize];
                ticks.push(count);
                let tick = ticks.len();
                let given = if count == 0 { vec![] } else { vec![tick_rows(self.incarnation, tick, count)] };
                self.lane.as_mut().unwrap().commit(tick as u64, &given)?;
                self.promise(tick);
                Ok(())
            }
        }
    }
}

/// A folder on which a flush costs nothing, if there is one.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn path_in(dir: &Path, before: Before) -> PathBuf {
    match before {
        Before::Nothing => dir.join("sub/out.csv"),
        Before::Rows => dir.join("out.csv"),
    }
}

fn play(dir: &Path, before: Before, script: &[Step]) -> Play {
    let path = path_in(dir, before);
    if before == Before::Rows {
        fs::write(&path, THEIRS).unwrap();
    }
    let (given, promises) = (vec![Vec::new(), Vec::new()], vec![(1, 0)]);
    let disk = Recorder::new(dir);
    let mut play = Play { path, before, disk, lane: None, incarnation: 1, generation: 0, given, promises };
    script.iter().for_each(|step| play.step(*step).unwrap());
    play.lane = None;
    play
}

/// Opens what a crash left in `dir` as the job's next start does, and commits one more tick. Returns the disk, on which that
/// is promise 1, and the ticks before and after.
fn check(dir: &Path, play: &Play, promised: (u64, usize), name: &str) -> (Arc<Recorder>, usize) {
    let disk = Recorder::new(dir);
    let path = path_in(dir, play.before);
    // What the last start of the script was is what the job is; it may have been given up before anything of it was durable.
    let (incarnation, promised) = (play.incarnation, if promised.0 == play.incarnation { promised.1 } else { 0 });
    let claim = claim(play.before, incarnation, play.generation + 1);
    let opened = sink(&disk, &path).open(0, &claim);
    let (mut lane, token) = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
    let ticks = token.map_or(0, |token| usize::try_from(token.tick).unwrap());
    assert!(ticks >= promised, "{name}: {ticks} of {promised} acknowledged ticks");
    let mut given = play.given[incarnation as usize][..ticks].to_vec();
    let left = || fs::read_to_string(&path).unwrap();
    assert_eq!(left(), expected(play.before, incarnation, &given), "{name}: what was found");
    given.push(1);
    lane.commit(given.len() as u64, &[tick_rows(incarnation, given.len(), 1)]).unwrap();
    assert_eq!(left(), expected(play.before, incarnation, &given), "{name}: what follows the recovery");
    disk.promise(1);
    (disk, ticks)
}

#[test]
fn every_cut_of_power_leaves_what_was_acknowledged() {
    let mut states = 0;
    for (number, (before, script)) in SCRIPTS.iter().enumerate() {
        let (dir, after) = (quick_dir(), quick_dir());
        let play = play(dir.path(), *before, script);
        let recording = play.disk.recording();
        assert!(recording.writes() <= 12, "script {number} has {} writes", recording.writes());
        states += recording.crash_everywhere(&mut |crash| {
            let name = format!("script {number}, {:?}", &recording.acts()[..crash.acts]);
            crash.tree.put(after.path());
            check(after.path(), &play, play.promises[crash.promised as usize], &name);
        });
    }
    println!("{} scripts, {states} crash states", SCRIPTS.len());
    assert!(states > 300, "{states}");
}

fn random_script(dice: &mut Dice) -> (Before, Vec<Step>) {
    let mut script = vec![Open];
    for _ in 0..1 + dice.below(8) {
        script.push(match dice.below(8) {
            0 => Open,
            1 => Fresh,
            _ => Commit(*dice.of(&[0, 1, 2, 5, 200])),
        });
    }
    let before = *dice.of(&[Before::Nothing, Before::Nothing, Before::Rows]);
    // Who adds to what is there cannot begin afresh in the same file.
    script.retain(|step| before == Before::Nothing || !matches!(step, Fresh));
    (before, script)
}

#[test]
fn cuts_of_power_at_random_and_during_recovery_leave_what_was_acknowledged() {
    for seed in 0..runs("RIVERRUN_CRASHES", 200) {
        let mut dice = Dice::new(seed as u64);
        let (before, script) = random_script(&mut dice);
        let (dir, after) = (quick_dir(), quick_dir());
        let mut play = play(dir.path(), before, &script);
        let mut crash: Crash = play.disk.recording().crash_somewhere(&mut dice);
        let mut promised = play.promises[crash.promised as usize];
        for depth in 0..3 {
            let name = format!("seed {seed}, crash {depth} of {before:?} {script:?}");
            crash.tree.put(after.path());
            let (disk, ticks) = check(after.path(), &play, promised, &name);
            play.generation += 1;
            // The commit of the check is one more that may be found, in place of those that were lost.
            let given = &mut play.given[play.incarnation as usize];
            given.truncate(ticks);
            given.push(1);
            crash = disk.recording().crash_somewhere(&mut dice);
            promised = (play.incarnation, ticks + usize::try_from(crash.promised).unwrap());
        }
    }
}
