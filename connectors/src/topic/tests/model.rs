//! Random appends, flushes, rolls and reopenings against a plain list of rows.

use proptest::prelude::*;
use riverrun_dataflow::source::ReadLimits;

use super::*;
use crate::topic::frame::{NO_TIME, RECORD_HEADER};
use crate::topic::read::Cursor;

#[derive(Clone, Debug)]
enum Act {
    Append(Row),
    Sync,
    Reopen,
    Crash,
}

fn row_strategy() -> impl Strategy<Value = Row> {
    let bytes = |most: usize| proptest::collection::vec(any::<u8>(), 0..most);
    let value = prop_oneof![20 => bytes(60), 1 => bytes(5000)];
    (prop_oneof![Just(NO_TIME), -50i64..50], proptest::option::of(bytes(9)), value)
        .prop_map(|(timestamp, key, value)| Row { timestamp, key, value })
}

fn act_strategy() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => row_strategy().prop_map(Act::Append),
        4 => Just(Act::Sync),
        1 => Just(Act::Reopen),
        1 => Just(Act::Crash),
    ]
}

/// Plays the acts and returns the rows that must be there afterwards.
fn play(topic: &Topic, acts: &[Act]) -> Vec<Row> {
    let mut open = writer(topic);
    let mut rows: Vec<Row> = Vec::new();
    let mut synced = 0;
    for act in acts {
        match act {
            Act::Append(row) => {
                assert_eq!(open.append(Kind::Plain, &row.record()).unwrap(), rows.len() as u64);
                rows.push(row.clone());
            }
            Act::Sync => {
                open.sync().unwrap();
                synced = rows.len();
                assert_eq!(open.acknowledged(), synced as u64);
            }
            Act::Reopen => {
                open.sync().unwrap();
                synced = rows.len();
                drop(open);
                open = writer(topic);
            }
            Act::Crash => {
                drop(open);
                open = writer(topic);
                // What was written but not flushed may be there after a crash; here it is, whole frames of it.
                rows.truncate(usize::try_from(open.next()).unwrap());
                assert!(rows.len() >= synced, "an acknowledged row is gone");
                synced = rows.len();
            }
        }
        assert_eq!(open.next(), rows.len() as u64);
    }
    rows.truncate(synced);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn readers_see_what_was_flushed_whatever_the_cuts(
        acts in proptest::collection::vec(act_strategy(), 1..120),
        cuts in proptest::collection::vec((1usize..40, 1usize..3000), 1..20),
        starts in proptest::collection::vec(0.0f64..=1.0, 4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let topic = create(dir.path(), 2048);
        let rows = play(&topic, &acts);
        prop_assert_eq!(&rows_of(&topic).unwrap(), &rows);

        let mut framed = Vec::new();
        let mut ends = vec![0];
        for row in &rows {
            row.record().push(&mut framed);
            ends.push(framed.len());
        }
        for start in starts {
            let start = (start * rows.len() as f64) as usize;
            let mut reader = super::open(dir.path(), start as u64, Some(rows.len() as u64));
            let mut at = start;
            for (rows_max, bytes_max) in cuts.iter().cycle() {
                let limits = ReadLimits::at_most(*rows_max, *bytes_max);
                let Some(chunk) = reader.read(&limits).unwrap() else { break };
                let to = at + chunk.rows();
                prop_assert_eq!((chunk.from, chunk.to), (at as u64, to as u64));
                let (bytes, values) = content(&chunk);
                prop_assert_eq!(&bytes[..], &framed[ends[at]..ends[to]], "bytes of {}..{}", at, to);
                prop_assert!(values.iter().eq(rows[at..to].iter().map(|r| &r.value)));
                // A read stops only at a limit or at the end: the cut follows from the data alone.
                let full = to == rows.len() || to - at == *rows_max || ends[to + 1] - ends[at] > *bytes_max;
                prop_assert!(full, "{}..{} is short", at, to);
                prop_assert!(to - at == 1 || bytes.len() <= *bytes_max);
                at = to;
            }
            prop_assert_eq!(at, rows.len());
            prop_assert!(reader.ended());
        }
    }

    #[test]
    fn a_time_is_found_as_a_search_of_all_rows_finds_it(
        acts in proptest::collection::vec(act_strategy(), 1..100),
        times in proptest::collection::vec(-60i64..60, 8),
        without_index in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let topic = create(dir.path(), 1024);
        let rows = play(&topic, &acts);
        if without_index {
            let files = std::fs::read_dir(topic.partition_dir(0)).unwrap().map(|f| f.unwrap().path());
            files.filter(|f| f.extension().is_some_and(|e| e == "idx")).for_each(|f| std::fs::remove_file(f).unwrap());
        }
        for time in times {
            let expected = rows.iter().position(|r| r.timestamp >= time).unwrap_or(rows.len());
            let mut cursor = Cursor::open_at_time(&topic, 0, time).unwrap();
            let found = cursor.read(&limits(1)).unwrap().map_or(cursor.position(), |run| run.from);
            prop_assert_eq!(found, expected as u64, "time {}", time);
        }
        let info = topic.describe().unwrap()[0];
        let known = || rows.iter().map(|r| r.timestamp).filter(|t| *t != NO_TIME);
        prop_assert_eq!((info.records, info.first, info.last), (rows.len() as u64, known().min(), known().max()));
    }
}

#[test]
fn one_record_is_given_whole_however_small_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let topic = create(dir.path(), 1 << 20);
    let mut open = writer(&topic);
    let big = Row { timestamp: 1, key: None, value: vec![7; 3_000_000] };
    for _ in 0..3 {
        open.append(Kind::Plain, &big.record()).unwrap();
        open.append(Kind::Plain, &row(0).record()).unwrap();
    }
    open.sync().unwrap();
    let mut reader = super::open(dir.path(), 0, None);
    for n in 0..6 {
        let chunk = reader.read(&ReadLimits::at_most(1, 1)).unwrap().unwrap();
        assert_eq!(chunk.from, n);
        assert_eq!(content(&chunk).1[0].len(), if n % 2 == 0 { 3_000_000 } else { row(0).value.len() });
    }
    assert!(reader.read(&limits(1)).unwrap().is_none());
}

