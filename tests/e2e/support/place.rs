//! A folder of a test's own, in which the binary runs.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::process::Invocation;

/// A folder that goes when the test ends.
pub struct Place(TempDir);

impl Place {
    /// Makes an empty one.
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("the test can write"))
    }

    /// Returns the path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, with the folders on the way.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Place {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("the test can write");
        fs::write(path, bytes).expect("the test can write");
        self
    }

    /// Returns what a file holds.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
    }

    /// Returns the rows of a file of JSON lines.
    pub fn rows(&self, name: &str) -> Vec<serde_json::Value> {
        json_lines(&self.read(name))
    }

    /// Returns all files below `name`, by path.
    pub fn files_below(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
            for entry in entries {
                let path = entry.expect("the folder stays").path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// Removes what runs left here: state, and files of rows beside the job files.
    pub fn forget_runs(&self) {
        fs::remove_dir_all(self.path(".riverrun")).expect("there was a run");
        for entry in fs::read_dir(self.folder()).expect("it is a folder") {
            let path = entry.expect("the folder stays").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".jsonl") || name.ends_with(".riverrun.json") {
                fs::remove_file(&path).expect("the test can write");
            }
        }
    }

    /// Returns `riverrun` with these arguments, in this folder, not yet started.
    pub fn riverrun(&self, arguments: &[&str]) -> Invocation {
        Invocation::new(self.folder(), arguments)
    }

    /// Returns `riverrun run JOB`, not yet started.
    pub fn run(&self, job: &str) -> Invocation {
        self.riverrun(&["run", job, "-o", "json"])
    }
}

/// Returns the rows of JSON lines, each of which must be one.
pub fn json_lines(bytes: &[u8]) -> Vec<serde_json::Value> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let row = |line: &[u8]| {
        serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)))
    };
    lines.map(row).collect()
}
