//! A manager and its command line, as processes: what is submitted runs, whoever is killed meanwhile, and nobody does what they may not.

mod changes;
mod figures;
mod fuzz;
mod history;
mod hostile;
mod limits;
pub mod offsets;
mod past;
mod preview;
mod security;
mod settings;
mod shell;
mod state;
mod taken_back;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::check_by_promtool;
use crate::oracle::{self, Model};
use crate::support::jobs::{self, Over};
use crate::support::process::{HUNG_AFTER, Invocation, Stop};
use crate::support::{Finished, Place, Running, Shop, topics};

/// Ticks so small that a run takes its time.
const SLOW: &[&str] = &["--set", "tick.max_rows=4", "--set", "commit.every=20ms", "--set", "checkpoint.every=200ms"];
/// Partitions of each topic.
const PARTITIONS: u32 = 2;
/// Rows that keep a bounded job busy while somebody looks at it, asks for a change, and kills this and that, on a fast machine too.
const MUCH: usize = 8000;

/// A manager in a folder of its own, and everything that it started: nothing of it outlives the test.
pub struct Managed {
    pub place: Place,
    manager: Option<Running>,
    arguments: Vec<String>,
}

impl Managed {
    /// Starts a manager over topics with traffic in them and a job that reads them.
    fn with_traffic(seed: u64) -> Managed {
        let place = Place::new();
        fill(&place, seed);
        Managed::at(place, &[])
    }

    /// Starts a manager over topics that a bounded job reads for a while, and an undisturbed run over the same rows.
    fn with_much(seed: u64, arguments: &[&str]) -> (Managed, Place) {
        let [place, calm] = [Place::new(), Place::new()];
        fill_with(&place, seed, MUCH);
        fill_with(&calm, seed, MUCH);
        calm.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(SLOW).succeed();
        (Managed::at(place, arguments), calm)
    }

    pub fn at(place: Place, arguments: &[&str]) -> Managed {
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let mut managed = Managed { place, manager: None, arguments };
        managed.start(&[]);
        managed
    }

    fn start(&mut self, environment: &[(&str, &str)]) {
        let _ = std::fs::remove_file(self.place.path("manager/address"));
        let fixed =
            ["serve", "--data", "manager", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--topics", "topics"];
        let mut serve = self.place.riverrun(&fixed).args(&["--run-dir", "own", "--stop-within", "4m"]);
        serve = self.arguments.iter().fold(serve, |serve, argument| serve.arg(argument.clone()));
        serve = environment.iter().fold(serve, |serve, (name, value)| serve.env(*name, *value));
        let mut running = serve.start();
        running.until("its address", || self.place.path("manager/address").exists());
        self.manager = Some(running);
    }

    fn server(&self) -> String {
        String::from_utf8(self.place.read("manager/address")).unwrap().trim().to_owned()
    }

    fn address(&self) -> String {
        self.server().split_once("://").unwrap().1.to_owned()
    }

    /// A command against the manager.
    pub fn cli(&self, arguments: &[&str]) -> Invocation {
        self.place.riverrun(arguments).args(&["-o", "json", "--server", &self.server()])
    }

    fn submit(&self, job: &str, arguments: &[&str]) -> Finished {
        self.cli(&["submit", job]).args(SLOW).args(arguments).succeed()
    }

    pub fn status(&self, job: &str) -> Value {
        self.cli(&["status", job]).succeed().document()
    }

    /// What happened to a job.
    pub fn events(&self, job: &str) -> String {
        http(&self.address(), "GET", &format!("/api/v1/jobs/{job}/events"), "", "").2
    }

    /// Waits until the status of a job is as it is to be.
    pub fn until(&self, job: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let pause = Duration::from_millis(50);
        let mut last = Value::Null;
        for _ in 0..HUNG_AFTER.as_millis() / pause.as_millis() / 4 {
            last = self.status(job);
            if is(&last) {
                return last;
            }
            std::thread::sleep(pause);
        }
        panic!("{what} never came: {last:#}\n{}", self.cli(&["logs", job]).finish());
    }

    fn until_phase(&self, job: &str, phase: &str) -> Value {
        self.until(job, phase, |status| status["job"]["phase"] == phase)
    }

    /// Who runs now, of all processes that were ever started.
    pub fn alive(&self) -> Vec<u32> {
        if !self.place.path("manager/run").is_dir() {
            return Vec::new();
        }
        let told = self.place.files_below("manager/run");
        let told = told.into_iter().filter(|path| path.ends_with("process.json"));
        let pid = |path: PathBuf| -> Option<u32> {
            let who: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            u32::try_from(who["pid"].as_u64()?).ok()
        };
        let folder = self.place.folder().to_str().unwrap().to_owned();
        told.filter_map(pid).filter(|pid| command_line(*pid).contains(&folder)).collect()
    }

    pub fn one_alive(&self) -> u32 {
        let alive = self.alive();
        assert_eq!(alive.len(), 1, "{alive:?}");
        alive[0]
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        if let Some(manager) = self.manager.take() {
            manager.kill();
        }
        for pid in self.alive() {
            kill(pid);
        }
    }
}

fn fill(place: &Place, seed: u64) {
    fill_with(place, seed, 1200);
}

fn fill_with(place: &Place, seed: u64, rows: usize) {
    let shopping = Shop { seed, rows, ..Shop::default() }.open();
    place.write("job.yaml", jobs::attribution(Over::Topics, Model::Last));
    for (name, rows) in [("clicks", &shopping.clicks), ("orders", &shopping.orders)] {
        let mut producer = topics::producer(&place.path("topics"), name, PARTITIONS);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

pub fn kill(pid: u32) {
    signal(pid, "KILL");
}

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.is_ok(), "the signal was not sent");
}

/// An answer of the API: status, headers in small letters, body.
fn http(address: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HUNG_AFTER)).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, head.to_lowercase(), body.to_owned())
}

