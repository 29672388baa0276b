//! A live job: topics that are written while it runs, faults meanwhile, and at the end everything written held against the
//! oracle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::check::{self, Written, lines};
use crate::job::{self, Input, NAME, PARTITIONS, Pace, TOPICS};
use crate::oracle::{self, Expected};
use crate::place::Place;
use crate::process::{self, Patience, Process, Struck, nap, now};
use crate::producer::{Producer, Target, wall_ms};
use crate::report::Report;
use crate::traffic::{Mix, Traffic};
use crate::{Setup, Tried};

/// Where a job's document goes.
pub const GAVE: &str = "gave.json";

/// A live job under fault.
pub struct Live<'a> {
    /// Where it happens.
    pub place: &'a Place,
    /// Who writes.
    pub producer: Option<Producer>,
    /// Who reads.
    pub job: Option<Process>,
    /// Where the job's state lies.
    pub state: String,
    /// What a start of the job adds to its command line.
    pub extra: Vec<String>,
    /// What a start of the job adds to its environment.
    pub environment: Vec<(String, String)>,
    /// What a shell does before it becomes the job.
    pub first: Option<String>,
    rate: u64,
    /// How much was committed when the last fault hit, and when that was.
    struck: (u64, Instant),
}

impl<'a> Live<'a> {
    /// Makes topics and job file, and starts to write.
    pub fn begin(setup: &Setup, place: &'a Place, seed: u64, mix: Mix, pace: Pace) -> Tried<Live<'a>> {
        place.write("job.yaml", job::file(Input::Live, pace))?;
        for topic in ["clicks", "orders"] {
            place.run(&["topic", "create", topic, "-p", &PARTITIONS.to_string(), "--topics", TOPICS])?;
        }
        let producer = Some(Producer::start(place, &Target::folder(), Traffic::new(seed, mix), setup.rate)?);
        let (state, extra, environment) = ("state".to_owned(), Vec::new(), Vec::new());
        Ok(Live {
            place,
            producer,
            job: None,
            state,
            extra,
            environment,
            first: None,
            rate: setup.rate,
            struck: (0, now()),
        })
    }

    /// Starts the job.
    pub fn start(&mut self, report: &mut Report, workers: u64) -> Tried<()> {
        self.job = Some(self.another(&self.state, workers)?);
        report.restarts += 1;
        Ok(())
    }

    /// Starts a process of the job with the state folder `state`.
    pub fn another(&self, state: &str, workers: u64) -> Tried<Process> {
        let workers = workers.to_string();
        let mut arguments =
            vec!["-q", "-o", "json", "run", "job.yaml", "--topics", TOPICS, "--state", state, "-w", &workers];
        arguments.extend(self.extra.iter().map(String::as_str));
        let mut command = self.place.within(self.first.as_deref(), &arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(self.place, command, GAVE)
    }

    /// Returns the job's process.
    pub fn job(&mut self) -> Tried<&mut Process> {
        self.job.as_mut().ok_or_else(|| "the job was not started".to_owned())
    }

    /// Kills the job, which must be running: a live job does not end by itself.
    pub fn kill(&mut self, report: &mut Report) -> Tried<()> {
        let place = self.place;
        if self.job()?.kill(place)? != Struck::Running {
            return Err(format!("a live job ended by itself\n{}", place.said()));
        }
        self.job = None;
        report.faults += 1;
        self.strike()
    }

    /// Takes the moment of a fault: recovery is measured from here.
    pub fn strike(&mut self) -> Tried<()> {
        self.struck = (process::committed(self.place, "out.jsonl")?, now());
        Ok(())
    }

    /// Waits until the job has committed a row since the last fault, and notes how long that took.
    pub fn recovered(&mut self, report: &mut Report) -> Tried<()> {
        let (place, (before, from)) = (self.place, self.struck);
        let grown = || Ok(process::committed(place, "out.jsonl")? > before);
        self.job()?.until(place, "the first row after a restart", false, grown)?;
        if before > 0 {
            report.recoveries.push(from.elapsed());
        }
        Ok(())
    }

    /// Kills job and producers in one call, and starts the producers again.
    pub fn kill_all(&mut self, report: &mut Report) -> Tried<()> {
        let place = self.place;
        let producer = self.producer.take().ok_or("nobody writes")?;
        let mut all = producer.ids();
        all.push(self.job()?.id());
        process::signal("KILL", &all)?;
        self.kill(report)?;
        let traffic = producer.killed(place)?;
        self.producer = Some(Producer::start(place, &Target::folder(), traffic, self.rate)?);
        Ok(())
    }

    /// Stops writing, waits until all of it has come out, stops the job, and checks. The job must be running.
    pub fn finish(&mut self, report: &mut Report, producers: Producers) -> Tried<()> {
        let place = self.place;
        let expected = self.close(producers)?;
        let mut job = self.job.take().ok_or("the job was not started")?;
        all_is_out(place, &expected, || Ok(job.ended()?.is_none()))?;
        process::signal("TERM", &[job.id()])?;
        job.wait_for(place, 0)?;
        report.rows += self.check(&expected, &place.read(GAVE)?)?;
        Ok(())
    }

    /// Stops writing, moves time past everything that was written, and returns what must come out of it.
    pub fn close(&mut self, producers: Producers) -> Tried<Expected> {
        let place = self.place;
        let (_, written) = self.producer.take().ok_or("nobody writes")?.finish(place)?;
        let end = wall_ms() + 60_000;
        for (topic, id) in [("clicks", "event_id"), ("orders", "order_id")] {
            closing_rows(place, topic, id, end)?;
        }
        self.read_input(end, producers, written)
    }

    /// Holds what a job wrote that was stopped, and its balance, against what must have come out. Returns how many rows that were.
    pub fn check(&self, expected: &Expected, gave: &[u8]) -> Tried<u64> {
        let rows = Written::read(self.place)?.holds(expected)?;
        check::balance(gave, expected, CLOSING)?;
        let mut verify = self.place.command(&["checkpoints", "verify", NAME, "--state", &self.state]);
        verify.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.place.done(verify)?;
        Ok(rows)
    }

    fn read_input(&self, end: i64, producers: Producers, written: u64) -> Tried<Expected> {
        let read = |topic: &str| -> Tried<Vec<Vec<u8>>> {
            (0..PARTITIONS).map(|partition| self.place.partition(TOPICS, topic, partition)).collect()
        };
        let (clicks, orders) = (read("clicks")?, read("orders")?);
        clicks.iter().chain(&orders).try_for_each(|partition| ids_count_up(partition))?;
        let of = |partitions: &[Vec<u8>]| partitions.iter().map(|it| lines(it).count() as u64).sum::<u64>();
        let there = of(&clicks) + of(&orders) - 2 * CLOSING;
        if producers == Producers::Lived && there != written {
            return Err(format!("{written} rows were written to the topics, which hold {there}"));
        }
        Ok(oracle::expected(clicks.iter().flat_map(|it| lines(it)), orders.iter().flat_map(|it| lines(it)), end))
    }
}

/// Waits until everything has come out that must, as long as the job runs.
pub fn all_is_out(place: &Place, expected: &Expected, mut runs: impl FnMut() -> Tried<bool>) -> Tried<()> {
    let rows = |rows: &oracle::Rows| rows.values().sum::<i64>().unsigned_abs();
    let out = rows(&expected.out);
    let all = [&expected.counts, &expected.visits, &expected.bad, &expected.late_orders].map(rows);
    // A job that has much to make up for may take its time, as long as it goes on.
    let mut waiting = Patience::begin();
    loop {
        let there = lines(&place.read("out.jsonl")?).count() as u64;
        let mut besides = 0;
        if there >= out {
            let records = records(place)?;
            if records == all {
                return Ok(());
            }
            besides = records.iter().sum();
        }
        waiting.at(i64::try_from(there + besides).unwrap_or(i64::MAX));
        let over = waiting.over();
        if over.is_some() || !runs()? {
            // The comparison says what is missing.
            Written::read(place)?.holds(expected)?;
            let why = over.unwrap_or_else(|| "it has ended".to_owned());
            return Err(format!("the job does not come to an end: {why}\n{}", place.said()));
        }
        nap(Duration::from_millis(50));
    }
}

/// What became of those who wrote to the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producers {
    /// They ended well: every row that they were given is in the topics.
    Lived,
    /// Some were killed: what they had not made durable is gone.
    Killed,
}

/// Rows of a topic that only move time on.
const CLOSING: u64 = 4 * PARTITIONS as u64;

/// Moves the watermark past everything that was written: rows of another time in every partition.
fn closing_rows(place: &Place, topic: &str, id: &str, end: i64) -> Tried<()> {
    let text: String = (0..CLOSING).map(|row| format!("{{\"{id}\":\"end-{row}\",\"ts\":{end}}}\n")).collect();
    place.write("closing", text)?;
    place.run(&["topic", "import", "closing", "--topic", topic, "--topics", TOPICS]).map(|_| ())
}

/// Returns how many records the topics of counts, visits, bad rows and late orders have.
fn records(place: &Place) -> Tried<[u64; 4]> {
    let listed = place.run(&["-o", "json", "topic", "ls", "--topics", TOPICS])?;
    let listed: serde_json::Value = serde_json::from_slice(&listed).map_err(|error| format!("topic ls: {error}"))?;
    let topics = listed.as_array().ok_or("topic ls gives no list")?;
    let records: BTreeMap<&str, u64> =
        topics.iter().filter_map(|topic| Some((topic["topic"].as_str()?, topic["records"].as_u64()?))).collect();
    Ok(["counts", "visits", "bad", "late"].map(|name| records.get(name).copied().unwrap_or(0)))
}

/// Fails unless the numbers of the ids of a partition count up, a doubled row beside its double.
pub fn ids_count_up(partition: &[u8]) -> Tried<()> {
    let (mut before, mut times) = (0_u64, 0);
    for line in lines(partition) {
        let text = String::from_utf8_lossy(&line[..line.len().min(40)]);
        let id = ["_id\":\"e", "_id\":\"o"].into_iter().find_map(|mark| Some(text.split_once(mark)?.1));
        let digits = id.map(|id| id.chars().take_while(char::is_ascii_digit).collect::<String>());
        let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) else { continue };
        times = if number == before { times + 1 } else { 1 };
        if number < before || times > 2 {
            return Err(format!("a topic holds row {number} after row {before}: {text}"));
        }
        before = number;
    }
    Ok(())
}
