//! The `process` orchestrator: the processes of jobs on this machine.
//!
//! Each process has a folder of its own, `run/JOB/gGENERATION/pINDEX`, and all that is known of it stands there ([`crate::supervised`]). A
//! process does not die with the manager: jobs run on, and a manager that comes back takes them up again. What tells a living process
//! from a dead one is a lock on `lock` in its folder, which it is given as its standard input: it holds as long as the process
//! lives, whoever started it and whatever process ids are used again.

mod folder;
mod groups;
mod peers;
mod signal;
mod targets;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use folder::{GenerationFolder, ProcessFolder, private_folder, write_private};
pub use groups::Groups;
pub use signal::Usage;

use riverrun_connectors::reach::Reach;

use super::decide::{End, Process};
use super::keys;
use super::record::{Launch, Replay, Spec, Task};
use super::secrets;
use crate::limits::{Held, Limits};
use crate::output::bytes;
use crate::supervised;
use targets::Targets;

/// So many generations of a job leave their logs.
const GENERATIONS_KEPT: usize = 5;
/// What a process takes over from the environment of the manager. Everything else is the manager's own.
const INHERITED: &[&str] =
    &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_BACKTRACE"];
/// Where a bucket for state is and who may use it: as for every command.
const INHERITED_START: &str = "AWS_";
/// Has the allocator take memory as it is needed. Otherwise it takes a gigabyte at a time, all of which counts for a limit.
const COMMIT_LATE: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");
/// How often it is looked for the end of a child that has let go of its lock, and how long between two looks.
const REAPED_WITHIN: (u32, Duration) = (100, Duration::from_millis(2));

/// Where jobs run that do not say so themselves.
#[derive(Clone, Debug)]
pub struct Places {
    /// The manager's folder.
    pub data: PathBuf,
    /// Where topics live.
    pub topics: String,
    /// Where state is kept.
    pub state: String,
    /// Relative paths of job files begin here.
    pub files: PathBuf,
}

/// The processes of all jobs.
pub struct Processes {
    program: PathBuf,
    places: Places,
    /// Processes that this manager started, and has not seen end.
    children: Mutex<BTreeMap<PathBuf, Child>>,
    /// What processes took of the machine when they were looked at last, by folder.
    usages: Mutex<BTreeMap<PathBuf, Usage>>,
    limits: Limits,
    groups: Groups,
    targets: Targets,
}

/// How a job is run beside what it says itself.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// It adds to outputs that are not of its incarnation.
    pub append: bool,
    /// How far it may reach.
    pub reach: Reach,
}

/// What is seen of the processes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Those of the launch, by index.
    pub processes: Vec<Process>,
    /// So many of other generations live.
    pub strays: usize,
}

impl Processes {
    /// Returns the processes that run `program`, within `limits` where a job says nothing else.
    pub fn new(program: PathBuf, places: Places, limits: Limits, groups: Groups) -> Processes {
        let targets = Targets::in_folder(&places.data);
        Processes { program, places, children: Mutex::default(), usages: Mutex::default(), limits, groups, targets }
    }

    /// Returns where jobs run.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Returns the folder of a generation.
    pub fn generation(&self, job: &str, generation: u64) -> GenerationFolder {
        GenerationFolder::of(&self.places.data.join("run").join(job), generation)
    }

