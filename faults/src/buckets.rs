//! S3: the state lies in a bucket of a real server, behind a network that fails; the job is killed meanwhile, too.

use std::time::Duration;

use crate::bucket::{self, BUCKET, CREDENTIALS, Server};
use crate::dice::Dice;
use crate::job::STEADY;
use crate::live::{Live, Producers};
use crate::place::Place;
use crate::process::nap;
use crate::proxy::{FAULTS, Proxy, Weather};
use crate::report::Report;
use crate::traffic::USUAL;
use crate::{Setup, Tried};

/// Runs of one live round, with a server of its own; then everything is checked.
const ROUND: u64 = 12;
/// Of ten requests one fails, of twenty one is slow.
const BAD: Weather = Weather { fault_one_in: 10, delay_ms_max: 20, delay_ms_min: 0, slow_one_in: 20, away: false };
/// Nothing comes through.
const AWAY: Weather = Weather { fault_one_in: 0, delay_ms_max: 0, delay_ms_min: 0, slow_one_in: 0, away: true };

/// S3: in turn, the job is killed while the network fails, the network fails for some seconds, and the store is out of reach for
/// some seconds. After each the job goes on by itself as soon as the network is well again.
pub fn failing(setup: &Setup, runs: u64) -> Tried<Report> {
    let mut report = Report::of("S3");
    let Some(python) = bucket::python() else {
        let needs = format!("a Python with moto, flask and flask_cors, named in {}", bucket::PYTHON);
        return Ok(Report { left_out: Some(needs), ..report });
    };
    let mut dice = Dice::new(setup.seed ^ 3);
    let (mut requests, mut turned_away, mut at_once, mut objects, mut met) = (0, 0, 0, 0, [0; FAULTS.len()]);
    while report.runs < runs {
        let round = ROUND.min(runs - report.runs);
        let server = Server::start(&python)?;
        let network = Proxy::start(server.address(), dice.roll()).map_err(|error| format!("the proxy: {error}"))?;
        Place::with(&setup.binary, |place| live_round(setup, place, &network, &mut report, &mut dice, round))?;
        report.runs += round;
        requests += network.requests();
        turned_away += network.turned_away();
        at_once = at_once.max(network.at_once());
        objects = objects.max(server.objects("faulted/")?.len());
        met.iter_mut().zip(FAULTS).for_each(|(met, fault)| *met += network.met(fault));
    }
    let met: Vec<String> = FAULTS.iter().zip(met).map(|(fault, times)| format!("{times} {fault:?}")).collect();
    let met = met.join(", ");
    report.notes.push(format!(
        "{requests} requests, up to {at_once} at once, of them {met}; {turned_away} turned away; {objects} objects at the end of a round"
    ));
    Ok(report)
}

fn live_round(
    setup: &Setup,
    place: &Place,
    network: &Proxy,
    report: &mut Report,
    dice: &mut Dice,
    runs: u64,
) -> Tried<()> {
    let mut live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
    live.state = format!("s3://{BUCKET}/faulted");
    live.environment = CREDENTIALS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    live.environment.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", network.address())));
    live.start(report, 1 + dice.below(3))?;
    live.recovered(report)?;
    for run in 0..runs {
        network.becomes(if run % 3 == 2 { AWAY } else { BAD });
        nap(Duration::from_millis(500) + dice.moment(Duration::from_millis(2500)));
        if run % 3 == 0 {
            live.kill(report)?;
            // It starts in bad weather, too.
            live.start(report, 1 + dice.below(3))?;
            live.recovered(report)?;
        } else {
            report.faults += 1;
        }
        network.becomes(Weather::default());
        live.strike()?;
        live.recovered(report)?;
    }
    live.finish(report, Producers::Lived)
}
