//! The binary as a process: started, watched, stopped, killed; never left behind.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, Signal, System};

/// After this a process counts as hung.
pub const HUNG_AFTER: Duration = Duration::from_secs(300);

/// A command that can be started, again and again.
pub struct Invocation {
    program: String,
    arguments: Vec<String>,
    folder: std::path::PathBuf,
    environment: Vec<(String, String)>,
}

impl Invocation {
    /// Returns `riverrun` with these arguments in this folder.
    pub fn new(folder: &Path, arguments: &[&str]) -> Invocation {
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        Invocation {
            program: env!("CARGO_BIN_EXE_riverrun").to_owned(),
            arguments,
            folder: folder.to_owned(),
            environment: Vec::new(),
        }
    }

    /// Runs an earlier build of the program instead, if `RIVERRUN_OLD_BINARY` names one.
    pub fn by_earlier_build(mut self) -> Invocation {
        if let Ok(program) = std::env::var("RIVERRUN_OLD_BINARY") {
            self.program = program;
        }
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Invocation {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args(self, arguments: &[&str]) -> Invocation {
        arguments.iter().fold(self, |all, argument| all.arg(*argument))
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Invocation {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Overrides a value of the job file.
    pub fn set(self, value: impl Into<String>) -> Invocation {
        self.arg("--set").arg(value)
    }

    /// Sets the number of workers.
    pub fn workers(self, workers: usize) -> Invocation {
        self.arg("-w").arg(workers.to_string())
    }

    /// Lets a shell do something first, for example set a limit; `"$@"` in the script is the command.
    pub fn within(self, shell: &[&str], script: &str) -> Invocation {
        let mut arguments: Vec<String> = shell[1..].iter().map(|argument| argument.to_string()).collect();
        arguments.extend(["-c".to_owned(), script.to_owned(), "sh".to_owned(), self.program]);
        arguments.extend(self.arguments);
        Invocation { program: shell[0].to_owned(), arguments, ..self }
    }

    /// Starts it, with what it says collected.
    pub fn start(&self) -> Running {
        let mut child = self.spawn();
        let (ended, ends) = channel();
        let stdout = collect(child.stdout.take(), ended.clone(), Heard::default());
        let heard = Heard::default();
        let stderr = collect(child.stderr.take(), ended, heard.clone());
        Running {
            child: Some(child),
            stdout,
            stderr,
            heard,
            ends,
            open: 2,
            said: self.arguments.join(" "),
            caught: false,
        }
    }

    /// Starts it, with its stdout left to the caller.
    pub fn start_with_stdout(&self) -> (Running, std::process::ChildStdout) {
        let mut child = self.spawn();
        let (ended, ends) = channel();
        let stdout = child.stdout.take().expect("it is a pipe");
        let heard = Heard::default();
        let stderr = collect(child.stderr.take(), ended, heard.clone());
        let nothing = collect(None::<std::io::Empty>, channel().0, Heard::default());
        (
            Running {
                child: Some(child),
                stdout: nothing,
                stderr,
                heard,
                ends,
                open: 1,
                said: self.arguments.join(" "),
                caught: false,
            },
            stdout,
        )
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        // What the person at the desk has set must not reach a test.
        let own = std::env::vars_os().map(|(name, _)| name);
        let own =
            own.filter(|name| ["RIVERRUN_", "AWS_"].iter().any(|start| name.to_string_lossy().starts_with(start)));
        own.for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", self.program))
    }

    /// Runs it to its end.
    pub fn finish(&self) -> Finished {
        self.start().finish()
    }

    /// Runs it to its end, which must be a good one.
    pub fn succeed(&self) -> Finished {
        let finished = self.finish();
        assert_eq!(finished.code, Some(0), "{finished}");
        finished
    }

    /// Runs it to its end, which must come with this exit code and a message with all of `says`.
    pub fn fail(&self, code: i32, says: &[&str]) -> Finished {
        let finished = self.finish();
        assert_eq!(finished.code, Some(code), "{finished}");
        for part in says {
            assert!(finished.stderr.contains(part), "`{part}` is not said: {finished}");
        }
        finished
    }
}

/// What a process has said so far.
type Heard = Arc<Mutex<Vec<u8>>>;

/// Collects what comes from a process, and gives it when that ends; it stands in `heard` as it comes.
fn collect(
    from: Option<impl Read + Send + 'static>,
    ended: std::sync::mpsc::Sender<()>,
    heard: Heard,
) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut part = [0; 8192];
        if let Some(mut from) = from {
            loop {
                match from.read(&mut part) {
                    Ok(count @ 1..) => heard.lock().expect("no reader panics").extend_from_slice(&part[..count]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // What was read before an error is still what was said.
                    Ok(_) | Err(_) => break,
                }
            }
        }
        let _ = send.send(heard.lock().expect("no reader panics").clone());
        let _ = ended.send(());
    });
    receive
}

/// A process that runs; it is killed when the test lets go of it.
pub struct Running {
    child: Option<Child>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    /// What it has said on stderr so far.
    heard: Heard,
    /// Says of each collected stream that it ended, which is when the process does.
    ends: Receiver<()>,
    open: usize,
    said: String,
    /// It was caught, and stands still.
    caught: bool,
}

/// The signals of a clean stop.
#[derive(Clone, Copy)]
pub enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

impl Running {
    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it was not waited for").id()
    }

    /// Waits for this long at most, and returns whether the process ended.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        while self.open > 0 {
            match self.ends.recv_timeout(time) {
                Ok(()) => self.open -= 1,
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        true
    }

    /// Kills it, as a power cut would.
    pub fn kill(mut self) {
        self.kill_now();
    }

    fn kill_now(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal that it need not be ready for. At once: on a busy machine a shell of its own comes long after.
    pub fn send(&self, signal: Signal) {
        let id = Pid::from_u32(self.id());
        let mut system = System::new();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), false, ProcessRefreshKind::nothing());
        let sent = system.process(id).and_then(|process| process.kill_with(signal));
        assert_eq!(sent, Some(true), "the signal was not sent");
    }

