//! The file sink in every state that a crash can leave behind, and against files that are not its own.

use std::fs::{self, File, write};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use riverrun_dataflow::disk::{Disk, FileSystem, Opening};
use riverrun_dataflow::sink::{Claim, Lane, Sink, SinkError, TickRows, Token};
use tempfile::{TempDir, tempdir};

use super::super::sidecar::{Sidecar, TAIL};
use super::super::{FileSink, FileSinkConfig, committed_length};

const HEADER: &str = "a,b\n";

fn sink(path: &Path) -> FileSink {
    FileSink::new(FileSinkConfig { path: path.to_owned(), preamble: HEADER.into() })
}

fn claim(generation: u64) -> Claim {
    Claim {
        job: "shop".into(),
        incarnation: "i1".into(),
        sink: "out".into(),
        generation,
        fresh: generation == 1,
        append: false,
    }
}

fn rows(tick: u64, texts: &[String]) -> TickRows {
    let mut given = TickRows { tick, ..TickRows::default() };
    for text in texts {
        given.rows.bytes.extend_from_slice(text.as_bytes());
        given.rows.end_row(None);
    }
    given
}

fn tick_texts(tick: u64, count: usize) -> Vec<String> {
    (0..count).map(|row| format!("{tick},{row}{}", "x".repeat((tick as usize * 7 + row) % 40))).collect()
}

fn open(path: &Path, claim: &Claim) -> Result<(Box<dyn Lane>, Option<u64>), SinkError> {
    let (lane, token) = sink(path).open(0, claim)?;
    Ok((lane, token.map(|Token { tick, .. }| tick)))
}

fn refusal(path: &Path, claim: &Claim) -> SinkError {
    open(path, claim).err().expect("refused")
}

/// The content of a file and of its sidecar.
type State = (Vec<u8>, Vec<u8>);

/// Runs ticks 1 to `count` with a commit each, and returns the file and its sidecar after the opening and after each commit.
fn history(count: u64) -> (TempDir, PathBuf, Vec<State>) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("sub/out.csv");
    let (mut lane, token) = open(&path, &claim(1)).unwrap();
    assert_eq!(token, None);
    let state = || (fs::read(&path).unwrap(), fs::read(Sidecar::path(&path)).unwrap());
    let mut states = vec![state()];
    for tick in 1..=count {
        lane.commit(tick, &[rows(tick, &tick_texts(tick, 3))]).unwrap();
        states.push(state());
    }
    (dir, path, states)
}

fn expected(ticks: std::ops::RangeInclusive<u64>) -> String {
    let lines = ticks.flat_map(|tick| tick_texts(tick, 3)).map(|line| line + "\n");
    HEADER.to_owned() + &lines.collect::<String>()
}

/// Puts files as a crash left them and finishes the job: whatever was there, the rows of ticks 1 to 4 are.
fn recovers(what: &str, file: Option<&[u8]>, sidecar: Option<&[u8]>, temporary: Option<&[u8]>, committed: Option<u64>) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let place = |path: &Path, content: Option<&[u8]>| content.map(|content| write(path, content).unwrap());
    let side = Sidecar::path(&path);
    place(&path, file);
    place(&side, sidecar);
    let left = PathBuf::from(format!("{}.1.tmp", side.display()));
    place(&left, temporary);
    let (mut lane, token) = open(&path, &claim(2)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((token, left.exists()), (committed, false), "{what}");
    let done = committed.unwrap_or(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), expected(1..=done), "{what}");
    for tick in done + 1..=4 {
        lane.commit(tick, &[rows(tick, &tick_texts(tick, 3))]).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), expected(1..=4), "{what}");
    assert_eq!(committed_length(&path).unwrap(), Some(expected(1..=4).len() as u64));
}

/// Returns where a write from `from` to `to` may be torn: its first and last bytes, and every few between.
fn cuts(from: usize, to: usize) -> impl Iterator<Item = usize> {
    (from..=to).filter(move |cut| cut - from < 2 || to - cut < 2 || (cut - from).is_multiple_of(17))
}

