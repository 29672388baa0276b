//! One flipped byte, a truncation, a missing file, anywhere in what a job left behind: it is said by name, or it changes
//! nothing; the output is never another one.
//!
//! A job is brought to a halt half-way, by a clean stop and by a crash. Each mutation strikes one file of a copy, and the job is
//! run to its end in this process. `RIVERRUN_DAMAGES=20000` strikes so often, `RIVERRUN_DAMAGE_SEED` other places.

mod scene;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use riverrun_fuzz::dice::Dice;
use riverrun_jobs::fault::Style;
use riverrun_jobs::run::RunError;
use scene::{Halt, Scene};

/// Strikes in a short run.
const FEW: usize = 1000;
/// After so many broken promises a run ends.
const BROKEN_MAX: usize = 20;

/// Which kind of file was struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Log,
    Floor,
    StateFile,
    JobJson,
    TopicRead,
    TopicWritten,
    Sidecar,
    Rows,
    /// Locks, and who holds them.
    Holder,
}

impl Part {
    fn of(path: &Path) -> Part {
        let text = path.to_str().expect("paths are plain");
        let is_in = |folder: &str| text.contains(&format!("/{folder}/"));
        match path.file_name().and_then(|name| name.to_str()).expect("a file has a name") {
            "LOCK" | "writer" => Part::Holder,
            "job.json" => Part::JobJson,
            "out.jsonl" => Part::Rows,
            "out.jsonl.riverrun.json" => Part::Sidecar,
            _ if text.contains("topics/clicks/") => Part::TopicRead,
            _ if text.contains("topics/counts/") => Part::TopicWritten,
            _ if is_in("log") => Part::Log,
            _ if is_in("floor") => Part::Floor,
            _ => Part::StateFile,
        }
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Flip { at: usize, bit: u8 },
    Cut { to: usize },
    Remove,
}

impl Blow {
    /// Draws one for a file of this length, of which `unread` bytes at the beginning are not looked at again.
    fn thrown(length: usize, unread: usize, dice: &mut Dice) -> Blow {
        match dice.below(8) {
            0..=4 if length > unread => {
                Blow::Flip { at: unread + dice.below(length - unread), bit: 1 << dice.below(8) }
            }
            5 | 6 if length > 0 => Blow::Cut { to: dice.below(length) },
            _ => Blow::Remove,
        }
    }

    fn strike(self, path: &Path) {
        match self {
            Blow::Flip { at, bit } => {
                let mut bytes = fs::read(path).expect("the file is there");
                bytes[at] ^= bit;
                fs::write(path, bytes).expect("the test can write");
            }
            Blow::Cut { to } => {
                let bytes = fs::read(path).expect("the file is there");
                fs::write(path, &bytes[..to]).expect("the test can write");
            }
            Blow::Remove => fs::remove_file(path).expect("the file is there"),
        }
    }
}

/// What came of a strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The run ended with an error that names the file.
    Named,
    /// Nobody can tell from what is left which file is gone, but what is missing is said.
    Missed,
    /// The output is what it should be, and an older checkpoint was used and that was said.
    PassedOver,
    /// The output is what it should be.
    Harmless,
}

/// How often each outcome was seen, by what was struck.
#[derive(Default)]
struct Tally(BTreeMap<(Part, Outcome), usize>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((part, outcome), times) in &self.0 {
            writeln!(f, "  {:<14}{:<12}{times:>7}", format!("{part:?}"), format!("{outcome:?}"))?;
        }
        Ok(())
    }
}

