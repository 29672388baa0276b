//! K1: a job between topics of three real brokers, under load, and what happens to both: the job is killed, brokers are killed and
//! frozen, leaders and coordinators move. A consumer of Kafka's own says what came out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::{self, Written, lines};
use crate::dice::Dice;
use crate::job::{self, Between, COUNTS_LANES, OUT_LANES, PARTITIONS, Pace, STEADY, VISITS_LANES};
use crate::kafka::{Brokers, Partitions};
use crate::live::{GAVE, ids_count_up};
use crate::oracle::{self, Expected};
use crate::place::Place;
use crate::process::{self, HUNG_AFTER, Patience, Process, Struck, nap, now};
use crate::producer::{Producer, Target, wall_ms};
use crate::report::Report;
use crate::traffic::{Traffic, USUAL};
use crate::{Setup, Tried};

/// Brokers of the cluster.
const NODES: u64 = 3;
/// Faults after which everything is checked and the next topics are begun.
const ROUNDS: u64 = 20;
/// A fault comes within this time after the job works again.
const WITHIN: Duration = Duration::from_millis(1500);
/// For how long a broker is frozen: so short that nobody notices, or so long that the others take it for dead (9 s).
const FROZEN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(12)];
/// Rows of a topic that only move time on.
const CLOSING: u64 = 64;
/// The file into which what is committed is written as it comes.
const SEEN: &str = "seen";

/// What happens in a round.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `kill -9` of the job.
    Job,
    /// `kill -9` of a broker, which is started again later.
    Broker,
    /// A broker is stopped and goes on later.
    Frozen,
    /// Job and broker are killed.
    JobAndBroker,
    /// The job is killed while a broker is frozen.
    JobAndFrozen,
    /// Partitions get other leaders, and transactions other coordinators.
    Leaders,
}

const BLOWS: [Blow; 6] = [Blow::JobAndFrozen, Blow::JobAndBroker, Blow::Frozen, Blow::Job, Blow::Leaders, Blow::Broker];

/// K1: faults of the job and of three brokers.
pub fn under_fault(setup: &Setup, rounds: u64) -> Tried<Report> {
    let mut report = Report::of("K1");
    if let Some(missing) = Brokers::missing() {
        report.left_out = Some(missing);
        return Ok(report);
    }
    let brokers = Brokers::start(NODES)?;
    let mut dice = Dice::new(setup.seed ^ 0x4b1);
    let (mut count, mut bounded) = (0, 0);
    while report.runs < rounds {
        count += 1;
        let part = ROUNDS.min(rounds - report.runs);
        let name = format!("k1-{count}");
        bounded += Place::with(&setup.binary, |place| {
            let mut shop = Shop::begin(setup, &brokers, place, (&name, brokers.address()), dice.roll())?;
            shop.start(&mut report, &mut dice)?;
            shop.recovered(None, "the first order")?;
            for _ in 0..part {
                nap(dice.moment(WITHIN));
                // In turn from a random one on, so that few rounds meet different ones.
                let blow = BLOWS[usize::try_from((setup.seed + report.runs) % 6).expect("it is small")];
                shop.suffer(blow, &mut report, &mut dice).map_err(|reason| format!("{blow:?}: {reason}"))?;
                report.runs += 1;
                // A long night tells how it goes.
                let well = report.recoveries.last().copied().unwrap_or_default().as_secs_f64();
                eprintln!("K1 round {}: {blow:?}, {well:.1} s", report.runs);
            }
            shop.finish(&mut report)?;
            shop.bounded_twice(&mut report, &mut dice)
        })?;
        eprintln!("K1: {} rows checked after {} rounds", report.rows, report.runs);
    }
    report.notes.push(format!(
        "three brokers; {bounded} rows of bounded runs over the same topics are equal, byte for byte in each partition"
    ));
    Ok(report)
}

/// A live job between topics of a cluster.
pub struct Shop<'a> {
    brokers: &'a Brokers,
    place: &'a Place,
    between: Between,
    producer: Option<Producer>,
    job: Option<Process>,
    /// What `--topics` of the job says.
    reach: String,
    watching: Process,
    /// The clicks and the orders that were written, by partition.
    input: [Vec<Vec<u8>>; 2],
}

