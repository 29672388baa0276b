//! Where a restart begins: a pure decision over the log, newest record first, and the tokens of the sinks.
//!
//! The newest checkpoint is taken whose files verify and which no lane has fallen behind. A lane whose token went backwards
//! (its database was restored from a backup) selects an older checkpoint, never a gap: the rows between its token and a
//! later checkpoint could not be derived again. What was passed over, and why, is returned to be said aloud.

pub(crate) mod passed;

use std::collections::BTreeMap;

use riverrun_dataflow::engine;
use riverrun_dataflow::journal::{CheckpointParts, JournalEntry, LaneToken};
use riverrun_dataflow::tick::{Tick, Timeline};

use crate::error::StateError;
use crate::record::{Body, Checkpoint, Header, Record};
use passed::PassedOver;

/// What a restart asks of the log.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The job's name, for errors.
    pub job: &'a str,
    /// The plan that is run.
    pub plan: &'a str,
    /// The build that runs it.
    pub build: &'a str,
    /// The committed tick of every lane, asked of the sinks now; 0 for a lane that never committed.
    pub tokens: &'a [LaneToken],
}

/// What the log says.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Number and content of the checkpoint to restore.
    pub checkpoint: Option<(u64, u64, Checkpoint)>,
    /// The ticks after it, each with the number of its record, ascending.
    pub tail: Vec<(u64, Vec<JournalEntry>)>,
    /// What must be said aloud.
    pub warnings: Vec<String>,
}

/// Where a job goes on.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// What is restored; `None`: the job begins at tick 1.
    pub checkpoint: Option<Restored>,
    /// The recorded ticks to be stepped again, ascending.
    pub entries: Vec<JournalEntry>,
    /// What must be said aloud: checkpoints that were passed over, and why.
    pub warnings: Vec<String>,
    /// The job came to its end, and all sinks have all of it.
    pub finished: bool,
}

impl Recovery {
    /// Returns where the engine goes on; `start` is where the job stands before its first tick.
    pub fn resume(self, start: Timeline) -> engine::Recovery {
        let Recovery { checkpoint, entries, .. } = self;
        match checkpoint {
            Some(Restored { parts: CheckpointParts { before, recent, balance, .. }, .. }) => {
                engine::Recovery { before, recent, entries, balance, ..engine::Recovery::default() }
            }
            None => engine::Recovery { before: start, entries, ..engine::Recovery::default() },
        }
    }
}

/// The checkpoint that is restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The number of its record.
    pub seq: u64,
    /// The generation that published it.
    pub generation: u64,
    /// What it holds: the state is the one after `parts.tick`.
    pub parts: CheckpointParts,
}

/// Decides where to begin. `records` are those before our own generation record, newest first, read as far as needed;
/// `verify` says why a checkpoint's files cannot be used.
pub fn decide(
    records: impl Iterator<Item = Result<Record, StateError>>,
    asked: &Asked,
    mut verify: impl FnMut(&Checkpoint) -> Result<(), String>,
) -> Result<Decision, StateError> {
    let mut walk = Walk::default();
    for record in records {
        let record = record?;
        let seq = record.header.seq;
        if let Some(checkpoint) = record.body.checkpoint().filter(|_| walk.chosen.is_none()) {
            let fits = fits(checkpoint, &record.header.plan, asked).and_then(|()| verify(checkpoint));
            match fits {
                Ok(()) => walk.chosen = Some((seq, record.header.generation, checkpoint.clone())),
                Err(reason) => walk.refused.add(checkpoint.tick, seq, reason),
            }
        }
        match record.body {
            Body::Ticks(ticks) => walk.tail.push(Made { seq, by: record.header, entries: ticks.entries }),
            // What lies before is another plan's: neither its checkpoints nor its ticks give what this one would.
            Body::Upgrade(_) => break,
            Body::Checkpoint(_) | Body::Generation(_) | Body::Inputs(_) => {}
        }
        if walk.chosen.as_ref().is_some_and(|(_, _, checkpoint)| seq <= checkpoint.after) {
            break;
        }
    }
    walk.conclude(asked)
}

