//! Names, folders and files that are not as they should be.

use std::fs;

use riverrun_dataflow::source::{Source, SourceError};

use super::*;
use crate::topic::{Partitioning, Producer, ProducerOptions, check_name};

#[test]
fn a_name_has_only_the_allowed_characters() {
    for good in ["a", "raw.clicks.v1", "A_b-9", &"x".repeat(249), "...", ".a"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "~a", &"x".repeat(250)] {
        assert!(matches!(check_name(bad), Err(TopicError::Name(_))), "{bad}");
    }
    assert!(matches!(Topic::open(Path::new("/"), "../etc"), Err(TopicError::Name(_))));
}

#[test]
fn a_topic_is_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("not/yet/there");
    let topic = Topic::create(&below, "t", &CreateOptions::default()).unwrap();
    let again = Topic::create(&below, "t", &CreateOptions::default());
    assert!(matches!(again, Err(TopicError::Exists { .. })), "{again:?}");
    let opened = Topic::open_or_create(&below, "t", &CreateOptions { partitions: 9, segment_bytes: 4096 }).unwrap();
    assert_eq!((opened.id(), opened.partitions()), (topic.id(), 1));
    assert_ne!(Topic::create(&below, "u", &CreateOptions::default()).unwrap().id(), topic.id());
    for wrong in
        [CreateOptions { partitions: 0, segment_bytes: 4096 }, CreateOptions { partitions: 1, segment_bytes: 7 }]
    {
        assert!(matches!(Topic::create(&below, "v", &wrong), Err(TopicError::Option(_))));
    }
    let names: Vec<String> = Topic::list(&below).unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, ["t", "u"]);
    assert_eq!(Topic::list(&below.join("nothing")).unwrap().len(), 0);
}

#[test]
fn many_that_create_at_once_get_the_same_topic() {
    let dir = tempfile::tempdir().unwrap();
    let create = || Topic::open_or_create(dir.path(), "t", &CreateOptions::default()).unwrap().id().to_owned();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "what lost the race was left behind");
}

#[test]
fn a_missing_topic_says_how_to_create_it() {
    let dir = tempfile::tempdir().unwrap();
    let said = TopicSource::new(dir.path(), "clicks").splits(true).unwrap_err().to_string();
    assert!(said.contains("`clicks`") && said.contains("riverrun topic create clicks"), "{said}");
}

#[test]
fn a_folder_that_is_no_topic_is_named_in_the_list_and_not_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("photos")).unwrap();
    fs::write(dir.path().join("photos/cat.jpg"), b"cat").unwrap();
    let listed = Topic::list(dir.path()).unwrap().remove(0);
    let said = listed.topic.unwrap_err().to_string();
    assert!(said.contains("photos") && said.contains("topic.json"), "{said}");
    let created = Topic::create(dir.path(), "photos", &CreateOptions::default());
    assert!(created.is_err());
    assert_eq!(fs::read(dir.path().join("photos/cat.jpg")).unwrap(), b"cat");
}

#[test]
fn a_foreign_file_among_the_segments_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let topic = create(dir.path(), 4096);
    for foreign in ["notes.txt", "7.log", "backup", "000000000000000000x0.log"] {
        let path = topic.partition_dir(0).join(foreign);
        fs::write(&path, b"?").unwrap();
        let read = rows_of(&topic).unwrap_err().to_string();
        assert!(read.contains(foreign) && read.contains("move it away"), "{read}");
        let write = Writer::open(&topic, 0, "a test").unwrap_err().to_string();
        assert!(write.contains(foreign), "{write}");
        fs::remove_file(path).unwrap();
    }
    assert!(rows_of(&topic).is_ok());
}

#[test]
fn a_missing_partition_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic::create(dir.path(), "t", &CreateOptions { partitions: 3, ..Default::default() }).unwrap();
    fs::remove_dir_all(topic.partition_dir(1)).unwrap();
    let said = Topic::open(dir.path(), "t").unwrap_err().to_string();
    assert!(said.contains("partition 1 is missing"), "{said}");
}

#[test]
fn a_folder_that_takes_no_files_is_a_clear_error() {
    // Not even root may create anything there.
    let dir = Path::new("/proc/self/fd");
    let said = Topic::create(dir, "t", &CreateOptions::default()).unwrap_err().to_string();
    assert!(said.contains("cannot create `/proc/self/fd/"), "{said}");
}

#[test]
fn a_position_past_the_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let topic = create(dir.path(), 4096);
    let mut open = writer(&topic);
    append(&mut open, 0..3);
    open.sync().unwrap();
    let source = TopicSource::new(dir.path(), "t");
    let split = source.splits(true).unwrap().remove(0);
    assert_eq!((split.name.as_str(), split.start, split.end), ("0", 0, Some(3)));
    assert!(source.open(&split, 3).unwrap().ended());
    let said = source.open(&split, 4).err().unwrap().to_string();
    assert!(said.contains("position 4") && said.contains("ends at 3"), "{said}");
    let further = SplitSpec { end: Some(9), ..split.clone() };
    assert!(source.open(&further, 0).is_err(), "a bounded split must have its end");
    let other = SplitSpec { name: "1".into(), ..split };
    assert!(source.open(&other, 0).err().unwrap().to_string().contains("partitions 0 to 0"));
}

#[test]
fn a_topic_created_anew_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), 4096);
    let source = TopicSource::new(dir.path(), "t");
    let split = source.splits(false).unwrap().remove(0);
    let mut reader = source.open(&split, 0).unwrap();
    assert!(reader.read(&limits(1)).unwrap().is_none());
    fs::remove_dir_all(dir.path().join("t")).unwrap();
    assert!(matches!(reader.read(&limits(1)), Err(SourceError::Changed { .. })), "by a reader that is open");
    create(dir.path(), 4096);
    assert!(matches!(source.open(&split, 0), Err(SourceError::Changed { .. })), "by one that comes back");
}

#[test]
fn a_second_producer_is_told_who_holds_the_partition() {
    let dir = tempfile::tempdir().unwrap();
    let topic = Topic::create(dir.path(), "t", &CreateOptions { partitions: 2, ..Default::default() }).unwrap();
    let only = |partition, holder: &str| {
        let options =
            ProducerOptions { partitioning: Partitioning::One(partition), holder: holder.into(), ..Default::default() };
        Producer::open(&topic, options)
    };
    let first = only(1, "`riverrun topic produce`").unwrap();
    let said = only(1, "another").unwrap_err().to_string();
    assert!(said.contains("`riverrun topic produce` (process"), "{said}");
    assert!(only(0, "another").is_ok(), "the other partition is free");
    drop(first);
    assert!(only(1, "another").is_ok());
    assert!(matches!(only(2, "another"), Err(TopicError::Option(_))));
}
