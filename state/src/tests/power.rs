//! Cuts of power: a job's folder in every state in which one can leave it.
//!
//! Scripts run on a disk that keeps apart what was not synced, by a store that does to it what the local one does. In every
//! state that a crash at any moment may leave, the job starts, every record that was acknowledged is there, the newest
//! acknowledged checkpoint gives its rows, and the job goes on.

mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use riverrun_dataflow::disk::{Disk, Opening, folder, folder_of};
use riverrun_dataflow::testing::dice::{Dice, runs};
use riverrun_dataflow::testing::disk::Recorder;
use riverrun_dataflow::tick::Tick;

use crate::collect::{KeepLog, Retention};
use crate::folder::{Begin, JobSpec};
use crate::job::{JobState, Parts};
use crate::store::Store;
use crate::tests::model::{Model, Rows, entry, inputs, parts, restore, spec, tokens};

/// Does to a disk what the local store does, act by act; what is read is read from the file system.
#[derive(Debug)]
struct OnDisk {
    disk: Arc<Recorder>,
    root: PathBuf,
    files: LocalFileSystem,
    staged: AtomicU64,
    /// Folders in which something was deleted. Whoever deletes settles them, by a way that leads past the objects; so they are
    /// taken to be settled before anything else is done, and not a moment earlier.
    unsettled: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl OnDisk {
    fn settle(&self) {
        for folder in std::mem::take(&mut *self.unsettled.lock().unwrap()) {
            self.disk.sync_folder(&folder).unwrap();
        }
    }

    fn put(&self, path: &Path, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
        self.settle();
        let disk = self.disk.as_ref();
        folder(disk, folder_of(path))?;
        let bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        // What another process left unfinished is left alone.
        let (staged, file) = loop {
            let number = self.staged.fetch_add(1, Ordering::Relaxed);
            let staged = PathBuf::from(format!("{}#{number}", path.display()));
            match disk.open(&staged, Opening::New) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => break (staged, opened?),
            }
        };
        disk.write(&file, &staged, &bytes, 0)?;
        disk.sync(&file, &staged)?;
        match mode {
            PutMode::Create => {
                let linked = disk.link(&staged, path);
                disk.remove(&staged)?;
                linked?;
            }
            _ => disk.rename(&staged, path)?,
        }
        disk.sync_folder(folder_of(path))
    }
}

impl fmt::Display for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("on a disk that remembers")
    }
}

fn failed(error: io::Error, path: &ObjectPath) -> object_store::Error {
    let source = Box::new(error);
    match source.kind() {
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path: path.to_string(), source },
        _ => object_store::Error::Generic { store: "disk", source },
    }
}

#[async_trait]
impl ObjectStore for OnDisk {
    async fn put_opts(&self, location: &ObjectPath, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = self.root.join(location.as_ref());
        self.put(&path, &payload, &opts.mode).map_err(|error| failed(error, location))?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, _: &ObjectPath, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("objects are small")
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.settle();
        self.files.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let (disk, root, unsettled) = (self.disk.clone(), self.root.clone(), self.unsettled.clone());
        let remove = move |location: Result<ObjectPath>| {
            let location = location?;
            let path = root.join(location.as_ref());
            unsettled.lock().unwrap().insert(folder_of(&path).to_owned());
            match disk.remove(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(object_store::Error::NotFound { path: location.to_string(), source: Box::new(e) })
                }
                removed => removed.map(|()| location.clone()).map_err(|error| failed(error, &location)),
            }
        };
        locations.map(remove).boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.settle();
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

/// A step of a script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A process starts, in place of the one before.
    Start,
    /// The job is started afresh.
    Fresh,
    /// A tick is made final.
    Ticks,
    /// A checkpoint of the last tick is published; all but the last one go, with `Collect`.
    Checkpoint,
    /// From the next start on only one checkpoint is kept.
    Collect,
}
use Step::{Checkpoint, Collect, Fresh, Start, Ticks};

