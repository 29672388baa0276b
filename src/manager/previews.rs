//! Previews: the first rows that a job would write, from a process of its own, so that whatever the job does is done to that process.
//!
//! ```text
//! `riverrun preview` --stdout--> reader (a thread) --rows--> whoever asked
//!          ^ killed by the watcher (a thread): too long, too much memory, or nobody listens any more
//! ```
//! It reads from the beginning, writes nothing and keeps nothing. Rows, bytes, time, memory and how many there are at once are bounded.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use riverrun_connectors::reach::Reach;
use serde_json::Value;
use serde_json::value::RawValue;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api::{NewPreview, PreviewEnd, PreviewRow};
use super::keys;
use super::moment::Moment;
use super::processes::{Places, private_folder, write_private};
use super::record::Spec;
use super::secrets;

/// Previews at once.
const AT_ONCE: usize = 4;
/// What a preview may take of the memory of the machine.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// What it may say.
const OUTPUT_BYTES_MAX: u64 = 8 << 20;
/// What is kept of why it failed.
const WHY_BYTES_MAX: u64 = 8 << 10;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// It ends by itself in time; one that does not is killed so much later.
const GRACE: Duration = Duration::from_secs(5);
/// Of what it takes over of the manager's environment.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The previews of a manager.
pub struct Previews {
    places: Arc<Semaphore>,
}

/// What comes of a preview.
pub enum Shown {
    /// A row that a sink would get.
    Row(PreviewRow),
    /// Nothing more.
    End(PreviewEnd),
}

/// What is needed to run a preview.
pub struct Preparing<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where jobs run.
    pub places: &'a Places,
    /// What was asked for.
    pub asked: &'a NewPreview,
    /// The job whose secrets it may use; empty: none.
    pub of: &'a str,
    /// How far it may reach.
    pub reach: Reach,
}

