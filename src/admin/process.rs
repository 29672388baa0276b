//! What the system says of this process: memory, CPU time, files, threads. From `/proc`; elsewhere nothing is said.

use std::fs;
use std::path::Path;

/// Clock ticks of `/proc` in a second: fixed by the kernel's interface on all platforms we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The most there may be.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since the epoch.
    pub started: f64,
}

impl Process {
    /// Returns what the system says now.
    pub fn now() -> Option<Process> {
        let text = |path: &str| fs::read_to_string(path).ok();
        let (stat, status) = (text("/proc/self/stat")?, text("/proc/self/status")?);
        let booted = text("/proc/stat")?.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let limits = text("/proc/self/limits")?;
        let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files")).and_then(first_number);
        // The name of the program stands in brackets and may hold anything: fields are counted from its end, state first.
        let fields: Vec<f64> =
            stat.rsplit_once(')')?.1.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
        let field = |number: usize| fields.get(number - 4).copied();
        let kib = |name: &str| status.lines().find_map(|line| first_number(line.strip_prefix(name)?));
        Some(Process {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            resident_bytes: kib("VmRSS:")? * 1024,
            virtual_bytes: kib("VmSize:")? * 1024,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_fds: max_fds.unwrap_or(0),
            threads: kib("Threads:")?,
            started: booted.unwrap_or(0.0) + field(22)? / TICKS_PER_SECOND,
        })
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().find_map(|word| word.parse().ok())
}

/// Returns how many files there are below a folder, and their bytes. Files that vanish meanwhile are not counted.
pub fn files_below(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(about) if about.is_dir() => folders.push(entry.path()),
                Ok(about) => {
                    files += 1;
                    bytes += about.len();
                }
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_knows_this_process() {
        let process = Process::now().unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds, "{process:?}");
        assert!(process.threads >= 1 && process.started > 1.6e9, "{process:?}");
        let busy = (0..50_000_000_u64).fold(0_u64, |a, b| std::hint::black_box(a ^ b));
        assert!(Process::now().unwrap().cpu_seconds > process.cpu_seconds, "no CPU time was taken for {busy}");
    }

    #[test]
    fn files_are_counted_with_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), "123").unwrap();
        fs::write(folder.path().join("c"), "45").unwrap();
        assert_eq!(files_below(folder.path()), (2, 5));
        assert_eq!(files_below(&folder.path().join("none")), (0, 0));
    }
}
