//! I2: rows that cannot be decoded, rows that come late, rows of 8 MiB; every one of them is accounted for.

use crate::bounded::Calm;
use crate::dice::Dice;
use crate::job::{Input, STEADY};
use crate::kills;
use crate::live::{Live, Producers};
use crate::place::Place;
use crate::process::nap;
use crate::report::Report;
use crate::traffic::{HUGE_BYTES, Mix};
use crate::{Setup, Tried};

/// 1 % of the clicks are no rows, 1 % of all rows are late, 0.1 % of the clicks are huge.
const WRONG: Mix = Mix { broken: 100, late: 100, huge: 1000 };
/// The same for a live job, whose producer would not keep up with huge rows at any rate.
const WRONG_LIVE: Mix = Mix { huge: 20_000, ..WRONG };
/// Rows of a bounded job, about a tenth of them before the first late one.
const ROWS: usize = 20_000;

/// I2: balance and side outputs are exact, in a calm run, with kills, from files, topics and live topics.
pub fn exact(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("I2");
    let mut dice = Dice::new(setup.seed ^ 0x12);
    for _ in 0..runs {
        let mut held = 0;
        for input in [Input::Files, Input::Ended] {
            let calm = Calm::run(setup, input, STEADY, dice.roll(), WRONG, ROWS)?;
            let sides = [&calm.expected.bad, &calm.expected.late_orders, &calm.expected.late_clicks];
            if sides.iter().any(|rows| rows.is_empty()) {
                return Err("the traffic has no bad or no late rows".to_owned());
            }
            held += calm.written.rows();
            kills::bounded(setup, &calm, &mut report, &mut dice, 1, &[1, 2, 3])?;
        }
        live(setup, &mut report, &mut dice)?;
        report.rows += held;
    }
    // Kills are faults here, not runs.
    report.runs = runs;
    report.notes.push(format!("1 % bad, 1 % late, rows of {} MiB among them", HUGE_BYTES >> 20));
    Ok(report)
}

fn live(setup: &Setup, report: &mut Report, dice: &mut Dice) -> Tried<()> {
    Place::with(&setup.binary, |place| {
        let mut live = Live::begin(setup, place, dice.roll(), WRONG_LIVE, STEADY)?;
        live.start(report, 2)?;
        for _ in 0..3 {
            live.recovered(report)?;
            nap(std::time::Duration::from_millis(300) + dice.moment(std::time::Duration::from_millis(700)));
            live.kill(report)?;
            live.start(report, 1 + dice.below(3))?;
        }
        live.recovered(report)?;
        live.finish(report, Producers::Lived)
    })
}
