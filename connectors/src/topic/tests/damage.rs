//! Damage to what was durable: each is an error that names file and byte, or harmless; never other rows.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::crash::quick_dir;
use super::*;

/// A topic of several segments whose rows are all durable, and its files.
fn written(dir: &Path) -> (Topic, u64, Vec<PathBuf>) {
    let topic = create(dir, 1024);
    let mut open = writer(&topic);
    for from in (0..60).step_by(6) {
        append(&mut open, from..from + 6);
        open.sync().unwrap();
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(topic.partition_dir(0)).unwrap().map(|file| file.unwrap().path()).collect();
    files.push(dir.join("t").join("topic.json"));
    files.sort();
    (topic, 60, files)
}

/// Reads everything and opens for writing; true if both do as if nothing were wrong.
fn is_harmless(dir: &Path, rows: u64, name: &str) -> bool {
    let expected: Vec<Row> = (0..rows).map(row).collect();
    let Ok(topic) = Topic::open(dir, "t") else { return false };
    let read = rows_of(&topic);
    let opened = Writer::open(&topic, 0, "a test");
    if let Ok(seen) = &read {
        assert_eq!(*seen, expected, "{name}: other rows");
    }
    // A writer looks at the last segment only. What it opened it must not have changed.
    if let Ok(opened) = &opened {
        assert_eq!(opened.next(), rows, "{name}: rows were cut");
    }
    read.is_ok() && opened.is_ok()
}

#[test]
fn a_flipped_byte_is_seen_or_harmless_wherever_it_is() {
    let dir = quick_dir();
    let (_, rows, files) = written(dir.path());
    assert!(files.iter().filter(|f| f.extension().is_some_and(|e| e == "log")).count() >= 3);
    for path in &files {
        let good = fs::read(path).unwrap();
        let is_log = path.extension().is_some_and(|e| e == "log");
        for at in 0..good.len() {
            let others: Vec<(PathBuf, Vec<u8>)> = files.iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect();
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(path, bad).unwrap();
            let harmless = is_harmless(dir.path(), rows, &format!("{} byte {at}", path.display()));
            assert!(!(harmless && is_log), "byte {at} of {} was changed and nobody saw it", path.display());
            others.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        }
    }
}

#[test]
fn a_cut_or_missing_file_is_seen_or_harmless() {
    let dir = quick_dir();
    let (_, rows, files) = written(dir.path());
    for path in &files {
        let good = fs::read(path).unwrap();
        let others: Vec<(PathBuf, Vec<u8>)> = files.iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect();
        for length in (0..good.len()).map(Some).chain([None]) {
            match length {
                Some(length) => fs::write(path, &good[..length]).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let name = format!("{} cut to {length:?}", path.display());
            let harmless = is_harmless(dir.path(), rows, &name);
            let is_help = !path.extension().is_some_and(|e| e == "log" || e == "json");
            let last_newline = path.ends_with("topic.json") && length == Some(good.len() - 1);
            assert_eq!(harmless, is_help || last_newline, "{name}");
            others.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        }
    }
}

#[test]
fn the_end_of_a_cut_segment_is_never_given_for_its_end() {
    let dir = quick_dir();
    let (topic, rows, files) = written(dir.path());
    let path = files.iter().rev().find(|f| f.extension().is_some_and(|e| e == "log")).unwrap();
    let good = fs::read(path).unwrap();
    assert_eq!(topic.describe().unwrap()[0].records, rows);
    for length in 0..good.len() {
        fs::write(path, &good[..length]).unwrap();
        assert!(matches!(topic.describe(), Err(TopicError::Damaged { .. })), "cut to {length}");
        assert!(TopicSource::new(dir.path(), "t").splits(true).is_err(), "cut to {length}");
    }
}

#[test]
fn damage_names_the_file_and_the_byte() {
    let dir = quick_dir();
    let (topic, _, _) = written(dir.path());
    let path = topic.partition_dir(0).join(format!("{:020}.log", 0));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let said = rows_of(&topic).unwrap_err().to_string();
    assert!(said.contains("00000000000000000000.log") && said.contains("at byte"), "{said}");
    assert!(said.contains("checksum") && said.contains("hint"), "{said}");
}

#[test]
fn a_frame_that_a_later_one_calls_durable_is_no_torn_tail_even_if_the_synced_file_is_lost() {
    let dir = quick_dir();
    let topic = create(dir.path(), 1 << 20);
    let mut open = writer(&topic);
    let path = topic.partition_dir(0).join(format!("{:020}.log", 0));
    let mut lengths = Vec::new();
    for n in 0..4 {
        append(&mut open, n..n + 1);
        open.sync().unwrap();
        lengths.push(fs::metadata(&path).unwrap().len());
    }
    drop(open);
    fs::remove_file(topic.partition_dir(0).join("synced")).unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[lengths[1] as usize + 70] ^= 4;
    fs::write(&path, &bad).unwrap();
    assert!(matches!(rows_of(&topic), Err(TopicError::Damaged { .. })));
    assert!(matches!(Writer::open(&topic, 0, "a test"), Err(TopicError::Damaged { .. })));
    assert_eq!(fs::read(&path).unwrap(), bad, "nothing was cut");
}

#[test]
fn a_segment_of_another_topic_is_refused() {
    let dir = quick_dir();
    let other_dir = quick_dir();
    let (topic, _, files) = written(dir.path());
    let (_, _, other_files) = written(other_dir.path());
    for (ours, theirs) in files.iter().zip(&other_files).filter(|(f, _)| f.extension().is_some_and(|e| e == "log")) {
        let good = fs::read(ours).unwrap();
        fs::copy(theirs, ours).unwrap();
        assert!(matches!(rows_of(&topic), Err(TopicError::Damaged { .. })));
        fs::write(ours, good).unwrap();
    }
}

/// A way to damage files.
#[derive(Clone, Debug)]
enum Blow {
    Overwrite { file: usize, at: usize, bytes: Vec<u8> },
    Fill { file: usize, at: usize, length: usize, byte: u8 },
    Cut { file: usize, at: usize },
    Grow { file: usize, bytes: Vec<u8> },
    Copy { file: usize, at: usize, from: usize, length: usize },
    Swap { file: usize, other: usize },
    Remove { file: usize },
}

fn blow_strategy() -> impl Strategy<Value = Blow> {
    let n = || 0usize..10_000;
    let bytes = || proptest::collection::vec(any::<u8>(), 1..80);
    prop_oneof![
        4 => (n(), n(), bytes()).prop_map(|(file, at, bytes)| Blow::Overwrite { file, at, bytes }),
        2 => (n(), n(), 1usize..600, prop_oneof![Just(0u8), Just(0xff)])
            .prop_map(|(file, at, length, byte)| Blow::Fill { file, at, length, byte }),
        2 => (n(), n()).prop_map(|(file, at)| Blow::Cut { file, at }),
        2 => (n(), bytes()).prop_map(|(file, bytes)| Blow::Grow { file, bytes }),
        2 => (n(), n(), n(), 1usize..400).prop_map(|(file, at, from, length)| Blow::Copy { file, at, from, length }),
        1 => (n(), n()).prop_map(|(file, other)| Blow::Swap { file, other }),
        1 => n().prop_map(|file| Blow::Remove { file }),
    ]
}

fn strike(files: &[PathBuf], blow: &Blow) {
    let file = |n: &usize| &files[n % files.len()];
    let change = |n: &usize, change: &mut dyn FnMut(&mut Vec<u8>)| {
        let Ok(mut bytes) = fs::read(file(n)) else { return };
        change(&mut bytes);
        fs::write(file(n), bytes).unwrap();
    };
    let write = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
        let at = at % (bytes.len() + 1);
        let end = bytes.len().min(at + new.len());
        bytes.splice(at..end, new.iter().copied());
    };
    match blow {
        Blow::Overwrite { file, at, bytes } => change(file, &mut |b| write(b, *at, bytes)),
        Blow::Fill { file, at, length, byte } => change(file, &mut |b| write(b, *at, &vec![*byte; *length])),
        Blow::Cut { file, at } => change(file, &mut |b| b.truncate(at % (b.len() + 1))),
        Blow::Grow { file, bytes } => change(file, &mut |b| b.extend_from_slice(bytes)),
        Blow::Copy { file, at, from, length } => change(file, &mut |b| {
            let from = from % (b.len() + 1);
            let part = b[from..b.len().min(from + length)].to_vec();
            write(b, *at, &part);
        }),
        Blow::Swap { file: a, other: b } => {
            if let (Ok(x), Ok(y)) = (fs::read(file(a)), fs::read(file(b))) {
                fs::write(file(a), y).unwrap();
                fs::write(file(b), x).unwrap();
            }
        }
        Blow::Remove { file: n } => drop(fs::remove_file(file(n))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Several blows together may look like a torn tail, so rows may be missing at the end. But no row is ever another one,
    /// none is missing in between, and nothing panics.
    #[test]
    fn no_damage_makes_other_rows(blows in proptest::collection::vec(blow_strategy(), 1..4)) {
        let dir = quick_dir();
        let (topic, rows, files) = written(dir.path());
        blows.iter().for_each(|blow| strike(&files, blow));
        let expected: Vec<Row> = (0..rows).map(row).collect();
        let check = |seen: Result<Vec<Row>, TopicError>| match seen {
            Ok(seen) => assert!(expected.starts_with(&seen), "{} other rows", seen.len()),
            Err(error) => assert!(!error.to_string().is_empty()),
        };
        drop(Topic::open(dir.path(), "t"));
        check(rows_of(&topic));
        if let Ok(mut open) = Writer::open(&topic, 0, "a test") {
            let next = open.next();
            assert!(next <= rows);
            append(&mut open, next..next + 1);
            open.sync().unwrap();
        }
        for start in [1, 17, 59] {
            let Ok(mut cursor) = crate::topic::read::Cursor::open(&topic, 0, start) else { continue };
            while let Ok(Some(run)) = cursor.read(&limits(7)) {
                for (n, (from, to)) in (run.from..).zip(&run.values) {
                    assert_eq!(run.bytes[*from as usize..*to as usize], row(n).value);
                }
            }
        }
        for time in [0, 50_000, 100_000, 200_000] {
            drop(crate::topic::read::Cursor::open_at_time(&topic, 0, time).map(|mut c| c.read(&limits(1)).is_ok()));
        }
    }
}
