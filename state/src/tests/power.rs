//! Cuts of power: a job's folder in every state in which one can leave it.
//!
//! Scripts run on a disk that keeps apart what was not synced, by a store that does to it what the local one does. In every
//! state that a crash at any moment may leave, the job starts, every record that was acknowledged is there, the newest
//! acknowledged checkpoint gives its rows, and the job goes on.

mod traced;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
use riverrun_dataflow::disk::{Disk, Opening, folder_of};
use riverrun_dataflow::testing::dice::{Dice, runs};
use riverrun_dataflow::testing::disk::Recorder;
use riverrun_dataflow::tick::Tick;

use crate::collect::{KeepLog, Retention};
use crate::folder::{Begin, JobSpec};
use crate::job::{JobState, Parts};
use crate::store::Store;
use crate::tests::model::{Model, Rows, entry, inputs, parts, restore, spec, tokens};

/// Does to a disk what the local store does, act by act ([`traced`] holds the two alike); what is read is read from the file system.
#[derive(Debug)]
struct OnDisk {
    disk: Arc<Recorder>,
    root: PathBuf,
    files: LocalFileSystem,
}

impl OnDisk {
    fn put(&self, path: &Path, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
        let disk = self.disk.as_ref();
        let bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        let (staged, file) = self.stage(path)?;
        disk.write(&file, &staged, &bytes, 0)?;
        disk.sync(&file, &staged)?;
        match mode {
            PutMode::Create => {
                let linked = disk.link(&staged, path).and_then(|()| disk.sync_folder(folder_of(path)));
                disk.remove(&staged)?;
                linked
            }
            _ => {
                disk.rename(&staged, path)?;
                disk.sync_folder(folder_of(path))
            }
        }
    }

    /// Opens a file under a name of its own beside `path`: what another process left unfinished there is left alone.
    fn stage(&self, path: &Path) -> io::Result<(PathBuf, File)> {
        let mut number = 1;
        loop {
            let staged = PathBuf::from(format!("{}#{number}", path.display()));
            match self.disk.open(&staged, Opening::New) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_folders(folder_of(path))?,
                opened => return opened.map(|file| (staged, file)),
            }
        }
    }

    /// Makes `folder` and those above it, and only then makes their names durable, upwards. Names of folders that are there are
    /// taken to be durable.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.is_dir()).collect();
        missing.iter().rev().try_for_each(|folder| self.disk.make_folder(folder))?;
        folder.ancestors().take(missing.len() + 1).try_for_each(|folder| self.disk.sync_folder(folder))
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
        self.files.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let (disk, root) = (self.disk.clone(), self.root.clone());
        let remove = move |location: Result<ObjectPath>| {
            let location = location?;
            let path = root.join(location.as_ref());
            let removed = disk.remove(&path);
            if removed.is_ok() {
                // Folders that are empty now go, too.
                let above = path.ancestors().skip(1).take_while(|folder| *folder != root);
                let _ = above.map(|folder| disk.remove_folder(folder)).take_while(io::Result::is_ok).count();
            }
            match removed {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    Err(object_store::Error::NotFound { path: location.to_string(), source: Box::new(e) })
                }
                removed => removed.map(|()| location.clone()).map_err(|error| failed(error, &location)),
            }
        };
        locations.map(remove).boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
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
    /// The process, or the next one, is killed after so many more acts on the disk.
    Killed(u64),
}
use Step::{Checkpoint, Collect, Fresh, Killed, Start, Ticks};

