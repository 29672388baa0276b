//! `riverrun worker`: one process of a job that runs in several.
//!
//! Whatever happens to one of them happens to all: a stop, an end, a failure. Who is lost takes the others with it, so that all start
//! again from the job's log; whoever started them reads in the exit codes what became of each.

use std::sync::Arc;

use riverrun_dataflow::engine::{Control, Observer};
use riverrun_dataflow::mesh::{Mesh, MeshConfig, MeshError, MeshMeter, Place, Tls};
use riverrun_jobs::run::{self, Outcome, RunError, RunOptions};
use riverrun_jobs::{BUILD_ID, Environment, Plan};
use riverrun_state::Location;

use crate::admin::Steering;
use crate::args::{Global, MeshArgs, RunArgs, WorkerArgs};
use crate::exit::{Done, Exit, Failure};
use crate::run::{Role, Stopping, failed, location, watched};
use crate::savepoint::OnStop;
use crate::{job, panics, upgrade};

/// Where an orchestrator says which of its processes this is.
const POD_NAME: &str = "RIVERRUN_POD_NAME";

/// Runs one process of the job.
pub fn worker(args: &WorkerArgs, global: &Global) -> Done {
    let WorkerArgs { run: args, mesh } = args;
    if mesh.processes == 1 {
        return crate::run::run(args, global);
    }
    let stopping = Stopping::listen(global.quiet)?;
    let plan = job::plan(&args.job.job, &args.job.set, global)?;
    let process = Process {
        environment: job::environment(&args.job, args.until_end),
        state: location(&args.state)?,
        config: config(mesh, &plan, job::workers(args.workers))?,
        plan,
        args,
        global,
    };
    let leads = process.config.place.process == 0;
    let on_stop = if leads { OnStop::of(args, &process.state, process.plan.name())? } else { None };
    let role = if leads { Role::Leads } else { Role::Follows };
    let (plan, state) = (&process.plan, &process.state);
    let steering = Steering::of(&args.watch, plan, state, &stopping, role)?;
    let watched =
        watched(&args.watch, plan, state, &stopping, steering.as_ref(), (role, global), |control, observer| {
            process.run(control, observer, &|| stopping.is_asked())
        });
    let outcome = watched?;
    // A drain that came too late for this life is for the next one.
    if outcome.grown && (!stopping.is_asked() || stopping.drains()) {
        let message =
            format!("there are new partitions for job `{}` to read: all its processes start again", plan.name());
        return Err(Failure::new(Exit::Fenced, message));
    }
    let asked = stopping.savepoint().filter(|_| leads);
    let on_stop = on_stop.or_else(|| asked.as_deref().map(|name| OnStop { state, job: plan.name(), name }));
    crate::run::conclude(plan.name(), &outcome, on_stop.as_ref(), (role, global))
}

/// A process of a job, as its options say.
struct Process<'a> {
    plan: Plan,
    environment: Environment,
    state: Location,
    config: MeshConfig,
    args: &'a RunArgs,
    global: &'a Global,
}

impl Process<'_> {
    /// Joins the others, and runs its part of the job.
    fn run(
        &self,
        control: Arc<Control>,
        observer: Arc<Observer>,
        stopping: &dyn Fn() -> bool,
    ) -> Result<Outcome, Failure> {
        let Process { plan, environment, state, config, args, global } = self;
        let Place { process, processes, workers } = config.place;
        let meter = MeshMeter::new(process, processes);
        observer.in_mesh(meter.clone(), process);
        let mesh = Mesh::form(config, meter, stopping).map_err(|error| not_formed(error, global))?;
        panics::expect_loss(control.clone());
        let (job, loud) = (plan.name().to_owned(), (*global).clone());
        mesh.on_loss(move |error| {
            // Threads may wait for what will never come. Nothing is lost: all of it starts again from the log.
            let failure = named(&job, process, failed(RunError::Mesh(error.clone()), &loud));
            crate::report(&failure);
            std::process::exit(failure.exit as i32);
        });
        let mut options = RunOptions { state: state.clone(), workers, fresh: args.fresh, append: args.append };
        if process == 0 {
            // The others wait for this.
            options.fresh = self.before_run().inspect_err(|failure| mesh.fail(0, &failure.error.to_string()))?;
        }
        let ran = run::run_among(plan, environment, &options, mesh, control, observer);
        ran.map_err(|error| named(plan.name(), process, failed(error, global)))
    }

    /// Makes of the job what the options say, before it runs. Returns whether it is still to begin anew.
    fn before_run(&self) -> Result<bool, Failure> {
        let Process { plan, environment, state, args, global, .. } = self;
        let begun = upgrade::before_run(plan, environment, args, state, global)?;
        let fresh = args.fresh && !begun;
        if !fresh {
            upgrade::grow(plan, environment, state, global)?;
        }
        Ok(fresh)
    }
}

/// Says of a failure which process's it is.
fn named(job: &str, process: usize, failure: Failure) -> Failure {
    let Failure { exit, error } = failure;
    Failure { exit, error: anyhow::anyhow!("job `{job}`, process {process}: {error:#}") }
}

/// Returns the failure of a process that did not come together with the others. Nothing was done.
fn not_formed(error: MeshError, global: &Global) -> Failure {
    if error == MeshError::Stopped {
        if !global.quiet {
            eprintln!("{error}; nothing was done");
        }
        return Failure::new(Exit::Quiet, error.to_string());
    }
    failed(RunError::Mesh(error), global)
}

/// Returns the mesh that the options ask for.
fn config(args: &MeshArgs, plan: &Plan, workers: usize) -> Result<MeshConfig, Failure> {
    let process = match args.process {
        Some(process) => usize::from(process),
        None => of_pod(std::env::var(POD_NAME).ok().as_deref()).ok_or_else(|| {
            let message = format!("this is one of {} processes, but which one is not said\n  hint: --process, from 0 on; or {POD_NAME}, which ends in the number", args.processes);
            Failure::new(Exit::Usage, message)
        })?,
    };
    let tls = args.mesh_tls.as_deref().map(Tls::read).transpose();
    let tls = tls.map_err(|reason| Failure::new(Exit::Invalid, format!("cannot use --mesh-tls: {reason}")))?;
    Ok(MeshConfig {
        job: plan.name().to_owned(),
        plan: plan.hash().to_owned(),
        build: BUILD_ID.to_owned(),
        generation: args.mesh_generation,
        place: Place { process, processes: usize::from(args.processes), workers },
        peers: args.peers.clone(),
        listen: args.mesh_listen.clone(),
        tls,
        startup: args.mesh_startup_timeout,
        beat: args.mesh_heartbeat,
        dead: args.mesh_dead_after,
    })
}

/// Returns the number at the end of a pod's name.
fn of_pod(name: Option<&str>) -> Option<usize> {
    name?.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_numbered_by_its_name() {
        assert_eq!(of_pod(Some("attribution-7-12")), Some(12));
        assert!(
            [None, Some("attribution"), Some("attribution-"), Some("a-x")]
                .into_iter()
                .all(|name| of_pod(name).is_none())
        );
    }
}
