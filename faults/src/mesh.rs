//! M1: a job in three processes that a manager keeps, under load. At random moments one of them is killed or frozen, or the manager
//! is killed, or both.
//!
//! The same input is then read to its end by another job that is hit in the same ways: its bytes are those of a run in one process
//! that nobody disturbed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::bounded::Calm;
use crate::dice::Dice;
use crate::job::{Input, NAME, STEADY};
use crate::live::{Live, Producers, all_is_out};
use crate::managed::{Crew, Managed, Member};
use crate::place::Place;
use crate::process::{self, Lateness, nap, now};
use crate::report::{Report, spread};
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// Processes of the job.
const PROCESSES: usize = 3;
/// Rounds after which everything is checked, and the next topics are begun.
const ROUNDS: u64 = 20;
/// A blow comes within this time after the job works again.
const WITHIN: Duration = Duration::from_millis(1500);
/// Silence of a process counts as loss after this.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// What a machine may add to that, and more if it is found to be slower.
const SLACK: Duration = Duration::from_secs(2);
/// Nobody may notice that somebody was frozen for so long at most.
const UNNOTICED: Duration = Duration::from_secs(5);
/// A manager that was killed comes back within this time.
const AWAY: Duration = Duration::from_secs(1);
/// The exit code of a process that lost another one.
const LOST: i64 = 75;

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// `kill -9` of a process.
    Process,
    /// A process is frozen until it is found out, and wakes again.
    Frozen,
    /// A process is frozen so shortly that nobody may notice.
    FrozenShortly,
    /// `kill -9` of the manager, which comes back.
    Manager,
    /// Process and manager are killed in one call.
    Both,
    /// A process is frozen when the manager is killed.
    ManagerAndFrozen,
    /// SIGTERM to a process, as when its machine is to be restarted: all stop cleanly, and are started again.
    Stopped,
}

const BLOWS: [Blow; 7] = [
    Blow::Process,
    Blow::Both,
    Blow::Frozen,
    Blow::Manager,
    Blow::Stopped,
    Blow::ManagerAndFrozen,
    Blow::FrozenShortly,
];

/// How long the job was away, by what happened to it.
type Times = BTreeMap<String, Vec<Duration>>;

/// M1: processes and the manager of a job are killed and frozen.
pub fn disturbed(setup: &Setup, rounds: u64) -> Tried<Report> {
    let (mut report, mut times) = (Report::of("M1"), Times::new());
    let mut dice = Dice::new(setup.seed ^ 0x31);
    let live = (rounds * 3).div_ceil(5);
    while report.runs < live {
        let rounds = ROUNDS.min(live - report.runs);
        live_rounds(setup, &mut report, &mut dice, &mut times, rounds)?;
    }
    if report.runs < rounds {
        let calm = Calm::long(setup, Input::Ended, STEADY, dice.roll())?;
        while report.runs < rounds {
            bounded_rounds(setup, &calm, &mut report, &mut dice, rounds)?;
        }
    }
    report
        .notes
        .push(format!("{PROCESSES} processes; {live} rounds on a live job, the others on one that came to its end"));
    report.notes.extend(times.iter().map(|(what, times)| format!("{what}: {}", spread(times))));
    Ok(report)
}

fn live_rounds(setup: &Setup, report: &mut Report, dice: &mut Dice, times: &mut Times, rounds: u64) -> Tried<()> {
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        let mut shop = Shop::open(place, &[])?;
        for _ in 0..rounds {
            nap(dice.moment(WITHIN));
            // In turn from a random one on, so that few rounds meet different ones.
            let blow = BLOWS[usize::try_from((setup.seed + report.runs) % 7).expect("it is small")];
            shop.suffer(blow, dice).map_err(|reason| format!("{blow:?}: {reason}"))?;
            report.runs += 1;
            let well = shop.recoveries.last().copied().unwrap_or_default().as_secs_f64();
            // A long night tells how it goes.
            eprintln!("M1 round {}: {blow:?}, {well:.2} s", report.runs);
        }
        let expected = live.close(Producers::Lived)?;
        let mut turn = 0;
        all_is_out(place, &expected, || {
            turn += 1;
            Ok(turn % 20 != 0 || !matches!(shop.managed.phase()?.as_str(), "failed" | "finished"))
        })?;
        shop.managed.ask(&["suspend", NAME])?;
        report.rows += live.check(&expected, &balance(place)?)?;
        shop.tell(report, times);
        Ok(())
    })
}