const SCRIPTS: &[&[Step]] = &[
    &[Start],
    &[Start, Ticks, Ticks],
    &[Start, Ticks, Checkpoint],
    &[Start, Ticks, Start, Ticks],
    &[Start, Ticks, Checkpoint, Start, Ticks, Checkpoint],
    &[Collect, Start, Ticks, Checkpoint, Ticks, Checkpoint],
    &[Start, Ticks, Fresh],
    &[Start, Ticks, Checkpoint, Fresh, Ticks],
];

/// What was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    incarnation: usize,
    ticks: Tick,
    checkpoint: Tick,
}

/// A script under way.
struct Play {
    dir: PathBuf,
    disk: Arc<Recorder>,
    store: fn(&Path, &Arc<Recorder>) -> Store,
    retention: Retention,
    running: Option<Parts>,
    model: Model,
    /// The number of each incarnation, by its id.
    incarnations: BTreeMap<String, usize>,
    /// By incarnation and tick: the rows after it.
    rows: BTreeMap<(usize, Tick), Rows>,
    promises: Vec<Promised>,
}

fn store(dir: &Path, disk: &Arc<Recorder>) -> Store {
    let files = LocalFileSystem::new_with_prefix(dir).unwrap();
    let objects = OnDisk {
        disk: disk.clone(),
        root: dir.to_owned(),
        files,
        staged: AtomicU64::new(1),
        unsettled: Arc::default(),
    };
    Store::over(Arc::new(objects), Some(dir.to_owned()))
}

/// A folder on which a flush costs nothing, if there is one, with the folder of the job, which is durable before it is locked.
fn quick_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    std::fs::create_dir_all(dir.path().join("jobs/j")).unwrap();
    dir
}

impl Play {
    fn last(&self) -> Promised {
        *self.promises.last().unwrap()
    }

    fn promise(&mut self, promised: Promised) {
        self.disk.promise(self.promises.len() as u64);
        self.promises.push(promised);
    }

    fn start(&mut self, begin: Begin) {
        // The lock goes with the process.
        self.running = None;
        let spec = JobSpec { begin, ..spec() };
        let mut started = JobState::open((self.store)(&self.dir, &self.disk), spec).unwrap().start().unwrap();
        started.retain(self.retention);
        if started.inputs().is_none() {
            started.append_inputs(inputs()).unwrap();
        }
        self.incarnations.insert(started.incarnation().to_owned(), self.last().incarnation);
        let (_, parts) = started.recover(&tokens(self.last().ticks)).unwrap();
        self.running = Some(parts);
    }

    fn step(&mut self, step: Step) {
        match step {
            Start => self.start(Begin::Continue),
            Fresh => {
                let incarnation = self.last().incarnation + 1;
                self.model = Model::default();
                // What was acknowledged before does not count any more as soon as this begins.
                self.promise(Promised { incarnation, ..Promised::default() });
                self.start(Begin::Fresh);
            }
            Ticks => {
                let ticks = self.last().ticks + 1;
                self.model.set((ticks % 8) as u16, ticks as i64 % 3, Some(Some(format!("v{ticks}"))));
                self.rows.insert((self.last().incarnation, ticks), self.model.rows.clone());
                self.running.as_mut().unwrap().journal.append_ticks(&[entry(ticks, 1)]).unwrap();
                self.promise(Promised { ticks, ..self.last() });
            }
            Checkpoint => {
                let tick = self.last().ticks;
                let running = self.running.as_mut().unwrap();
                let files = self.model.freeze(&*running.states, tick, 1);
                running.journal.append_checkpoint(parts(tick, files)).unwrap();
                self.promise(Promised { checkpoint: tick, ..self.last() });
            }
            Collect => self.retention = Retention { checkpoints: 1, ..self.retention },
        }
    }
}

fn play(dir: &Path, script: &[Step]) -> Play {
    play_on(dir, script, store)
}

fn play_on(dir: &Path, script: &[Step], store: fn(&Path, &Arc<Recorder>) -> Store) -> Play {
    let retention = Retention { checkpoints: 3, keep_for: Duration::ZERO, log: KeepLog::Needed };
    let mut play = Play {
        dir: dir.to_owned(),
        disk: Recorder::new(dir),
        store,
        retention,
        running: None,
        model: Model::default(),
        incarnations: BTreeMap::new(),
        rows: BTreeMap::new(),
        promises: vec![Promised::default()],
    };
    script.iter().for_each(|step| play.step(*step));
    play.running = None;
    play
}

