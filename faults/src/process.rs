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
/// Who gets on may take so many times as long: a machine with much to do is slow, and no fault of the job.
const SLOWER: u32 = 10;

/// How long something is waited for that may come late on a busy machine: as long as there is progress on the way to it, and no
/// longer than a hang takes to be one where there is none.
pub struct Patience {
    begun: Instant,
    moved: Instant,
    at: Option<i64>,
}

impl Patience {
    /// Begins to wait.
    pub fn begin() -> Patience {
        Patience { begun: now(), moved: now(), at: None }
    }

    /// Takes note of how far it is. Only a greater number than any before is progress.
    pub fn at(&mut self, at: i64) {
        if self.at.is_none_or(|before| at > before) {
            (self.at, self.moved) = (Some(at), now());
        }
    }

    /// Says why it is not waited for any longer, if it is not.
    pub fn over(&self) -> Option<String> {
        let (waited, still) = (self.begun.elapsed(), self.moved.elapsed());
        match () {
            () if still > HUNG_AFTER => {
                Some(format!("waited for {} s, and nothing moved in the last {} s", waited.as_secs(), still.as_secs()))
            }
            () if waited > HUNG_AFTER * SLOWER => {
                Some(format!("things got on for {} s, but never came there", waited.as_secs()))
            }
            () => None,
        }
    }
}

/// How late this machine lets somebody go on who wanted to before: what it adds to any span of time that is measured on it.
pub struct Lateness {
    last: Instant,
    most: Duration,
}

impl Lateness {
    /// Begins to measure.
    pub fn begin() -> Lateness {
        Lateness { last: now(), most: Duration::ZERO }
    }

    /// Waits a little.
    pub fn nap(&mut self) {
        nap(PAUSE);
        let late = self.last.elapsed();
        (self.last, self.most) = (now(), self.most.max(late));
    }

    /// Returns what may be added to a limit that is `usual` on a machine with little to do: threads wait one after the other.
    pub fn slack(&self, usual: Duration) -> Duration {
        usual.max(self.most * 4)
    }
}

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