/// Returns the balance of a job that was stopped, as a run gives it.
fn balance(place: &Place) -> Tried<Vec<u8>> {
    let shown = place.run(&["-o", "json", "checkpoints", "show", NAME, "--state", "state"])?;
    let shown: serde_json::Value =
        serde_json::from_slice(&shown).map_err(|error| format!("checkpoints show: {error}"))?;
    Ok(json!({ "snapshot": { "balance": shown["balance"] } }).to_string().into_bytes())
}

/// Disturbs one bounded job until it comes to its end, or there were enough rounds.
fn bounded_rounds(setup: &Setup, calm: &Calm, report: &mut Report, dice: &mut Dice, rounds: u64) -> Tried<()> {
    Place::with(&setup.binary, |place| {
        calm.fill(place)?;
        let mut shop = Shop::open(place, &["--until-end"])?;
        // Those that take seconds would let it come to its end.
        let blows = [Blow::Process, Blow::Both, Blow::FrozenShortly];
        while report.runs < rounds && shop.works()? {
            nap(dice.moment(WITHIN / 3));
            let blow = *dice.one_of(&blows);
            if !shop.suffer(blow, dice).map_err(|reason| format!("{blow:?} of a bounded job: {reason}"))? {
                break;
            }
            report.runs += 1;
        }
        let (from, mut before) = (now(), 0);
        while shop.managed.until_more(before)? {
            before = process::committed(place, "out.jsonl")?;
        }
        while shop.managed.phase()? != "finished" {
            shop.managed.keep_waiting("the end of a bounded job", from.elapsed())?;
        }
        report.rows += calm.check(place)?;
        shop.tell(report, &mut Times::new());
        Ok(())
    })
}

/// A job in several processes, and its manager.
struct Shop<'a> {
    place: &'a Place,
    managed: Managed<'a>,
    starts: u64,
    faults: u64,
    recoveries: Vec<Duration>,
    /// What took how long.
    times: Vec<(String, Duration)>,
}