impl Default for Previews {
    fn default() -> Previews {
        Previews { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Previews {
    /// Deletes what a manager that was killed has left of previews.
    pub fn sweep(data: &Path) {
        // What cannot be deleted is tried again at the next start.
        let _ = fs::remove_dir_all(folder(data));
        for entry in fs::read_dir(data.join("secrets")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(SECRETS) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Starts a preview; `None` if there are too many already. What comes of it comes by the receiver; whoever drops that ends it.
    pub fn start(&self, preparing: &Preparing<'_>) -> std::io::Result<Option<Receiver<Shown>>> {
        let Ok(place) = self.places.clone().try_acquire_owned() else { return Ok(None) };
        let id = keys::random(8)?;
        let left = Left { folder: folder(&preparing.places.data).join(&id), secrets: preparing.secrets(&id)? };
        private_folder(&left.folder)?;
        let mut child = preparing.spawn(&id, &left.folder)?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no stdout"))?;
        let asked = preparing.asked;
        // All rows have room there, so that no thread ever waits for whoever asked.
        let (sender, receiver) = channel(asked.limit() + 1);
        let child = Arc::new(Mutex::new(child));
        let watch = Watch { child: child.clone(), sender: sender.clone(), end: Arc::default() };
        let (end, deadline) = (watch.end.clone(), Moment::now().after(asked.time() + GRACE));
        std::thread::Builder::new().name("preview".to_owned()).spawn(move || watch.until(deadline))?;
        let reading = Reading { child, sender, end, left, _place: place };
        std::thread::Builder::new().name("preview rows".to_owned()).spawn(move || reading.read(stdout))?;
        Ok(Some(receiver))
    }
}

/// Begins the names of folders of secrets that are a preview's: no job has such a name.
const SECRETS: &str = "preview.";

fn folder(data: &Path) -> PathBuf {
    data.join("previews")
}

impl Preparing<'_> {
    /// Lays out what the preview may know of secrets: those of the job that the file names, and those that came with it.
    fn secrets(&self, id: &str) -> std::io::Result<PathBuf> {
        let (data, name) = (&self.places.data, format!("{SECRETS}{id}"));
        if !self.of.is_empty() {
            secrets::copy(data, self.of, &name)?;
        }
        secrets::keep(data, &name, &self.asked.secrets)?;
        Ok(secrets::folder(data, &name))
    }

    fn spawn(&self, id: &str, folder: &Path) -> std::io::Result<Child> {
        let Spec { text, set, topics, schema_registry, .. } = &self.asked.spec;
        let resolved = |text: &str| secrets::for_process(&self.places.data, &format!("{SECRETS}{id}"), text);
        let file = folder.join("job.yaml");
        write_private(&file, resolved(text).as_bytes())?;
        let mut command = Command::new(self.program);
        command.arg("preview").arg(&file).args(["-o", "json", "--quiet", "--limit", &self.asked.limit().to_string()]);
        command.args(["--within", &format!("{}s", self.asked.time().as_secs())]);
        command.arg("--topics").arg(resolved(topics.as_deref().unwrap_or(&self.places.topics)));
        if let Some(registry) = schema_registry {
            command.arg("--schema-registry").arg(resolved(registry));
        }
        for set in set {
            command.arg("--set").arg(resolved(set));
        }
        if let Some(sink) = &self.asked.sink {
            command.arg("--sink").arg(sink);
        }
        if self.reach == Reach::Public {
            command.arg("--public-hosts-only");
        }
        let inherited = std::env::vars().filter(|(name, _)| INHERITED.contains(&name.as_str()));
        command.env_clear().envs(inherited).current_dir(&self.places.files);
        let stderr = fs::File::create(folder.join("stderr"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn()
    }
}

/// What a preview leaves, which is deleted when it is over.
struct Left {
    folder: PathBuf,
    secrets: PathBuf,
}

impl Drop for Left {
    fn drop(&mut self) {
        for folder in [&self.folder, &self.secrets] {
            // What is left is deleted when the manager starts the next time.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Why a preview was killed, if it was.
type Killed = Arc<Mutex<Option<&'static str>>>;

/// Sees to it that a preview ends.
struct Watch {
    child: Arc<Mutex<Child>>,
    sender: Sender<Shown>,
    end: Killed,
}

impl Watch {
    fn until(self, deadline: Moment) {
        let pid = Pid::from_u32(self.lock().id());
        let mut system = System::new();
        loop {
            std::thread::sleep(LOOK_EVERY);
            let what = ProcessRefreshKind::nothing().with_memory();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
            let memory = system.process(pid).map_or(0, sysinfo::Process::memory);
            let why = match () {
                () if Moment::now() >= deadline => "time",
                () if memory > MEMORY_BYTES_MAX => "memory",
                () if self.sender.is_closed() => "nobody",
                () => "",
            };
            let mut child = self.lock();
            // Asked under the lock: its process id is nobody else's as long as it was not waited for.
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            if !why.is_empty() {
                *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                // One that has ended meanwhile needs no killing.
                let _ = child.kill();
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands on what a preview says.
struct Reading {
    child: Arc<Mutex<Child>>,
    sender: Sender<Shown>,
    end: Killed,
    left: Left,
    _place: OwnedSemaphorePermit,
}

/// A line of `riverrun preview -o json`.
#[derive(serde::Deserialize)]
struct Line {
    sink: String,
    row: Option<Box<RawValue>>,
    text: Option<String>,
}

impl Reading {
    fn read(self, stdout: impl Read) {
        let (mut rows, mut other, mut read) = (0, String::new(), 0);
        let mut lines = BufReader::new(stdout.take(OUTPUT_BYTES_MAX));
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            read += line.len() as u64;
            match serde_json::from_str::<Line>(&line) {
                Ok(Line { sink, row, text }) => {
                    let row = row.and_then(|row| serde_json::from_str::<Value>(row.get()).ok());
                    rows += 1;
                    // Nobody listens any more, which ends it.
                    if self.sender.try_send(Shown::Row(PreviewRow { sink, row, text })).is_err() {
                        break;
                    }
                }
                Err(_) if (other.len() as u64) < WHY_BYTES_MAX => other.push_str(&line),
                Err(_) => {}
            }
            line.clear();
        }
        let end = self.ended(rows, &other, read >= OUTPUT_BYTES_MAX);
        // There is room for it: as many rows came as were asked for, at most.
        let _ = self.sender.try_send(Shown::End(end));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, rows: usize, said: &str, too_long: bool) -> PreviewEnd {
        if too_long || self.sender.is_closed() {
            let _ = self.lock().kill();
        }
        // Its stdout is closed: it has ended, or is about to, or is ended by the watcher.
        let code = loop {
            let status = self.lock().try_wait();
            match status {
                Ok(Some(status)) => break status.code(),
                Ok(None) => std::thread::sleep(LOOK_EVERY / 5),
                Err(_) => break None,
            }
        };
        let killed = *self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let (reason, message) = match (killed, code) {
            _ if too_long => ("size", Some(format!("its rows are longer than {OUTPUT_BYTES_MAX} bytes together"))),
            (Some("memory"), _) => ("memory", Some(format!("it took more than {MEMORY_BYTES_MAX} bytes of memory"))),
            (Some(why), _) => (why, None),
            (None, Some(0)) => ("done", None),
            (None, code) => ("failed", Some(self.why(said, code))),
        };
        PreviewEnd { rows, reason: reason.to_owned(), message }
    }

    /// Returns what a preview that failed said of it.
    fn why(&self, said: &str, code: Option<i32>) -> String {
        let mut text = String::new();
        if let Ok(file) = fs::File::open(self.left.folder.join("stderr")) {
            // What cannot be read as text is no message.
            let _ = file.take(WHY_BYTES_MAX).read_to_string(&mut text);
        }
        let faults: Vec<Value> = serde_json::from_str(said).unwrap_or_default();
        for fault in faults.iter().filter_map(|fault| fault["message"].as_str()) {
            text.push_str(&format!("\n{fault}"));
        }
        let text = text.replace(&self.left.folder.display().to_string(), "").trim().to_owned();
        match (text.is_empty(), code) {
            (false, _) => text,
            (true, Some(code)) => format!("it ended with exit code {code}"),
            (true, None) => "it was killed".to_owned(),
        }
    }
}
