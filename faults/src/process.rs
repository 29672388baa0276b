//! A job as a process: started, watched, stopped, killed; never left behind.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Tried;
use crate::place::Place;

/// After this a process counts as hung.
pub const HUNG_AFTER: Duration = Duration::from_secs(90);
/// How often something is looked at that is waited for.
pub const PAUSE: Duration = Duration::from_millis(1);

/// A process that runs a job.
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

/// What a kill met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    /// A process that ran; the kill ended it.
    Running,
    /// A process that had come to its good end before.
    Ended,
}

/// Returns the moment, which only measures and paces here.
#[expect(clippy::disallowed_methods, reason = "faults happen in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for this long.
pub fn nap(time: Duration) {
    std::thread::sleep(time);
}

/// Sends a signal to processes, all in one call.
pub fn signal(name: &str, processes: &[u32]) -> Tried<()> {
    let sent = Command::new("kill").arg(format!("-{name}")).args(processes.iter().map(u32::to_string)).output();
    match sent {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("cannot send {name}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("cannot start kill: {error}")),
    }
}

impl Process {
    /// Starts `command`; what it says goes to the log of `place`, what it gives to the file `gives` there.
    pub fn start(place: &Place, mut command: Command, gives: &str) -> Tried<Process> {
        let gives =
            std::fs::File::create(place.path(gives)).map_err(|error| format!("cannot write {gives}: {error}"))?;
        command.stdout(gives).stderr(place.log()?);
        let child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Process { child, ended: None })
    }

    /// Starts `command` with its stdin left to the caller.
    pub fn start_fed(place: &Place, mut command: Command) -> Tried<(Process, std::process::ChildStdin)> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(place.log()?);
        let mut child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let stdin = child.stdin.take().expect("it is a pipe");
        Ok((Process { child, ended: None }, stdin))
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended, if it did.
    pub fn ended(&mut self) -> Tried<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|error| format!("cannot wait for a process: {error}"))?;
        }
        Ok(self.ended)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Tried<ExitStatus> {
        self.wait_within(HUNG_AFTER)
    }

    /// Waits for its end, for so long at most.
    pub fn wait_within(&mut self, time: Duration) -> Tried<ExitStatus> {
        let from = now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if from.elapsed() > time {
                return Err(format!("process {} hangs", self.id()));
            }
            nap(PAUSE);
        }
    }

    /// Waits for its end, which must be with this exit code.
    pub fn wait_for(&mut self, place: &Place, code: i32) -> Tried<()> {
        let status = self.wait()?;
        match status.code() == Some(code) {
            true => Ok(()),
            false => Err(format!("a run ended with {status} instead of exit code {code}\n{}", place.said())),
        }
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self, place: &Place) -> Tried<Struck> {
        if self.ended()?.is_none() {
            self.child.kill().map_err(|error| format!("cannot kill: {error}"))?;
        }
        let status = self.wait()?;
        match (status.signal(), status.code()) {
            (Some(9), _) => Ok(Struck::Running),
            (_, Some(0)) => Ok(Struck::Ended),
            _ => Err(format!("a run ended by itself with {status}\n{}", place.said())),
        }
    }

    /// Looks again and again until `there` says so; the process must not end meanwhile, except well if `may_end`.
    pub fn until(
        &mut self,
        place: &Place,
        what: &str,
        may_end: bool,
        mut there: impl FnMut() -> Tried<bool>,
    ) -> Tried<bool> {
        let from = now();
        loop {
            if there()? {
                return Ok(true);
            }
            match self.ended()? {
                Some(status) if may_end && status.success() => return there(),
                Some(status) => return Err(format!("a run ended with {status} before {what}\n{}", place.said())),
                None if from.elapsed() > HUNG_AFTER => return Err(format!("{what} never came\n{}", place.said())),
                None => nap(PAUSE),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.ended(), Ok(Some(_))) {
            // It may end by itself in this very moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns how many bytes of an output file are committed, as its sidecar says; 0 before the first commit.
pub fn committed(place: &Place, file: &str) -> Tried<u64> {
    let text = place.read(&format!("{file}.riverrun.json"))?;
    if text.is_empty() {
        return Ok(0);
    }
    let sidecar: Value = serde_json::from_slice(&text).map_err(|error| format!("the sidecar of {file}: {error}"))?;
    sidecar["length"].as_u64().ok_or_else(|| format!("the sidecar of {file} has no length"))
}
