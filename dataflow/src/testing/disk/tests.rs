use super::*;
use crate::disk::{folder, install};

fn contents(crash: &Crash) -> Vec<(String, String)> {
    crash.tree.files().map(|(path, bytes)| (path.into(), String::from_utf8_lossy(bytes).into_owned())).collect()
}

fn crashes(recorder: &Recorder) -> Vec<(u64, Vec<(String, String)>)> {
    let mut found = Vec::new();
    recorder.recording().crash_everywhere(&mut |crash| found.push((crash.promised, contents(crash))));
    found
}

#[test]
fn what_was_not_synced_may_be_gone_in_any_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "....").unwrap();
    let disk = Recorder::new(dir.path());
    let file = disk.open(&path, Opening::Keep).unwrap();
    disk.write(&file, &path, b"x", 0).unwrap();
    disk.write(&file, &path, b"y", 3).unwrap();
    let found: Vec<String> = crashes(&disk).into_iter().map(|(_, files)| files[0].1.clone()).collect();
    for state in ["....", "x...", "...y", "x..y"] {
        assert!(found.iter().any(|found| found == state), "{state} is missing in {found:?}");
    }
    disk.sync(&file, &path).unwrap();
    disk.promise(1);
    let after: Vec<_> = crashes(&disk).into_iter().filter(|(promised, _)| *promised == 1).collect();
    assert_eq!(after, [(1, vec![("a".to_owned(), "x..y".to_owned())])]);
}

#[test]
fn a_name_is_lost_until_its_folder_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Recorder::new(dir.path());
    let path = dir.path().join("a");
    let file = disk.open(&path, Opening::Empty).unwrap();
    disk.write(&file, &path, b"whole", 0).unwrap();
    disk.sync(&file, &path).unwrap();
    disk.promise(1);
    let found = crashes(&disk);
    assert!(found.contains(&(1, vec![])), "{found:?}");
    disk.sync_folder(dir.path()).unwrap();
    disk.promise(2);
    let found: Vec<_> = crashes(&disk).into_iter().filter(|(promised, _)| *promised == 2).collect();
    assert_eq!(found, [(2, vec![("a".to_owned(), "whole".to_owned())])]);
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "..").unwrap();
    let disk = Recorder::failing(dir.path(), Faults::Once(2), EIO);
    let file = disk.open(&path, Opening::Keep).unwrap();
    disk.write(&file, &path, b"x", 0).unwrap();
    disk.sync(&file, &path).unwrap_err();
    disk.sync(&file, &path).unwrap();
    disk.promise(1);
    let lost = (1, vec![("a".to_owned(), "..".to_owned())]);
    assert!(crashes(&disk).contains(&lost));
    disk.write(&file, &path, b"x", 0).unwrap();
    disk.sync(&file, &path).unwrap();
    disk.promise(2);
    let found: Vec<_> = crashes(&disk).into_iter().filter(|(promised, _)| *promised == 2).collect();
    assert_eq!(found, [(2, vec![("a".to_owned(), "x.".to_owned())])]);
}

#[test]
fn a_write_whose_sync_failed_may_be_torn_for_as_long_as_it_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "....").unwrap();
    let disk = Recorder::failing(dir.path(), Faults::Once(2), EIO);
    let file = disk.open(&path, Opening::Keep).unwrap();
    disk.write(&file, &path, b"wxyz", 0).unwrap();
    disk.sync(&file, &path).unwrap_err();
    let torn = |promised: u64| (promised, vec![("a".to_owned(), "wx..".to_owned())]);
    // A later sync and acts on other files change nothing of it.
    disk.sync(&file, &path).unwrap();
    disk.open(&dir.path().join("b"), Opening::Empty).unwrap();
    disk.promise(1);
    assert!(crashes(&disk).contains(&torn(1)));
    disk.write(&file, &path, b"wxyz", 0).unwrap();
    disk.sync(&file, &path).unwrap();
    disk.promise(2);
    assert!(crashes(&disk).iter().all(|(promised, files)| *promised < 2 || files[0].1 == "wxyz"));
}

#[test]
fn chance_tears_the_last_write_of_every_file_that_waits_for_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    [&a, &b].iter().for_each(|path| std::fs::write(path, "....").unwrap());
    let disk = Recorder::new(dir.path());
    for path in [&a, &b] {
        let file = disk.open(path, Opening::Keep).unwrap();
        disk.write(&file, path, b"wxyz", 0).unwrap();
    }
    disk.promise(1);
    let (recording, mut dice) = (disk.recording(), Dice::new(5));
    let is_torn = |bytes: &str| bytes != "...." && bytes != "wxyz";
    let both = |crash: &Crash| contents(crash).iter().all(|(_, bytes)| is_torn(bytes));
    let found = (0..500).filter(|_| both(&recording.crash_somewhere(&mut dice))).count();
    assert!(found > 5, "{found} of 500 had both files torn");
}

#[test]
fn an_installed_file_is_the_old_one_or_the_new_one_and_in_the_end_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "old").unwrap();
    let disk = Recorder::new(dir.path());
    install(&*disk, &dir.path().join("a.tmp"), &dir.path().join("a"), &b"new".repeat(400)).unwrap();
    disk.promise(1);
    for (promised, files) in crashes(&disk) {
        let a = &files.iter().find(|(path, _)| path == "a").unwrap().1;
        assert!(*a == "new".repeat(400) || (promised == 0 && a == "old"), "{promised} {a}");
    }
}

#[test]
fn a_folder_is_durable_even_if_whoever_made_it_was_killed_before() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Recorder::new(dir.path());
    disk.make_folder(&dir.path().join("a")).unwrap();
    let path = dir.path().join("a/b/c");
    folder(&*disk, &path).unwrap();
    disk.promise(1);
    disk.recording().crash_everywhere(&mut |crash| {
        assert!(crash.promised == 0 || crash.tree.0.contains_key("a/b/c"), "{crash:?}");
    });
}

#[test]
fn chance_finds_only_what_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Recorder::new(dir.path());
    let path = dir.path().join("f");
    folder(&*disk, &path).unwrap();
    install(&*disk, &path.join("a.tmp"), &path.join("a"), b"12").unwrap();
    install(&*disk, &path.join("a.tmp"), &path.join("a"), b"34").unwrap();
    let recording = disk.recording();
    let mut all = Vec::new();
    recording.crash_everywhere(&mut |crash| all.push(crash.tree.clone()));
    let mut dice = Dice::new(7);
    for _ in 0..2000 {
        let crash = recording.crash_somewhere(&mut dice);
        let is_torn =
            crash.tree.files().any(|(_, bytes)| bytes.contains(&0xa5) || bytes.contains(&0) || bytes.len() < 2);
        assert!(is_torn || all.contains(&crash.tree), "{crash:?}");
    }
    assert_eq!(recording.killed().tree, Tree::of(dir.path()));
}
