//! `riverrun run`: one job, here, until its input ends or somebody stops it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use riverrun_dataflow::engine::{Control, EngineError, Observer, Stall, StallCause, Watchdog, WatchdogLimits};
use riverrun_jobs::Plan;
use riverrun_jobs::run::{self, Ended, Outcome, RunError, RunOptions};
use riverrun_state::inspect::Named;
use riverrun_state::{Location, Store};
use serde::Serialize;

use crate::admin::{self, Admin, Board, Steering, StopWish};
use crate::args::{Global, RunArgs, StateArgs, WatchArgs};
use crate::exit::{Done, Exit, Failure, OrExit};
use crate::job;
use crate::output::{self, Format, Stdout};
use crate::progress::Progress;
use crate::savepoint::OnStop;
use crate::{signals, supervised, upgrade};

/// Where state is kept if nobody says.
pub const STATE: &str = ".riverrun/state";

/// Runs the job.
pub fn run(args: &RunArgs, global: &Global) -> Done {
    // From the first moment on: a signal that comes while the job is still being read is a wish for a clean stop too.
    let stopping = Stopping::listen(global.quiet)?;
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let environment = job::environment(&args.job, args.until_end);
    let state = location(&args.state)?;
    let on_stop = OnStop::of(args, &state, plan.name())?;
    let begun = upgrade::before_run(&plan, &environment, args, &state, global)?;
    let steering = Steering::of(&args.watch, &plan, &state, &stopping, Role::Leads)?;
    let mut options = RunOptions {
        state: state.clone(),
        workers: job::workers(args.workers),
        fresh: args.fresh && !begun,
        append: args.append,
    };
    let outcome = loop {
        if !options.fresh {
            upgrade::grow(&plan, &environment, &state, global)?;
        }
        let outcome = once(&args.watch, &plan, &state, &stopping, steering.as_ref(), global, |control, observer| {
            run::run(&plan, &environment, &options, control, observer)
        })?;
        // A drain that came too late for this life is for the next one.
        if !outcome.grown || stopping.is_asked() && !stopping.drains() {
            break outcome;
        }
        options.fresh = false;
    };
    let asked = stopping.savepoint();
    let on_stop = on_stop.or_else(|| asked.as_deref().map(|name| OnStop { state: &state, job: plan.name(), name }));
    conclude(plan.name(), &outcome, on_stop.as_ref(), (Role::Leads, global))
}

/// Which part of a job a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes the log, and knows of the whole job.
    Leads,
    /// It knows of its own part.
    Follows,
}

/// Says how a run ended, and leaves what it was asked to leave.
pub fn conclude(job: &str, outcome: &Outcome, on_stop: Option<&OnStop<'_>>, (role, global): (Role, &Global)) -> Done {
    say(job, outcome, global);
    if outcome.ended != Ended::Stopped {
        supervised::finished();
    }
    let savepoint = match on_stop {
        Some(on_stop) => {
            let made = on_stop.make(outcome)?;
            if !global.quiet {
                on_stop.say(made.as_ref());
            }
            made
        }
        None => None,
    };
    show(&Report { outcome, savepoint }, (role, global))
}

/// The wish to stop, which outlives the control of a job that goes on with more to read.
#[derive(Clone)]
pub struct Stopping {
    asked: Arc<AtomicBool>,
    now: Arc<Mutex<Arc<Control>>>,
    /// The name under which the job is to leave its last state, if whoever wants it to stop gave one.
    savepoint: Arc<Mutex<Option<String>>>,
    /// The stop is to be the end of all input.
    drain: Arc<AtomicBool>,
}

impl Stopping {
    /// Begins to listen to signals.
    pub fn listen(quiet: bool) -> Result<Stopping, Failure> {
        let now = Arc::new(Mutex::new(Control::new()));
        let stopping = Stopping { asked: Arc::default(), now, savepoint: Arc::default(), drain: Arc::default() };
        let signalled = stopping.clone();
        signals::listen(move || {
            signalled.stop();
            if !quiet {
                eprintln!("stopping: what was read is finished first; once more to end at once");
            }
        })?;
        Ok(stopping)
    }

