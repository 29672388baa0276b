//! Rules, broken on purpose: a simulator that does not find these out proves nothing. And worlds in which something outside
//! breaks its word: there the job must stop and say why, or give what it should, never anything else.

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
    pub const RULES: [Mutant; 6] = [
        Mutant::EarlyJournal,
        Mutant::EarlySink,
        Mutant::TokenFirst,
        Mutant::RowsFirst,
        Mutant::ArrivalOrder,
        Mutant::Overwriting,
    ];

    /// The broken worlds.
    pub const WORLDS: [Mutant; 4] =
        [Mutant::ChangedInput, Mutant::ForgottenJournal, Mutant::RestoredSink, Mutant::LostState];

    /// Returns all of them.
    pub fn all() -> impl Iterator<Item = Mutant> {
        Mutant::RULES.into_iter().chain(Mutant::WORLDS)
    }

    /// Returns the mutant called `name`.
    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::all().find(|mutant| format!("{mutant:?}") == name)
    }
}
