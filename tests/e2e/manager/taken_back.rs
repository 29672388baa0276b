//! A changed job that came to write rows before it failed for good: what it wrote stays, and the former file gives all of its own.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Managed, PARTITIONS, SLOW, command_line, signal};
use crate::oracle::Model;
use crate::support::jobs::{self, Over};
use crate::support::process::HUNG_AFTER;
use crate::support::shop::Shopping;
use crate::support::{Place, Shop, topics};

/// A row that is no row.
const BROKEN: &[u8] = b"{\"order_id\": 7";
/// How often the changed job may be at its work before the manager can be stopped from seeing that.
const ATTEMPTS_MAX: u64 = 5;

/// The traffic in two parts, the second of which the changed job reads first.
struct Traffic {
    shopping: Shopping,
}

impl Traffic {
    fn of(seed: u64) -> Traffic {
        Traffic { shopping: Shop { seed, rows: 1200, broken: false, ..Shop::default() }.open() }
    }

    /// Rows of each topic in one of the parts.
    fn part(&self, second: bool) -> [(&'static str, &[Vec<u8>]); 2] {
        [("clicks", &self.shopping.clicks), ("orders", &self.shopping.orders)].map(|(name, rows)| {
            let (one, two) = rows.split_at(rows.len() / 2);
            (name, if second { two } else { one })
        })
    }

    fn append(&self, place: &Place, second: bool) {
        for (name, rows) in self.part(second) {
            append(place, name, rows.iter().map(Vec::as_slice));
        }
    }

    fn rows(&self, second: bool) -> [u64; 2] {
        self.part(second).map(|(_, rows)| rows.len() as u64)
    }
}

fn append<'a>(place: &Place, name: &str, rows: impl IntoIterator<Item = &'a [u8]>) {
    topics::append(&mut topics::producer(&place.path("topics"), name, PARTITIONS), rows);
}

/// The rows of a sink that credit by `model`, each with how often it is there.
fn credited(place: &Place, model: &str) -> BTreeMap<Vec<u8>, usize> {
    let mut rows = BTreeMap::new();
    let text = format!("\"model\":\"{model}\"");
    for record in topics::records(&place.path("topics"), "out") {
        if String::from_utf8_lossy(&record.value).contains(&text) {
            *rows.entry(record.value.to_vec()).or_default() += 1;
        }
    }
    rows
}

#[test]
fn a_changed_job_that_wrote_rows_and_failed_for_good_is_taken_back_to_all_of_its_state() {
    let taken_back = (0..ATTEMPTS_MAX).any(|attempt| fails_after_rows(720 + attempt));
    assert!(taken_back, "the changed job was at its work each time before it could be kept from being seen");
}

/// Returns a place where the former file ran undisturbed over all of the traffic, and one with both files and the first part.
fn places(traffic: &Traffic) -> (Place, Place) {
    let former = jobs::attribution(Over::Topics, Model::Last);
    let calm = Place::new();
    calm.write("job.yaml", &former);
    traffic.append(&calm, false);
    traffic.append(&calm, true);
    append(&calm, "orders", [BROKEN]);
    calm.run("job.yaml").args(&["--topics", "topics", "--until-end"]).args(SLOW).succeed();
    let place = Place::new();
    place.write("job.yaml", &former);
    // It credits the first click, so that its rows are known from the former's, and stops at a row that is none.
    let strict = former.replace("id: order_id", "id: order_id\n    on_bad_row: stop");
    assert_ne!(strict, former);
    place.write("second.yaml", strict.replace("model: last_touch", "model: first_touch"));
    traffic.append(&place, false);
    (calm, place)
}

/// Returns whether the changed job failed before its manager took it for healthy.
fn fails_after_rows(seed: u64) -> bool {
    let (job, traffic) = ("attribution", Traffic::of(seed));
    let (calm, place) = places(&traffic);
    let managed = Managed::at(place, &[]);
    managed.submit("job.yaml", &[]);
    let read = |[clicks, orders]: [u64; 2]| {
        managed.until(job, "all rows", |status| {
            let balance = &status["run"]["snapshot"]["balance"];
            balance["clicks"]["in"] == clicks && balance["orders"]["in"] == orders
        })
    };
    read(traffic.rows(false));
    managed.cli(&["savepoint", "create", job, "mine"]).succeed();

    managed.cli(&["submit", "second.yaml", "--detach"]).args(SLOW).succeed();
    // The third generation is the changed job: the one before it made its state that of the new version.
    let who = managed.place.path("manager/run/attribution/g3/p0/process.json");
    let manager = managed.manager.as_ref().expect("it runs").id();
    let pid = wait_for("the changed job", || {
        let who: serde_json::Value = serde_json::from_slice(&std::fs::read(&who).ok()?).ok()?;
        u32::try_from(who["pid"].as_u64()?).ok()
    });
    // Nobody sees that it runs until it is over.
    signal(pid, "STOP");
    signal(manager, "STOP");
    signal(pid, "CONT");
    traffic.append(&managed.place, true);
    wait_for("rows of the changed job", || (!credited(&managed.place, "first_touch").is_empty()).then_some(()));
    append(&managed.place, "orders", [BROKEN]);
    wait_for("the end of the changed job", || command_line(pid).is_empty().then_some(()));
    let wrote = credited(&managed.place, "first_touch");
    signal(manager, "CONT");

    let ended = managed.until(job, "what follows from it", |status| {
        let over = status["job"]["phase"] == "failed" || status["job"]["revision"] == 3;
        over && status["job"]["phase"] != "restoring"
    });
    if ended["job"]["phase"] == "failed" {
        return false;
    }
    // What the former file has not read yet it reads now: the second part, and the row that is none.
    let [clicks, orders] = traffic.rows(true);
    read([clicks, orders + 1]);
    managed.cli(&["stop", job, "--drain"]).succeed();
    let expected = credited(&calm, "last_touch");
    assert!(credited(&managed.place, "last_touch") == expected, "rows of the former file are lost or doubled");
    assert!(credited(&managed.place, "first_touch") == wrote, "rows that the changed job had written are gone");
    // The user's savepoint is still there, beside the one of the change.
    let listed = managed.cli(&["savepoint", "ls", job]).succeed().document();
    let names: Vec<&str> =
        listed["savepoints"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names.contains(&"mine"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("before-")), "{names:?}");
    assert_eq!(managed.status(job)["job"]["phase"], json!("finished"));
    true
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let pause = std::time::Duration::from_millis(3);
    for _ in 0..HUNG_AFTER.as_millis() / pause.as_millis() {
        if let Some(found) = found() {
            return found;
        }
        std::thread::sleep(pause);
    }
    panic!("{what} never came");
}
