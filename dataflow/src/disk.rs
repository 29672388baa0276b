//! Every change to files that must outlive a crash, in one place, so that tests can cut the power between any two of them.
//!
//! A write is durable when its file was synced, a name when its folder was. [`install`] and [`folder`] keep both in order;
//! who writes into a file in place does so himself. Reading needs no disk: readers open files as they are.
//!
//! **After a failed write or sync** the handle is not used again: what the system holds of the file is unknown then, and
//! Linux may have dropped what it could not write. Only who opens the file anew and looks may go on.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::fail_act::attempt;

/// What is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The file that is there.
    Existing,
    /// The file that is there, or a new one.
    Keep,
    /// The file that is there, emptied, or a new one.
    Empty,
    /// A new one.
    New,
}

/// Changes files and folders, one act at a time.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, how: Opening) -> io::Result<File>;
    /// Writes all `bytes` at `at`.
    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts the file to `length`.
    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()>;
    /// Makes all that was done to the file's content durable.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name, in place of what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails if that is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name from a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder, whose parent must be there.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn open(&self, path: &Path, how: Opening) -> io::Result<File> {
        attempt("open", path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match how {
            Opening::Existing => &mut options,
            Opening::Keep => options.create(true).truncate(false),
            Opening::Empty => options.create(true).truncate(true),
            Opening::New => options.create_new(true),
        };
        options.open(path)
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        attempt("write", path)?;
        file.write_all_at(bytes, at)
    }

    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        attempt("cut", path)?;
        file.set_len(length)
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        attempt("sync", path)?;
        // Of the metadata only the length matters, and it comes along.
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        attempt("rename", to)?;
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        attempt("link", to)?;
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        attempt("remove", path)?;
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        attempt("make_folder", path)?;
        fs::create_dir(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        attempt("remove_folder", path)?;
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        attempt("sync_folder", path)?;
        File::open(path)?.sync_all()
    }
}

/// Returns the folder in which `path` lies.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts a whole file in place of the one at `path`, durably and at once; `staged` is where it is written first, in the same
/// folder.
pub fn install(disk: &dyn Disk, staged: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(staged, Opening::Empty)?;
    disk.write(&file, staged, bytes, 0)?;
    disk.sync(&file, staged)?;
    disk.rename(staged, path)?;
    disk.sync_folder(folder_of(path))
}

/// Makes sure that the folder `path` is there, durably, and so are those above it.
///
/// Each folder is durable before one is made inside it. So if one is there, only its own name may have been lost on: the
/// process that made it may have been killed before it was synced.
pub fn folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let parent = folder_of(path);
    let there = path.is_dir();
    if !there {
        folder(disk, parent)?;
        match disk.make_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made?,
        }
    }
    match path.parent() {
        // The root of the file system, or the working directory.
        None => Ok(()),
        Some(_) if path.as_os_str().is_empty() || path == Path::new(".") => Ok(()),
        Some(_) => match disk.sync_folder(parent) {
            // Whoever made it there was somebody else.
            Err(e) if there && e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        },
    }
}
