//! A transcript: a job that derives again what another one recorded, and nothing else.
//!
//! ```text
//! Past::read -> JobState::open -> transcribe: generation, inputs (or an upgrade, with the state), ticks, ticks, ... -> a run as any
//! ```
//! Its log begins with a copy: what is read, the state before the first tick, all ticks with the digests that the live run had. A run
//! finds them as ticks that a former process made final, derives them, compares them and commits them; it may be killed and goes on
//! as any job does. Nothing of the other job is needed from then on, which may collect what it likes.
//!
//! A copy that was cut short has given nothing to anybody: it is completed before anything runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverrun_dataflow::fail_point::reach;
use riverrun_dataflow::journal::JournalEntry;
use riverrun_dataflow::tick::Tick;

use crate::error::StateError;
use crate::folder::Folder;
use crate::job::{JobState, Started};
use crate::past::Past;
use crate::record::{Body, Checkpoint, Inputs, Stretch, Ticks, Upgrade};
use crate::store::Store;
use crate::upgrade::Standing;

/// Ticks in one record of a copy.
const TICKS: usize = if cfg!(test) { 2 } else { 1024 };

/// What a copy is to be of.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The first tick whose rows are written; `None`: the first of the past.
    pub from: Option<Tick>,
    /// What was asked for, as it was written.
    pub asked: &'a str,
}

/// How much there is of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// It was cut short: what it is to be.
    Part(Stretch),
    /// All.
    Whole(Stretch),
}

/// Looks how much of its copy the job `job` has. One that reads anything else is refused.
pub fn look(store: Arc<Store>, job: &str) -> Result<Kept, StateError> {
    if Folder::of(store.clone(), job)?.begins_anew()? {
        return Ok(Kept::Nothing);
    }
    let Some(standing) = Standing::look(store, job)? else { return Ok(Kept::Nothing) };
    let Some(inputs) = &standing.inputs else { return Ok(Kept::Nothing) };
    let stretch = recorded(job, inputs)?.clone();
    Ok(if standing.last < stretch.to { Kept::Part(stretch) } else { Kept::Whole(stretch) })
}

/// Returns the recorded ticks that a job derives again, which it must.
pub fn recorded<'i>(job: &str, inputs: &'i Inputs) -> Result<&'i Stretch, StateError> {
    inputs.recorded.as_ref().ok_or_else(|| {
        let range = inputs.asked.as_deref().unwrap_or("of its own");
        StateError::OtherReplay { job: job.to_owned(), theirs: format!("as a replay of past input, {range}") }
    })
}

impl JobState {
    /// Lays down a copy of `past` as what the job is to derive, or completes the one that was begun.
    pub fn transcribe(self, past: &Past, copied: &Copied<'_>) -> Result<(), StateError> {
        let mut started = self.start()?;
        let job = started.folder().job().to_owned();
        let base = past.base.as_ref().map_or(0, |base| base.parts.tick);
        let from = copied.from.unwrap_or(base + 1);
        let to = past.entries.last().map_or(base, |entry| entry.record.tick);
        let stretch = Stretch { incarnation: past.file.incarnation.clone(), from, to };
        let last = match started.inputs() {
            None => {
                let asked = Some(copied.asked.to_owned());
                started.lay(past, Inputs { asked, recorded: Some(stretch), ..past.inputs.clone() })?;
                base
            }
            Some(inputs) => {
                let (begun, last) = (recorded(&job, inputs)?, started.last_copied()?);
                if begun.incarnation != stretch.incarnation || begun.to != to || last < base {
                    return Err(StateError::OtherReplay {
                        job,
                        theirs: format!(
                            "a copy of ticks up to {} that was cut short after tick {last}, and what is missing is gone",
                            begun.to
                        ),
                    });
                }
                last
            }
        };
        let there = past.entries.partition_point(|entry| entry.record.tick <= last);
        past.entries[there..].chunks(TICKS).try_for_each(|ticks| started.copy(ticks))
    }
}

impl Started {
    /// Lays down what is read, and the state before the first tick.
    fn lay(&mut self, past: &Past, inputs: Inputs) -> Result<(), StateError> {
        let Some(copy) = &past.copy else { return self.append_inputs(inputs) };
        let writer = self.log().writer();
        let place = format!("state/g{:06}/c{:012}/copy/", writer.generation, copy.checkpoint.tick);
        let (from_plan, from_build) = (writer.plan.clone(), past.file.build.clone());
        let mut checkpoint = copy.checkpoint.clone();
        let files = checkpoint.tables.iter_mut().flat_map(|table| &mut table.files);
        for (number, file) in files.enumerate() {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let path = format!("{place}{number:06}.{name}");
            reach("state.write");
            self.folder().store().put(&self.folder().inside(&path), copy.files[&file.path].to_vec())?;
            reach("state.written");
            file.path = path;
        }
        // No lane of this job has a token yet: the checkpoint promises nothing of them.
        let after = self.log().last() + 1;
        let checkpoint = Checkpoint { after, inputs: None, tokens: Vec::new(), ..checkpoint };
        self.append(&Body::Upgrade(Box::new(Upgrade {
            from_plan,
            from_build,
            lanes: past.file.lanes.clone(),
            inputs,
            floors: past.floors.clone(),
            parts: BTreeMap::new(),
            checkpoint,
            shards: None,
        })))
    }

    /// Makes ticks final that another job made final before.
    fn copy(&mut self, entries: &[JournalEntry]) -> Result<(), StateError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let (first, last) = (first.record.tick, last.record.tick);
        self.append(&Body::Ticks(Ticks { first, last, entries: entries.to_vec() }))
    }

    /// Returns the last tick that was copied, or the one after which the copy begins.
    fn last_copied(&self) -> Result<Tick, StateError> {
        for record in self.log().reader().backwards(self.before()) {
            match record?.body {
                Body::Ticks(ticks) => return Ok(ticks.last),
                Body::Upgrade(upgrade) => return Ok(upgrade.checkpoint.tick),
                Body::Checkpoint(checkpoint) => return Ok(checkpoint.tick),
                Body::Generation(_) | Body::Inputs(_) => {}
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests;
