//! The folders of generations and of their processes, and what stands in them.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::limits::{self, Held};
use crate::manager::decide::End;
use crate::supervised::{self, Who, put};

/// What a program says whose memory cannot grow, before it ends itself.
const REFUSED_MEMORY: [&str; 2] = ["memory allocation of", "bytes failed"];
/// How a process ended, as the manager that started it saw it.
const EXIT: &str = "exit.json";

/// The folder of a generation of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationFolder {
    /// The generation.
    pub number: u64,
    /// The folder.
    pub path: PathBuf,
}

/// The folder of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFolder {
    /// The process's index.
    pub index: u16,
    /// The folder.
    pub path: PathBuf,
}

impl GenerationFolder {
    /// Returns the folder of this generation, in the folder of the job's runs.
    pub fn of(runs: &Path, number: u64) -> GenerationFolder {
        GenerationFolder { number, path: runs.join(format!("g{number}")) }
    }

    /// Returns the folders of all generations, the oldest first.
    pub fn all(runs: &Path) -> Vec<GenerationFolder> {
        let mut found: Vec<GenerationFolder> =
            numbered(runs, "g").into_iter().map(|(number, path)| GenerationFolder { number, path }).collect();
        found.sort_by_key(|folder| folder.number);
        found
    }

    /// Returns the folder of a process.
    pub fn process(&self, index: u16) -> ProcessFolder {
        ProcessFolder { index, path: self.path.join(format!("p{index}")) }
    }

    /// Returns the folders of its processes.
    pub fn processes(&self) -> Vec<ProcessFolder> {
        let mut found: Vec<ProcessFolder> = numbered(&self.path, "p")
            .into_iter()
            .filter_map(|(index, path)| Some(ProcessFolder { index: u16::try_from(index).ok()?, path }))
            .collect();
        found.sort_by_key(|folder| folder.index);
        found
    }

    /// Returns the path of the job file.
    pub fn job_file(&self) -> PathBuf {
        self.path.join("job.yaml")
    }
}

/// Returns the folders in `folder` whose name is `start` and a number.
fn numbered(folder: &Path, start: &str) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(start)?.parse().ok();
    entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect()
}

impl ProcessFolder {
    /// Returns the path of the token of its control.
    pub fn token(&self) -> PathBuf {
        self.path.join("token")
    }

    /// Returns the path of what it says that is no log line.
    pub fn stderr(&self) -> PathBuf {
        self.path.join("stderr")
    }

    /// Takes the lock; `None` if a process holds it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns whether a process holds the lock.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.path.join("lock")) else { return false };
        matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Returns who the process is, once it has said so.
    pub fn who(&self) -> Option<Who> {
        serde_json::from_slice(&fs::read(self.path.join(supervised::PROCESS)).ok()?).ok()
    }

    /// Returns whether a process was started here that came far enough to say so.
    pub fn was_started(&self) -> bool {
        self.who().is_some()
    }

    /// Returns how the process ended, if it or the manager that started it has written that down.
    pub fn end(&self) -> Option<End> {
        if let Some(said) = read::<supervised::End>(&self.path.join(supervised::END)) {
            let (code, message) = (Some(i32::from(said.code)), said.message);
            return Some(End { code, finished: said.finished, message, ..End::unknown() });
        }
        let Exit { code, signal, message } = read(&self.path.join(EXIT))?;
        Some(End { code, signal, message: message.or_else(|| self.last_words()), ..End::unknown() })
    }

    /// Returns what the process was held to.
    pub fn held(&self) -> Held {
        read(&self.limits()).unwrap_or_default()
    }

    /// Returns the path of what the process is held to.
    pub fn limits(&self) -> PathBuf {
        self.path.join(limits::LIMITS)
    }

    /// Returns whether the process said at last that it was refused memory.
    pub fn was_refused_memory(&self) -> bool {
        // A backtrace may follow.
        self.said_at_last(64 << 10).is_some_and(|words| REFUSED_MEMORY.iter().all(|part| words.contains(part)))
    }

    /// Writes down how the process ended, as its parent sees it.
    pub fn note_exit(&self, code: Option<i32>, signal: Option<i32>) {
        let message = signal.map(|signal| format!("it was ended by signal {signal}"));
        let exit = serde_json::to_vec(&Exit { code, signal, message }).expect("our own types are representable");
        // Without it the process counts as killed, which is the same to most.
        let _ = put(&self.path.join(EXIT), &exit);
    }

    /// Returns the last lines that the process said.
    fn last_words(&self) -> Option<String> {
        const LINES: usize = 10;
        let text = self.said_at_last(8192)?;
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
        (!last.is_empty()).then_some(last)
    }
}

impl ProcessFolder {
    /// Returns the last bytes of what the process said.
    fn said_at_last(&self, most: usize) -> Option<String> {
        let text = fs::read(self.stderr()).ok()?;
        Some(String::from_utf8_lossy(&text[text.len().saturating_sub(most)..]).into_owned())
    }
}

impl fmt::Display for ProcessFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// What a parent sees of the end of a process.
#[derive(serde::Serialize, serde::Deserialize)]
struct Exit {
    code: Option<i32>,
    #[serde(default)]
    signal: Option<i32>,
    message: Option<String>,
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Makes a folder that is nobody else's, with those on the way.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that nobody else may read, all of it or nothing.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
