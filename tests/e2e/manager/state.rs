//! The state of jobs that a manager keeps: looked at, asked, and taken when somebody wants it.

use serde_json::Value;

use super::{Managed, SLOW, fill};
use crate::support::brokers::{deal, shared};
use crate::support::cloud::Cloud;
use crate::support::jobs::BUSY;
use crate::support::server::{BUCKET, CREDENTIALS};
use crate::support::{Place, Shop, topics};

/// A job that publishes no checkpoint for an hour, unless it is asked to.
const SELDOM: &[&str] = &["--set", "commit.every=20ms", "--set", "checkpoint.every=1h"];

#[test]
fn a_savepoint_is_the_state_of_now_and_not_that_of_the_last_checkpoint() {
    for processes in ["1", "2"] {
        let place = Place::new();
        fill(&place, 730);
        let managed = Managed::at(place, &[]);
        let job = "attribution";
        managed.cli(&["submit", "job.yaml", "--processes", processes]).args(SELDOM).succeed();
        let done = |status: &Value| status["run"]["snapshot"]["tick"].as_u64();
        let tick = done(&managed.until(job, "rows", |status| done(status) > Some(3))).unwrap();
        let made = managed.cli(&["savepoint", "create", job, "now"]).succeed().document();
        assert!(made["tick"].as_u64() >= Some(tick), "{made}: tick {tick} was through before");
        let taken = managed.cli(&["checkpoints", "trigger", job]).succeed().document();
        assert!(taken["tick"].as_u64() > made["tick"].as_u64(), "{taken} after {made}");
        let listed = managed.cli(&["checkpoints", "ls", job]).succeed().document();
        let ticks: Vec<u64> =
            listed["checkpoints"].as_array().unwrap().iter().map(|it| it["tick"].as_u64().unwrap()).collect();
        assert_eq!(ticks, [taken["tick"].as_u64().unwrap(), made["tick"].as_u64().unwrap()]);
        assert_eq!(listed["savepoints"][0]["name"], "now");
        managed.cli(&["savepoint", "create", job, "now"]).fail(5, &["now"]);
        managed.cli(&["savepoint", "create", "nobody", "now"]).fail(3, &["nobody"]);

        // Of a job that is stopped it is its last state, and none can be taken.
        managed.cli(&["stop", job]).succeed();
        managed.cli(&["checkpoints", "trigger", job]).fail(5, &["suspended"]);
        let last = managed.cli(&["savepoint", "create", job, "last"]).succeed().document();
        assert!(last["tick"].as_u64() > taken["tick"].as_u64(), "{last}");
    }
}

#[test]
fn state_is_seen_through_the_manager_as_it_is_seen_where_it_lies() {
    let managed = Managed::with_traffic(731);
    let job = "attribution";
    managed.submit("job.yaml", &[]);
    managed.until(job, "rows", |_| topics::count(&managed.place.path("topics"), "out") > 0);
    managed.cli(&["stop", job]).succeed();
    for verb in ["ls", "show", "inspect", "verify"] {
        let here = managed.place.riverrun(&["checkpoints", verb, job, "-o", "json", "--state", "manager/state"]);
        let there = managed.cli(&["checkpoints", verb, job]).succeed().document();
        assert_eq!(there, here.succeed().document(), "{verb}");
    }
    // Which rows are still kept follows from the job's own rules, which the manager knows from its file.
    let query = |sql: &[&str]| {
        let asked = managed.place.riverrun(&["checkpoints", "query", "job.yaml"]).args(sql).args(SLOW);
        asked.args(&["-o", "json", "--state", "manager/state"])
    };
    let listed = managed.cli(&["checkpoints", "query", job]).succeed().document();
    assert_eq!(listed, query(&[]).succeed().document());
    if let Some(duckdb) = crate::tables::duckdb() {
        let path = format!("{duckdb}:{}", std::env::var("PATH").unwrap_or_default());
        let sql = "select count(*) as n from attributed_seen";
        let there = managed.cli(&["checkpoints", "query", job, sql]).env("PATH", &path).succeed().document();
        assert_eq!(there, query(&[sql]).env("PATH", &path).succeed().document());
        assert!(there[0]["n"].as_u64() > Some(0), "{there}");
    }
    // How far it is: of a job at rest, where it goes on.
    let far = |what: &str| -> Value {
        let path = format!("/api/v1/jobs/{job}/{what}");
        serde_json::from_str(&super::http(&managed.address(), "GET", &path, "", "").2).unwrap()
    };
    let (offsets, operators) = (far("offsets"), far("operators"));
    let shown = managed.cli(&["checkpoints", "show", job]).succeed().document();
    assert_eq!((&offsets["running"], &offsets["tick"]), (&Value::from(false), &shown["tick"]));
    assert_eq!(offsets["splits"].as_array().unwrap().len(), shown["splits"].as_array().unwrap().len());
    assert_eq!(offsets["splits"][0]["position"], shown["splits"][0]["position"]);
    assert_eq!(operators["operators"][0]["name"], "attributed");
    assert_eq!(operators["operators"][0]["rows"], shown["balance"]["attributed"]);
    managed.cli(&["resume", job]).succeed();
    let status = managed.until_phase(job, "running");
    assert_eq!(far("offsets")["running"], true, "{status:#}");
    assert!(far("operators")["tick"].as_u64() >= offsets["tick"].as_u64());
    managed.cli(&["checkpoints", "show", job, "--tick", "999999"]).fail(3, &["999999"]);
    managed.cli(&["checkpoints", "ls", "nobody"]).fail(3, &["nobody"]);
    managed.cli(&["checkpoints", "ls", job, "--state", "x"]).fail(2, &["exclude"]);
    managed.cli(&["checkpoints", "pin", job, "x"]).fail(2, &["savepoint"]);
    // Files that a checkpoint does not name are not read.
    let address = managed.address();
    for path in ["../../manager.redb", "/etc/passwd", "job.json", ""] {
        let path = format!("/api/v1/jobs/{job}/checkpoints/latest/file?path={path}");
        assert_eq!(super::http(&address, "GET", &path, "", "").0, 404, "{path}");
    }
}

