//! Signals to processes that may be nobody's children, and what the system says of them.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, Signal, System};

use crate::supervised::{Who, born};

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since it began, in milliseconds.
    pub cpu_millis: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// Asks a process to stop cleanly.
pub fn terminate(who: &Who) {
    send(who, Signal::Term);
}

/// Ends a process at once.
pub fn kill(who: &Who) {
    send(who, Signal::Kill);
}

fn send(who: &Who, signal: Signal) {
    if let Some((system, pid)) = find(who, ProcessRefreshKind::nothing())
        && let Some(process) = system.process(pid)
    {
        // One that has ended meanwhile needs no signal.
        let _ = process.kill_with(signal);
    }
}

/// Returns what a process takes, if it lives.
pub fn usage(who: &Who) -> Option<Usage> {
    let (system, pid) = find(who, ProcessRefreshKind::nothing().with_cpu().with_memory())?;
    let process = system.process(pid)?;
    Some(Usage { cpu_millis: process.accumulated_cpu_time(), resident_bytes: process.memory() })
}

/// Finds a process, unless its id is another one's by now.
fn find(who: &Who, kind: ProcessRefreshKind) -> Option<(System, Pid)> {
    if born(who.pid)? != who.born {
        return None;
    }
    let mut system = System::new();
    let pid = Pid::from_u32(who.pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    Some((system, pid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_stopped_and_one_of_the_same_id_is_not() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let who = Who { pid: child.id(), born: born(child.id()).unwrap() };
        kill(&Who { born: "another".to_owned(), ..who.clone() });
        assert!(usage(&who).unwrap().resident_bytes > 0, "it lives");
        terminate(&who);
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        assert_eq!(usage(&who), None);
    }
}