    /// Starts a process, unless it lives or has lived.
    pub fn ensure(&self, job: &str, spec: &Spec, manner: Manner, launch: &Launch, index: u16) -> Result<(), String> {
        let generation = self.generation(job, launch.generation);
        let folder = generation.process(index);
        let attempt =
            |error: std::io::Error| format!("cannot start process {index} of job `{job}` in {folder}: {error}");
        private_folder(&folder.path).map_err(attempt)?;
        let Some(lock) = folder.lock().map_err(attempt)? else { return Ok(()) };
        let text = secrets::for_process(&self.places.data, job, &spec.text);
        write_private(&generation.job_file(), text.as_bytes()).map_err(attempt)?;
        let token = keys::random(32).map_err(attempt)?;
        write_private(&folder.token(), token.as_bytes()).map_err(attempt)?;
        let held = self.held(&folder, &spec.limits.or(&self.limits)).map_err(attempt)?;
        let text = serde_json::to_vec(&held).expect("our own types are representable");
        write_private(&folder.limits(), &text).map_err(attempt)?;
        if launch.processes > 1 {
            peers::prepare(&self.places.data, job, launch.generation).map_err(attempt)?;
        }
        let stderr = append_to(&folder.stderr()).map_err(attempt)?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments(job, spec, manner, launch, &generation, &folder));
        command.env_clear().envs(inherited()).current_dir(&self.places.files);
        if held.data_bytes.is_some() {
            let (name, value) = COMMIT_LATE;
            command.env(name, value);
        }
        command.stdin(lock).stdout(stderr.try_clone().map_err(attempt)?).stderr(stderr).process_group(0);
        let child = command.spawn().map_err(attempt)?;
        self.children().insert(folder.path.clone(), child);
        self.drop_old(job, launch.generation);
        Ok(())
    }

    /// Makes what a process is held to.
    fn held(&self, folder: &ProcessFolder, limits: &Limits) -> std::io::Result<Held> {
        let groups = self.groups.make(&group_of(folder), limits)?;
        let Limits { memory_bytes, open_files, core_bytes, .. } = *limits;
        let data_bytes = memory_bytes.filter(|_| !self.groups.limit_memory());
        Ok(Held { groups, memory_bytes, data_bytes, open_files, core_bytes })
    }

    fn arguments(
        &self,
        job: &str,
        spec: &Spec,
        manner: Manner,
        launch: &Launch,
        generation: &GenerationFolder,
        folder: &ProcessFolder,
    ) -> Vec<String> {
        let resolved = |text: &str| secrets::for_process(&self.places.data, job, text);
        let path = |path: &Path| path.display().to_string();
        let verb = match (&launch.task, launch.processes) {
            (Task::Run, _) if spec.replay.is_some() => "replay",
            (Task::Run, 1) => "run",
            (Task::Run, _) => "worker",
            (Task::Upgrade { .. } | Task::Plant { .. } | Task::Move { .. }, _) => "upgrade",
        };
        let mut all = vec![verb.to_owned(), path(&generation.job_file())];
        let mut put = |name: &str, value: String| all.extend([name.to_owned(), value]);
        put("--topics", resolved(spec.topics.as_deref().unwrap_or(&self.places.topics)));
        put("--state", self.places.state.clone());
        put("--run-dir", path(&folder.path));
        put("--log", "info".to_owned());
        if let Some(registry) = &spec.schema_registry {
            put("--schema-registry", resolved(registry));
        }
        spec.set.iter().for_each(|set| put("--set", resolved(set)));
        match &launch.task {
            Task::Run => {
                put("--workers", launch.workers.to_string());
                put("--admin", "127.0.0.1:0".to_owned());
                put("--control-token-file", path(&folder.token()));
            }
            Task::Upgrade { allow, savepoint } => {
                allow.iter().for_each(|name| put("--allow-reset", name.clone()));
                savepoint.iter().for_each(|name| put("--savepoint", name.clone()));
            }
            Task::Plant { savepoint } => put("--from-savepoint", savepoint.clone()),
            Task::Move { offsets, .. } => offsets.iter().for_each(|offset| put("--offset", offset.clone())),
        }
        if verb == "worker" {
            let peers = peers::addresses(&self.places.data, job, launch);
            let mesh = [
                ("--process", folder.index.to_string()),
                ("--processes", launch.processes.to_string()),
                ("--peers", peers.join(",")),
                ("--mesh-generation", launch.generation.to_string()),
            ];
            all.extend(mesh.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        }
        if let Some(past) = spec.replay.as_ref().filter(|_| launch.task == Task::Run) {
            all.extend(past_options(past));
        }
        all.extend(matches!(launch.task, Task::Move { repeat: true, .. }).then(|| "--repeat".to_owned()));
        all.push("--quiet".to_owned());
        all.extend((manner.append && launch.task == Task::Run).then(|| "--append".to_owned()));
        all.extend((manner.reach == Reach::Public).then(|| "--public-hosts-only".to_owned()));
        all.extend(spec.until_end.then(|| "--until-end".to_owned()));
        all
    }

    /// Looks at the processes of a job.
    pub fn observe(&self, job: &str, launch: Option<&Launch>) -> Observed {
        let current = launch.map(|launch| launch.generation);
        let own = launch.map(|launch| self.generation(job, launch.generation));
        let indices = 0..launch.map_or(0, |launch| launch.processes);
        let processes =
            own.iter().flat_map(|own| indices.clone().map(|index| self.look(&own.process(index)))).collect();
        let others = GenerationFolder::all(&self.places.data.join("run").join(job));
        let others = others.into_iter().filter(|folder| Some(folder.number) != current);
        let alive = |folder: &ProcessFolder| self.look(folder) == Process::Alive;
        let strays = others.flat_map(|folder| folder.processes()).filter(alive).count();
        Observed { processes, strays }
    }

    /// Returns whether a process of a launch that was at its work lives no more.
    pub fn has_ended(&self, job: &str, launch: &Launch) -> bool {
        let generation = self.generation(job, launch.generation);
        (0..launch.processes).any(|index| !generation.process(index).is_locked())
    }

    /// Looks at a process.
    fn look(&self, folder: &ProcessFolder) -> Process {
        // The lock first: who has let go of it has said all that it will ever say.
        if folder.is_locked() {
            return Process::Alive;
        }
        self.reap(folder);
        match folder.end().or_else(|| folder.was_started().then(End::unknown)) {
            Some(end) => Process::Ended(self.explained(folder, end)),
            None => Process::Absent,
        }
    }

    /// Notes how a process ended that this manager started. It has let go of its lock, so it is about to be gone.
    fn reap(&self, folder: &ProcessFolder) {
        let mut children = self.children();
        let Some(child) = children.get_mut(&folder.path) else { return };
        let (looks, pause) = REAPED_WITHIN;
        for _ in 0..looks {
            match child.try_wait() {
                Ok(Some(status)) => {
                    children.remove(&folder.path);
                    return folder.note_exit(status.code(), status.signal());
                }
                Ok(None) => std::thread::sleep(pause),
                Err(_) => return,
            }
        }
    }

    /// Adds to the end of a process what the process could not say itself.
    fn explained(&self, folder: &ProcessFolder, end: End) -> End {
        let usage = self.usages().get(&folder.path).copied();
        // An allocator that is refused memory ends the process by SIGABRT, the system by SIGKILL.
        let may_be_memory = matches!(end.code, None | Some(137));
        let by_system = may_be_memory && self.groups.killed_for_memory(&group_of(folder));
        let (code, message) = match () {
            () if by_system || may_be_memory && folder.was_refused_memory() => {
                (Some(137), Some(out_of_memory(folder.held().memory_bytes)))
            }
            () if end.signal == Some(7) => (Some(135), Some(DISK_FULL.to_owned())),
            () => (end.code, end.message),
        };
        End { code, message, usage, ..end }
    }

    /// Asks a process by a signal to stop cleanly: one that serves no admin port, or does not answer there.
    pub fn interrupt(&self, job: &str, generation: u64, index: u16) {
        let folder = self.generation(job, generation).process(index);
        if let Some(who) = folder.who() {
            signal::terminate(&who);
        }
    }

    /// Kills a process.
    pub fn kill(&self, job: &str, generation: u64, index: u16) {
        self.kill_in(&self.generation(job, generation).process(index));
    }

    fn kill_in(&self, folder: &ProcessFolder) {
        if let Some(child) = self.children().get_mut(&folder.path) {
            // One that has ended meanwhile needs no killing.
            let _ = child.kill();
        } else if let Some(who) = folder.who() {
            signal::kill(&who);
        }
    }

    /// Kills all processes of a job but those of `launch`.
    pub fn kill_strays(&self, job: &str, launch: Option<&Launch>) {
        let current = launch.map(|launch| launch.generation);
        for generation in GenerationFolder::all(&self.places.data.join("run").join(job)) {
            if Some(generation.number) != current {
                generation
                    .processes()
                    .iter()
                    .filter(|folder| folder.is_locked())
                    .for_each(|folder| self.kill_in(folder));
            }
        }
    }

    /// Returns where the admin port of a process is, and the token of its control.
    pub fn control(&self, job: &str, generation: u64, index: u16) -> Option<(SocketAddr, String)> {
        let folder = self.generation(job, generation).process(index);
        let address = fs::read_to_string(folder.path.join(supervised::ADMIN)).ok()?.trim().parse().ok()?;
        let token = fs::read_to_string(folder.token()).ok()?;
        Some((address, token.trim().to_owned()))
    }

    /// Has Prometheus scrape these processes of a job, and no others.
    pub fn scraped(&self, job: &str, addresses: &[(u16, SocketAddr)]) {
        self.targets.set(job, addresses);
    }

    /// Returns memory and CPU time of a process that lives, and remembers them for when it has ended.
    pub fn usage(&self, job: &str, generation: u64, index: u16) -> Option<Usage> {
        let folder = self.generation(job, generation).process(index);
        let usage = signal::usage(&folder.who()?)?;
        self.usages().insert(folder.path, usage);
        Some(usage)
    }

    /// Returns the limit of memory of a process.
    pub fn memory_limit(&self, job: &str, generation: u64, index: u16) -> Option<u64> {
        self.generation(job, generation).process(index).held().memory_bytes
    }

    /// Deletes what is left of a job whose processes have ended.
    pub fn forget(&self, job: &str) -> std::io::Result<()> {
        self.targets.set(job, &[]);
        peers::forget(&self.places.data, job);
        self.forget_processes(&GenerationFolder::all(&self.places.data.join("run").join(job)));
        for folder in [self.places.data.join("run").join(job), secrets::folder(&self.places.data, job)] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes the folders of old generations.
    fn drop_old(&self, job: &str, newest: u64) {
        let mut all = GenerationFolder::all(&self.places.data.join("run").join(job));
        all.retain(|folder| folder.number < newest && folder.processes().iter().all(|process| !process.is_locked()));
        self.forget_processes(&all);
        let old = all.len().saturating_sub(GENERATIONS_KEPT - 1);
        for folder in &all[..old] {
            // It is tried again with the next generation.
            let _ = fs::remove_dir_all(&folder.path);
        }
    }

    /// Forgets what is known of processes that have ended, but for what stands in their folders.
    fn forget_processes(&self, generations: &[GenerationFolder]) {
        for folder in generations.iter().flat_map(GenerationFolder::processes) {
            self.groups.remove(&group_of(&folder));
            self.usages().remove(&folder.path);
        }
    }

    fn usages(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Usage>> {
        self.usages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said of a process that wrote to a file in memory which found no room on its disk.
const DISK_FULL: &str = "it was ended by signal 7: most likely a disk is full\n  hint: make room where state, topics and temporary files are";

/// Says that a process ended for want of memory, and what can be done.
fn out_of_memory(limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!(
            "it needed more than the {} of memory that it may have\n  hint: `riverrun submit JOB --limit-memory SIZE` gives each process more, `riverrun rescale JOB --processes N` spreads the job over more of them; `riverrun explain JOB` says what it keeps",
            bytes(limit)
        ),
        None => "there was no memory left for it\n  hint: give the machine more, or the job less to keep; `riverrun explain JOB` says what it keeps".to_owned(),
    }
}

/// Returns the name of the control groups of a process.
fn group_of(folder: &ProcessFolder) -> String {
    let parts: Vec<_> = folder.path.iter().rev().take(3).map(|part| part.to_string_lossy().into_owned()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(".")
}

/// Returns the options of a replay. Its name is written out: it would be another one if the program made it otherwise one day.
fn past_options(past: &Replay) -> Vec<String> {
    let Replay { name, from, to, rate, speed, then_live, .. } = past;
    let given = [("from", Some(from)), ("to", to.as_ref()), ("as", Some(name))];
    let given = given.into_iter().chain([("rate", rate.as_ref()), ("speed", speed.as_ref())]);
    let mut all: Vec<String> = given.filter_map(|(option, value)| Some(format!("--{option}={}", value?))).collect();
    all.extend(then_live.then(|| "--then-live".to_owned()));
    all
}

fn inherited() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(name, _)| INHERITED.contains(&name.as_str()) || name.starts_with(INHERITED_START))
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
