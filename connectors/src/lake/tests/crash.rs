//! A writer that dies at any of its acts, a writer that is followed by another one, and what readers see meanwhile.

use bytes::Bytes;
use riverrun_dataflow::objects::{Created, Listed, ObjectsError};
use riverrun_dataflow::testing::objects::{Death, DyingObjects};

use super::*;

const LAYOUTS: [Layout; 2] = [Layout::VisibleAfterCommit, Layout::Manifest];

/// That `found` is all rows of some first ticks, each once.
fn is_prefix(found: &[i64]) -> bool {
    found.iter().copied().eq((0..found.len() as i64).map(|at| at + 10)) && found.len().is_multiple_of(10)
}

#[test]
fn a_writer_that_dies_anywhere_loses_and_doubles_nothing() {
    for layout in LAYOUTS {
        for death in [Death::Before, Death::After] {
            for changes in 0.. {
                let objects = Arc::new(MemoryObjects::default());
                let dying = Arc::new(DyingObjects::new(objects.clone(), changes, death));
                let fed = feed(dying.clone(), layout, 1, 20);
                if !dying.is_dead() {
                    fed.unwrap();
                    assert!(changes >= 10, "only {changes} acts");
                    break;
                }
                let place = format!("{layout:?}, {death:?} act {changes}");
                fed.expect_err(&place);
                let before = counted(&objects);
                assert!(is_prefix(&before), "{place}: {before:?}");
                if layout == Layout::VisibleAfterCommit {
                    let listed = listed(&objects);
                    assert!(listed.iter().all(|id| before.contains(id)), "{place}: seen before it counts");
                    assert!(listed.windows(2).all(|pair| pair[0] < pair[1]), "{place}: seen twice");
                }
                feed(objects.clone(), layout, 2, 30).unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(counted(&objects), ids(1..=30), "{place}");
                if layout == Layout::VisibleAfterCommit {
                    assert_eq!(listed(&objects), ids(1..=30), "{place}");
                    assert!(objects.list("_staging").unwrap().is_empty(), "{place}: something is left over");
                }
                let lake = Lake::read(objects).unwrap().unwrap();
                assert_eq!(verify(&lake).unwrap().findings, BTreeMap::new(), "{place}");
            }
        }
    }
}

#[test]
fn files_do_not_depend_on_how_ticks_come() {
    let made = |some: usize| {
        let objects = Arc::new(MemoryObjects::default());
        let (mut lane, _) = sink_on(objects.clone(), Layout::default()).open(0, &claim(1)).unwrap();
        for some in ticks(1..=40).chunks(some) {
            lane.take(some.last().unwrap().tick, some, Urgency::Later).unwrap();
        }
        lane.take(40, &[], Urgency::Now).unwrap();
        contents(&objects)
    };
    let one = made(1);
    assert!(one.len() > 6, "that is more than one commit of three folders: {:?}", one.keys());
    assert!(one == made(7) && one == made(40));
}

#[test]
fn a_lane_says_what_it_only_gathered() {
    let objects = Arc::new(MemoryObjects::default());
    let (mut lane, token) = sink_on(objects.clone(), Layout::default()).open(0, &claim(1)).unwrap();
    assert_eq!(token, None);
    let reached = lane.take(5, &[], Urgency::Later).unwrap();
    assert_eq!((reached.token, reached.covers), (None, 5), "nothing is owed");
    let reached = lane.take(9, &[tick(7, 0..3)], Urgency::Later).unwrap();
    assert_eq!((reached.token, reached.covers), (None, 6));
    assert!(counted(&objects).is_empty());
    let reached = lane.take(12, &[], Urgency::Now).unwrap();
    assert_eq!((reached.token, reached.covers), (Some(12), 12));
    assert_eq!(counted(&objects), [0, 1, 2]);
}

#[test]
fn who_is_followed_by_a_later_start_is_fenced() {
    for layout in LAYOUTS {
        let objects = Arc::new(MemoryObjects::default());
        let (mut old, _) = sink_on(objects.clone(), layout).open(0, &claim(1)).unwrap();
        old.take(3, &ticks(1..=3), Urgency::Now).unwrap();
        old.take(5, &ticks(4..=5), Urgency::Later).unwrap();
        let (mut new, token) = sink_on(objects.clone(), layout).open(0, &claim(2)).unwrap();
        assert_eq!(token.unwrap().tick, 3);
        let fenced = old.take(6, &ticks(6..=6), Urgency::Now).unwrap_err();
        assert!(matches!(&fenced, SinkError::Fenced(reason) if reason.contains("later start")), "{fenced}");
        new.take(8, &ticks(4..=8), Urgency::Now).unwrap();
        assert_eq!(counted(&objects), ids(1..=8));
        assert!(old.take(9, &[], Urgency::Now).is_err(), "it stays so");
        let late = sink_on(objects.clone(), layout).open(0, &claim(1)).map(|_| ()).unwrap_err();
        assert!(matches!(late, SinkError::Fenced(_)), "{late}");
    }
}

