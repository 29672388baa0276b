//! Rewind: past input through a job, in a namespace of its own.
//!
//! ```text
//! plan.rewound(rewind) -> job `JOB@NAME`: its own state and tokens, outputs renamed -> run -> as any job
//! ```
//! A rewound plan is the plan with three things put otherwise: its name, the places of its sinks, and where its topics begin and end.
//! All else is a run: the range is resolved once and stands in the first records of the log, so it is bounded, can be killed and
//! goes on, and two of them give the same bytes. The job itself is not touched: nothing of its state, lanes or outputs has the same
//! name.
//!
//! Recorded ticks are run through a job in such a namespace, too: [`Recorded`].

mod moment;
mod namespace;
mod recorded;
mod switch;
mod throttle;

use std::collections::BTreeSet;
use std::sync::Arc;

use riverrun_connectors::start::Start;
use riverrun_dataflow::engine::{Control, EngineError, Observer};
use riverrun_state::Retention;

pub use moment::Moment;
pub use namespace::{NAME_MAX, check_name, default_name, split_job};
pub use recorded::{Recorded, derive, transcribe};
pub use switch::Live;
pub use throttle::Throttle;

use crate::connect::Environment;
use crate::plan::{Over, Plan};
use crate::run::{Ground, Outcome, RunError, RunOptions, run_on};
use crate::spec::{SinkPlace, SourcePlace};
use switch::Switch;

/// A past to run a job over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// What the namespace is called.
    pub name: String,
    /// Where topics begin.
    pub from: Moment,
    /// Where they end; `None`: they go on live.
    pub to: Option<Moment>,
    /// Both as they were written: a replay that goes on tells other words by it.
    pub asked: String,
}

impl Plan {
    /// Returns the plan over the past that `rewind` names, in the namespace of its name. An error says what does not fit the job.
    pub fn rewound(&self, rewind: &Rewind) -> Result<Plan, String> {
        let to = rewind.to.clone().unwrap_or(Moment::Latest);
        self.check_topics(&[&rewind.from, &to])?;
        let mut plan = self.in_namespace(&rewind.name);
        plan.past = Some(Over::Input(rewind.asked.clone()));
        for source in &mut plan.sources {
            if let SourcePlace::Topic { name, start, .. } = &mut source.place {
                *start = rewind.from.of_topic(&name.value, Start::Earliest);
                source.end = to.of_topic(&name.value, Start::Latest);
            }
        }
        Ok(plan)
    }

    /// Returns the plan with the names that it has in the replay `name`.
    fn in_namespace(&self, name: &str) -> Plan {
        let mut plan = self.clone();
        plan.name = namespace::job(&self.name, name);
        for sink in &mut plan.sinks {
            if let SinkPlace::Topic { name, .. } = &sink.place {
                sink.like = Some(name.value.clone());
            }
            namespace::rename(&mut sink.place, name);
        }
        plan
    }

    /// Fails if offsets are given of a topic that the job does not read.
    fn check_topics(&self, moments: &[&Moment]) -> Result<(), String> {
        let read: BTreeSet<&str> = self.topics().collect();
        let named = moments.iter().flat_map(|moment| moment.topics());
        match named.into_iter().find(|topic| !read.contains(topic)) {
            None => Ok(()),
            Some(topic) => Err(format!(
                "job `{}` reads no topic `{topic}`\n  hint: it reads {}",
                self.name,
                match read.is_empty() {
                    true => "no topic at all".to_owned(),
                    false => read.into_iter().collect::<Vec<_>>().join(", "),
                }
            )),
        }
    }

    /// Returns the topics that the job reads.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match &source.place {
            SourcePlace::Topic { name, .. } => Some(name.value.as_str()),
            SourcePlace::File(_) => None,
        })
    }

    /// Returns the sources whose records have no time and no offsets to begin at: files are read whole.
    pub fn timeless_sources(&self) -> Vec<&str> {
        let files = self.sources.iter().filter(|source| matches!(source.place, SourcePlace::File(_)));
        files.map(|source| source.name.as_str()).collect()
    }

    /// Returns each sink with the place it writes to, as people call it.
    pub fn outputs(&self) -> Vec<(&str, String)> {
        let place = |place: &SinkPlace| match place {
            SinkPlace::Topic { name, .. } => format!("topic `{}`", name.value),
            SinkPlace::File(path) => format!("file `{}`", path.value),
            SinkPlace::Lake(lake) => format!("lake `{}`", lake.path.value),
            SinkPlace::Console => "the console".to_owned(),
        };
        self.sinks.iter().map(|sink| (sink.name.as_str(), place(&sink.place))).collect()
    }
}

/// Runs a rewound plan until its range is read, `control` stops it, or it fails. One that goes on live tells `on_live` when it has
/// caught up; from then on nothing holds it back.
pub fn run(
    plan: &Plan,
    environment: &Environment,
    options: &RunOptions,
    throttle: Throttle,
    (control, observer): (Arc<Control>, Arc<Observer>),
    on_live: impl FnOnce(&Live) + Send + 'static,
) -> Result<Outcome, RunError> {
    let mut connected = plan.connect(environment)?;
    let throttle = throttle.start(&control, observer.clone());
    throttle.hold_back(&mut connected);
    let ground = Ground { connected, store: options.state.open()?, retention: Retention::default() };
    let free = move |live: &Live| {
        throttle.release();
        on_live(live);
    };
    let switch = match environment.until_end {
        true => None,
        false => Some(Switch::start(observer.clone(), free).map_err(|error| no_thread(&error))?),
    };
    let outcome = run_on(plan, ground, options, control, observer);
    drop(switch);
    outcome
}

fn no_thread(error: &std::io::Error) -> RunError {
    EngineError::Internal(format!("cannot start a thread: {error}")).into()
}

/// Says that a replay goes on with what it began with.
pub(crate) fn bounds_differ(job: &str, began: &str, asked: &str) -> String {
    format!(
        "`{job}` was begun with {began} and goes on with that range, not with {asked}; --fresh begins anew, another --as is another replay"
    )
}
