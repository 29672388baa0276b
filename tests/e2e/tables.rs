//! The state of a job as SQL and as differences: what is shown is what the steps keep.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::oracle::Model;
use crate::support::jobs::{self, BUSY, Over};
use crate::support::process::{Invocation, Stop};
use crate::support::{Place, Shop, topics};

/// Partitions of each topic.
const PARTITIONS: u32 = 2;

/// A folder to put first on the PATH, so that DuckDB is found; none where there is no DuckDB.
pub fn duckdb() -> Option<String> {
    let named = std::env::var("RIVERRUN_TEST_PYTHON").ok().filter(|python| !python.is_empty());
    let python = named.unwrap_or_else(|| "python3".to_owned());
    let has_module = std::process::Command::new(&python).args(["-c", "import duckdb"]).output();
    if !has_module.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no Python with duckdb; name one in RIVERRUN_TEST_PYTHON");
        return None;
    }
    Some(Path::new(&python).parent().map(|folder| folder.display().to_string()).unwrap_or_default())
}

/// A live job that has read all of its input and was stopped: its state is that of a job that waits for more.
fn stopped(job: &str, topic_names: &[&str]) -> (Place, Shopped) {
    let shopping = Shop { seed: 600, rows: 3000, ..Shop::default() }.open();
    let place = Place::new();
    place.write("job.yaml", job);
    for topic in topic_names {
        let rows = if *topic == "clicks" { &shopping.clicks } else { &shopping.orders };
        let mut producer = topics::producer(&place.path("topics"), topic, PARTITIONS);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
    let all = shopping.clicks.len() + if topic_names.len() > 1 { shopping.orders.len() } else { 0 };
    let mut running = place.run("job.yaml").args(&["--topics", "topics"]).args(BUSY).workers(2).start();
    let read = || {
        let said = place.riverrun(&["checkpoints", "show", "job.yaml", "-o", "json"]).finish();
        let shown: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        let splits = shown["splits"].as_array().cloned().unwrap_or_default();
        splits.iter().map(|split| split["position"].as_u64().unwrap()).sum::<u64>() == all as u64
    };
    running.until("a checkpoint after all input", read);
    running.signal(Stop::Terminate);
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished}");
    let counts = |name: &str| finished.counts(name);
    let shopped = match topic_names.len() {
        1 => Shopped { groups: groups(&place, &shopping.clicks), seen: 0, pending: 0 },
        _ => {
            let (orders, step) = (counts("orders"), counts("attributed"));
            assert_eq!(step.late, 0, "each partition is in order");
            let taken = orders.taken - step.duplicate;
            let without_id = shopping.orders.iter().filter(|line| has_no_id(line)).count() as u64;
            Shopped { groups: Vec::new(), seen: taken - without_id, pending: taken - step.out }
        }
    };
    (place, shopped)
}

fn has_no_id(order: &[u8]) -> bool {
    serde_json::from_slice::<Value>(order).is_ok_and(|row| row["order_id"].is_null())
}

/// What the state must hold, counted in another way.
struct Shopped {
    /// Item, minute, impressions and clicks of each open window, as text, sorted.
    groups: Vec<String>,
    seen: u64,
    pending: u64,
}

/// The windows that are open: those of all rows that the sink was not given.
fn groups(place: &Place, clicks: &[Vec<u8>]) -> Vec<String> {
    let given = topics::rows(&place.path("topics"), "out");
    let last = given.iter().filter_map(|row| row["window_end"].as_i64()).max().unwrap_or(i64::MIN);
    let mut open: std::collections::BTreeMap<(String, i64), (u64, u64)> = Default::default();
    for row in clicks.iter().filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        let (Some(ts), Some(_)) = (row["ts"].as_i64(), row["event_id"].as_str()) else { continue };
        let minute = ts.div_euclid(60_000) * 60_000;
        // Times from 2100 on are not accepted.
        if minute >= last && ts < 4_102_444_800_000 {
            let item = row["item_id"].as_str().unwrap_or("null").to_owned();
            let counts = open.entry((item, minute)).or_default();
            counts.0 += u64::from(row["event_type"] == "impression");
            counts.1 += u64::from(row["event_type"] == "click");
        }
    }
    open.into_iter().map(|((item, minute), (seen, clicked))| format!("{item} {minute} {seen} {clicked}")).collect()
}

pub fn query(place: &Place, duckdb: &str, arguments: &[&str]) -> Invocation {
    let query = place.riverrun(&["checkpoints", "query", "job.yaml", "-o", "json"]).args(BUSY).args(arguments);
    query.within(&["sh"], &format!("PATH='{duckdb}':\"$PATH\"; export PATH; \"$@\""))
}

fn rows(place: &Place, duckdb: &str, sql: &str) -> Vec<Value> {
    let answer = query(place, duckdb, &[sql]).succeed().document();
    answer.as_array().cloned().unwrap()
}