#[test]
fn a_job_gives_the_rows_of_an_undisturbed_run_whoever_is_killed() {
    let (mut managed, calm) = Managed::with_much(701, &[]);
    let rows = |place: &Place| topics::records(&place.path("topics"), "out").len();

    managed.submit("job.yaml", &["--until-end"]);
    managed.until("attribution", "rows", |_| rows(&managed.place) > 0);
    // A process is killed: the next generation goes on.
    kill(managed.one_alive());
    managed.until("attribution", "the next generation", |status| status["job"]["generation"] == 2);
    managed.until_phase("attribution", "running");
    // The manager is killed: the job runs on, and the next manager takes it up as it is.
    let (child, before) = (managed.one_alive(), rows(&managed.place));
    managed.manager.take().unwrap().kill();
    let pause = Duration::from_millis(20);
    let deadline = HUNG_AFTER.as_millis() / pause.as_millis();
    let grown = (0..deadline).any(|_| {
        std::thread::sleep(pause);
        rows(&managed.place) > before
    });
    assert!(grown && managed.one_alive() == child, "the job stopped with the manager");
    managed.start(&[]);
    let status = managed.until("attribution", "the job again", |status| status["processes"][0]["state"] != "absent");
    assert_eq!(status["job"]["generation"], 2, "it was taken up, not started: {status:#}");

    managed.until_phase("attribution", "finished");
    assert!(managed.alive().is_empty());
    for sink in ["out", "bad", "late"] {
        let of = |place: &Place| {
            topics::records(&place.path("topics"), sink)
                .into_iter()
                .map(|it| (it.partition, it.value))
                .collect::<Vec<_>>()
        };
        assert!(of(&managed.place) == of(&calm), "{sink} differs from an undisturbed run");
    }
    let events = http(&managed.address(), "GET", "/api/v1/jobs/attribution/events", "", "").2;
    assert!(events.contains("signal 9"), "{events}");
}