    /// Stops the job cleanly.
    fn stop(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.tell(&self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self, control: &Control) {
        match self.drains() {
            true => control.drain(),
            false => control.stop(),
        }
    }

    /// Stops the job cleanly; it leaves its last state as a savepoint, if there is a name for it.
    pub fn stop_with(&self, wish: StopWish) {
        if let Some(name) = wish.savepoint {
            *self.savepoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        }
        if wish.drain {
            self.drain.store(true, Ordering::SeqCst);
        }
        self.stop();
    }

    /// Returns whether the stop that was asked for is to be the end of all input.
    pub fn drains(&self) -> bool {
        self.drain.load(Ordering::SeqCst)
    }

    /// Returns the name of the savepoint that was asked for together with the stop.
    pub fn savepoint(&self) -> Option<String> {
        self.savepoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether somebody wants it to stop.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Returns what steers the job from now on.
    pub fn control(&self) -> Arc<Control> {
        let control = Control::new();
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = control.clone();
        // A signal that came before was for the one before.
        if self.is_asked() {
            self.tell(&control);
        }
        control
    }
}

/// Runs a job until it ends, is stopped, or there is more for it to read; watched, and with its progress shown.
pub fn once(
    args: &WatchArgs,
    plan: &Plan,
    state: &Location,
    stopping: &Stopping,
    steering: Option<&Arc<Steering>>,
    global: &Global,
    run: impl FnOnce(Arc<Control>, Arc<Observer>) -> Result<Outcome, RunError>,
) -> Result<Outcome, Failure> {
    watched(args, plan, state, stopping, steering, (Role::Leads, global), |control, observer| {
        run(control, observer).map_err(|error| failed(error, global))
    })
}

/// Runs this process's part of a job like [`once`]; progress is shown by the process that leads.
pub fn watched(
    args: &WatchArgs,
    plan: &Plan,
    state: &Location,
    stopping: &Stopping,
    steering: Option<&Arc<Steering>>,
    (role, global): (Role, &Global),
    run: impl FnOnce(Arc<Control>, Arc<Observer>) -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    let quiet = global.quiet;
    let control = stopping.control();
    let observer = Arc::new(Observer::default());
    let address = args.admin.map(|address| admin::allow(address, args.insecure_no_auth)).transpose()?;
    let admin = address.map(|address| {
        let folder = state.folder().map(|folder| folder.join("jobs").join(plan.name()));
        let every = plan.settings().checkpoint_every;
        let board = Board::new(plan.name(), every, folder, control.clone(), observer.clone());
        Admin::start(address, Arc::new(board), steering.cloned())
    });
    let admin = admin.transpose()?;
    if let Some(admin) = &admin {
        supervised::admin(admin.address())?;
    }
    if let Some(admin) = admin.as_ref().filter(|_| !quiet) {
        // In one piece: who waits for this line must not see half an address.
        let line = format!("admin: http://{}\n", admin.address());
        eprint!("{line}");
    }
    let watchdog = watch(args, plan.name(), &control, &observer)?;
    let shows = !quiet && role == Role::Leads;
    let progress = shows.then(|| Progress::start(plan.name(), observer.clone())).transpose()?;
    let telling = supervised::Telling::start(observer.clone())?;
    let result = run(control, observer);
    if let Some(progress) = progress {
        progress.end();
    }
    drop(telling);
    drop(watchdog);
    drop(admin);
    result
}

/// What a run tells to programs.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// What it was asked to leave and left.
    #[serde(skip_serializing_if = "Option::is_none")]
    savepoint: Option<Named>,
}

/// Starts the watchdog, unless it is switched off. When it finds that the job stands still it ends the process: threads that are
/// stuck cannot be ended, and a restart goes on from the log.
fn watch(
    args: &WatchArgs,
    job: &str,
    control: &Arc<Control>,
    observer: &Arc<Observer>,
) -> Result<Option<Watchdog>, Failure> {
    if args.watchdog.is_zero() {
        return Ok(None);
    }
    let outside = Some(args.watchdog_outside).filter(|limit| !limit.is_zero());
    let limits = WatchdogLimits { inside: args.watchdog, outside };
    let job = job.to_owned();
    let on_stall = move |stall: &Stall| {
        let failure = stalled(&job, stall);
        crate::report(&failure);
        std::process::exit(failure.exit as i32);
    };
    let started = Watchdog::start(limits, control.clone(), observer.clone(), on_stall);
    started.map(Some).or_exit(Exit::Internal, || "cannot start the watchdog".to_owned())
}

/// Returns the failure of a job that stands still.
fn stalled(job: &str, stall: &Stall) -> Failure {
    let error = RunError::Engine(EngineError::Stalled(Box::new(stall.clone())));
    let hint = match stall.cause {
        StallCause::Inside => {
            "this is a fault in riverrun, not in your job or data: please report these lines; a restart goes on where this run \
             stopped. If a step is only slow, give it time with --watchdog 5m"
        }
        StallCause::Outside => "see why it does not answer; a restart goes on where this run stopped",
    };
    let exit = if error.exit_code() == 75 { Exit::Fenced } else { Exit::Storage };
    Failure::new(exit, format!("job `{job}`: {error}\n  hint: {hint}"))
}

/// Returns where `--state` says that state is kept.
pub fn location(args: &StateArgs) -> Result<Location, Failure> {
    let location = Location::parse(args.state.as_deref().unwrap_or(STATE));
    // What was written is not repeated: it may hold what should be in no log.
    let location = location.map_err(|reason| Failure::new(Exit::Usage, format!("cannot use --state: {reason}")))?;
    Ok(location.patient(args.state_patience))
}

/// Opens the state that `--state` names, which must be there.
pub fn existing_state(args: &StateArgs) -> Result<Store, Failure> {
    let location = location(args)?;
    let store = location.open_existing().or_exit(Exit::Storage, || format!("cannot open the state in {location}"))?;
    store.ok_or_else(|| {
        let message = format!("there is no state folder `{location}`\n  hint: name it with --state");
        Failure::new(Exit::NotFound, message)
    })
}

/// Gives a failed run its exit code.
pub fn failed(error: RunError, global: &Global) -> Failure {
    if let RunError::Connect(report) = &error {
        return job::faulty(report, global);
    }
    let exit = match error.exit_code() {
        3 => Exit::NotFound,
        5 => Exit::Conflict,
        70 => Exit::Internal,
        74 => Exit::Storage,
        75 => Exit::Fenced,
        78 => Exit::Invalid,
        _ => Exit::Failed,
    };
    Failure { exit, error: error.into() }
}

/// Says how the run ended.
fn say(job: &str, outcome: &Outcome, global: &Global) {
    if global.quiet {
        return;
    }
    match outcome.ended {
        Ended::Finished => eprintln!("job `{job}` is finished"),
        Ended::AlreadyFinished => {
            eprintln!("job `{job}` was finished before; nothing was done\n  hint: --fresh begins anew");
        }
        Ended::Stopped => eprintln!("job `{job}` stopped; the next run goes on from here"),
    }
}

/// Shows the balance, which the process knows that leads.
fn show(report: &Report, (role, global): (Role, &Global)) -> Done {
    let mut stdout = Stdout::lock();
    match global.output {
        Format::Json => stdout.document(report)?,
        // The balance is said to people, on stderr: a console sink may have written data to stdout.
        Format::Table if !global.quiet && role == Role::Leads => {
            eprintln!("\n{}", output::balance(&report.outcome.snapshot.balance))
        }
        Format::Table => {}
    }
    stdout.flush()
}
