//! A process that follows sees the state that the leading one restores, and none but that of its job.

use super::*;
use crate::tests::model::{parts, restore, run, start, store, tokens};

#[test]
fn who_follows_restores_what_the_leading_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = run(dir.path(), 9, &[3, 6]);
    let started = start(dir.path());
    let followed = started.followed();
    let (recovery, mut leading) = started.recover(&tokens(9)).unwrap();
    let checkpoint = recovery.checkpoint.map(|it| it.seq);
    let following = Following::open(store(dir.path()), &followed).unwrap().states(checkpoint).unwrap();
    assert_eq!(restore(&*following, 3), snapshots[&6]);
    // The log is the leading process's alone, and goes on.
    leading.journal.append_checkpoint(parts(9, vec![])).unwrap();
    let record = Following::open(store(dir.path()), &followed).unwrap().states(Some(1));
    let Err(error) = record.map(drop) else { panic!("record 1 is no checkpoint") };
    assert!(error.to_string().contains("no checkpoint"), "{error}");
}

#[test]
fn another_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let followed = start(dir.path()).followed();
    let empty = tempfile::tempdir().unwrap();
    let error = Following::open(store(empty.path()), &followed).unwrap_err();
    assert!(error.to_string().contains("hint: all processes"), "{error}");
    let other = tempfile::tempdir().unwrap();
    start(other.path());
    let error = Following::open(store(other.path()), &followed).unwrap_err();
    assert!(error.to_string().contains("not the folder"), "{error}");
}
