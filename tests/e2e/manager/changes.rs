//! Changes of a job that come when nobody would choose them: each is made, no row is lost, and none comes twice.

use serde_json::{Value, json};

use super::{Managed, PARTITIONS, SLOW, kill};
use crate::oracle::Model;
use crate::support::jobs::{self, Over};
use crate::support::process::Invocation;
use crate::support::{Place, Shop, topics};

const JOB: &str = "attribution";
/// Parts of the traffic, each written before something happens to the job, or after all has.
const PARTS: usize = 6;

/// Writes the job with so many sinks more, all of which copy what it gives.
fn version(place: &Place, number: usize) -> String {
    let copy = |sink: usize| format!("  copy{sink}: {{ from: attributed, topic: copy{sink}, timestamps: epoch_ms }}\n");
    let copies: String = (1..=number).map(copy).collect();
    let name = format!("version-{number}.yaml");
    place.write(&name, jobs::attribution(Over::Topics, Model::Last) + &copies);
    name
}

/// The rows of a topic in an order of their own.
fn sorted(place: &Place, topic: &str) -> Vec<Vec<u8>> {
    let records = topics::records(&place.path("topics"), topic);
    let mut rows: Vec<_> = records.into_iter().map(|record| record.value).collect();
    rows.sort();
    rows
}

/// A job whose topics are filled part by part.
struct Shopped {
    managed: Managed,
    parts: Vec<[Vec<Vec<u8>>; 2]>,
    /// Clicks and orders in all.
    all: [usize; 2],
}

impl Shopped {
    /// Returns the job, and what an undisturbed run over all of its rows gives.
    fn new(seed: u64) -> (Shopped, Vec<Vec<u8>>) {
        let shopping = Shop { seed, rows: 1500, broken: false, ..Shop::default() }.open();
        let calm = Place::new();
        let file = version(&calm, 0);
        let all = [&shopping.clicks, &shopping.orders];
        write(&calm, all.map(|rows| rows.as_slice()));
        calm.run(&file).args(&["--topics", "topics", "--until-end"]).args(SLOW).succeed();
        let part = |rows: &[Vec<u8>], number: usize| {
            rows[rows.len() * number / PARTS..rows.len() * (number + 1) / PARTS].to_vec()
        };
        let parts = (0..PARTS).rev().map(|number| all.map(|rows| part(rows, number))).collect();
        let place = Place::new();
        write(&place, [&[], &[]]);
        let all = all.map(|rows| rows.len());
        (Shopped { managed: Managed::at(place, &[]), parts, all }, sorted(&calm, "out"))
    }

    /// Writes the next part.
    fn feed(&mut self) {
        let part = self.parts.pop().expect("there is a part for each act");
        write(&self.managed.place, [&part[0], &part[1]]);
    }