impl<'a> Shop<'a> {
    /// Makes the topics and starts to write and to watch. The job has a name and reaches the cluster in a way of its own.
    pub fn begin(
        setup: &Setup,
        brokers: &'a Brokers,
        place: &'a Place,
        (name, reach): (&str, String),
        seed: u64,
    ) -> Tried<Shop<'a>> {
        let [job, from, to] = ["", ".in", ".out"].map(|part| format!("{name}{part}"));
        let between = Between { job, from, to };
        place.write("job.yaml", job::on_topics(&between, STEADY))?;
        brokers.create(&topics(&between))?;
        let names = ["clicks", "orders"].map(|topic| format!("{}.{topic}", between.from));
        let target = Target { topics: brokers.address(), names };
        let watching = brokers.watch(place, &format!("{}.out", between.to), 0, SEEN)?;
        let producer = Some(Producer::start(place, &target, Traffic::new(seed, USUAL), setup.rate)?);
        Ok(Shop { brokers, place, between, producer, job: None, reach, watching, input: Default::default() })
    }

    /// Starts the job.
    pub fn start(&mut self, report: &mut Report, dice: &mut Dice) -> Tried<()> {
        let workers = (1 + dice.below(3)).to_string();
        let run = ["-q", "-o", "json", "run", "job.yaml", "--state", "state", "--topics", &self.reach, "-w", &workers];
        self.job = Some(Process::start(self.place, self.place.command(&run), GAVE)?);
        report.restarts += 1;
        Ok(())
    }

    fn job(&mut self) -> Tried<&mut Process> {
        self.job.as_mut().ok_or_else(|| "the job was not started".to_owned())
    }

    fn kill(&mut self) -> Tried<()> {
        let place = self.place;
        match self.job()?.kill(place)? {
            Struck::Running => Ok(()),
            Struck::Ended => Err(format!("a live job ended by itself\n{}", place.said())),
        }
    }

    /// Returns when the order was written that the consumer saw last.
    fn newest(&self) -> Tried<Option<i64>> {
        let seen = tail(self.place, SEEN)?;
        // The last line may not be whole yet.
        let whole = seen.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let row = whole.rsplit('\n').find(|line| line.starts_with('{'));
        let row = row.and_then(|row| serde_json::from_str::<Value>(row).ok());
        Ok(row.and_then(|row| row["ts"].as_i64()))
    }

    /// Waits until the consumer sees an order that was written after now; for so long only, if that is said. Returns when it did. A job
    /// that has much to make up for is waited for as long as its orders are newer and newer ones.
    pub fn recovered(&mut self, patience: Option<Duration>, what: &str) -> Tried<Option<Instant>> {
        self.recovered_since(wall_ms(), patience, what)
    }

    fn recovered_since(&mut self, moment: i64, patience: Option<Duration>, what: &str) -> Tried<Option<Instant>> {
        let (from, place) = (now(), self.place);
        let mut waiting = Patience::begin();
        loop {
            if let Some(newest) = self.newest()? {
                if newest > moment {
                    return Ok(Some(now()));
                }
                waiting.at(newest);
            }
            if let Some(status) = self.job()?.ended()? {
                return Err(format!("a live job ended by itself with {status}\n{}", place.said()));
            }
            if let Some(status) = self.watching.ended()? {
                return Err(format!("the consumer ended by itself with {status}\n{}", place.said()));
            }
            if patience.is_some_and(|patience| from.elapsed() > patience) {
                return Ok(None);
            }
            if let Some(why) = waiting.over() {
                return Err(format!("{what} never came: {why}\n{}", place.said()));
            }
            nap(Duration::from_millis(5));
        }
    }

    /// One round: a fault, and everything well again.
    fn suffer(&mut self, blow: Blow, report: &mut Report, dice: &mut Dice) -> Tried<()> {
        let (brokers, node) = (self.brokers, self.brokers.any(dice));
        let (mut from, mut moment) = (now(), wall_ms());
        let mut away = None;
        match blow {
            Blow::Job => {}
            Blow::Broker | Blow::JobAndBroker => {
                away = Some(dice.moment(Duration::from_secs(3)));
                brokers.fail("kill", node)?;
            }
            Blow::Frozen | Blow::JobAndFrozen => {
                away = Some(*dice.one_of(&FROZEN));
                brokers.fail("pause", node)?;
            }
            Blow::Leaders => {
                brokers.move_leaders(self.place, &topics(&self.between), dice)?;
                // The tools that do it take longer than what they do.
                (from, moment) = (now(), wall_ms());
            }
        }
        if matches!(blow, Blow::Job | Blow::JobAndBroker | Blow::JobAndFrozen) {
            self.kill()?;
            self.start(report, dice)?;
        }
        let mut well = None;
        if let Some(away) = away {
            well = self.recovered_since(moment, Some(away), "an order while a broker is away")?;
            nap(away.saturating_sub(from.elapsed()));
            match blow {
                Blow::Frozen | Blow::JobAndFrozen => brokers.fail("resume", node)?,
                _ => brokers.start_again(node)?,
            }
        }
        if well.is_none() {
            well = self.recovered_since(moment, None, "an order after the fault")?;
        }
        report.recoveries.extend(well.map(|well| well.duration_since(from)));
        report.faults += 1;
        Ok(())
    }

    /// Stops writing, waits until all of it has come out, stops the job, and checks what Kafka's consumer reads.
    pub fn finish(&mut self, report: &mut Report) -> Tried<()> {
        let place = self.place;
        let (_, written) = self.producer.take().ok_or("nobody writes")?.finish(place)?;
        let end = wall_ms() + 60_000;
        for (topic, id) in [("clicks", "event_id"), ("orders", "order_id")] {
            self.close(topic, id, end)?;
        }
        self.read_input(written)?;
        let expected = self.expected(end);
        let orders = expected.out.values().sum::<i64>().unsigned_abs() as usize;
        let (mut waiting, mut there) = (Patience::begin(), 0);
        loop {
            // The consumer is asked for more than was there before: on a busy machine it gives up before the first record, again and again.
            there = rows(&self.brokers.read(&format!("{}.out", self.between.to), there + 1)?).max(there);
            if there >= orders {
                break;
            }
            waiting.at(there as i64);
            let over = waiting.over();
            if over.is_some() || self.job()?.ended()?.is_some() {
                written_to(self.brokers, &self.between, &expected)?.holds(&expected)?;
                let why = over.unwrap_or_else(|| "it has ended".to_owned());
                return Err(format!("the job does not come to an end: {why}\n{}", place.said()));
            }
        }
        // The same watermark lets the windows go: a clean stop commits them.
        process::signal("TERM", &[self.job()?.id()])?;
        self.job()?.wait_for(place, 0)?;
        let there = written_to(self.brokers, &self.between, &expected)?;
        report.rows += there.holds(&expected)?;
        keys_have_one_partition(&there.out, "user_id")?;
        keys_have_one_partition(&there.counts, "item_id")?;
        keys_have_one_partition(&there.visits, "user_id")?;
        check::balance(&place.read(GAVE)?, &expected, CLOSING)?;
        place.run(&["checkpoints", "verify", &self.between.job, "--state", "state"]).map(|_| ())
    }

    /// Moves the watermark past everything that was written: rows of another time, with so many keys that every partition gets some.
    fn close(&self, topic: &str, id: &str, end: i64) -> Tried<()> {
        let row = |row: u64| format!("{{\"{id}\":\"end-{row}\",\"user_id\":\"end-{row}\",\"ts\":{end}}}\n");
        self.place.write("closing", (0..CLOSING).map(row).collect::<String>())?;
        let (topic, topics) = (format!("{}.{topic}", self.between.from), self.brokers.address());
        let import = ["topic", "import", "closing", "--topic", &topic, "--topics", &topics, "--key", "user_id"];
        self.place.run(&import).map(|_| ())
    }

    /// Reads back what was written, which must be all that was to be.
    fn read_input(&mut self, written: u64) -> Tried<()> {
        let least = usize::try_from(written + 2 * CLOSING).unwrap_or(usize::MAX);
        let read = |topic: &str, least| {
            Ok::<_, String>(values(self.brokers.read(&format!("{}.{topic}", self.between.from), least)?))
        };
        let clicks = read("clicks", least / 2)?;
        let orders = read("orders", least.saturating_sub(rows_of(&clicks)))?;
        clicks.iter().chain(&orders).try_for_each(|partition| ids_count_up(partition))?;
        let there = (rows_of(&clicks) + rows_of(&orders)) as u64;
        if there != written + 2 * CLOSING {
            return Err(format!(
                "{written} rows and {} closing ones were written to the topics, which hold {there}",
                2 * CLOSING
            ));
        }
        self.input = [clicks, orders];
        Ok(())
    }

    /// Returns what must come out of it.
    fn expected(&self, end: i64) -> Expected {
        let [clicks, orders] = [0, 1].map(|topic: usize| self.input[topic].iter().flat_map(|it| lines(it)));
        oracle::expected(clicks, orders, end)
    }

    /// Runs the job over all that the topics hold, twice, one time killed on the way: the bytes of each partition are equal, and are
    /// what the oracle says. Returns how many rows were compared.
    fn bounded_twice(&self, report: &mut Report, dice: &mut Dice) -> Tried<u64> {
        let expected = self.expected(i64::MAX);
        let mut runs = Vec::new();
        for (run, workers) in [("one", 1), ("two", 3)] {
            let Between { job, from, to } = &self.between;
            let between = Between { job: format!("{job}-{run}"), from: from.clone(), to: format!("{to}.{run}") };
            let file = format!("{run}.yaml");
            self.place.write(&file, job::on_topics(&between, Pace { tick_rows: 2000, ..STEADY }))?;
            let (topics, workers) = (self.brokers.address(), workers.to_string());
            let command = || {
                let run = [
                    "-q",
                    "-o",
                    "json",
                    "run",
                    &file,
                    "--until-end",
                    "--topics",
                    &topics,
                    "--state",
                    run,
                    "-w",
                    &workers,
                ];
                Process::start(self.place, self.place.command(&run), GAVE)
            };
            let mut job = command()?;
            if run == "two" {
                nap(Duration::from_secs(1) + dice.moment(Duration::from_secs(2)));
                report.faults += u64::from(job.kill(self.place)? == Struck::Running);
                job = command()?;
            }
            // All that was written in minutes: that may take minutes where there is little to run on.
            job.wait_within(HUNG_AFTER * 5)?;
            job.wait_for(self.place, 0)?;
            check::balance(&self.place.read(GAVE)?, &expected, 0)?;
            runs.push(written_to(self.brokers, &between, &expected)?);
        }
        runs[0].holds(&expected)?;
        runs[1].same_as(&runs[0])?;
        Ok(runs[0].rows())
    }
}