#[test]
fn every_verb_does_what_it_says_and_says_it_in_json() {
    let managed = Managed::with_traffic(702);
    let job = "attribution";
    let dry = managed.submit("job.yaml", &["--dry-run"]).document();
    assert_eq!((dry["created"].as_bool(), dry["revision"].as_u64()), (Some(true), Some(1)));
    managed.cli(&["status", job]).fail(3, &["no job `attribution`"]);

    let done = managed.submit("job.yaml", &[]).document();
    assert_eq!((&done["kind"], &done["state"]), (&json!("submit"), &json!("succeeded")));
    let listed = managed.cli(&["list"]).succeed().document();
    assert_eq!((&listed["jobs"][0]["name"], &listed["jobs"][0]["phase"]), (&json!(job), &json!("running")));
    managed.until(job, "a checkpoint", |status| status["run"]["meter"]["checkpoints"]["tick"].as_u64() > Some(0));
    let logs = managed.cli(&["logs", job, "--tail", "5"]).succeed().document();
    assert!(logs["lines"].is_array(), "{logs}");

    // Savepoints: of a job that runs, and of one that is stopped.
    let made = managed.cli(&["savepoint", "create", job, "monday"]).succeed().document();
    assert!(made["tick"].as_u64() > Some(0), "{made}");
    managed.cli(&["stop", job, "--savepoint", "monday"]).fail(5, &["monday"]);
    managed.cli(&["stop", job, "--savepoint", "friday"]).succeed();
    assert_eq!((managed.status(job)["job"]["phase"].clone(), managed.alive()), (json!("suspended"), Vec::<u32>::new()));
    let names = |all: Value| -> Vec<String> {
        all["savepoints"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(managed.cli(&["savepoint", "ls", job]).succeed().document()), ["friday", "monday"]);
    managed.cli(&["savepoint", "rm", job, "monday"]).succeed();
    managed.cli(&["savepoint", "rm", job, "monday"]).fail(3, &["monday"]);

    managed.cli(&["resume", job]).succeed();
    let generation = |status: &Value| status["job"]["generation"].as_u64().unwrap();
    let before = generation(&managed.until_phase(job, "running"));
    managed.cli(&["restart", job]).succeed();
    assert_eq!(generation(&managed.status(job)), before + 1);
    managed.cli(&["rescale", job, "-w", "2"]).succeed();
    let status = managed.until(job, "two workers", |status| status["run"]["run"]["workers"] == 2);
    assert_eq!(status["job"]["workers"], 2);
    managed.cli(&["rescale", job, "--processes", "0"]).fail(2, &["processes"]);
    let tapped = managed.cli(&["tap", job, "out", "--limit", "3"]).succeed();
    assert!(String::from_utf8_lossy(&tapped.stdout).contains("\"sink\":\"out\""), "{tapped}");
    managed.cli(&["tap", job]).fail(3, &["which sink"]);

    managed.cli(&["suspend", job]).succeed();
    managed.cli(&["resume", job]).succeed();
    managed.cli(&["cancel", job]).succeed();
    assert_eq!((managed.status(job)["job"]["phase"].clone(), managed.alive()), (json!("cancelled"), Vec::<u32>::new()));
    managed.cli(&["resume", job, "--detach"]).succeed();
    managed.until_phase(job, "running");
    managed.cli(&["stop", job, "--drain"]).succeed();
    assert_eq!((managed.status(job)["job"]["phase"].clone(), managed.alive()), (json!("finished"), Vec::<u32>::new()));
    managed.cli(&["stop", job, "--drain"]).fail(5, &["only while it runs"]);
    let checks = managed.cli(&["doctor"]).succeed().document();
    assert!(checks.as_array().unwrap().iter().all(|check| check["good"] == true), "{checks}");

    managed.cli(&["delete", job]).fail(2, &["--yes"]);
    managed.cli(&["delete", job, "--yes", "--purge"]).succeed();
    managed.cli(&["status", job]).fail(3, &["no job"]);
    assert!(managed.alive().is_empty() && !managed.place.path("manager/run/attribution").exists());
    assert!(!managed.place.path("manager/state/jobs/attribution").exists(), "its state was to go");
    let gone = managed.place.riverrun(&["list", "--server", "http://127.0.0.1:1"]);
    gone.fail(7, &["cannot be reached", "riverrun serve"]);
}

#[test]
fn a_faulty_job_is_refused_with_its_faults_and_changes_nothing() {
    let managed = Managed::with_traffic(703);
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    managed.place.write("faulty.yaml", text.replace("event_type = 'click'", "event_typ = 'click'"));
    let told = managed.cli(&["submit", "faulty.yaml"]).fail(78, &["event_typ", "hint"]);
    assert!(told.document()["errors"][0]["line"].as_u64() > Some(1), "{told}");
    let outside = [
        ("topic: clicks", "file: { path: /etc/passwd }", "/etc/passwd"),
        ("topic: clicks", "file: { path: ../in.jsonl }", "`..`"),
        ("topic: out", "console: {}", "console"),
        ("topic: out", "file: { path: \"${env:HOME}/x\" }", "HOME"),
    ];
    for (from, to, says) in outside {
        managed.place.write("outside.yaml", text.replacen(from, to, 1));
        managed.cli(&["submit", "outside.yaml"]).fail(78, &[says]);
    }
    let brokers = ["--topics", "kafka://127.0.0.1:1"];
    managed.cli(&["submit", "job.yaml"]).args(&brokers).fail(78, &["may not talk to"]);
    assert_eq!(managed.cli(&["list"]).succeed().document()["jobs"], json!([]));
}

/// The job with another window: an upgrade that keeps its state.
fn upgraded(place: &Place) -> &'static str {
    let text = String::from_utf8(place.read("job.yaml")).unwrap();
    place.write("second.yaml", text.replace("window: 30m", "window: 31m"));
    "second.yaml"
}

