//! Compaction and sweeping: at every crash, and beside everything else that can happen to a lake.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use riverrun_dataflow::objects::{Created, Listed, ObjectsError};
use riverrun_dataflow::testing::objects::{Death, DyingObjects};

use super::*;

const LAYOUTS: [Layout; 2] = [Layout::VisibleAfterCommit, Layout::Manifest];

fn options(id: &str) -> CompactOptions {
    CompactOptions { target: 1 << 20, id: id.into(), dry: false }
}

fn merged(objects: Arc<dyn Objects>, id: &str) {
    compact(objects, &options(id)).unwrap().expect("there is a lake");
}

/// A lake with many small files.
fn small_files(layout: Layout) -> Arc<MemoryObjects> {
    let objects = Arc::new(MemoryObjects::default());
    let (mut lane, _) = sink_on(objects.clone(), layout).open(0, &claim(1)).unwrap();
    for number in 1..=6 {
        lane.take(number, &ticks(number..=number), Urgency::Now).unwrap();
    }
    objects
}

fn files(objects: &Arc<MemoryObjects>) -> usize {
    Lake::read(objects.clone()).unwrap().unwrap().files().unwrap().len()
}

#[test]
fn small_files_become_one_for_each_folder() {
    for layout in LAYOUTS {
        let objects = small_files(layout);
        assert_eq!(files(&objects), 18);
        let dry = compact(objects.clone(), &CompactOptions { dry: true, ..options("x") }).unwrap().unwrap();
        assert_eq!((dry.before, dry.after, files(&objects)), (18, 3, 18), "nothing was done yet");
        let done = compact(objects.clone(), &options("x")).unwrap().unwrap();
        assert_eq!((done.before, done.after, done.rows), (18, 3, 60));
        assert!(done.bytes_after < done.bytes_before);
        assert_eq!((files(&objects), counted(&objects)), (3, ids(1..=6)));
        match layout {
            Layout::VisibleAfterCommit => assert_eq!(listed(&objects), ids(1..=6)),
            Layout::Manifest => assert_eq!(listed(&objects).len(), 120, "who reads the old files still can"),
        }
        assert_eq!(compact(objects.clone(), &options("y")).unwrap().unwrap(), Compacted::default());
        feed(objects.clone(), layout, 2, 9).unwrap();
        assert_eq!(counted(&objects), ids(1..=9));
    }
    assert_eq!(compact(Arc::new(MemoryObjects::default()), &options("x")).unwrap(), None);
}

#[test]
fn a_compaction_that_dies_anywhere_changes_no_row() {
    for layout in LAYOUTS {
        for death in [Death::Before, Death::After] {
            for changes in 0.. {
                let objects = small_files(layout);
                let dying = Arc::new(DyingObjects::new(objects.clone(), changes, death));
                let done = compact(dying.clone(), &options("x"));
                if !dying.is_dead() {
                    done.unwrap();
                    assert!(changes > 5, "only {changes} acts");
                    break;
                }
                let place = format!("{layout:?}, {death:?} act {changes}");
                assert_eq!(counted(&objects), ids(1..=6), "{place}");
                // Either the job starts again, or another compaction or a sweep comes.
                match changes % 3 {
                    0 => feed(objects.clone(), layout, 2, 6).unwrap(),
                    1 => merged(objects.clone(), "y"),
                    _ => drop(sweep(objects.clone(), objects.now(), Duration::ZERO, false).unwrap()),
                }
                assert_eq!(counted(&objects), ids(1..=6), "{place}");
                if layout == Layout::VisibleAfterCommit {
                    assert_eq!(listed(&objects), ids(1..=6), "{place}");
                }
            }
        }
    }
}

/// Lets something else happen to the lake just before one of the changes.
struct Interrupted {
    objects: Arc<MemoryObjects>,
    left: AtomicI64,
    interruption: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    fn new(
        objects: &Arc<MemoryObjects>,
        changes: i64,
        interruption: impl FnOnce() + Send + 'static,
    ) -> Arc<Interrupted> {
        let interruption = Mutex::new(Some(Box::new(interruption) as Box<dyn FnOnce() + Send>));
        Arc::new(Interrupted { objects: objects.clone(), left: AtomicI64::new(changes), interruption })
    }

    fn was(&self) -> bool {
        self.interruption.lock().unwrap().is_none()
    }

    fn change(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let interruption = self.interruption.lock().unwrap().take();
            interruption.expect("once")();
        }
    }
}

