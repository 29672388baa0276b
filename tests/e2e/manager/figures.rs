//! What a manager shows of a job beside its status: figures of the last minutes, its parts, its savepoints, and how it is changed by what it
//! is to be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::history::epoch_seconds;
use super::{Managed, SLOW, http};
use crate::support::topics;

const JSON: &str = "Content-Type: application/json\r\n";

impl Managed {
    /// Asks for a document.
    pub fn get(&self, path: &str) -> Value {
        let (code, _, body) = http(&self.address(), "GET", &format!("/api/v1{path}"), "", "");
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Sends a document, and returns status and answer.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (code, _, text) = http(&self.address(), method, &format!("/api/v1{path}"), JSON, &body.to_string());
        (code, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
    }
}

#[test]
fn figures_of_the_last_minutes_are_those_of_all_processes_of_a_job() {
    let managed = Managed::with_traffic(790);
    let job = "attribution";
    managed.submit("job.yaml", &["--processes", "2"]);
    let clicks = |status: &Value| status["run"]["snapshot"]["balance"]["clicks"]["in"].as_u64().unwrap_or(0);
    let orders = |status: &Value| status["run"]["snapshot"]["balance"]["orders"]["in"].as_u64().unwrap_or(0);
    let all = |place: &str| topics::count(&managed.place.path("topics"), place);
    managed.until(job, "all rows", |status| clicks(status) == all("clicks") && orders(status) == all("orders"));
    let last = |name: &str, operator: Option<&str>, outcome: Option<&str>| -> Option<f64> {
        let shown = managed.get(&format!("/jobs/{job}/metrics"));
        let moments = shown["at"].as_array().unwrap().len();
        let series = shown["series"].as_array().unwrap();
        assert!(series.iter().all(|it| it["values"].as_array().unwrap().len() == moments), "{shown:#}");
        let is = |it: &&Value| {
            it["name"] == name && it["operator"].as_str() == operator && it["outcome"].as_str() == outcome
        };
        series.iter().find(is)?["values"].as_array().unwrap().last()?.as_f64()
    };
    let balance = |operator| last("riverrun_job_balance_records", Some(operator), Some("in"));
    managed.until(job, "figures", |_| balance("clicks") == Some(all("clicks") as f64));
    assert_eq!(balance("orders"), Some(all("orders") as f64));
    // Rows that a sink wrote, by whichever process; memory, of all of them.
    managed.until(job, "rows written", |_| {
        last("riverrun_operator_records_out_total", Some("out"), None) == Some(all("out") as f64)
    });
    let status = managed.status(job);
    let each: Vec<f64> =
        status["processes"].as_array().unwrap().iter().map(|it| it["residentBytes"].as_f64().unwrap()).collect();
    let memory = last("process_resident_memory_bytes", None, None).unwrap();
    assert!(each.len() == 2 && memory > each.iter().copied().fold(0.0, f64::max), "{memory} of {each:?}");

    let some = managed.get(&format!("/jobs/{job}/metrics?names=riverrun_job_tick,riverrun_job_generation&step=300"));
    let names: Vec<&str> = some["series"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!((names, &some["stepSeconds"]), (vec!["riverrun_job_generation", "riverrun_job_tick"], &json!(300)));
    assert!(some["at"].as_array().unwrap().len() <= 2, "{some:#}");
    assert_eq!(managed.get(&format!("/jobs/{job}/metrics?from=2999-01-01T00:00:00Z"))["series"], json!([]));
    for wrong in ["names=nothing", "step=1", "step=301", "from=yesterday"] {
        let path = format!("/api/v1/jobs/{job}/metrics?{wrong}");
        assert_eq!(http(&managed.address(), "GET", &path, "", "").0, 400, "{wrong}");
    }
}

#[test]
fn the_time_that_a_job_was_in_each_phase_is_counted_once() {
    let mut managed = Managed::with_traffic(713);
    let begun = epoch_seconds();
    managed.submit("job.yaml", &[]);
    let admin = String::from_utf8(managed.place.read("own/admin")).unwrap();
    let page = || crate::admin::series(&crate::admin::get(&admin, "/metrics").body);
    let running = r#"riverrun_job_state_seconds_total{job_name="attribution",state="running"}"#;
    let since = r#"riverrun_job_state_start_time_seconds{job_name="attribution"}"#;
    let others = |page: &BTreeMap<String, f64>| -> f64 {
        let ours = |name: &str| name.starts_with("riverrun_job_state_seconds_total") && name != running;
        page.iter().filter(|(name, _)| ours(name)).map(|(_, seconds)| *seconds).sum()
    };
    let (mut first, mut later) = (BTreeMap::new(), BTreeMap::new());
    let manager = managed.manager.as_mut().unwrap();
    manager.until("its phase", || {
        first = page();
        first.contains_key(running) && first.contains_key(since)
    });
    manager.until("seconds in its phase", || {
        later = page();
        later[running] > first[running] + 2.0
    });
    // It is in one phase at a time, so all of them together are no longer than it is there, however seldom it is looked at.
    let (counted, there) = (others(&later) + later[running], epoch_seconds() - begun);
    assert!(counted <= there, "{counted} s in the phases of a job that is there for {there} s");
    assert_eq!(first[since], later[since], "it is in the same phase");
    assert_eq!(others(&first), others(&later), "and in no other meanwhile");
}

#[test]
fn each_part_of_a_job_is_shown_and_how_its_work_is_spread() {
    let managed = Managed::with_traffic(791);
    let job = "attribution";
    managed.submit("job.yaml", &["-w", "2"]);
    managed.until(job, "rows", |_| topics::count(&managed.place.path("topics"), "out") > 0);
    let part = |name: &str| managed.get(&format!("/jobs/{job}/operators/{name}"));
    let step = part("attributed");
    assert_eq!((&step["kind"], &step["running"]), (&json!("step"), &json!(true)));
    assert!(step["rows"]["in"].as_u64() > Some(0) && step["busySeconds"].as_f64() > Some(0.0), "{step:#}");
    assert_eq!(part("clicks")["kind"], "source");
    let sink = part("out");
    assert!(sink["kind"] == "sink" && sink["committed"]["rows"].as_u64() > Some(0), "{sink:#}");
    let spread = managed.get(&format!("/jobs/{job}/operators/attributed/workers"));
    let workers = spread["workers"].as_array().unwrap();
    assert_eq!((workers.len(), &workers[1]["worker"], &workers[1]["process"]), (2, &json!(1), &json!(0)));
    assert!(spread["skew"].as_f64() >= Some(1.0) && workers[0]["stages"]["step"].is_number(), "{spread:#}");
    let answer = |path: &str| http(&managed.address(), "GET", &format!("/api/v1/jobs/{path}"), "", "").0;
    assert_eq!(answer(&format!("{job}/operators/nothing")), 404);
    assert_eq!(answer("nobody/operators/clicks"), 404);

    // Savepoints, of this job and of all.
    managed.cli(&["savepoint", "create", job, "one"]).succeed();
    managed.cli(&["stop", job, "--savepoint", "two"]).succeed();
    assert_eq!(answer(&format!("{job}/operators/attributed/workers")), 409);
    let step = part("attributed");
    assert!(step["running"] == false && step["tables"][0]["storedBytes"].as_u64() > Some(0), "{step:#}");
    let one = managed.get(&format!("/jobs/{job}/savepoints/one"));
    assert_eq!(one["name"], "one");
    let inside = managed.cli(&["savepoint", "show", job, "one"]).succeed().document();
    assert_eq!((&inside["tick"], inside["tables"].as_array().unwrap().is_empty()), (&one["tick"], false));
    assert_eq!(inside["splits"].as_array().unwrap().len(), 4, "{inside:#}");
    assert_eq!(answer(&format!("{job}/savepoints/three")), 404);
    let names = |all: &Value| -> Vec<String> {
        let name = |it: &Value| it["savepoint"]["name"].as_str().unwrap().to_owned();
        all["savepoints"].as_array().unwrap().iter().map(name).collect()
    };
    let first = managed.get("/savepoints?limit=1");
    assert_eq!((names(&first), &first["next"]), (vec!["one".to_owned()], &json!("attribution/one")));
    let rest = managed.get("/savepoints?limit=1&cursor=attribution/one");
    assert_eq!((names(&rest), &rest["next"]), (vec!["two".to_owned()], &Value::Null));
    assert_eq!(names(&managed.cli(&["savepoint", "ls"]).succeed().document()), ["one", "two"]);
}

#[test]
fn a_job_is_explained_and_connectors_are_listed_with_their_schemas() {
    let managed = Managed::with_traffic(792);
    let text = String::from_utf8(managed.place.read("job.yaml")).unwrap();
    let spec = |text: &str| json!({ "spec": { "file": "job.yaml", "text": text } });
    let (code, told) = managed.send("POST", "/jobs:explain", &spec(&text));
    assert_eq!((code, &told["job"]), (200, &json!("attribution")), "{told:#}");
    let here = managed.place.riverrun(&["explain", "job.yaml"]);
    assert_eq!(told["text"].as_str().unwrap(), String::from_utf8_lossy(&here.succeed().stdout));
    assert_eq!(told["graph"], here.args(&["-o", "json"]).succeed().document());
    let (code, told) = managed.send("POST", "/jobs:explain", &spec(&text.replace("event_type = ", "event_typ = ")));
    assert!(code == 422 && told["errors"][0]["message"].as_str().unwrap().contains("event_typ"), "{told:#}");
    let (code, told) =
        managed.send("POST", "/jobs:explain", &spec(&text.replace("topic: out", "file: { path: /etc/x }")));
    assert_eq!(code, 422, "what a job may not name is not explained either: {told:#}");

    let listed = managed.get("/connectors");
    let kinds: Vec<&str> =
        listed["connectors"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["topic", "file", "lake", "console"]);
    assert_eq!(listed, managed.place.riverrun(&["connectors", "-o", "json"]).succeed().document());
    let file = managed.get("/connectors/file/schema");
    let whole = managed.place.riverrun(&["schema"]).succeed().document();
    let of = |section: &str| {
        let names = whole["properties"][section]["patternProperties"].as_object().unwrap().values().next().unwrap();
        names["properties"]["file"].clone()
    };
    assert_eq!((&file["source"], &file["sink"]), (&of("sources"), &of("sinks")));
    managed.place.riverrun(&["connectors", "fax"]).fail(3, &["`fax`", "topic, file"]);
    assert_eq!(http(&managed.address(), "GET", "/api/v1/connectors/fax/schema", "", "").0, 404);
}

#[test]
fn a_job_is_changed_by_what_it_is_to_be() {
    let managed = Managed::with_traffic(793);
    let (job, path) = ("attribution", "/jobs/attribution");
    assert_eq!(managed.send("PATCH", path, &json!({ "state": "running" })).0, 404);
    managed.submit("job.yaml", &[]);
    for (body, code) in [
        (json!({}), 400),
        (json!({ "state": "paused" }), 400),
        (json!({ "processes": 0 }), 400),
        (json!({ "workers": 2 }), 400),
    ] {
        assert_eq!(managed.send("PATCH", path, &body).0, code, "{body}");
    }
    let (code, view) = managed.send("PATCH", path, &json!({ "workersPerProcess": 2 }));
    assert_eq!((code, &view["workers"], &view["revision"]), (202, &json!(2), &json!(2)), "{view:#}");
    managed.until(job, "two workers", |status| {
        status["run"]["run"]["workers"] == 2 && status["job"]["phase"] == "running" && status["job"]["change"].is_null()
    });
    let (code, _, body) = http(
        &managed.address(),
        "PATCH",
        &format!("/api/v1{path}"),
        &format!("{JSON}If-Match: \"1\"\r\n"),
        r#"{"state":"suspended"}"#,
    );
    assert_eq!(code, 412, "{body}");
    assert_eq!(managed.send("PATCH", path, &json!({ "state": "suspended" })).0, 202);
    managed.until_phase(job, "suspended");
    // A job that rests takes another spread up when it is resumed.
    let (code, view) = managed.send("PATCH", path, &json!({ "workersPerProcess": 1 }));
    assert_eq!((code, &view["workers"], view["operation"].is_null()), (202, &json!(1), true), "{view:#}");
    assert_eq!(managed.status(job)["job"]["phase"], "suspended");
    assert_eq!(managed.send("PATCH", path, &json!({ "state": "running" })).0, 202);
    managed.until(job, "one worker", |status| {
        status["run"]["run"]["workers"] == 1 && status["job"]["phase"] == "running" && status["job"]["change"].is_null()
    });
    managed.cli(&["cancel", job]).succeed();
    assert_eq!(managed.send("PATCH", path, &json!({ "state": "suspended" })).0, 409);
    managed.cli(&["submit", "job.yaml"]).args(SLOW).succeed();
}
