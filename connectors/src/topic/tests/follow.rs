//! Two processes: one writes and is killed, again and again; the other follows.

use std::process::{Child, Command, Stdio};

use riverrun_dataflow::sink::{Claim, Sink};

use super::lanes::{keyed, tick};
use super::*;
use crate::topic::{Begin, TopicSink};

/// Set for the process that writes.
const DIR: &str = "RIVERRUN_TEST_TOPIC_DIR";
const ROWS_PER_TICK: u64 = 7;
/// A writer that is this far ahead of where it began waits to be killed, so that the test is as long on any disk.
const TICKS_MAX: u64 = 100;

fn claim(generation: u64) -> Claim {
    let of = |s: &str| s.to_owned();
    Claim { job: of("j"), incarnation: of("i"), sink: of("s"), generation, fresh: false, append: false }
}

/// Does nothing in a test run. In a process that was started by [`start`] it commits ticks until it is killed.
#[test]
fn writer_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let sink = TopicSink::new(&dir, "t", None);
    let (mut lane, token) = sink.open(0, &claim(1)).unwrap();
    let first = token.map_or(0, |t| t.tick) + 1;
    for t in first..first + TICKS_MAX {
        lane.commit(t, &[tick(t, (t - 1) * ROWS_PER_TICK..t * ROWS_PER_TICK)]).unwrap();
    }
    loop {
        std::thread::park();
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "topic::tests::follow::writer_process", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_follower_sees_every_row_once_while_writers_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let topic = create(dir.path(), 16 * 1024);
    let mut tail = Tail::open(&topic, None, Begin::Start).unwrap();
    let mut seen = 0u64;
    for kill in 1..=8 {
        let mut child = start(dir.path());
        let goal = seen + 40 * kill;
        while seen < goal {
            match tail.read().unwrap() {
                Some(record) => {
                    let expected = &keyed(seen..seen + 1)[0];
                    assert_eq!((record.offset, &record.value), (seen, &expected.value));
                    seen += 1;
                }
                None => {
                    assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
                    std::thread::yield_now();
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Whole commits only, and as many as the next writer finds a token for.
        let rows = rows_of(&topic).unwrap().len() as u64;
        assert!(rows >= seen && rows.is_multiple_of(ROWS_PER_TICK), "{rows} rows, {seen} seen");
        let (lane, token) = TopicSink::new(dir.path(), "t", None).open(0, &claim(1)).unwrap();
        assert_eq!(token.unwrap().tick * ROWS_PER_TICK, rows);
        drop(lane);
    }
    let rows = rows_of(&topic).unwrap();
    assert_eq!(rows, keyed(0..rows.len() as u64));
    assert!(topic.describe().unwrap()[0].segments >= 2);
}

#[test]
fn what_is_not_read_is_as_old_as_the_first_record_behind_the_position() {
    const MINUTE: i64 = 60_000_000;
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(&create(dir.path(), 1 << 20));
    for minutes in [60, 5] {
        let timestamp = crate::topic::now_micros() - minutes * MINUTE;
        writer.append(Kind::Plain, &Record { timestamp, key: None, value: b"row" }).unwrap();
    }
    writer.append(Kind::Plain, &Record { timestamp: crate::topic::NO_TIME, key: None, value: b"row" }).unwrap();
    writer.sync().unwrap();
    let source = TopicSource::new(dir.path(), "t");
    let behind = |position: u64| {
        let read = [("0".to_owned(), position)].into_iter().collect();
        source.outlook(&read).get("0").and_then(|outlook| outlook.behind).map(|age| age.as_secs() / 60)
    };
    assert_eq!([behind(0), behind(1), behind(2), behind(3)], [Some(60), Some(5), None, Some(0)]);
    assert_eq!(behind(9), None, "who reads it says what is wrong with it");
}
