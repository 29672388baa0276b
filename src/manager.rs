//! `riverrun serve`: a manager. Jobs are submitted to it over REST; it writes down what is wanted, and keeps their processes at it.
//!
//! ```text
//! api      writes down what is wanted of a job, answers at once
//! keeper   one thread per job: observes, decides, writes the decision down, acts
//! ```
//! Whatever the manager does to a job it has written down before; killed at any moment, it finds in its database what it was at.
//! Jobs do not notice: their processes run on and are taken up again.

mod api;
mod bucket;
mod decide;
mod doors;
mod history;
mod keeper;
mod keys;
mod metrics;
mod moment;
mod phase;
mod policy;
mod previews;
mod problem;
mod processes;
mod record;
mod secrets;
mod series;
mod server;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use riverrun_jobs::{Environment, Plan};
use riverrun_state::Location;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

#[cfg(test)]
pub use api::document::{described, shape};
pub use api::{
    Cluster, ExceptionView, Exceptions, JobList, JobSavepoint, JobView, KeyView, Keys, Logs, MadeKey, NewKey,
    NewOffset, NewReplay, NewSavepoint, Offsets, OperationView, PREFIX, PartView, PatchOffsets, Rescale, RescaleView,
    Rescales, Savepoint, SavepointCatalogue, Savepoints, StateScript, Status, Stop, Submitted, Taken, Tapped,
    VERSION_HEADER, Version,
};
pub use history::Scale;
pub use keys::Role;
pub use phase::Phase;
pub use problem::ProblemDocument;
pub use record::{Cause, ChangeKind, OperationState, ProcessEnd, Spec};
pub use secrets::names as secret_names;

use crate::args::{Global, ServeArgs};
use crate::config::{self, Shown};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::{job, replay, signals, supervised};
use bucket::Buckets;
use decide::Rules;
use doors::Doors;
use keeper::{Keeper, Waker};
use metrics::Metrics;
use policy::Policy;
use previews::Previews;
use problem::{Kind, Problem};
use processes::{Groups, Places, Processes, private_folder};
use series::Series;
use server::Tls;
use store::{AuditEntry, Store};

/// Processes of a job, at most.
const PROCESSES_MAX: u16 = 64;
/// Workers of a process, at most.
const WORKERS_MAX: u16 = 1024;
/// A process of a job is on this machine: it answers soon, or not at all.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// A manager.
pub struct Manager {
    store: Store,
    processes: Processes,
    /// The program itself.
    program: PathBuf,
    previews: Previews,
    doors: Doors,
    buckets: Buckets,
    policy: Policy,
    rules: Rules,
    metrics: Metrics,
    /// The last minutes of each job.
    series: Series,
    /// How the manager was set up.
    config: Vec<Shown>,
    /// The jobs' keepers, by job.
    keepers: Mutex<BTreeMap<String, Arc<Waker>>>,
    /// Their threads.
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    http: reqwest::Client,
    runtime: Handle,
    ending: AtomicBool,
}