type Failed = Box<dyn std::error::Error>;

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
    /// It is only tried to begin the incarnation: the one before may still be there.
    tried: bool,
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
    let objects = OnDisk { disk: disk.clone(), root: dir.to_owned(), files };
    Store::on_disk(Arc::new(objects), dir.to_owned(), disk.clone())
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

    fn start(&mut self, begin: Begin) -> Result<(), Failed> {
        // The lock goes with the process.
        self.running = None;
        let spec = JobSpec { begin, ..spec() };
        let mut started = JobState::open((self.store)(&self.dir, &self.disk), spec)?.start()?;
        started.retain(self.retention);
        if started.inputs().is_none() {
            started.append_inputs(inputs())?;
        }
        // One that is killed as it begins afresh leaves the old job, or the new one.
        let newest = self.last().incarnation;
        let incarnation = *self.incarnations.entry(started.incarnation().to_owned()).or_insert(newest);
        let held = self.promises.iter().rfind(|it| it.incarnation == incarnation).copied().unwrap_or_default();
        let (recovery, parts) = started.recover(&tokens(held.ticks))?;
        self.running = Some(parts);
        let checkpoint = recovery.checkpoint.as_ref().map_or(0, |it| it.parts.tick);
        let ticks = recovery.entries.last().map_or(checkpoint, |entry| entry.record.tick);
        let rows = |tick: Tick| self.rows.get(&(incarnation, tick)).cloned().unwrap_or_default();
        let (before, rows) = (rows(checkpoint), rows(ticks));
        let keys = before.keys().chain(rows.keys());
        let dirty = keys.filter(|key| before.get(key) != rows.get(key)).copied().collect();
        self.model = Model { rows, dirty };
        // What it found is there to stay: it wrote behind it.
        self.promise(Promised { incarnation, ticks, checkpoint, tried: false });
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), Failed> {
        match (step, &mut self.running) {
            (Start, _) => self.start(Begin::Continue)?,
            (Fresh, _) => {
                // What was acknowledged before does not count any more as soon as this begins.
                let incarnation =
                    self.promises.iter().map(|it| it.incarnation).max().expect("the beginning is one") + 1;
                self.promise(Promised { incarnation, tried: true, ..Promised::default() });
                self.start(Begin::Fresh)?;
            }
            (Ticks, Some(running)) => {
                let last = *self.promises.last().unwrap();
                let ticks = last.ticks + 1;
                self.model.set((ticks % 8) as u16, ticks as i64 % 3, Some(Some(format!("v{ticks}"))));
                self.rows.insert((last.incarnation, ticks), self.model.rows.clone());
                running.journal.append_ticks(&[entry(ticks, 1)])?;
                self.promise(Promised { ticks, ..last });
            }
            (Checkpoint, Some(running)) => {
                let last = *self.promises.last().unwrap();
                if last.ticks == last.checkpoint {
                    // A checkpoint is of a tick.
                    return Ok(());
                }
                let files = self.model.try_freeze(&*running.states, last.ticks, 1)?;
                running.journal.append_checkpoint(parts(last.ticks, files))?;
                self.promise(Promised { checkpoint: last.ticks, ..last });
            }
            (Ticks | Checkpoint, None) => {}
            (Collect, _) => self.retention = Retention { checkpoints: 1, ..self.retention },
            (Killed(after), _) => self.disk.dies_after(after),
        }
        Ok(())
    }

    /// Plays a step; a process that was killed at it is gone.
    fn play(&mut self, step: Step) -> Result<(), Failed> {
        let failed = self.disk.failed();
        if let Err(error) = self.step(step) {
            if self.disk.failed() == failed {
                return Err(error);
            }
            self.running = None;
            self.disk.heal();
        }
        Ok(())
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
    for step in script {
        play.play(*step).unwrap_or_else(|error| panic!("{script:?}, {step:?}: {error}"));
    }
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
    let tried = promises.last().is_some_and(|last| last.tried);
    assert!(tried || found == newest, "{name}: incarnation {found} is back, of {newest}");
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
    // A fresh start that is cut short, and another after it.
    let cut_short = (0..48).step_by(6).map(|after| vec![Start, Ticks, Killed(after), Fresh, Fresh, Ticks, Start]);
    let scripts: Vec<Vec<Step>> = SCRIPTS.iter().map(|script| script.to_vec()).chain(cut_short).collect();
    for (number, script) in scripts.iter().enumerate() {
        let (dir, after) = (quick_dir(), quick_dir());
        let play = play(dir.path(), script);
        let recording = play.disk.recording();
        states += recording.crash_everywhere(&mut |crash| {
            let name = format!("script {number}, {:?}", &recording.acts()[crash.acts.saturating_sub(9)..crash.acts]);
            crash.tree.put(after.path());
            check(after.path(), &play, crash.promised as usize, &name);
        });
    }
    println!("{} scripts, {states} crash states", scripts.len());
    assert!(states > 300, "{states}");
}

#[test]
fn cuts_of_power_at_random_leave_what_was_acknowledged() {
    for seed in 0..runs("RIVERRUN_CRASHES", 100) {
        let mut dice = Dice::new(seed as u64);
        let mut script = if dice.one_in(2) { vec![Collect, Start] } else { vec![Start] };
        for _ in 0..2 + dice.below(8) {
            let killed = Killed(dice.below(40) as u64);
            script.push(*dice.of(&[Start, Ticks, Ticks, Ticks, Checkpoint, Checkpoint, Fresh, killed]));
        }
        let (dir, after) = (quick_dir(), quick_dir());
        let play = play(dir.path(), &script);
        let crash = play.disk.recording().crash_somewhere(&mut dice);
        crash.tree.put(after.path());
        let promised = crash.promised as usize;
        check(after.path(), &play, promised, &format!("seed {seed}, after {} acts of {script:?}", crash.acts));
    }
}
