//! K2: the request that ends a transaction of a Kafka sink, and what a network does to it and to its answer.

use std::time::Duration;

use crate::clustered::Shop;
use crate::delay::{Delay, Harm};
use crate::dice::Dice;
use crate::kafka::Brokers;
use crate::place::Place;
use crate::process::{Patience, nap, now};
use crate::report::Report;
use crate::{Setup, Tried};

/// Longer than an answer may take before its producer is replaced.
const SLOW: Duration = Duration::from_millis(2200);
/// What happens after which everything is checked and the next topics are begun.
const ROUNDS: u64 = 50;

const HARMS: [Harm; 8] = [
    Harm::CutBefore,
    Harm::CutAfter,
    Harm::Stray { before: 1 },
    Harm::Stray { before: 3 },
    Harm::Late(SLOW),
    Harm::AnswerLate(SLOW),
    Harm::AnswerTwice,
    Harm::AnswerLost,
];

/// K2: ends of transactions that are late, lost, cut off, answered twice.
pub fn unanswered(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("K2");
    if let Some(missing) = Brokers::missing() {
        report.left_out = Some(missing);
        return Ok(report);
    }
    let brokers = Brokers::start(1)?;
    let (listens, upstream) = brokers.through()?;
    let delay = Delay::start(listens, upstream).map_err(|error| format!("nothing can stand at {listens}: {error}"))?;
    let mut dice = Dice::new(setup.seed ^ 0x4b2);
    let mut count = 0;
    while report.runs < runs {
        count += 1;
        let part = ROUNDS.min(runs - report.runs);
        let (name, reach) = (format!("k2-{count}"), format!("kafka://{listens}"));
        Place::with(&setup.binary, |place| {
            let mut shop = Shop::begin(setup, &brokers, place, (&name, reach.clone()), dice.roll())?;
            shop.start(&mut report, &mut dice)?;
            shop.recovered(None, "the first order")?;
            for _ in 0..part {
                nap(dice.moment(Duration::from_millis(300)));
                let harm = HARMS[usize::try_from(report.runs % 8).expect("it is small")];
                suffer(&mut shop, &delay, harm, &mut report).map_err(|reason| format!("{harm:?}: {reason}"))?;
                report.runs += 1;
            }
            shop.finish(&mut report)
        })?;
    }
    let (ended, harmed) = delay.ended();
    let (producers, strays) = (delay.producers(), delay.said().len());
    report.notes.push(format!(
        "{ended} transactions ended, {harmed} of them so; {strays} ends arrived in a later one; {producers} producers"
    ));
    Ok(report)
}

/// One round: it happens to the next end of a transaction, the producer is replaced, and rows come again.
fn suffer(shop: &mut Shop<'_>, delay: &Delay, harm: Harm, report: &mut Report) -> Tried<()> {
    let (producers, (_, harmed)) = (delay.producers(), delay.ended());
    delay.next([Some(harm)]);
    let (from, mut waiting) = (now(), Patience::begin());
    // An answer too many says nothing about the transaction.
    while delay.ended().1 == harmed || (delay.producers() == producers && harm != Harm::AnswerTwice) {
        // That it happened is a step on the way.
        waiting.at(i64::try_from(delay.ended().1).unwrap_or(i64::MAX));
        if let Some(why) = waiting.over() {
            return Err(format!("no producer was replaced: {why}"));
        }
        nap(Duration::from_millis(2));
    }
    let well = shop.recovered(None, "an order after it")?;
    report.recoveries.extend(well.map(|well| well.duration_since(from)));
    report.faults += 1;
    Ok(())
}
