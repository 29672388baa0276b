//! A disk whose power can be cut: it keeps apart what was written and what is durable.
//!
//! A [`Recorder`] is a [`Disk`] that does everything on a real folder and writes down each act. From the acts a [`Machine`]
//! derives every state in which a crash can leave the folder: any of the writes since a file's last sync may be there or not,
//! the last one of each file may be torn (of those that wait for their sync only the very last one, where all states are looked at:
//! they would be too many); any of the changes of names since a folder's last sync may be there or not. That holds more
//! than one file system does: none of its promises on order is relied upon.
//!
//! A sync that fails leaves its writes adrift for ever: a later sync of the same file that succeeds does not make them
//! durable, as on Linux, which may have dropped them. Only writing the same bytes again does.

mod machine;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use xxhash_rust::xxh3::Xxh3Default;

use super::dice::Dice;
use crate::disk::{Disk, FileSystem, Opening};

pub use machine::Machine;

/// What happened to a disk. Paths are relative to its folder.
#[derive(Clone, Debug)]
pub enum Act {
    /// A new, empty file got a name.
    Create(String),
    /// Bytes were written into a file.
    Write {
        /// The file.
        path: String,
        /// Where.
        at: usize,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// A file was cut.
    Cut {
        /// The file.
        path: String,
        /// To this length.
        length: usize,
    },
    /// A file was synced.
    Sync(String),
    /// A file was to be synced, and that failed.
    SyncFailed(String),
    /// A file or folder got another name.
    Rename(String, String),
    /// A file got a second name.
    Link(String, String),
    /// A name was taken from a file or an empty folder.
    Remove(String),
    /// A folder was made.
    MakeFolder(String),
    /// The names in a folder were synced.
    SyncFolder(String),
    /// Something was promised to somebody: what was promised before the crash must be there after it.
    Promise(u64),
}

/// The system's number of an input/output error.
pub const EIO: i32 = 5;
/// The system's number of a full disk.
pub const ENOSPC: i32 = 28;

/// Which acts fail.
#[derive(Clone, Debug, Default)]
pub enum Faults {
    /// None.
    #[default]
    None,
    /// The one with this number, from 0 on.
    Once(u64),
    /// The one with this number and all later ones.
    From(u64),
    /// One in a hundred, by chance.
    Hundredth(Dice),
}

impl Faults {
    fn strike(&mut self, number: u64) -> bool {
        match self {
            Faults::None => false,
            Faults::Once(at) => number == *at,
            Faults::From(at) => number >= *at,
            Faults::Hundredth(dice) => dice.one_in(100),
        }
    }
}

/// A disk that remembers what was done to it.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    before: Tree,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    acts: Vec<Act>,
    faults: Faults,
    /// The system's number of the error.
    error: i32,
    /// Acts that could have failed.
    tried: u64,
    failed: u64,
}

impl Recorder {
    /// Returns a disk of which `root` is the folder; what is there already is durable. What is done outside of it is done, but not
    /// remembered.
    pub fn new(root: &Path) -> Arc<Recorder> {
        Recorder::failing(root, Faults::None, EIO)
    }

    /// Returns such a disk, of which some acts fail with the system's error `error`.
    pub fn failing(root: &Path, faults: Faults, error: i32) -> Arc<Recorder> {
        let state = Mutex::new(State { faults, error, ..State::default() });
        Arc::new(Recorder { root: root.to_path_buf(), before: Tree::of(root), state })
    }

    /// Writes down that `what` was promised.
    pub fn promise(&self, what: u64) {
        self.state().acts.push(Act::Promise(what));
    }

    /// Returns how many acts failed.
    pub fn failed(&self) -> u64 {
        self.state().failed
    }

    /// Lets so many acts more be done and no other after them, as if whoever does them were killed then.
    pub fn dies_after(&self, more: u64) {
        let mut state = self.state();
        (state.faults, state.error) = (Faults::From(state.tried + more), EIO);
    }

    /// Lets everything work from now on.
    pub fn heal(&self) {
        self.state().faults = Faults::None;
    }

    /// Returns what happened so far.
    pub fn recording(&self) -> Recording {
        Recording { before: self.before.clone(), acts: self.state().acts.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the acts")
    }

    fn inside(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.root).ok()?.to_str()?.to_owned())
    }

    fn note(&self, path: &Path, act: impl FnOnce(String) -> Act) {
        if let Some(path) = self.inside(path) {
            self.state().acts.push(act(path));
        }
    }

    fn try_act(&self) -> io::Result<()> {
        let mut state = self.state();
        let number = state.tried;
        state.tried += 1;
        if state.faults.strike(number) {
            state.failed += 1;
            return Err(io::Error::from_raw_os_error(state.error));
        }
        Ok(())
    }
}