    /// Asks it to stop, once it listens: a process that was started a moment ago has no handlers yet. One that was caught goes on to do so.
    pub fn signal(&mut self, stop: Stop) {
        let (signal, number) = match stop {
            Stop::Terminate => (Signal::Term, 15),
            Stop::Interrupt => (Signal::Interrupt, 2),
        };
        let status = format!("/proc/{}/status", self.id());
        let listens = || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
            mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 1 << (number - 1) != 0)
        };
        if !listens() {
            self.let_go();
            self.until("its signal handlers", listens);
        }
        self.send(signal);
        self.let_go();
    }

    /// Lets it work in short turns, and looks while it stands still, until `there` says so: it is caught in the midst of its work then,
    /// however fast the machine is. The disk works on meanwhile, so a slow one does not leave what is looked for to the end. It can be
    /// killed, or goes on when it is waited for or asked to stop.
    pub fn catch(&mut self, what: &str, there: impl FnMut() -> bool) {
        if !self.is_caught(what, there) {
            let finished = self.take();
            panic!("it ended before {what}: {finished}");
        }
    }

    /// The same, but returns false if it ended first: on a machine whose disk is slow what is looked for may come with the end.
    pub fn is_caught(&mut self, what: &str, mut there: impl FnMut() -> bool) -> bool {
        let (turn, rest) = (Duration::from_millis(3), Duration::from_millis(20));
        for _ in 0..HUNG_AFTER.as_millis() / (turn + rest).as_millis() {
            if self.ends_within(turn) {
                return false;
            }
            self.send(Signal::Stop);
            self.caught = true;
            std::thread::sleep(rest);
            if self.stands_still() && there() {
                return true;
            }
            self.let_go();
        }
        self.kill_now();
        panic!("{what} never came, `{}`", self.said);
    }

    /// Catches it as soon as there is something in a file.
    pub fn catch_once_written(&mut self, file: &Path) {
        self.catch("a row", || std::fs::metadata(file).is_ok_and(|file| file.len() > 0));
    }

    /// Waits until a process that was told to stand still does; false if it ended first.
    fn stands_still(&self) -> bool {
        loop {
            let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
            // Behind the name, which is in brackets and may hold anything.
            match text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
                Some('T') => return true,
                None | Some('Z' | 'X') => return false,
                Some(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    /// Lets one that was caught go on.
    fn let_go(&mut self) {
        if std::mem::take(&mut self.caught) {
            self.send(Signal::Continue);
        }
    }

    /// Looks again and again until `there` says so; the process must not end meanwhile.
    pub fn until(&mut self, what: &str, mut there: impl FnMut() -> bool) {
        let pause = Duration::from_millis(5);
        for _ in 0..HUNG_AFTER.as_millis() / pause.as_millis() {
            if there() {
                return;
            }
            // What came last may have come between the look and the end.
            if self.ends_within(pause) && !there() {
                let finished = self.take();
                panic!("it ended before {what}: {finished}");
            }
        }
        self.kill_now();
        panic!("{what} never came, `{}`", self.said);
    }

    /// Returns what shows all that it has said on stderr, whenever that is asked.
    pub fn hears(&self) -> impl Fn() -> String + use<> {
        let heard = self.heard.clone();
        move || String::from_utf8_lossy(&heard.lock().expect("no reader panics")).into_owned()
    }

    /// Waits until it says `text` on stderr.
    pub fn until_said(&mut self, text: &str) {
        let heard = self.hears();
        self.until(&format!("`{text}`"), || heard().contains(text));
    }

    /// Waits until it has said a whole line on stderr that begins so, and returns the rest of it.
    pub fn until_line(&mut self, start: &str) -> String {
        let heard = self.hears();
        let rest = || {
            let all = heard();
            let whole = all.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            whole.filter_map(|line| line.strip_prefix(start)).next().map(str::to_owned)
        };
        self.until(&format!("a line with `{start}`"), || rest().is_some());
        rest().expect("what was said stays said")
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        self.let_go();
        if !self.ends_within(HUNG_AFTER) {
            self.kill_now();
            panic!("it hung: `{}`; {}", self.said, String::from_utf8_lossy(&self.stderr.recv().unwrap_or_default()));
        }
        self.take()
    }

    fn take(&mut self) -> Finished {
        let status = self.child.take().expect("it is waited for once").wait().expect("it is our child");
        let stderr = String::from_utf8_lossy(&self.stderr.recv().expect("it was collected")).into_owned();
        let finished = Finished {
            code: status.code(),
            stdout: self.stdout.recv().expect("it was collected"),
            stderr,
            said: self.said.clone(),
        };
        let panicked = ["panicked", "internal error:"].iter().any(|sign| finished.stderr.contains(sign));
        assert!(!panicked && ![Some(70), Some(101)].contains(&finished.code), "a panic: {finished}");
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let how = match self.child.is_some() {
            true if !self.ends_within(Duration::ZERO) => "still ran",
            true => "had ended",
            false => "was killed or waited for",
        };
        self.kill_now();
        if std::thread::panicking() {
            // The test failed while it had this process, which may be why. What it said last is still on its way.
            self.ends_within(Duration::from_secs(1));
            eprintln!("`{}` {how}; it had said:\n{}", self.said, self.hears()());
        }
    }
}

/// A process that ended.
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it said.
    pub stderr: String,
    said: String,
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let stdout = stdout.chars().take(4000).collect::<String>();
        write!(f, "`{}` ended with {:?}\n{}\n{stdout}", self.said, self.code, self.stderr)
    }
}