#[test]
fn a_changed_job_is_upgraded_and_one_that_would_lose_something_asks_first() {
    let managed = Managed::with_traffic(704);
    managed.submit("job.yaml", &[]);
    let second = upgraded(&managed.place);
    let fates = || {
        let dry = managed.submit(second, &["--dry-run"]).document();
        assert_eq!(dry["change"], "upgrade");
        let parts = dry["parts"].as_array().unwrap().clone();
        ["clicks", "attributed"].map(|name| parts.iter().find(|part| part["name"] == name).unwrap()["fate"].clone())
    };
    // Until a checkpoint has rows of the step there is nothing to be migrated.
    managed.until("attribution", "state", |_| fates() == [json!("kept"), json!("migrated")]);
    let shown = managed
        .place
        .riverrun(&["submit", second, "--dry-run", "--diff", "--server", &managed.server()])
        .args(SLOW)
        .succeed();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("-    attribute:") && shown.contains("window: 31m"), "{shown}");

    managed.submit(second, &[]);
    let status = managed.status("attribution");
    assert_eq!((&status["job"]["phase"], &status["job"]["revision"]), (&json!("running"), &json!(2)));
    let savepoints = managed.cli(&["savepoint", "ls", "attribution"]).succeed().document();
    assert!(savepoints["savepoints"][0]["name"].as_str().unwrap().starts_with("before-2-"), "{savepoints}");

    let text = String::from_utf8(managed.place.read(second)).unwrap();
    managed.place.write("third.yaml", text.replace("by: [user_id, item_id]", "by: [user_id]"));
    managed.cli(&["submit", "third.yaml"]).args(SLOW).fail(5, &["--allow-reset attributed"]);
    managed.submit("third.yaml", &["--allow-reset", "attributed"]);
    managed.cli(&["submit", "third.yaml", "--if-revision", "1"]).args(SLOW).fail(5, &["revision"]);
    assert_eq!(managed.status("attribution")["job"]["revision"], 3);
}

