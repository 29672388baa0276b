//! The admin port and the watchdog of the real binary: what is served is what happened, and a job that waits is not a job that hangs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::jobs::{self, Over};
use crate::support::process::{HUNG_AFTER, Invocation, Stop};
use crate::support::{Place, Running, Shop, topics};

use crate::oracle::Model;

/// Partitions of each topic.
const PARTITIONS: u32 = 2;
/// Small ticks and quick commits.
const SMALL: &[&str] = &["--set", "tick.max_rows=200", "--set", "commit.every=10ms"];
/// Metrics that a live job in a folder does not have: those of bounded input, of Kafka, and of a job in several processes.
const NOT_LIVE: &[&str] = &[
    "riverrun_source_read_ratio",
    "riverrun_source_replay_headroom_seconds",
    "riverrun_mesh_peers",
    "riverrun_mesh_peers_expected",
    "riverrun_mesh_bytes_total",
    "riverrun_mesh_messages_total",
    "riverrun_mesh_heartbeat_age_seconds",
    "riverrun_mesh_rejected_connections_total",
];

/// An answer of the admin port.
pub struct Answer {
    code: u16,
    kind: String,
    pub body: String,
}

/// Asks the admin port; nothing if nobody answers there.
fn ask(address: &str, method: &str, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HUNG_AFTER)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
    Some(Answer { code, kind, body: body.to_owned() })
}

pub fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path).unwrap_or_else(|| panic!("{path} is not answered"))
}

/// The series of a page, by name and labels as written.
pub fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// Starts a run with an admin port of its own, and returns where that is.
pub fn start(run: Invocation) -> (Running, String) {
    let mut running = run.args(&["--admin", "127.0.0.1:0"]).start();
    let address = running.until_line("admin: http://");
    (running, address)
}

/// Makes topics with traffic in them, and the job that reads them.
fn place_with_traffic(seed: u64) -> (Place, usize, usize) {
    let shopping = Shop { seed, rows: 6000, ..Shop::default() }.open();
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    for (name, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
        let mut producer = topics::producer(&place.path("topics"), name, PARTITIONS);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    (place, shopping.clicks.len(), shopping.orders.len())
}

fn run(place: &Place, checkpoint_every: &str) -> Invocation {
    let run = place.run("job.yaml").args(&["--topics", "topics"]).args(SMALL).workers(2);
    run.set(format!("checkpoint.every={checkpoint_every}"))
}

/// Waits until the job has all rows of both topics and nothing is on its way any more.
fn until_all_read(running: &mut Running, address: &str, clicks: usize, orders: usize) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    running.until("all rows", || {
        seen = series(&get(address, "/metrics").body);
        let input = |name: &str, kind: &str| {
            let labels = format!(r#"job_name="attribution",operator="{name}",operator_kind="{kind}",outcome="in""#);
            seen.get(&format!("riverrun_job_balance_records{{{labels}}}")).copied().unwrap_or_default()
        };
        let pending: f64 = ["out", "bad", "late"]
            .iter()
            .map(|sink| seen.get(&of("riverrun_sink_pending_bytes", &[("operator", sink)])).copied().unwrap_or(1.0))
            .sum();
        input("clicks", "source") == clicks as f64 && input("orders", "source") == orders as f64 && pending == 0.0
    });
    seen
}

/// Returns the name of a series of the job.
fn of(name: &str, labels: &[(&str, &str)]) -> String {
    let labels: String = labels.iter().map(|(label, value)| format!(",{label}=\"{value}\"")).collect();
    format!("{name}{{job_name=\"attribution\"{labels}}}")
}

fn promtool() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_riverrun")).ancestors().nth(2)?.join("tools/promtool");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut known = std::env::split_paths(&path).map(|folder| folder.join("promtool"));
    if beside.is_file() { Some(beside) } else { known.find(|tool| tool.is_file()) }
}