/// Returns the end of a file, as much as holds some rows.
fn tail(place: &Place, file: &str) -> Tried<String> {
    use std::io::{Read, Seek, SeekFrom};
    const ENOUGH: u64 = 4096;
    let read = || {
        let mut file = std::fs::File::open(place.path(file))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).into_owned())
    };
    read().map_err(|error| format!("cannot read {file}: {error}"))
}

/// Returns all topics between which a job runs, with their partitions.
fn topics(Between { from, to, .. }: &Between) -> Vec<(String, u32)> {
    let read = ["clicks", "orders"].map(|name| (format!("{from}.{name}"), PARTITIONS));
    let written = [("out", OUT_LANES), ("counts", COUNTS_LANES), ("visits", VISITS_LANES)];
    read.into_iter().chain(written.map(|(name, count)| (format!("{to}.{name}"), count))).collect()
}

fn rows(partitions: &Partitions) -> usize {
    partitions.values().map(Vec::len).sum()
}

fn rows_of(texts: &[Vec<u8>]) -> usize {
    texts.iter().map(|text| lines(text).count()).sum()
}

/// Returns the records of each partition without their keys, a line each.
fn values(partitions: Partitions) -> Vec<Vec<u8>> {
    let value = |record: &String| record.split_once('\t').map_or(record.as_str(), |(_, value)| value).to_owned();
    let text = |records: Vec<String>| records.iter().map(value).collect::<Vec<_>>().join("\n").into_bytes();
    partitions.into_values().map(text).collect()
}