#[test]
fn state_in_a_bucket_goes_with_its_job_if_that_is_asked_for_and_no_other_does() {
    let Some(cloud) = Cloud::open(1) else { return };
    let place = Place::new();
    fill(&place, 732);
    let arguments = vec!["--state".to_owned(), format!("s3://{BUCKET}/a/b")];
    let mut managed = Managed { place, manager: None, arguments };
    let endpoint = format!("http://{}", cloud.network.address());
    let environment: Vec<(&str, &str)> = CREDENTIALS.into_iter().chain([("AWS_ENDPOINT_URL", &*endpoint)]).collect();
    managed.start(&environment);
    managed.submit("job.yaml", &["--until-end"]);
    managed.cli(&["replay", "attribution", "--from", "earliest", "--as", "r"]).succeed();
    managed.until_phase("attribution", "finished");
    let kept = |job: &str| cloud.objects("").iter().filter(|path| path.contains(&format!("/jobs/{job}/"))).count();
    let (own, other) = (kept("attribution"), kept("attribution@r"));
    assert!(own > 0 && other > 0, "{:?}", cloud.objects(""));
    managed.cli(&["checkpoints", "verify", "attribution@r"]).succeed();
    managed.cli(&["delete", "attribution@r", "--yes", "--purge"]).succeed();
    assert_eq!((kept("attribution"), kept("attribution@r")), (own, 0));
    managed.cli(&["delete", "attribution", "--yes"]).succeed();
    assert_eq!(kept("attribution"), own, "it was not to go");
}

#[test]
fn a_topic_of_a_cluster_is_tapped_as_one_in_a_folder_is() {
    let Some(brokers) = shared() else { return };
    let place = Place::new();
    place.write("job.yaml", crate::kafka::job("tapped"));
    let shopping = Shop { seed: 733, rows: 600, ..Shop::default() }.open();
    for (topic, rows) in [("tapped.clicks", &shopping.clicks), ("tapped.orders", &shopping.orders)] {
        deal(&mut brokers.producer(topic, 2), rows.iter().map(Vec::as_slice), &mut 0);
    }
    let managed = Managed::at(place, &["--allow-host", "127.0.0.1"]);
    let job = "tapped-attribution";
    managed.cli(&["submit", "job.yaml", "--topics", &brokers.address()]).args(BUSY).succeed();
    let tap = || managed.cli(&["tap", job, "out", "--limit", "3"]).succeed();
    managed.until(job, "a row", |_| !tap().stdout.is_empty());
    let first: Value = serde_json::Deserializer::from_slice(&tap().stdout).into_iter().next().unwrap().unwrap();
    assert_eq!((&first["topic"], first["value"].is_object()), (&"tapped.out".into(), true), "{first}");
    managed.cli(&["delete", job, "--yes"]).succeed();
}
