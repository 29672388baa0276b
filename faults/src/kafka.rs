//! Real brokers: started, failed and brought back by `scripts/kafka.sh`, and read by Kafka's own console consumer, which leaves out
//! what is not committed.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::Tried;
use crate::dice::Dice;
use crate::place::Place;
use crate::process::{HUNG_AFTER, Process, nap, now};

/// Where the jars are; without, rows on Kafka are left out.
const HOME: &str = "RIVERRUN_KAFKA_HOME";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
/// How often a broker that ends by itself is started.
const LIVES_MAX: u32 = 4;
/// Partitions of the brokers' own log of transactions, as `scripts/kafka.sh` sets it.
const TRANSACTION_LOGS: u32 = 4;

/// The partitions of a topic: for each its records in order, key and value with a tab between them.
pub type Partitions = BTreeMap<u32, Vec<String>>;

/// Some brokers that are one cluster.
pub struct Brokers {
    folder: PathBuf,
    /// Where they listen.
    pub servers: String,
    nodes: u64,
    /// While it is open the brokers live; when this process ends, however it ends, they do too.
    guard: Option<(Child, ChildStdin)>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh")
}

impl Brokers {
    /// Returns what a machine lacks on which no brokers can be started.
    pub fn missing() -> Option<String> {
        match std::env::var_os(HOME).is_some_and(|home| !home.is_empty()) {
            true => None,
            false => Some(format!("there is no Kafka: {HOME} names no folder with its jars (scripts/kafka.sh home)")),
        }
    }