/// Reads everything that a job wrote, as a consumer of Kafka's own sees it.
fn written_to(brokers: &Brokers, between: &Between, expected: &Expected) -> Tried<Written> {
    let count = |rows: &oracle::Rows| rows.values().sum::<i64>().unsigned_abs() as usize;
    let read = |name: &str, rows: &oracle::Rows, lanes: u32| -> Tried<Vec<Vec<u8>>> {
        let mut there = brokers.read(&format!("{}.{name}", between.to), count(rows))?;
        // A partition without a record is one all the same.
        for lane in 0..lanes {
            there.entry(lane).or_default();
        }
        Ok(values(there))
    };
    let one = |name: &str, rows: &oracle::Rows| Ok::<_, String>(read(name, rows, 1)?.concat());
    // Each consumer waits at the end of its topic for seconds: two at once. More keep each other from coming there in time.
    let (these, those) = std::thread::scope(|scope| {
        let these = scope.spawn(|| {
            let out = read("out", &expected.out, OUT_LANES)?;
            Ok::<_, String>((out, one("late", &expected.late_orders)?, one("bad", &expected.bad)?))
        });
        let those = || {
            let counts = read("counts", &expected.counts, COUNTS_LANES)?;
            let visits = read("visits", &expected.visits, VISITS_LANES)?;
            Ok::<_, String>((counts, visits, one("late-clicks", &expected.late_clicks)?))
        };
        let those = those();
        (these.join().expect("no one panics with it"), those)
    });
    let ((out, late_orders, bad), (counts, visits, late_clicks)) = (these?, those?);
    Ok(Written { out, counts, visits, late_clicks, late_orders, bad })
}

/// Fails unless all rows of a key are in one partition: only there they have an order.
fn keys_have_one_partition(partitions: &[Vec<u8>], column: &str) -> Tried<()> {
    let mut homes = HashMap::new();
    for (partition, text) in partitions.iter().enumerate() {
        for line in lines(text) {
            let row: Value = serde_json::from_slice(line).map_err(|error| format!("a row is no JSON: {error}"))?;
            let key = row[column].to_string();
            let home = *homes.entry(key.clone()).or_insert(partition);
            if home != partition {
                return Err(format!("{column} {key} is in partitions {home} and {partition}"));
            }
        }
    }
    Ok(())
}