impl Disk for Recorder {
    fn open(&self, path: &Path, how: Opening) -> io::Result<File> {
        self.try_act()?;
        let there = path.exists();
        let file = FileSystem.open(path, how)?;
        match (there, how) {
            (false, _) => self.note(path, Act::Create),
            (true, Opening::Empty) => self.note(path, |path| Act::Cut { path, length: 0 }),
            (true, _) => {}
        }
        Ok(file)
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        let tried = self.try_act();
        let bytes = if tried.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        FileSystem.write(file, path, bytes, at)?;
        let at = usize::try_from(at).expect("test files are small");
        self.note(path, |path| Act::Write { path, at, bytes: bytes.into() });
        tried
    }

    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.try_act()?;
        FileSystem.cut(file, path, length)?;
        let length = usize::try_from(length).expect("test files are small");
        self.note(path, |path| Act::Cut { path, length });
        Ok(())
    }

    fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
        let tried = self.try_act();
        self.note(path, if tried.is_ok() { Act::Sync } else { Act::SyncFailed });
        tried
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.try_act()?;
        FileSystem.rename(from, to)?;
        if let (Some(from), Some(to)) = (self.inside(from), self.inside(to)) {
            self.state().acts.push(Act::Rename(from, to));
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.try_act()?;
        FileSystem.link(from, to)?;
        if let (Some(from), Some(to)) = (self.inside(from), self.inside(to)) {
            self.state().acts.push(Act::Link(from, to));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.try_act()?;
        FileSystem.remove(path)?;
        self.note(path, Act::Remove);
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.try_act()?;
        FileSystem.make_folder(path)?;
        self.note(path, Act::MakeFolder);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.try_act()?;
        FileSystem.remove_folder(path)?;
        self.note(path, Act::Remove);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // One that fails leaves the names as they were: not durable yet.
        self.try_act()?;
        fs::read_dir(path)?;
        self.note(path, Act::SyncFolder);
        Ok(())
    }
}

/// The files and folders below a folder, by relative path; a folder has no content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Option<Arc<[u8]>>>);

impl Tree {
    /// Reads all that is in `root`.
    pub fn of(root: &Path) -> Tree {
        let mut tree = Tree::default();
        tree.read(root, "");
        tree
    }

    fn read(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
            if path.is_dir() {
                self.read(&path, &format!("{name}/"));
                self.0.insert(name, None);
            } else {
                self.0.insert(name, Some(fs::read(&path).expect("the file can be read").into()));
            }
        }
    }

    /// Makes `root` hold this and nothing else.
    pub fn put(&self, root: &Path) {
        for entry in fs::read_dir(root).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("a test's folder can be emptied");
        }
        for (path, content) in &self.0 {
            let path = root.join(path);
            let put = match content {
                None => fs::create_dir(&path),
                Some(bytes) => fs::write(&path, bytes),
            };
            put.expect("a test's folder can be filled");
        }
    }

    /// Returns the files, each with its content.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().filter_map(|(path, content)| Some((path.as_str(), content.as_deref()?)))
    }

    fn hash(&self, promised: u64) -> u128 {
        let mut hash = Xxh3Default::new();
        hash.update(&promised.to_le_bytes());
        for (path, content) in &self.0 {
            hash.update(path.as_bytes());
            let length = content.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64);
            hash.update(&length.to_le_bytes());
            hash.update(content.as_deref().unwrap_or_default());
        }
        hash.digest128()
    }
}

/// A state in which a crash left the disk.
#[derive(Clone, Debug)]
pub struct Crash {
    /// What is there.
    pub tree: Tree,
    /// What was promised last before it; 0 if nothing was.
    pub promised: u64,
    /// How many acts were done.
    pub acts: usize,
}

/// What happened to a disk, from a state in which all was durable.
#[derive(Clone, Debug)]
pub struct Recording {
    before: Tree,
    acts: Vec<Act>,
}

impl Recording {
    /// Returns the acts.
    pub fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Returns how many writes there were.
    pub fn writes(&self) -> usize {
        self.acts.iter().filter(|act| matches!(act, Act::Write { .. })).count()
    }

    /// Shows `check` every state that a crash at any moment may leave, each once; returns how many they are.
    pub fn crash_everywhere(&self, check: &mut dyn FnMut(&Crash)) -> usize {
        let mut machine = Machine::of(&self.before);
        let mut seen = HashSet::new();
        for done in 0..=self.acts.len() {
            if let Some(act) = done.checked_sub(1).and_then(|last| self.acts.get(last)) {
                machine.apply(act);
            }
            for tree in machine.states() {
                if seen.insert(tree.hash(machine.promised())) {
                    check(&Crash { tree, promised: machine.promised(), acts: done });
                }
            }
        }
        seen.len()
    }

    /// Returns one state that a crash may leave, at a moment and of a kind that `dice` choose.
    pub fn crash_somewhere(&self, dice: &mut Dice) -> Crash {
        let mut machine = Machine::of(&self.before);
        let done = dice.below(self.acts.len() + 1);
        self.acts[..done].iter().for_each(|act| machine.apply(act));
        Crash { tree: machine.some_state(dice), promised: machine.promised(), acts: done }
    }

    /// Returns the state after a crash right now, with the process alone dead: everything that was done is there.
    pub fn killed(&self) -> Crash {
        let mut machine = Machine::of(&self.before);
        self.acts.iter().for_each(|act| machine.apply(act));
        Crash { tree: machine.present(), promised: machine.promised(), acts: self.acts.len() }
    }
}

#[cfg(test)]
mod tests;
