//! W1 between topics of one broker: throughput beside a loop that only reads them, and from arrival to what a reader sees.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use riverrun_connectors::kafka::{KafkaProducer, KafkaTail, TailFrom, drain};
use serde_json::Value;

use crate::Arguments;
use crate::broker::Broker;
use crate::compare::{binary, data};
use crate::measure::{Cost, machine, median, now, percentile, process_cpu, run};

/// Of the time in which latency is measured, the first part counts for nothing.
const WARM: Duration = Duration::from_secs(15);

/// Measures throughput and latency.
pub fn kafka(arguments: &Arguments, scratch: &Path) -> anyhow::Result<()> {
    let broker = Broker::start()?;
    println!("{}", machine());
    let bench = Bench { arguments, scratch, binary: binary(arguments)?, broker };
    bench.throughput()?;
    bench.latency()
}

struct Bench<'a> {
    arguments: &'a Arguments,
    scratch: &'a Path,
    binary: PathBuf,
    broker: Broker,
}

/// What one program did.
#[derive(Clone, Copy)]
struct Run {
    cost: Cost,
    /// CPU time of the broker meanwhile.
    broker: Duration,
}

impl Bench<'_> {
    fn throughput(&self) -> anyhow::Result<()> {
        let folder = data(self.arguments, self.scratch)?;
        for (topic, file) in [("clicks", "clicks.jsonl"), ("orders", "orders.jsonl")] {
            let mut import = Command::new(&self.binary);
            import.args(["topic", "import"]).arg(folder.join(file)).args(["--topic", topic, "--key", "user_id"]);
            import.args(["-p", &self.arguments.partitions.to_string(), "--topics", &self.broker.address()]);
            run(&mut import, &self.scratch.join("import.log"))?;
        }
        let (mut bare, mut own, mut streams) = (Vec::new(), Vec::new(), Vec::new());
        let mut records = 0;
        for turn in 0..self.arguments.runs {
            let (read, took) = self.bare()?;
            records = read;
            bare.push(took);
            own.push(self.riverrun(turn)?);
            if let Some(program) = &self.arguments.streams {
                streams.push(self.streams(program, turn, records)?);
            }
        }
        println!(
            "W1, {records} records in, {} partitions a topic, one worker; median of {}",
            self.arguments.partitions,
            own.len()
        );
        println!("| program | records/s | CPU s | CPU beside only reading | broker CPU s | peak MiB |");
        println!("|---|---|---|---|---|---|");
        let base = median(bare.iter().map(|run| run.cost.cpu)).unwrap_or_default();
        for (name, runs) in [("only reading", &bare), ("riverrun, exactly once", &own), ("the other program", &streams)]
        {
            let Some(cpu) = median(runs.iter().map(|run| run.cost.cpu)) else { continue };
            let wall = median(runs.iter().map(|run| run.cost.wall)).unwrap_or_default().as_secs_f64();
            let broker = median(runs.iter().map(|run| run.broker)).unwrap_or_default().as_secs_f64();
            let peak = median(runs.iter().map(|run| run.cost.peak_kib)).unwrap_or_default() / 1024;
            let (rate, ratio) = (records as f64 / wall, cpu.as_secs_f64() / base.as_secs_f64());
            println!("| {name} | {rate:.0} | {:.2} | {ratio:.2} | {broker:.2} | {peak} |", cpu.as_secs_f64());
        }
        Ok(())
    }

    fn measured(&self, act: impl FnOnce() -> anyhow::Result<Cost>) -> anyhow::Result<Run> {
        let stat = format!("/proc/{}/stat", self.broker.process()?);
        let before = process_cpu(&stat)?.own;
        let cost = act()?;
        Ok(Run { cost, broker: process_cpu(&stat)?.own - before })
    }

    /// Reads the topics with the client library that the job uses, and does nothing.
    fn bare(&self) -> anyhow::Result<(u64, Run)> {
        let cluster = self.broker.cluster()?;
        let mut records = 0;
        let took = self.measured(|| {
            let (begun, before) = (now(), process_cpu("/proc/self/stat")?.own);
            records = drain(&cluster, &["clicks", "orders"])?.records;
            let cpu = process_cpu("/proc/self/stat")?.own - before;
            Ok(Cost { cpu, peak_kib: 0, wall: begun.elapsed() })
        })?;
        Ok((records, took))
    }

    fn riverrun(&self, turn: usize) -> anyhow::Result<Run> {
        let mut command = self.job("kafka-w1.yaml", &format!("state-{turn}"));
        command.args(["--until-end", "--set", &format!("sinks.out.topic=out-{turn}")]);
        command.args(["--set", &format!("sinks.out.partitions={}", self.arguments.partitions)]);
        self.measured(|| run(&mut command, &self.scratch.join("riverrun.log")))
    }

    fn streams(&self, program: &Path, turn: usize, records: u64) -> anyhow::Result<Run> {
        let out = format!("streams-{turn}");
        KafkaProducer::open(&self.broker.cluster()?, &out, self.arguments.partitions)?;
        let mut command = Command::new(program);
        command.args([&self.broker.servers, "clicks", "orders", &out, &records.to_string()]);
        self.measured(|| run(&mut command, &self.scratch.join("streams.log")))
    }

    fn job(&self, file: &str, state: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs").join(file));
        command.args(["-w", "1", "-q", "--topics", &self.broker.address(), "--state"]).arg(self.scratch.join(state));
        command
    }

    /// From the time that an order has, which is when it was handed to the producer, to when a reader of committed records has its row.
    fn latency(&self) -> anyhow::Result<()> {
        println!("from arrival to a reader of committed records, {} records/s", self.arguments.rate);
        println!("| program | p50 ms | p99 ms | rows | CPU s |");
        println!("|---|---|---|---|---|");
        self.live("riverrun, commit every 100 ms", "now", self.job("kafka-now.yaml", "state-now"))?;
        if let Some(program) = &self.arguments.live {
            let mut command = Command::new(program);
            command.args([self.broker.servers.as_str(), "beside.clicks", "beside.orders", "beside.out"]);
            self.live("the other program", "beside", command)?;
        }
        println!("{}", machine());
        Ok(())
    }

    /// Measures a program that runs between topics of this name until it is killed.
    fn live(&self, name: &str, topics: &str, mut command: Command) -> anyhow::Result<()> {
        let cluster = self.broker.cluster()?;
        let open = |topic: &str| KafkaProducer::open(&cluster, &format!("{topics}.{topic}"), self.arguments.partitions);
        let (clicks, orders, out) = (open("clicks")?, open("orders")?, open("out")?);
        drop(out);
        let log = self.scratch.join(format!("{topics}.log"));
        let mut job = command.stdout(std::fs::File::create(&log)?).stderr(std::fs::File::create(&log)?).spawn()?;
        let measured = self.measure(clicks, orders, (&cluster, &format!("{topics}.out")));
        let cpu = process_cpu(&format!("/proc/{}/stat", job.id())).map(|cpu| cpu.own).unwrap_or_default();
        // It is live: nothing but this ends it.
        job.kill().ok();
        job.wait()?;
        let latencies = measured?;
        ensure!(!latencies.is_empty(), "no row came: see {}", log.display());
        let at = |share| percentile(&latencies, share).unwrap_or_default().as_secs_f64() * 1000.0;
        println!("| {name} | {:.0} | {:.0} | {} | {:.1} |", at(50), at(99), latencies.len(), cpu.as_secs_f64());
        Ok(())
    }

    fn measure(
        &self,
        mut clicks: KafkaProducer,
        mut orders: KafkaProducer,
        (cluster, out): (&riverrun_connectors::kafka::Cluster, &str),
    ) -> anyhow::Result<Vec<Duration>> {
        let (rate, until) = (self.arguments.rate, WARM + Duration::from_secs(self.arguments.seconds));
        let mut tail = KafkaTail::open(cluster, out, None, TailFrom::End)?;
        let mut latencies = Vec::new();
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                let (begun, mut sent) = (now(), 0_u64);
                while begun.elapsed() < until {
                    let due = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX) * rate / 1_000_000;
                    for number in sent..due {
                        let (user, item, ts) = (number * 7919 % 10_000, number % 100, wall_ms());
                        let (to, line) = match number % 6 {
                            0 => (&mut orders, format!(r#"{{"order_id":"o{number}","user_id":"u{user}","item_id":"i{item}","price":1.50,"ts":{ts}}}"#)),
                            _ => (&mut clicks, format!(r#"{{"event_id":"e{number}","user_id":"u{user}","item_id":"i{item}","event_type":"click","ts":{ts}}}"#)),
                        };
                        to.append(Some(format!("u{user}").as_bytes()), line.as_bytes())?;
                    }
                    sent = due;
                    clicks.attend();
                    orders.attend();
                    std::thread::sleep(Duration::from_millis(1));
                }
                clicks.sync()?;
                orders.sync()
            });
            let begun = now();
            while begun.elapsed() < until + Duration::from_secs(2) {
                let Some(record) = tail.read()? else {
                    std::thread::sleep(Duration::from_micros(500));
                    continue;
                };
                let seen = wall_ms();
                let row: Value = serde_json::from_slice(&record.value.context("a row without value")?)?;
                let ts = row["ts"].as_i64().context("a row without a time")?;
                if begun.elapsed() > WARM {
                    latencies.push(Duration::from_millis(u64::try_from(seen - ts).unwrap_or(0)));
                }
            }
            writing.join().expect("the writer does not panic")?;
            Ok(latencies)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "what is written now happened now")]
fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
