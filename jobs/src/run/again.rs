//! A run that derives recorded ticks of another job again, which its log begins with a copy of, and then ends.

use std::collections::BTreeMap;

use riverrun_dataflow::balance::Counts;
use riverrun_dataflow::engine::{EngineError, Lanes, Snapshot, Then};
use riverrun_dataflow::journal::{JournalEntry, LaneToken};
use riverrun_dataflow::tick::Tick;
use riverrun_state::{Inputs, StateError, Stretch, transcript};

use super::RunError;
use super::among::Resume;
use crate::plan::{Over, Plan};

/// What is to be derived again.
pub(super) struct Again(Stretch);

/// What is being derived again, and what it has to come to.
pub(super) struct Repeating {
    to: Tick,
    balance: Balance,
}

impl Again {
    /// Returns what a job that reads `inputs` derives again, if `plan` is to. What was begun as a replay of one kind is not gone on with as one
    /// of the other.
    pub fn of(plan: &Plan, inputs: &Inputs) -> Result<Option<Again>, StateError> {
        match (&plan.past, &inputs.recorded) {
            (Some(Over::Ticks(_)), _) => Ok(Some(Again(transcript::recorded(plan.name(), inputs)?.clone()))),
            (_, None) => Ok(None),
            (_, Some(Stretch { from, to, .. })) => Err(StateError::OtherReplay {
                job: plan.name().to_owned(),
                theirs: format!("as a replay of recorded ticks, {from} to {to}"),
            }),
        }
    }

    /// Has lanes drop the rows of ticks that are derived for the state alone, as if they had been committed.
    pub fn begin_late(&self, lanes: &mut Lanes, tokens: &mut [LaneToken]) {
        let before = self.0.from - 1;
        if before == 0 {
            return;
        }
        lanes.values_mut().for_each(|(_, token)| *token = (*token).max(Some(before)));
        tokens.iter_mut().for_each(|token| token.tick = token.tick.max(before));
    }

    /// Has the run end where the copy does.
    pub fn begin(self, resume: &mut Resume) -> Repeating {
        let Again(Stretch { to, .. }) = self;
        let recovery = &mut resume.recovery;
        recovery.then = Then::Finish;
        resume.finished |= recovery.entries.is_empty() && recovery.after().tick >= to;
        Repeating { to, balance: balance_after(recovery.balance.clone(), &recovery.entries) }
    }
}

impl Repeating {
    /// Returns whether all is derived, with the balance that the journal has; if not, the run was stopped on the way.
    pub fn is_through(&self, snapshot: &Snapshot) -> Result<bool, RunError> {
        if snapshot.tick < self.to {
            return Ok(false);
        }
        match differing(&self.balance, &snapshot.balance) {
            None => Ok(true),
            Some(name) => {
                let what = format!("the balance of `{name}`");
                Err(EngineError::NotDeterministic { what, tick: self.to }.into())
            }
        }
    }
}

/// Counts by name of source or step.
pub(crate) type Balance = BTreeMap<String, Counts>;

/// Returns what the balance is after `entries`, by the journal.
pub(crate) fn balance_after(mut balance: Balance, entries: &[JournalEntry]) -> Balance {
    for (name, counts) in entries.iter().flat_map(|entry| &entry.balance) {
        *balance.entry(name.clone()).or_default() += *counts;
    }
    balance
}

/// Returns a source or step of which two balances say different things.
pub(crate) fn differing<'b>(a: &'b Balance, b: &'b Balance) -> Option<&'b String> {
    a.keys().chain(b.keys()).find(|name| a.get(*name) != b.get(*name))
}