#[test]
fn sql_sees_the_windows_that_are_open() {
    let Some(duckdb) = duckdb() else { return };
    let (place, shopped) = stopped(&jobs::minutes(Over::Topics), &["clicks"]);
    let sql = r#"select coalesce("by.item_id", 'null') item, epoch_ms(window_start) as begins, "impressions.count" seen,
        "clicks.count" clicked from minutes_groups"#;
    let line = |row: &Value| {
        let mut text = String::new();
        write!(text, "{} {} {} {}", row["item"].as_str().unwrap(), row["begins"], row["seen"], row["clicked"]).unwrap();
        text
    };
    let mut found: Vec<String> = rows(&place, &duckdb, sql).iter().map(line).collect();
    found.sort();
    let mut expected = shopped.groups;
    expected.sort();
    assert!(expected.len() >= 5, "there is something to compare");
    assert_eq!(found, expected);

    // All checkpoints, not only the newest: the difference of two is that of their rows.
    let list = place.riverrun(&["checkpoints", "ls", "job.yaml", "-o", "json"]).succeed().document();
    let ticks: Vec<u64> =
        list["checkpoints"].as_array().unwrap().iter().map(|checkpoint| checkpoint["tick"].as_u64().unwrap()).collect();
    let (newest, older) = (ticks[0], ticks[ticks.len() / 2]);
    let count = |tick: u64| {
        let sql = "select count(*) n from minutes_groups";
        let said = query(&place, &duckdb, &[sql, "--checkpoint", &tick.to_string()]).succeed().document();
        said[0]["n"].as_u64().unwrap()
    };
    let diff = place.riverrun(&["checkpoints", "diff", "job.yaml", &older.to_string(), "latest", "-o", "json"]);
    let said = diff.succeed().document();
    let of = |name: &str| said["tables"][0][name].as_u64().unwrap();
    assert_eq!(of("same") + of("changed") + of("removed"), count(older));
    assert_eq!(of("same") + of("changed") + of("added"), count(newest));
    assert_eq!(said["to"], newest);

    query(&place, &duckdb, &["select * from nowhere"]).fail(1, &["nowhere", "does not exist"]);
    query(&place, &duckdb, &["select 1", "--checkpoint", "999999"]).fail(3, &["no checkpoint at tick 999999"]);
}

#[test]
fn rows_that_left_by_rule_are_not_shown() {
    let Some(duckdb) = duckdb() else { return };
    let (place, shopped) = stopped(&jobs::attribution(Over::Topics, Model::Last), &["clicks", "orders"]);
    assert!(shopped.pending > 0 && shopped.seen > shopped.pending, "some have left, some have not");
    let sql = "select (select count(*) from attributed_pending) pending, (select count(*) from attributed_seen) seen";
    let found = rows(&place, &duckdb, sql);
    assert_eq!((found[0]["pending"].as_u64(), found[0]["seen"].as_u64()), (Some(shopped.pending), Some(shopped.seen)));
    // The list counts by itself, without DuckDB.
    let list = place.riverrun(&["checkpoints", "query", "job.yaml", "-o", "json"]).args(BUSY).succeed().document();
    let views = list.as_array().unwrap();
    let rows_of = |name: &str| views.iter().find(|view| view["view"] == name).unwrap()["rows"].as_u64();
    assert_eq!(rows_of("attributed_pending"), Some(shopped.pending));
    assert_eq!(rows_of("attributed_seen"), Some(shopped.seen));

    // Without the settings it was run with, nobody knows the rule: all that is stored is shown, and that is said.
    let said = place.riverrun(&["checkpoints", "query", "job.yaml"]).succeed();
    assert!(said.stderr.contains("may be shown that have left"), "{said}");

    // In a folder with every letter that means something to SQL, a shell or a pattern.
    let odd = "odd 'quoted' \"folder\" [a-z] *?";
    std::fs::rename(place.path(".riverrun/state"), place.path(odd)).unwrap();
    let moved = query(&place, &duckdb, &["select count(*) n from attributed_seen", "--state", odd]);
    assert_eq!(moved.succeed().document()[0]["n"].as_u64(), Some(shopped.seen));
}

#[test]
fn without_duckdb_the_script_is_printed() {
    // Not a bounded job: its last checkpoint keeps no window, and whether an earlier one did is a matter of time.
    let (place, shopped) = stopped(&jobs::minutes(Over::Topics), &["clicks"]);
    assert!(!shopped.groups.is_empty());
    let ask = |arguments: &[&str]| place.riverrun(&["checkpoints", "query", "job.yaml"]).args(arguments);
    let printed = ask(&["--print-script", "select 1"]).succeed();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(
        text.contains("create or replace temp view \"minutes_groups\"") && text.ends_with("\nselect 1;\n"),
        "{text}"
    );
    let alone = ask(&["select 1"]).within(&["sh"], "PATH=/nowhere; export PATH; \"$@\"");
    let finished = alone.fail(3, &["DuckDB is not at hand"]);
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), text);
}
