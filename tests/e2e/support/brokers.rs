//! Real Kafka brokers on free ports, with data in a folder that goes with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use riverrun_connectors::kafka::KafkaRecord;
use riverrun_connectors::kafka::{Cluster, KafkaFault, KafkaProducer, KafkaTail, TailFrom};

use super::process::Invocation;

/// Where the jars are; without, tests of Kafka are left out.
const HOME: &str = "RIVERRUN_KAFKA_HOME";

/// How often a topic is read before it counts as one that cannot be.
const READINGS: usize = 6;

/// Some brokers that are one cluster.
pub struct Brokers {
    folder: PathBuf,
    servers: String,
    /// While it is open, the brokers live; when this process ends, however it ends, they do too.
    guard: Option<(Child, ChildStdin)>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh")
}

/// Returns the broker that all tests of this run share; `None` where there is no Kafka, which is said.
pub fn shared() -> Option<&'static Brokers> {
    static SHARED: OnceLock<Option<Brokers>> = OnceLock::new();
    SHARED.get_or_init(|| Brokers::start(1)).as_ref()
}

impl Brokers {
    /// Starts so many; `None` where there is no Kafka, which is said.
    pub fn start(nodes: usize) -> Option<Brokers> {
        if std::env::var_os(HOME).is_none_or(|home| home.is_empty()) {
            eprintln!(
                "LEFT OUT: there is no Kafka: {HOME} names no folder with its jars (scripts/kafka.sh home fetches them)"
            );
            return None;
        }
        let folder = tempfile::tempdir().expect("the test can write").keep();
        let mut guard = Command::new("sh")
            .args(["-c", r#"cat >/dev/null; "$1" down "$2"; rm -rf "$2""#, "sh"])
            .args([&script(), &folder])
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let open = guard.stdin.take().expect("it is a pipe");
        let mut brokers = Brokers { folder, servers: String::new(), guard: Some((guard, open)) };
        brokers.servers = brokers.script(&["up"], &[&nodes.to_string()]).trim().to_owned();
        Some(brokers)
    }

    /// Runs the script that steers brokers.
    fn script(&self, before: &[&str], after: &[&str]) -> String {
        let output = Command::new(script()).args(before).arg(&self.folder).args(after).output().expect("it can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kafka.sh {before:?} {after:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Fails a node or brings it back: `kill`, `pause`, `resume`, `start`.
    pub fn fail(&self, act: &str, node: usize) {
        self.script(&[act], &[&node.to_string()]);
    }

    /// Runs a tool of Kafka's own and returns what it says.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        self.script(&["tool"], &[&[class], arguments].concat())
    }

    /// Returns what `--topics` says.
    pub fn address(&self) -> String {
        format!("kafka://{}", self.servers)
    }

    /// Returns the servers' other listeners, which want TLS and a password, and the certificate of their authority.
    pub fn safe(&self) -> (String, PathBuf) {
        let servers = std::fs::read_to_string(self.folder.join("safe")).expect("the script wrote it");
        (format!("kafka://{}", servers.trim()), self.folder.join("ca.pem"))
    }

    /// Returns where the first node says it is reached by clients that come through something else, and where it listens for them.
    pub fn through(&self) -> (SocketAddr, SocketAddr) {
        let text = std::fs::read_to_string(self.folder.join("through")).expect("the script wrote it");
        let mut both = text.split_whitespace().map(|address| address.parse().expect("an address"));
        (both.next().expect("where it is reached"), both.next().expect("where it listens"))
    }

    /// Returns the command with its topics in this cluster.
    pub fn with(&self, command: Invocation) -> Invocation {
        command.arg("--topics").arg(self.address())
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> Cluster {
        Brokers::cluster_at(&self.servers)
    }

    /// Returns the cluster that is reached at `servers`.
    pub fn cluster_at(servers: &str) -> Cluster {
        Cluster::parse(servers, |text| Ok(text.to_owned())).expect("it is an address")
    }

    /// Returns whether there is such a topic.
    pub fn has(&self, topic: &str) -> bool {
        KafkaTail::open(&self.cluster(), topic, None, TailFrom::End).is_ok()
    }

    /// Returns a producer of a topic, which it makes if need be.
    pub fn producer(&self, topic: &str, partitions: u32) -> KafkaProducer {
        KafkaProducer::open(&self.cluster(), topic, partitions).expect("the topic can be made")
    }

    /// Returns all records of a topic that are committed, in order within each partition; none if there is no such topic yet.
    pub fn records(&self, topic: &str) -> Vec<KafkaRecord> {
        let read = || {
            let mut tail = match KafkaTail::open(&self.cluster(), topic, None, TailFrom::Start) {
                Err(KafkaFault::Missing { .. }) => return Ok(Vec::new()),
                opened => opened?,
            };
            let mut all = Vec::new();
            while let Some(record) = tail.read()? {
                all.push(record);
            }
            all.sort_by_key(|record| (record.partition, record.offset));
            Ok::<_, KafkaFault>(all)
        };
        // Brokers may be failed meanwhile, and the one that has the records is frozen for longer than a reader is patient.
        let again = (1..READINGS).find_map(|_| read().ok());
        again.unwrap_or_else(|| read().expect("the topic can be read"))
    }

    /// Returns all records of a topic once there are at least so many, or what there is after a while: a commit is answered before
    /// every partition has its mark, and readers see what it wrote only then.
    pub fn settled(&self, topic: &str, count: usize) -> Vec<KafkaRecord> {
        for _ in 0..100 {
            let records = self.records(topic);
            if records.len() >= count {
                return records;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        self.records(topic)
    }

    /// Returns the rows of a topic as a reader sees them that is not ours: Kafka's own consumer, which leaves out what is not
    /// committed. It gives up when nothing comes for a while, which on a busy machine may be before the first record: then it is asked
    /// again, with more patience.
    pub fn rows(&self, topic: &str) -> Vec<serde_json::Value> {
        let there = self.records(topic).len();
        let mut rows = Vec::new();
        for patience in ["4000", "15000", "40000"] {
            rows = self.rows_within(topic, patience);
            if rows.len() >= there {
                break;
            }
        }
        rows
    }

    fn rows_within(&self, topic: &str, patience: &str) -> Vec<serde_json::Value> {
        let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let read = ["--topic", topic, "--from-beginning", "--timeout-ms", patience];
        let said = self.tool(consumer, &[&read[..], &["--isolation-level", "read_committed"]].concat());
        // Between the rows stands what the consumer logs.
        let rows: Vec<&str> = said.lines().filter(|line| line.starts_with('{')).collect();
        super::place::json_lines(rows.join("\n").as_bytes())
    }
}

/// Deals rows out to the partitions of a topic in turn, and waits until they are there.
pub fn deal<'a>(producer: &mut KafkaProducer, rows: impl IntoIterator<Item = &'a [u8]>, turn: &mut u32) {
    for row in rows {
        producer.append_to(*turn, None, row).expect("there is room");
        *turn = (*turn + 1) % producer.partitions();
    }
    producer.sync().expect("a broker takes it");
}

impl Drop for Brokers {
    fn drop(&mut self) {
        if let Some((mut guard, open)) = self.guard.take() {
            drop(open);
            guard.wait().ok();
        }
    }
}
