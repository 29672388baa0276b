//! Sinks: a commit is there once and whole, or not at all; and who may write after whom.

use std::sync::Arc;

use riverrun_dataflow::sink::{Claim, EncodedRows, Lane, Sink, SinkError, TickRows, Token};

use super::*;
use crate::topic::TopicSink;

fn claim(incarnation: &str, generation: u64) -> Claim {
    Claim {
        job: "j".into(),
        incarnation: incarnation.into(),
        sink: "s".into(),
        generation,
        fresh: false,
        append: false,
    }
}

/// Tick `tick` with the rows `from..to`.
pub(super) fn tick(tick: u64, range: std::ops::Range<u64>) -> TickRows {
    let mut rows = EncodedRows::default();
    let mut times = Vec::new();
    for row in range.map(row) {
        rows.bytes.extend_from_slice(row.key.as_deref().unwrap_or_default());
        rows.bytes.extend_from_slice(&row.value);
        rows.end_row(Some(row.key.as_ref().map_or(0, |k| u32::try_from(k.len()).unwrap())));
        times.push(row.timestamp);
    }
    TickRows { tick, rows, times }
}

/// Rows as they come back from a sink whose rows all have keys.
pub(super) fn keyed(range: std::ops::Range<u64>) -> Vec<Row> {
    range.map(|n| Row { key: Some(row(n).key.unwrap_or_default()), ..row(n) }).collect()
}

fn open(dir: &Path, claim: &Claim) -> Result<(Box<dyn Lane>, Option<Token>), SinkError> {
    TopicSink::new(dir, "t", None).open(0, claim)
}

fn token(incarnation: &str, generation: u64, tick: u64) -> Option<Token> {
    Some(Token { incarnation: incarnation.into(), generation, tick })
}

fn topic(dir: &Path) -> Topic {
    Topic::open(dir, "t").unwrap()
}

#[test]
fn a_job_finds_its_token_again_over_restarts_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), 1024);
    let (mut lane, none) = open(dir.path(), &claim("a", 1)).unwrap();
    assert_eq!(none, None);
    let mut generation = 1;
    for n in 1..60 {
        lane.commit(n * 10, &[tick(n * 10 - 5, n * 4 - 4..n * 4 - 1), tick(n * 10, n * 4 - 1..n * 4)]).unwrap();
        if n % 7 == 0 {
            drop(lane);
            let (again, found) = open(dir.path(), &claim("a", generation + 1)).unwrap();
            assert_eq!(found, token("a", generation, n * 10));
            generation += 1;
            lane = again;
        }
        assert_eq!(rows_of(&topic(dir.path())).unwrap(), keyed(0..n * 4));
    }
    drop(lane);
    // Opened and left without a commit, again and again: the token stays what it was.
    for generation in 90..95 {
        assert_eq!(open(dir.path(), &claim("a", generation)).unwrap().1, token("a", generation.min(90).min(9), 590));
    }
    assert!(topic(dir.path()).describe().unwrap()[0].segments > 5);
}

#[test]
fn a_commit_may_be_empty_of_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (mut lane, _) = open(dir.path(), &claim("a", 1)).unwrap();
    lane.commit(4, &[]).unwrap();
    drop(lane);
    assert_eq!(open(dir.path(), &claim("a", 1)).unwrap().1, token("a", 1, 4));
    assert_eq!(rows_of(&topic(dir.path())).unwrap(), []);
}

#[test]
fn an_earlier_generation_is_fenced_by_a_later_one_that_only_opened() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), &claim("a", 7)).unwrap());
    let fenced = open(dir.path(), &claim("a", 6)).err();
    assert!(matches!(fenced, Some(SinkError::Fenced(_))), "{fenced:?}");
    assert!(open(dir.path(), &claim("a", 7)).is_ok());
}

#[test]
fn a_partition_that_is_held_says_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(dir.path(), &claim("a", 3)).unwrap();
    let Some(SinkError::Fenced(said)) = open(dir.path(), &claim("a", 4)).err() else { panic!("it was not held") };
    assert!(said.contains("job `j`, sink `s`, generation 3"), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
}

#[test]
fn another_incarnation_needs_leave_to_append() {
    let dir = tempfile::tempdir().unwrap();
    let (mut lane, _) = open(dir.path(), &claim("a", 1)).unwrap();
    lane.commit(5, &[tick(5, 0..3)]).unwrap();
    drop(lane);

    let Some(SinkError::Refused(said)) = open(dir.path(), &claim("b", 1)).err() else { panic!("it was let in") };
    assert!(said.contains("--append") && said.contains("3 records"), "{said}");
    let (mut lane, none) = open(dir.path(), &Claim { append: true, fresh: true, ..claim("b", 1) }).unwrap();
    assert_eq!(none, None, "a token of another incarnation counts as none");
    drop(lane);

    // Once let in it stays in, without asking again, even if it never committed.
    (lane, _) = open(dir.path(), &claim("b", 2)).unwrap();
    lane.commit(2, &[tick(2, 3..5)]).unwrap();
    drop(lane);
    assert_eq!(open(dir.path(), &claim("b", 3)).unwrap().1, token("b", 2, 2));
    assert_eq!(open(dir.path(), &claim("a", 2)).unwrap().1, token("a", 1, 5));
    assert_eq!(rows_of(&topic(dir.path())).unwrap(), keyed(0..5));
}