impl Finished {
    /// Returns the document that the run gave.
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("no JSON document, {error}: {self}"))
    }

    /// Returns the counts of a source or step from the balance that the run gave.
    pub fn counts(&self, name: &str) -> Counts {
        let document = self.document();
        let balance = find(&document, "balance").unwrap_or_else(|| panic!("no balance: {self}"));
        let of = |count: &str| balance[name][count].as_u64().unwrap_or_else(|| panic!("no {count} of {name}: {self}"));
        let counts = Counts {
            input: of("in"),
            taken: of("taken"),
            filtered: of("filtered"),
            late: of("late"),
            bad: of("bad"),
            duplicate: of("duplicate"),
            out: of("out"),
        };
        let Counts { input, taken, filtered, late, bad, duplicate, .. } = counts;
        assert_eq!(input, taken + filtered + late + bad + duplicate, "the balance of {name} does not add up: {self}");
        counts
    }

    /// Returns why the run ended.
    pub fn ended(&self) -> String {
        let document = self.document();
        let ended = find(&document, "ended").and_then(Value::as_str);
        ended.unwrap_or_else(|| panic!("no reason for the end: {self}")).to_owned()
    }
}

/// The rows of a source or step, by what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub input: u64,
    pub taken: u64,
    pub filtered: u64,
    pub late: u64,
    pub bad: u64,
    pub duplicate: u64,
    pub out: u64,
}

fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(key).or_else(|| members.values().find_map(|inner| find(inner, key))),
        _ => None,
    }
}
