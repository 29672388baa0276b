//! N1: the network between the processes of a job. Each runs on a host of its own, they show each other certificates, and a host is cut off,
//! for good or for a moment, or lost with the process on it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::dice::Dice;
use crate::job::{STEADY, TOPICS};
use crate::live::{GAVE, Live, Producers, all_is_out};
use crate::network::{Link, Network};
use crate::place::Place;
use crate::process::{self, HUNG_AFTER, Lateness, PAUSE, Process, nap, now};
use crate::report::{Report, spread};
use crate::traffic::USUAL;
use crate::weather::{Sky, Weather};
use crate::zombies::{FENCED, hand_over};
use crate::{Setup, Tried};

/// Processes of the job.
const PROCESSES: usize = 3;
/// Hosts: one more, for when one is lost.
const HOSTS: usize = PROCESSES + 1;
/// Rounds after which everything is checked, and the next topics are begun.
const ROUNDS: u64 = 20;
/// A blow comes within this time after the job works again.
const WITHIN: Duration = Duration::from_millis(1500);
/// Silence counts as loss after this.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// What a machine may add to that, and more if it is found to be slower.
const SLACK: Duration = Duration::from_secs(2);
/// A host that is cut off for so long at most is missed by nobody: what was sent is sent again soon enough.
const UNNOTICED: Duration = Duration::from_secs(4);
/// For how long packets come late, or not at all.
const STORM: Duration = Duration::from_secs(5);
/// How late what comes late comes.
const LATE: Duration = Duration::from_millis(500);

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// A process is cut off until all have noticed.
    Cut,
    /// A process is cut off for a moment.
    CutShortly,
    /// A host is cut off and everything on it stands still: its process goes on on another host, and is too late when it wakes.
    Lost,
    /// What is sent comes half a second late.
    Late,
    /// One piece in twenty is lost, and sent again.
    Lossy,
}

/// What is between the processes.
enum Between<'a> {
    /// A network of hosts.
    Hosts(&'a Network),
    /// A proxy before each process; ports at which they listen.
    Proxies(Vec<Weather>, Vec<SocketAddr>),
}

/// N1: hosts cut off and lost, and bad weather.
pub fn hosts(setup: &Setup, rounds: u64) -> Tried<Report> {
    let mut report = Report::of("N1");
    if rounds == 0 {
        report.left_out = Some("no run of it is asked for".to_owned());
        return Ok(report);
    }
    let (mut dice, mut times) = (Dice::new(setup.seed ^ 0x4e1), Times::new());
    let blows = [Blow::Late, Blow::Cut, Blow::Lossy, Blow::CutShortly];
    let mut behind_proxies = rounds.div_ceil(3);
    match Network::make(HOSTS) {
        Ok(network) => {
            let mut blows = vec![Blow::Cut, Blow::Lost, Blow::CutShortly];
            match network.has_weather {
                true => blows.extend([Blow::Late, Blow::Lossy]),
                false => {
                    report.notes.push("the kernel has no netem: packets are late and lost at proxies only".to_owned())
                }
            }
            while report.runs < rounds - behind_proxies {
                let until = (report.runs + ROUNDS).min(rounds - behind_proxies);
                let between = || Ok(Between::Hosts(&network));
                some_rounds(setup, between, (&blows, until), &mut report, &mut dice, &mut times)?;
            }
        }
        Err(why) => {
            report.notes.push(format!("networks of its own cannot be made here, so proxies do all of it: {why}"));
            behind_proxies = rounds;
        }
    }
    let until = report.runs + behind_proxies;
    while report.runs < until {
        let until = (report.runs + ROUNDS).min(until);
        some_rounds(setup, proxies, (&blows, until), &mut report, &mut dice, &mut times)?;
    }
    report.notes.push(format!("{behind_proxies} rounds at proxies, the others on hosts of their own"));
    report.notes.extend(times.iter().map(|(what, times)| format!("{what}: {}", spread(times))));
    Ok(report)
}

/// How long what took, by what it was.
type Times = BTreeMap<String, Vec<Duration>>;

/// Some rounds on one job, after which everything is checked.
fn some_rounds<'a>(
    setup: &Setup,
    between: impl FnOnce() -> Tried<Between<'a>>,
    (blows, until): (&[Blow], u64),
    report: &mut Report,
    dice: &mut Dice,
    times: &mut Times,
) -> Tried<()> {
    Place::with(&setup.binary, |place| {
        certificates(place)?;
        let live = Live::begin(setup, place, dice.roll(), USUAL, STEADY)?;
        let mut shop = Shop {
            place,
            between: between()?,
            live,
            crew: Vec::new(),
            hosts: [0, 1, 2],
            spare: 3,
            generation: 0,
            times: Vec::new(),
        };
        shop.start(report)?;
        shop.works()?;
        while report.runs < until {
            nap(dice.moment(WITHIN));
            let blow = blows[usize::try_from(report.runs % blows.len() as u64).expect("it is small")];
            let from = now();
            shop.suffer(blow, report, dice).map_err(|reason| format!("{blow:?}: {reason}"))?;
            shop.times.push((format!("{blow:?}"), from.elapsed()));
            report.recoveries.push(from.elapsed());
            report.faults += 1;
            report.runs += 1;
            eprintln!("N1 round {}: {blow:?}, {:.2} s", report.runs, from.elapsed().as_secs_f64());
        }
        shop.finish(report)?;
        for (what, time) in shop.times.drain(..) {
            times.entry(what).or_default().push(time);
        }
        Ok(())
    })
}

