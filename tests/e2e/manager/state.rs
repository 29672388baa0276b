//! The state of jobs that a manager keeps: looked at, asked, and taken when somebody wants it.

use serde_json::Value;

use super::{Managed, fill};
use crate::support::Place;

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
    managed.submit("job.yaml", &["--until-end"]);
    managed.until_phase(job, "finished");
    for verb in ["ls", "show", "inspect", "verify", "query"] {
        let here = managed.place.riverrun(&["checkpoints", verb, job, "-o", "json", "--state", "manager/state"]);
        let mut here = here.succeed().document();
        let mut there = managed.cli(&["checkpoints", verb, job]).succeed().document();
        // Which rows are kept by the job's own rules is known to the manager, which has its file.
        for view in [&mut here, &mut there].into_iter().filter_map(Value::as_array_mut).flatten() {
            view["rows"] = Value::Null;
        }
        assert_eq!(there, here, "{verb}");
    }
    if let Some(duckdb) = crate::tables::duckdb() {
        let path = format!("{duckdb}:{}", std::env::var("PATH").unwrap_or_default());
        let sql = "select count(*) as n from attributed_seen";
        let there = managed.cli(&["checkpoints", "query", job, sql]).env("PATH", &path).succeed().document();
        let here =
            managed.place.riverrun(&["checkpoints", "query", job, sql, "-o", "json", "--state", "manager/state"]);
        assert_eq!(there, here.env("PATH", &path).succeed().document());
        assert!(there[0][0]["n"].as_u64() > Some(0), "{there}");
    }
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
