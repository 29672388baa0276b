//! Damage to what was durable: each is an error that names file and byte, or harmless; never other rows.

use std::fs;
use std::path::PathBuf;

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
