//! The phases of a job's life, and which may follow which.
//!
//! ```text
//! Created -> Validating -> Scheduling -> Restoring -> Running
//! Running -> Suspending -> Suspended | Finished Running -> Finishing -> Finished
//! Running -> Upgrading | Rescaling | Recovering -> Scheduling
//! any     -> Failing -> Failed                  any     -> Cancelling -> Cancelled
//! ```
//! A step from one phase to another is written with both: `life.go(at::Running, at::Upgrading)`. One that is not in the table below
//! does not compile.

use serde::{Deserialize, Serialize};

/// A phase as a type.
pub trait At: Copy {
    /// The same phase as a value.
    const PHASE: Phase;
}

/// `A: To<B>`: `B` may follow `A`.
pub trait To<B: At>: At {}

/// Declares the phases, as values and as types, with their names and what they mean.
macro_rules! phases {
    ($($(#[$doc:meta])* $phase:ident $name:literal;)*) => {
        /// Where a job is in its life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Phase { $($(#[$doc])* $phase),* }

        impl Phase {
            /// All phases.
            pub const ALL: &[Phase] = &[$(Phase::$phase),*];

            /// Returns its name, as it is written everywhere.
            pub const fn name(self) -> &'static str {
                match self { $(Phase::$phase => $name),* }
            }
        }

        /// The phases as types.
        pub mod at {
            $($(#[$doc])* #[derive(Clone, Copy, Debug)] pub struct $phase;)*
            $(impl super::At for $phase { const PHASE: super::Phase = super::Phase::$phase; })*
        }
    };
}

/// Declares which phases may follow which.
macro_rules! moves {
    ($($from:ident => $($to:ident)*;)*) => {
        $($(impl To<at::$to> for at::$from {})*)*

        /// The table as values, for tests and for the documentation.
        #[cfg(test)]
        const MOVES: &[(Phase, Phase)] = &[$($((Phase::$from, Phase::$to)),*),*];
    };
}

phases! {
    /// It was submitted.
    Created "created";
    /// Its job file is being checked.
    Validating "validating";
    /// Its processes are being started.
    Scheduling "scheduling";
    /// Its processes run and take up their state.
    Restoring "restoring";
    /// It is at its work.
    Running "running";
    /// It is being stopped, and can go on.
    Suspending "suspending";
    /// It was stopped, and can go on.
    Suspended "suspended";
    /// It is being stopped, to go on as another version.
    Upgrading "upgrading";
    /// It is being stopped, to go on with other processes or workers.
    Rescaling "rescaling";
    /// A process ended, or a restart was asked for: what is left of this generation is ended.
    Recovering "recovering";
    /// It cannot go on: what is left of it is ended.
    Failing "failing";
    /// It cannot go on until somebody does something.
    Failed "failed";
    /// Its input came to an end.
    Finishing "finishing";
    /// Its input came to an end, and everything is written.
    Finished "finished";
    /// It is being ended at once.
    Cancelling "cancelling";
    /// It was ended at once.
    Cancelled "cancelled";
}

moves! {
    Created => Validating Cancelling;
    Validating => Scheduling Failing Suspending Cancelling;
    Scheduling => Restoring Recovering Finishing Failing Suspending Cancelling;
    Restoring => Running Recovering Finishing Failing Suspending Upgrading Rescaling Cancelling;
    Running => Recovering Finishing Failing Suspending Upgrading Rescaling Cancelling;
    Suspending => Suspended Finished Scheduling Failing Cancelling;
    Suspended => Validating Cancelling;
    Upgrading => Scheduling Failing Suspending Cancelling;
    Rescaling => Scheduling Failing Suspending Cancelling;
    Recovering => Scheduling Failing Suspending Cancelling;
    Failing => Failed Cancelling;
    Failed => Validating Cancelling;
    Finishing => Finished Cancelling;
    Finished => Validating Cancelling;
    Cancelling => Cancelled;
    Cancelled => Validating Cancelling;
}

impl Phase {
    /// Returns whether nothing is left to be done, unless somebody asks for something.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Phase::Suspended | Phase::Failed | Phase::Finished | Phase::Cancelled)
    }

    /// Returns whether its processes are being ended.
    pub fn is_ending(self) -> bool {
        use Phase::*;
        matches!(self, Suspending | Upgrading | Rescaling | Recovering | Failing | Finishing | Cancelling)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What follows from `from`, one step or many.
    fn reachable(from: Phase) -> BTreeSet<Phase> {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(phase) = open.pop() {
            let next = MOVES.iter().filter(|(from, _)| *from == phase).map(|(_, to)| *to);
            open.extend(next.filter(|to| found.insert(*to)));
        }
        found
    }

    #[test]
    fn every_phase_can_be_left_and_every_job_can_be_cancelled() {
        for phase in Phase::ALL {
            let next = reachable(*phase);
            assert!(next.contains(&Phase::Running), "{phase} leads to no running job");
            assert!(next.contains(&Phase::Cancelled), "{phase} cannot be cancelled");
        }
    }

    #[test]
    fn what_ends_comes_to_rest_or_is_started_again() {
        for (from, to) in MOVES.iter().filter(|(from, _)| from.is_ending()) {
            let ends = to.is_at_rest() || to.is_ending() || *to == Phase::Scheduling;
            assert!(ends, "{from} -> {to}");
        }
        // Nothing is restarted that was not looked at again: a job at rest is checked first.
        for (from, to) in MOVES.iter().filter(|(from, _)| from.is_at_rest()) {
            assert!(matches!(to, Phase::Validating | Phase::Cancelling), "{from} -> {to}");
        }
    }

    #[test]
    fn names_are_those_in_answers() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