/// Returns the error as a user sees it.
fn shown(error: &RunError) -> String {
    if let RunError::Connect(report) = error {
        return report.render(Style::Plain);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// One file, and what is done to it.
struct Strike<'a> {
    part: Part,
    file: &'a Path,
    blow: Blow,
}

impl Strike<'_> {
    fn name(&self) -> &str {
        self.file.file_name().and_then(|name| name.to_str()).expect("a plain name")
    }

    /// Runs the job to its end; returns what came of it, or how the promise was broken.
    fn play(&self, scene: &Scene) -> Result<Outcome, String> {
        scene.restore();
        self.blow.strike(&scene.path(self.file));
        match scene.finish() {
            Err(error) => {
                let outcome = self.judge(&error)?;
                self.check_written(scene)?;
                Ok(outcome)
            }
            Ok(warnings) => {
                if scene.output()? != scene.expected {
                    return Err(format!("the output is another one; said was {warnings:?}"));
                }
                match warnings.iter().any(|warning| warning.contains("cannot be used")) {
                    true => Ok(Outcome::PassedOver),
                    false => Ok(Outcome::Harmless),
                }
            }
        }
    }

    /// Returns what an error comes to.
    fn judge(&self, error: &RunError) -> Result<Outcome, String> {
        let said = shown(error);
        // A job or topic that does not say what it is cannot be connected: a fault of the configuration, to all appearance.
        let says_what_it_is = self.name().ends_with(".json") && self.part != Part::Log;
        match error.exit_code() {
            74 => {}
            78 if says_what_it_is => {}
            other => return Err(format!("exit code {other}: {said}")),
        }
        // The end of the log cannot be missed by the log itself. The sinks miss it, for they have more than it tells.
        let end_of_log = self.part == Part::Log && self.blow == Blow::Remove && said.contains("log");
        match said.contains(self.name()) {
            true => Ok(Outcome::Named),
            false if end_of_log => Ok(Outcome::Missed),
            false => Err(format!("the error does not name the file: {said}")),
        }
    }

    /// Checks that what was written before the run failed is a beginning of what should be.
    fn check_written(&self, scene: &Scene) -> Result<(), String> {
        let Ok(left) = scene.output() else { return Ok(()) };
        if !matches!(self.part, Part::Rows | Part::Sidecar) && !scene.expected.rows.starts_with(&left.rows) {
            return Err("it fails, but there are other rows in the file".into());
        }
        if self.part != Part::TopicWritten && !scene.expected.has_begun_with(&left) {
            return Err("it fails, but there are other rows in the topic".into());
        }
        Ok(())
    }
}

/// The files that a job left, each with its length, by what they are.
type Files = BTreeMap<Part, Vec<(PathBuf, usize)>>;

/// Strikes so many times; returns how the promise was broken.
fn strike(scene: &Scene, times: usize, dice: &mut Dice, tally: &mut Tally) -> Vec<String> {
    let mut files = Files::new();
    for (path, length) in scene.files() {
        files.entry(Part::of(&path)).or_default().push((path, length));
    }
    let mut broken = Vec::new();
    for _ in 0..times {
        // All parts alike: state files are many, and would get nearly all.
        let (part, files) = files.iter().nth(dice.below(files.len())).expect("below their number");
        let (file, length) = dice.of(files);
        let unread = if *part == Part::Rows { scene.unread() } else { 0 };
        let strike = Strike { part: *part, file, blow: Blow::thrown(*length, unread, dice) };
        match strike.play(scene) {
            Ok(outcome) => *tally.0.entry((*part, outcome)).or_default() += 1,
            Err(how) => broken.push(format!("{} {:?} ({:?}): {how}", file.display(), strike.blow, scene.halt)),
        }
        if broken.len() == BROKEN_MAX {
            break;
        }
    }
    broken
}

#[test]
fn one_blow_anywhere_is_said_or_changes_nothing() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<usize>().expect("a number"));
    let strikes = number("RIVERRUN_DAMAGES").unwrap_or(FEW);
    let seed = number("RIVERRUN_DAMAGE_SEED").unwrap_or(0) as u64;
    let mut tally = Tally::default();
    let halts = [Halt::Stopped, Halt::Crashed];
    let played: Vec<(Tally, Vec<String>)> = std::thread::scope(|scope| {
        let play = |(number, halt): (usize, Halt)| {
            let mut tally = Tally::default();
            let mut dice = Dice::new(seed + number as u64);
            let broken = strike(&Scene::new(halt), strikes / halts.len(), &mut dice, &mut tally);
            (tally, broken)
        };
        let plays: Vec<_> = halts.into_iter().enumerate().map(|it| scope.spawn(move || play(it))).collect();
        plays.into_iter().map(|play| play.join().expect("a broken promise is no panic")).collect()
    });
    let mut broken = Vec::new();
    for (part, how) in played {
        part.0.into_iter().for_each(|(of, times)| *tally.0.entry(of).or_default() += times);
        broken.extend(how);
    }
    println!("{strikes} strikes:\n{tally}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let seen = |part: Part, outcomes: &[Outcome]| outcomes.iter().any(|it| tally.0.contains_key(&(part, *it)));
    for part in [Part::Log, Part::JobJson, Part::TopicRead, Part::TopicWritten, Part::Sidecar] {
        assert!(seen(part, &[Outcome::Named]), "no damage to {part:?} was seen");
    }
    assert!(seen(Part::StateFile, &[Outcome::PassedOver, Outcome::Named]), "no damage to a state file was seen");
}
