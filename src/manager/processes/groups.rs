//! Control groups: what the system holds the processes of jobs to, where the manager was given folders of it.
//!
//! ```text
//! FOLDER/attribution.g7.p0    one group for each process, in each of the folders
//! ```
//! With version 2 of control groups one folder limits memory and CPU time; with version 1 each has a folder of its own.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::limits::Limits;

/// The span in which a group gets its share of CPU time, in microseconds.
const PERIOD_US: u64 = 100_000;

/// Folders of control groups in which the manager makes groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    roots: Vec<Root>,
}

/// A folder, and what its groups limit.
#[derive(Clone, Debug)]
struct Root {
    path: PathBuf,
    unified: bool,
    memory: bool,
    cpu: bool,
}

impl Root {
    fn at(path: &Path) -> Result<Root, String> {
        let has = |name: &str| path.join(name).exists();
        let path = path.to_owned();
        let controllers = path.join("cgroup.controllers");
        if !controllers.exists() {
            let (memory, cpu) = (has("memory.limit_in_bytes"), has("cpu.cfs_quota_us"));
            return match memory || cpu {
                true => Ok(Root { path, unified: false, memory, cpu }),
                false => Err("it is no control group that limits memory or CPU time".to_owned()),
            };
        }
        let offered = fs::read_to_string(&controllers).map_err(|error| error.to_string())?;
        let passes_on = |name: &str| -> Result<bool, String> {
            if !offered.split_whitespace().any(|offer| offer == name) {
                return Ok(false);
            }
            let passed = fs::write(path.join("cgroup.subtree_control"), format!("+{name}"));
            passed.map(|()| true).map_err(|error| {
                format!("it cannot pass `{name}` on to groups in it: {error}; no process, the manager neither, may be in it itself")
            })
        };
        let (memory, cpu) = (passes_on("memory")?, passes_on("cpu")?);
        match memory || cpu {
            true => Ok(Root { path, unified: true, memory, cpu }),
            false => Err("neither `memory` nor `cpu` is among its controllers".to_owned()),
        }
    }

    /// Makes a group.
    fn make(&self, name: &str, limits: &Limits) -> io::Result<PathBuf> {
        let group = self.path.join(name);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let put = |file: &str, value: &str| fs::write(group.join(file), value);
        // Not every system counts memory that was put aside on disk.
        let put_if_there = |file: &str, value: &str| if group.join(file).exists() { put(file, value) } else { Ok(()) };
        if let Some(bytes) = limits.memory_bytes.filter(|_| self.memory).map(|bytes| bytes.to_string()) {
            match self.unified {
                true => {
                    put("memory.max", &bytes)?;
                    put_if_there("memory.swap.max", "0")?;
                    put_if_there("memory.oom.group", "1")?;
                }
                false => {
                    put("memory.limit_in_bytes", &bytes)?;
                    put_if_there("memory.memsw.limit_in_bytes", &bytes)?;
                }
            }
        }
        if let Some(quota) = limits.cpu_percent.filter(|_| self.cpu).map(|percent| u64::from(percent) * PERIOD_US / 100)
        {
            match self.unified {
                true => put("cpu.max", &format!("{quota} {PERIOD_US}"))?,
                false => {
                    put("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                    put("cpu.cfs_quota_us", &quota.to_string())?;
                }
            }
        }
        Ok(group)
    }

    /// Returns how many processes of a group the system has killed for want of memory.
    fn killed_for_memory(&self, name: &str) -> u64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(name).join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }
}

impl Groups {
    /// Returns the groups in these folders. An error says which folder cannot be used, and why.
    pub fn in_folders(paths: &[PathBuf]) -> Result<Groups, String> {
        let root = |path: &PathBuf| Root::at(path).map_err(|why| format!("{}: {why}", path.display()));
        Ok(Groups { roots: paths.iter().map(root).collect::<Result<_, _>>()? })
    }

    /// Returns whether they limit memory.
    pub fn limit_memory(&self) -> bool {
        self.roots.iter().any(|root| root.memory)
    }

    /// Returns whether they limit CPU time.
    pub fn limit_cpu(&self) -> bool {
        self.roots.iter().any(|root| root.cpu)
    }

    /// Makes the groups of a process, and returns them.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<Vec<PathBuf>> {
        self.roots.iter().map(|root| root.make(name, limits)).collect()
    }

    /// Returns whether the system has killed the process for want of memory.
    pub fn killed_for_memory(&self, name: &str) -> bool {
        self.roots.iter().any(|root| root.memory && root.killed_for_memory(name) > 0)
    }

    /// Removes the groups of a process that has ended.
    pub fn remove(&self, name: &str) {
        for root in &self.roots {
            // One that is not empty yet is removed with the next generation.
            let _ = fs::remove_dir(root.path.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { memory_bytes: Some(64 << 20), cpu_percent: Some(150), open_files: None, core_bytes: None };

    /// A folder with these files, as the system would have made it.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
        folder
    }

    #[test]
    fn each_version_has_its_own_words_for_the_same_limits() {
        let read = |folder: &tempfile::TempDir, name: &str| fs::read_to_string(folder.path().join("a").join(name));
        let unified = folder(&[("cgroup.controllers", "cpuset cpu io memory pids\n")]);
        let groups = Groups::in_folders(&[unified.path().to_owned()]).unwrap();
        assert!(groups.limit_memory() && groups.limit_cpu());
        groups.make("a", &LIMITS).unwrap();
        assert_eq!(read(&unified, "memory.max").unwrap(), (64 << 20).to_string());
        assert_eq!(read(&unified, "cpu.max").unwrap(), "150000 100000");
        fs::write(unified.path().join("a/memory.events"), "low 0\nmax 7\noom 1\noom_kill 1\n").unwrap();
        assert!(groups.killed_for_memory("a") && !groups.killed_for_memory("b"));

        let (memory, cpu) = (folder(&[("memory.limit_in_bytes", "")]), folder(&[("cpu.cfs_quota_us", "")]));
        let groups = Groups::in_folders(&[memory.path().to_owned(), cpu.path().to_owned()]).unwrap();
        assert!(groups.limit_memory() && groups.limit_cpu());
        let made = groups.make("a", &LIMITS).unwrap();
        assert_eq!(made, [memory.path().join("a"), cpu.path().join("a")]);
        assert_eq!(read(&memory, "memory.limit_in_bytes").unwrap(), (64 << 20).to_string());
        assert_eq!(read(&cpu, "cpu.cfs_quota_us").unwrap(), "150000");
        assert!(read(&memory, "cpu.cfs_quota_us").is_err() && read(&cpu, "memory.limit_in_bytes").is_err());
        fs::write(memory.path().join("a/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n").unwrap();
        assert!(!groups.killed_for_memory("a"));
    }

    #[test]
    fn a_folder_that_is_no_control_group_is_said() {
        let plain = folder(&[]);
        let why = Groups::in_folders(&[plain.path().to_owned()]).unwrap_err();
        assert!(why.contains("no control group") && why.contains(&plain.path().display().to_string()), "{why}");
        let others = folder(&[("cgroup.controllers", "pids\n")]);
        assert!(Groups::in_folders(&[others.path().to_owned()]).unwrap_err().contains("controllers"));
        assert!(!Groups::default().limit_memory());
    }
}
