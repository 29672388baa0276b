//! A bounded job: the same input again and again, faults meanwhile, and at the end the bytes of the calm run.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::check::{self, Written, lines};
use crate::job::{self, Input, Pace, TOPICS};
use crate::live::GAVE;
use crate::oracle::{self, Expected};
use crate::place::Place;
use crate::process::{self, Process, Struck, now};
use crate::report::Report;
use crate::traffic::{Files, Mix, USUAL};
use crate::{Setup, Tried};

/// Input, and what the calm run made of it.
pub struct Calm {
    input: Input,
    pace: Pace,
    files: Files,
    took: Duration,
    /// What it wrote.
    pub written: Written,
    /// What the oracle says.
    pub expected: Expected,
}

/// A job that is to be hit at random times runs for so long, undisturbed.
const RUNS_FOR: Duration = Duration::from_secs(3);

impl Calm {
    /// Like [`Calm::run`], with the usual traffic, and as many rows as keep the job busy for a while: on a fast machine a few
    /// are done with before a fault can meet the job.
    pub fn long(setup: &Setup, input: Input, pace: Pace, seed: u64) -> Tried<Calm> {
        let mut rows = setup.bounded_rows();
        loop {
            let calm = Calm::run(setup, input, pace, seed, USUAL, rows)?;
            if calm.took >= RUNS_FOR || rows >= 8 * setup.bounded_rows() {
                return Ok(calm);
            }
            rows *= 2;
        }
    }

    /// Runs the job once, undisturbed, with one worker, and holds what it wrote against the oracle.
    pub fn run(setup: &Setup, input: Input, pace: Pace, seed: u64, mix: Mix, rows: usize) -> Tried<Calm> {
        let files = Files::of(seed, mix, rows);
        let clicks = files.clicks.iter().flat_map(|file| lines(file));
        let expected = oracle::expected(clicks, files.orders.iter().flat_map(|file| lines(file)), i64::MAX);
        let mut calm = Calm { input, pace, files, took: Duration::ZERO, written: Written::default(), expected };
        let (written, took) = Place::with(&setup.binary, |place| {
            calm.fill(place)?;
            let from = now();
            wait_to_end(place, &mut Process::start(place, calm.command(place, 1, &[]), GAVE)?)?;
            let took = from.elapsed();
            check::balance(&place.read(GAVE)?, &calm.expected, 0)?;
            Ok((Written::read(place)?, took))
        })?;
        written.holds(&calm.expected)?;
        if written.rows() == 0 {
            return Err("the calm run wrote nothing".to_owned());
        }
        (calm.written, calm.took) = (written, took);
        Ok(calm)
    }

    /// Writes the input and the job file to `place`.
    pub fn fill(&self, place: &Place) -> Tried<()> {
        place.write("job.yaml", job::file(self.input, self.pace))?;
        let files = &self.files;
        for (name, parts, whole) in
            [("clicks", &files.clicks, &files.whole[0]), ("orders", &files.orders, &files.whole[1])]
        {
            if self.input == Input::Ended {
                place.write("whole", whole)?;
                place.run(&["topic", "import", "whole", "--topic", name, "--topics", TOPICS, "-p", "4"])?;
                continue;
            }
            for (number, bytes) in parts.iter().enumerate() {
                place.write(&format!("in/{name}-{number}.jsonl"), bytes)?;
            }
        }
        Ok(())
    }

    /// Returns the command that runs the job in `place`.
    pub fn command(&self, place: &Place, workers: u64, extra: &[&str]) -> std::process::Command {
        let workers = workers.to_string();
        let mut arguments =
            vec!["-q", "-o", "json", "run", "job.yaml", "--topics", TOPICS, "--state", "state", "-w", &workers];
        if self.input == Input::Ended {
            arguments.push("--until-end");
        }
        arguments.extend(extra);
        place.command(&arguments)
    }

