//! A disk that is full, or fails: nothing acknowledged is lost, and a writer that failed does nothing more.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::crash::quick_dir;
use super::*;
use crate::topic::disk::{Disk, FileSystem};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A write finds the disk full, after half of its bytes.
    Full,
    /// A flush fails.
    Flush,
}

/// A disk on which the act with number 0 fails, and all later ones of its kind.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    left: AtomicI64,
}

impl Faulty {
    fn is_due(&self, fault: Fault) -> bool {
        self.fault == fault && self.left.fetch_sub(1, Ordering::Relaxed) <= 0
    }
}

impl Disk for Faulty {
    fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.is_due(Fault::Full) {
            FileSystem.write(file, path, &bytes[..bytes.len() / 2], at)?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        FileSystem.write(file, path, bytes, at)
    }
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        if self.is_due(Fault::Flush) {
            return Err(io::Error::other("input/output error"));
        }
        FileSystem.sync(file, path)
    }
    fn cut(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        FileSystem.cut(file, path, length)
    }
    fn install(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.is_due(Fault::Full) {
            std::fs::write(path.with_extension("tmp"), &bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        FileSystem.install(path, bytes)
    }
    fn folder(&self, path: &Path) -> io::Result<()> {
        FileSystem.folder(path)
    }
    fn place(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileSystem.place(from, to)
    }
}

#[test]
fn nothing_acknowledged_is_lost_whichever_write_or_flush_fails() {
    for fault in [Fault::Full, Fault::Flush] {
        for nth in 0..40 {
            let dir = quick_dir();
            let topic = create(dir.path(), 1024);
            let disk = Arc::new(Faulty { fault, left: AtomicI64::new(nth) });
            let mut acknowledged = 0;
            let mut error = None;
            match Writer::open_on(disk, &topic, 0, "a test") {
                Err(e) => error = Some(e),
                Ok(mut open) => {
                    while error.is_none() {
                        let next = open.next();
                        let done = open.append(Kind::Plain, &row(next).record()).and_then(|_| match next % 4 {
                            3 => open.sync(),
                            _ => Ok(()),
                        });
                        error = done.err();
                        acknowledged = open.acknowledged();
                    }
                    let after = open.append(Kind::Plain, &row(0).record()).unwrap_err();
                    assert!(matches!(after, TopicError::Failed { .. }), "{after}");
                    assert!(matches!(open.sync(), Err(TopicError::Failed { .. })));
                }
            }
            let said = error.unwrap().to_string();
            assert!(said.contains("cannot ") && said.contains("/t/0/"), "{said}");
            assert_eq!(said.contains("free some space"), fault == Fault::Full, "{said}");

            let seen = rows_of(&topic).unwrap();
            assert!(seen.len() as u64 >= acknowledged, "{fault:?} {nth}: {} of {acknowledged}", seen.len());
            let mut open = writer(&topic);
            let next = open.next();
            assert!(next >= seen.len() as u64);
            append(&mut open, next..next + 30);
            open.sync().unwrap();
            assert_eq!(rows_of(&topic).unwrap(), (0..next + 30).map(row).collect::<Vec<_>>());
        }
    }
}
