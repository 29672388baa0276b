//! What is played, in words: the command line, and one line of `simulation/seeds`. A failure is told as the words that play it
//! again.

use crate::mutant::Mutant;
use crate::play::Options;
use crate::scene::Script;

/// Seeds that failed once.
const PAST: &str = include_str!("../seeds");

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// Seeds are played.
    Play {
        /// The first.
        from: u64,
        /// How many.
        seeds: u64,
        /// How.
        options: Options,
    },
    /// Every mutant is played until it is found out.
    Mutants,
    /// What failed once is played, each seed as it failed.
    Past,
}

/// Reads the words of a command line.
pub fn parse<'w>(mut words: impl Iterator<Item = &'w str>) -> Result<Command, String> {
    let (mut seeds, mut from, mut options) = (100, 0, Options::default());
    while let Some(name) = words.next() {
        match name {
            "--faulty-store" => options.faulty_store = true,
            "--calm" => options.calm = true,
            "--mutants" => return Ok(Command::Mutants),
            "--past" => return Ok(Command::Past),
            "--seeds" | "--from" | "--seed" | "--workers" | "--mutant" | "--script" => {
                let value = words.next().ok_or(format!("{name} needs a value"))?;
                let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, not `{value}`"));
                match name {
                    "--seeds" => seeds = number()?,
                    "--from" => from = number()?,
                    "--seed" => (from, seeds, options.telling) = (number()?, 1, true),
                    "--workers" => options.workers = usize::try_from(number()?).map_err(|error| error.to_string())?,
                    "--script" => options.script = script(value)?,
                    _ => options.mutant = Some(mutant(value)?),
                }
            }
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(Command::Play { from, seeds, options })
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let known = || format!("there is no mutant `{name}`; there are {:?}", Mutant::all().collect::<Vec<_>>());
    Mutant::named(name).ok_or_else(known)
}

fn script(word: &str) -> Result<Script, String> {
    let known = || format!("there is no script `{word}`; there are {:?}", Script::ALL.map(Script::word));
    Script::named(word).ok_or_else(known)
}

/// Returns the words after the program's name that play `seed` like this again, with its events.
pub fn again(seed: u64, options: Options) -> String {
    let Options { script, workers, calm, faulty_store, mutant, telling: _ } = options;
    let mut words = format!("--seed {seed}");
    if script != Script::default() {
        words += &format!(" --script {}", script.word());
    }
    if workers > 0 {
        words += &format!(" --workers {workers}");
    }
    if let Some(mutant) = mutant {
        words += &format!(" --mutant {mutant:?}");
    }
    for (is_so, word) in [(calm, " --calm"), (faulty_store, " --faulty-store")] {
        words += if is_so { word } else { "" };
    }
    words
}

/// Returns the seeds that failed once, each with how it was played. A line of the list is what [`again`] says, and after a `#` what it was.
pub fn past() -> Result<Vec<(u64, Options)>, String> {
    listed(PAST)
}

fn listed(list: &str) -> Result<Vec<(u64, Options)>, String> {
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let read = |line: &str| match parse(line.split_whitespace()) {
        Ok(Command::Play { from, seeds: 1, options }) => Ok((from, Options { telling: false, ..options })),
        Ok(_) => Err(format!("simulation/seeds: `{line}` names no seed; it is `--seed N` and how it was played")),
        Err(reason) => Err(format!("simulation/seeds: `{line}`: {reason}")),
    };
    lines.filter(|line| !line.is_empty()).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_failure_plays_it_again() {
        let ways = [
            Options::default(),
            Options { workers: 3, ..Options::default() },
            Options { faulty_store: true, workers: 2, ..Options::default() },
            Options { calm: true, mutant: Some(Mutant::RestoredSink), ..Options::default() },
            Options { faulty_store: true, mutant: Some(Mutant::EarlySink), ..Options::default() },
            Options { script: Script::Ledger, workers: 1, ..Options::default() },
        ];
        for options in ways {
            let told = again(17, options);
            let options = Options { telling: true, ..options };
            assert_eq!(parse(told.split_whitespace()), Ok(Command::Play { from: 17, seeds: 1, options }), "{told}");
        }
    }

    #[test]
    fn the_list_of_past_failures_says_how_each_was_played() {
        let list =
            "# One a line.\n\n--seed 5 --faulty-store  # a put that was answered twice\n--seed 7 --script ledger\n";
        let stored = Options { faulty_store: true, ..Options::default() };
        let scripted = Options { script: Script::Ledger, ..Options::default() };
        assert_eq!(listed(list), Ok(vec![(5, stored), (7, scripted)]));
        for wrong in ["5", "--seeds 5", "--mutants", "--seed 5 --faulty", "--seed x", "--seed 5 --script 2"] {
            assert!(listed(wrong).unwrap_err().contains("simulation/seeds"), "{wrong}");
        }
        past().unwrap();
    }
}
