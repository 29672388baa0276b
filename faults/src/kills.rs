//! P1, P5, P6, P7: `kill -9` at random times; again and again right after a restart; everything at once; and with another
//! number of workers each time.

use std::time::Duration;

use crate::bounded::{Calm, Going};
use crate::dice::Dice;
use crate::job::{BUSY, Input, STEADY};
use crate::live::{Live, Producers};
use crate::place::Place;
use crate::process::nap;
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// Kills of one live round; then everything is checked, and the next round begins with new input.
const ROUND: u64 = 50;
/// A kill comes within this time after the job works again.
const WITHIN: Duration = Duration::from_millis(700);

/// P1: `kill -9` at random times; three of five kills hit a live job, the others one that reads files or topics to their end.
pub fn at_random(setup: &Setup, kills: u64) -> Tried<Report> {
    let mut report = Report::of("P1");
    let live = (kills * 3).div_ceil(5);
    let mut dice = Dice::new(setup.seed);
    while report.runs < live {
        let round = ROUND.min(live - report.runs);
        live_round(setup, &mut report, &mut dice, round)?;
        report.runs += round;
    }
    let left = kills - live;
    // Half of these commit ten times as often: what lies between two acts of a commit is hit more often then.
    for (input, pace, share) in [(Input::Files, STEADY, left.div_ceil(2)), (Input::Ended, BUSY, left / 2)] {
        let calm = Calm::long(setup, input, pace, dice.roll())?;
        bounded(setup, &calm, &mut report, &mut dice, share, &[1, 2, 3])?;
    }
    Ok(report)
}

fn live_round(setup: &Setup, report: &mut Report, dice: &mut Dice, kills: u64) -> Tried<()> {
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        for _ in 0..kills {
            live.start(report, 1 + dice.below(3))?;
            // One in five hits the start itself.
            if dice.once_in(5) {
                nap(dice.moment(WITHIN / 2));
            } else {
                live.recovered(report)?;
                nap(dice.moment(WITHIN));
            }
            live.kill(report)?;
        }
        live.start(report, 2)?;
        live.recovered(report)?;
        live.finish(report, Producers::Lived)
    })
}

/// Kills bounded jobs until `kills` of them were hit while they ran.
pub fn bounded(
    setup: &Setup,
    calm: &Calm,
    report: &mut Report,
    dice: &mut Dice,
    kills: u64,
    workers: &[u64],
) -> Tried<()> {
    let until = report.runs + kills;
    while report.runs < until {
        crate::bounded::round(&setup.binary, calm, |round| {
            while report.runs < until {
                round.start(report, *dice.one_of(workers))?;
                if round.recovered(report)? == Going::Ended {
                    break;
                }
                nap(dice.moment(WITHIN));
                if round.kill(report)? == Going::Ended {
                    break;
                }
                report.runs += 1;
            }
            if report.runs == until {
                round.start(report, *dice.one_of(workers))?;
            }
            round.finish(report)
        })?;
    }
    Ok(())
}

/// P7: `kill -9`, each time another number of workers from 1 to 8; the bytes are those of one worker, undisturbed.
pub fn with_other_workers(setup: &Setup, kills: u64) -> Tried<Report> {
    let mut report = Report::of("P7");
    let mut dice = Dice::new(setup.seed ^ 7);
    for (input, share) in [(Input::Files, kills.div_ceil(2)), (Input::Ended, kills / 2)] {
        let calm = Calm::long(setup, input, STEADY, dice.roll())?;
        bounded(setup, &calm, &mut report, &mut dice, share, &[1, 2, 3, 4, 5, 6, 7, 8])?;
    }
    Ok(report)
}

/// P5: ten kills in a row, each within 500 ms of the start; nothing grows but the output.
pub fn in_a_row(setup: &Setup, chains: u64) -> Tried<Report> {
    let mut report = Report::of("P5");
    let mut dice = Dice::new(setup.seed ^ 5);
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        live.start(&mut report, 2)?;
        live.recovered(&mut report)?;
        for chain in 0..chains {
            live.kill(&mut report)?;
            let before = place.files("state");
            for _ in 0..9 {
                live.start(&mut report, 1 + dice.below(3))?;
                nap(dice.moment(Duration::from_millis(500)));
                live.kill(&mut report)?;
            }
            // A start leaves its generation record; a checkpoint that was about to be written leaves its files until the
            // next one is published.
            let after = place.files("state");
            let allowed = before + 10 * FILES_PER_START;
            if after > allowed {
                return Err(format!("chain {chain}: {before} files of state grew to {after}, more than {allowed}"));
            }
            live.start(&mut report, 2)?;
            live.recovered(&mut report)?;
            report.runs += 1;
        }
        live.finish(&mut report, Producers::Lived)
    })?;
    Ok(report)
}

/// Files that half a second of a job may leave: records each 100 ms, and two checkpoints of a few tables and workers.
const FILES_PER_START: usize = 5 + 2 * 7 * 3;

/// P6: job and producers are killed in one call.
pub fn all_at_once(setup: &Setup, kills: u64) -> Tried<Report> {
    let mut report = Report::of("P6");
    let mut dice = Dice::new(setup.seed ^ 6);
    while report.runs < kills {
        let round = ROUND.min(kills - report.runs);
        Place::with(&setup.binary, |place| {
            let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
            for _ in 0..round {
                live.start(&mut report, 1 + dice.below(3))?;
                live.recovered(&mut report)?;
                nap(dice.moment(WITHIN));
                live.kill_all(&mut report)?;
            }
            live.start(&mut report, 2)?;
            live.recovered(&mut report)?;
            live.finish(&mut report, Producers::Killed)
        })?;
        report.runs += round;
    }
    Ok(report)
}