#[test]
fn every_crash_recovers_to_the_committed_rows() {
    let (_dir, _, states) = history(4);
    // Before the first sidecar there is no file, or an empty one.
    recovers("nothing", None, None, None, None);
    recovers("created", Some(b""), None, None, None);
    recovers("torn first sidecar", Some(b""), None, Some(&states[0].1[..20]), None);
    let mut empty = Sidecar::new("shop", "out", "i1", 1);
    let dir = tempdir().unwrap();
    empty.write(&FileSystem, &dir.path().join("x")).unwrap();
    let first = fs::read(dir.path().join("x.riverrun.json")).unwrap();
    for cut in 0..=HEADER.len() {
        let file = &HEADER.as_bytes()[..cut];
        let dir = tempdir().unwrap();
        let path = dir.path().join("out.csv");
        write(&path, file).unwrap();
        write(Sidecar::path(&path), &first).unwrap();
        let (_, token) = open(&path, &claim(2)).unwrap();
        assert_eq!((token, fs::read_to_string(&path).unwrap().as_str()), (None, HEADER), "header cut at {cut}");
    }
    for (tick, pair) in states.windows(2).enumerate() {
        let ((old, old_side), (new, new_side)) = (&pair[0], &pair[1]);
        let committed = (tick > 0).then_some(tick as u64);
        for cut in cuts(old.len(), new.len()) {
            recovers("rows half written", Some(&new[..cut]), Some(old_side), None, committed);
            // Blocks that were not synced may be lost or hold anything.
            let mut garbled = new[..cut].to_vec();
            garbled[old.len()..].fill(0);
            recovers("rows lost", Some(&garbled), Some(old_side), None, committed);
        }
        for cut in cuts(0, new_side.len()) {
            recovers("sidecar half written", Some(new), Some(old_side), Some(&new_side[..cut]), committed);
        }
        recovers("sidecar renamed", Some(new), Some(new_side), None, Some(tick as u64 + 1));
    }
}

#[test]
fn damage_to_committed_rows_is_never_taken() {
    let (_dir, _, states) = history(3);
    let (file, side) = states.last().unwrap();
    let opened = |file: &[u8], side: &[u8]| {
        let dir = tempdir().unwrap();
        let path = dir.path().join("out.csv");
        write(&path, file).unwrap();
        write(Sidecar::path(&path), side).unwrap();
        refusal(&path, &claim(2))
    };
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1;
        let error = opened(&flipped, side);
        assert!(matches!(&error, SinkError::Damaged { .. }), "{error}");
        let error = opened(&file[..at], side);
        assert!(matches!(&error, SinkError::Damaged { .. }) && error.to_string().contains("were committed"), "{error}");
    }
    for at in 0..side.len() - 1 {
        let mut flipped = side.clone();
        flipped[at] ^= 1;
        let error = opened(file, &flipped);
        assert!(matches!(&error, SinkError::Damaged { .. }), "{at}: {error}");
    }
}

#[test]
fn a_second_writer_is_fenced() {
    let (_dir, path, _) = history(1);
    let (_lane, _) = open(&path, &claim(2)).unwrap();
    let error = refusal(&path, &claim(3));
    assert!(matches!(&error, SinkError::Fenced(text) if text.contains("another process")), "{error}");
}

/// A disk on which the process is frozen before it renames, until a later start has committed.
#[derive(Debug)]
struct Frozen(PathBuf);

impl Disk for Frozen {
    fn open(&self, path: &Path, how: Opening) -> io::Result<File> {
        FileSystem.open(path, how)
    }
    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        FileSystem.write(file, path, bytes, at)
    }
    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        FileSystem.cut(file, path, length)
    }
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        FileSystem.sync(file, path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // The lock of a frozen process is on the file that it has open; its successor finds another one there.
        let copy = self.0.with_extension("copy");
        fs::copy(&self.0, &copy)?;
        fs::rename(&copy, &self.0)?;
        open(&self.0, &claim(3)).unwrap().0.commit(2, &[rows(2, &tick_texts(2, 3))]).unwrap();
        FileSystem.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileSystem.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        FileSystem.remove(path)
    }
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        FileSystem.make_folder(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        FileSystem.remove_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        FileSystem.sync_folder(path)
    }
}

#[test]
fn a_process_that_was_frozen_before_a_rename_takes_nothing_from_its_successor() {
    let (_dir, path, _) = history(1);
    let config = FileSinkConfig { path: path.clone(), preamble: HEADER.into() };
    let frozen = FileSink::on(Arc::new(Frozen(path.clone())), config);
    let (mut lane, _) = frozen.open(0, &claim(2)).unwrap();
    let error = lane.commit(2, &[rows(2, &tick_texts(2, 3))]).expect_err("it was overtaken");
    assert!(matches!(&error, SinkError::Fenced(text) if text.contains("later start")), "{error}");
    assert_eq!(open(&path, &claim(4)).unwrap().1, Some(2));
    assert_eq!(fs::read_to_string(&path).unwrap(), expected(1..=2));
}

#[test]
fn an_older_generation_is_fenced() {
    let (_dir, path, _) = history(1);
    let (mut lane, _) = open(&path, &claim(5)).unwrap();
    lane.commit(2, &[]).unwrap();
    drop(lane);
    let error = refusal(&path, &claim(4));
    assert!(matches!(&error, SinkError::Fenced(text) if text.contains("generation 5")), "{error}");
    assert_eq!(open(&path, &claim(5)).unwrap().1, Some(2));
}