impl<'a> Shop<'a> {
    /// Starts the manager and submits the job.
    fn open(place: &'a Place, more: &[&str]) -> Tried<Shop<'a>> {
        let managed = Managed::begin(place)?;
        let processes = PROCESSES.to_string();
        let submit = ["submit", "job.yaml", "--processes", &processes, "-w", "1"];
        managed.ask(&[&submit[..], more].concat())?;
        let (recoveries, times) = (Vec::new(), Vec::new());
        let mut shop = Shop { place, managed, starts: 1, faults: 0, recoveries, times };
        shop.works()?;
        Ok(shop)
    }

    /// Waits for a row more; returns false if the job came to its end.
    fn works(&mut self) -> Tried<bool> {
        self.managed.until_more(process::committed(self.place, "out.jsonl")?)
    }

    /// One round: a blow, and everything well again. Returns false if it met a job that had come to its end.
    fn suffer(&mut self, blow: Blow, dice: &mut Dice) -> Tried<bool> {
        let Some(crew) = self.crew_at_work()? else { return Ok(false) };
        let victim = dice.one_of(&crew.members).clone();
        let from = now();
        match blow {
            Blow::Process => process::signal("KILL", &[victim.pid])?,
            Blow::Stopped => process::signal("TERM", &[victim.pid])?,
            Blow::Manager => {
                let before = process::committed(self.place, "out.jsonl")?;
                process::signal("KILL", &[self.managed.id()?])?;
                self.managed.was_killed()?;
                // The job goes on without it.
                self.managed.until_more(before)?;
                nap(dice.moment(AWAY));
                self.managed.serve()?;
            }
            Blow::Both => {
                process::signal("KILL", &[self.managed.id()?, victim.pid])?;
                self.managed.was_killed()?;
                nap(dice.moment(AWAY));
                self.managed.serve()?;
            }
            Blow::FrozenShortly => {
                process::signal("STOP", &[victim.pid])?;
                nap(dice.moment(UNNOTICED));
                if !victim.lives(self.place) && self.managed.phase()? == "finished" {
                    // The job came to its end just before it was hit.
                    return Ok(false);
                }
                process::signal("CONT", &[victim.pid])?;
            }
            Blow::Frozen => {
                process::signal("STOP", &[victim.pid])?;
                self.is_found_out(&crew, &victim)?;
                nap(dice.moment(2 * SLACK));
            }
            Blow::ManagerAndFrozen => {
                process::signal("STOP", &[victim.pid])?;
                process::signal("KILL", &[self.managed.id()?])?;
                self.managed.was_killed()?;
                // A kernel wakes who was stopped when its parent dies, and leaves its process group to nobody.
                process::signal("STOP", &[victim.pid])?;
                self.is_found_out(&crew, &victim)?;
                nap(dice.moment(AWAY));
                self.managed.serve()?;
                nap(dice.moment(SLACK));
            }
        }
        self.faults += 1;
        let stays = matches!(blow, Blow::Manager | Blow::FrozenShortly);
        if !stays {
            if victim.lives(self.place) {
                // The zombie wakes, unless the manager has killed it.
                let _ = process::signal("CONT", &[victim.pid]);
            }
            self.managed.until_gone(&crew.members)?;
            self.all_ended_with(if blow == Blow::Stopped { 0 } else { LOST }, &crew)?;
        }
        let before = process::committed(self.place, "out.jsonl")?;
        let goes_on = self.managed.until_more(before)?;
        let same = self.managed.crew().generation == crew.generation;
        if stays && goes_on && !same {
            return Err(format!("the job was started again for nothing\n{}", self.managed.last_words()));
        }
        self.recoveries.push(from.elapsed());
        self.times.push((format!("{blow:?}"), from.elapsed()));
        Ok(goes_on)
    }

    /// Waits for a start of the job of which all processes are there; `None` if it came to its end.
    fn crew_at_work(&mut self) -> Tried<Option<Crew>> {
        let from = now();
        loop {
            let crew = self.managed.crew();
            let lives = crew.members.iter().filter(|it| it.lives(self.place)).count();
            if lives == PROCESSES {
                return Ok(Some(crew));
            }
            if lives == 0 && self.managed.phase()? == "finished" {
                return Ok(None);
            }
            self.managed.keep_waiting("all processes of the job", from.elapsed())?;
        }
    }

    /// Waits until the others have found out that `frozen` is, which they must in time.
    fn is_found_out(&mut self, crew: &Crew, frozen: &Member) -> Tried<()> {
        let from = now();
        let others: Vec<_> = crew.members.iter().filter(|member| *member != frozen).cloned().collect();
        let mut lateness = Lateness::begin();
        while others.iter().all(|member| member.lives(self.place)) {
            self.managed.keep_waiting("the end of a mesh with a frozen process", from.elapsed())?;
            lateness.nap();
        }
        let found = from.elapsed();
        self.times.push(("a frozen process is found out".to_owned(), found));
        match found <= DEAD_AFTER + lateness.slack(SLACK) {
            true => Ok(()),
            false => Err(format!("a frozen process was found out after {:.1} s only", found.as_secs_f64())),
        }
    }

    /// All have said the same at last, unless the manager ended them before they could.
    fn all_ended_with(&mut self, right: i64, crew: &Crew) -> Tried<()> {
        if let Some(code) = crew.members.iter().filter_map(Member::said_at_last).find(|code| *code != right) {
            return Err(format!("a process ended with {code}, and not with {right}\n{}", self.place.said()));
        }
        self.starts += 1;
        Ok(())
    }

    /// Adds what happened to the report.
    fn tell(&mut self, report: &mut Report, times: &mut Times) {
        report.faults += self.faults;
        report.restarts += self.starts;
        report.recoveries.append(&mut self.recoveries);
        for (what, time) in self.times.drain(..) {
            times.entry(what).or_default().push(time);
        }
    }
}