/// Serves until a signal comes.
pub fn serve(args: &ServeArgs, global: &Global) -> Done {
    let asked = signals::notice()?;
    // Files are looked for where the manager was started, which it leaves.
    let config = config::effective(global)?;
    let places = places(args)?;
    let store = Store::open(&places.data).map_err(|error| Failure::new(exit_of(&error), error.to_string()))?;
    let doors = Doors::at(args.listen, first_key(args)?, &store, args.insecure_no_auth)?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(Arc::new(Tls::read(cert, key)?)),
        (None, None) => None,
        _ => return Err(Failure::new(Exit::Usage, "--tls-cert and --tls-key are given together, or not at all")),
    };
    let groups = Groups::in_folders(&args.cgroup)
        .map_err(|why| Failure::new(Exit::Usage, format!("cannot use --cgroup {why}")))?;
    let policy = Policy {
        folders: folders(args, &places)?,
        buckets: args.files.iter().filter(|place| place.starts_with("s3://")).cloned().collect(),
        hosts: args.allow_host.clone(),
        private_hosts: args.allow_private_hosts,
        resolve: policy::resolved,
        limits: args.limits.limits(),
        limits_cpu: groups.limit_cpu(),
    };
    policy.check_limits(&policy.limits).map_err(|problem| Failure::new(Exit::Usage, problem.detail))?;
    Previews::sweep(&places.data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.or_exit(Exit::Internal, || "cannot start the manager".to_owned())?;
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIME).tls_backend_preconfigured(no_tls()?).build();
    let program = std::env::current_exe().or_exit(Exit::Internal, || "cannot find the program itself".to_owned())?;
    let manager = Arc::new(Manager {
        store,
        processes: Processes::new(program.clone(), places, policy.limits, groups),
        program,
        previews: Previews::default(),
        doors,
        buckets: Buckets::default(),
        policy,
        rules: Rules {
            healthy: args.healthy_within,
            stop: args.stop_within,
            silence: args.silent_within,
            ..Rules::default()
        },
        metrics: Metrics::new(),
        series: Series::default(),
        config,
        keepers: Mutex::default(),
        threads: Mutex::default(),
        http: http.or_exit(Exit::Internal, || "cannot start the manager".to_owned())?,
        runtime: runtime.handle().clone(),
        ending: AtomicBool::new(false),
    });
    let api = bind(&runtime, "--listen", args.listen)?;
    let admin = bind(&runtime, "--admin", args.admin)?;
    say(&manager, &api, &admin, tls.is_some(), global)?;
    manager.keep_all()?;
    runtime.block_on(manager.clone().serve(api, admin, tls, asked));
    manager.wakers().values().for_each(|waker| waker.wake());
    // Keepers wait for answers of processes by means of the runtime, so it lives until they have ended.
    let threads = std::mem::take(&mut *manager.threads.lock().unwrap_or_else(PoisonError::into_inner));
    let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
    // A keeper may be gone only because it panicked, which has ended the process.
    let _ = runtime.block_on(async { tokio::task::spawn_blocking(join).await });
    if args.stop_jobs || std::process::id() == 1 {
        let stop = move || manager.stop_jobs();
        let _ = runtime.block_on(async { tokio::task::spawn_blocking(stop).await });
    }
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(())
}

fn exit_of(error: &store::StoreError) -> Exit {
    match error {
        store::StoreError::Held(_) => Exit::Conflict,
        store::StoreError::Form(_) => Exit::Invalid,
        store::StoreError::Failed(_) => Exit::Storage,
    }
}