/// Puts a proxy before each process.
fn proxies<'a>() -> Tried<Between<'a>> {
    let attempt = |error: std::io::Error| format!("nothing can stand between the processes: {error}");
    let (mut all, mut ports) = (Vec::new(), Vec::new());
    // Free when it was looked for; who takes it meanwhile makes the run fail, and says so.
    let held: Vec<TcpListener> =
        (0..PROCESSES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(attempt)?;
    for listener in held {
        let port = listener.local_addr().map_err(attempt)?;
        all.push(Weather::before(port, u64::from(port.port())).map_err(attempt)?);
        ports.push(port);
    }
    Ok(Between::Proxies(all, ports))
}

impl Between<'_> {
    /// Where the process `index`, on this host, is found by others.
    fn address(&self, index: usize, host: usize) -> String {
        match self {
            Between::Hosts(network) => network.address(host),
            Between::Proxies(all, _) => all[index].listens.to_string(),
        }
    }

    /// Where it listens.
    fn listens(&self, index: usize, host: usize) -> String {
        match self {
            Between::Hosts(network) => network.address(host),
            Between::Proxies(_, ports) => ports[index].to_string(),
        }
    }

    /// What a shell does before it becomes a process on this host.
    fn first(&self, host: usize) -> Option<String> {
        match self {
            Between::Hosts(network) => Some(network.on(host)),
            Between::Proxies(..) => None,
        }
    }

    /// Cuts a process off, or joins it again. Of the way between two the proxy of the one with the lower number stands on it, so at
    /// proxies it is all of the mesh that falls apart.
    fn link(&self, host: usize, link: Link) -> Tried<()> {
        match self {
            Between::Hosts(network) => network.link(host, link)?,
            Between::Proxies(all, _) => {
                let sky = if link == Link::Down { Sky::Dead } else { Sky::Fair };
                all.iter().for_each(|proxy| proxy.is(sky));
            }
        }
        Ok(())
    }

    /// Makes the weather bad, or fair again.
    fn weather(&self, bad: Option<Blow>) -> Tried<()> {
        match self {
            Between::Hosts(network) => {
                let packets = bad.map(|blow| if blow == Blow::Late { "delay 500ms" } else { "loss 5%" });
                (0..HOSTS).try_for_each(|host| network.weather(host, packets))?;
            }
            Between::Proxies(all, _) => {
                let sky = match bad {
                    Some(Blow::Late) => Sky::Late(LATE),
                    Some(_) => Sky::Lossy(20),
                    None => Sky::Fair,
                };
                all.iter().for_each(|proxy| proxy.is(sky));
            }
        }
        Ok(())
    }
}

/// Makes what the processes know each other by.
fn certificates(place: &Place) -> Tried<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/mesh-certificates.sh");
    let made = Command::new(script).arg("faulted").arg(place.path("tls")).output();
    let made = made.map_err(|error| format!("cannot make certificates: {error}"))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(format!("cannot make certificates: {}", String::from_utf8_lossy(&made.stderr))),
    }
}

/// A job on several hosts.
struct Shop<'a> {
    place: &'a Place,
    between: Between<'a>,
    live: Live<'a>,
    crew: Vec<Process>,
    /// The host of each process.
    hosts: [usize; PROCESSES],
    /// The host that has none.
    spare: usize,
    generation: u64,
    /// What took how long.
    times: Vec<(String, Duration)>,
}

