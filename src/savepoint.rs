//! `run --savepoint-on-stop NAME`: a run that is stopped leaves its last state under a name.
//!
//! A run that ends by itself, because its input does, leaves none: a job that is finished has nothing to go on with.

use riverrun_jobs::run::{Ended, Outcome};
use riverrun_state::inspect::Named;
use riverrun_state::{Location, StateError, savepoint};

use crate::args::RunArgs;
use crate::checkpoints;
use crate::exit::{Exit, Failure};
use crate::output::grouped;

/// The savepoint that a run is to leave.
pub struct OnStop<'a> {
    /// Where the job's state lies.
    pub state: &'a Location,
    /// The job.
    pub job: &'a str,
    /// The savepoint's name.
    pub name: &'a str,
}

impl<'a> OnStop<'a> {
    /// Returns what the options ask for. A name that cannot be used, or is taken, is refused here, before anything is done.
    pub fn of(args: &'a RunArgs, state: &'a Location, job: &'a str) -> Result<Option<OnStop<'a>>, Failure> {
        let Some(name) = args.savepoint_on_stop.as_deref() else { return Ok(None) };
        savepoint::check_name(name).map_err(|reason| {
            Failure::new(Exit::Usage, format!("`{name}` cannot be the name of a savepoint\n  hint: {reason}"))
        })?;
        if let Some(store) = state.open_existing().map_err(checkpoints::failed)? {
            match savepoint::read(store, job, name) {
                Ok(taken) => return Err(is_taken(job, name, taken.checkpoint.tick)),
                // The job never ran here, or nothing has this name.
                Err(StateError::OtherJob { .. } | StateError::NoSavepoint { .. }) => {}
                // What is damaged stands in the way of no fresh start but where it says so itself.
                Err(StateError::Damaged { .. } | StateError::Newer { .. }) if args.fresh => {}
                Err(error) => return Err(checkpoints::failed(error)),
            }
        }
        Ok(Some(OnStop { state, job, name }))
    }

    /// Makes the savepoint of a run that was stopped; `None` if the run ended by itself.
    pub fn make(&self, outcome: &Outcome) -> Result<Option<Named>, Failure> {
        let OnStop { state, job, name } = self;
        if outcome.ended != Ended::Stopped {
            return Ok(None);
        }
        // A clean stop saves the state after the last tick; nothing older may go by that name.
        let tick = outcome.snapshot.tick;
        let made = state.open().and_then(|store| savepoint::create(store, job, name, Some(tick)));
        match made {
            Ok(Some(savepoint)) => Ok(Some(Named::of(&savepoint))),
            Ok(None) if tick == 0 => Err(Failure::new(
                Exit::NotFound,
                format!(
                    "job `{job}` stopped well, but before it did anything: there is no state for savepoint `{name}`"
                ),
            )),
            Ok(None) => Err(Failure::new(Exit::Storage, format!("{}: it is gone", self.attempt(tick)))),
            Err(error) => {
                let Failure { exit, error } = checkpoints::failed(error);
                Err(Failure { exit, error: error.context(self.attempt(tick)) })
            }
        }
    }

    fn attempt(&self, tick: u64) -> String {
        let OnStop { job, name, .. } = self;
        format!(
            "job `{job}` stopped well, but its checkpoint at tick {} cannot become savepoint `{name}`",
            grouped(tick)
        )
    }

    /// Says what became of it, to people.
    pub fn say(&self, made: Option<&Named>) {
        let OnStop { job, name, .. } = self;
        match made {
            Some(made) => eprintln!(
                "savepoint `{name}` of job `{job}` is the checkpoint at tick {}\n  hint: `riverrun run {job} --fresh --from-savepoint {name}` begins from it",
                grouped(made.summary.tick)
            ),
            None => eprintln!("note: job `{job}` came to its end, so there is no savepoint `{name}`"),
        }
    }
}

fn is_taken(job: &str, name: &str, tick: u64) -> Failure {
    let tick = grouped(tick);
    let message = format!(
        "job `{job}` has a savepoint `{name}` already, at tick {tick}; the job was not started\n  hint: choose another name, or delete that one: `riverrun checkpoints unpin {job} {name}`"
    );
    Failure::new(Exit::Conflict, message)
}