/// Makes the manager's folder and takes it for the working directory: paths of job files begin in its `files`, or in the first
/// folder of `--files`.
fn places(args: &ServeArgs) -> Result<Places, Failure> {
    let cannot = |path: &Path| {
        let shown = path.display().to_string();
        move || format!("cannot use the folder {shown}")
    };
    let data = &args.data;
    private_folder(data).or_exit(Exit::Storage, cannot(data))?;
    let data = data.canonicalize().or_exit(Exit::Storage, cannot(data))?;
    let plain = data.to_str().is_some_and(|text| !text.contains(['"', '\'', '{', '}', '$', '\\', '\n']));
    if !plain {
        let message = format!(
            "the folder {} cannot be the manager's\n  hint: its path stands in job files: no quotes, braces, `$` or backslashes",
            data.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let absolute = |text: &str| match text.contains("://") || Path::new(text).is_absolute() {
        true => Ok(text.to_owned()),
        false => std::path::absolute(text)
            .map(|path| path.display().to_string())
            .or_exit(Exit::Storage, cannot(Path::new(text))),
    };
    let inside = |name: &str| data.join(name).display().to_string();
    let topics = args.topics.as_deref().map_or_else(|| Ok(inside("topics")), absolute)?;
    let state = args.state.as_deref().map_or_else(|| Ok(inside("state")), absolute)?;
    let first = args.files.iter().find(|place| !place.contains("://"));
    let files = first.map_or_else(|| data.join("files"), PathBuf::from);
    private_folder(&files).or_exit(Exit::Storage, cannot(&files))?;
    let files = files.canonicalize().or_exit(Exit::Storage, cannot(&files))?;
    Ok(Places { data, topics, state, files })
}

/// Returns the folders that jobs may use, and goes to work in the first: paths that were given are read before.
fn folders(args: &ServeArgs, places: &Places) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = vec![places.files.clone()];
    for folder in args.files.iter().filter(|place| !place.contains("://")) {
        folders.push(Path::new(folder).canonicalize().or_exit(Exit::Usage, || format!("cannot use --files {folder}"))?);
    }
    std::env::set_current_dir(&places.files)
        .or_exit(Exit::Storage, || format!("cannot use the folder {}", places.files.display()))?;
    Ok(folders)
}

fn first_key(args: &ServeArgs) -> Result<Option<keys::Key>, Failure> {
    let Some(path) = &args.admin_key_file else { return Ok(None) };
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).or_exit(Exit::Usage, || format!("cannot read --admin-key-file {shown}"))?;
    keys::Key::first(text.trim()).map(Some).ok_or_else(|| {
        let message = format!("{shown} holds no API key\n  hint: one is written riverrun_<id>_<secret>: letters and digits, the secret 43 or more of them");
        Failure::new(Exit::Usage, message)
    })
}