#[test]
fn files_of_others_are_refused_or_added_to() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("out.csv");
    write(&path, "theirs").unwrap();
    let error = refusal(&path, &claim(1));
    assert!(matches!(&error, SinkError::Refused(text) if text.contains("--append")), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");

    let append = Claim { append: true, ..claim(1) };
    let (mut lane, token) = open(&path, &append).unwrap();
    assert_eq!(token, None);
    lane.commit(1, &[rows(1, &["mine".to_owned()])]).unwrap();
    drop(lane);
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs\nmine\n");

    let other = Claim { job: "other".into(), incarnation: "o1".into(), ..claim(1) };
    let error = refusal(&path, &other);
    assert!(error.to_string().contains("belongs to sink `out` of job `shop`"), "{error}");
    assert_eq!(open(&path, &claim(2)).unwrap().1, Some(1), "the refused job touched nothing");
    // A folder is no file.
    let error = refusal(dir.path(), &claim(1));
    assert!(matches!(&error, SinkError::Refused(text) if text.contains("not a regular file")), "{error}");
}

#[test]
fn starting_over_replaces_what_the_job_owns() {
    let (_dir, path, states) = history(3);
    let again = Claim { incarnation: "i2".into(), fresh: false, ..claim(1) };
    assert!(refusal(&path, &again).to_string().contains("--fresh"));
    assert_eq!(fs::read(&path).unwrap(), states[3].0);
    let fresh = Claim { fresh: true, ..again };
    let (mut lane, token) = open(&path, &fresh).unwrap();
    assert_eq!((token, fs::read_to_string(&path).unwrap().as_str()), (None, HEADER));
    lane.commit(1, &[rows(1, &tick_texts(1, 3))]).unwrap();
    drop(lane);
    assert_eq!(fs::read_to_string(&path).unwrap(), expected(1..=1));
    // A crash after the new sidecar and before the old rows were cut.
    let mut empty = Sidecar::new("shop", "out", "i3", 1);
    write(&path, &states[3].0).unwrap();
    empty.write(&FileSystem, &path).unwrap();
    let (_, token) = open(&path, &Claim { incarnation: "i3".into(), ..claim(2) }).unwrap();
    assert_eq!((token, fs::read_to_string(&path).unwrap().as_str()), (None, HEADER));
}

#[test]
fn a_vanished_output_is_told() {
    let (_dir, path, _) = history(2);
    fs::remove_file(&path).unwrap();
    let error = refusal(&path, &claim(2));
    assert!(error.to_string().contains("it has 0 bytes"), "{error}");
}

#[test]
fn large_commits_and_empty_ones_are_whole() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let (mut lane, _) = open(&path, &claim(1)).unwrap();
    let long = "y".repeat(3 * TAIL);
    let texts: Vec<String> = (0..60).map(|i| format!("{i}{long}")).collect();
    lane.commit(4, &[rows(2, &texts[..30]), rows(3, &texts[30..])]).unwrap();
    lane.commit(9, &[]).unwrap();
    drop(lane);
    let (_, token) = open(&path, &claim(2)).unwrap();
    assert_eq!(token, Some(9));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}{}\n", texts.join("\n")));
}

/// A limit on the size of files stands in for a full disk, where there is one to be had: here a folder that takes no new sidecar.
#[test]
fn a_failed_commit_is_not_tried_again() {
    let (_dir, path, states) = history(1);
    let (mut lane, _) = open(&path, &claim(2)).unwrap();
    let blocked = PathBuf::from(format!("{}.2.tmp", Sidecar::path(&path).display()));
    fs::create_dir(&blocked).unwrap();
    let error = lane.commit(2, &[rows(2, &tick_texts(2, 3))]).unwrap_err();
    assert!(matches!(error, SinkError::Write { .. }), "{error}");
    fs::remove_dir(&blocked).unwrap();
    let error = lane.commit(2, &[rows(2, &tick_texts(2, 3))]).unwrap_err();
    assert!(error.to_string().contains("an earlier write failed"), "{error}");
    drop(lane);
    let (_, token) = open(&path, &claim(3)).unwrap();
    assert_eq!((token, fs::read(&path).unwrap()), (Some(1), states[1].0.clone()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn crashes_at_random_lose_and_double_nothing(
        steps in prop::collection::vec((1_u64..4, 0_usize..5, any::<bool>(), any::<Vec<u8>>()), 1..12),
    ) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("out.csv");
        let (mut lane, _) = open(&path, &claim(1)).unwrap();
        let (mut tick, mut generation, mut wanted) = (0, 1, HEADER.to_owned());
        for (ticks, count, crash, garbage) in steps {
            tick += ticks;
            let texts = tick_texts(tick, count);
            lane.commit(tick, &[rows(tick, &texts)]).unwrap();
            wanted.extend(texts.into_iter().map(|line| line + "\n"));
            if crash {
                drop(lane);
                let mut torn = fs::read(&path).unwrap();
                torn.extend(garbage);
                write(&path, torn).unwrap();
                generation += 1;
                let token;
                (lane, token) = open(&path, &claim(generation)).unwrap();
                prop_assert_eq!(token, Some(tick));
            }
            prop_assert_eq!(&fs::read_to_string(&path).unwrap(), &wanted);
        }
    }
}
