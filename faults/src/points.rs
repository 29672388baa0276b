//! P4: the process ends at each named point between two outside acts, and the next run makes it good.
//!
//! The points are those of a debug build, which says which there are. Each must be reached: a point that no scenario comes to
//! is a failure.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bounded::{Calm, wait_to_end};
use crate::check::Written;
use crate::clocks;
use crate::dice::Dice;
use crate::job::{BUSY, Input, TOPICS};
use crate::live::GAVE;
use crate::place::Place;
use crate::process::{self, Process};
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// The variable of the binary that names a point and a visit.
const VARIABLE: &str = "RIVERRUN_FAIL_POINT";
/// Rows of a run: enough for some commits and checkpoints of a debug build.
const ROWS: usize = 2000;
/// Rows of a run that comes to a collection: enough for more checkpoints than are kept.
const ROWS_MANY: usize = 4 * ROWS;
/// The signal of a process that ended at a point.
const ABORTED: i32 = 6;

/// What must have happened before a run can come to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nothing: the first run comes to it.
    Nothing,
    /// A run that ended at this point and visit, which left something to repair.
    Ended(&'static str, u64),
    /// A whole run; this one starts over.
    Whole,
    /// A run that was stopped cleanly, and then another job file.
    Drained,
    /// A run two hours ago that was cut short: what it left is old enough to be collected.
    LongAgo,
}

fn before(site: &str) -> Before {
    match site {
        "file.cut" => Before::Ended("file.rows.written", 4),
        "topic.cut" => Before::Ended("topic.commit.torn", 12),
        _ if site.starts_with("fresh.") => Before::Whole,
        _ if site.starts_with("log.upgrade.") => Before::Drained,
        _ if site.starts_with("collect.") => Before::LongAgo,
        _ => Before::Nothing,
    }
}

/// P4: `times` runs for each point.
pub fn at_each_point(setup: &Setup, times: u64) -> Tried<Report> {
    let mut report = Report::of("P4");
    let binary = setup.debug.clone().unwrap_or_else(|| setup.binary.clone());
    let setup = &Setup { binary, ..setup.clone() };
    let sites = sites(setup)?;
    if sites.is_empty() {
        report.left_out = Some(match &setup.points {
            Some(start) => {
                format!("no named point begins with `{start}`, or the binary is no debug build, which alone has them")
            }
            None => "the binary is no debug build, which alone has named points; name one by --debug-binary".to_owned(),
        });
        return Ok(report);
    }
    let mut dice = Dice::new(setup.seed ^ 4);
    let mut calms = |rows: usize| {
        let calms = [Input::Files, Input::Ended].map(|input| Calm::run(setup, input, BUSY, dice.roll(), USUAL, rows));
        calms.into_iter().collect::<Tried<Vec<_>>>()
    };
    let (few, many) = (calms(ROWS)?, calms(ROWS_MANY)?);
    let left_out = |site: &&String| before(site) == Before::LongAgo && clocks::library().is_none();
    for site in sites.iter().filter(left_out) {
        report.notes.push(format!("{site} is left out: it needs libfaketime"));
    }
    let mut visits = Vec::new();
    for site in sites.iter().filter(|site| !left_out(site)) {
        for time in 0..times {
            // The first visit, then any of the first few.
            visits.push((site, if time == 0 { 1 } else { 1 + dice.below(8) }, dice.roll()));
        }
    }
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Ok(&mut report)));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((site, visit, seed)) = visits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let calms = if matches!(before(site), Before::LongAgo | Before::Drained) { &many } else { &few };
                    let one = one(setup, calms, site, *visit, *seed);
                    let mut all = all.lock().expect("no one panics with it");
                    match (&mut *all, one) {
                        (Ok(report), Ok(part)) => report.add(part),
                        (Ok(_), Err(reason)) => *all = Err(format!("{site}:{visit}: {reason}")),
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    all.into_inner().expect("all threads are done")?;
    report.notes.push(format!("{} points", sites.len()));
    Ok(report)
}

/// Runs of one point after the other, or of several at once: they wait for the disk most of the time.
const AT_ONCE: usize = 3;
/// Further runs to come to a point. Some points are passed as the clock has it, and by no run whose machine was slow.
const TRIES: usize = 4;

fn one(setup: &Setup, calms: &[Calm], site: &str, visit: u64, seed: u64) -> Tried<Report> {
    let mut report = Report { runs: 1, ..Report::of("P4") };
    let mut dice = Dice::new(seed);
    let (calm, workers) = (dice.one_of(calms), 1 + dice.below(3));
    Place::with(&setup.binary, |place| {
        calm.fill(place)?;
        One { calm, place, workers, report: &mut report }.at(site, visit)
    })?;
    Ok(report)
}

/// Asks the binary for its points; a release build has none, and takes the question for a wrong command line.
fn sites(setup: &Setup) -> Tried<Vec<String>> {
    let listed = Command::new(&setup.binary).env(VARIABLE, "list").output();
    let listed = listed.map_err(|error| format!("cannot start {}: {error}", setup.binary.display()))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let wanted = |site: &&str| setup.points.as_ref().is_none_or(|start| site.starts_with(start));
    Ok(if listed.status.success() { text.lines().filter(wanted).map(str::to_owned).collect() } else { Vec::new() })
}