#[test]
fn a_topic_that_others_produced_to_needs_leave_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut producer = writer(&create(dir.path(), 1 << 20));
    append(&mut producer, 0..2);
    producer.sync().unwrap();
    drop(producer);
    assert!(matches!(open(dir.path(), &claim("a", 1)).err(), Some(SinkError::Refused(_))));
    assert!(open(dir.path(), &Claim { append: true, ..claim("a", 1) }).is_ok());
}

#[test]
fn rows_without_their_token_are_never_shown_and_cut_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut lane, _) = open(dir.path(), &claim("a", 1)).unwrap();
    lane.commit(1, &[tick(1, 0..3)]).unwrap();
    drop(lane);
    let topic = topic(dir.path());
    let path = topic.partition_dir(0).join(format!("{:020}.log", 0));
    let before = std::fs::read(&path).unwrap();
    let synced = std::fs::read(topic.partition_dir(0).join("synced")).unwrap();

    let (mut lane, _) = open(dir.path(), &claim("a", 1)).unwrap();
    lane.commit(2, &[tick(2, 3..6)]).unwrap();
    drop(lane);
    let after = std::fs::read(&path).unwrap();
    assert!(after.starts_with(&before));
    for cut in before.len()..after.len() {
        // What a crash leaves that comes before the flush: the synced file knows nothing of it.
        std::fs::write(&path, &after[..cut]).unwrap();
        std::fs::write(topic.partition_dir(0).join("synced"), &synced).unwrap();
        assert_eq!(rows_of(&topic).unwrap(), keyed(0..3), "cut at {cut}");
        let mut reader = super::open(dir.path(), 3, None);
        assert!(reader.read(&limits(9)).unwrap().is_none());
        assert_eq!(open(dir.path(), &claim("a", 1)).unwrap().1, token("a", 1, 1));
        assert_eq!(std::fs::read(&path).unwrap(), before, "cut at {cut}");
    }
}

#[test]
fn lanes_are_partitions_and_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(TopicSink::new(dir.path(), "t", Some(3)));
    assert_eq!(sink.lanes().unwrap(), 3);
    assert!(!dir.path().join("t").exists(), "asking for lanes creates nothing");
    std::thread::scope(|scope| {
        for lane in 0..3 {
            let sink = sink.clone();
            scope.spawn(move || {
                let (mut held, _) = sink.open(lane, &claim("a", 1)).unwrap();
                held.commit(u64::from(lane) + 1, &[tick(1, 0..u64::from(lane))]).unwrap();
            });
        }
    });
    let records: Vec<u64> = topic(dir.path()).describe().unwrap().iter().map(|p| p.records).collect();
    assert_eq!(records, [0, 1, 2]);
    for lane in 0..3 {
        assert_eq!(sink.open(lane, &claim("a", 2)).unwrap().1, token("a", 1, u64::from(lane) + 1));
    }
    assert!(matches!(sink.open(3, &claim("a", 2)).err(), Some(SinkError::Refused(_))));
    assert!(matches!(TopicSink::new(dir.path(), "t", Some(2)).lanes(), Err(SinkError::Refused(_))));
    assert_eq!(TopicSink::new(dir.path(), "t", None).lanes().unwrap(), 3);
}

#[test]
fn a_commit_far_greater_than_a_segment_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), 1024);
    let (mut lane, _) = open(dir.path(), &claim("a", 1)).unwrap();
    let mut rows = EncodedRows::default();
    for n in 0..40u8 {
        rows.bytes.extend_from_slice(&vec![n; 100_000]);
        rows.end_row(None);
    }
    let great = TickRows { tick: 2, rows, times: vec![5; 40] };
    for (commit, upto) in [2, 4, 6].into_iter().enumerate() {
        lane.commit(upto, std::slice::from_ref(&great)).unwrap();
        let seen = rows_of(&topic(dir.path())).unwrap();
        assert_eq!(seen.len(), 40 * (commit + 1));
        assert!(seen.iter().enumerate().all(|(n, row)| row.value == vec![(n % 40) as u8; 100_000]));
        assert_eq!(topic(dir.path()).describe().unwrap()[0].segments, commit as u64 + 1);
        drop(lane);
        let (again, found) = open(dir.path(), &claim("a", 1)).unwrap();
        assert_eq!(found, token("a", 1, upto));
        lane = again;
    }
}