impl Shop<'_> {
    /// Starts all processes, as the next generation.
    fn start(&mut self, report: &mut Report) -> Tried<()> {
        self.generation += 1;
        self.crew.clear();
        for index in 0..PROCESSES {
            let process = self.process(index, self.hosts, self.generation)?;
            self.crew.push(process);
        }
        report.restarts += 1;
        Ok(())
    }

    fn process(&self, index: usize, hosts: [usize; PROCESSES], generation: u64) -> Tried<Process> {
        let peers: Vec<String> = (0..PROCESSES).map(|peer| self.between.address(peer, hosts[peer])).collect();
        let (host, listens) = (hosts[index], self.between.listens(index, hosts[index]));
        let [all, number, generation] = [PROCESSES.to_string(), index.to_string(), generation.to_string()];
        let job = ["-q", "-o", "json", "worker", "job.yaml", "--topics", TOPICS, "--state", "state", "-w", "1"];
        let joined = peers.join(",");
        let mesh = ["--processes", &all, "--process", &number, "--peers", &joined, "--mesh-listen", &listens];
        let more = ["--mesh-tls", "tls", "--mesh-generation", &generation];
        let command = self.place.within(self.between.first(host).as_deref(), &[&job[..], &mesh, &more].concat());
        // What process 0 gives is that of the job.
        let gives = if index == 0 { GAVE.to_owned() } else { format!("gave-{index}.json") };
        Process::start(self.place, command, &gives)
    }

    /// Waits for a row more; all processes must live.
    fn works(&mut self) -> Tried<()> {
        let (place, from) = (self.place, now());
        let before = process::committed(place, "out.jsonl")?;
        while process::committed(place, "out.jsonl")? <= before {
            for process in &mut self.crew {
                if let Some(status) = process.ended()? {
                    return Err(format!("a process ended with {status}\n{}", place.said()));
                }
            }
            if from.elapsed() > HUNG_AFTER {
                return Err(format!("a new row never came\n{}", place.said()));
            }
            nap(PAUSE);
        }
        Ok(())
    }

    /// One round: a blow, and everything well again.
    fn suffer(&mut self, blow: Blow, report: &mut Report, dice: &mut Dice) -> Tried<()> {
        let index = usize::try_from(dice.below(PROCESSES as u64)).expect("it is small");
        let host = self.hosts[index];
        match blow {
            Blow::Cut => {
                self.between.link(host, Link::Down)?;
                self.all_end(&[0, 1, 2])?;
                self.between.link(host, Link::Up)?;
                self.start(report)?;
            }
            Blow::CutShortly => {
                self.between.link(host, Link::Down)?;
                nap(dice.moment(UNNOTICED));
                self.between.link(host, Link::Up)?;
            }
            Blow::Late | Blow::Lossy => {
                self.between.weather(Some(blow))?;
                nap(STORM);
                self.works()?;
                self.between.weather(None)?;
            }
            // Process 0 calls nobody, so it would not hear that it is too late.
            Blow::Lost => return self.lose(1 + index % (PROCESSES - 1), report),
        }
        self.works()
    }

    /// Waits until these processes have ended because they miss somebody, which must be soon.
    fn all_end(&mut self, indices: &[usize]) -> Tried<()> {
        let (from, mut lateness) = (now(), Lateness::begin());
        for index in indices {
            while self.crew[*index].ended()?.is_none() && from.elapsed() <= HUNG_AFTER {
                lateness.nap();
            }
            self.crew[*index].wait_for(self.place, FENCED)?;
        }
        let found = from.elapsed();
        self.times.push(("a host that is cut off is found out".to_owned(), found));
        match found <= DEAD_AFTER + lateness.slack(SLACK) {
            true => Ok(()),
            false => Err(format!("a host that was cut off was found out after {:.1} s only", found.as_secs_f64())),
        }
    }

    /// A host is lost with the process `index`, which goes on elsewhere. What comes back from there is too late.
    fn lose(&mut self, index: usize, report: &mut Report) -> Tried<()> {
        let (place, host, former, generation) = (self.place, self.hosts[index], self.hosts, self.generation);
        process::signal("STOP", &[self.crew[index].id()])?;
        self.between.link(host, Link::Down)?;
        let others: Vec<usize> = (0..PROCESSES).filter(|other| *other != index).collect();
        self.all_end(&others)?;
        let mut zombie = self.crew.remove(index);
        // On a store that hosts share, what stands still keeps nobody out.
        hand_over(place)?;
        self.hosts[index] = std::mem::replace(&mut self.spare, host);
        self.start(report)?;
        self.works()?;
        self.between.link(host, Link::Up)?;
        process::signal("CONT", &[zombie.id()])?;
        zombie.wait_for(place, FENCED)?;
        // Neither is one let in that is started there again as if nothing had happened.
        self.process(index, former, generation)?.wait_for(place, FENCED)?;
        let said = place.said();
        let newer = format!("generation {}", self.generation);
        if !said.contains(&newer) {
            return Err(format!("a process that is too late is not told of {newer}\n{said}"));
        }
        self.works()
    }

    fn finish(&mut self, report: &mut Report) -> Tried<()> {
        let place = self.place;
        let expected = self.live.close(Producers::Lived)?;
        let crew = &mut self.crew;
        all_is_out(place, &expected, || {
            let mut lives = true;
            for process in crew.iter_mut() {
                lives &= process.ended()?.is_none();
            }
            Ok(lives)
        })?;
        process::signal("TERM", &[crew[1].id()])?;
        crew.iter_mut().try_for_each(|process| process.wait_for(place, 0))?;
        report.rows += self.live.check(&expected, &place.read(GAVE)?)?;
        Ok(())
    }
}
