//! What a process of a job may take of the machine.
//!
//! Who starts a process says so in a file of its folder (`--run-dir`), and the process holds itself to it before it does anything else: a
//! process that is held to a limit from outside has lived without it for a while, and the memory that it took by then counts nowhere.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rlimit::Resource;
use serde::{Deserialize, Serialize};

use crate::exit::{Done, Exit, Failure, OrExit};

/// The file in the folder of a process.
pub const LIMITS: &str = "limits.json";
/// The file through which a process joins a control group, and what it writes there for itself.
const JOIN: (&str, &str) = ("cgroup.procs", "0");

/// What each process of a job may take, as far as there is a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// CPU time, in hundredths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// Files and connections that are open at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// The file that is left of a process that crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_bytes: Option<u64>,
}

impl Limits {
    /// Returns whether there is no limit at all.
    pub fn are_none(&self) -> bool {
        *self == Limits::default()
    }

    /// Returns these limits, and those of `others` where there is none.
    pub fn or(&self, others: &Limits) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes.or(others.memory_bytes),
            cpu_percent: self.cpu_percent.or(others.cpu_percent),
            open_files: self.open_files.or(others.open_files),
            core_bytes: self.core_bytes.or(others.core_bytes),
        }
    }

    /// Returns which of these are beyond `most`, as options are called, with what they may be.
    pub fn beyond(&self, most: &Limits) -> Vec<(&'static str, u64)> {
        let pairs = [
            ("--limit-memory", self.memory_bytes, most.memory_bytes),
            ("--limit-cpus", self.cpu_percent.map(u64::from), most.cpu_percent.map(u64::from)),
            ("--limit-open-files", self.open_files, most.open_files),
            ("--limit-core", self.core_bytes, most.core_bytes),
        ];
        let beyond = |(name, asked, most): (&'static str, Option<u64>, Option<u64>)| {
            most.filter(|most| asked.is_some_and(|asked| asked > *most)).map(|most| (name, most))
        };
        pairs.into_iter().filter_map(beyond).collect()
    }
}

/// What a process holds itself to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Held {
    /// Control groups that it joins, which limit what they limit.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
    /// Memory, however it is limited: for whoever explains the end of the process.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Memory that it may write to, where no control group limits it.
    #[serde(default)]
    pub data_bytes: Option<u64>,
    /// Open files.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// The size of a core file.
    #[serde(default)]
    pub core_bytes: Option<u64>,
}

/// Holds this process to what stands in its folder. One that cannot be held to it does not run.
pub fn hold(folder: &Path) -> Done {
    let path = folder.join(LIMITS);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.or_exit(Exit::Storage, || format!("cannot read {}", path.display()))?,
    };
    let held: Held =
        serde_json::from_slice(&text).or_exit(Exit::Invalid, || format!("cannot use {}", path.display()))?;
    for group in &held.groups {
        let (file, own) = JOIN;
        fs::write(group.join(file), own)
            .or_exit(Exit::Storage, || format!("cannot join the control group {}", group.display()))?;
    }
    limit(Resource::DATA, "memory", held.data_bytes)?;
    limit(Resource::NOFILE, "open files", held.open_files)?;
    limit(Resource::CORE, "the size of a core file", held.core_bytes)
}

fn limit(resource: Resource, what: &str, most: Option<u64>) -> Done {
    let Some(most) = most else { return Ok(()) };
    resource.set(most, most).map_err(|error| {
        let may = resource.get().map(|(_, hard)| hard).unwrap_or(most);
        let message =
            format!("cannot limit {what} to {most}: {error}\n  hint: this process may set it to {may} at most");
        Failure::new(Exit::Invalid, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Limits =
        Limits { memory_bytes: Some(100), cpu_percent: Some(150), open_files: None, core_bytes: Some(0) };

    #[test]
    fn the_nearest_limit_counts() {
        let others = Limits { memory_bytes: Some(7), open_files: Some(9), ..Limits::default() };
        assert_eq!(SOME.or(&others), Limits { open_files: Some(9), ..SOME });
        assert!(Limits::default().are_none() && !SOME.are_none());
    }

    #[test]
    fn what_is_beyond_is_named_and_what_has_no_bound_is_not() {
        let most = Limits { memory_bytes: Some(99), cpu_percent: Some(150), ..Limits::default() };
        assert_eq!(SOME.beyond(&most), [("--limit-memory", 99)]);
        assert_eq!(SOME.beyond(&Limits::default()), []);
    }

    #[test]
    fn a_folder_without_limits_holds_to_nothing_and_a_damaged_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        hold(folder.path()).unwrap();
        fs::write(folder.path().join(LIMITS), "{").unwrap();
        assert_eq!(hold(folder.path()).unwrap_err().exit, Exit::Invalid);
        let nowhere = Held { groups: vec![folder.path().join("no group")], ..Held::default() };
        fs::write(folder.path().join(LIMITS), serde_json::to_vec(&nowhere).unwrap()).unwrap();
        assert_eq!(hold(folder.path()).unwrap_err().exit, Exit::Storage);
    }
}