/// Starts the job on what a crash left in `dir`, after so many promises, and lets it go on by a tick.
fn check(dir: &Path, play: &Play, promised: usize, name: &str) {
    let disk = Recorder::new(dir);
    let fail = |error: &dyn fmt::Display| -> ! { panic!("{name}: {error}") };
    let mut started = JobState::open(store(dir, &disk), spec()).and_then(JobState::start).unwrap_or_else(|e| fail(&e));
    if started.inputs().is_none() {
        started.append_inputs(inputs()).unwrap_or_else(|e| fail(&e));
    }
    // What is begun afresh is the old job until the new one is noted, durably; one that the check itself made is empty.
    let promises = &play.promises[..=promised];
    let newest = promises.last().expect("the beginning is one").incarnation;
    let found = play.incarnations.get(started.incarnation()).copied().unwrap_or(newest);
    let promised = promises.iter().rfind(|it| it.incarnation == found).copied().unwrap_or_default();
    // Sinks hold what was acknowledged, and no more.
    let (recovery, mut running) = started.recover(&tokens(promised.ticks)).unwrap_or_else(|e| fail(&e));
    let at = recovery.checkpoint.as_ref().map_or(0, |it| it.parts.tick);
    let last = recovery.entries.last().map_or(at, |entry| entry.record.tick);
    assert!(last >= promised.ticks, "{name}: {last} of {} acknowledged ticks", promised.ticks);
    assert!(at >= promised.checkpoint, "{name}: checkpoint {at}, acknowledged was {}", promised.checkpoint);
    assert_eq!(recovery.warnings, Vec::<String>::new(), "{name}: no checkpoint that was published is damaged");
    if at > 0 {
        assert_eq!(restore(&*running.states, 2), play.rows[&(found, at)], "{name}: rows at checkpoint {at}");
    }
    running.journal.append_ticks(&[entry(last + 1, 1)]).unwrap_or_else(|e| fail(&e));
}

#[test]
fn every_cut_of_power_leaves_what_was_acknowledged() {
    let mut states = 0;
    for (number, script) in SCRIPTS.iter().enumerate() {
        let (dir, after) = (quick_dir(), quick_dir());
        let play = play(dir.path(), script);
        let recording = play.disk.recording();
        states += recording.crash_everywhere(&mut |crash| {
            let name = format!("script {number}, {:?}", &recording.acts()[crash.acts.saturating_sub(9)..crash.acts]);
            crash.tree.put(after.path());
            check(after.path(), &play, crash.promised as usize, &name);
        });
    }
    println!("{} scripts, {states} crash states", SCRIPTS.len());
    assert!(states > 300, "{states}");
}

#[test]
fn cuts_of_power_at_random_leave_what_was_acknowledged() {
    for seed in 0..runs("RIVERRUN_CRASHES", 100) {
        let mut dice = Dice::new(seed as u64);
        let mut script = if dice.one_in(2) { vec![Collect, Start] } else { vec![Start] };
        for _ in 0..2 + dice.below(8) {
            script.push(*dice.of(&[Start, Ticks, Ticks, Ticks, Checkpoint, Checkpoint, Fresh]));
        }
        // A checkpoint is of a tick.
        let mut ticks = false;
        script.retain(|step| {
            ticks = match step {
                Fresh => false,
                Ticks => true,
                _ => ticks,
            };
            let was = ticks;
            ticks &= !matches!(step, Checkpoint);
            was || !matches!(step, Checkpoint)
        });
        let (dir, after) = (quick_dir(), quick_dir());
        let play = play(dir.path(), &script);
        let crash = play.disk.recording().crash_somewhere(&mut dice);
        crash.tree.put(after.path());
        let promised = crash.promised as usize;
        check(after.path(), &play, promised, &format!("seed {seed}, after {} acts of {script:?}", crash.acts));
    }
}
