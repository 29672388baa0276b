//! A folder of a test's own, and the binary as it is called there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::Tried;

/// Where one round happens. It is removed at the end, unless the round failed.
pub struct Place {
    dir: TempDir,
    binary: PathBuf,
}

impl Place {
    /// Returns a place of its own for `round`, which is kept if the round fails.
    pub fn with<T>(binary: &Path, round: impl FnOnce(&Place) -> Tried<T>) -> Tried<T> {
        let dir = TempDir::new().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let mut place = Place { dir, binary: binary.to_owned() };
        round(&place).map_err(|reason| {
            place.dir.disable_cleanup(true);
            format!("{reason}\n  kept: {}", place.dir.path().display())
        })
    }

    /// Returns where `name` lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Tried<()> {
        let path = self.path(name);
        let folder = path.parent().expect("it lies in the place");
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Reads a file; one that is not there is empty.
    pub fn read(&self, name: &str) -> Tried<Vec<u8>> {
        match std::fs::read(self.path(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|error| format!("cannot read {name}: {error}")),
        }
    }

    /// Copies the folder `from` to `to`.
    pub fn copy(&self, from: &str, to: &str) -> Tried<()> {
        let copied = Command::new("cp").arg("-a").arg(self.path(from)).arg(self.path(to)).output();
        let copied = copied.map_err(|error| format!("cannot start cp: {error}"))?;
        match copied.status.success() {
            true => Ok(()),
            false => Err(format!("cannot copy {from}: {}", String::from_utf8_lossy(&copied.stderr))),
        }
    }

    /// Removes a file or folder; that it is not there is fine.
    pub fn remove(&self, name: &str) -> Tried<()> {
        let path = self.path(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("cannot remove {name}: {error}")),
            _ => Ok(()),
        }
    }

    /// Returns how many files lie below `name`.
    pub fn files(&self, name: &str) -> usize {
        fn count(path: &Path) -> usize {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
        }
        count(&self.path(name))
    }

    /// Returns `riverrun` with these arguments; what the person at the desk has set does not reach it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.within(None, arguments)
    }

    /// Returns `riverrun` with these arguments, started by a shell that first does what `script` says.
    pub fn within(&self, script: Option<&str>, arguments: &[&str]) -> Command {
        let mut command = match script {
            None => Command::new(&self.binary),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{script}; exec \"$@\""), "sh"]).arg(&self.binary);
                shell
            }
        };
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RIVERRUN_")) {
            command.env_remove(name);
        }
        command
    }

    /// Opens the file in which everything that is said is kept.
    pub fn log(&self) -> Tried<File> {
        let opened = File::options().create(true).append(true).open(self.path("log"));
        opened.map_err(|error| format!("cannot write the log: {error}"))
    }

    /// Returns the last lines of what was said.
    pub fn said(&self) -> String {
        let log = self.read("log").unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Runs `riverrun` to its end, which must be a good one, and returns what it gave.
    pub fn run(&self, arguments: &[&str]) -> Tried<Vec<u8>> {
        self.done(self.command(arguments))
    }

    /// Runs a command to its end, which must be a good one, and returns what it gave.
    pub fn done(&self, mut command: Command) -> Tried<Vec<u8>> {
        let done = command.output();
        let done = done.map_err(|error| format!("cannot start {}: {error}", self.binary.display()))?;
        match done.status.success() {
            true => Ok(done.stdout),
            false => {
                let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
                let said = String::from_utf8_lossy(&done.stderr);
                Err(format!("`riverrun {}` ended with {}: {said}", arguments.join(" "), done.status))
            }
        }
    }

    /// Returns the records of a partition of a topic, one per line; none if there is no such topic.
    pub fn partition(&self, topics: &str, topic: &str, partition: u32) -> Tried<Vec<u8>> {
        if !self.path(topics).join(topic).exists() {
            return Ok(Vec::new());
        }
        self.run(&["topic", "tail", topic, "--topics", topics, "--from-start", "-p", &partition.to_string()])
    }
}
