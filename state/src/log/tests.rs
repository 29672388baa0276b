//! The log against lost races, lost answers, pauses and damage.

use std::io::ErrorKind;

use super::*;
use crate::record::{Generation, Kind};
use crate::tests::faulty::{Fault, Faulty};

struct Fixture {
    dir: tempfile::TempDir,
    faulty: Arc<Faulty>,
    store: Arc<Store>,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let local = Store::folder(dir.path()).unwrap();
    let faulty = Arc::new(Faulty::over(local.objects()));
    let store = Arc::new(Store::over(faulty.clone(), local.local().map(Into::into)));
    Fixture { dir, faulty, store }
}

fn writer(generation: u64) -> Writer {
    Writer { generation, attempt: format!("attempt-{generation}"), build: "b".into(), plan: "p".into() }
}

fn body(pid: u32) -> Body {
    Body::Generation(Generation { host: "h".into(), pid, workers: 1, base: None })
}

impl Fixture {
    fn reader(&self) -> LogReader {
        LogReader::new(self.store.clone(), "jobs/j", "incarnation")
    }

    fn open(&self, generation: u64) -> Log {
        let reader = self.reader();
        let last = reader.backwards(reader.bounds().unwrap()).next().transpose().unwrap();
        Log::after(reader, writer(generation), last.as_ref())
    }

    fn read_all(&self) -> Result<Vec<u64>, StateError> {
        let reader = self.reader();
        reader.backwards(reader.bounds()?).map(|record| Ok(record?.header.seq)).collect()
    }

    fn file(&self, seq: u64) -> std::path::PathBuf {
        self.dir.path().join(format!("jobs/j/log/{seq:020}.json"))
    }
}

#[test]
fn records_come_back_newest_first() {
    let f = fixture();
    assert_eq!(f.reader().bounds().unwrap(), Bounds { floor: 0, last: 0 });
    let mut log = f.open(1);
    for pid in 0..5 {
        log.append(&body(pid)).unwrap();
    }
    assert_eq!(f.read_all().unwrap(), [5, 4, 3, 2, 1]);
    let mut log = f.open(2);
    assert_eq!(log.append(&body(9)).unwrap().seq, 6);
    assert_eq!(f.read_all().unwrap(), [6, 5, 4, 3, 2, 1]);
    assert_eq!(f.reader().read(6).unwrap().header.kind, Kind::Generation);
}

#[test]
fn who_loses_the_race_is_fenced_and_stays_fenced() {
    let f = fixture();
    let (mut old, mut new) = (f.open(1), f.open(2));
    new.append(&body(2)).unwrap();
    let error = old.append(&body(1)).unwrap_err();
    assert!(matches!(&error, StateError::Fenced(why) if why.contains("generation 2 (attempt attempt-2)")), "{error}");
    assert!(matches!(old.append(&body(1)).unwrap_err(), StateError::Fenced(_)));
    assert_eq!(f.read_all().unwrap(), [1]);
}

#[test]
fn a_create_that_was_answered_late_is_no_lost_race() {
    let f = fixture();
    let mut log = f.open(1);
    f.faulty.next([Fault::Repeated]);
    assert_eq!(log.append(&body(1)).unwrap().seq, 1);
    log.append(&body(2)).unwrap();
    assert_eq!(f.read_all().unwrap(), [2, 1]);
}

#[test]
fn after_an_unknown_outcome_nothing_is_written() {
    for fault in [Fault::Before(ErrorKind::StorageFull), Fault::After(ErrorKind::Other)] {
        let f = fixture();
        let mut log = f.open(1);
        log.append(&body(1)).unwrap();
        f.faulty.next([fault]);
        assert!(matches!(log.append(&body(2)).unwrap_err(), StateError::Storage { act: "write", .. }));
        let left = f.read_all().unwrap();
        assert!(log.append(&body(3)).is_err());
        assert_eq!(f.read_all().unwrap(), left);
        // The next process sees what is there, either way, and goes on after it.
        assert_eq!(f.open(2).append(&body(4)).unwrap().seq, left[0] + 1);
    }
}

#[test]
fn a_collected_number_cannot_be_created_again() {
    let f = fixture();
    let mut paused = f.open(1);
    let mut other = f.open(2);
    for pid in 0..4 {
        other.append(&body(pid)).unwrap();
    }
    f.store.create("jobs/j/floor/00000000000000000002", Vec::new()).unwrap();
    std::fs::remove_file(f.file(1)).unwrap();
    let error = paused.append(&body(7)).unwrap_err();
    assert!(matches!(&error, StateError::Fenced(why) if why.contains("collected")), "{error}");
    assert_eq!(f.read_all().unwrap(), [4, 3]);
}

#[test]
fn a_listing_that_is_behind_loses_no_record() {
    let f = fixture();
    let mut log = f.open(1);
    for pid in 0..4 {
        log.append(&body(pid)).unwrap();
    }
    f.store.create("jobs/j/floor/00000000000000000003", Vec::new()).unwrap();
    (1..=3).for_each(|seq| std::fs::remove_file(f.file(seq)).unwrap());
    f.faulty.lag_behind(true);
    assert_eq!(f.reader().bounds().unwrap(), Bounds { floor: 3, last: 4 });
    assert_eq!(f.open(2).append(&body(9)).unwrap().seq, 5);
    f.faulty.lag_behind(false);
    assert_eq!(f.read_all().unwrap(), [5, 4]);
    // What is not there is lost all the same.
    (4..=5).for_each(|seq| std::fs::remove_file(f.file(seq)).unwrap());
    assert!(f.reader().bounds().unwrap_err().to_string().contains("it and all later ones are missing"));
}

#[test]
fn a_missing_cut_or_edited_record_is_named() {
    let f = fixture();
    let mut log = f.open(1);
    for pid in 0..5 {
        log.append(&body(pid)).unwrap();
    }
    let whole = std::fs::read(f.file(3)).unwrap();
    let cut = &whole[..whole.len() / 2];
    let edited = String::from_utf8(whole.clone()).unwrap().replace("\"host\":\"h\"", "\"host\":\"g\"").into_bytes();
    for broken in [cut, &edited[..], b""] {
        std::fs::write(f.file(3), broken).unwrap();
        let error = f.read_all().unwrap_err();
        assert!(matches!(&error, StateError::Damaged { what, .. } if what.contains("00000000000000000003.json")));
        assert!(error.to_string().contains("--fresh"), "{error}");
    }
    std::fs::remove_file(f.file(3)).unwrap();
    assert!(f.read_all().unwrap_err().to_string().contains("00000000000000000003.json is damaged: it is missing"));
    std::fs::write(f.file(3), whole).unwrap();
    assert_eq!(f.read_all().unwrap().len(), 5);
}

#[test]
fn a_forked_chain_is_seen() {
    let (f, g) = (fixture(), fixture());
    let (mut log, mut fork) = (f.open(1), g.open(2));
    for pid in 0..3 {
        log.append(&body(pid)).unwrap();
        fork.append(&body(pid)).unwrap();
    }
    std::fs::copy(g.file(2), f.file(2)).unwrap();
    let error = f.read_all().unwrap_err();
    assert!(matches!(&error, StateError::Damaged { reason, .. } if reason.contains("forked or edited")), "{error}");
}

#[test]
fn a_log_of_another_incarnation_is_seen() {
    let f = fixture();
    f.open(1).append(&body(1)).unwrap();
    let reader = LogReader::new(f.store.clone(), "jobs/j", "another");
    let error = reader.backwards(reader.bounds().unwrap()).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("another incarnation"), "{error}");
}
