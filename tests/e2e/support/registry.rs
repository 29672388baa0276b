//! A real schema registry on a free port, and a client of Confluent's that writes and reads by it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::brokers::{self, Brokers};
use super::process::Invocation;
use super::python::python;

/// Where the registry is; without, tests of it are left out.
const HOME: &str = "RIVERRUN_REGISTRY_HOME";

/// A registry, and the broker beside it.
pub struct Registry {
    pub brokers: &'static Brokers,
    url: String,
    python: PathBuf,
    /// While it is open, the registry lives; when this process ends, however it ends, it does too.
    _guard: (Child, ChildStdin),
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/registry.sh")
}

/// Returns the registry that all tests of this run share; `None` where there is none, which is said.
pub fn shared() -> Option<&'static Registry> {
    static SHARED: OnceLock<Option<Registry>> = OnceLock::new();
    SHARED.get_or_init(start).as_ref()
}

fn start() -> Option<Registry> {
    let brokers = brokers::shared()?;
    if std::env::var_os(HOME).is_none_or(|home| home.is_empty()) {
        eprintln!(
            "LEFT OUT: there is no schema registry: {HOME} names no folder with one (scripts/registry.sh home fetches it)"
        );
        return None;
    }
    let python = python("confluent_kafka.schema_registry.avro, confluent_kafka.schema_registry.protobuf")?;
    let folder = tempfile::tempdir().expect("the test can write").keep();
    let mut guard = Command::new("sh")
        .args(["-c", r#"cat >/dev/null; "$1" down "$2"; rm -rf "$2""#, "sh"])
        .args([&script(), &folder])
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let open = guard.stdin.take().expect("it is a pipe");
    let output = Command::new(script()).arg("up").arg(&folder).output().expect("it can be run");
    assert!(output.status.success(), "registry.sh up: {}", String::from_utf8_lossy(&output.stderr));
    let url = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(Registry { brokers, url, python, _guard: (guard, open) })
}

impl Registry {
    /// Returns the command with this registry, and its topics in the cluster.
    pub fn with(&self, command: Invocation) -> Invocation {
        self.brokers.with(command).arg("--schema-registry").arg(&self.url)
    }

    /// Has Confluent's client do what `task` says, and returns what it prints.
    fn serialize(&self, task: &Value) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/kafka/serialize.py");
        let servers = self.brokers.address();
        let mut child = Command::new(&self.python)
            .arg(file)
            .args([servers.trim_start_matches("kafka://"), &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a Python");
        child.stdin.take().expect("it is a pipe").write_all(task.to_string().as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "serialize.py: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes rows by Confluent's serializer of a format, with this schema.
    pub fn write(&self, topic: &str, format: &str, schema: &Value, rows: &[Value]) {
        self.serialize(&serde_json::json!({ "topic": topic, "format": format, "schema": schema, "rows": rows }));
    }

    /// Writes records as they are, given in hexadecimal.
    pub fn write_bytes(&self, topic: &str, records: &[&str]) {
        self.serialize(&serde_json::json!({ "topic": topic, "bytes": true, "rows": records }));
    }

    /// Writes records with keys and headers, their values in hexadecimal or null.
    pub fn write_records(&self, topic: &str, records: &[Value]) {
        self.serialize(&serde_json::json!({ "topic": topic, "bytes": true, "rows": records }));
    }

    /// Says which versions of a subject must be readable by which.
    pub fn compatible(&self, subject: &str, level: &str) {
        self.serialize(&serde_json::json!({ "topic": "", "subject": subject, "compatibility": level }));
    }

    /// Returns the number of the newest schema of a subject.
    pub fn number(&self, subject: &str) -> u32 {
        let printed = self.serialize(&serde_json::json!({ "topic": "", "subject": subject, "number": true }));
        printed.trim().parse().expect("a number")
    }

    /// Returns what Confluent's consumer and deserializer of Avro make of a topic.
    pub fn read(&self, topic: &str) -> Vec<Value> {
        self.consume(topic, "avro")
    }

    /// Returns the records of a topic whose values are JSON, as Confluent's consumer sees them.
    pub fn read_plain(&self, topic: &str) -> Vec<Value> {
        self.consume(topic, "json")
    }

    /// Returns the records of a topic as Confluent's consumer sees them, in hexadecimal: by partition, in order.
    pub fn read_raw(&self, topic: &str) -> Vec<Value> {
        let mut records = self.consume(topic, "raw");
        records.sort_by_key(|record| (record["place"][0].as_u64(), record["place"][1].as_u64()));
        records
    }

    fn consume(&self, topic: &str, format: &str) -> Vec<Value> {
        let printed = self.serialize(&serde_json::json!({ "topic": topic, "read": true, "format": format }));
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}