#[test]
fn the_greatest_record_fits_and_a_greater_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let topic = create(dir.path(), 1 << 20);
    let mut open = writer(&topic);
    let mut value = vec![3; crate::topic::RECORD_MAX + 1];
    let refused = open.append(Kind::Plain, &Record { timestamp: 0, key: None, value: &value });
    assert!(matches!(refused, Err(TopicError::TooLong { .. })), "{refused:?}");
    value.pop();
    open.append(Kind::Plain, &Record { timestamp: 0, key: None, value: &value }).unwrap();
    append(&mut open, 1..2);
    open.sync().unwrap();
    drop(open);
    assert_eq!(writer(&topic).next(), 2);
    let mut reader = super::open(dir.path(), 0, None);
    let chunk = reader.read(&limits(10)).unwrap().unwrap();
    assert_eq!(content(&chunk).0.len(), value.len() + 2 * RECORD_HEADER + row(1).record().framed() - RECORD_HEADER);
}

#[test]
fn a_live_reader_goes_on_over_segments_as_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let topic = create(dir.path(), 1024);
    let mut open = writer(&topic);
    let mut reader = super::open(dir.path(), 0, None);
    let mut seen = 0;
    for step in 0..60 {
        append(&mut open, step * 5..step * 5 + 4);
        assert!(reader.read(&limits(100)).unwrap().is_none(), "rows that are not durable were shown");
        append(&mut open, step * 5 + 4..step * 5 + 5);
        open.sync().unwrap();
        while let Some(chunk) = reader.read(&limits(3)).unwrap() {
            for (n, value) in (seen..).zip(content(&chunk).1) {
                assert_eq!(value, row(n).value);
            }
            seen = chunk.to;
        }
        assert_eq!(seen, step * 5 + 5);
        assert!(!reader.ended());
    }
    assert!(topic.describe().unwrap()[0].segments > 5);
}

#[test]
fn the_last_rows_of_all_partitions_come_merged_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic::create(dir.path(), "t", &CreateOptions { partitions: 3, ..CreateOptions::default() }).unwrap();
    let options =
        crate::topic::ProducerOptions { partitioning: crate::topic::Partitioning::RoundRobin, ..Default::default() };
    let mut producer = crate::topic::Producer::open(&topic, options).unwrap();
    for n in 0..20 {
        producer.append(&Record { timestamp: 100 + n, key: None, value: b"v" }).unwrap();
    }
    producer.sync().unwrap();
    let mut tail = Tail::open(&topic, None, crate::topic::Begin::Last(5)).unwrap();
    let mut times = Vec::new();
    while let Some(record) = tail.read().unwrap() {
        times.push(record.timestamp.unwrap());
    }
    assert_eq!(times, [115, 116, 117, 118, 119]);
    producer.append(&Record { timestamp: 7, key: None, value: b"later" }).unwrap();
    producer.sync().unwrap();
    assert_eq!(tail.read().unwrap().unwrap().value, b"later");
}

#[test]
fn keys_choose_partitions_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic::create(dir.path(), "t", &CreateOptions { partitions: 4, ..CreateOptions::default() }).unwrap();
    let mut producer = crate::topic::Producer::open(&topic, Default::default()).unwrap();
    for n in 0..50 {
        let key = format!("user-{n}");
        let placed = producer.append(&Record { timestamp: 0, key: Some(key.as_bytes()), value: b"" }).unwrap();
        assert_eq!(u64::from(placed.partition), riverrun_dataflow::key::hash_of_text(key.as_bytes()) % 4);
    }
    producer.sync().unwrap();
    let records: Vec<u64> = topic.describe().unwrap().iter().map(|p| p.records).collect();
    assert_eq!(records.iter().sum::<u64>(), 50);
    assert!(records.iter().all(|r| *r > 3), "{records:?}");
}
