//! Every change that a topic makes to its files, in one place, so that tests can cut the power between any two of them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Changes files.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Writes all `bytes` at `at`.
    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes all that was written to the file durable.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Cuts the file to `length`, durably.
    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()>;
    /// Puts a whole file in place, durably and at once; replaces the one that was there.
    fn install(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Creates a folder, and those above it, durably, if it is not there.
    fn folder(&self, path: &Path) -> io::Result<()>;
    /// Moves a whole, durable folder into place, durably; fails if there is one.
    fn place(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Debug)]
pub(crate) struct FileSystem;

impl Disk for FileSystem {
    fn write(&self, file: &File, _: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File, _: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&self, file: &File, _: &Path, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }

    fn install(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let staged = path.with_extension("tmp");
        let mut file = File::create(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        sync_folder_of(path)
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.folder(parent)?;
        }
        match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            created => created.and_then(|()| sync_folder_of(path)),
        }
    }

    fn place(&self, from: &Path, to: &Path) -> io::Result<()> {
        // A rename replaces an empty folder, which no topic is, and refuses any other.
        fs::rename(from, to)?;
        sync_folder_of(to)
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
