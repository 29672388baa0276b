//! A real Prometheus that scrapes a job: what it reads is what happened, and it understands the alerts and the dashboards that come with
//! Riverrun.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::admin;
use crate::oracle::Model;
use crate::support::jobs::{self, Over};
use crate::support::process::{HUNG_AFTER, Stop};
use crate::support::{Place, Shop, topics};

/// A server that ends with the test.
struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Returns the program, from beside what is built or from the `PATH`.
fn program() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_riverrun")).ancestors().nth(2)?.join("tools/prometheus");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut known = std::env::split_paths(&path).map(|folder| folder.join("prometheus"));
    if beside.is_file() { Some(beside) } else { known.find(|tool| tool.is_file()) }
}

impl Prometheus {
    /// Starts one that scrapes `target` every second.
    fn start(program: &Path, place: &Place, target: &str) -> Prometheus {
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/monitoring/alerts.yaml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{alerts:?}]\n\
             scrape_configs: [{{ job_name: riverrun, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
        );
        place.write("prometheus.yaml", config);
        // The port is free now; should another process take it first, the server does not come up, which is said.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(program)
            .arg(format!("--config.file={}", place.path("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", place.path("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place.path("prometheus.log")).unwrap())
            .spawn()
            .expect("prometheus starts");
        Prometheus { child, address }
    }

    /// Returns what it answers; nothing while it does not.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(HUNG_AFTER)).unwrap();
        // Not 1.1: the answer is to come in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    fn query(&self, expression: &str) -> Option<Value> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.get(&format!("/api/v1/query?query={escaped}"))
    }

    /// Returns the value of an expression that has one.
    fn value(&self, expression: &str) -> Option<f64> {
        let answer = self.query(expression)?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

/// The expressions of all panels, as they are for a job of that name.
fn panels(job: &str) -> Vec<String> {
    let mut found = Vec::new();
    for board in ["job", "fleet"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("k8s/monitoring/dashboards/{board}.json"));
        let board: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let panels = board["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array());
        found.extend(panels.flatten().map(|target| target["expr"].as_str().unwrap().replace("$job", job)));
    }
    found
}

#[test]
fn it_scrapes_a_job_and_understands_alerts_and_dashboards() {
    let Some(program) = program() else {
        eprintln!("SKIPPED: prometheus is not there; scripts/test.sh fetches it");
        return;
    };
    let shopping = Shop { seed: 11, rows: 4000, ..Shop::default() }.open();
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    for (name, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
        let mut producer = topics::producer(&place.path("topics"), name, 2);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    let run = place.run("job.yaml").args(&["--topics", "topics"]).workers(2).set("checkpoint.every=100ms");
    let (mut running, address) = admin::start(run);
    let prometheus = Prometheus::start(&program, &place, &address);
    let read = r#"sum(riverrun_job_balance_records{operator_kind="source",outcome="in"})"#;
    let written = (shopping.clicks.len() + shopping.orders.len()) as f64;
    running.until("all rows, as Prometheus sees them", || prometheus.value(read) == Some(written));
    running.until("the job is ready", || prometheus.value("riverrun_job_ready") == Some(1.0));
    assert_eq!(prometheus.value("up"), Some(1.0));

    let rules = prometheus.get("/api/v1/rules").expect("it answers");
    let groups = rules["data"]["groups"].as_array().unwrap();
    let all: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(all.len() >= 20, "{rules}");
    running.until("all alerts were looked at", || {
        let rules = prometheus.get("/api/v1/rules").unwrap_or_default();
        let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
        let health = |rule: &Value| rule["health"] == "ok";
        !groups.is_empty() && groups.iter().all(|group| group["rules"].as_array().unwrap().iter().all(health))
    });
    for expression in panels("attribution") {
        let answer = prometheus.query(&expression).expect("it answers");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
}