#[test]
fn records_are_folded_and_who_slept_through_it_is_fenced() {
    let objects = Arc::new(MemoryObjects::default());
    let (mut old, _) = sink_on(objects.clone(), Layout::default()).open(0, &claim(1)).unwrap();
    old.take(1, &ticks(1..=1), Urgency::Now).unwrap();
    old.take(2, &ticks(2..=2), Urgency::Later).unwrap();
    let (mut new, _) = sink_on(objects.clone(), Layout::default()).open(0, &claim(2)).unwrap();
    for number in 2..=300 {
        new.take(number, &ticks(number..=number), Urgency::Now).unwrap();
    }
    let records = objects.list("_commits").unwrap().len();
    assert!(records as u64 <= 2 * sweep::SNAPSHOT_EVERY + 1, "{records} records");
    assert_eq!(objects.list("_snapshots").unwrap().len(), 2);
    let woken = old.take(3, &ticks(3..=3), Urgency::Now).unwrap_err();
    assert!(matches!(&woken, SinkError::Fenced(reason) if reason.contains("later start")), "{woken}");
    assert_eq!(counted(&objects), ids(1..=300));
    feed(objects.clone(), Layout::default(), 3, 310).unwrap();
    assert_eq!(counted(&objects), ids(1..=310));
}

#[test]
fn many_lanes_fold_records_without_shutting_each_other_out() {
    let objects = Arc::new(MemoryObjects::default());
    let sink = sink_on(objects.clone(), Layout::default());
    let mut lanes: Vec<_> = (0..4).map(|lane| sink.open(lane, &claim(1)).unwrap().0).collect();
    // One lane is quiet for long: the records that it knows are gone when it wakes.
    let (quiet, busy) = lanes.split_first_mut().unwrap();
    for number in 1..=600 {
        let lane = &mut busy[number as usize % 3];
        lane.take(number, &ticks(number..=number), Urgency::Now).unwrap();
    }
    quiet.take(601, &ticks(601..=601), Urgency::Now).unwrap();
    assert_eq!(counted(&objects), ids(1..=601));
    assert_eq!(listed(&objects), ids(1..=601));
    let records = objects.list("_commits").unwrap().len();
    assert!(records as u64 <= 2 * sweep::SNAPSHOT_EVERY + 4, "{records} records");
}

#[test]
fn a_file_that_a_sweep_took_before_its_record_is_no_row_lost() {
    for layout in LAYOUTS {
        let objects = Arc::new(MemoryObjects::default());
        let swept = Arc::new(SweptObjects(objects.clone()));
        let (mut lane, _) = sink_on(swept, layout).open(0, &claim(1)).unwrap();
        let failed = lane.take(1, &ticks(1..=1), Urgency::Now).unwrap_err();
        assert!(matches!(&failed, SinkError::Write { reason, .. } if reason.contains("sweep")), "{failed}");
        feed(objects.clone(), layout, 2, 3).unwrap();
        assert_eq!(counted(&objects), ids(1..=3), "{layout:?}");
    }
}

/// Objects from which every data file is swept away as soon as it is there.
#[derive(Debug)]
struct SweptObjects(Arc<MemoryObjects>);

impl Objects for SweptObjects {
    fn name(&self, path: &str) -> String {
        self.0.name(path)
    }
    fn create(&self, path: &str, bytes: Bytes) -> Result<Created, ObjectsError> {
        self.0.create(path, bytes)
    }
    fn put(&self, _: &str, _: Bytes) -> Result<(), ObjectsError> {
        Ok(())
    }
    fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError> {
        self.0.get(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError> {
        self.0.rename(from, to)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.0.list(prefix)
    }
    fn delete(&self, paths: &[String]) -> Result<(), ObjectsError> {
        self.0.delete(paths)
    }
}

#[test]
fn lanes_commit_side_by_side() {
    let objects = Arc::new(MemoryObjects::default());
    let sink = sink_on(objects.clone(), Layout::default());
    let (mut one, _) = sink.open(0, &claim(1)).unwrap();
    let (mut two, _) = sink.open(1, &claim(1)).unwrap();
    for number in [1, 3, 5] {
        one.take(number, &ticks(number..=number), Urgency::Now).unwrap();
        two.take(number + 1, &ticks(number + 1..=number + 1), Urgency::Now).unwrap();
    }
    assert_eq!(counted(&objects), ids(1..=6));
    let (_, token) = sink.open(1, &claim(2)).unwrap();
    assert_eq!(token.unwrap().tick, 6);
    one.take(7, &ticks(7..=7), Urgency::Now).expect("only the other lane was taken");
}