/// Processes of jobs are asked on addresses of this machine, in the clear: no certificate of the system is read for that.
fn no_tls() -> Result<rustls::ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .or_exit(Exit::Internal, || "cannot start the manager".to_owned())?;
    Ok(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn bind(runtime: &tokio::runtime::Runtime, option: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    runtime
        .block_on(TcpListener::bind(address))
        .or_exit(Exit::Conflict, || format!("cannot serve {option} at {address}"))
}

fn say(manager: &Manager, api: &TcpListener, admin: &TcpListener, tls: bool, global: &Global) -> Done {
    let address =
        |listener: &TcpListener| listener.local_addr().or_exit(Exit::Internal, || "there is no address".to_owned());
    let (api, admin) = (address(api)?, address(admin)?);
    supervised::admin(admin)?;
    let scheme = if tls { "https" } else { "http" };
    // Where it is found when the port was any that is free.
    let place = manager.processes.places().data.join("address");
    supervised::put(&place, format!("{scheme}://{api}\n").as_bytes())
        .or_exit(Exit::Storage, || format!("cannot write {}", place.display()))?;
    if !global.quiet {
        // In one piece: who waits for these lines must not see half an address.
        let lines = format!("manager: {scheme}://{api}{PREFIX}\nadmin: http://{admin}\n");
        eprint!("{lines}");
        if manager.doors.are_open() {
            eprintln!(
                "note: whoever reaches this address may do everything\n  hint: `riverrun key create NAME --role admin` makes the first API key; from the next start on keys are asked for"
            );
        }
    }
    Ok(())
}

impl Manager {
    /// Answers requests until a signal comes.
    async fn serve(
        self: Arc<Manager>,
        api: TcpListener,
        admin: TcpListener,
        tls: Option<Arc<Tls>>,
        asked: signals::Asked,
    ) {
        let (end, ended) = watch::channel(false);
        let api = tokio::spawn(server::serve(api, tls, api::router(self.clone()), ended.clone()));
        let admin = tokio::spawn(server::serve(admin, None, metrics::router(self.clone()), ended));
        while !signals::asked(&asked) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Keepers, and answers that have no end of their own.
        self.ending.store(true, Ordering::SeqCst);
        // They hear it as soon as the sender says so; one that is gone has ended.
        let _ = end.send(true);
        let _ = (api.await, admin.await);
    }

    /// Starts a keeper for every job that is there.
    fn keep_all(self: &Arc<Manager>) -> Done {
        let jobs = self.store.jobs().map_err(|error| Failure::new(Exit::Storage, error.to_string()))?;
        jobs.iter().for_each(|job| self.keep(&job.name));
        Ok(())
    }

    /// Has a job kept, if it is not already.
    fn keep(self: &Arc<Manager>, job: &str) {
        let mut wakers = self.wakers();
        if wakers.contains_key(job) || self.ending.load(Ordering::SeqCst) {
            return;
        }
        let waker = Arc::new(Waker::default());
        let keeper = Keeper::of(self.clone(), job, waker.clone());
        match std::thread::Builder::new().name(format!("job {job}")).spawn(move || keeper.keep()) {
            Ok(thread) => {
                wakers.insert(job.to_owned(), waker);
                self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            }
            // The next request for the job tries again.
            Err(error) => tracing::error!(job, %error, "nobody keeps the job: there is no thread for it"),
        }
    }

    /// Has the keeper of a job look at it now.
    fn wake(self: &Arc<Manager>, job: &str) {
        self.keep(job);
        if let Some(waker) = self.wakers().get(job) {
            waker.wake();
        }
    }

    /// Returns whether the manager is about to end.
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    fn wakers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Waker>>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn audit(&self, entry: &AuditEntry) {
        if let Err(error) = self.store.audit(entry) {
            tracing::error!(%error, what = entry.what, who = entry.who, "the audit log is not written");
        }
    }

    /// Checks over how many processes and workers a job is to be spread.
    fn check_scale(&self, spec: &Spec) -> Result<(), Problem> {
        if spec.replay.is_some() && spec.processes != 1 {
            return Err(Problem::new(Kind::NotSupported, "a replay runs in one process\n  hint: give it workers"));
        }
        let fits = |what: &str, number: u16, most: u16| match (1..=most).contains(&number) {
            true => Ok(()),
            false => Err(Problem::new(Kind::BadRequest, format!("{what} are 1 to {most}, not {number}"))),
        };
        fits("processes", spec.processes, PROCESSES_MAX)?;
        fits("workers of a process", spec.workers, WORKERS_MAX)
    }

    /// Checks a job as its processes will: with its secrets where they find them.
    fn plan(&self, job: &str, spec: &Spec) -> Result<(Plan, riverrun_jobs::fault::Report), Problem> {
        let data = &self.processes.places().data;
        let text = secrets::for_process(data, job, &spec.text);
        let set: Vec<String> = spec.set.iter().map(|set| secrets::for_process(data, job, set)).collect();
        let (plan, report) =
            riverrun_jobs::check(&spec.file, &text, &set).map_err(|report| Problem::faulty(&report))?;
        match &spec.replay {
            None => Ok((plan, report)),
            Some(past) => {
                let unfit = |reason: String| Problem::new(Kind::BadRequest, reason);
                let rewind = replay::rewind(&past.asked(), plan.name());
                let rewind = rewind.map_err(|failure| unfit(failure.error.to_string()))?;
                Ok((plan.rewound(&rewind).map_err(unfit)?, report))
            }
        }
    }

    /// Returns where a job runs.
    fn environment(&self, job: &str, spec: &Spec) -> Environment {
        let places = self.processes.places();
        let resolved = |text: &str| secrets::for_process(&places.data, job, text);
        let topics = resolved(spec.topics.as_deref().unwrap_or(&places.topics));
        let registry = spec.schema_registry.as_deref().map(resolved);
        job::environment_at(Some(&topics), (registry.as_deref(), self.policy.reach(spec)), spec.until_end)
    }

    /// Returns where state is kept.
    fn state(&self) -> Result<Location, Problem> {
        Location::parse(&self.processes.places().state).map_err(|reason| Problem::new(Kind::Storage, reason))
    }
}