/// Holds a page against what Prometheus itself thinks of it.
pub fn check_by_promtool(page: &str) {
    let Some(promtool) = promtool() else {
        eprintln!(
            "SKIPPED: promtool is not there, so nobody but us has checked the metrics; scripts/test.sh fetches it"
        );
        return;
    };
    let mut command = Command::new(promtool);
    let mut child = command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("it is a pipe").write_all(page.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
}

/// The names in the guide's table.
fn documented() -> Vec<String> {
    let page = include_str!("../../docs/guide/metrics.md");
    let name = |line: &str| line.strip_prefix("| `")?.split_once("` | ").map(|(name, _)| name.to_owned());
    page.lines().filter_map(name).filter(|name| name.starts_with("riverrun_") || name.starts_with("process_")).collect()
}

#[test]
fn what_is_served_is_what_happened() {
    let (place, clicks, orders) = place_with_traffic(80);
    let (mut running, address) = start(run(&place, "20ms"));
    running.until("readiness", || get(&address, "/readyz").code == 200);
    running.until("a checkpoint", || get(&address, "/metrics").body.contains("riverrun_checkpoint_last_tick"));
    assert_eq!(get(&address, "/livez").code, 200);
    let seen = until_all_read(&mut running, &address, clicks, orders);
    let page = get(&address, "/metrics");
    assert_eq!(page.kind, "text/plain; version=0.0.4");
    check_by_promtool(&page.body);
    for name in documented() {
        let there = page.body.contains(&format!("# TYPE {name} "));
        assert_eq!(there, !NOT_LIVE.contains(&name.as_str()), "{name} in:\n{}", page.body);
    }
    // Both are of one moment: a busy machine lets seconds pass between two.
    let spent_by = series(&get(&address, "/metrics").body);
    let status: serde_json::Value = serde_json::from_str(&get(&address, "/status").body).unwrap();
    let ran = status["meter"]["seconds"].as_f64().unwrap();
    for worker in ["0", "1"] {
        let spent = |what: &str| spent_by[&of(&format!("riverrun_worker_{what}_seconds_total"), &[("worker", worker)])];
        let all = spent("busy") + spent("backpressured") + spent("idle");
        assert!(all > 0.5 * ran && all <= ran, "worker {worker}: {all} s of {ran} s");
    }
    for partition in ["0", "1"] {
        let labels = [("operator", "clicks"), ("partition", partition)];
        assert_eq!(seen[&of("riverrun_source_lag_records", &labels)], 0.0);
        assert_eq!(seen[&of("riverrun_source_read_lag_seconds", &labels)], 0.0, "all is read");
    }
    assert_eq!(get(&address, "/nothing").code, 404);
    assert_eq!(ask(&address, "POST", "/metrics").unwrap().code, 405);
    let index = get(&address, "/").body;
    assert!(["/livez", "/readyz", "/metrics", "/status"].iter().all(|path| index.contains(path)), "{index}");

    let committed = seen[&of("riverrun_operator_records_out_total", &[("operator", "out"), ("operator_kind", "sink")])];
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    assert_eq!(committed, topics::count(&place.path("topics"), "out") as f64);
    let balance = &finished.document()["snapshot"]["balance"];
    for (name, kind) in [("clicks", "source"), ("orders", "source"), ("item_clicks", "step"), ("attributed", "step")] {
        for outcome in ["in", "taken", "filtered", "late", "bad", "duplicate", "out"] {
            let labels = [("operator", name), ("operator_kind", kind), ("outcome", outcome)];
            assert_eq!(
                seen[&of("riverrun_job_balance_records", &labels)],
                balance[name][outcome].as_f64().unwrap(),
                "{name} {outcome}"
            );
        }
        let labels = [("operator", name), ("operator_kind", kind)];
        assert_eq!(seen[&of("riverrun_operator_records_in_total", &labels)], balance[name]["in"].as_f64().unwrap());
    }
    assert!(TcpStream::connect(&address).is_err(), "the port is still open");
}

#[test]
fn how_far_sources_are_apart_in_event_time_is_shown_where_they_meet() {
    let place = Place::new();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    // Both wait five seconds for what is out of order, so their watermarks are as far apart as their newest rows.
    let (apart, start_ms) = (100, 1_767_225_600_000_i64);
    for (topic, id, seconds) in [("clicks", "event_id", apart), ("orders", "order_id", 0)] {
        let mut producer = topics::producer(&place.path("topics"), topic, 1);
        let ts = start_ms + seconds * 1000;
        let row = format!(r#"{{"{id}":"a","event_type":"click","price":1.00,"user_id":"u","item_id":"i","ts":{ts}}}"#);
        topics::append(&mut producer, [row.as_bytes()]);
    }
    let (mut running, address) = start(run(&place, "1h"));
    let of = |what: &str, kind: &str, name: &str| {
        of(&format!("riverrun_operator_{what}"), &[("operator", name), ("operator_kind", kind)])
    };
    let skew = of("watermark_skew_seconds", "step", "attributed");
    let mut seen = BTreeMap::new();
    running.until("both watermarks", || {
        seen = series(&get(&address, "/metrics").body);
        seen.contains_key(&skew)
    });
    let watermark = |source: &str| seen[&of("output_watermark_timestamp_seconds", "source", source)];
    assert_eq!(watermark("orders"), start_ms as f64 / 1000.0 - 5.0);
    assert_eq!((watermark("clicks") - watermark("orders"), seen[&skew]), (apart as f64, apart as f64));
    let alone = of("watermark_skew_seconds", "step", "item_clicks");
    assert!(!seen.contains_key(&alone), "one source alone is not apart from itself");
}

#[test]
fn a_job_that_recovers_is_not_ready_and_counts_no_row_twice() {
    let (place, clicks, orders) = place_with_traffic(81);
    // Without a checkpoint, all is derived again.
    let (mut running, address) = start(run(&place, "1h"));
    let before = until_all_read(&mut running, &address, clicks, orders);
    running.kill();

    let (mut running, address) = start(run(&place, "1h"));
    let mut answers: Vec<(u16, String)> = Vec::new();
    running.until("readiness", || {
        let answer = get(&address, "/readyz");
        let code = answer.code;
        answers.push((code, answer.body));
        code == 200
    });
    let (code, why) = &answers[0];
    assert!(*code == 503 && (why.starts_with("starting") || why.starts_with("recovering")), "{answers:?}");
    let seen = until_all_read(&mut running, &address, clicks, orders);
    for (name, value) in before.iter().filter(|(name, _)| name.starts_with("riverrun_job_balance_records")) {
        assert_eq!(seen[name], *value, "{name}");
    }
    let clicks_in = of("riverrun_operator_records_in_total", &[("operator", "clicks"), ("operator_kind", "source")]);
    assert!(seen[&clicks_in] < before[&clicks_in], "rows that were derived again count as new");
    assert!(seen[&of("riverrun_job_repeated_ticks_total", &[])] > 0.0);
    assert_eq!(seen[&of("riverrun_job_ticks_to_repeat", &[])], 0.0);
    assert_eq!(seen[&of("riverrun_job_restarts_total", &[])], 1.0);
    running.signal(Stop::Terminate);
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn an_admin_port_is_refused_where_it_could_be_reached_or_is_taken() {
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    place
        .run("job.yaml")
        .args(&["--admin", "0.0.0.0:0"])
        .fail(2, &["no authentication", "127.0.0.1", "--insecure-no-auth"]);
    Shop { rows: 50, ..Shop::default() }.open().write(&place);
    place.write("files.yaml", jobs::minutes(Over::Files));
    let insisting = place.run("files.yaml").args(&["--admin", "0.0.0.0:0", "--insecure-no-auth"]).finish();
    assert_eq!(insisting.code, Some(0), "{insisting}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.run("job.yaml").args(&["--admin", &address]).fail(5, &["cannot serve --admin", &address, "in use"]);
}

/// A console whose reader has gone to sleep: the sink cannot write, which is nobody's hang.
#[test]
fn a_sink_that_nobody_reads_is_waited_for_unless_asked_otherwise() {
    let place = Place::new();
    Shop { seed: 82, rows: 6000, ..Shop::default() }.open().write(&place);
    let job = jobs::minutes(Over::Files).replace("file: { path: out.jsonl }, timestamps: epoch_ms", "console: {}");
    place.write("job.yaml", job);
    let patient = place.riverrun(&["run", "job.yaml", "--watchdog", "1s", "--admin", "127.0.0.1:0"]).args(SMALL);
    let (mut running, pipe) = patient.start_with_stdout();
    let said = running.hears();
    running.until("the warning, and the one after it", || said().matches("committing to sink `out`").count() >= 2);
    let address = running.until_line("admin: http://");
    assert_eq!(get(&address, "/livez").code, 200);
    let page = series(&get(&address, "/metrics").body);
    let waits = |name: &str| name.contains(r#"act="commit",operator="out""#);
    assert!(page.iter().any(|(name, seconds)| waits(name) && *seconds >= 2.0), "{page:?}");
    drop(pipe);
    running.kill();

    // The disk of a busy machine answers within that.
    let limits = ["--watchdog", "1s", "--watchdog-outside", "10s"];
    let impatient = place.riverrun(&["run", "job.yaml", "--fresh"]).args(&limits).args(SMALL);
    let (running, pipe) = impatient.start_with_stdout();
    let finished = running.finish();
    drop(pipe);
    assert_eq!(finished.code, Some(74), "{finished}");
    for part in
        ["what the job waits for has not answered", "committing to sink `out`", "next tick by part", "hint: see why"]
    {
        assert!(finished.stderr.contains(part), "`{part}` is not said: {finished}");
    }
}

/// A step that never comes back from a tick, in one worker of two.
#[test]
fn a_step_that_hangs_ends_the_process_which_goes_on_when_it_is_started_again() {
    let place = Place::new();
    Shop { seed: 83, rows: 6000, ..Shop::default() }.open().write(&place);
    place.write("job.yaml", jobs::minutes(Over::Files));
    let run = || place.run("job.yaml").args(&["--watchdog", "1s"]).args(SMALL).workers(2);
    let hung = run().env("RIVERRUN_FAIL_POINT", "step.tick:9:hang").finish();
    assert_eq!(hung.code, Some(75), "{hung}");
    // What it was at, how far every part has come, and what to do.
    for part in ["has been at this for", "step `minutes`", "next tick by part", "hint: this is a fault in riverrun"] {
        assert!(hung.stderr.contains(part), "`{part}` is not said: {hung}");
    }
    run().succeed();
    let bytes = place.read("out.jsonl");
    place.run("job.yaml").args(&["--fresh"]).args(SMALL).workers(1).succeed();
    assert!(bytes == place.read("out.jsonl"), "it differs from an undisturbed run");
}