#[test]
fn a_manager_that_is_killed_between_any_two_steps_of_an_upgrade_comes_to_the_same_end() {
    let mut managed = Managed::with_traffic(705);
    managed.submit("job.yaml", &[]);
    let second = upgraded(&managed.place);
    let sites = ["manager.step", "manager.stepped", "manager.act", "manager.acted"];
    let points = sites.iter().flat_map(|site| (1..=3).map(move |visit| format!("{site}:{visit}")));
    for (number, point) in points.enumerate() {
        managed.manager.take().unwrap().kill();
        managed.start(&[("RIVERRUN_FAIL_POINT", &point)]);
        let job = if number % 2 == 0 { second } else { "job.yaml" };
        // It dies in the middle of it, or soon after the answer.
        let _ = managed.cli(&["submit", job, "--detach"]).args(SLOW).finish();
        let mut dying = managed.manager.take().unwrap();
        assert!(dying.ends_within(HUNG_AFTER), "{point}: nobody came to it");
        managed.start(&[]);
        managed.submit(job, &[]);
        let done = |status: &Value| status["job"]["phase"] == "running" && status["job"]["change"].is_null();
        let status = managed.until("attribution", "the new version", done);
        let text = if number % 2 == 0 { "window: 31m" } else { "window: 30m" };
        let view = http(&managed.address(), "GET", "/api/v1/jobs/attribution", "", "").2;
        assert!(view.contains(text) && status["processes"][0]["state"] == "alive", "{point}: {status:#}");
        managed.one_alive();
    }
}