/// One run that ends at a point, and what follows.
struct One<'a> {
    calm: &'a Calm,
    place: &'a Place,
    workers: u64,
    report: &'a mut Report,
}

impl One<'_> {
    /// Ends a run at a visit of the point, or at the first one if it is not visited as often, and lets the next make it good.
    fn at(&mut self, site: &str, visit: u64) -> Tried<()> {
        let mut visits = [visit].into_iter().chain([1; TRIES]);
        let extra = loop {
            let visit = visits.next().ok_or("no run comes to this point")?;
            let extra = self.before(site)?;
            if self.ends_at(site, visit, extra, &[])? {
                break extra;
            }
            // That run came to its end.
            self.again()?;
        };
        self.report.faults += 1;
        if before(site) == Before::Whole {
            self.forget_topics()?;
        }
        self.workers = 1 + (self.workers % 3);
        self.whole(extra)?;
        self.report.rows += match before(site) {
            // An upgrade cuts the rest of the input anew, and bad rows are ordered by the cut.
            Before::Drained => Written::read(self.place)?.holds(&self.calm.expected)?,
            _ => self.calm.check(self.place)?,
        };
        Ok(())
    }

    /// Does what has to be done before a run can come to the point, and returns what that run is told besides.
    fn before(&mut self, site: &str) -> Tried<&'static [&'static str]> {
        Ok(match before(site) {
            Before::Nothing => &[],
            Before::Ended(other, visit) => {
                // On a machine that is slow enough all is committed at once.
                if !self.ends_at(other, visit, &[], &[])? {
                    self.again()?;
                    self.must_end_at(other, 1, &[], &[])?;
                }
                &[]
            }
            Before::LongAgo => {
                // Of many old checkpoints the next run can collect some at once; a slow machine has few of them.
                let past = clocks::behind("-2h");
                if !self.ends_at("log.checkpoint.appended", 8, &[], &past)? {
                    self.again()?;
                    self.must_end_at("log.checkpoint.appended", 2, &[], &past)?;
                }
                &[]
            }
            Before::Drained => {
                self.drain()?;
                &["--upgrade"]
            }
            Before::Whole => {
                self.whole(&[])?;
                self.forget_topics()?;
                &["--fresh"]
            }
        })
    }

    /// A topic is never emptied: what was made of it goes, so that a new life can be held against the calm run.
    fn forget_topics(&self) -> Tried<()> {
        ["counts", "visits", "late", "bad"].iter().try_for_each(|topic| self.place.remove(&format!("{TOPICS}/{topic}")))
    }

    /// Stops a run cleanly in the middle, and changes the job file where no output sees it. A run that came to its end before the
    /// signal did is begun anew.
    fn drain(&mut self) -> Tried<()> {
        let mut tries = 0..20;
        while tries.next().is_some() {
            self.report.restarts += 1;
            let mut job = Process::start(self.place, self.calm.command(self.place, self.workers, &[]), GAVE)?;
            job.until(self.place, "output", false, || Ok(process::committed(self.place, "out.jsonl")? > 0))?;
            process::signal("TERM", &[job.id()])?;
            job.wait_for(self.place, 0)?;
            if !self.is_finished()? {
                break;
            }
            self.again()?;
        }
        let file = String::from_utf8_lossy(&self.place.read("job.yaml")?).replace("max_future: 12h", "max_future: 13h");
        self.place.write("job.yaml", file)
    }

    /// Returns whether the newest checkpoint is the last.
    fn is_finished(&self) -> Tried<bool> {
        let listed = self.place.run(&["-o", "json", "checkpoints", "ls", crate::job::NAME, "--state", "state"])?;
        let listed: serde_json::Value = serde_json::from_slice(&listed).map_err(|error| error.to_string())?;
        Ok(listed["checkpoints"][0]["finished"] == true)
    }

    fn again(&mut self) -> Tried<()> {
        for name in ["state", TOPICS, "out.jsonl", "out.jsonl.riverrun.json", "late.jsonl", "late.jsonl.riverrun.json"]
        {
            self.place.remove(name)?;
        }
        self.calm.fill(self.place)
    }

    fn whole(&mut self, extra: &[&str]) -> Tried<()> {
        self.report.restarts += 1;
        wait_to_end(
            self.place,
            &mut Process::start(self.place, self.calm.command(self.place, self.workers, extra), GAVE)?,
        )
    }

    /// Starts a run that is to end at the point. Returns false if it came to its good end instead.
    fn ends_at(&mut self, site: &str, visit: u64, extra: &[&str], environment: &[(String, String)]) -> Tried<bool> {
        self.report.restarts += 1;
        let mut command = self.calm.command(self.place, self.workers, extra);
        command.env(VARIABLE, format!("{site}:{visit}"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let status = Process::start(self.place, command, GAVE)?.wait()?;
        match (status.signal(), status.code()) {
            (Some(ABORTED), _) => Ok(true),
            (_, Some(0)) => Ok(false),
            _ => Err(format!("a run ended with {status} instead of at the point\n{}", self.place.said())),
        }
    }

    fn must_end_at(&mut self, site: &str, visit: u64, extra: &[&str], environment: &[(String, String)]) -> Tried<()> {
        match self.ends_at(site, visit, extra, environment)? {
            true => Ok(()),
            false => Err(format!("no run comes to {site}:{visit}")),
        }
    }
}