    /// Starts so many.
    pub fn start(nodes: u64) -> Tried<Brokers> {
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?.keep();
        let mut guard = Command::new("sh")
            .args(["-c", r#"cat >/dev/null; "$1" down "$2"; rm -rf "$2""#, "sh"])
            .args([&script(), &folder])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start a shell: {error}"))?;
        let open = guard.stdin.take().expect("it is a pipe");
        let mut brokers = Brokers { folder, servers: String::new(), nodes, guard: Some((guard, open)) };
        brokers.servers = brokers.script("up", &[&nodes.to_string()])?.trim().to_owned();
        Ok(brokers)
    }

    /// Returns what `--topics` says.
    pub fn address(&self) -> String {
        format!("kafka://{}", self.servers)
    }

    /// Returns where the first node says it is reached by clients that come through something else, and where it listens for them.
    pub fn through(&self) -> Tried<(SocketAddr, SocketAddr)> {
        let text =
            std::fs::read_to_string(self.folder.join("through")).map_err(|error| format!("no way in: {error}"))?;
        let mut both = text.split_whitespace().map(str::parse);
        match (both.next(), both.next()) {
            (Some(Ok(reached)), Some(Ok(listens))) => Ok((reached, listens)),
            _ => Err(format!("no way in: {text}")),
        }
    }

    /// Returns one of the brokers.
    pub fn any(&self, dice: &mut Dice) -> u64 {
        1 + dice.below(self.nodes)
    }

    fn command(&self, act: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(script());
        command.arg(act).arg(&self.folder).args(arguments).stdin(Stdio::null());
        command
    }

    fn script(&self, act: &str, arguments: &[&str]) -> Tried<String> {
        let output =
            self.command(act, arguments).output().map_err(|error| format!("cannot start kafka.sh: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            // Kafka's tools say what is wrong on either.
            false => {
                let said = [output.stderr, output.stdout].map(|said| String::from_utf8_lossy(&said).into_owned());
                Err(format!("kafka.sh {act} {arguments:?}: {}", said.concat().trim_end()))
            }
        }
    }

    /// Fails a node or brings it back: `kill`, `pause`, `resume`, `start`.
    pub fn fail(&self, act: &str, node: u64) -> Tried<()> {
        self.script(act, &[&node.to_string()]).map(|_| ())
    }

    /// Makes topics. A tool that a busy machine kept waiting for too long is asked again.
    pub fn create(&self, topics: &[(String, u32)]) -> Tried<()> {
        for (topic, partitions) in topics {
            let partitions = partitions.to_string();
            let make = ["--create", "--if-not-exists", "--topic", topic, "--partitions", &partitions];
            let from = now();
            while let Err(reason) = self.script("tool", &[&["org.apache.kafka.tools.TopicCommand"], &make[..]].concat())
            {
                if from.elapsed() > HUNG_AFTER {
                    return Err(reason);
                }
                eprintln!("once more: {reason}");
                nap(Duration::from_millis(500));
            }
        }
        Ok(())
    }

    /// Starts a node that was killed, and waits until somebody is there again.
    pub fn start_again(&self, node: u64) -> Tried<()> {
        self.fail("start", node)?;
        let at = usize::try_from(node - 1).expect("nodes are few");
        let address = self.servers.split(',').nth(at).ok_or("there is no such node")?;
        let (from, mut lives) = (now(), 1);
        while TcpStream::connect(address).is_err() {
            // One that the others do not take in soon enough ends by itself. Whoever keeps brokers starts it again.
            if !self.is_running(node) {
                if lives == LIVES_MAX {
                    return Err(format!("broker {node} ends by itself again and again: {}", self.last_words(node)));
                }
                lives += 1;
                self.fail("start", node)?;
            }
            // A machine with much to do takes its time to start Java.
            if from.elapsed() > 4 * HUNG_AFTER {
                return Err(format!("broker {node} does not come up again: {}", self.last_words(node)));
            }
            nap(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Returns whether the process of a node lives.
    fn is_running(&self, node: u64) -> bool {
        let id = std::fs::read_to_string(self.folder.join(format!("{node}.pid"))).unwrap_or_default();
        Path::new("/proc").join(id.trim()).join("exe").exists()
    }

    /// Returns the end of what a node said.
    fn last_words(&self, node: u64) -> String {
        let said = std::fs::read(self.folder.join(format!("{node}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned()
    }

    /// Gives partitions other leaders, and the coordinators of transactions other homes.
    pub fn move_leaders(&self, place: &Place, topics: &[(String, u32)], dice: &mut Dice) -> Tried<()> {
        let mut all = topics.to_vec();
        all.push(("__transaction_state".to_owned(), TRANSACTION_LOGS));
        let mut partitions = Vec::new();
        for (topic, count) in &all {
            for partition in 0..*count {
                let first = dice.below(self.nodes);
                let replicas: Vec<u64> = (0..self.nodes).map(|next| 1 + (first + next) % self.nodes).collect();
                partitions.push(json!({ "topic": topic, "partition": partition, "replicas": replicas }));
            }
        }
        place.write("leaders.json", json!({ "version": 1, "partitions": partitions }).to_string())?;
        let file = place.path("leaders.json").display().to_string();
        // Replicas stay where they are; the first of them is the one that should lead.
        let order = [
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
            "--reassignment-json-file",
            &file,
            "--execute",
        ];
        self.script("tool", &order)?;
        let elect =
            ["org.apache.kafka.tools.LeaderElectionCommand", "--election-type", "PREFERRED", "--all-topic-partitions"];
        self.script("tool", &elect).map(|_| ())
    }

    /// Returns all committed records of a topic. The consumer gives up when nothing comes for a while, which on a busy machine may be
    /// before the first record: if it gave fewer than `least` it is asked again, with more patience.
    pub fn read(&self, topic: &str, least: usize) -> Tried<Partitions> {
        let mut read = Partitions::new();
        for patience in ["4000", "15000", "40000"] {
            read = self.read_within(topic, patience)?;
            if read.values().map(Vec::len).sum::<usize>() >= least {
                break;
            }
        }
        Ok(read)
    }

    fn read_within(&self, topic: &str, patience: &str) -> Tried<Partitions> {
        let read =
            ["--topic", topic, "--from-beginning", "--timeout-ms", patience, "--isolation-level", "read_committed"];
        let shown = ["--property", "print.partition=true", "--property", "print.key=true"];
        let said = self.script("tool", &[&[CONSUMER], &read[..], &shown[..]].concat())?;
        let mut partitions = Partitions::new();
        for line in said.lines() {
            // Between records stands what the consumer logs.
            let Some((partition, record)) = line.strip_prefix("Partition:").and_then(|it| it.split_once('\t')) else {
                continue;
            };
            let partition = partition.parse().map_err(|_| format!("the consumer says `{line}`"))?;
            partitions.entry(partition).or_default().push(record.to_owned());
        }
        Ok(partitions)
    }

    /// Starts a consumer that writes the values of a partition to a file of `place`, as they are committed.
    pub fn watch(&self, place: &Place, topic: &str, partition: u32, into: &str) -> Tried<Process> {
        let partition = partition.to_string();
        let read = ["--topic", topic, "--partition", &partition, "--offset", "earliest"];
        let command = self.command("tool", &[&[CONSUMER, "--isolation-level", "read_committed"], &read[..]].concat());
        Process::start(place, command, into)
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        if let Some((mut guard, open)) = self.guard.take() {
            drop(open);
            // What it stops it stops by itself.
            guard.wait().ok();
        }
    }
}