fn fits(checkpoint: &Checkpoint, plan: &str, asked: &Asked) -> Result<(), String> {
    if plan != asked.plan {
        return Err(format!("it was made by plan {plan}"));
    }
    let now: BTreeMap<_, _> = asked.tokens.iter().map(|token| ((token.sink, token.lane), token.tick)).collect();
    for stored in &checkpoint.tokens {
        // When it was published, the lane had no row between its token and the checkpoint.
        let least = stored.tick.min(checkpoint.tick);
        let token = now.get(&(stored.sink, stored.lane)).copied().unwrap_or(0);
        if token < least {
            return Err(format!(
                "lane {} of sink {} is at tick {token} now and was at {} then: the sink went back",
                stored.lane, stored.sink, stored.tick
            ));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Walk {
    chosen: Option<(u64, u64, Checkpoint)>,
    refused: PassedOver,
    /// Newest first.
    tail: Vec<Made>,
}

/// Ticks that a record made final.
struct Made {
    seq: u64,
    /// Who did.
    by: Header,
    entries: Vec<JournalEntry>,
}

impl Walk {
    fn conclude(mut self, asked: &Asked) -> Result<Decision, StateError> {
        let base = self.chosen.as_ref().map_or(0, |(_, _, checkpoint)| checkpoint.tick);
        self.tail.reverse();
        for made in &mut self.tail {
            made.entries.retain(|entry| entry.record.tick > base);
        }
        self.tail.retain(|made| !made.entries.is_empty());
        let last = self.last().unwrap_or(base);
        self.check_gaps(base, asked)?;
        self.check_tokens(last, asked)?;
        let first = base + 1;
        let job = asked.job.to_string();
        if let Some(made) = self.tail.iter().find(|made| made.by.build != asked.build) {
            let given = asked.build.to_string();
            return Err(StateError::BuildChanged { job, stored: made.by.build.clone(), given, first, last });
        }
        // A start with another plan was refused before it came here; neither does this place rely on that.
        if let Some(made) = self.tail.iter().find(|made| made.by.plan != asked.plan) {
            let given = asked.plan.to_string();
            return Err(StateError::PlanChanged { job, stored: made.by.plan.clone(), given });
        }
        let warnings = self.refused.told_with(&self.goes_on());
        let tail = self.tail.into_iter().map(|made| (made.seq, made.entries)).collect();
        Ok(Decision { checkpoint: self.chosen, tail, warnings })
    }

    /// Says where the job goes on in the end.
    fn goes_on(&self) -> String {
        let again = match self.tail.iter().map(|made| made.entries.len()).sum() {
            0 => "no tick is derived again".to_owned(),
            1 => "1 tick is derived again".to_owned(),
            ticks => format!("{ticks} ticks are derived again"),
        };
        match &self.chosen {
            Some((seq, _, checkpoint)) => {
                format!("going on from the one at tick {} (log record {seq}), {again}", checkpoint.tick)
            }
            None => format!("going on without any, from the first tick: {again}"),
        }
    }

    fn last(&self) -> Option<Tick> {
        self.tail.last()?.entries.last().map(|entry| entry.record.tick)
    }

    fn check_gaps(&self, base: Tick, asked: &Asked) -> Result<(), StateError> {
        let mut next = base + 1;
        for entry in self.tail.iter().flat_map(|made| &made.entries) {
            if entry.record.tick != next {
                if self.chosen.is_none() && next == 1 {
                    break;
                }
                let what = format!("the log of job `{}`", asked.job);
                return Err(StateError::damaged(what, format!("tick {next} is missing before {}", entry.record.tick)));
            }
            next += 1;
        }
        let nothing_read = self.tail.is_empty() && self.refused.is_empty();
        if self.chosen.is_none() && next == 1 && !nothing_read {
            let mut reasons = self.refused.told();
            reasons.push("the journal does not reach back to the first tick".into());
            return Err(StateError::NoCheckpoint { job: asked.job.to_string(), reasons });
        }
        Ok(())
    }

    fn check_tokens(&self, last: Tick, asked: &Asked) -> Result<(), StateError> {
        match asked.tokens.iter().find(|token| token.tick > last) {
            None => Ok(()),
            Some(token) => Err(StateError::damaged(
                format!("the log of job `{}`", asked.job),
                format!(
                    "it ends at tick {last}, but lane {} of sink {} has committed tick {}: records at its end are gone\n  hint: restore the newest log records from a backup, or start over with --fresh",
                    token.lane, token.sink, token.tick
                ),
            )),
        }
    }
}

impl Decision {
    /// Returns the decision as the engine needs it.
    pub fn into_recovery(self) -> Recovery {
        let entries: Vec<JournalEntry> = self.tail.into_iter().flat_map(|(_, entries)| entries).collect();
        let finished = entries.is_empty() && self.checkpoint.as_ref().is_some_and(|(_, _, it)| it.finished);
        let restored =
            |(seq, generation, it): (u64, u64, Checkpoint)| Restored { seq, generation, parts: it.into_parts() };
        let checkpoint = self.checkpoint.map(restored);
        Recovery { checkpoint, entries, warnings: self.warnings, finished }
    }
}

#[cfg(test)]
mod tests;