impl Objects for Interrupted {
    fn name(&self, path: &str) -> String {
        self.objects.name(path)
    }
    fn create(&self, path: &str, bytes: Bytes) -> Result<Created, ObjectsError> {
        self.change();
        self.objects.create(path, bytes)
    }
    fn put(&self, path: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.change();
        self.objects.put(path, bytes)
    }
    fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError> {
        self.objects.get(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError> {
        self.change();
        self.objects.rename(from, to)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.objects.list(prefix)
    }
    fn delete(&self, paths: &[String]) -> Result<(), ObjectsError> {
        if !paths.is_empty() {
            self.change();
        }
        self.objects.delete(paths)
    }
}

/// Runs `act` on a lake with small files again and again, each time interrupted at a later change, and checks what is there then.
fn at_every_change(
    layout: Layout,
    last: Tick,
    act: impl Fn(Arc<dyn Objects>),
    interruption: impl Fn(Arc<MemoryObjects>) + Clone + Send + 'static,
) {
    for changes in 0.. {
        let objects = small_files(layout);
        let (other, interruption) = (objects.clone(), interruption.clone());
        let interrupted = Interrupted::new(&objects, changes, move || interruption(other));
        act(interrupted.clone());
        if !interrupted.was() {
            assert!(changes > 4, "only {changes} changes");
            break;
        }
        let place = format!("{layout:?}, before change {changes}");
        assert_eq!(counted(&objects), ids(1..=last), "{place}");
        compact(objects.clone(), &options("last")).unwrap();
        assert_eq!(counted(&objects), ids(1..=last), "{place}");
        if layout == Layout::VisibleAfterCommit {
            assert_eq!(listed(&objects), ids(1..=last), "{place}");
        }
    }
}

#[test]
fn compactions_do_not_get_in_each_others_way() {
    for layout in LAYOUTS {
        let once = |objects: Arc<dyn Objects>| merged(objects, "one");
        at_every_change(layout, 6, once, |objects| merged(objects, "two"));
    }
}

#[test]
fn a_running_job_commits_beside_a_compaction() {
    for layout in LAYOUTS {
        let once = |objects: Arc<dyn Objects>| merged(objects, "one");
        at_every_change(layout, 12, once, move |objects| feed(objects, layout, 2, 12).unwrap());
        let job = move |objects: Arc<dyn Objects>| feed(objects, layout, 2, 12).unwrap();
        at_every_change(layout, 12, job, |objects| merged(objects, "two"));
    }
}

#[test]
fn files_of_other_columns_are_not_mixed() {
    let objects = small_files(Layout::default());
    let wider = with_hidden(
        &[Field::new("id", DataType::Int64, false), Field::new("other", DataType::Int64, true)],
        &[Hidden::Time],
    );
    let config = LakeSinkConfig { schema: wider.clone(), ..config() };
    let place: Arc<dyn Objects> = objects.clone();
    let sink = LakeSink::new(config, Arc::new(move || Ok(place.clone())));
    let (mut lane, _) = sink.open(0, &claim(2)).unwrap();
    for number in 7..=9 {
        let id = Int64Array::from(vec![number * 10 + 1]);
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(id.clone()), Arc::new(id), Arc::new(Int64Array::from(vec![5]))];
        let mut rows = EncodedRows::default();
        let batch = RecordBatch::try_new(wider.clone(), columns).unwrap();
        LakeEncoder::new(&wider).unwrap().encode(&batch, &mut rows).unwrap();
        let tick = TickRows { tick: number as Tick, rows, times: vec![5] };
        lane.take(number as Tick, &[tick], Urgency::Now).unwrap();
    }
    compact(objects.clone(), &options("x")).unwrap();
    assert_eq!(files(&objects), 4, "the first hour has files of both kinds");
    assert_eq!(counted(&objects).len(), 63);
}

#[test]
fn a_damaged_file_is_not_merged() {
    let objects = small_files(Layout::default());
    let path = objects.paths().into_iter().find(|path| path.ends_with(".parquet")).unwrap();
    objects.put(&path, Bytes::from_static(b"PAR1 what is this PAR1")).unwrap();
    let error = compact(objects.clone(), &options("x")).unwrap_err().to_string();
    assert!(error.contains(&path) && error.contains("checksum"), "{error}");
    let lake = Lake::read(objects.clone()).unwrap().unwrap();
    assert_eq!(verify(&lake).unwrap().findings, BTreeMap::from([(path.clone(), Finding::Changed)]));
    objects.delete(std::slice::from_ref(&path)).unwrap();
    assert_eq!(verify(&lake).unwrap().findings, BTreeMap::from([(path, Finding::Missing)]));
}

#[test]
fn a_replaced_file_is_kept_from_the_record_on_that_replaced_it() {
    let objects = small_files(Layout::Manifest);
    let wait = |seconds: u64| (0..seconds).for_each(|_| objects.put("clock", Bytes::new()).unwrap());
    wait(7200);
    compact(objects.clone(), &options("x")).unwrap();
    // So many records that the one of the compaction is gone, and snapshots stand for it.
    feed(objects.clone(), Layout::Manifest, 2, 1000).unwrap();
    let records = objects.list("_commits").unwrap();
    assert!(!records.iter().any(|it| it.path.ends_with("00000000000000000009.json")), "{records:?}");
    let swept =
        |now: SystemTime| sweep(objects.clone(), now, Duration::from_secs(86_400), false).unwrap().unwrap().files;
    assert_eq!(swept(objects.now() + Duration::from_secs(80_000)), 0, "a day is not over");
    assert_eq!(swept(objects.now() + Duration::from_secs(86_400)), 18);
    assert_eq!(counted(&objects), ids(1..=1000));
}

#[test]
fn a_sweep_removes_what_nobody_needs_once_it_is_old() {
    let objects = small_files(Layout::Manifest);
    compact(objects.clone(), &options("x")).unwrap();
    for name in ["shop.rows-orphan.parquet", "of-someone-else.parquet"] {
        objects.put(&format!("date=1970-01-01/hour=0/{name}"), Bytes::from_static(b"x")).unwrap();
    }
    let paths = |objects: &Arc<MemoryObjects>| contents(objects).len();
    assert_eq!(paths(&objects), 3 + 18 + 2);
    let swept = |now: SystemTime, keep: u64| {
        sweep(objects.clone(), now, Duration::from_secs(keep), false).unwrap().unwrap().files
    };
    assert_eq!(swept(objects.now(), 3600), 0, "all of it is young");
    assert_eq!(swept(objects.now(), 0), 18, "replaced files are not wanted any more, an orphan may be on its way");
    assert_eq!(swept(objects.now() + Duration::from_secs(3600), 0), 1);
    assert_eq!((paths(&objects), counted(&objects)), (3 + 1, ids(1..=6)), "what is someone else's stays");
    assert_eq!(sweep(Arc::new(MemoryObjects::default()), objects.now(), Duration::ZERO, false).unwrap(), None);
}
