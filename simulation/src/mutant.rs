//! Rules, broken on purpose: a simulator that does not find these out proves nothing. And worlds in which something outside
//! breaks its word: there the job must stop and say why, or give what it should, never anything else.

/// How the failure of a job begins that stopped and said why.
pub const LOUD: &str = "the job failed: ";

/// A broken rule, or a broken world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The log answers before a record is durable: a sink may commit what no restart knows of (rule 4).
    EarlyJournal,
    /// A lane says that it has committed what it still holds, so a checkpoint may run ahead of it (R1).
    EarlySink,
    /// A lane writes its token, then its rows, as two acts (rule 6).
    TokenFirst,
    /// A lane writes its rows, then its token, as two acts (rule 6).
    RowsFirst,
    /// What is written depends on the order of arrival within a tick (R5).
    ArrivalOrder,
    /// Creating an object replaces what is there (rule 1).
    Overwriting,
    /// A checkpoint is published without the part of the last worker, as if it were not waited for (rule 5).
    PartMissing,
    /// World: a split that is read again gives other bytes (R4).
    ChangedInput,
    /// World: the end of the log is gone after a crash.
    ForgottenJournal,
    /// World: a database is restored from a backup together with its token, and older checkpoints are gone (R8).
    RestoredSink,
    /// World: all state files are gone after a crash, and the journal does not reach back (R7).
    LostState,
}

impl Mutant {
    /// The broken rules.
    pub const RULES: [Mutant; 7] = [
        Mutant::EarlyJournal,
        Mutant::EarlySink,
        Mutant::TokenFirst,
        Mutant::RowsFirst,
        Mutant::ArrivalOrder,
        Mutant::Overwriting,
        Mutant::PartMissing,
    ];

    /// The broken worlds.
    pub const WORLDS: [Mutant; 4] =
        [Mutant::ChangedInput, Mutant::ForgottenJournal, Mutant::RestoredSink, Mutant::LostState];

    /// Returns all of them.
    pub fn all() -> impl Iterator<Item = Mutant> {
        Mutant::RULES.into_iter().chain(Mutant::WORLDS)
    }

    /// Returns with which words a job stops in this world, if it is one and the job does not get on: any of these.
    pub fn words(self) -> Option<&'static [&'static str]> {
        match self {
            Mutant::ChangedInput => Some(&["changed while the job was using it: its bytes differ"]),
            Mutant::ForgottenJournal => Some(&[
                "is damaged: it and all later ones are missing",
                "records at its end are gone",
                "the journal does not reach back",
            ]),
            Mutant::RestoredSink => Some(&["the sink went back"]),
            Mutant::LostState => Some(&["is damaged: it is missing"]),
            _ => None,
        }
    }

    /// Returns whether a run may fail like this: one with a broken rule in any way, one in a broken world only if it says what is
    /// broken.
    pub fn may_end_so(self, failure: &str) -> bool {
        let said = |words: &[&str]| failure.starts_with(LOUD) && words.iter().any(|words| failure.contains(words));
        self.words().is_none_or(said)
    }

    /// Returns the mutant called `name`.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::all().find(|mutant| format!("{mutant:?}") == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_world_ends_a_job_in_its_own_words_only() {
        for world in Mutant::WORLDS {
            let words = world.words().unwrap()[0];
            assert!(world.may_end_so(&format!("{LOUD}{words}")), "{world:?}");
            for wrong in [words.to_owned(), format!("{LOUD}not deterministic: sink `a`"), "lost [1 x a]".to_owned()] {
                assert!(!world.may_end_so(&wrong), "{world:?}: {wrong}");
            }
        }
        assert!(Mutant::RULES.iter().all(|rule| rule.words().is_none() && rule.may_end_so("lost [1 x a]")));
    }
}
