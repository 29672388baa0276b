//! A disk that is full, or fails: nothing acknowledged is lost, and a writer that failed does nothing more.

use riverrun_dataflow::testing::dice::{Dice, runs};
use riverrun_dataflow::testing::disk::{EIO, ENOSPC, Faults, Recorder};

use super::crash::{check_plain, quick_dir};
use super::*;

/// Rows that one writer appends at most.
const ROWS: u64 = 24;

/// Opens the partition and appends until something fails, or it is enough; returns the error.
fn write_until_it_fails(topic: &Topic, disk: &std::sync::Arc<Recorder>) -> Option<TopicError> {
    let mut open = match Writer::open_on(disk.clone(), topic, 0, "a test") {
        Ok(open) => open,
        Err(error) => return Some(error),
    };
    disk.promise(open.acknowledged());
    let until = open.next() + ROWS;
    while open.next() < until {
        let next = open.next();
        let done = open.append(Kind::Plain, &row(next).record()).and_then(|_| match next % 4 {
            3 => open.sync(),
            _ => Ok(()),
        });
        disk.promise(open.acknowledged());
        if let Err(error) = done {
            let acts = disk.recording().acts().len();
            let after = open.append(Kind::Plain, &row(0).record()).unwrap_err();
            assert!(matches!(after, TopicError::Failed { .. }), "{after}");
            assert!(matches!(open.sync(), Err(TopicError::Failed { .. })));
            assert_eq!(disk.recording().acts().len(), acts, "nothing more is tried on the same file");
            return Some(error);
        }
    }
    open.sync().err().inspect(|_| disk.promise(open.acknowledged()))
}

/// Runs writers one after the other on a disk with `faults`, then looks at what is there, and at what a crash would leave.
fn suffer(faults: Faults, error: i32, seed: u64) {
    let dir = quick_dir();
    let topic = create(dir.path(), 1024);
    let disk = Recorder::failing(dir.path(), faults, error);
    for _ in 0..5 {
        let Some(failed) = write_until_it_fails(&topic, &disk) else { continue };
        let said = failed.to_string();
        assert!(said.contains("cannot ") && said.contains("/t/0"), "{said}");
        assert_eq!(said.contains("free some space"), error == ENOSPC, "{said}");
    }
    disk.heal();
    let promised = disk.recording().killed().promised;
    check_plain(dir.path(), promised, &format!("seed {seed}, with all that was written"));
    let after = quick_dir();
    let mut dice = Dice::new(seed);
    let recording = disk.recording();
    for _ in 0..10 {
        let crash = recording.crash_somewhere(&mut dice);
        crash.tree.put(after.path());
        check_plain(after.path(), crash.promised, &format!("seed {seed}, crash after {} acts", crash.acts));
    }
}

#[test]
fn nothing_acknowledged_is_lost_whichever_act_fails_once() {
    for nth in 0..50 {
        suffer(Faults::Once(nth), EIO, nth);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_all_fails_from_some_point_on() {
    for nth in (0..50).step_by(3) {
        suffer(Faults::From(nth), ENOSPC, nth);
        suffer(Faults::From(nth + 1), EIO, nth);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_one_act_in_a_hundred_fails() {
    for seed in 0..runs("RIVERRUN_DISK_FAULTS", 20) as u64 {
        suffer(Faults::Hundredth(Dice::new(seed)), EIO, seed);
    }
}

#[test]
fn a_topic_whose_creation_failed_is_durable_once_something_in_it_is_acknowledged() {
    let after = quick_dir();
    let mut made = 0;
    for nth in 0..40 {
        let dir = quick_dir();
        let disk = Recorder::failing(dir.path(), Faults::Once(nth), EIO);
        let options = CreateOptions { partitions: 1, segment_bytes: 1024 };
        drop(Topic::create_on(&*disk, dir.path(), "t", &options));
        disk.heal();
        let Ok(topic) = Topic::open(dir.path(), "t") else { continue };
        made += 1;
        let mut open = Writer::open_on(disk.clone(), &topic, 0, "a test").unwrap();
        append(&mut open, 0..3);
        open.sync().unwrap();
        disk.promise(3);
        drop(open);
        disk.recording().crash_everywhere(&mut |crash| {
            if crash.promised == 3 {
                crash.tree.put(after.path());
                check_plain(after.path(), 3, &format!("act {nth} failed"));
            }
        });
    }
    assert!(made > 8, "{made}");
}
