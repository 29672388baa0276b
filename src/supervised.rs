//! `--run-dir DIR`: what a supervisor sees of a process, as files in a folder of this process's own.
//!
//! ```text
//! process.json   who it is: the process id and when it was born, so that a process id that is used again fools nobody
//! log, log.1 ..  log lines, rotated by the process itself: nobody has to live for them to be kept
//! admin          the address of the admin port
//! rows           when rows of the job came out first and last, how many it saved
//! end.json       how it ended: exit code, what became of the job, and the message; not there after a kill
//! ```
//! The supervisor need not be alive: it reads all of it when it comes back.

mod rows;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

pub use rows::{Rows, Telling};

use crate::exit::{Exit, Failure, OrExit};

/// A log is put aside when it is longer than this.
const LOG_BYTES: u64 = 16 << 20;
/// So many logs are put aside before the oldest goes.
pub const LOGS_ASIDE: usize = 3;

/// Names of the files.
pub const PROCESS: &str = "process.json";
/// Log lines.
pub const LOG: &str = "log";
/// The address of the admin port.
pub const ADMIN: &str = "admin";
/// How the process ended.
pub const END: &str = "end.json";

/// A process, so that it is mistaken for no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its process id.
    pub pid: u32,
    /// When it was born: the boot of the machine, and ticks since then.
    pub born: String,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its exit code.
    pub code: u8,
    /// The job is finished: there is nothing left to do for another process.
    pub finished: bool,
    /// What it said at last, if it failed.
    pub message: Option<String>,
}

/// The folder of this process, if somebody asked for one. There is one process, so there is one.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();
/// Whether the job came to its end.
static FINISHED: Mutex<bool> = Mutex::new(false);

/// Begins to tell in `folder` what becomes of this process, and returns the folder: the same one wherever the process goes to work.
pub fn begin(folder: &Path) -> Result<PathBuf, Failure> {
    let attempt = || format!("cannot use --run-dir {}", folder.display());
    fs::create_dir_all(folder).or_exit(Exit::Storage, attempt)?;
    let folder = folder.canonicalize().or_exit(Exit::Storage, attempt)?;
    let end = folder.join(END);
    if let Err(error) = fs::remove_file(end)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).or_exit(Exit::Storage, attempt);
    }
    let pid = std::process::id();
    let born = born(pid).unwrap_or_default();
    put(&folder.join(PROCESS), &to_json(&Who { pid, born })).or_exit(Exit::Storage, attempt)?;
    // Set once: `begin` is called by `main` alone.
    Ok(FOLDER.get_or_init(|| folder).clone())
}

/// Tells where the admin port is.
pub fn admin(address: SocketAddr) -> Result<(), Failure> {
    let Some(folder) = FOLDER.get() else { return Ok(()) };
    put(&folder.join(ADMIN), address.to_string().as_bytes())
        .or_exit(Exit::Storage, || format!("cannot write the address of the admin port into {}", folder.display()))
}

/// Notes that the job came to its end.
pub fn finished() {
    *FINISHED.lock().unwrap_or_else(PoisonError::into_inner) = true;
}

/// Tells how the process ends, just before it does.
pub fn end(code: u8, message: Option<String>) {
    let Some(folder) = FOLDER.get() else { return };
    let finished = code == 0 && *FINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    // A supervisor that does not find it takes the process for killed, and starts the job again.
    let _ = put(&folder.join(END), &to_json(&End { code, finished, message }));
}

/// Returns when a process was born; `None` if there is none, or one that has ended and was not waited for.
pub fn born(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets and may hold anything: fields are counted from its end, state first.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let ticks = fields.nth(18)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    (!matches!(state, "Z" | "X")).then(|| format!("{}:{ticks}", boot.trim()))
}

/// Writes a file so that a reader sees all of it or nothing.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types are representable")
}

/// A log that is put aside when it gets long: `log`, `log.1`, `log.2`, ...
#[derive(Debug)]
pub struct RotatedLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: u64,
}

impl RotatedLog {
    /// Opens the log in `folder`; what is there is added to.
    pub fn open(folder: &Path) -> io::Result<RotatedLog> {
        RotatedLog::with_limit(folder, LOG_BYTES)
    }

    fn with_limit(folder: &Path, limit: u64) -> io::Result<RotatedLog> {
        let path = folder.join(LOG);
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(RotatedLog { path, file, bytes, limit })
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let aside = |number: usize| self.path.with_extension(number.to_string());
        for number in (1..LOGS_ASIDE).rev() {
            // What is not there need not move.
            let _ = fs::rename(aside(number), aside(number + 1));
        }
        fs::rename(&self.path, aside(1))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for RotatedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + bytes.len() as u64 > self.limit {
            self.put_aside()?;
        }
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known_by_its_birth() {
        let own = born(std::process::id()).unwrap();
        assert_eq!(born(std::process::id()).unwrap(), own);
        assert_ne!(born(1).unwrap(), own);
        assert_eq!(born(u32::MAX), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while born(child.id()).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_long_log_is_put_aside_and_no_line_is_lost_before_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatedLog::with_limit(folder.path(), 10).unwrap();
        for line in ["one two\n", "three\n", "four\n", "five six\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            [read("log.3"), read("log.2"), read("log.1"), read("log")],
            ["one two\n", "three\n", "four\n", "five six\n"]
        );
        drop(log);
        RotatedLog::with_limit(folder.path(), 30).unwrap().write_all(b"more\n").unwrap();
        assert_eq!(read("log"), "five six\nmore\n");
    }
}