    /// Submits a version as somebody does who heeds what is said: a change that is being made is waited for.
    fn submit_when_free(&self, number: usize, more: &[&str]) {
        for _ in 0..600 {
            let finished = self.submit(number, more).finish();
            if finished.code == Some(0) {
                return;
            }
            assert!(finished.code == Some(5) && finished.stderr.contains("is under way"), "{finished}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("a change is under way for ever");
    }

    fn submit(&self, number: usize, more: &[&str]) -> Invocation {
        let file = version(&self.managed.place, number);
        self.managed.cli(&["submit", &file]).args(SLOW).args(more)
    }

    /// Writes what is left, and ends the job when it has read all. Returns what it gave.
    fn finish(&mut self) -> Vec<Vec<u8>> {
        while !self.parts.is_empty() {
            self.feed();
        }
        self.managed.until(JOB, "all rows", |status| {
            let read = |source: &str| status["run"]["snapshot"]["balance"][source]["in"].as_u64();
            ["clicks", "orders"].map(read) == self.all.map(|rows| Some(rows as u64))
        });
        self.managed.cli(&["stop", JOB, "--drain"]).succeed();
        sorted(&self.managed.place, "out")
    }

    /// The job is this version, and at its work.
    fn is_version(&self, number: usize) {
        let shown = self.managed.cli(&["list"]).succeed().document();
        assert_eq!(shown["jobs"][0]["phase"], "running", "{shown:#}");
        let copies = super::http(&self.managed.address(), "GET", "/api/v1/jobs/attribution/graph", "", "").2;
        let is_there = |sink: usize| copies.contains(&format!("copy{sink}"));
        assert!((number == 0 || is_there(number)) && !is_there(number + 1), "version {number}: {copies}");
    }
}

/// Appends clicks and orders to their topics, which are made if need be.
fn write(place: &Place, rows: [&[Vec<u8>]; 2]) {
    for (name, rows) in ["clicks", "orders"].into_iter().zip(rows) {
        let mut producer = topics::producer(&place.path("topics"), name, PARTITIONS);
        topics::append(&mut producer, rows.iter().map(Vec::as_slice));
    }
}

#[test]
fn a_change_that_comes_at_any_moment_is_made_and_no_row_is_lost_or_doubled() {
    let (mut shop, expected) = Shopped::new(712);
    // It is being started.
    shop.feed();
    shop.submit(0, &["--detach"]).succeed();
    shop.submit(1, &[]).succeed();
    shop.is_version(1);
    // It died a moment ago, and is to be started again.
    shop.feed();
    shop.managed.until(JOB, "rows", |_| !sorted(&shop.managed.place, "out").is_empty());
    kill(shop.managed.one_alive());
    shop.submit(2, &[]).succeed();
    shop.is_version(2);
    // It is being spread over more processes.
    shop.feed();
    shop.managed.cli(&["rescale", JOB, "--processes", "2", "--detach"]).succeed();
    let two = ["--processes", "2"];
    shop.submit_when_free(3, &two);
    shop.is_version(3);
    assert_eq!(shop.managed.alive().len(), 2);
    // A checkpoint is being taken, of which it says what became.
    shop.feed();
    let taking = shop.managed.cli(&["savepoint", "create", JOB, "monday"]).start();
    shop.submit(4, &two).succeed();
    shop.is_version(4);
    let taken = taking.finish();
    assert!(matches!(taken.code, Some(0 | 5 | 7 | 1)), "{taken}");
    // One of its processes dies while it is stopped for the change.
    shop.feed();
    let alive = shop.managed.alive();
    shop.submit(5, &[&two[..], &["--detach"]].concat()).succeed();
    kill(alive[1]);
    shop.submit(5, &two).succeed();
    shop.is_version(5);
    assert!(shop.finish() == expected, "it differs from an undisturbed run");
    assert_eq!(sorted(&shop.managed.place, "late"), Vec::<Vec<u8>>::new());
    // Whatever the moment was: what the job was before can be had again.
    let savepoints = shop.managed.cli(&["savepoint", "ls", JOB]).succeed().document();
    let names: Vec<&str> =
        savepoints["savepoints"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
    assert!(names.iter().filter(|name| name.starts_with("before-")).count() >= 4, "{names:?}");
}

#[test]
fn of_the_savepoints_before_changes_the_newest_are_kept_and_all_that_have_a_name_of_their_own() {
    let (mut shop, _) = Shopped::new(714);
    shop.feed();
    shop.submit(0, &[]).succeed();
    shop.managed.cli(&["savepoint", "create", JOB, "before-lunch"]).succeed();
    for number in 1..=7 {
        shop.submit(number, &[]).succeed();
    }
    let kept = || -> Vec<String> {
        let all = shop.managed.cli(&["savepoint", "ls", JOB]).succeed().document();
        let names = all["savepoints"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
        // Of the name that a manager gives, the end is a time.
        let cut = |name: String| if name.len() > 14 { name.rsplit_once('-').unwrap().0.to_owned() } else { name };
        let mut names: Vec<String> = names.map(cut).collect();
        names.sort();
        names
    };
    let expected = ["before-4", "before-5", "before-6", "before-7", "before-8", "before-lunch"];
    shop.managed.until(JOB, "the oldest to be deleted", |_| kept() == expected);
    shop.managed.cli(&["checkpoints", "verify", JOB]).succeed();
}

#[test]
fn a_change_waits_for_who_resumes_the_job_and_goes_with_who_cancels_it() {
    let (mut shop, expected) = Shopped::new(713);
    shop.feed();
    shop.submit(0, &[]).succeed();
    // A job that rests goes on as what it was changed to, and only when it is told to.
    shop.managed.cli(&["suspend", JOB]).succeed();
    shop.feed();
    let told = shop.submit(1, &[]).succeed().document();
    assert_eq!((&told["change"], &told["operation"]), (&json!("upgrade"), &Value::Null), "{told:#}");
    shop.managed.cli(&["suspend", JOB]).succeed();
    assert!(shop.managed.alive().is_empty());
    shop.managed.cli(&["resume", JOB]).succeed();
    shop.is_version(1);
    // One that is cancelled while it is stopped for a change is what it was.
    shop.submit(2, &["--detach"]).succeed();
    shop.managed.cli(&["cancel", JOB]).succeed();
    assert!(shop.managed.alive().is_empty());
    let revision = shop.managed.status(JOB)["job"]["revision"].clone();
    shop.managed.cli(&["resume", JOB]).succeed();
    // Unless it was through with it when it was cancelled.
    let made = revision == 3;
    shop.is_version(if made { 2 } else { 1 });
    assert!(shop.finish() == expected, "it differs from an undisturbed run");
}