    /// Fails unless the finished job of `place` wrote what the calm run wrote. Returns how many rows were compared.
    pub fn check(&self, place: &Place) -> Tried<u64> {
        place.run(&["checkpoints", "verify", job::NAME, "--state", "state"])?;
        self.check_bytes(place)
    }

    /// Like [`Calm::check`], where some of the state was taken away.
    pub fn check_bytes(&self, place: &Place) -> Tried<u64> {
        Written::read(place)?.same_as(&self.written)?;
        Ok(self.written.rows())
    }
}

/// Waits for the good end of a job, however long that takes as long as its output grows.
pub fn wait_to_end(place: &Place, job: &mut Process) -> Tried<()> {
    let mut before = process::committed(place, "out.jsonl")?;
    loop {
        let grown = || Ok(process::committed(place, "out.jsonl")? > before);
        if !job.until(place, "more output", true, grown)? || job.ended()?.is_some() {
            return job.wait_for(place, 0);
        }
        before = process::committed(place, "out.jsonl")?;
    }
}

/// A round of a bounded job: from its first start to its end, killed on the way.
pub struct Round<'a> {
    calm: &'a Calm,
    place: &'a Place,
    job: Option<Process>,
    struck: (u64, Instant),
}

/// Whether a bounded job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// It runs.
    On,
    /// It came to its end.
    Ended,
}

impl<'a> Round<'a> {
    /// Returns a round in `place`, with its input there.
    pub fn begin(calm: &'a Calm, place: &'a Place) -> Tried<Round<'a>> {
        calm.fill(place)?;
        Ok(Round { calm, place, job: None, struck: (0, now()) })
    }

    /// Starts the job.
    pub fn start(&mut self, report: &mut Report, workers: u64) -> Tried<()> {
        self.job = Some(Process::start(self.place, self.calm.command(self.place, workers, &[]), GAVE)?);
        report.restarts += 1;
        Ok(())
    }

    fn job(&mut self) -> Tried<&mut Process> {
        self.job.as_mut().ok_or_else(|| "the job was not started".to_owned())
    }

    /// Waits until `there` says so, or the job has come to its end.
    pub fn until(&mut self, what: &str, there: impl FnMut() -> Tried<bool>) -> Tried<()> {
        let place = self.place;
        self.job()?.until(place, what, true, there).map(|_| ())
    }

    /// Waits until the job has committed a row since the last kill, and notes how long that took.
    pub fn recovered(&mut self, report: &mut Report) -> Tried<Going> {
        let (place, (before, from)) = (self.place, self.struck);
        let grown = || Ok(process::committed(place, "out.jsonl")? > before);
        let grew = self.job()?.until(place, "the first row after a restart", true, grown)?;
        if grew && before > 0 {
            report.recoveries.push(from.elapsed());
        }
        Ok(if grew { Going::On } else { Going::Ended })
    }

    /// Kills the job. A kill that found it at its end counts for nothing.
    pub fn kill(&mut self, report: &mut Report) -> Tried<Going> {
        let place = self.place;
        let struck = self.job()?.kill(place)?;
        self.struck = (process::committed(place, "out.jsonl")?, now());
        match struck {
            Struck::Running => {
                report.faults += 1;
                Ok(Going::On)
            }
            Struck::Ended => Ok(Going::Ended),
        }
    }

    /// Lets the job come to its end, and checks what it wrote.
    pub fn finish(&mut self, report: &mut Report) -> Tried<()> {
        let place = self.place;
        wait_to_end(place, self.job()?)?;
        report.rows += self.calm.check(place)?;
        Ok(())
    }
}

/// Runs `round` in a place of its own, with the input of `calm` there.
pub fn round<T>(binary: &Path, calm: &Calm, round: impl FnOnce(&mut Round<'_>) -> Tried<T>) -> Tried<T> {
    Place::with(binary, |place| round(&mut Round::begin(calm, place)?))
}