#[test]
fn prometheus_likes_what_the_manager_serves() {
    let mut managed = Managed::with_traffic(706);
    managed.submit("job.yaml", &[]);
    let admin = String::from_utf8(managed.place.read("own/admin")).unwrap();
    let page = crate::admin::get(&admin, "/metrics").body;
    check_by_promtool(&page);
    let seen = crate::admin::series(&page);
    assert_eq!(seen[r#"riverrun_job_state{job_name="attribution",state="running"}"#], 1.0);
    assert_eq!(seen[r#"riverrun_job_wanted{job_name="attribution"}"#], 1.0);
    assert_eq!(seen[r#"riverrun_manager_jobs{state="running"}"#], 1.0);
    assert!(
        page.contains(r#"riverrun_http_requests_total{method="PUT",route="/jobs/{job}",status="202"} 1"#),
        "{page}"
    );
    assert_eq!(crate::admin::get(&admin, "/livez").body, "ok\n");
    // Where it is to scrape the job.
    let targets: Value = serde_json::from_slice(&managed.place.read("manager/targets.json")).unwrap();
    let target = targets[0]["targets"][0].as_str().unwrap().to_owned();
    check_by_promtool(&crate::admin::get(&target, "/metrics").body);
    // It ends when it is asked to, and the job runs on.
    let mut manager = managed.manager.take().unwrap();
    manager.signal(Stop::Terminate);
    assert_eq!(manager.finish().code, Some(0));
    managed.one_alive();
}

#[test]
fn a_changed_job_that_cannot_run_is_taken_back_and_nothing_is_lost_or_doubled() {
    let (managed, calm) = Managed::with_much(707, &[]);
    let slow = ["--until-end", "--set", "tick.max_rows=1"];
    managed.submit("job.yaml", &slow);
    // It stands still until its change has begun: its input does not end before, whatever the machine.
    let job = managed.one_alive();
    signal(job, "STOP");
    // Its new sink would write over what is somebody else's: that is found out when it runs.
    managed.place.write("manager/files/precious.jsonl", "precious\n");
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    managed.place.write("second.yaml", text + "  more: { from: attributed, file: { path: precious.jsonl } }\n");
    let submit = managed.cli(&["submit", "second.yaml"]).args(SLOW).args(&slow).start();
    managed.until_phase("attribution", "upgrading");
    signal(job, "CONT");
    let told = submit.finish();
    let is_said = |part: &str| told.stderr.contains(part);
    assert!(told.code == Some(1) && is_said("taken back") && is_said("precious.jsonl"), "{told}");
    assert_eq!(told.document()["state"], "failed");
    let status = managed.until_phase("attribution", "finished");
    assert_eq!(status["job"]["revision"], 3, "the former file is a revision of its own: {status:#}");
    assert_eq!(managed.place.read("manager/files/precious.jsonl"), b"precious\n");
    for sink in ["out", "bad", "late"] {
        let of = |place: &Place| {
            let mut rows: Vec<_> =
                topics::records(&place.path("topics"), sink).into_iter().map(|it| it.value).collect();
            rows.sort();
            rows
        };
        assert!(of(&managed.place) == of(&calm), "{sink} differs from an undisturbed run");
    }
}

#[test]
fn a_manager_that_is_to_stop_its_jobs_does_and_starts_them_again_when_it_comes_back() {
    let place = Place::new();
    fill(&place, 708);
    let mut managed = Managed::at(place, &["--stop-jobs"]);
    managed.submit("job.yaml", &[]);
    let mut manager = managed.manager.take().unwrap();
    manager.signal(Stop::Terminate);
    assert_eq!(manager.finish().code, Some(0));
    assert!(managed.alive().is_empty(), "a job runs on");
    managed.start(&[]);
    let status = managed.until("attribution", "the next generation", |status| {
        status["job"]["phase"] == "running" && status["job"]["generation"] == 2
    });
    assert_eq!(status["job"]["restarts"]["inARow"], 0, "what was asked for does not count: {status:#}");
}

#[test]
fn a_frozen_process_is_found_out_and_its_job_goes_on() {
    let (managed, calm) = Managed::with_much(709, &["--silent-within", "8s"]);
    managed.submit("job.yaml", &["--until-end"]);
    let frozen = managed.one_alive();
    signal(frozen, "STOP");
    managed.until("attribution", "another generation", |status| status["job"]["generation"].as_u64() > Some(1));
    managed.until_phase("attribution", "finished");
    let rows = |place: &Place| {
        topics::records(&place.path("topics"), "out").into_iter().map(|it| it.value).collect::<Vec<_>>()
    };
    assert!(rows(&managed.place) == rows(&calm), "it differs from an undisturbed run");
    assert!(command_line(frozen).is_empty(), "the frozen process still lives");
}

#[test]
fn a_job_in_several_processes_gives_the_same_rows_whoever_is_killed_and_however_it_is_spread() {
    let (managed, calm) = Managed::with_much(710, &[]);
    managed.submit("job.yaml", &["--until-end", "--processes", "2"]);
    assert_eq!(managed.alive().len(), 2);
    kill(managed.alive()[1]);
    managed.until("attribution", "another generation", |status| {
        status["job"]["generation"].as_u64() > Some(1) && status["job"]["phase"] == "running"
    });
    let alive =
        |status: &Value| status["processes"].as_array().unwrap().iter().filter(|it| it["state"] == "alive").count();
    let rescaled = managed.cli(&["rescale", "attribution", "--processes", "3"]).finish();
    if rescaled.code == Some(0) && managed.status("attribution")["job"]["phase"] == "running" {
        assert_eq!(alive(&managed.status("attribution")), 3, "{rescaled}");
    }
    managed.until_phase("attribution", "finished");
    assert!(managed.alive().is_empty());
    for sink in ["out", "bad", "late"] {
        let of = |place: &Place| {
            topics::records(&place.path("topics"), sink)
                .into_iter()
                .map(|it| (it.partition, it.value))
                .collect::<Vec<_>>()
        };
        assert!(of(&managed.place) == of(&calm), "{sink} differs from an undisturbed run in one process");
    }
}

#[test]
fn a_job_in_several_processes_is_drained_as_one() {
    let shopping = Shop { seed: 711, rows: 2000, ..Shop::default() }.open();
    let place = Place::new();
    place.write("job.yaml", jobs::minutes(Over::Topics));
    let mut producer = topics::producer(&place.path("topics"), "clicks", PARTITIONS);
    topics::append(&mut producer, shopping.clicks.iter().map(Vec::as_slice));
    let (job, managed) = ("item-minutes", Managed::at(place, &[]));
    managed.submit("job.yaml", &["--processes", "3"]);
    let all = shopping.clicks.len() as u64;
    managed.until(job, "all rows", |status| status["run"]["snapshot"]["balance"]["clicks"]["in"] == all);
    let expected = oracle::minutes(&oracle::clicks(&shopping.click_files()));
    let rows = || topics::rows(&managed.place.path("topics"), "out");
    assert!(rows().len() < expected.len(), "nothing but the end closes the last windows");
    managed.cli(&["stop", job, "--drain"]).succeed();
    assert_eq!((managed.status(job)["job"]["phase"].clone(), managed.alive()), (json!("finished"), Vec::<u32>::new()));
    oracle::assert_same(&rows(), &expected, &[]);
}
